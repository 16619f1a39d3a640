//! Which byte may stand where: RFC 9110 section 5.6 and RFC 3986 section 2 as one table.

/// `tchar`: methods, field names, chunk extension names.
const TOKEN: u8 = 1;
/// `VCHAR`, obs-text, SP and HTAB: what a field value is made of.
const VALUE: u8 = 1 << 1;
/// `unreserved` and `sub-delims`: what a registered name is made of, besides `%XX`.
const NAME: u8 = 1 << 2;

static CLASSES: [u8; 256] = classes();

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "runs in the compiler, where both would be compile errors"
)]
const fn classes() -> [u8; 256] {
    const TOKEN_MARKS: &[u8] = b"!#$%&'*+-.^_`|~";
    const NAME_MARKS: &[u8] = b"-._~!$&'()*+,;=";
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        if byte == 0x09 || (byte >= 0x20 && byte != 0x7f) {
            table[byte] |= VALUE;
        }
        #[expect(clippy::cast_possible_truncation, reason = "`byte` is below 256")]
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] |= TOKEN | NAME;
        }
        byte += 1;
    }
    let mut mark = 0;
    while mark < TOKEN_MARKS.len() {
        table[TOKEN_MARKS[mark] as usize] |= TOKEN;
        mark += 1;
    }
    let mut mark = 0;
    while mark < NAME_MARKS.len() {
        table[NAME_MARKS[mark] as usize] |= NAME;
        mark += 1;
    }
    table
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|found| found & class != 0)
}

/// May `byte` be part of a token?
pub(crate) fn is_token_byte(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// Is this a token, that is, at least one `tchar` and nothing else?
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// May `byte` be part of a field value, including the white space inside it?
pub(crate) fn is_value_byte(byte: u8) -> bool {
    is(byte, VALUE)
}

/// May `byte` be part of a registered name, not counting `%`?
pub(crate) fn is_name_byte(byte: u8) -> bool {
    is(byte, NAME)
}

/// May `byte` be part of a request target? A visible ASCII character other than `#`; what a strict
/// URI would also refuse (`"`, `{`, `|` and the like) browsers do send, and means nothing here.
pub(crate) fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Optional white space around list members (RFC 9110 section 5.6.3).
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// The members of a comma-separated list, trimmed, empty ones included.
pub(crate) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|&byte| byte == b',').map(trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_bytes_are_those_of_rfc_9110() {
        let marks = b"!#$%&'*+-.^_`|~";
        for byte in 0..=255_u8 {
            let expected = byte.is_ascii_alphanumeric() || marks.contains(&byte);
            assert_eq!(is_token_byte(byte), expected, "{byte:#04x}");
        }
        assert!(!is_token(b"") && !is_token(b"a b") && is_token(b"X-1"));
    }

    #[test]
    fn value_bytes_are_everything_but_controls() {
        for byte in 0..=255_u8 {
            let expected = byte == b'\t' || !byte.is_ascii_control();
            assert_eq!(is_value_byte(byte), expected, "{byte:#04x}");
        }
    }

    #[test]
    fn lists_are_split_and_trimmed() {
        let found: Vec<&[u8]> = members(b" a,\tb c , ,d").collect();
        assert_eq!(found, [&b"a"[..], b"b c", b"", b"d"]);
    }
}
