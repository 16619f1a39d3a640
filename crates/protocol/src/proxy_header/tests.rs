use super::*;

fn inet(source: &str, destination: &str) -> Endpoints {
    Endpoints::Inet { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A binary header.
fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [v2::SIGNATURE, &[0x20 | command, family], &length, content].concat()
}

/// Further information of a binary header.
fn information(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

const IPV4: &[u8] = &[192, 0, 2, 1, 203, 0, 113, 7, 0xdc, 0x04, 0x01, 0xbb];

fn ipv6() -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&address("2001:db8::1")[..], &address("2001:db8::2"), &[0xdc, 0x04, 0x01, 0xbb]].concat()
}

fn ipv4_ends() -> Endpoints {
    inet("192.0.2.1:56324", "203.0.113.7:443")
}

fn ipv6_ends() -> Endpoints {
    inet("[2001:db8::1]:56324", "[2001:db8::2]:443")
}

/// Headers that are right, and what they say.
fn valid() -> Vec<(Vec<u8>, Endpoints, bool)> {
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    let with = |address: &[u8], more: &[u8]| [address, more].concat();
    let ssl = |flags: u8| information(0x20, &[flags, 0, 0, 0, 0]);
    let aws = [information(0xea, b"\x01vpce-0"), information(0x04, &[0; 40])].concat();
    vec![
        (line("TCP4 192.0.2.1 203.0.113.7 56324 443"), ipv4_ends(), false),
        (
            line("TCP4 0.0.0.0 255.255.255.255 0 65535"),
            inet("0.0.0.0:0", "255.255.255.255:65535"),
            false,
        ),
        (line("TCP6 2001:db8::1 2001:DB8::2 56324 443"), ipv6_ends(), false),
        (line("TCP6 ::ffff:192.0.2.1 ::1 1 2"), inet("[::ffff:192.0.2.1]:1", "[::1]:2"), false),
        (line("UNKNOWN"), Endpoints::Unknown, false),
        (line("UNKNOWN whatever\0 \u{e9}"), Endpoints::Unknown, false),
        (line(&format!("UNKNOWN {}", "x".repeat(91))), Endpoints::Unknown, false),
        (binary(1, 0x11, IPV4), ipv4_ends(), false),
        (binary(1, 0x12, IPV4), ipv4_ends(), false),
        (binary(1, 0x21, &ipv6()), ipv6_ends(), false),
        (binary(1, 0x22, &with(&ipv6(), &aws)), ipv6_ends(), false),
        (binary(1, 0x11, &with(IPV4, &aws)), ipv4_ends(), false),
        (binary(1, 0x11, &with(IPV4, &ssl(1))), ipv4_ends(), true),
        (binary(1, 0x11, &with(IPV4, &ssl(7))), ipv4_ends(), true),
        (binary(1, 0x11, &with(IPV4, &ssl(6))), ipv4_ends(), false),
        (binary(1, 0x11, &with(IPV4, &[aws.clone(), ssl(1)].concat())), ipv4_ends(), true),
        (binary(1, 0x31, &[7; 216]), Endpoints::Unix, false),
        (binary(1, 0x31, &with(&[7; 216], &ssl(1))), Endpoints::Unix, true),
        (binary(1, 0x00, b""), Endpoints::Unknown, false),
        (binary(1, 0x00, b"anything"), Endpoints::Unknown, false),
        (binary(1, 0x10, IPV4), Endpoints::Unknown, false),
        (binary(0, 0x00, b""), Endpoints::Local, false),
        (binary(0, 0x11, IPV4), Endpoints::Local, false),
        (binary(0, 0xff, b"anything"), Endpoints::Local, false),
        (binary(1, 0x00, &vec![0; LONGEST - 16]), Endpoints::Unknown, false),
    ]
}

