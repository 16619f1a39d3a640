//! The `date` field (RFC 9110, section 6.6.1), formatted once a second.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// `date: Sun, 06 Nov 1994 08:49:37 GMT\r\n`
pub(crate) const LENGTH: usize = 37;

thread_local! {
    /// The current line: each worker has one thread, and none waits for another's.
    static CACHED: Cell<Cached> = const { Cell::new(Cached { line: [b' '; LENGTH], expires: None }) };
}

#[derive(Clone, Copy)]
struct Cached {
    line: [u8; LENGTH],
    expires: Option<Instant>,
}

/// The line for the moment `now`.
pub(crate) fn line_at(now: Instant) -> [u8; LENGTH] {
    let cached = CACHED.get();
    if cached.expires.is_some_and(|expires| now < expires) {
        return cached.line;
    }
    let wall = SystemTime::now();
    let text = format!("date: {}\r\n", httpdate::HttpDate::from(wall));
    let line = text.into_bytes().try_into().unwrap_or(cached.line);
    let into_second = wall
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since_epoch| since_epoch.subsec_nanos());
    let left = Duration::from_secs(1).saturating_sub(Duration::from_nanos(into_second.into()));
    CACHED.set(Cached { line, expires: now.checked_add(left) });
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_a_whole_field() {
        let line = line_at(Instant::now());
        let text = std::str::from_utf8(&line).unwrap();
        assert!(text.starts_with("date: ") && text.ends_with(" GMT\r\n"), "{text}");
        assert!(httpdate::parse_http_date(text[6..].trim_end()).is_ok());
    }
}
