//! A line in the user's own format: gunicorn's atoms, and those of hypercorn and granian.
//!
//! What the format's text means has been found out before ([`Pattern`] is made from parts); here it
//! is only filled in.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{AccessRecord, Stamp, phrase};
use crate::log_output::{Escape, Timestamps, push_escaped};

/// A format, ready to be filled in.
#[derive(Debug)]
pub struct Pattern {
    pieces: Vec<Piece>,
    escape: Escape,
    pub(super) request_fields: Vec<Box<str>>,
    pub(super) response_fields: Vec<Box<str>>,
}

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternPart {
    /// As it stands.
    Text(String),
    /// A value.
    Value(Atom, Conversion),
    /// A field of the request, by its name.
    RequestField(String, Conversion),
    /// A field of the response, by its name.
    ResponseField(String, Conversion),
}

/// How a value is written: printf's rules, as far as they mean something in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Conversion {
    /// The least columns.
    pub width: usize,
    /// Whether it stands to the left in them.
    pub left: bool,
    /// Digits behind the point, or the most characters of a text.
    pub precision: Option<usize>,
    /// As what a number is written.
    pub number: Number,
}

/// As what a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Number {
    /// As it is.
    #[default]
    Natural,
    /// Without a fraction.
    Integer,
    /// With a fraction.
    Float,
}

#[derive(Debug)]
enum Piece {
    Text(Vec<u8>),
    Value(Atom, Conversion),
    /// By its place in the entry.
    RequestField(usize, Conversion),
    ResponseField(usize, Conversion),
    /// The user of Basic authentication, from the field in this place.
    User(usize, Conversion),
}

