//! Where a request head ends (RFC 9112 section 2.1), found while it drips in.
//!
//! Owns: the empty lines before a request (section 2.2), the size of the head and of its target,
//! and the refusal of a lone LF. Must not know: what the lines mean; `parse_head` reads the head
//! again, as a whole.
//!
//! Every verdict belongs to a position in the stream, so how the bytes were cut into reads makes
//! no difference. Each byte is looked at once, however small the reads.

use memchr::memchr;

use super::grammar::is_token_byte;
use super::head::HeadLimits;
use crate::error::RequestError;

/// Finds the end of a head in a buffer that grows. It remembers how far it has looked: pass the
/// same bytes, with more behind them, until the answer is `Some` or an error.
#[derive(Debug, Default)]
pub struct HeadScanner {
    stage: Stage,
    /// Where the line that is being looked at starts.
    line: usize,
    /// Up to where there is no LF that has not been dealt with.
    searched: usize,
}

/// ```text
/// Preamble --first byte of a token--> Method --SP--> Target --SP--> Version --CRLF--> Fields
///   |  ^                                 `-------------'--------------- CRLF ------------^
///   `--'  empty line
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Preamble,
    Method,
    Target {
        start: usize,
    },
    Version,
    Fields,
}

impl HeadScanner {
    /// The offset just behind the empty line that ends the head, `None` if it is still to come.
    pub fn find_end(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, RequestError> {
        // Bytes past the limit decide nothing but that there are too many.
        let window = buf.get(..limits.size).unwrap_or(buf);
        if let Some(end) = self.find_end_within(window, limits)? {
            return Ok(Some(end));
        }
        if buf.len() <= limits.size {
            return Ok(None);
        }
        Err(match self.stage {
            Stage::Target { .. } => RequestError::TargetTooLong,
            _ => RequestError::HeadTooLarge,
        })
    }

    /// Forgets everything, for the next request on the connection.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Has the client sent anything of a request, not counting empty lines before it?
    pub fn has_started(&self, buf: &[u8]) -> bool {
        self.stage != Stage::Preamble
            || buf
                .get(self.line..)
                .is_some_and(|rest| rest.iter().any(|byte| !matches!(byte, b'\r' | b'\n')))
    }

    fn find_end_within(
        &mut self,
        window: &[u8],
        limits: &HeadLimits,
    ) -> Result<Option<usize>, RequestError> {
        loop {
            if self.stage == Stage::Preamble && !self.enter_request(window)? {
                return Ok(None);
            }
            let unsearched = window.get(self.searched..).unwrap_or_default();
            let Some(at) = memchr(b'\n', unsearched) else {
                self.walk_request_line(window, limits)?;
                self.searched = window.len();
                return Ok(None);
            };
            let feed = self.searched.saturating_add(at);
            let line = window.get(self.line..feed).unwrap_or_default();
            if self.stage != Stage::Fields {
                self.walk_request_line(window.get(..feed).unwrap_or_default(), limits)?;
                self.stage = Stage::Fields;
            }
            if line.last() != Some(&b'\r') {
                return Err(RequestError::BareLf);
            }
            self.line = feed.saturating_add(1);
            self.searched = self.line;
            if line.len() == 1 {
                return Ok(Some(self.line));
            }
        }
    }

    /// Skips empty lines; true once the request line has begun. What can never be a request line,
    /// such as a TLS handshake sent to a plain port, is refused by its first byte.
    fn enter_request(&mut self, window: &[u8]) -> Result<bool, RequestError> {
        loop {
            match window.get(self.line..).unwrap_or_default() {
                [b'\r', b'\n', ..] => self.line = self.line.saturating_add(2),
                [] | [b'\r'] => return Ok(false),
                [b'\r', ..] => return Err(RequestError::BareCr),
                [b'\n', ..] => return Err(RequestError::BareLf),
                [byte, ..] if is_token_byte(*byte) => {
                    self.stage = Stage::Method;
                    self.searched = self.line;
                    return Ok(true);
                }
                _ => return Err(RequestError::InvalidMethod),
            }
        }
    }

    /// Follows the request line through `seen`, which ends at the LF or where the bytes end.
    fn walk_request_line(&mut self, seen: &[u8], limits: &HeadLimits) -> Result<(), RequestError> {
        if self.stage == Stage::Method {
            let Some(space) = find_from(b' ', seen, self.searched) else {
                return Ok(());
            };
            let start = space.saturating_add(1);
            self.stage = Stage::Target { start };
            self.searched = start;
        }
        if let Stage::Target { start } = self.stage {
            let space = find_from(b' ', seen, self.searched);
            // The CR of a line without version is not told from the target; one byte is nothing.
            if space.unwrap_or(seen.len()).saturating_sub(start) > limits.target {
                return Err(RequestError::TargetTooLong);
            }
            if space.is_some() {
                self.stage = Stage::Version;
            }
        }
        Ok(())
    }
}

fn find_from(byte: u8, bytes: &[u8], from: usize) -> Option<usize> {
    let at = memchr(byte, bytes.get(from..)?)?;
    Some(from.saturating_add(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: HeadLimits = HeadLimits { size: 64, target: 16, fields: 100 };

    /// Looks at the whole and at every prefix in turn: the answers must be the same.
    #[track_caller]
    fn scan(bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, RequestError> {
        let whole = HeadScanner::default().find_end(bytes, limits);
        let mut scanner = HeadScanner::default();
        let mut dripped = Ok(None);
        for length in 0..=bytes.len() {
            dripped = scanner.find_end(&bytes[..length], limits);
            if dripped != Ok(None) {
                break;
            }
        }
        assert_eq!(whole, dripped, "the reads made a difference");
        whole
    }

    #[test]
    fn the_end_is_behind_the_empty_line() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut more = head.to_vec();
        more.extend_from_slice(b"GET /2");
        assert_eq!(scan(head, &HeadLimits::default()), Ok(Some(head.len())));
        assert_eq!(scan(&more, &HeadLimits::default()), Ok(Some(head.len())));
        assert_eq!(scan(&head[..head.len() - 1], &HeadLimits::default()), Ok(None));
        assert_eq!(scan(b"GET / HTTP/1.1\r\n\r\n", &HeadLimits::default()), Ok(Some(18)));
    }

    #[test]
    fn empty_lines_before_a_request_are_skipped_and_counted() {
        assert_eq!(scan(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", &SMALL), Ok(Some(22)));
        assert_eq!(scan(b"\r\n\r\n", &SMALL), Ok(None));
        assert_eq!(scan(&b"\r\n".repeat(33), &SMALL), Err(RequestError::HeadTooLarge));
        assert_eq!(scan(&b"\r\n".repeat(32), &SMALL), Ok(None));
    }

    #[test]
    fn what_is_no_request_is_refused_at_once() {
        for (bytes, reason) in [
            (&b"\x16\x03\x01\x02\x00"[..], RequestError::InvalidMethod),
            (b" GET / HTTP/1.1", RequestError::InvalidMethod),
            (b"\0", RequestError::InvalidMethod),
            (b"\n", RequestError::BareLf),
            (b"\r\n\n", RequestError::BareLf),
            (b"\r\r", RequestError::BareCr),
            (b"\rGET", RequestError::BareCr),
            (b"GET / HTTP/1.1\n", RequestError::BareLf),
            (b"GET / HTTP/1.1\r\nA: b\n", RequestError::BareLf),
            (b"GET / HTTP/1.1\r\nA: b\r\n\n", RequestError::BareLf),
        ] {
            assert_eq!(scan(bytes, &HeadLimits::default()), Err(reason), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
        let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
        head.resize(60, b'x');
        head.extend_from_slice(b"\r\n\r\n");
        assert_eq!(scan(&head, &SMALL), Ok(Some(64)));
        head.insert(30, b'x');
        assert_eq!(scan(&head, &SMALL), Err(RequestError::HeadTooLarge));
    }

    #[test]
    fn a_target_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() {
        let request = |length: usize| format!("GET {} HTTP/1.1\r\n\r\n", "/".repeat(length));
        assert_eq!(scan(request(16).as_bytes(), &SMALL), Ok(Some(33)));
        assert_eq!(scan(request(17).as_bytes(), &SMALL), Err(RequestError::TargetTooLong));
        let endless = format!("GET {}", "/".repeat(17));
        assert_eq!(scan(endless.as_bytes(), &SMALL), Err(RequestError::TargetTooLong));
    }

    #[test]
    fn a_head_that_is_all_target_is_a_long_target() {
        let limits = HeadLimits { size: 64, target: 1000, fields: 100 };
        let endless = format!("GET {}", "/".repeat(100));
        assert_eq!(scan(endless.as_bytes(), &limits), Err(RequestError::TargetTooLong));
        let method = "G".repeat(100);
        assert_eq!(scan(method.as_bytes(), &limits), Err(RequestError::HeadTooLarge));
    }

    #[test]
    fn what_was_looked_at_is_not_looked_at_again() {
        let mut scanner = HeadScanner::default();
        for bytes in [&b"GET /aa"[..], b"GET /aaaa HTTP/1.1", b"GET /aaaa HTTP/1.1\r\nA: bb"] {
            assert_eq!(scanner.find_end(bytes, &SMALL), Ok(None));
            assert_eq!(scanner.searched, bytes.len());
        }
    }

    #[test]
    fn a_request_has_started_with_its_first_byte_that_is_no_empty_line() {
        let mut scanner = HeadScanner::default();
        assert!(!scanner.has_started(b""));
        assert!(!scanner.has_started(b"\r\n\r"));
        assert!(scanner.has_started(b"\r\nG"));
        assert_eq!(scanner.find_end(b"\r\nG", &SMALL), Ok(None));
        assert!(scanner.has_started(b"\r\nG"));
        scanner.reset();
        assert!(!scanner.has_started(b"\r\n"));
    }
}
