use super::*;

fn trust(entries: &[&str]) -> Trust {
    let mut trust = Trust::default();
    for entry in entries {
        match *entry {
            "*" => trust.everybody = true,
            "unix:" => trust.unix = true,
            text => match text.parse() {
                Ok(network) => trust.networks.push(network),
                Err(_) => trust.names.push(text.to_owned()),
            },
        }
    }
    trust
}

const ALL: [ForwardedField; 5] = [
    ForwardedField::For,
    ForwardedField::Proto,
    ForwardedField::Host,
    ForwardedField::Prefix,
    ForwardedField::Standard,
];

/// The proxies of most tables.
const INNER: &[&str] = &["10.0.0.0/8", "2001:db8:f::/48"];

fn fields<'a>(lines: &[(&'a str, &'a str)]) -> Vec<Field<'a>> {
    lines.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect()
}

fn read<'a>(trusted: &[&str], lines: &[(&'a str, &'a str)]) -> Option<Forwarded<'a>> {
    Forwarding { trust: trust(trusted), fields: ALL.to_vec() }.read(&fields(lines))
}

/// The client of `X-Forwarded-For` or `Forwarded` lines, as text.
fn client(trusted: &[&str], name: &str, lines: &[&str]) -> Option<String> {
    let lines: Vec<_> = lines.iter().map(|value| (name, *value)).collect();
    let (address, port) = read(trusted, &lines)?.client?;
    Some(if port == 0 { address.to_string() } else { format!("{address} {port}") })
}

#[test]
fn names_are_known_by_their_length() {
    for known in ALL {
        let upper = known.name().to_ascii_uppercase();
        let field = Field { name: &upper, value: b"" };
        assert_eq!(ForwardedField::of(&field), Some(known), "{upper}");
    }
    assert_eq!(read(INNER, &[("host", "a"), ("x-requested-with", "1"), ("x-api-key", "2")]), None);
}

