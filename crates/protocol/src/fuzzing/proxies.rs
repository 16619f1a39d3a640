//! The invariants of what proxies say: nothing a client sends in front of a proxy's own word wins over
//! it, and a PROXY header ends in one place only, however it arrives.

use std::net::IpAddr;

use crate::forwarded::{Forwarded, ForwardedField, Forwarding, Trust};
use crate::http::Field;
use crate::http::grammar::is_value_byte;
use crate::proxy_header::{LONGEST, ProxyHeaderError, Versions, parse};

/// Who the proxy says has connected to it.
const CLIENT: &str = "192.0.2.1";

/// A client sends `claim` in every field there is; a proxy adds its own word in every way there is.
pub fn forwarded(claim: &[u8]) {
    let claim: Vec<u8> = claim.iter().copied().filter(|byte| is_value_byte(*byte)).collect();
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    let trust = Trust {
        unix: true,
        networks: networks.iter().filter_map(|text| text.parse().ok()).collect(),
        names: vec!["edge".to_owned()],
        ..Trust::default()
    };
    let only = |field| Forwarding { trust: trust.clone(), fields: vec![field] };
    let told = CLIENT.parse::<IpAddr>().ok().map(|address| (address, 0));

    // Whatever it is, it is no error, and what comes of it is well-formed.
    let everybody = Trust { everybody: true, ..Trust::default() };
    for field in FIELDS {
        let lines = [Field { name: field.name(), value: &claim }];
        for trust in [&trust, &everybody] {
            let forwarding = Forwarding { trust: trust.clone(), fields: vec![field] };
            check_form(forwarding.read(&lines));
        }
    }

    for (field, word) in [
        (ForwardedField::For, CLIENT),
        (ForwardedField::Standard, "for=192.0.2.1"),
        (ForwardedField::Standard, "for=\"192.0.2.1\";proto=https;host=\"a.org\""),
    ] {
        let forwarding = only(field);
        for behind in ["", ", 10.0.0.7", ", unix:", ", edge"] {
            let behind = match field {
                ForwardedField::Standard => {
                    behind.replace(", ", ", for=").replace("unix:", "\"unix:\"")
                }
                _ => behind.to_owned(),
            };
            let word = format!("{word}{behind}");
            let own_line = [
                Field { name: field.name(), value: &claim },
                Field { name: field.name(), value: word.as_bytes() },
            ];
            let client = forwarding.read(&own_line).and_then(|read| read.client);
            assert_eq!(client, told, "behind {}", claim.escape_ascii());

            let joined = [&claim[..], b", ", word.as_bytes()].concat();
            let joined = [Field { name: field.name(), value: &joined }];
            let client = forwarding.read(&joined).and_then(|read| read.client);
            // A quote that the client opens may hide the proxy's word, and then nobody is believed.
            let may_be_hidden = field == ForwardedField::Standard;
            let is_hidden = may_be_hidden && client.is_none();
            assert!(client == told || is_hidden, "{client:?} behind {}", claim.escape_ascii());
        }
    }

    for (field, word) in [
        (ForwardedField::Proto, "https"),
        (ForwardedField::Host, "a.org"),
        (ForwardedField::Prefix, "/api"),
    ] {
        let joined = [&claim[..], b",", word.as_bytes()].concat();
        let alone = [Field { name: field.name(), value: word.as_bytes() }];
        let forwarding = only(field);
        let expected = forwarding.read(&alone);
        assert!(expected.as_ref().is_some_and(|it| *it != Forwarded::default()));
        for value in [&joined[..], word.as_bytes()] {
            let lines =
                [Field { name: field.name(), value: &claim }, Field { name: field.name(), value }];
            assert_eq!(forwarding.read(&lines), expected, "behind {}", claim.escape_ascii());
        }
    }
}

const FIELDS: [ForwardedField; 5] = [
    ForwardedField::For,
    ForwardedField::Proto,
    ForwardedField::Host,
    ForwardedField::Prefix,
    ForwardedField::Standard,
];

/// What an application gets to see.
fn check_form(forwarded: Option<Forwarded<'_>>) {
    let Some(Forwarded { client, host, prefix, .. }) = forwarded else { return };
    if let Some((address, _)) = client {
        assert_eq!(address, address.to_canonical());
    }
    if let Some(host) = host {
        assert!(!host.is_empty());
        assert!(
            host.iter().all(
                |byte| byte.is_ascii_graphic() && !b"/?#@\\,\"".contains(byte) || *byte == b','
            )
        );
    }
    if let Some(prefix) = prefix {
        assert!(prefix.raw.is_empty() || prefix.raw.starts_with('/'));
        assert!(!prefix.raw.ends_with('/') && !prefix.path.starts_with("//"));
        assert!(prefix.raw.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// Reads a PROXY header from bytes that arrive one by one.
#[expect(clippy::panic, reason = "that is how a fuzz target fails")]
pub fn proxy_header(bytes: &[u8]) {
    for versions in [Versions::V1, Versions::V2, Versions::Both] {
        let whole = parse(bytes, versions);
        let decided = (0..=bytes.len())
            .find(|end| bytes.get(..*end).is_some_and(|piece| parse(piece, versions) != Ok(None)));
        match (whole, decided) {
            (Ok(None), None) => assert!(bytes.len() < LONGEST),
            (Ok(Some((_, length))), Some(end)) => {
                assert_eq!(length, end, "it was complete with {end} bytes");
                assert!(length <= LONGEST);
            }
            (Err(_), Some(_)) => {}
            other => panic!("{other:?}"),
        }
        // More bytes do not change what has been found.
        if let Some(piece) = decided.and_then(|end| bytes.get(..end)) {
            assert_eq!(parse(piece, versions), whole);
        }
    }
    let [one, two, both] = [Versions::V1, Versions::V2, Versions::Both].map(|it| parse(bytes, it));
    let missing = Err(ProxyHeaderError::Missing);
    if !bytes.is_empty() {
        assert!(one == missing || two == missing, "both versions");
        assert_eq!(both, if one == missing { two } else { one });
    }
}
