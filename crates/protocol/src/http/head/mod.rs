//! A request head and what it means: RFC 9112 sections 2 to 6, RFC 9110 sections 7 and 10.1.
//!
//! Owns: the reading of a complete head. Must not know: where the bytes came from, or what the
//! application is told. `httparse` reads the tokens; what it lets through and this server does not
//! (a lone LF, bytes a URI cannot have, doubtful framing) is refused here. Nothing is allocated.

use std::mem::MaybeUninit;

use memchr::memchr_iter;

use super::authority::is_authority;
use super::diagnosis::diagnose;
use super::framing::{BodyFraming, Framing};
use super::grammar::members;
use super::target::{Target, TargetForm};
use crate::error::RequestError;

/// One field: its name as the client spelled it, its value without surrounding white space.
pub type Field<'b> = httparse::Header<'b>;

/// The most fields a head can have, whatever the limit says: 32 bytes of stack for each.
pub const MAX_FIELDS: usize = 1024;

/// Fields for which the stack frame is small; more are rare and read in a frame of their own.
const USUAL_FIELDS: usize = 128;

/// How large a head may be.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, with the empty lines before it and the one that ends it.
    pub size: usize,
    /// Bytes of the request target.
    pub target: usize,
    /// Number of fields, at most [`MAX_FIELDS`].
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { size: 65536, target: 65536, fields: 100 }
    }
}

/// The versions this engine speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2, whose bytes are not this engine's business; only what they mean is.
    Http2,
}

impl Version {
    /// As ASGI spells it in `http_version`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// A request head that was found to be in order.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'h, 'b> {
    /// A token, its case kept.
    pub method: &'b str,
    /// The target's parts.
    pub target: Target<'b>,
    /// The client's version.
    pub version: Version,
    /// All fields in order, as sent.
    pub fields: &'h [Field<'b>],
    /// Where the body ends.
    pub framing: BodyFraming,
    /// May the connection be used again? HTTP/1.1 unless it says `close`, HTTP/1.0 only if it says
    /// `keep-alive` (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Does the client wait for `100 Continue` before it sends a body that is to come?
    pub expects_continue: bool,
    /// Did the client say `TE: trailers` (RFC 9110 section 6.5.1)?
    pub accepts_trailers: bool,
    /// The first Upgrade, if Connection names it and the version knows it (RFC 9110 section 7.8).
    pub upgrade: Option<&'b [u8]>,
    /// The authority of an absolute target, else Host (RFC 9112 section 3.2.2).
    pub host: Option<&'b [u8]>,
}

/// Room for `N` fields that costs nothing to make.
struct FieldSpace<'b, const N: usize>([MaybeUninit<Field<'b>>; N]);

impl<'b, const N: usize> FieldSpace<'b, N> {
    fn new() -> Self {
        Self([const { MaybeUninit::uninit() }; N])
    }

    fn up_to(&mut self, limit: usize) -> &mut [MaybeUninit<Field<'b>>] {
        let length = limit.min(N);
        self.0.get_mut(..length).unwrap_or_default()
    }
}

/// Reads a head, exactly as long as [`super::HeadScanner::find_end`] said, and hands it to `then`.
pub fn parse_head<R>(
    head: &[u8],
    limits: &HeadLimits,
    then: impl FnOnce(RequestHead<'_, '_>) -> R,
) -> Result<R, RequestError> {
    if limits.fields > USUAL_FIELDS {
        return parse_large_head(head, limits, then);
    }
    let mut space = FieldSpace::<USUAL_FIELDS>::new();
    parse_into(space.up_to(limits.fields), head, limits).map(then)
}

#[inline(never)]
fn parse_large_head<R>(
    head: &[u8],
    limits: &HeadLimits,
    then: impl FnOnce(RequestHead<'_, '_>) -> R,
) -> Result<R, RequestError> {
    let mut space = FieldSpace::<MAX_FIELDS>::new();
    parse_into(space.up_to(limits.fields), head, limits).map(then)
}

fn parse_into<'h, 'b>(
    space: &'h mut [MaybeUninit<Field<'b>>],
    head: &'b [u8],
    limits: &HeadLimits,
) -> Result<RequestHead<'h, 'b>, RequestError> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, space) {
        Ok(httparse::Status::Complete(end)) if end == head.len() => {}
        _ => return Err(diagnose(head, limits)),
    }
    check_line_ends(head)?;
    let httparse::Request { method: Some(method), path: Some(raw_target), version, headers } =
        request
    else {
        return Err(RequestError::IncompleteHead);
    };
    let version = if version == Some(0) { Version::Http10 } else { Version::Http11 };
    if raw_target.len() > limits.target {
        return Err(RequestError::TargetTooLong);
    }
    if method == "CONNECT" {
        return Err(RequestError::MethodNotImplemented);
    }
    let (target, authority) = Target::parse(method, raw_target.as_bytes())?;
    let fields: &'h [Field<'b>] = headers;
    Meaning::collect(fields)?.conclude(method, target, authority, version, fields)
}

