//! The chunked coding (RFC 9112 section 7.1): framing bytes out, data left where it is.
//!
//! Owns: the grammar of chunk sizes, extensions and trailers, and their limits. Must not know: the
//! buffer, so that its owner can split the data off without a copy. Extensions and trailers are
//! checked and dropped.

use memchr::memchr;

use super::grammar::{is_token_byte, is_value_byte};
use crate::error::RequestError;

/// More digits could not fit 64 bits.
const MAX_SIZE_DIGITS: u8 = 16;

/// How much of a chunked body may be something other than data.
#[derive(Clone, Copy, Debug)]
pub struct ChunkedLimits {
    /// Bytes of chunk extensions in the whole body.
    pub extension: usize,
    /// Bytes of the trailer section.
    pub trailers: usize,
    /// Number of trailer fields.
    pub trailer_fields: usize,
}

impl Default for ChunkedLimits {
    fn default() -> Self {
        Self { extension: 4096, trailers: 65536, trailer_fields: 100 }
    }
}

/// What the caller does next: drop `consumed` bytes, take the `data` bytes behind them, and ask
/// again with what is left, unless that is nothing or `done` is set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Step {
    /// Framing bytes at the front of the input.
    pub consumed: usize,
    /// Bytes of data right behind them, 0 if there are none yet.
    pub data: usize,
    /// The body is complete; what follows is the next request.
    pub done: bool,
}

/// Reads one chunked body. After an error it is of no use, as is the connection.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    limits: ChunkedLimits,
    /// Extension bytes seen in this body.
    extension: usize,
    /// Trailer bytes and fields seen.
    trailers: usize,
    trailer_fields: usize,
    /// The name of the trailer field that is being read.
    trailer_name: TrailerName,
}

/// ```text
///            ,------------- ; ------------.
///            |                            v
/// Size --------- CR ---------> SizeLf <--CR-- Extension...
///   ^                            |
///   |            size > 0        | size = 0
///   |     ,----------------------+----------------.
///   |     v                                       v
///   |   Data --> DataCr --> DataLf --.     TrailerStart --CR--> EndLf --LF--> Done
///   `--------------------------------'        |      ^
///                                             v      |
///                                  TrailerName --> TrailerValue --> TrailerLf
/// ```
#[derive(Clone, Copy, Debug)]
enum State {
    Size { size: u64, digits: u8 },
    Extension { size: u64, part: ExtensionPart },
    SizeLf { size: u64 },
    Data { remaining: u64 },
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

/// Where in `*( ";" token [ "=" ( token / quoted-string ) ] )`; white space has no place in it.
#[derive(Clone, Copy, Debug)]
enum ExtensionPart {
    NameStart,
    Name,
    ValueStart,
    Token,
    Quoted,
    Escaped,
    QuotedEnd,
}

/// The start of a trailer field's name in lower case: enough to tell the forbidden ones.
#[derive(Clone, Copy, Debug, Default)]
struct TrailerName {
    bytes: [u8; 18],
    length: usize,
}

impl ChunkDecoder {
    /// A decoder for one body.
    pub fn new(limits: ChunkedLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Has the end of the body been read?
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Reads framing until there is data, the input ends, or the body does. The data reported
    /// counts as taken: the next input starts behind it.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, RequestError> {
        let mut rest = input;
        loop {
            let consumed = input.len().saturating_sub(rest.len());
            if let State::Data { remaining } = self.state {
                let data =
                    usize::try_from(remaining).map_or(rest.len(), |size| size.min(rest.len()));
                let remaining = remaining.saturating_sub(data as u64);
                self.state = match remaining {
                    0 => State::DataCr,
                    _ => State::Data { remaining },
                };
                return Ok(Step { consumed, data, done: false });
            }
            if let State::Done = self.state {
                return Ok(Step { consumed, data: 0, done: true });
            }
            rest = match self.skip_trailer_value(rest)? {
                [] => {
                    return Ok(Step { consumed: input.len(), data: 0, done: false });
                }
                [byte, rest @ ..] => {
                    self.state = self.step(*byte)?;
                    rest
                }
            };
        }
    }

