//! How HTTP/2 connections behave, seen from both ends: the `h2` crate's client, or raw frames, on
//! one side, an [`App`] on the other.
//!
//! Frames, HPACK and flow control are tested in `h2`; here is what becomes of requests, and what is
//! left of the server when a client does not mean well.
//!
//! [`App`]: rsgi_server::App

#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests, too, fail by panicking")]

mod abuse;
mod back_pressure;
mod drain;
mod endings;
mod exchanges;
mod overload;
mod peer;
mod raw;
mod refusals;
#[path = "../http1/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the HTTP/1.1 client is of little use here")]
mod support;