/// `httparse` takes a lone LF for a line end. (It does not take a lone CR.)
fn check_line_ends(head: &[u8]) -> Result<(), RequestError> {
    let all_have_cr = memchr_iter(b'\n', head)
        .all(|feed| feed.checked_sub(1).and_then(|at| head.get(at)) == Some(&b'\r'));
    if all_have_cr { Ok(()) } else { Err(RequestError::BareLf) }
}

/// What the fields say, before it is known whether it makes sense together.
#[derive(Default)]
struct Meaning<'b> {
    framing: Framing<'b>,
    host: Option<&'b [u8]>,
    connection: Connection,
    upgrade: Option<&'b [u8]>,
    expectation: Expectation,
    accepts_trailers: bool,
}

/// The members of Connection that mean something here (RFC 9110 section 7.6.1).
#[derive(Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

#[derive(Clone, Copy, Default, Eq, PartialEq)]
enum Expectation {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

impl<'b> Meaning<'b> {
    fn collect(fields: &[Field<'b>]) -> Result<Self, RequestError> {
        let mut meaning = Self::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let value = field.value;
            match field.name.len() {
                2 if is("te") => meaning.te(value),
                4 if is("host") => meaning.host(value)?,
                6 if is("expect") => meaning.expect(value),
                7 if is("upgrade") => {
                    meaning.upgrade.get_or_insert(value);
                }
                10 if is("connection") => meaning.connection.add(value),
                14 if is("content-length") => meaning.framing.content_length(value)?,
                17 if is("transfer-encoding") => meaning.framing.transfer_encoding(value),
                _ => {}
            }
        }
        Ok(meaning)
    }

    fn host(&mut self, value: &'b [u8]) -> Result<(), RequestError> {
        match self.host.replace(value) {
            None => Ok(()),
            Some(_) => Err(RequestError::DuplicateHost),
        }
    }

    fn te(&mut self, value: &[u8]) {
        self.accepts_trailers |=
            members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"));
    }

    fn expect(&mut self, value: &[u8]) {
        let known = value.eq_ignore_ascii_case(b"100-continue");
        self.expectation = match self.expectation {
            Expectation::Nothing | Expectation::Continue if known => Expectation::Continue,
            _ => Expectation::Unknown,
        };
    }

    fn conclude<'h>(
        self,
        method: &'b str,
        target: Target<'b>,
        authority: Option<&'b [u8]>,
        version: Version,
        fields: &'h [Field<'b>],
    ) -> Result<RequestHead<'h, 'b>, RequestError> {
        check_host(self.host, target.form, version)?;
        let framing = self.framing.conclude(version)?;
        let is_11 = version == Version::Http11;
        if is_11 && self.expectation == Expectation::Unknown {
            return Err(RequestError::InvalidExpectation);
        }
        Ok(RequestHead {
            method,
            target,
            version,
            fields,
            framing,
            keep_alive: !self.connection.close && (is_11 || self.connection.keep_alive),
            expects_continue: is_11
                && self.expectation == Expectation::Continue
                && !framing.is_empty(),
            accepts_trailers: is_11 && self.accepts_trailers,
            upgrade: self.upgrade.filter(|_| is_11 && self.connection.upgrade),
            host: authority.or(self.host),
        })
    }
}

impl Connection {
    fn add(&mut self, value: &[u8]) {
        for member in members(value) {
            match member.len() {
                5 => self.close |= member.eq_ignore_ascii_case(b"close"),
                7 => self.upgrade |= member.eq_ignore_ascii_case(b"upgrade"),
                10 => self.keep_alive |= member.eq_ignore_ascii_case(b"keep-alive"),
                _ => {}
            }
        }
    }
}

/// RFC 9112 section 3.2: HTTP/1.1 must send one; it is empty only if the target URI has no
/// authority. If the target has one, that one counts, but a malformed Host is refused all the same.
fn check_host(host: Option<&[u8]>, form: TargetForm, version: Version) -> Result<(), RequestError> {
    match host {
        None if version == Version::Http11 => Err(RequestError::MissingHost),
        None => Ok(()),
        Some(b"") if form != TargetForm::Absolute => Ok(()),
        Some(value) if is_authority(value) => Ok(()),
        Some(_) => Err(RequestError::InvalidHost),
    }
}

#[cfg(test)]
mod tests;
