//! How WebSockets behave, seen from both ends: a client's bytes on one side, an application on the
//! other. The frames' grammar is tested in `rsgi-protocol`.

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod closing;
mod drain;
mod handshake;
mod http2;
mod messages;
mod pings;
mod support;
