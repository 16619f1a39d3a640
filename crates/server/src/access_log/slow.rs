//! One warning for a request that took too long.

use std::time::Duration;

use tokio::time::Instant;

use super::AccessRecord;
use crate::log_output::{Escape, push_escaped};

/// The most of a path that is repeated.
const LIMIT: usize = 1000;

/// Says which request was slow, and where its time went as far as that is known.
pub(super) fn warn(record: &AccessRecord<'_>, started: Instant) {
    let entry = record.entry;
    let mut line = Vec::new();
    record.push_client(&mut line);
    line.extend_from_slice(b" - \"");
    push_escaped(&mut line, entry.method().as_bytes(), Escape::Word, LIMIT);
    line.push(b' ');
    push_escaped(&mut line, entry.path(), Escape::Word, LIMIT);
    line.extend_from_slice(b" HTTP/");
    line.extend_from_slice(entry.http_version().as_bytes());
    line.push(b'"');
    let (line, status) = (String::from_utf8_lossy(&line), record.status);
    let answer = if status == 0 { "no response".to_owned() } else { status.to_string() };
    let path = String::from_utf8_lossy(entry.path());
    let duration = record.duration.as_secs_f64();
    log::warn!(
        method = entry.method(),
        path = path.as_ref(),
        status = status,
        duration = duration,
        bytes = record.bytes,
        request_id = entry.request_id();
        "Slow request: {line} {answer} took {:.3} s{}", duration, where_it_went(record, started)
    );
}

fn where_it_went(record: &AccessRecord<'_>, started: Instant) -> String {
    let entry = record.entry;
    let seconds = |duration: Duration| format!("{:.3} s", duration.as_secs_f64());
    let mut parts = Vec::new();
    let mut before = started;
    if let Some(received) = entry.received_at() {
        parts.push(format!("{} for its content to come", seconds(received - before)));
        before = received;
    }
    match entry.responded_at() {
        // A response may begin while content still comes.
        Some(responded) if responded >= before => {
            let end = started + record.duration;
            parts.push(format!("{} until its response began", seconds(responded - before)));
            parts.push(format!("{} until that had left", seconds(end - responded)));
        }
        Some(_) => {}
        None => parts.push("its response never began".to_owned()),
    }
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}
