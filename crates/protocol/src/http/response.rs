//! The head of a response: what the application gave, and how it is framed on an HTTP/1.1
//! connection (RFC 9110, section 8.6; RFC 9112, sections 6 and 9).
//!
//! Framing is the server's business: `content-length` is taken out of the fields and written (or
//! not) by [`ResponseHead::encode_http1`]; connection-level fields are dropped, and `connection:
//! close` is remembered.

use http::StatusCode;

use super::fields::{FieldBlock, FieldError, split_lines};
use super::head::Version;

/// What an application's `http.response.start` (or a rejection of the server's own) says.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    status: StatusCode,
    fields: FieldBlock,
    content_length: Option<u64>,
    date: Given,
    server: Given,
    persistence: Persistence,
}

/// Whether the application set a field that the server would add otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    ByApplication,
    No,
}

/// Whether the connection can carry another request after this response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open.
    KeepAlive,
    /// It is closed after the response.
    Close,
}

/// How the end of the content is told to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// `content-length`, known from the application or from a body that came in one piece.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// The connection's end is the content's end (HTTP/1.0).
    UntilClose,
    /// No content may follow, and none is announced (204, or HEAD without a known length).
    Nothing,
}

/// The fields that the server adds to every response, ready to be copied.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerFields<'a> {
    /// `date: ... CRLF`, left out when the application gave one; may be empty.
    pub date: &'a [u8],
    /// `server: ... CRLF`, left out when the application gave one; may be empty.
    pub server: &'a [u8],
    /// Whole lines that are always added; may be empty.
    pub extra: &'a [u8],
}

impl<'a> ServerFields<'a> {
    /// Name and value of the two that an application may give itself.
    pub fn date_and_server(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        [self.date, self.server].into_iter().flat_map(split_lines)
    }
}

impl ResponseHead {
    /// A head without fields. `status` is a final one: 200 to 999.
    pub fn new(status: u16) -> Result<Self, FieldError> {
        let status = StatusCode::from_u16(status)
            .ok()
            .filter(|status| status.as_u16() >= 200)
            .ok_or(FieldError::InvalidStatus)?;
        Ok(Self {
            status,
            fields: FieldBlock::with_capacity(256),
            content_length: None,
            date: Given::No,
            server: Given::No,
            persistence: Persistence::KeepAlive,
        })
    }

