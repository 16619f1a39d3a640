//! Where lines of a log go and how values get into them: what the access log and the server's own
//! log have in common.
//!
//! Must not know what a line tells.

mod escape;
mod json;
mod sink;
mod target;
mod timestamp;

pub use self::escape::{Escape, push_escaped};
pub use self::json::JsonLine;
pub use self::sink::{LogSink, Trouble};
pub use self::timestamp::Timestamps;
pub(crate) use self::timestamp::push_three;
