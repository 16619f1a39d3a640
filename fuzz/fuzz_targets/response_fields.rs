//! See `rsgi_protocol::fuzzing::response_fields` for the invariant.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsgi_protocol::fuzzing::response_fields(bytes));
