//! The line that uvicorn writes, and what it lacks behind it.

use super::{AccessRecord, Stamp, phrase};
use crate::log_output::{Escape, Timestamps, push_escaped, push_three};

/// How a line of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextStyle {
    /// Whether it is coloured.
    pub colours: bool,
    /// Whether the time and the process are in it: who reads a file cannot look at the clock.
    pub stamped: bool,
}

/// `INFO:     127.0.0.1:53062 - "GET /items?q=1 HTTP/1.1" 200 OK 0.412ms 13B`, and in a file the time
/// and the process: all behind uvicorn's line, so that what reads that reads this.
pub(super) fn push_line(
    out: &mut Vec<u8>,
    record: &AccessRecord<'_>,
    style: TextStyle,
    stamp: Stamp,
    stamps: &mut Timestamps,
    limit: usize,
) {
    let entry = record.entry;
    let mut line = Line { out, colours: style.colours };
    line.push("INFO", "32");
    line.out.extend_from_slice(b":     ");
    record.push_client(line.out);
    line.out.extend_from_slice(b" - \"");
    line.begin("1");
    let method = if entry.is_websocket() { b"WebSocket" } else { entry.raw_method() };
    push_escaped(line.out, method, Escape::Word, limit);
    line.out.push(b' ');
    push_escaped(line.out, entry.full_path(), Escape::Word, limit);
    if !entry.is_websocket() {
        line.out.extend_from_slice(b" HTTP/");
        line.out.extend_from_slice(entry.http_version().as_bytes());
    }
    line.end();
    line.out.extend_from_slice(b"\" ");
    line.begin(match record.status {
        101 | 200..300 => "32",
        300..400 => "33",
        _ => "31",
    });
    if entry.is_websocket() && record.status == 101 {
        line.out.extend_from_slice(b"[accepted]");
    } else {
        push_three(line.out, u32::from(record.status));
    }
    let reason = phrase(record.status);
    if let Some(reason) = reason.filter(|_| !entry.is_websocket()) {
        line.out.push(b' ');
        line.out.extend_from_slice(reason.as_bytes());
    }
    line.end();
    line.out.push(b' ');
    line.begin("2");
    record.push_milliseconds(line.out);
    line.out.extend_from_slice(b"ms ");
    line.out.extend_from_slice(itoa::Buffer::new().format(record.bytes).as_bytes());
    line.out.push(b'B');
    if let Some(id) = entry.request_id() {
        line.out.extend_from_slice(b" id=");
        line.out.extend_from_slice(id.as_bytes());
    }
    if style.stamped {
        line.out.push(b' ');
        stamps.push_iso(line.out, stamp.time);
        line.out.extend_from_slice(b" [");
        line.out.extend_from_slice(itoa::Buffer::new().format(stamp.pid).as_bytes());
        line.out.push(b']');
    }
    line.end();
    line.out.push(b'\n');
}

/// A line with colours or without.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    colours: bool,
}

impl Line<'_> {
    fn push(&mut self, text: &str, colour: &str) {
        self.begin(colour);
        self.out.extend_from_slice(text.as_bytes());
        self.end();
    }

    fn begin(&mut self, colour: &str) {
        if self.colours {
            self.out.extend_from_slice(b"\x1b[");
            self.out.extend_from_slice(colour.as_bytes());
            self.out.push(b'm');
        }
    }

    fn end(&mut self) {
        if self.colours {
            self.out.extend_from_slice(b"\x1b[0m");
        }
    }
}
