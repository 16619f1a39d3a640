//! [`Config`]: every setting with its final value, as plain data in sections.
//!
//! What the other crates are configured with, and what the supervisor hands to its workers. Owns
//! the values used when nothing is set; how they are spelled and documented is the table's
//! business ([`crate::table`]), and a test keeps the two in step.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::access_format::AccessFormat;
use crate::proxies::ProxyOptions;
use crate::tls::TlsOptions;
use crate::types::{
    Account, BindAddr, ByteSize, DEFAULT_PORT, HttpVersions, Interface, Lifespan, LogConfig,
    LogFile, LogFormat, LogLevel, MemoryLimit, WorkerCount, Ws,
};

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Which application, and how it is told about the server.
    pub app: AppOptions,
    /// Where to listen.
    pub bind: BindOptions,
    /// Connections, requests and responses.
    pub http: HttpOptions,
    /// Proxies in front.
    pub proxy: ProxyOptions,
    /// Encrypted connections.
    pub tls: TlsOptions,
    /// WebSockets.
    pub websocket: WebSocketOptions,
    /// Worker processes.
    pub workers: WorkerOptions,
    /// Restarting when files change, for development.
    pub reload: ReloadOptions,
    /// What is logged, and how.
    pub log: LogOptions,
}

/// Which application, and how it is told about the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppOptions {
    /// `module:attribute`, `module` or `module:factory()`; none if an object was given instead.
    pub target: Option<String>,
    /// Whether the target is a function that makes the application.
    pub factory: bool,
    /// The directory to import from; empty for the current one.
    pub app_dir: String,
    /// Which protocol it speaks.
    pub interface: Interface,
    /// How many calls of a WSGI application run at once in a worker.
    pub wsgi_threads: u32,
    /// Whether the application is told of start and stop.
    pub lifespan: Lifespan,
    /// The path the application is mounted on: empty, or with a first and no last `/`.
    pub root_path: String,
    /// Whether requests have an empty context in place of a copy of the server's.
    pub reset_contextvars: bool,
}

impl Default for AppOptions {
    fn default() -> Self {
        Self {
            target: None,
            factory: false,
            app_dir: String::new(),
            interface: Interface::Auto,
            wsgi_threads: 10,
            lifespan: Lifespan::Auto,
            root_path: String::new(),
            reset_contextvars: false,
        }
    }
}

/// How processes are started: what is not for them to know, since they find it done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// The directory to serve from; none for the current one.
    pub directory: Option<PathBuf>,
    /// Variables to set for the workers, the later for a name before an earlier one.
    pub environment: Vec<(OsString, OsString)>,
    /// Directories to put first on Python's path.
    pub(crate) python_path: Vec<String>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindOptions {
    /// At least one address.
    pub addresses: Vec<BindAddr>,
    /// How many connections the kernel keeps until they are accepted.
    pub backlog: u32,
    /// Where health and metrics are told, a TCP port or a Unix socket; none for nowhere.
    pub admin: Option<BindAddr>,
}

impl Default for BindOptions {
    fn default() -> Self {
        Self {
            addresses: vec![BindAddr::Tcp { host: "127.0.0.1".to_owned(), port: DEFAULT_PORT }],
            backlog: 2048,
            admin: None,
        }
    }
}

/// Connections, requests and responses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpOptions {
    /// Which versions are spoken.
    pub versions: HttpVersions,
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
    /// The most requests in flight in one worker; the next one waits or is answered with 503.
    pub limit_concurrency: Option<u32>,
    /// How many requests wait when there are that many.
    pub limit_queue: u32,
    /// How long they wait.
    pub timeout_queue: Duration,
    /// How long a request may make no progress.
    pub timeout_request: Option<Duration>,
    /// The most open connections in one worker.
    pub limit_connections: Option<u32>,
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
            versions: HttpVersions::Auto,
            timeout_keep_alive: Duration::from_secs(5),
            timeout_request_header: Duration::from_secs(30),
            limit_request_head_size: DEFAULT_HEAD_SIZE,
            limit_request_fields: 100,
            limit_request_body: None,
            limit_concurrency: None,
            limit_queue: 0,
            timeout_queue: Duration::from_secs(10),
            timeout_request: None,
            limit_connections: None,
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

