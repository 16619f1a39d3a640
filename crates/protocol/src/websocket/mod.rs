//! WebSocket (RFC 6455) and permessage-deflate (RFC 7692) without I/O: bytes to messages and back.
//!
//! A server asks in turn: [`handshake::ClientHandshake::read`] once, then [`Decoder::decode`] for
//! everything that arrives. Nothing here knows what carries the bytes: an HTTP/1.1 connection after
//! its upgrade or an HTTP/2 stream (RFC 8441) is the same to it.

pub mod close;
pub mod cycle;
mod decoder;
pub mod deflate;
mod error;
pub mod frame;
pub mod handshake;
mod message;
mod utf8;

pub use close::Close;
pub use cycle::WebSocketCycle;
pub use decoder::{Decoded, Decoder, Event};
pub use error::WebSocketError;
pub use frame::Kind;
pub use message::{Masked, Message};
