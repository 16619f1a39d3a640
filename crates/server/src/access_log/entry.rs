//! What the logs will tell of a request, taken from its head while that is there.
//!
//! One text holds all parts: a request that is logged costs two allocations, whatever is logged
//! about it.

use std::net::IpAddr;
use std::ops::Range;

use rsgi_protocol::http::Field;
use rsgi_protocol::http::Target;
use rsgi_protocol::http::response::{ResponseHead, ServerFields};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Capture, Ids, request_id};

/// The length of a `traceparent` of version 00 (W3C Trace Context, section 3.2).
const TRACEPARENT: usize = 55;

/// A request that is logged, in the access log or because it is slow.
#[derive(Debug)]
pub(crate) struct Entry {
    text: Vec<u8>,
    method: u32,
    path: u32,
    target: u32,
    kind: Kind,
    http_version: &'static str,
    client: Option<(IpAddr, u16)>,
    request_id: Option<Span>,
    traceparent: Option<Span>,
    request_fields: SmallVec<[Option<Span>; 2]>,
    response_fields: SmallVec<[Option<Span>; 2]>,
    is_listed: bool,
    is_watched: bool,
    received_at: Option<Instant>,
    responded_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    WebSocket,
}

/// A part of the text.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What of a request's head an entry is made from.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a Target<'a>,
    pub(crate) http_version: &'static str,
    pub(crate) fields: &'a [Field<'a>],
    /// Who sent it, where a proxy says so.
    pub(crate) client: Option<(IpAddr, u16)>,
}

impl Entry {
    pub(super) fn new(
        subject: &Subject<'_>,
        capture: &Capture,
        new_id: impl FnOnce() -> [u8; request_id::LENGTH],
        is_listed: bool,
    ) -> Self {
        let Subject { method, target, http_version, fields, client } = *subject;
        let room = method.len() + target.path.len() + target.query.len() + 1;
        let with_id = request_id::LENGTH + TRACEPARENT;
        let mut text = Vec::with_capacity(room + if capture.ids == Ids::No { 0 } else { with_id });
        text.extend_from_slice(method.as_bytes());
        let method = length(&text);
        text.extend_from_slice(target.path);
        let path = length(&text);
        if !target.query.is_empty() {
            text.push(b'?');
            text.extend_from_slice(target.query);
        }
        let target = length(&text);
        let mut entry = Self {
            text,
            method,
            path,
            target,
            kind: Kind::Http,
            http_version,
            client,
            request_id: None,
            traceparent: None,
            request_fields: SmallVec::new(),
            response_fields: SmallVec::new(),
            is_listed,
            is_watched: capture.slow.is_some(),
            received_at: None,
            responded_at: None,
        };
        entry.capture(fields, capture, new_id);
        entry
    }

