//! Where a request's body ends (RFC 9112 section 6.3). Whatever two parsers could read in two ways
//! is refused: that is what request smuggling is made of.

use super::grammar::{members, trim};
use super::head::Version;
use crate::error::RequestError;

/// How the end of the body is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyFraming {
    /// No body: neither Content-Length nor Transfer-Encoding.
    Empty,
    /// As many bytes as Content-Length says, possibly 0.
    Length(u64),
    /// Chunks, read by [`super::ChunkDecoder`].
    Chunked,
}

impl BodyFraming {
    /// Is it certain that not one byte of body follows?
    pub fn is_empty(self) -> bool {
        matches!(self, Self::Empty | Self::Length(0))
    }
}

/// What the framing fields seen so far amount to.
#[derive(Debug, Default)]
pub(crate) struct Framing<'b> {
    length: Option<u64>,
    coding: Coding<'b>,
}

#[derive(Debug, Default)]
enum Coding<'b> {
    #[default]
    Absent,
    /// One field: exactly `chunked`, or something that will be refused.
    One(&'b [u8]),
    Several {
        last: &'b [u8],
        /// Codings other than `chunked` before the last field.
        unknown: bool,
    },
}

impl<'b> Framing<'b> {
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), RequestError> {
        if self.length.is_some() {
            return Err(RequestError::ConflictingContentLength);
        }
        self.length = Some(parse_length(value).ok_or(RequestError::InvalidContentLength)?);
        Ok(())
    }

    pub(crate) fn transfer_encoding(&mut self, value: &'b [u8]) {
        let (before, earlier) = match self.coding {
            Coding::Absent => {
                self.coding = Coding::One(value);
                return;
            }
            Coding::One(before) => (before, false),
            Coding::Several { last, unknown } => (last, unknown),
        };
        self.coding = Coding::Several {
            last: value,
            unknown: earlier || members(before).any(|coding| !is_chunked(coding)),
        };
    }

    pub(crate) fn conclude(self, version: Version) -> Result<BodyFraming, RequestError> {
        let (last, several, unknown) = match self.coding {
            Coding::Absent => {
                return Ok(self.length.map_or(BodyFraming::Empty, BodyFraming::Length));
            }
            Coding::One(value) => (value, false, false),
            Coding::Several { last, unknown } => (last, true, unknown),
        };
        if version == Version::Http10 {
            return Err(RequestError::TransferEncodingInHttp10);
        }
        if self.length.is_some() {
            return Err(RequestError::ContentLengthWithTransferEncoding);
        }
        if !several && is_chunked(last) {
            return Ok(BodyFraming::Chunked);
        }
        Err(refusal(last, unknown))
    }
}

/// Why a list that is not exactly `chunked` is refused. 501 tells the client to try without the
/// coding, and is right only if the body has an end.
fn refusal(last: &[u8], unknown_before: bool) -> RequestError {
    if members(last).any(<[u8]>::is_empty) {
        return RequestError::InvalidTransferEncoding;
    }
    let final_coding = last.rsplit(|&byte| byte == b',').next().map(trim);
    if !final_coding.is_some_and(is_chunked) {
        return RequestError::ChunkedNotFinal;
    }
    if unknown_before || members(last).any(|coding| !is_chunked(coding)) {
        return RequestError::UnknownTransferEncoding;
    }
    RequestError::InvalidTransferEncoding
}

fn is_chunked(coding: &[u8]) -> bool {
    coding.eq_ignore_ascii_case(b"chunked")
}

/// `1*DIGIT` and nothing else: no sign, no list, no white space, no overflow.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'))?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(values: &[&'static str]) -> Result<BodyFraming, RequestError> {
        let mut framing = Framing::default();
        for value in values {
            framing.transfer_encoding(value.as_bytes());
        }
        framing.conclude(Version::Http11)
    }

    #[test]
    fn a_length_is_digits_only() {
        for (value, length) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("00042", Some(42)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("0x10", None),
            ("1,1", None),
            ("1 1", None),
            ("1_0", None),
            ("1.0", None),
            ("\u{661}", None),
        ] {
            assert_eq!(parse_length(value.as_bytes()), length, "{value}");
        }
    }

    #[test]
    fn only_chunked_alone_is_understood() {
        for (values, outcome) in [
            (&["chunked"][..], Ok(BodyFraming::Chunked)),
            (&["ChUnKeD"], Ok(BodyFraming::Chunked)),
            (&[""], Err(RequestError::InvalidTransferEncoding)),
            (&["chunked,"], Err(RequestError::InvalidTransferEncoding)),
            (&[", chunked"], Err(RequestError::InvalidTransferEncoding)),
            (&["chunked, chunked"], Err(RequestError::InvalidTransferEncoding)),
            (&["chunked", "chunked"], Err(RequestError::InvalidTransferEncoding)),
            (&["identity"], Err(RequestError::ChunkedNotFinal)),
            (&["xchunked"], Err(RequestError::ChunkedNotFinal)),
            (&["chunked;a=b"], Err(RequestError::ChunkedNotFinal)),
            (&["\"chunked\""], Err(RequestError::ChunkedNotFinal)),
            (&["chunked, identity"], Err(RequestError::ChunkedNotFinal)),
            (&["chunked", "identity"], Err(RequestError::ChunkedNotFinal)),
            (&["gzip, chunked"], Err(RequestError::UnknownTransferEncoding)),
            (&["gzip", "chunked"], Err(RequestError::UnknownTransferEncoding)),
            (&["gzip", "chunked", "chunked"], Err(RequestError::UnknownTransferEncoding)),
        ] {
            assert_eq!(encoded(values), outcome, "{values:?}");
        }
    }

    #[test]
    fn two_framings_are_refused_in_either_order() {
        let mut framing = Framing::default();
        framing.transfer_encoding(b"chunked");
        assert_eq!(framing.content_length(b"5"), Ok(()));
        assert_eq!(
            framing.conclude(Version::Http11),
            Err(RequestError::ContentLengthWithTransferEncoding)
        );
        let mut framing = Framing::default();
        assert_eq!(framing.content_length(b"5"), Ok(()));
        framing.transfer_encoding(b"identity");
        assert_eq!(
            framing.conclude(Version::Http11),
            Err(RequestError::ContentLengthWithTransferEncoding)
        );
    }

    #[test]
    fn a_second_length_is_refused_even_if_equal() {
        let mut framing = Framing::default();
        assert_eq!(framing.content_length(b"5"), Ok(()));
        assert_eq!(framing.content_length(b"5"), Err(RequestError::ConflictingContentLength));
    }
}
