use super::*;

#[track_caller]
fn with_head<R>(
    text: &str,
    then: impl FnOnce(RequestHead<'_, '_>) -> R,
) -> Result<R, RequestError> {
    parse_head(text.as_bytes(), &HeadLimits::default(), then)
}

fn fault(text: &str) -> Option<RequestError> {
    with_head(text, |_| ()).err()
}

fn with_fields(version: &str, fields: &str) -> String {
    format!("POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_head_is_read_as_sent() {
    let text = "PaTch /a%20b?c=d HTTP/1.1\r\nHoST:  a \r\nX:\t1\t2 \r\nEmpty:\r\n\r\n";
    with_head(text, |head| {
        assert_eq!((head.method, head.version), ("PaTch", Version::Http11));
        assert_eq!((head.target.path, head.target.query), (&b"/a%20b"[..], &b"c=d"[..]));
        let fields: Vec<_> = head.fields.iter().map(|field| (field.name, field.value)).collect();
        let expected: [(&str, &[u8]); 3] = [("HoST", b"a"), ("X", b"1\t2"), ("Empty", b"")];
        assert_eq!(fields, expected);
        assert_eq!(head.framing, BodyFraming::Empty);
        assert_eq!(head.host, Some(&b"a"[..]));
    })
    .unwrap();
}

#[test]
fn connections_are_kept_as_the_version_and_connection_say() {
    for (version, fields, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let text = with_fields(version, fields);
        assert_eq!(with_head(&text, |head| head.keep_alive), Ok(kept), "{text}");
    }
}

#[test]
fn continue_is_expected_only_where_it_makes_sense() {
    for (version, fields, outcome) in [
        ("1.1", "Expect: 100-continue\r\nContent-Length: 1\r\n", Ok(true)),
        ("1.1", "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n", Ok(true)),
        ("1.1", "Expect: 100-continue\r\nContent-Length: 0\r\n", Ok(false)),
        ("1.1", "Expect: 100-continue\r\n", Ok(false)),
        ("1.1", "Expect: a\r\n", Err(RequestError::InvalidExpectation)),
        ("1.1", "Expect: a\r\nExpect: 100-continue\r\n", Err(RequestError::InvalidExpectation)),
        ("1.1", "Expect:\r\n", Err(RequestError::InvalidExpectation)),
        ("1.0", "Expect: 100-continue\r\nContent-Length: 1\r\n", Ok(false)),
        ("1.0", "Expect: a\r\n", Ok(false)),
    ] {
        let text = with_fields(version, fields);
        assert_eq!(with_head(&text, |head| head.expects_continue), outcome, "{text}");
    }
}

#[test]
fn an_upgrade_needs_connection_and_http_1_1() {
    for (version, fields, upgrade) in [
        ("1.1", "Upgrade: websocket\r\nConnection: Upgrade\r\n", Some("websocket")),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: a, b\r\n", Some("a, b")),
        ("1.1", "Upgrade: a\r\nUpgrade: b\r\nConnection: upgrade\r\n", Some("a")),
        ("1.1", "Upgrade: websocket\r\n", None),
        ("1.1", "Connection: upgrade\r\n", None),
        ("1.0", "Upgrade: websocket\r\nConnection: Upgrade\r\n", None),
    ] {
        let text = with_fields(version, fields);
        let found = with_head(&text, |head| head.upgrade.map(<[u8]>::to_vec));
        assert_eq!(found, Ok(upgrade.map(|value| value.as_bytes().to_vec())), "{text}");
    }
}

#[test]
fn trailers_are_welcome_if_te_says_so() {
    for (fields, welcome) in [
        ("TE: trailers\r\n", true),
        ("te: gzip, Trailers\r\n", true),
        ("TE: trailers\r\nTE: gzip\r\n", true),
        ("TE: gzip\r\n", false),
    ] {
        let text = with_fields("1.1", fields);
        assert_eq!(with_head(&text, |head| head.accepts_trailers), Ok(welcome), "{text}");
    }
}

#[test]
fn hosts_are_checked_against_version_and_target() {
    use RequestError::{DuplicateHost, InvalidHost, MissingHost};
    for (text, reason) in [
        ("GET / HTTP/1.1\r\n\r\n", Some(MissingHost)),
        ("GET / HTTP/1.0\r\n\r\n", None),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", None),
        ("GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", Some(InvalidHost)),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Some(MissingHost)),
        ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", None),
        ("GET / HTTP/1.0\r\nHost: a\r\nHOST: a\r\n\r\n", Some(DuplicateHost)),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Some(InvalidHost)),
    ] {
        assert_eq!(fault(text), reason, "{text}");
    }
    let absolute = "GET http://a:1/ HTTP/1.1\r\nHost: b\r\n\r\n";
    with_head(absolute, |head| assert_eq!(head.host, Some(&b"a:1"[..]))).unwrap();
}

