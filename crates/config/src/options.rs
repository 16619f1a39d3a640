//! [`Config`]: every setting with its final value, as plain data in sections.
//!
//! What the other crates are configured with, and what the supervisor hands to its workers. Owns
//! the values used when nothing is set; how they are spelled and documented is the table's
//! business ([`crate::table`]), and a test keeps the two in step.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tls::TlsOptions;
use crate::types::{BindAddr, ByteSize, DEFAULT_PORT, Lifespan, LogLevel};

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Which application, and how it is told about the server.
    pub app: AppOptions,
    /// Where to listen.
    pub bind: BindOptions,
    /// Connections, requests and responses.
    pub http: HttpOptions,
    /// Encrypted connections.
    pub tls: TlsOptions,
    /// Worker processes.
    pub workers: WorkerOptions,
    /// What is logged, and how.
    pub log: LogOptions,
}

/// Which application, and how it is told about the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOptions {
    /// `module:attribute`, `module` or `module:factory()`; none if an object was given instead.
    pub target: Option<String>,
    /// Whether the target is a function that makes the application.
    pub factory: bool,
    /// The directory to import from; empty for the current one.
    pub app_dir: String,
    /// Whether the application is told of start and stop.
    pub lifespan: Lifespan,
    /// The path the application is mounted on: empty, or with a first and no last `/`.
    pub root_path: String,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindOptions {
    /// At least one address.
    pub addresses: Vec<BindAddr>,
    /// How many connections the kernel keeps until they are accepted.
    pub backlog: u32,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            addresses: vec![BindAddr::Tcp { host: "127.0.0.1".to_owned(), port: DEFAULT_PORT }],
            backlog: 2048,
        }
    }
}

/// Connections, requests and responses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOptions {
    /// How long a connection may stay open without a request.
    pub timeout_keep_alive: Duration,
    /// How long a request head may take to arrive.
    pub timeout_request_header: Duration,
    /// The most bytes of a request line and its header fields together.
    pub limit_request_head_size: usize,
    /// The most header fields of a request.
    pub limit_request_fields: usize,
    /// The most bytes of a request body.
    pub limit_request_body: Option<u64>,
    /// The most requests in flight in one worker; the next one is answered with 503.
    pub limit_concurrency: Option<u32>,
    /// Whether responses have a `server` field.
    pub server_header: bool,
    /// Whether responses have a `date` field.
    pub date_header: bool,
    /// Fields added to every response; the names are in lower case.
    pub headers: Vec<(String, String)>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            timeout_keep_alive: Duration::from_secs(5),
            timeout_request_header: Duration::from_secs(30),
            limit_request_head_size: DEFAULT_HEAD_SIZE,
            limit_request_fields: 100,
            limit_request_body: None,
            limit_concurrency: None,
            server_header: true,
            date_header: true,
            headers: Vec::new(),
        }
    }
}

/// 64 KiB, as in uvicorn (`h11_max_incomplete_event_size`).
#[expect(
    clippy::cast_possible_truncation,
    reason = "65536 fits in the `usize` of every platform with an operating system"
)]
const DEFAULT_HEAD_SIZE: usize = ByteSize::kib(64).0 as usize;

/// Worker processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOptions {
    /// How many worker processes.
    pub workers: u32,
    /// How long requests in flight may take once the server stops.
    pub timeout_graceful_shutdown: Duration,
    /// How long a worker may take to import the application and finish its startup.
    pub timeout_worker_startup: Duration,
    /// A worker is replaced after this many requests.
    pub limit_max_requests: Option<u64>,
    /// Up to this many are added at random to [`Self::limit_max_requests`] in each worker.
    pub limit_max_requests_jitter: u64,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            workers: 1,
            timeout_graceful_shutdown: Duration::from_secs(30),
            timeout_worker_startup: Duration::from_secs(60),
            limit_max_requests: None,
            limit_max_requests_jitter: 0,
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// How much the server says about itself.
    pub level: LogLevel,
    /// Whether every request is logged.
    pub access_log: bool,
    /// Whether the log is coloured; none to colour it on a terminal only.
    pub use_colors: Option<bool>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { level: LogLevel::Info, access_log: true, use_colors: None }
    }
}
