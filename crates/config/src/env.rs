//! The process environment, behind the lookup that [`crate::load`] takes.
//!
//! The only file of the project that reads it (`clippy.toml` forbids `std::env::var` elsewhere),
//! so that tests need no process environment and nothing else depends on hidden state.

use std::ffi::OsString;

/// The value of an environment variable of this process.
pub fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}
