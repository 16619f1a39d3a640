//! See `rsgi_protocol::fuzzing::forwarded` for the invariant.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsgi_protocol::fuzzing::forwarded(bytes));
