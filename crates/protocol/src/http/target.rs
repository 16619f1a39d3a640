//! The request target (RFC 9112 section 3.2) and what ASGI makes of it: `raw_path`,
//! `query_string` and the decoded `path`.

use std::borrow::Cow;

use memchr::{memchr, memchr2};
use percent_encoding::percent_decode;

use super::authority::is_authority;
use crate::error::RequestError;

/// In which form the target came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TargetForm {
    /// `/path?query`: what every client sends to an origin server.
    Origin,
    /// `http://authority/path?query`: what is sent to proxies, and must be understood all the same.
    Absolute,
    /// `*`: `OPTIONS` about the server as a whole.
    Asterisk,
}

/// The parts of a target, still percent-encoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target<'b> {
    /// What ASGI calls `raw_path`: begins with `/`, or is `*`.
    pub path: &'b [u8],
    /// What follows the first `?`, empty if there is none.
    pub query: &'b [u8],
    /// The form it came in.
    pub form: TargetForm,
}

impl<'b> Target<'b> {
    /// Splits a target; gives its authority, too, if it has one.
    pub(crate) fn parse(
        method: &str,
        raw: &'b [u8],
    ) -> Result<(Self, Option<&'b [u8]>), RequestError> {
        if !raw.is_ascii() || memchr(b'#', raw).is_some() {
            return Err(RequestError::InvalidTarget);
        }
        match raw {
            [b'/', ..] => Ok((Self::split(raw, TargetForm::Origin), None)),
            b"*" if method == "OPTIONS" => Ok((Self::split(raw, TargetForm::Asterisk), None)),
            b"*" => Err(RequestError::AsteriskTarget),
            _ => Self::parse_absolute(raw),
        }
    }

    fn parse_absolute(raw: &'b [u8]) -> Result<(Self, Option<&'b [u8]>), RequestError> {
        let rest = strip_scheme(raw).ok_or(RequestError::InvalidTarget)?;
        let end = memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).unwrap_or((rest, b""));
        if !is_authority(authority) {
            return Err(RequestError::InvalidHost);
        }
        let mut target = Self::split(rest, TargetForm::Absolute);
        if target.path.is_empty() {
            target.path = b"/";
        }
        Ok((target, Some(authority)))
    }

    fn split(raw: &'b [u8], form: TargetForm) -> Self {
        let (path, query) = match memchr(b'?', raw).and_then(|at| raw.split_at_checked(at)) {
            Some((path, [_question_mark, query @ ..])) => (path, query),
            _ => (raw, &[][..]),
        };
        Self { path, query, form }
    }
}

fn strip_scheme(raw: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (found, rest) = raw.split_at_checked(scheme.len())?;
        found.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// The ASGI `path` of a raw path: percent-decoded, then read as UTF-8 with U+FFFD for what is not.
/// A `%` without two hexadecimal digits stays as it is. Borrows unless there is something to
/// decode.
pub fn decode_path(raw: &[u8]) -> Cow<'_, str> {
    if memchr(b'%', raw).is_none() {
        return String::from_utf8_lossy(raw);
    }
    match percent_decode(raw).into() {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(match String::from_utf8(bytes) {
            Ok(path) => path,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_split_by_form() {
        use TargetForm::{Absolute, Asterisk, Origin};
        for (method, raw, path, query, form, authority) in [
            ("GET", "/", "/", "", Origin, None),
            ("GET", "/a?b=c?d", "/a", "b=c?d", Origin, None),
            ("GET", "//a/../b", "//a/../b", "", Origin, None),
            ("GET", "/?", "/", "", Origin, None),
            ("GET", "/http://x", "/http://x", "", Origin, None),
            ("OPTIONS", "*", "*", "", Asterisk, None),
            ("GET", "http://a", "/", "", Absolute, Some("a")),
            ("GET", "hTTps://a:1/b?c", "/b", "c", Absolute, Some("a:1")),
            ("GET", "http://a?c", "/", "c", Absolute, Some("a")),
            ("GET", "http://[::1]/", "/", "", Absolute, Some("[::1]")),
        ] {
            let expected = Target { path: path.as_bytes(), query: query.as_bytes(), form };
            assert_eq!(
                Target::parse(method, raw.as_bytes()),
                Ok((expected, authority.map(str::as_bytes))),
                "{raw}"
            );
        }
    }

    #[test]
    fn targets_in_no_form_are_refused() {
        use RequestError::{AsteriskTarget, InvalidHost, InvalidTarget};
        for (method, raw, reason) in [
            ("GET", "*", AsteriskTarget),
            ("options", "*", AsteriskTarget),
            ("OPTIONS", "*a", InvalidTarget),
            ("GET", "a", InvalidTarget),
            ("GET", "?a", InvalidTarget),
            ("GET", "example.com:80", InvalidTarget),
            ("GET", "ftp://a/", InvalidTarget),
            ("GET", "http:/a", InvalidTarget),
            ("GET", "/a#b", InvalidTarget),
            ("GET", "/\u{e9}", InvalidTarget),
            ("GET", "http:///a", InvalidHost),
            ("GET", "http://", InvalidHost),
            ("GET", "http://u:p@a/", InvalidHost),
            ("GET", "http://a:b/", InvalidHost),
        ] {
            assert_eq!(Target::parse(method, raw.as_bytes()), Err(reason), "{raw}");
        }
    }

    // The expectations are what CPython's `urllib.parse.unquote` gives.
    #[test]
    fn paths_decode_as_python_unquotes_them() {
        for (raw, path) in [
            ("/", "/"),
            ("/a+b", "/a+b"),
            ("/a%20b", "/a b"),
            ("/a%2Fb%2fc", "/a/b/c"),
            ("/%", "/%"),
            ("/%4", "/%4"),
            ("/%zz%41", "/%zzA"),
            ("/%25%32%35", "/%25"),
            ("/%00", "/\0"),
            ("/caf%C3%A9", "/caf\u{e9}"),
            ("/%F0%9F%98%80", "/\u{1f600}"),
            ("/%ff", "/\u{fffd}"),
            ("/%c3%28", "/\u{fffd}("),
            ("/%c3(", "/\u{fffd}("),
            ("/%e2%82", "/\u{fffd}"),
            ("/%f0%9f%98x", "/\u{fffd}x"),
            ("/%ed%a0%80", "/\u{fffd}\u{fffd}\u{fffd}"),
            ("/%c0%af", "/\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(decode_path(raw.as_bytes()), path, "{raw}");
        }
        assert!(matches!(decode_path(b"/plain"), Cow::Borrowed(_)));
        assert!(matches!(decode_path(b"/100%"), Cow::Borrowed(_)));
    }
}
