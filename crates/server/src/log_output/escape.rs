//! Somebody else's text in a line of a log: nothing in it can end the line, its field, or the
//! terminal's patience.

use std::io::Write as _;

/// What an escaped byte looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// `\x22`; a space, too: for what stands between spaces.
    Word,
    /// `\x22`; spaces stay: for what stands in quotes.
    Quoted,
    /// As in a JSON string: valid UTF-8 stays readable, a byte that is not becomes U+FFFD.
    Json,
}

/// What stands for the rest of a text that is too long.
const CUT: &[u8] = b"...";

/// Appends `text`, and no more than about `limit` bytes for it.
pub fn push_escaped(out: &mut Vec<u8>, text: &[u8], escape: Escape, limit: usize) {
    if text.len() <= limit && text.iter().all(|byte| escape.keeps(*byte)) {
        out.extend_from_slice(text);
        return;
    }
    let end = out.len().saturating_add(limit);
    let is_whole = match escape {
        Escape::Word | Escape::Quoted => push_bytes(out, text, escape, end),
        Escape::Json => push_json(out, text, end),
    };
    if !is_whole {
        out.extend_from_slice(CUT);
    }
}

impl Escape {
    /// Whether a byte stands for itself, whatever is around it.
    fn keeps(self, byte: u8) -> bool {
        match byte {
            b'"' | b'\\' => false,
            b' ' => self != Self::Word,
            byte => byte.is_ascii_graphic(),
        }
    }
}

/// Returns whether everything had room.
fn push_bytes(out: &mut Vec<u8>, text: &[u8], escape: Escape, end: usize) -> bool {
    for byte in text {
        if out.len() >= end {
            return false;
        }
        if escape.keeps(*byte) {
            out.push(*byte);
        } else {
            // Writing to a vector cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    true
}

fn push_json(out: &mut Vec<u8>, text: &[u8], end: usize) -> bool {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            if out.len() >= end {
                return false;
            }
            push_json_char(out, character);
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    true
}

fn push_json_char(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        // What JavaScript takes for the end of a line, and what turns text round on a screen, are
        // legal in JSON and no use to anybody.
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        character if character.is_control() => {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        }
        character => {
            let mut buffer = [0; 4];
            out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &[u8], escape: Escape, limit: usize) -> String {
        let mut out = Vec::new();
        push_escaped(&mut out, text, escape, limit);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_ends_a_line_or_its_quotes() {
        let table: [(&[u8], &str, &str, &str); 8] = [
            (b"/items?q=1", "/items?q=1", "/items?q=1", "/items?q=1"),
            (b"a b", "a\\x20b", "a b", "a b"),
            (b"\"\\", "\\x22\\x5c", "\\x22\\x5c", "\\\"\\\\"),
            (b"\r\n\t\0", "\\x0d\\x0a\\x09\\x00", "\\x0d\\x0a\\x09\\x00", "\\r\\n\\t\\u0000"),
            (b"\x1b[31m\x7f", "\\x1b[31m\\x7f", "\\x1b[31m\\x7f", "\\u001b[31m\\u007f"),
            ("\u{e9}".as_bytes(), "\\xc3\\xa9", "\\xc3\\xa9", "\u{e9}"),
            (b"\xff\xc3(", "\\xff\\xc3(", "\\xff\\xc3(", "\u{fffd}\u{fffd}("),
            (
                "\u{85}\u{2028}\u{202e}".as_bytes(),
                "\\xc2\\x85\\xe2\\x80\\xa8\\xe2\\x80\\xae",
                "\\xc2\\x85\\xe2\\x80\\xa8\\xe2\\x80\\xae",
                "\\u0085\\u2028\\u202e",
            ),
        ];
        for (text, word, quoted, json) in table {
            assert_eq!(escaped(text, Escape::Word, 100), word, "{text:?}");
            assert_eq!(escaped(text, Escape::Quoted, 100), quoted, "{text:?}");
            assert_eq!(escaped(text, Escape::Json, 100), json, "{text:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_where_a_character_ends() {
        for (text, escape, expected) in [
            ("abcdefgh", Escape::Word, "abcd..."),
            ("abc\nef", Escape::Quoted, "abc\\x0a..."),
            ("ab\u{e9}\u{e9}\u{e9}", Escape::Json, "ab\u{e9}..."),
            ("abcd", Escape::Json, "abcd"),
        ] {
            assert_eq!(escaped(text.as_bytes(), escape, 4), expected);
        }
    }
}