macro_rules! atoms {
    ($($variant:ident = $($name:literal)|+ : $meaning:literal,)+) => {
        /// A value of a request or its response.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Atom {
            $(#[doc = $meaning] $variant,)+
        }

        impl Atom {
            /// The atom with this name.
            pub fn named(name: &str) -> Option<Self> {
                match name {
                    $($($name)|+ => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

atoms! {
    Address = "h": "The client's address.",
    Peer = "addr": "The client's address and port.",
    Dash = "l": "A dash: nobody asks for an ident.",
    User = "u": "The user of Basic authentication.",
    CommonTime = "t": "The time in brackets, as in the common log format.",
    IsoTime = "time": "The time.",
    RequestLine = "r": "Method, target and protocol.",
    RequestLineWithoutQuery = "R": "Method, path and protocol.",
    Method = "m" | "method": "The method.",
    Path = "U" | "path": "The path, percent-encoded.",
    FullPath = "Uq": "Path and query.",
    Query = "q" | "query_string": "The query.",
    Protocol = "H" | "protocol": "The protocol.",
    Scheme = "S" | "scheme": "The scheme.",
    Status = "s" | "status": "The status.",
    Phrase = "st": "The status in words.",
    Bytes = "B": "The length of the response's content.",
    BytesOrDash = "b": "The same, a dash for none.",
    Referer = "f": "The page that led here.",
    UserAgent = "a": "The client's program.",
    Seconds = "T": "The duration in whole seconds.",
    Microseconds = "D": "The duration in microseconds.",
    Milliseconds = "M": "The duration in whole milliseconds.",
    SecondsDecimal = "L": "The duration in seconds, with a fraction.",
    MillisecondsDecimal = "dt_ms": "The duration in milliseconds, with a fraction.",
    Pid = "p": "The process, in angle brackets.",
    Worker = "worker": "The worker's number.",
    RequestId = "request_id": "The request's id.",
    Traceparent = "traceparent": "The trace that the request belongs to.",
}

impl Pattern {
    /// A format of these parts.
    pub fn new(parts: impl IntoIterator<Item = PatternPart>) -> Self {
        let mut pattern = Self {
            pieces: Vec::new(),
            escape: Escape::Quoted,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
        };
        for part in parts {
            let piece = match part {
                PatternPart::Text(text) => {
                    // Whoever writes an object wants one.
                    if pattern.pieces.is_empty() && text.trim_start().starts_with('{') {
                        pattern.escape = Escape::Json;
                    }
                    Piece::Text(text.into_bytes())
                }
                PatternPart::Value(Atom::User, conversion) => {
                    Piece::User(pattern.request_field("authorization"), conversion)
                }
                PatternPart::Value(Atom::Referer, conversion) => {
                    Piece::RequestField(pattern.request_field("referer"), conversion)
                }
                PatternPart::Value(Atom::UserAgent, conversion) => {
                    Piece::RequestField(pattern.request_field("user-agent"), conversion)
                }
                PatternPart::Value(atom, conversion) => Piece::Value(atom, conversion),
                PatternPart::RequestField(name, conversion) => {
                    Piece::RequestField(pattern.request_field(&name), conversion)
                }
                PatternPart::ResponseField(name, conversion) => {
                    let place = place(&mut pattern.response_fields, &name);
                    Piece::ResponseField(place, conversion)
                }
            };
            pattern.pieces.push(piece);
        }
        pattern
    }

    fn request_field(&mut self, name: &str) -> usize {
        place(&mut self.request_fields, name)
    }

    /// Whether it tells the id of a request.
    pub(super) fn names(&self, wanted: Atom) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Value(atom, _) if *atom == wanted))
    }

    pub(super) fn push_line(
        &self,
        out: &mut Vec<u8>,
        record: &AccessRecord<'_>,
        stamp: Stamp,
        stamps: &mut Timestamps,
        limit: usize,
    ) {
        for piece in &self.pieces {
            let start = out.len();
            let conversion = match piece {
                Piece::Text(text) => {
                    out.extend_from_slice(text);
                    continue;
                }
                Piece::Value(atom, conversion) => {
                    if let Some(number) = atom.number(record) {
                        push_number(out, number, *conversion);
                    } else {
                        self.push_text(out, *atom, record, stamp, stamps, limit);
                        cut(out, start, *conversion);
                    }
                    conversion
                }
                Piece::RequestField(place, conversion) => {
                    self.push_value(out, record.entry.request_field(*place), limit);
                    cut(out, start, *conversion);
                    conversion
                }
                Piece::ResponseField(place, conversion) => {
                    self.push_value(out, record.entry.response_field(*place), limit);
                    cut(out, start, *conversion);
                    conversion
                }
                Piece::User(place, conversion) => {
                    let user = record.entry.request_field(*place).and_then(user);
                    self.push_word(out, user.as_deref().unwrap_or(b"-"), limit);
                    cut(out, start, *conversion);
                    conversion
                }
            };
            pad(out, start, *conversion);
        }
        out.push(b'\n');
    }

    /// A client's text between spaces.
    fn push_word(&self, out: &mut Vec<u8>, text: &[u8], limit: usize) {
        let escape = if self.escape == Escape::Json { Escape::Json } else { Escape::Word };
        push_escaped(out, text, escape, limit);
    }

    /// Somebody's text, which may have spaces.
    fn push_value(&self, out: &mut Vec<u8>, text: Option<&[u8]>, limit: usize) {
        push_escaped(out, text.unwrap_or(b"-"), self.escape, limit);
    }

    fn push_text(
        &self,
        out: &mut Vec<u8>,
        atom: Atom,
        record: &AccessRecord<'_>,
        stamp: Stamp,
        stamps: &mut Timestamps,
        limit: usize,
    ) {
        let entry = record.entry;
        match atom {
            Atom::Address => {
                if let Some((address, _)) = entry.client() {
                    let _ = write!(out, "{address}");
                } else {
                    let host = record.peer.client.as_ref().map_or("-", |(host, _)| host);
                    self.push_word(out, host.as_bytes(), limit);
                }
            }
            Atom::Peer => record.push_client(out),
            Atom::CommonTime => {
                out.push(b'[');
                stamps.push_common(out, stamp.time);
                out.push(b']');
            }
            Atom::IsoTime => stamps.push_iso(out, stamp.time),
            Atom::RequestLine | Atom::RequestLineWithoutQuery => {
                self.push_word(out, entry.method().as_bytes(), limit);
                out.push(b' ');
                let is_whole = atom == Atom::RequestLine;
                let target = if is_whole { entry.full_path() } else { entry.path() };
                self.push_word(out, target, limit);
                out.extend_from_slice(b" HTTP/");
                out.extend_from_slice(entry.http_version().as_bytes());
            }
            Atom::Method => self.push_word(out, entry.method().as_bytes(), limit),
            Atom::Path => self.push_word(out, entry.path(), limit),
            Atom::FullPath => self.push_word(out, entry.full_path(), limit),
            Atom::Query => self.push_word(out, entry.query(), limit),
            Atom::Protocol => {
                out.extend_from_slice(b"HTTP/");
                out.extend_from_slice(entry.http_version().as_bytes());
            }
            Atom::Scheme => out.extend_from_slice(record.scheme().as_bytes()),
            Atom::Phrase => {
                out.extend_from_slice(phrase(record.status).unwrap_or("-").as_bytes());
            }
            Atom::Pid => {
                let _ = write!(out, "<{}>", stamp.pid);
            }
            Atom::Worker => match stamp.worker {
                Some(worker) => {
                    out.extend_from_slice(itoa::Buffer::new().format(worker).as_bytes());
                }
                None => out.push(b'-'),
            },
            Atom::RequestId => self.push_value(out, entry.request_id().map(str::as_bytes), limit),
            Atom::Traceparent => {
                self.push_value(out, entry.traceparent().map(str::as_bytes), limit);
            }
            // Numbers and fields have been taken care of; an ident and a count of none are dashes.
            _ => out.push(b'-'),
        }
    }
}

impl Atom {
    /// Its value in millionths, where it is a number.
    fn number(self, record: &AccessRecord<'_>) -> Option<u128> {
        let micros = record.duration.as_micros();
        let whole = |number: u128| Some(number * 1_000_000);
        match self {
            Self::Status => whole(record.status.into()),
            Self::Bytes => whole(record.bytes.into()),
            Self::BytesOrDash if record.bytes > 0 => whole(record.bytes.into()),
            Self::Seconds => whole(micros / 1_000_000),
            Self::Microseconds => whole(micros),
            Self::Milliseconds => whole(micros / 1000),
            Self::SecondsDecimal => Some(micros),
            Self::MillisecondsDecimal => Some(micros * 1000),
            _ => None,
        }
    }
}

/// Writes a number of millionths. Without a wish of the format's a fraction has six digits, and
/// where there is none, none is written.
fn push_number(out: &mut Vec<u8>, millionths: u128, conversion: Conversion) {
    let digits = match (conversion.number, conversion.precision) {
        (Number::Integer, _) => 0,
        (Number::Float, precision) => precision.unwrap_or(6).min(6),
        (Number::Natural, _) if millionths.is_multiple_of(1_000_000) => 0,
        (Number::Natural, _) => 6,
    };
    let unit = 10_u128.pow(6 - u32::try_from(digits).unwrap_or(6));
    // A duration of half a second is not one of a second: as printf rounds, but an integer is cut.
    let rounding = if conversion.number == Number::Integer { 0 } else { unit / 2 };
    let scaled = (millionths + rounding) / unit;
    let scale = 10_u128.pow(u32::try_from(digits).unwrap_or(6));
    let _ = write!(out, "{}", scaled / scale);
    if digits > 0 {
        let _ = write!(out, ".{:0digits$}", scaled % scale);
    }
}

/// Keeps no more of a text than its precision says.
fn cut(out: &mut Vec<u8>, start: usize, conversion: Conversion) {
    if let Some(precision) = conversion.precision {
        let text = out.get(start..).unwrap_or_default();
        let kept: usize =
            String::from_utf8_lossy(text).chars().take(precision).map(char::len_utf8).sum();
        out.truncate(start.saturating_add(kept));
    }
}

fn pad(out: &mut Vec<u8>, start: usize, conversion: Conversion) {
    let missing = conversion.width.saturating_sub(out.len().saturating_sub(start));
    if missing > 0 {
        let end = out.len();
        out.resize(end + missing, b' ');
        if !conversion.left
            && let Some(text) = out.get_mut(start..)
        {
            text.rotate_right(missing);
        }
    }
}

/// The place of a field in an entry.
fn place(names: &mut Vec<Box<str>>, name: &str) -> usize {
    names.iter().position(|known| known.eq_ignore_ascii_case(name)).unwrap_or_else(|| {
        names.push(name.to_ascii_lowercase().into());
        names.len() - 1
    })
}

/// The user in `Authorization: Basic ...` (RFC 7617).
fn user(field: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let mut decoded = STANDARD.decode(credentials.trim_ascii()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    decoded.truncate(colon);
    Some(decoded).filter(|user| !user.is_empty())
}