#[test]
fn the_right_most_address_that_is_not_trusted_is_the_client() {
    let table: &[(&[&str], &[&str], Option<&str>)] = &[
        (INNER, &["192.0.2.1"], Some("192.0.2.1")),
        (INNER, &["192.0.2.1:4711"], Some("192.0.2.1 4711")),
        (INNER, &[" 2001:db8::1\t"], Some("2001:db8::1")),
        (INNER, &["[2001:db8::1]:80"], Some("2001:db8::1 80")),
        (INNER, &["192.0.2.9, 192.0.2.1"], Some("192.0.2.1")),
        (INNER, &["192.0.2.9,192.0.2.1,10.0.0.1,10.9.9.9"], Some("192.0.2.1")),
        (INNER, &["192.0.2.1, 2001:db8:f::7"], Some("192.0.2.1")),
        // over several lines
        (INNER, &["192.0.2.9", "192.0.2.1"], Some("192.0.2.1")),
        (INNER, &["192.0.2.9, 192.0.2.1", "10.0.0.1"], Some("192.0.2.1")),
        // all of them are trusted
        (INNER, &["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
        (&["*"], &["192.0.2.1, 198.51.100.1"], Some("192.0.2.1")),
        // what is not an address ends the chain
        (INNER, &["192.0.2.9, unknown"], None),
        (INNER, &["192.0.2.9, unknown, 10.0.0.1"], Some("10.0.0.1")),
        (INNER, &["192.0.2.9, , 10.0.0.1"], Some("10.0.0.1")),
        (INNER, &["192.0.2.9,"], None),
        (INNER, &["192.0.2.9", ""], None),
        (INNER, &["192.0.2.9 192.0.2.1"], None),
        (INNER, &["192.0.2.9, \"192.0.2.1\""], None),
        (INNER, &["192.0.2.9, 192.0.2.1\u{e9}"], None),
        (&["*"], &["192.0.2.9, unknown, 192.0.2.1"], Some("192.0.2.1")),
        (INNER, &["192.0.2.9, unix:"], None),
        // unless somebody trusted is called that
        (&["unix:"], &["192.0.2.1, unix:"], Some("192.0.2.1")),
        (&["edge"], &["192.0.2.9, 192.0.2.1, edge"], Some("192.0.2.1")),
        (&["edge"], &["192.0.2.9, Edge"], None),
    ];
    for (trusted, lines, expected) in table {
        assert_eq!(
            client(trusted, "X-Forwarded-For", lines).as_deref(),
            *expected,
            "{lines:?} {trusted:?}"
        );
    }
}

#[test]
fn forwarded_is_read_by_the_same_rule() {
    let table: &[(&[&str], &[&str], Option<&str>)] = &[
        (INNER, &["for=192.0.2.1"], Some("192.0.2.1")),
        (INNER, &["for=\"192.0.2.1:80\""], Some("192.0.2.1 80")),
        (INNER, &["for=\"[2001:db8::1]:4711\""], Some("2001:db8::1 4711")),
        (INNER, &["for=192.0.2.9, for=192.0.2.1;proto=http, for=10.0.0.1"], Some("192.0.2.1")),
        (INNER, &["for=192.0.2.9", "for=192.0.2.1", "for=10.0.0.1"], Some("192.0.2.1")),
        (INNER, &["for=10.0.0.3, for=10.0.0.2"], Some("10.0.0.3")),
        (INNER, &["for=192.0.2.9, for=unknown"], None),
        (INNER, &["for=192.0.2.9, for=_hidden, for=10.0.0.1"], Some("10.0.0.1")),
        (INNER, &["for=192.0.2.9, proto=https"], None),
        (INNER, &["for=192.0.2.9, by=10.0.0.1, for=10.0.0.2"], Some("10.0.0.2")),
        (&["_edge"], &["for=192.0.2.1, for=_edge"], Some("192.0.2.1")),
        (&["*"], &["for=192.0.2.1, for=192.0.2.2"], Some("192.0.2.1")),
        // a line that is broken says nothing, and nor does what is left of it
        (INNER, &["for=192.0.2.9, for=192.0.2.1;"], Some("192.0.2.1")),
        (INNER, &["for=192.0.2.9, for=\"192.0.2.1"], None),
        (INNER, &["for=192.0.2.9", "for=192.0.2.8 for=10.0.0.1", "for=10.0.0.2"], Some("10.0.0.2")),
        (INNER, &["for=192.0.2.9;x=\", for=\"[2001:db8::1]\""], None),
        (INNER, &["for=\"192.0.2.9, for=192.0.2.1"], None),
        (INNER, &["for=192.0.2.9;x=\"", "for=192.0.2.1"], Some("192.0.2.1")),
    ];
    for (trusted, lines, expected) in table {
        assert_eq!(
            client(trusted, "Forwarded", lines).as_deref(),
            *expected,
            "{lines:?} {trusted:?}"
        );
    }
}

#[test]
fn schemes_are_http_or_https() {
    let table = [
        (&[("x-forwarded-proto", "https")] as &[_], Some(Scheme::Https)),
        (&[("x-forwarded-proto", "HTTP")], Some(Scheme::Http)),
        (&[("x-forwarded-proto", "wss")], Some(Scheme::Https)),
        (&[("x-forwarded-proto", "ws")], Some(Scheme::Http)),
        // the last is from the proxy that connected
        (&[("x-forwarded-proto", "https, http")], Some(Scheme::Http)),
        (&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")], Some(Scheme::Http)),
        (&[("x-forwarded-proto", "https,")], None),
        (&[("x-forwarded-proto", "")], None),
        (&[("x-forwarded-proto", "ftp")], None),
        (&[("x-forwarded-proto", "https://")], None),
        (&[("forwarded", "proto=https")], Some(Scheme::Https)),
        (&[("forwarded", "for=192.0.2.1;proto=\"https\"")], Some(Scheme::Https)),
        // from the one who saw the client
        (
            &[("forwarded", "proto=http;for=192.0.2.1, for=10.0.0.1;proto=https")],
            Some(Scheme::Http),
        ),
        (&[("forwarded", "proto=https, for=192.0.2.1;proto=http")], Some(Scheme::Http)),
        (&[("forwarded", "for=192.0.2.1, for=10.0.0.1;proto=https")], None),
    ];
    for (lines, expected) in table {
        let scheme = read(INNER, lines).expect("fields").scheme;
        assert_eq!(scheme, expected, "{lines:?}");
    }
}

#[test]
fn a_host_is_one_that_a_client_could_have_asked_for() {
    let table = [
        (&[("x-forwarded-host", "a.org")] as &[_], Some("a.org")),
        (&[("x-forwarded-host", "a.org:8443")], Some("a.org:8443")),
        (&[("x-forwarded-host", "evil.example, a.org")], Some("a.org")),
        (&[("x-forwarded-host", "evil.example"), ("x-forwarded-host", "a.org")], Some("a.org")),
        (&[("x-forwarded-host", "[::1]:80")], Some("[::1]:80")),
        (&[("x-forwarded-host", "a.org/b")], None),
        (&[("x-forwarded-host", "user@a.org")], None),
        (&[("x-forwarded-host", "a b")], None),
        (&[("x-forwarded-host", "")], None),
        (&[("forwarded", "host=a.org:81")], Some("a.org:81")),
        (&[("forwarded", r#"host="a.\org:81""#)], Some("a.org:81")),
        (&[("forwarded", "host=\"a.org/\"")], None),
        (&[("forwarded", "host=evil.example, host=a.org;for=192.0.2.1")], Some("a.org")),
    ];
    for (lines, expected) in table {
        let host = read(INNER, lines).expect("fields").host;
        let host = host.as_deref().map(|host| str::from_utf8(host).unwrap());
        assert_eq!(host, expected, "{lines:?}");
    }
}

#[test]
fn the_last_prefix_counts() {
    let lines = [("x-forwarded-prefix", "/evil, /api/"), ("forwarded", "for=192.0.2.1")];
    let forwarded = read(INNER, &lines).expect("fields");
    assert_eq!(forwarded.prefix.map(|prefix| prefix.raw), Some("/api"));
    assert!(forwarded.client.is_some());
}

#[test]
fn forwarded_speaks_for_itself() {
    let lines = [
        ("x-forwarded-for", "192.0.2.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=192.0.2.1"),
    ];
    let forwarded = read(INNER, &lines).expect("fields");
    assert_eq!(forwarded.client, Some(("192.0.2.1".parse().unwrap(), 0)));
    assert_eq!((forwarded.scheme, forwarded.host), (None, None));

    let broken = [("x-forwarded-for", "192.0.2.9"), ("forwarded", "for=\"")];
    assert_eq!(read(INNER, &broken), Some(Forwarded::default()));
}

#[test]
fn only_the_chosen_fields_are_read() {
    let lines = fields(&[
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "a.org"),
        ("forwarded", "for=192.0.2.9"),
    ]);
    let read = |chosen: &[ForwardedField]| {
        Forwarding { trust: trust(INNER), fields: chosen.to_vec() }.read(&lines)
    };
    let client = Some(("192.0.2.1".parse().unwrap(), 0));
    let expected = Forwarded { client, ..Forwarded::default() };
    assert_eq!(read(&[ForwardedField::For, ForwardedField::Proto]), Some(expected));
    assert_eq!(read(&[ForwardedField::Proto, ForwardedField::Prefix]), None);
    assert_eq!(read(&[]), None);
}
