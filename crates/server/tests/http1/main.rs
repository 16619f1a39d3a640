//! How HTTP/1.1 connections behave, seen from both ends: bytes of a client on one side, an [`App`]
//! on the other.
//!
//! The grammar is tested in `rsgi-protocol`; here is what the engine makes of it: reuse,
//! back-pressure, deadlines, drain.
//!
//! [`App`]: rsgi_server::App

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod abandonment;
mod content;
mod counting;
mod deadlines;
mod disconnects;
mod drain;
mod expectation;
mod files;
mod haste;
mod overload;
mod proxies;
mod refusals;
mod responses;
mod reuse;
mod support;
