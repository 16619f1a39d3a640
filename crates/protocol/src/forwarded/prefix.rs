//! `X-Forwarded-Prefix`: the start of a path that a proxy has taken off.

use std::borrow::Cow;

use crate::http::decode_path;

/// The start of a path: empty, or with a first `/` and no last one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prefix<'a> {
    /// As the proxy has written it, percent-encoded.
    pub raw: &'a str,
    /// Decoded.
    pub path: Cow<'a, str>,
}

impl<'a> Prefix<'a> {
    /// A prefix that can stand before any path. `//host` could not: in a link it is another host.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
        if !text.starts_with('/') || !text.bytes().all(is_plain) {
            return None;
        }
        let raw = text.trim_end_matches('/');
        let path = decode_path(raw.as_bytes());
        let is_safe = !path.starts_with("//")
            && path.chars().all(|character| !character.is_control() && character != '\\');
        is_safe.then_some(Self { raw, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_start_of_a_path() {
        let table = [
            ("/api", Some(("/api", "/api"))),
            ("/api/", Some(("/api", "/api"))),
            ("/a/b", Some(("/a/b", "/a/b"))),
            ("/caf%C3%A9", Some(("/caf%C3%A9", "/caf\u{e9}"))),
            ("/", Some(("", ""))),
            ("", None),
            ("api", None),
            ("//evil.example", None),
            ("/%2fevil.example", None),
            ("/%5cevil.example", None),
            ("/a\\b", None),
            ("/a b", None),
            ("/a?b", None),
            ("/a#b", None),
            ("/a%0ab", None),
            ("/caf\u{e9}", None),
            ("http://evil.example", None),
        ];
        for (text, expected) in table {
            let prefix = Prefix::parse(text);
            let prefix = prefix.as_ref().map(|prefix| (prefix.raw, &*prefix.path));
            assert_eq!(prefix, expected, "{text}");
        }
    }
}
