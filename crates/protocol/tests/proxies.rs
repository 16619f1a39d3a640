//! What must hold for all that proxies, and clients behind them, can say.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use rsgi_protocol::fuzzing;
use rsgi_protocol::proxy_header::{Endpoints, ProxyHeader, Versions, parse};

/// Fragments where readers of lists and quotes disagree, in any order.
fn nearly_a_list() -> impl Strategy<Value = Vec<u8>> {
    let fragments = [
        "for=",
        "proto=",
        "host=",
        "by=",
        "\"",
        "\\",
        ",",
        ";",
        " ",
        "\t",
        "=",
        "[",
        "]",
        ":",
        "192.0.2.9",
        "10.0.0.1",
        "2001:db8::1",
        "unix:",
        "edge",
        "unknown",
        "_x",
        "https",
        "a.org",
        "/",
        "/api",
        "//",
        "%2f",
        "80",
        "for=\"[2001:db8::1]:80\"",
    ];
    let fragment = prop_oneof![
        8 => prop::sample::select(fragments.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(fragment, 0..16).prop_map(|fragments| fragments.concat())
}

fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    let fragments: [&[u8]; 20] = [
        b"PROXY ",
        b"TCP4 ",
        b"TCP6 ",
        b"UNKNOWN",
        b"192.0.2.1 ",
        b"::1 ",
        b"443 ",
        b"443",
        b"\r\n",
        b"\n",
        b" ",
        b"\r\n\r\n\0\r\nQUIT\n",
        b"\x21",
        b"\x20",
        b"\x11",
        b"\x00\x0c",
        b"\x00\x13",
        b"\0\0\0\0",
        b"\x20\x00\x05\x01\0\0\0\0",
        b"GET / HTTP/1.1\r\n",
    ];
    let fragment = prop_oneof![
        8 => prop::sample::select(fragments.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(fragment, 0..16).prop_map(|fragments| fragments.concat())
}

fn line(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(source: SocketAddr, destination: SocketAddr, is_encrypted: bool) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut content = [octets(source), octets(destination)].concat();
    content.extend(source.port().to_be_bytes());
    content.extend(destination.port().to_be_bytes());
    content.extend([0x20, 0, 5, u8::from(is_encrypted), 0, 0, 0, 0]);
    let family = if source.is_ipv4() { 0x11 } else { 0x21 };
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21", &[family][..], &length, &content].concat()
}

proptest! {
    #[test]
    fn a_client_cannot_speak_for_a_proxy(claim in nearly_a_list()) {
        fuzzing::forwarded(&claim);
    }

    #[test]
    fn a_header_has_one_end(bytes in nearly_a_header()) {
        fuzzing::proxy_header(&bytes);
    }

    #[test]
    fn what_a_proxy_writes_is_what_is_read(
        addresses in prop_oneof![
            any::<[[u8; 4]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
            any::<[[u8; 16]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
        ],
        ports in any::<[u16; 2]>(),
        is_encrypted: bool,
        behind in vec(any::<u8>(), 0..32),
    ) {
        let source = SocketAddr::new(addresses[0], ports[0]);
        let destination = SocketAddr::new(addresses[1], ports[1]);
        let endpoints = Endpoints::Inet { source, destination };
        let headers = [
            (line(source, destination), Versions::V1, false),
            (binary(source, destination, is_encrypted), Versions::V2, is_encrypted),
        ];
        for (header, versions, is_encrypted) in headers {
            let expected = Ok(Some((ProxyHeader { endpoints, is_encrypted }, header.len())));
            let stream = [&header[..], &behind].concat();
            prop_assert_eq!(parse(&stream, versions), expected);
            prop_assert_eq!(parse(&stream, Versions::Both), expected);
        }
    }
}