#[test]
fn the_first_fault_is_named() {
    use RequestError as E;
    for (text, reason) in [
        ("GET /\r\n\r\n", E::InvalidVersion),
        ("GET / HTTP/0.9\r\n\r\n", E::InvalidVersion),
        ("GET / http/1.1\r\n\r\n", E::InvalidVersion),
        ("GET / HTTP/1.1 \r\n\r\n", E::InvalidVersion),
        ("GET / HTTP/1.2\r\n\r\n", E::UnsupportedVersion),
        ("PRI * HTTP/2.0\r\n\r\n", E::UnsupportedVersion),
        ("G(T / HTTP/1.1\r\n\r\n", E::InvalidMethod),
        ("GET  / HTTP/1.1\r\n\r\n", E::InvalidTarget),
        ("GET /\x7f HTTP/1.1\r\n\r\n", E::InvalidTarget),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", E::BareLf),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", E::BareLf),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", E::BareLf),
        ("GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", E::BareCr),
        ("GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", E::ObsFold),
        ("GET / HTTP/1.1\r\nA : b\r\n\r\n", E::WhitespaceBeforeColon),
        ("GET / HTTP/1.1\r\nA b: c\r\n\r\n", E::InvalidFieldName),
        ("GET / HTTP/1.1\r\nA\r\n\r\n", E::InvalidFieldName),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", E::InvalidFieldName),
        ("GET / HTTP/1.1\r\nA: \0\r\n\r\n", E::InvalidFieldValue),
        ("GET / HTTP/1.1\r\nHost: a\r\n", E::IncompleteHead),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\nx", E::IncompleteHead),
        ("", E::IncompleteHead),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", E::MethodNotImplemented),
    ] {
        assert_eq!(fault(text), Some(reason), "{text:?}");
    }
}

#[test]
fn field_bytes_are_those_of_the_grammar() {
    for byte in 0..=255_u8 {
        let name = [b"GET / HTTP/1.1\r\nHost: a\r\nx", &[byte][..], b"x: y\r\n\r\n"].concat();
        let token = crate::http::grammar::is_token_byte(byte) || byte == b':';
        let read = parse_head(&name, &HeadLimits::default(), |_| ());
        assert_eq!(read.is_ok(), token, "{byte:#04x} in a name");
        let value = [b"GET / HTTP/1.1\r\nHost: a\r\nx: y", &[byte][..], b"y\r\n\r\n"].concat();
        let read = parse_head(&value, &HeadLimits::default(), |_| ());
        let allowed = crate::http::grammar::is_value_byte(byte);
        assert_eq!(read.is_ok(), allowed, "{byte:#04x} in a value");
    }
}

#[test]
fn fields_are_counted() {
    let head = |count: usize| {
        let fields = "A: b\r\n".repeat(count.saturating_sub(1));
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    for limit in [3, 128, 129, MAX_FIELDS] {
        let limits = HeadLimits { fields: limit, ..HeadLimits::default() };
        let count = |text: String| parse_head(text.as_bytes(), &limits, |head| head.fields.len());
        assert_eq!(count(head(limit)), Ok(limit));
        assert_eq!(count(head(limit.saturating_add(1))), Err(RequestError::TooManyFields));
    }
    let endless = HeadLimits { fields: usize::MAX, ..HeadLimits::default() };
    let text = head(MAX_FIELDS.saturating_add(1));
    let read = parse_head(text.as_bytes(), &endless, |_| ());
    assert_eq!(read, Err(RequestError::TooManyFields), "the most there can be");
}
