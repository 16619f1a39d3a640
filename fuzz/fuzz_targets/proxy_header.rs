//! See `rsgi_protocol::fuzzing::proxy_header` for the invariant.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rsgi_protocol::fuzzing::proxy_header(bytes));