    /// One byte of framing; not called in `Data` and `Done`.
    fn step(&mut self, byte: u8) -> Result<State, RequestError> {
        match (self.state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { digits: 1.., size }, b';') => {
                self.count_extension()?;
                Ok(State::Extension { size, part: ExtensionPart::NameStart })
            }
            (State::Size { size, digits }, _) => add_digit(size, digits, byte),
            (State::Extension { size, part }, _) => {
                if byte != b'\r' {
                    self.count_extension()?;
                }
                step_extension(size, part, byte)
            }
            (State::SizeLf { size: 0 } | State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { remaining: size }),
            (State::SizeLf { .. }, _) => Err(RequestError::InvalidChunkSize),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::default()),
            (State::DataCr | State::DataLf, _) => Err(RequestError::MissingChunkTerminator),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::TrailerStart, _) => {
                self.trailer_fields = self.trailer_fields.saturating_add(1);
                if self.trailer_fields > self.limits.trailer_fields {
                    return Err(RequestError::TrailersTooLarge);
                }
                self.trailer_name = TrailerName::default();
                self.step_trailer_name(byte)
            }
            (State::TrailerName, _) => self.step_trailer_name(byte),
            (State::TrailerValue, b'\r') => {
                self.count_trailer(2)?;
                Ok(State::TrailerLf)
            }
            (
                State::TrailerValue
                | State::TrailerLf
                | State::EndLf
                | State::Data { .. }
                | State::Done,
                _,
            ) => Err(RequestError::InvalidTrailer),
        }
    }

    fn step_trailer_name(&mut self, byte: u8) -> Result<State, RequestError> {
        self.count_trailer(1)?;
        match byte {
            b':' if self.trailer_name.is_allowed() => Ok(State::TrailerValue),
            _ if is_token_byte(byte) => {
                self.trailer_name.push(byte);
                Ok(State::TrailerName)
            }
            _ => Err(RequestError::InvalidTrailer),
        }
    }

    /// Trailer values are the one part of the framing that can be long: up to their CR at once.
    fn skip_trailer_value<'b>(&mut self, rest: &'b [u8]) -> Result<&'b [u8], RequestError> {
        if !matches!(self.state, State::TrailerValue) {
            return Ok(rest);
        }
        let end = memchr(b'\r', rest).unwrap_or(rest.len());
        let (value, behind) = rest.split_at_checked(end).unwrap_or((rest, b""));
        let allowed = self.limits.trailers.saturating_sub(self.trailers);
        // A bad byte past the limit is not seen: which comes first must not depend on the reads.
        let checked = value.get(..allowed).unwrap_or(value);
        if !checked.iter().copied().all(is_value_byte) {
            return Err(RequestError::InvalidTrailer);
        }
        self.count_trailer(value.len())?;
        Ok(behind)
    }

    fn count_extension(&mut self) -> Result<(), RequestError> {
        self.extension = self.extension.saturating_add(1);
        if self.extension > self.limits.extension {
            return Err(RequestError::ChunkExtensionTooLong);
        }
        Ok(())
    }

    fn count_trailer(&mut self, bytes: usize) -> Result<(), RequestError> {
        self.trailers = self.trailers.saturating_add(bytes);
        if self.trailers > self.limits.trailers {
            return Err(RequestError::TrailersTooLarge);
        }
        Ok(())
    }
}

fn add_digit(size: u64, digits: u8, byte: u8) -> Result<State, RequestError> {
    let digit = char::from(byte).to_digit(16).ok_or(RequestError::InvalidChunkSize)?;
    if digits >= MAX_SIZE_DIGITS {
        return Err(RequestError::ChunkSizeTooLarge);
    }
    Ok(State::Size {
        size: size.wrapping_shl(4) | u64::from(digit),
        digits: digits.saturating_add(1),
    })
}