    fn capture(
        &mut self,
        fields: &[Field<'_>],
        capture: &Capture,
        new_id: impl FnOnce() -> [u8; request_id::LENGTH],
    ) {
        if capture.ids != Ids::No {
            for field in fields {
                // Most names are told apart by their length.
                match field.name.len() {
                    12 if self.request_id.is_none()
                        && field.name.eq_ignore_ascii_case("x-request-id")
                        && request_id::is_well_formed(field.value) =>
                    {
                        self.request_id = Some(self.keep(field.value));
                    }
                    11 if capture.traceparent
                        && field.name.eq_ignore_ascii_case("traceparent")
                        && is_traceparent(field.value) =>
                    {
                        self.traceparent = Some(self.keep(field.value));
                    }
                    _ => {}
                }
            }
            if self.request_id.is_none() && capture.ids == Ids::Always {
                self.request_id = Some(self.keep(&new_id()));
            }
        }
        for name in &capture.request_fields {
            let field = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            let span = field.map(|field| self.keep(field.value));
            self.request_fields.push(span);
        }
    }

    fn keep(&mut self, value: &[u8]) -> Span {
        let start = length(&self.text);
        self.text.extend_from_slice(value);
        Span { start, end: length(&self.text) }
    }

    /// The entry of a request that asks for a WebSocket.
    pub(crate) fn of_websocket(mut self: Box<Self>) -> Box<Self> {
        self.kind = Kind::WebSocket;
        self
    }

    /// All of the request's content has come.
    pub(crate) fn received(&mut self) {
        if self.is_watched {
            self.received_at = Some(Instant::now());
        }
    }

    /// A response begins.
    pub(super) fn respond(
        &mut self,
        head: &ResponseHead,
        server: ServerFields<'_>,
        capture: &Capture,
    ) {
        if self.is_watched {
            self.responded_at = Some(Instant::now());
            // A stream is not slow, it is long.
            let mut fields = head.fields().iter();
            self.is_watched = !fields.any(|(name, value)| {
                name.eq_ignore_ascii_case(b"content-type")
                    && value
                        .get(..17)
                        .is_some_and(|it| it.eq_ignore_ascii_case(b"text/event-stream"))
            });
        }
        for name in &capture.response_fields {
            let mut fields = head.all_fields(server);
            let found = fields.find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
            let span = match (found, head.content_length()) {
                (Some((_, value)), _) => Some(self.keep(value)),
                (None, Some(declared)) if name.eq_ignore_ascii_case("content-length") => {
                    Some(self.keep(itoa::Buffer::new().format(declared).as_bytes()))
                }
                (None, _) => None,
            };
            self.response_fields.push(span);
        }
    }

    fn part(&self, range: Range<usize>) -> &[u8] {
        self.text.get(range).unwrap_or_default()
    }

    fn text(&self, span: Option<Span>) -> Option<&str> {
        span.and_then(|span| str::from_utf8(self.part(span.range())).ok())
    }

    pub(super) fn is_websocket(&self) -> bool {
        self.kind == Kind::WebSocket
    }

    /// Whether it is for the access log.
    pub(crate) fn is_listed(&self) -> bool {
        self.is_listed
    }

    pub(super) fn is_watched(&self) -> bool {
        self.is_watched
    }

    pub(super) fn received_at(&self) -> Option<Instant> {
        self.received_at
    }

    pub(super) fn responded_at(&self) -> Option<Instant> {
        self.responded_at
    }

    /// The method, in the case the client used.
    pub(super) fn method(&self) -> &str {
        str::from_utf8(self.raw_method()).unwrap_or_default()
    }

    /// The same, as it came.
    pub(super) fn raw_method(&self) -> &[u8] {
        self.part(0..self.method as usize)
    }

    /// The path, still percent-encoded.
    pub(super) fn path(&self) -> &[u8] {
        self.part(self.method as usize..self.path as usize)
    }

    /// The query, without its question mark.
    pub(super) fn query(&self) -> &[u8] {
        self.part(self.path as usize..self.target as usize).get(1..).unwrap_or_default()
    }

    /// Path and query.
    pub(super) fn full_path(&self) -> &[u8] {
        self.part(self.method as usize..self.target as usize)
    }

    /// Who sent it, where a proxy says so.
    pub(super) fn client(&self) -> Option<(IpAddr, u16)> {
        self.client
    }

    pub(super) fn http_version(&self) -> &'static str {
        self.http_version
    }

    pub(crate) fn request_id(&self) -> Option<&str> {
        self.text(self.request_id)
    }

    pub(super) fn traceparent(&self) -> Option<&str> {
        self.text(self.traceparent)
    }

    /// The field of the request that a format asks for in this place.
    pub(super) fn request_field(&self, place: usize) -> Option<&[u8]> {
        self.request_fields.get(place).copied().flatten().map(|span| self.part(span.range()))
    }

    /// The field of the response that a format asks for in this place.
    pub(super) fn response_field(&self, place: usize) -> Option<&[u8]> {
        self.response_fields.get(place).copied().flatten().map(|span| self.part(span.range()))
    }
}

/// A head is bounded far below 4 GiB.
fn length(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

/// Whether a value is what may be put into a log as it is (W3C Trace Context, section 3.2.2; later
/// versions may be longer).
fn is_traceparent(value: &[u8]) -> bool {
    (TRACEPARENT..=128).contains(&value.len())
        && value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_traceparent_is_taken_for_one() {
        let good = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good));
        assert!(!is_traceparent(&good[1..]));
        assert!(!is_traceparent(&good.repeat(3)));
        assert!(!is_traceparent(&good.map(|byte| if byte == b'9' { b'"' } else { byte })));
    }
}