    /// Adds a field of the application's.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        // The names that mean something to the server, told apart by their length first.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"date") => self.date = Given::ByApplication,
            6 if name.eq_ignore_ascii_case(b"server") => self.server = Given::ByApplication,
            10 if name.eq_ignore_ascii_case(b"connection") => {
                if has_token(value, b"close") {
                    self.persistence = Persistence::Close;
                }
                return Ok(());
            }
            10 if name.eq_ignore_ascii_case(b"keep-alive") => return Ok(()),
            14 if name.eq_ignore_ascii_case(b"content-length") => return self.declare(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return Ok(()),
            _ => {}
        }
        self.fields.push(name, value)
    }

    fn declare(&mut self, value: &[u8]) -> Result<(), FieldError> {
        let length = parse_decimal(value.trim_ascii()).ok_or(FieldError::InvalidContentLength)?;
        match self.content_length {
            Some(other) if other != length => Err(FieldError::ConflictingContentLength),
            _ => {
                self.content_length = Some(length);
                Ok(())
            }
        }
    }

    /// The status code.
    pub fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// The `content-length` that the application declared.
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    /// Declares the length of content that turned out to be known.
    pub fn set_content_length(&mut self, length: u64) {
        self.content_length = Some(length);
    }

    /// The application's fields, less those that belong to the connection.
    pub fn fields(&self) -> &FieldBlock {
        &self.fields
    }

    /// Whether the application asked for the connection to be closed.
    pub fn persistence(&self) -> Persistence {
        self.persistence
    }

    /// Whether content may follow at all (RFC 9110, section 6.4.1).
    pub fn forbids_content(&self, is_head_request: bool) -> bool {
        is_head_request || matches!(self.status.as_u16(), 204 | 205 | 304)
    }

    /// The framing for this response. `whole` is the length of the body where all of it is at hand.
    /// (A response with trailers is [`ResponseFraming::Chunked`] whatever its length, RFC 9112,
    /// section 7.1.2.)
    pub fn framing(&self, version: Version, is_head: bool, whole: Option<u64>) -> ResponseFraming {
        match self.status.as_u16() {
            204 => return ResponseFraming::Nothing,
            // It has no content either, but says so (RFC 9110, section 15.3.6).
            205 => return ResponseFraming::Length(0),
            _ => {}
        }
        match (self.content_length, whole) {
            // A HEAD or 304 response announces what GET would have sent, or nothing.
            (None, Some(0) | None) if self.forbids_content(is_head) => ResponseFraming::Nothing,
            (Some(length), _) | (None, Some(length)) => ResponseFraming::Length(length),
            (None, None) if version == Version::Http11 => ResponseFraming::Chunked,
            (None, None) => ResponseFraming::UntilClose,
        }
    }

    /// Whether the application says for itself what the server would add.
    pub fn gives_date_or_server(&self) -> bool {
        self.date == Given::ByApplication || self.server == Given::ByApplication
    }

    /// All fields but `content-length`, in order: the application's, with the server's around them.
    pub fn all_fields<'a>(
        &'a self,
        server: ServerFields<'a>,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let date = if self.date == Given::No { server.date } else { &[] };
        let name = if self.server == Given::No { server.server } else { &[] };
        let parts = [date, name, self.fields.as_wire(), server.extra];
        parts.into_iter().flat_map(split_lines)
    }

    /// Appends the status line and the header section for an HTTP/1.x connection.
    pub fn encode_http1(
        &self,
        out: &mut Vec<u8>,
        request_version: Version,
        framing: ResponseFraming,
        persistence: Persistence,
        server: ServerFields<'_>,
    ) {
        out.reserve(self.fields.as_wire().len().saturating_add(192));
        if self.status == StatusCode::OK {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(self.status.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(self.status.canonical_reason().unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if self.date == Given::No {
            out.extend_from_slice(server.date);
        }
        if self.server == Given::No {
            out.extend_from_slice(server.server);
        }
        out.extend_from_slice(self.fields.as_wire());
        out.extend_from_slice(server.extra);
        match framing {
            ResponseFraming::Length(length) => {
                out.extend_from_slice(b"content-length: ");
                out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            ResponseFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            ResponseFraming::UntilClose | ResponseFraming::Nothing => {}
        }
        match (persistence, request_version) {
            (Persistence::Close, _) => out.extend_from_slice(b"connection: close\r\n"),
            (Persistence::KeepAlive, Version::Http10) => {
                out.extend_from_slice(b"connection: keep-alive\r\n");
            }
            (Persistence::KeepAlive, Version::Http11 | Version::Http2) => {}
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the size line of a chunk of `length` bytes (RFC 9112, section 7.1); the data and a CRLF
/// follow.
pub fn encode_chunk_size(out: &mut Vec<u8>, length: usize) {
    let digits = usize::BITS.saturating_sub(length.max(1).leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        let nibble = (length >> place.saturating_mul(4)) & 0xf;
        out.push(b"0123456789abcdef".get(nibble).copied().unwrap_or(b'0'));
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response such as 103 Early Hints (RFC 9110, section 15.2; RFC 8297).
pub fn encode_interim(out: &mut Vec<u8>, status_line: &[u8], fields: &FieldBlock) {
    out.extend_from_slice(status_line);
    out.extend_from_slice(fields.as_wire());
    out.extend_from_slice(b"\r\n");
}

/// The reason phrase of a registered status code (RFC 9110, section 15).
pub fn reason_phrase(status: u16) -> Option<&'static str> {
    StatusCode::from_u16(status).ok()?.canonical_reason()
}

/// Whether the comma-separated list `value` has `token` in it, in any case.
pub fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

/// `1*DIGIT` that fits a u64.
fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit & 0x0f))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerFields<'static> =
        ServerFields { date: b"date: D\r\n", server: b"server: S\r\n", extra: b"" };

    fn head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
        let mut head = ResponseHead::new(status).unwrap();
        for (name, value) in fields {
            head.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        head
    }

    fn wire(head: &ResponseHead, version: Version, framing: ResponseFraming) -> String {
        let mut out = Vec::new();
        head.encode_http1(&mut out, version, framing, head.persistence(), SERVER);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn framing_follows_the_method_status_version_and_length() {
        use ResponseFraming::{Chunked, Length, Nothing, UntilClose};
        use Version::{Http10, Http11};
        let declared: &[(&str, &str)] = &[("Content-Length", "5")];
        let cases = [
            (200, &[][..], Http11, false, Some(3), Length(3)),
            (200, &[], Http11, false, Some(0), Length(0)),
            (200, &[], Http11, false, None, Chunked),
            (200, &[], Http10, false, None, UntilClose),
            (200, declared, Http11, false, None, Length(5)),
            (200, declared, Http10, false, None, Length(5)),
            (200, declared, Http11, true, Some(0), Length(5)),
            (200, &[], Http11, true, Some(0), Nothing),
            (200, &[], Http11, true, Some(7), Length(7)),
            (200, &[], Http11, true, None, Nothing),
            (204, declared, Http11, false, Some(0), Nothing),
            (205, &[], Http11, false, Some(7), Length(0)),
            (304, declared, Http11, false, Some(0), Length(5)),
            (304, &[], Http11, false, None, Nothing),
        ];
        for (status, fields, version, is_head, whole, expected) in cases {
            let framing = head(status, fields).framing(version, is_head, whole);
            assert_eq!(framing, expected, "{status} {fields:?} {version:?} {is_head} {whole:?}");
        }
    }

    #[test]
    fn the_server_owns_the_fields_of_the_connection() {
        let head = head(
            200,
            &[
                ("x", "1"),
                ("Transfer-Encoding", "chunked"),
                ("Connection", "keep-alive, Close"),
                ("keep-alive", "timeout=5"),
                ("content-length", "2"),
            ],
        );
        assert_eq!(
            wire(&head, Version::Http11, ResponseFraming::Length(2)),
            "HTTP/1.1 200 OK\r\ndate: D\r\nserver: S\r\nx: 1\r\ncontent-length: 2\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn date_and_server_of_the_application_win() {
        let head = head(404, &[("Server", "mine"), ("DATE", "now")]);
        assert_eq!(
            wire(&head, Version::Http10, ResponseFraming::UntilClose),
            "HTTP/1.1 404 Not Found\r\nServer: mine\r\nDATE: now\r\nconnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn bad_heads_are_refused() {
        assert_eq!(ResponseHead::new(199).unwrap_err(), FieldError::InvalidStatus);
        assert_eq!(ResponseHead::new(1000).unwrap_err(), FieldError::InvalidStatus);
        let mut head = head(200, &[("content-length", "5"), ("content-length", "5")]);
        assert_eq!(head.push(b"content-length", b"6"), Err(FieldError::ConflictingContentLength));
        for value in ["", "-1", "+1", "0x1", "1 2", "99999999999999999999"] {
            assert_eq!(
                head.push(b"content-length", value.as_bytes()),
                Err(FieldError::InvalidContentLength),
                "{value}"
            );
        }
    }

    #[test]
    fn chunk_sizes_are_hexadecimal_without_leading_zeros() {
        for length in [0, 1, 9, 10, 15, 16, 255, 256, 65536, usize::MAX] {
            let mut out = Vec::new();
            encode_chunk_size(&mut out, length);
            assert_eq!(out, format!("{length:x}\r\n").into_bytes());
        }
    }
}