#[test]
fn headers_end_where_they_end() {
    for (bytes, endpoints, is_encrypted) in valid() {
        let expected = Ok(Some((ProxyHeader { endpoints, is_encrypted }, bytes.len())));
        assert_eq!(parse(&bytes, Versions::Both), expected, "{}", bytes.escape_ascii());
        let longer = [&bytes[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(parse(&longer, Versions::Both), expected, "{}", longer.escape_ascii());
    }
}

#[test]
fn a_header_may_come_in_any_pieces() {
    for (bytes, ..) in valid() {
        for length in 0..bytes.len() {
            let piece = &bytes[..length];
            assert_eq!(parse(piece, Versions::Both), Ok(None), "{}", piece.escape_ascii());
        }
    }
}

#[test]
fn a_version_is_spoken_or_not() {
    for (bytes, ..) in valid() {
        let is_line = bytes.starts_with(b"PROXY");
        let (right, wrong) =
            if is_line { (Versions::V1, Versions::V2) } else { (Versions::V2, Versions::V1) };
        assert_eq!(parse(&bytes, right), parse(&bytes, Versions::Both));
        for length in 1..bytes.len() {
            let piece = &bytes[..length];
            assert_eq!(parse(piece, wrong), Err(ProxyHeaderError::Missing), "{length}");
        }
    }
}

#[test]
fn lines_are_taken_to_the_letter() {
    for text in [
        "",
        "TCP4",
        "TCP4 ",
        "TCP4 192.0.2.1",
        "TCP4 192.0.2.1 203.0.113.7",
        "TCP4 192.0.2.1 203.0.113.7 56324",
        "TCP4 192.0.2.1 203.0.113.7 56324 443 ",
        "TCP4 192.0.2.1 203.0.113.7 56324 443 1",
        "TCP4  192.0.2.1 203.0.113.7 56324 443",
        " TCP4 192.0.2.1 203.0.113.7 56324 443",
        "TCP4 192.0.2.1\t203.0.113.7 56324 443",
        "TCP4 192.0.2.1 203.0.113.7 65536 443",
        "TCP4 192.0.2.1 203.0.113.7 056324 443",
        "TCP4 192.0.2.1 203.0.113.7 00 443",
        "TCP4 192.0.2.1 203.0.113.7 +1 443",
        "TCP4 192.0.2.1 203.0.113.7 -1 443",
        "TCP4 192.0.2.1 203.0.113.7  443",
        "TCP4 192.0.2.01 203.0.113.7 56324 443",
        "TCP4 192.0.2.256 203.0.113.7 56324 443",
        "TCP4 2001:db8::1 2001:db8::2 56324 443",
        "TCP6 192.0.2.1 203.0.113.7 56324 443",
        "TCP6 [2001:db8::1] [2001:db8::2] 56324 443",
        "TCP6 fe80::1%eth0 2001:db8::2 56324 443",
        "tcp4 192.0.2.1 203.0.113.7 56324 443",
        "UDP4 192.0.2.1 203.0.113.7 56324 443",
        "UNKNOWNX",
        "unknown",
        "TCP4 192.0.2.1 203.0.113.7 56324 443\r",
        "TCP4 192.0.2.1 203.0.113.7 \u{661} 443",
    ] {
        let bytes = format!("PROXY {text}\r\n");
        let read = parse(bytes.as_bytes(), Versions::Both);
        assert_eq!(read, Err(ProxyHeaderError::InvalidLine), "{}", bytes.escape_debug());
    }
    let without_return = b"PROXY TCP4 192.0.2.1 203.0.113.7 56324 443\n";
    assert_eq!(parse(without_return, Versions::Both), Err(ProxyHeaderError::InvalidLine));
}

#[test]
fn a_line_has_an_end() {
    let endless = format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes();
    for length in 0..107 {
        assert_eq!(parse(&endless[..length], Versions::V1), Ok(None), "{length}");
    }
    for length in 107..endless.len() {
        let read = parse(&endless[..length], Versions::V1);
        assert_eq!(read, Err(ProxyHeaderError::TooLong), "{length}");
    }
}

#[test]
fn binary_headers_are_taken_to_the_letter() {
    let with = |more: &[u8]| binary(1, 0x11, &[IPV4, more].concat());
    let mut version_1 = binary(1, 0x11, IPV4);
    version_1[12] = 0x11;
    let table = [
        ("an unknown command", binary(2, 0x11, IPV4)),
        ("another version", version_1),
        ("an unknown family", binary(1, 0x41, IPV4)),
        ("an unknown transport", binary(1, 0x13, IPV4)),
        ("no addresses", binary(1, 0x11, b"")),
        ("half an address", binary(1, 0x11, &IPV4[..11])),
        ("IPv4 for IPv6", binary(1, 0x21, IPV4)),
        ("half a path", binary(1, 0x31, &[0; 215])),
        ("a type alone", with(&[0x04])),
        ("half a length", with(&[0x04, 0])),
        ("a value that is too short", with(&[0x04, 0, 2, 0])),
        ("TLS without anything about it", with(&information(0x20, b""))),
    ];
    for (what, bytes) in table {
        let read = parse(&bytes, Versions::Both);
        assert_eq!(read, Err(ProxyHeaderError::InvalidBinary), "{what}");
    }
}

#[test]
fn a_binary_header_that_is_too_long_is_refused_before_it_comes() {
    let bytes = [v2::SIGNATURE, &[0x21, 0x11], &8177_u16.to_be_bytes()].concat();
    assert_eq!(parse(&bytes, Versions::Both), Err(ProxyHeaderError::TooLong));
}

#[test]
fn what_is_no_header_is_told_from_its_first_byte_on() {
    for text in
        ["G", "PROX ", "PROXX", "proxy ", "PROXY\t", "\r\n\r\n\r", "\n", "\x16\x03\x01", "PRI "]
    {
        let read = parse(text.as_bytes(), Versions::Both);
        assert_eq!(read, Err(ProxyHeaderError::Missing), "{}", text.escape_debug());
    }
    assert_eq!(parse(b"", Versions::Both), Ok(None));
    assert_eq!(parse(b"PRO", Versions::Both), Ok(None));
}
