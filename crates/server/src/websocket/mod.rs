//! WebSockets over any byte stream: what application and connection share ([`WebSocket`]), and what
//! a connection does with it ([`Session`], driven by [`poll`]).
//!
//! The opening handshake is an HTTP exchange like any other until the application accepts it: a
//! refusal is an HTTP response, and everything that is true of those (framing, drain, access log)
//! is true of it. What carries the bytes afterwards is not known here: `http1` hands over a
//! connection's, `http2` a stream's data (RFC 8441).

mod carrier;
mod session;
mod shared;
mod turnstile;

use std::time::Duration;

pub(crate) use self::carrier::{Carrier, Gone, Intake, Read, poll};
pub(crate) use self::session::{End, Log, Session};
pub(crate) use self::shared::SHORT;
pub use self::shared::{Kept, MessageReceived, Outgoing, WebSocket};
pub(crate) use self::turnstile::Turnstile;

/// The settings of WebSockets.
#[derive(Debug, Clone)]
pub struct WebSocketOptions {
    /// The longest message accepted, in bytes, before and after decompression.
    pub max_size: usize,
    /// How many messages wait for the application before the client has to.
    pub max_queue: usize,
    /// How often the client is pinged.
    pub ping_interval: Option<Duration>,
    /// How long it may take to answer.
    pub ping_timeout: Option<Duration>,
    /// Whether compression is agreed to.
    pub deflate: bool,
    /// How long an application may go on once it has been told that the server stops.
    pub drain_grace: Duration,
}
