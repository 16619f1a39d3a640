//! The process environment, behind the values that [`crate::load`] takes.
//!
//! The only file of the project that reads it (`clippy.toml` forbids `std::env::var` elsewhere),
//! so that tests need no process environment and nothing else depends on hidden state.

use std::ffi::OsString;

use crate::surroundings::Surroundings;

/// The value of an environment variable of this process.
pub fn process_environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl Surroundings {
    /// What this process was started in. `python` is the program and its arguments that read a
    /// Python file.
    pub fn of_process(python: Vec<OsString>) -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            // Without a directory (it was removed), relative paths are left to the kernel.
            directory: std::env::current_dir().unwrap_or_default(),
            python,
        }
    }
}
