//! Connections: accepting them, TLS, HTTP/1.1 and WebSocket on them, limits, deadlines, drain and the access log.
//!
//! Owns sockets' insides and what is shared between the connections of one worker. Drives an
//! [`App`], which is Python in production and Rust in tests and benchmarks. Must not know: Python,
//! processes, signals, or where a setting came from.

#![forbid(unsafe_code)]

mod accept;
mod access_log;
mod admission;
mod between_turns;
mod connections;
mod date;
mod deadline;
mod exchange;
mod file;
mod forwarding;
mod http1;
mod http2;
mod live;
mod log_output;
mod metered;
mod opening;
mod proxy_protocol;
mod redirect;
mod rejection;
mod service;
pub mod tls;
mod transport;
mod waiting;
mod websocket;

pub use accept::{Listener, Opening, accept_connections, open, serve};
pub use access_log::{
    AccessLog, AccessLogOptions, AccessRecord, Atom, Conversion, Format, Number, Output, Pattern,
    PatternPart, Records, TextStyle, access_file, access_stream,
};
pub use between_turns::BetweenTurns;
pub use deadline::Deadline;
pub use exchange::{Exchange, Flow, HIGH_WATER, Outcome, Received, SendError};
pub use file::{FileError, FileSource, OpenFile, send_file};
pub use live::{LiveRequest, LiveRequests};
pub use log_output::{Escape, JsonLine, LogSink, Timestamps, Trouble, push_escaped};
pub use proxy_protocol::ProxyProtocol;
pub use redirect::Redirect;
pub use service::{
    App, ConnectionInfo, DRAIN_PATIENCE, DrainPhase, HASTY_PATIENCE, NoTelemetry, Options,
    Overload, Request, Residence, Service, Telemetry, Versions,
};
pub use transport::Transport;
pub use waiting::NOBODY;
pub use websocket::{Kept, MessageReceived, Outgoing, WebSocket, WebSocketOptions};
