//! The `date` field (RFC 9110, section 6.6.1), formatted once a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// `date: Sun, 06 Nov 1994 08:49:37 GMT\r\n`
pub(crate) const LENGTH: usize = 37;

/// The current `date` line.
#[derive(Debug)]
pub(crate) struct DateLine {
    cached: Mutex<Cached>,
}

#[derive(Debug, Clone, Copy)]
struct Cached {
    line: [u8; LENGTH],
    expires: Option<Instant>,
}

impl Default for DateLine {
    fn default() -> Self {
        Self { cached: Mutex::new(Cached { line: [b' '; LENGTH], expires: None }) }
    }
}

impl DateLine {
    /// The line for the moment `now`.
    pub(crate) fn at(&self, now: Instant) -> [u8; LENGTH] {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.expires.is_none_or(|expires| now >= expires) {
            let wall = SystemTime::now();
            let text = format!("date: {}\r\n", httpdate::HttpDate::from(wall));
            if let Ok(line) = text.into_bytes().try_into() {
                cached.line = line;
            }
            let into_second = wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since_epoch| since_epoch.subsec_nanos());
            cached.expires = now.checked_add(
                Duration::from_secs(1).saturating_sub(Duration::from_nanos(into_second.into())),
            );
        }
        cached.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_a_whole_field() {
        let line = DateLine::default().at(Instant::now());
        let text = std::str::from_utf8(&line).unwrap();
        assert!(text.starts_with("date: ") && text.ends_with(" GMT\r\n"), "{text}");
        assert!(httpdate::parse_http_date(text[6..].trim_end()).is_ok());
    }
}
