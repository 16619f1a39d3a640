//! The grammar of `Forwarded` (RFC 7239 section 4).
//!
//! Less strict in one point than it says: an address with a port and a host with one are also taken
//! without quotes, because proxies write them so. No character that separates is affected.

use std::borrow::Cow;

use crate::http::grammar::is_token_byte;

/// What one proxy has written.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Element<'a> {
    /// `for`.
    pub(super) node: Option<Cow<'a, str>>,
    /// `proto`.
    pub(super) proto: Option<Cow<'a, str>>,
    /// `host`.
    pub(super) host: Option<Cow<'a, str>>,
}

/// The elements of one field, or nothing if it breaks the grammar anywhere.
pub(super) fn elements(value: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut rest = str::from_utf8(value).ok()?;
    let mut elements = vec![Element::default()];
    loop {
        rest = rest.trim_start_matches(super::WHITE_SPACE);
        let name_end = rest.bytes().position(|byte| !is_token_byte(byte)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at_checked(name_end)?;
        if !name.is_empty() {
            let (value, behind) = value_of(behind.strip_prefix('=')?)?;
            store(elements.last_mut()?, name, value)?;
            rest = behind.trim_start_matches(super::WHITE_SPACE);
        }
        let mut characters = rest.chars();
        match characters.next() {
            None => return Some(elements),
            Some(';') => {}
            Some(',') => elements.push(Element::default()),
            Some(_) => return None,
        }
        rest = characters.as_str();
    }
}

/// Keeps a parameter that has a meaning here. Each may stand once in an element.
fn store<'a>(element: &mut Element<'a>, name: &str, value: Cow<'a, str>) -> Option<()> {
    let is = |known| name.eq_ignore_ascii_case(known);
    let slot = if is("for") {
        &mut element.node
    } else if is("proto") {
        &mut element.proto
    } else if is("host") {
        &mut element.host
    } else {
        return Some(());
    };
    slot.replace(value).is_none().then_some(())
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return (!value.is_empty()).then_some((Cow::Borrowed(value), rest));
    };
    let mut unescaped: Option<String> = None;
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => {
                let value = unescaped.map_or_else(
                    || quoted.get(..at).map(Cow::Borrowed),
                    |text| Some(Cow::Owned(text)),
                )?;
                return Some((value, characters.as_str()));
            }
            '\\' => {
                let text = unescaped
                    .get_or_insert_with(|| quoted.get(..at).unwrap_or_default().to_owned());
                text.push(characters.next()?.1);
            }
            _ => {
                if let Some(text) = &mut unescaped {
                    text.push(character);
                }
            }
        }
    }
    None
}

fn is_plain(byte: u8) -> bool {
    is_token_byte(byte) || matches!(byte, b':' | b'[' | b']')
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row = (&'static str, &'static [[Option<&'static str>; 3]]);

    #[test]
    fn elements_are_told_apart() {
        let table: &[Row] = &[
            ("for=192.0.2.1", &[[Some("192.0.2.1"), None, None]]),
            ("For=\"[2001:db8::1]:80\"", &[[Some("[2001:db8::1]:80"), None, None]]),
            (
                "for=192.0.2.1;proto=http;by=203.0.113.43;host=a.org",
                &[[Some("192.0.2.1"), Some("http"), Some("a.org")]],
            ),
            ("for=a, for=b", &[[Some("a"), None, None], [Some("b"), None, None]]),
            ("for=a,for=b", &[[Some("a"), None, None], [Some("b"), None, None]]),
            (
                "for=a ; proto=https\t, for=b",
                &[[Some("a"), Some("https"), None], [Some("b"), None, None]],
            ),
            ("for=192.0.2.1:80;host=a.org:81", &[[Some("192.0.2.1:80"), None, Some("a.org:81")]]),
            (r#"for="a\"b\\c,d;e""#, &[[Some(r#"a"b\c,d;e"#), None, None]]),
            ("for=\"\"", &[[Some(""), None, None]]),
            ("", &[[None; 3]]),
            (" ", &[[None; 3]]),
            ("for=a,", &[[Some("a"), None, None], [None; 3]]),
            (";;for=a;", &[[Some("a"), None, None]]),
            ("secret=x;for=a", &[[Some("a"), None, None]]),
        ];
        for (text, expected) in table {
            let read = elements(text.as_bytes()).expect(text);
            let read: Vec<_> = read
                .iter()
                .map(|one| [one.node.as_deref(), one.proto.as_deref(), one.host.as_deref()])
                .collect();
            assert_eq!(&read, expected, "{text}");
        }
    }

    #[test]
    fn a_broken_field_has_none() {
        for text in [
            "for",
            "for=",
            "=a",
            "for =a",
            "for= a",
            "for=a b",
            "for=\"a",
            "for=\"a\\",
            "for=\"a\"b",
            "for=\"a\"\"b\"",
            "for=a;for=b",
            "for=a;FOR=a",
            "proto=http;proto=https",
            "for=a/b",
            "for=\u{e9}",
            "for=a\r\n",
            "for=\"x, for=192.0.2.1;proto=https",
            "a=\", for=\"[2001:db8::1]\"",
        ] {
            assert_eq!(elements(text.as_bytes()), None, "{text}");
        }
        assert_eq!(elements(b"for=\xff"), None);
    }
}
