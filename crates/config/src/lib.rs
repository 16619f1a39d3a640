//! The settings of rsgi: one table, several sources, plain data out.
//!
//! [`load`] reads the command line, files and the environment, [`from_keywords`] what a Python
//! program passes to `rsgi.run()`. Both are driven by the same table of settings, and so are
//! `--help`, completions and the reference page `docs/reference/settings.md`. The result is a
//! [`Config`].
//!
//! A setting is added by adding a row to `table.rs` and a field to [`Config`]; nothing else.
//!
//! This crate knows no other crate of the project, binds nothing and imports nothing: whether a
//! host resolves or an application exists is for others to find out.

#![forbid(unsafe_code)]

mod access_format;
mod command;
mod compatibility;
mod completions;
mod dotenv;
mod draft;
mod env;
mod error;
mod given;
mod gunicorn;
mod help;
mod keywords;
mod load;
mod options;
mod probe;
mod proxies;
#[cfg(test)]
mod reference;
mod setting;
mod show;
mod similar;
mod surroundings;
mod table;
mod tls;
mod toml_file;
mod types;
mod values;

pub use access_format::{AccessFormat, FormatAtom, FormatPart};
pub use env::process_environment;
pub use error::LoadError;
pub use keywords::{Value, from_keywords, from_keywords_of_run};
pub use load::load;
pub use options::{
    AppOptions, BindOptions, Config, HttpOptions, Launch, LogOptions, ReloadOptions,
    WebSocketOptions, WorkerOptions,
};
pub use probe::{HealthCheck, Probe, load_health, load_status};
pub use proxies::{ForwardedField, ProxyOptions, ProxyProtocol, TrustedPeer};
pub use surroundings::Surroundings;
pub use tls::{ClientCertificates, Secret, TlsOptions, TlsVersion};
pub use types::{
    Account, BindAddr, ByteSize, DEFAULT_PORT, DEFAULT_UNIX_PERMISSIONS, HttpVersions, Interface,
    Lifespan, LogConfig, LogFile, LogFormat, LogLevel, MemoryLimit, ParseError, WorkerCount, Ws,
};

/// A complete configuration, and what the user should be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// Every setting with its final value.
    pub config: Config,
    /// One line each, for the log.
    pub notices: Vec<String>,
    /// The same, of something that is as it should be.
    pub remark: Option<String>,
    /// How the workers are started.
    pub launch: Launch,
}