fn step_extension(size: u64, part: ExtensionPart, byte: u8) -> Result<State, RequestError> {
    use ExtensionPart::{Escaped, Name, NameStart, Quoted, QuotedEnd, Token, ValueStart};
    let part = match (part, byte) {
        (Name | Token | QuotedEnd, b'\r') => return Ok(State::SizeLf { size }),
        (Name | Token | QuotedEnd, b';') => NameStart,
        (Name, b'=') => ValueStart,
        (ValueStart, b'"') => Quoted,
        (Quoted, b'"') => QuotedEnd,
        (Quoted, b'\\') => Escaped,
        (Quoted | Escaped, _) if is_value_byte(byte) => Quoted,
        (NameStart | Name, _) if is_token_byte(byte) => Name,
        (ValueStart | Token, _) if is_token_byte(byte) => Token,
        _ => return Err(RequestError::InvalidChunkExtension),
    };
    Ok(State::Extension { size, part })
}

impl TrailerName {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte.to_ascii_lowercase();
            self.length = self.length.saturating_add(1);
        }
    }

    /// A name, and none that says where a message ends or whom it is for (RFC 9110 section 6.5.1).
    fn is_allowed(&self) -> bool {
        let name = self.bytes.get(..self.length).unwrap_or_default();
        !matches!(name, b"" | b"content-length" | b"transfer-encoding" | b"host")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RequestError as E;

    /// The body, read whole and byte by byte, and what was left behind it.
    #[track_caller]
    fn decode(input: &str) -> Result<Option<(String, usize)>, RequestError> {
        let read = |size: usize| {
            let mut decoder =
                ChunkDecoder::new(ChunkedLimits { extension: 12, trailers: 24, trailer_fields: 2 });
            let (mut buffer, mut body, mut left) = (Vec::new(), Vec::new(), input.len());
            for part in input.as_bytes().chunks(size) {
                left = left.saturating_sub(part.len());
                buffer.extend_from_slice(part);
                loop {
                    let step = decoder.decode(&buffer)?;
                    buffer.drain(..step.consumed);
                    body.extend(buffer.drain(..step.data));
                    if step.done {
                        let left = left.saturating_add(buffer.len());
                        return Ok(Some((String::from_utf8(body).unwrap(), left)));
                    }
                    if step.data == 0 {
                        assert!(buffer.is_empty(), "framing is always consumed");
                        break;
                    }
                }
            }
            Ok(None)
        };
        let whole = read(input.len().max(1));
        assert_eq!(whole, read(1), "the reads made a difference");
        whole
    }

    #[test]
    fn bodies_are_joined_from_their_chunks() {
        for (input, body, left) in [
            ("0\r\n\r\n", "", 0),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", 0),
            ("1\r\na\r\n2\r\nbc\r\n000\r\n\r\nGET", "abc", 3),
            ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0),
            ("000000000000000a\r\n0123456789\r\n0\r\n\r\n", "0123456789", 0),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", 0),
            ("1;a\r\nx\r\n0;b=c\r\n\r\n", "x", 0),
            ("1;a=\"\\\";\"\r\nx\r\n0\r\n\r\n", "x", 0),
            ("1;a;b=c;d\r\nx\r\n0\r\n\r\n", "x", 0),
            ("0\r\nA: b\r\nC:\r\n\r\n", "", 0),
            ("1;0123456789a\r\nx\r\n0\r\n\r\n", "x", 0),
            ("0\r\nA: 0123456789012345678\r\n\r\n", "", 0),
            ("0\r\nContent-Length2: 1\r\n\r\n", "", 0),
        ] {
            assert_eq!(decode(input), Ok(Some((body.to_owned(), left))), "{input:?}");
        }
    }

    #[test]
    fn bodies_are_incomplete_until_their_last_byte() {
        let body = "5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n";
        for end in 0..body.len() {
            assert_eq!(decode(&body[..end]), Ok(None), "{end}");
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        for (input, reason) in [
            ("\r\n", E::InvalidChunkSize),
            (" 1\r\n", E::InvalidChunkSize),
            ("1 \r\n", E::InvalidChunkSize),
            ("+1\r\n", E::InvalidChunkSize),
            ("-1\r\n", E::InvalidChunkSize),
            ("0x1\r\n", E::InvalidChunkSize),
            ("1_0\r\n", E::InvalidChunkSize),
            ("g\r\n", E::InvalidChunkSize),
            ("1\n", E::InvalidChunkSize),
            ("1\rx", E::InvalidChunkSize),
            (";a\r\n", E::InvalidChunkSize),
            ("00000000000000001\r\n", E::ChunkSizeTooLarge),
            ("10000000000000000\r\n", E::ChunkSizeTooLarge),
            ("1;\r\n", E::InvalidChunkExtension),
            ("1; a\r\n", E::InvalidChunkExtension),
            ("1;a =b\r\n", E::InvalidChunkExtension),
            ("1;a=\r\n", E::InvalidChunkExtension),
            ("1;a\n", E::InvalidChunkExtension),
            ("1;a\rx", E::InvalidChunkSize),
            ("1;a=\"\n", E::InvalidChunkExtension),
            ("1;a=\"\r\n\"\r\n", E::InvalidChunkExtension),
            ("1;a=\"b\"c\r\n", E::InvalidChunkExtension),
            ("1;a=b=c\r\n", E::InvalidChunkExtension),
            ("1;0123456789ab\r\n", E::ChunkExtensionTooLong),
            ("1;01234\r\nx\r\n1;012345\r\n", E::ChunkExtensionTooLong),
            ("1\r\nxy", E::MissingChunkTerminator),
            ("1\r\nx\n0\r\n", E::MissingChunkTerminator),
            ("1\r\nx\ry", E::MissingChunkTerminator),
            ("0\r\n\n", E::InvalidTrailer),
            ("0\r\n\rx", E::InvalidTrailer),
            ("0\r\nA b: c\r\n", E::InvalidTrailer),
            ("0\r\nA : c\r\n", E::InvalidTrailer),
            ("0\r\n: c\r\n", E::InvalidTrailer),
            ("0\r\n A: c\r\n", E::InvalidTrailer),
            ("0\r\nA: b\r\n c\r\n", E::InvalidTrailer),
            ("0\r\nA: b\nC: d\r\n", E::InvalidTrailer),
            ("0\r\nA: b\rc\r\n", E::InvalidTrailer),
            ("0\r\nA: \0\r\n", E::InvalidTrailer),
            ("0\r\nHOST: a\r\n", E::InvalidTrailer),
            ("0\r\nA: b\r\nHost: a\r\n", E::InvalidTrailer),
            ("0\r\ncontent-length: 1\r\n", E::InvalidTrailer),
            ("0\r\nTransfer-Encoding: chunked\r\n", E::InvalidTrailer),
            ("0\r\nA: 01234567890123456789\r\n\r\n", E::TrailersTooLarge),
            ("0\r\nA: 012345678901234567890\0\r\n", E::TrailersTooLarge),
            ("0\r\nA:\r\nB:\r\nC:\r\n\r\n", E::TrailersTooLarge),
        ] {
            assert_eq!(decode(input), Err(reason), "{input:?}");
        }
    }

    #[test]
    fn the_largest_size_does_not_overflow() {
        let mut decoder = ChunkDecoder::default();
        let step = decoder.decode(b"ffffffffffffffff\r\nabc");
        assert_eq!(step, Ok(Step { consumed: 18, data: 3, done: false }));
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut decoder = ChunkDecoder::default();
        let end = Step { consumed: 5, data: 0, done: true };
        assert_eq!(decoder.decode(b"0\r\n\r\nGET"), Ok(end));
        assert_eq!(decoder.decode(b"GET"), Ok(Step { consumed: 0, ..end }));
        assert!(decoder.is_done());
    }
}
