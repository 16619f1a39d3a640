//! Both ends of a connection without a socket: a client, an application written in Rust, and what
//! stands between.
//!
//! Time is paused in every test: it moves on only when no task has anything left to do. So a
//! deadline is met to the millisecond, and "nothing happens" is something a test can see.

mod app;
mod client;
mod stage;

pub(crate) use app::{Call, TestApp};
pub(crate) use client::Client;
pub(crate) use stage::{Stage, until_idle};

/// `GET path` with what HTTP/1.1 needs.
pub(crate) fn get(path: &str) -> String {
    request("GET", path, &[])
}

/// A request's head; `fields` come after `Host`.
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
    for (name, value) in fields {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    }
    head + "\r\n"
}

/// A whole `POST` with a `content-length`.
pub(crate) fn post(path: &str, content: &str) -> String {
    request("POST", path, &[("Content-Length", &content.len().to_string())]) + content
}

/// `content` in the chunked coding, in chunks of `size` bytes.
pub(crate) fn chunked(content: &[u8], size: usize) -> Vec<u8> {
    let mut coded = Vec::new();
    for chunk in content.chunks(size) {
        coded.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}
