//! `uri-host [ ":" port ]` (RFC 9110 section 4.2, RFC 3986 section 3.2.2): Host and the authority
//! of an absolute target. User information is refused, as RFC 9110 section 4.2.4 asks.

use std::net::Ipv6Addr;

use memchr::memchr;

use super::grammar::is_name_byte;

/// Is this an authority with a host that is not empty?
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    if let [b'[', rest @ ..] = bytes {
        let closed = memchr(b']', rest).and_then(|at| rest.split_at_checked(at));
        return matches!(closed, Some((literal, [_bracket, port @ ..]))
            if is_ip_literal(literal) && is_port_suffix(port));
    }
    let end = memchr(b':', bytes).unwrap_or(bytes.len());
    bytes.split_at_checked(end).is_some_and(|(name, port)| is_name(name) && is_port_suffix(port))
}

/// Nothing, or a colon and a port. The port may be empty (`example.com:`).
fn is_port_suffix(bytes: &[u8]) -> bool {
    match bytes {
        [] | [b':'] => true,
        [b':', digits @ ..] => digits
            .iter()
            .try_fold(0_u16, |port, &digit| {
                let digit = digit.is_ascii_digit().then(|| u16::from(digit & 0x0f))?;
                port.checked_mul(10)?.checked_add(digit)
            })
            .is_some(),
        _ => false,
    }
}

fn is_name(mut bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    if bytes.iter().copied().all(is_name_byte) {
        return true;
    }
    loop {
        bytes = match bytes {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

/// What stands between brackets: an IPv6 address without zone, or a future version.
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = literal {
        let mut parts = rest.splitn(2, |&byte| byte == b'.');
        let version = parts.next().unwrap_or_default();
        let address = parts.next().unwrap_or_default();
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| is_name_byte(byte) || byte == b':');
    }
    str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port_are_told_from_nonsense() {
        for valid in [
            "example.com",
            "example.com:80",
            "example.com:",
            "127.0.0.1:8000",
            "[::1]",
            "[::1]:443",
            "[v1.fe80::a+en1]",
            "a_b.test",
            "ex%41mple",
            "localhost:65535",
            "a,b",
            "[2001:db8::1.2.3.4]",
        ] {
            assert!(is_authority(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "",
            ":80",
            "example.com:65536",
            "example.com:-1",
            "example.com:+1",
            "example.com:8a",
            "user@example.com",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "[::1",
            "::1",
            "[::1]x",
            "[]",
            "[fe80::1%25en0]",
            "[v.x]",
            "[v1.]",
            "ex%4mple",
            "ex%",
            "a:1:2",
            "\u{e9}.test",
            "[1.2.3.4]",
            "<a>",
            "a\0",
            "a\t",
            "example.com:99999999999999999999",
        ] {
            assert!(!is_authority(invalid.as_bytes()), "{invalid}");
        }
    }
}
