//! HTTP meaning for an ASGI server: values in, values out.
//!
//! Owns: the HTTP/1.1 request grammar (RFC 9112) as a sans-IO engine, what a request means
//! (framing, keep-alive, target), WebSocket's handshake and frames (RFC 6455, RFC 7692), what
//! proxies in front say (RFC 7239, the PROXY protocol), and the rules of the ASGI life cycles. Must not know: sockets, runtimes, clocks, threads, Python, or
//! where a limit's number came from. The bytes it reads are hostile, hence the lints below.

#![forbid(unsafe_code)]
#![deny(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

pub mod error;
pub mod forwarded;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod lifespan;
pub mod proxy_header;
pub mod scope;
pub mod websocket;

pub use error::{LifespanError, RequestError};
