//! See `rsgi_protocol::fuzzing::http2` for the invariant.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsgi_protocol::fuzzing::http2(bytes));
