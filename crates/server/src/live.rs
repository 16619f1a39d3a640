//! The requests in flight of a worker, by name: for whoever has to say what a worker was at when its
//! loop stopped.
//!
//! Written by the loop's thread for every request, so that a line is copied into a place that is
//! there already and nothing is allocated; read by another thread hardly ever, so that the lock is
//! never waited for. The query is left out: it may hold what must not be logged.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The most bytes kept of a request: with the rest of a [`Line`] two cache lines.
const LINE: usize = 108;

/// Requests that have been started and not finished.
#[derive(Debug, Default)]
pub struct LiveRequests {
    places: Mutex<Places>,
}

/// Lines are written in place, and a free one keeps its bytes: half the time that a slab takes.
#[derive(Debug, Default)]
struct Places {
    lines: Vec<Line>,
    free: Vec<usize>,
}

/// One request in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRequest {
    /// Method and path, still percent-encoded; `...` in the end where that is too long. Nothing in
    /// it can end a line of a log.
    pub line: String,
    /// When it was started.
    pub started: Instant,
}

/// Which request to take off the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveKey(usize);

#[derive(Debug)]
struct Line {
    started: Instant,
    /// 0 where the place is free.
    length: u8,
    is_cut: bool,
    bytes: [u8; LINE],
}

impl LiveRequests {
    pub(crate) fn enter(&self, method: &str, path: &[u8], started: Instant) -> LiveKey {
        let mut places = self.lock();
        let Places { lines, free } = &mut *places;
        let key = free.pop().unwrap_or(lines.len());
        if key == lines.len() {
            lines.push(Line { started, length: 0, is_cut: false, bytes: [0; LINE] });
        }
        if let Some(line) = lines.get_mut(key) {
            line.started = started;
            line.is_cut = false;
            line.push(method.as_bytes());
            line.push(b" ");
            line.push(path);
        }
        LiveKey(key)
    }

    /// Once for each key.
    pub(crate) fn leave(&self, key: LiveKey) {
        let mut places = self.lock();
        if let Some(line) = places.lines.get_mut(key.0) {
            line.length = 0;
            places.free.push(key.0);
        }
    }

    /// What is known of one of them.
    pub(crate) fn line(&self, key: LiveKey) -> String {
        self.lock().lines.get(key.0).map(Line::to_string).unwrap_or_default()
    }

    /// All of them, the one that was started last first: it is the likeliest to be at work.
    pub fn list(&self) -> Vec<LiveRequest> {
        let mut list: Vec<LiveRequest> = self
            .lock()
            .lines
            .iter()
            .filter(|line| line.length > 0)
            .map(|line| LiveRequest { line: line.to_string(), started: line.started })
            .collect();
        list.sort_by_key(|request| std::cmp::Reverse(request.started));
        list
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn push(&mut self, text: &[u8]) {
        let used = usize::from(self.length);
        let room = self.bytes.get_mut(used..).unwrap_or_default();
        let length = text.len().min(room.len());
        self.is_cut |= length < text.len();
        if let (Some(to), Some(from)) = (room.get_mut(..length), text.get(..length)) {
            to.copy_from_slice(from);
        }
        self.length = u8::try_from(used + length).unwrap_or(u8::MAX);
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.bytes.iter().take(usize::from(self.length)) {
            if byte.is_ascii_graphic() || byte == b' ' {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        f.write_str(if self.is_cut { "..." } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_listed_while_they_live_the_latest_first() {
        let live = LiveRequests::default();
        let now = Instant::now();
        let first = live.enter("GET", b"/first", now);
        let second = live.enter("POST", b"/second", now + Duration::from_secs(1));
        let lines = || live.list().into_iter().map(|request| request.line).collect::<Vec<_>>();
        assert_eq!(lines(), ["POST /second", "GET /first"]);
        assert_eq!(live.list()[1].started, now);
        live.leave(second);
        assert_eq!(lines(), ["GET /first"]);
        live.leave(first);
        assert_eq!(lines(), [""; 0]);
    }

    #[test]
    fn what_a_client_sends_is_cut_and_cannot_forge_a_line() {
        let live = LiveRequests::default();
        let now = Instant::now();
        let whole = "x".repeat(LINE - 5);
        let table = [
            ("GET", b"/\n\x1b[31m\xc3".as_slice(), "GET /\\x0a\\x1b[31m\\xc3".to_owned()),
            ("GET", format!("/{whole}").as_bytes(), format!("GET /{whole}")),
            ("GET", format!("/{whole}y").as_bytes(), format!("GET /{whole}...")),
            (&"M".repeat(500), b"/", format!("{}...", "M".repeat(LINE))),
        ]
        .map(|(method, path, expected)| (method.to_owned(), path.to_owned(), expected));
        for (method, path, expected) in table {
            let key = live.enter(&method, &path, now);
            assert_eq!(live.list()[0].line, expected);
            live.leave(key);
        }
    }
}
