//! One node of a chain: an address with or without a port, or something else (RFC 7239 section 6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who a proxy says has connected to it.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Node<'a> {
    /// The port is 0 where none is told.
    Address(IpAddr, u16),
    /// A client of a Unix socket, as nginx calls it.
    Unix,
    /// `unknown`, an obfuscated identifier, or nonsense.
    Name(&'a str),
}

impl<'a> Node<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        if text == "unix:" {
            return Node::Unix;
        }
        Self::address(text).unwrap_or(Node::Name(text))
    }

    fn address(text: &'a str) -> Option<Self> {
        let (address, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return None,
            };
            (IpAddr::from(address.parse::<Ipv6Addr>().ok()?), port)
        } else if let Ok(address) = text.parse::<IpAddr>() {
            (address, None)
        } else {
            let (address, port) = text.split_once(':')?;
            (IpAddr::from(address.parse::<Ipv4Addr>().ok()?), Some(port))
        };
        Some(Node::Address(address.to_canonical(), port.map_or(Some(0), port_of)?))
    }
}

/// A port that is hidden (`_x`) is one that is not told.
fn port_of(text: &str) -> Option<u16> {
    if text.starts_with('_') {
        return Some(0);
    }
    // Digits alone: `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_ports_or_not() {
        let table = [
            ("192.0.2.1", "192.0.2.1", 0),
            ("192.0.2.1:80", "192.0.2.1", 80),
            ("192.0.2.1:_hidden", "192.0.2.1", 0),
            ("2001:db8::1", "2001:db8::1", 0),
            ("[2001:db8::1]", "2001:db8::1", 0),
            ("[2001:DB8::1]:65535", "2001:db8::1", 65535),
            ("::ffff:192.0.2.1", "192.0.2.1", 0),
        ];
        for (text, address, port) in table {
            let expected = Node::Address(address.parse().unwrap(), port);
            assert_eq!(Node::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn everything_else_is_a_name() {
        assert_eq!(Node::parse("unix:"), Node::Unix);
        for text in [
            "",
            "unknown",
            "_gazonk",
            "192.0.2.256",
            "192.0.2.01",
            "192.0.2",
            "3221225985",
            "192.0.2.1:",
            "192.0.2.1:+80",
            "192.0.2.1:65536",
            "192.0.2.1:80:81",
            "192.0.2.1 ",
            "\"192.0.2.1\"",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "fe80::1%eth0",
            "unix:/run/app",
            "\u{661}92.0.2.1",
        ] {
            assert_eq!(Node::parse(text), Node::Name(text), "{text}");
        }
    }
}
