//! One JSON object per request.

use super::{AccessRecord, Stamp};
use crate::log_output::{JsonLine, Timestamps};

/// All members are always there, so that whoever makes columns of them finds them.
pub(super) fn push_line(
    out: &mut Vec<u8>,
    record: &AccessRecord<'_>,
    stamp: Stamp,
    stamps: &mut Timestamps,
    limit: usize,
) {
    let entry = record.entry;
    let mut line = JsonLine::new(out);
    let time = line.name("time");
    time.push(b'"');
    stamps.push_iso(time, stamp.time);
    time.push(b'"');
    line.text("level", b"info", limit);
    line.text("logger", b"rsgi.access", limit);
    line.integer("pid", u64::from(stamp.pid));
    line.integer_or_null("worker", stamp.worker.map(u64::from));
    let peer = line.name("peer");
    peer.push(b'"');
    record.push_client(peer);
    peer.push(b'"');
    line.text("method", entry.method().as_bytes(), limit);
    line.text("path", entry.path(), limit);
    line.text("query", entry.query(), limit);
    line.text("http_version", entry.http_version().as_bytes(), limit);
    line.text("type", if entry.is_websocket() { b"websocket" } else { b"http" }, limit);
    line.integer("status", u64::from(record.status));
    record.push_seconds(line.name("duration"));
    line.integer("bytes", record.bytes);
    line.text_or_null("request_id", entry.request_id().map(str::as_bytes), limit);
    line.text_or_null("traceparent", entry.traceparent().map(str::as_bytes), limit);
    line.end();
}
