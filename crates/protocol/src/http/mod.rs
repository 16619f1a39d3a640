//! HTTP/1.1 (RFC 9112) without I/O: bytes to a request's head and body.
//!
//! The caller keeps one buffer per connection and asks in turn: [`HeadScanner::find_end`] until a
//! head is complete, [`parse_head`] once, then, for a chunked body, [`ChunkDecoder::decode`].

pub(crate) mod authority;
pub mod chunked;
pub mod cycle;
mod diagnosis;
pub mod fields;
mod framing;
pub(crate) mod grammar;
pub mod head;
pub mod http2;
pub mod response;
mod scanner;
pub mod target;

pub use chunked::{ChunkDecoder, ChunkedLimits, Step};
pub use framing::BodyFraming;
pub use head::{Field, HeadLimits, MAX_FIELDS, RequestHead, Version, parse_head};
pub use scanner::HeadScanner;
pub use target::{Target, TargetForm, decode_path};
