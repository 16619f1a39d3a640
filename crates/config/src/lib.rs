//! The settings of rsgi: one table, several sources, plain data out.
//!
//! [`load`] reads the command line and the environment, [`from_keywords`] what a Python program
//! passes to `rsgi.run()`. Both are driven by the same table of settings, and so are `--help` and
//! the reference page `docs/reference/settings.md`. The result is a [`Config`].
//!
//! A setting is added by adding a row to `table.rs` and a field to [`Config`]; nothing else.
//!
//! This crate knows no other crate of the project, binds nothing and imports nothing: whether a
//! host resolves or an application exists is for others to find out.

#![forbid(unsafe_code)]

mod command;
mod draft;
mod env;
mod error;
mod given;
mod help;
mod keywords;
mod load;
mod options;
#[cfg(test)]
mod reference;
mod setting;
mod table;
mod tls;
mod types;
mod values;

pub use env::process_environment;
pub use error::LoadError;
pub use keywords::{Value, from_keywords};
pub use load::load;
pub use options::{AppOptions, BindOptions, Config, HttpOptions, LogOptions, WorkerOptions};
pub use tls::{ClientCertificates, Secret, TlsOptions, TlsVersion};
pub use types::{
    BindAddr, ByteSize, DEFAULT_PORT, DEFAULT_UNIX_PERMISSIONS, Lifespan, LogLevel, ParseError,
};

/// A complete configuration, and what the user should be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Every setting with its final value.
    pub config: Config,
    /// One line each, for the log.
    pub notices: Vec<String>,
}