/// WebSockets. The defaults are uvicorn's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSocketOptions {
    /// Whether they are served.
    pub ws: Ws,
    /// The most bytes of a message, before and after decompression.
    pub ws_max_size: usize,
    /// How many messages may wait for the application.
    pub ws_max_queue: usize,
    /// The time between pings; none for no pings.
    pub ws_ping_interval: Option<Duration>,
    /// How long the answer to a ping may take; none for any time.
    pub ws_ping_timeout: Option<Duration>,
    /// Whether messages may be compressed.
    pub ws_per_message_deflate: bool,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            ws: Ws::Auto,
            ws_max_size: DEFAULT_MESSAGE_SIZE,
            ws_max_queue: 32,
            ws_ping_interval: Some(Duration::from_secs(20)),
            ws_ping_timeout: Some(Duration::from_secs(20)),
            ws_per_message_deflate: true,
        }
    }
}

/// 16 MiB.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it fits in the `usize` of every platform with an operating system"
)]
const DEFAULT_MESSAGE_SIZE: usize = ByteSize::kib(16 * 1024).0 as usize;

/// Worker processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerOptions {
    /// How many worker processes.
    pub workers: WorkerCount,
    /// How long the server goes on accepting once it is to stop.
    pub shutdown_delay: Duration,
    /// `module:function` that runs once, before any worker.
    pub on_start: Option<String>,
    /// Whether the application is imported once, in a process that workers are forked from.
    pub preload: bool,
    /// How long requests in flight may take once the server stops.
    pub timeout_graceful_shutdown: Duration,
    /// When, after the same moment, responses that have begun are asked to end; none for never.
    pub timeout_stream_shutdown: Option<Duration>,
    /// How long a worker may take to import the application and finish its startup.
    pub timeout_worker_startup: Duration,
    /// How long a ready worker's event loop may stand still before the worker is replaced; zero is
    /// no limit.
    pub timeout: Duration,
    /// How long the event loop may stand still before it is logged where; zero is never.
    pub slow_loop_warning: Duration,
    /// A worker is replaced after this many requests.
    pub limit_max_requests: Option<u64>,
    /// The file with the supervisor's process number.
    pub pid: Option<PathBuf>,
    /// The user that the supervisor becomes once the sockets are open, and so the workers.
    pub user: Option<Account>,
    /// The group; none for the user's own.
    pub group: Option<Account>,
    /// Up to this many are added at random to [`Self::limit_max_requests`] in each worker; none for
    /// a tenth of it.
    pub limit_max_requests_jitter: Option<u64>,
    /// A worker whose resident memory is above this is replaced.
    pub workers_max_rss: Option<MemoryLimit>,
    /// A worker that has served for this long is replaced.
    pub workers_lifetime: Option<Duration>,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            workers: WorkerCount::Exactly(1),
            shutdown_delay: Duration::ZERO,
            on_start: None,
            preload: false,
            timeout_graceful_shutdown: Duration::from_secs(30),
            timeout_stream_shutdown: Some(Duration::from_secs(10)),
            timeout_worker_startup: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            slow_loop_warning: Duration::from_secs(1),
            limit_max_requests: None,
            pid: None,
            user: None,
            group: None,
            limit_max_requests_jitter: None,
            workers_max_rss: None,
            workers_lifetime: None,
        }
    }
}

/// Restarting when files change, for development.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadOptions {
    /// Whether it is done.
    pub is_on: bool,
    /// Where files are watched; empty for the current directory.
    pub directories: Vec<PathBuf>,
    /// Which files count beside the default ones, as a shell's patterns.
    pub include: Vec<String>,
    /// Which files and directories do not.
    pub exclude: Vec<String>,
    /// How often files are looked at where their changes are not reported.
    pub delay: Duration,
    /// Whether files are looked at rather than reported; none for where it has to be.
    pub poll: Option<bool>,
}

impl Default for ReloadOptions {
    fn default() -> Self {
        Self {
            is_on: false,
            directories: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            delay: Duration::from_millis(250),
            poll: None,
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
    /// Where the lines about requests go; none for standard output.
    pub access_logfile: Option<LogFile>,
    /// Where the other lines go; none for standard error.
    pub error_logfile: Option<LogFile>,
    /// Whether the log is coloured; none to colour it on a terminal only.
    pub use_colors: Option<bool>,
    /// What the lines of both logs look like.
    pub format: LogFormat,
    /// What the lines about requests look like instead.
    pub access_logformat: Option<AccessFormat>,
    /// Paths without a line, as globs.
    pub access_log_exclude: Vec<String>,
    /// How long a request may take without a warning.
    pub slow_request_warning: Option<Duration>,
    /// Whether what the workers log goes through Python's `logging`.
    pub python: bool,
    /// How that is configured; none to leave it to the application.
    pub config: Option<LogConfig>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            access_log: true,
            access_logfile: None,
            error_logfile: None,
            use_colors: None,
            format: LogFormat::Text,
            access_logformat: None,
            access_log_exclude: Vec::new(),
            slow_request_warning: None,
            python: false,
            config: None,
        }
    }
}
