//! What must hold for all bytes, not only for those somebody thought of.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;

use rsgi_protocol::fuzzing::{self, ReadRequest, Reading, read_request};
use rsgi_protocol::http::{
    BodyFraming, ChunkDecoder, HeadLimits, HeadScanner, TargetForm, Version, decode_path,
    parse_head,
};

/// Bytes that are often nearly a request: the fragments where parsers disagree, in any order.
fn nearly_a_request() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        8 => prop::sample::select(FRAGMENTS).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(fragment, 0..16).prop_map(|fragments| fragments.concat())
}

/// A request as [`fuzzing::http2`] reads it, often a good one.
fn nearly_an_http2_request() -> impl Strategy<Value = Vec<u8>> {
    let methods = &["GET", "POST", "CONNECT", "OPTIONS", "x"];
    let paths = &["/", "/a%20b?c", "*", "//a/b", "/a?b?c", "a", "http://a/b"];
    let lines = &[
        ":authority: a",
        ":authority: a:80",
        ":authority: u@a",
        ":authority: [::1]:8000",
        ":protocol: websocket",
        ":protocol: WebSocket",
        ":protocol: connect-udp",
        "host: a",
        "host: a b",
        "cookie: a=1",
        "cookie: ",
        "expect: 100-continue",
        "x: 1",
        "x: 2",
    ];
    let (method, path) = (prop::sample::select(methods), prop::sample::select(paths));
    (method, path, vec(prop::sample::select(lines), 0..24)).prop_map(|(method, path, lines)| {
        [format!("{method} {path}"), lines.join("\n")].join("\n").into_bytes()
    })
}

const FRAGMENTS: &[&str] = &[
    "GET ",
    "POST ",
    "OPTIONS ",
    "/",
    "/a%20b?c",
    "*",
    "http://a",
    " HTTP/1.1\r\n",
    " HTTP/1.0\r\n",
    "GET / HTTP/1.1\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\n",
    "Host: a\r\n",
    "Host:\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Expect: 100-continue\r\n",
    "Connection: close\r\n",
    "TE: trailers\r\n",
    "Upgrade: websocket\r\nConnection: upgrade\r\n",
    "X: y\r\n",
    " folded\r\n",
    "\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    " ",
    "\t",
    "\r\n\r\n",
    "3\r\n",
    "abc\r\n",
    "0\r\n\r\n",
    "0\r\n",
    "3;a=\"b\"\r\nabc\r\n",
    "A: b\r\n",
    "\u{e9}",
];

fn token() -> impl Strategy<Value = String> {
    "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}"
}

/// A field that means nothing for the framing.
fn plain_field() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = token().prop_map(|name| format!("X{name}"));
    let value = vec(prop_oneof![b' '..=b'~', Just(b'\t'), 0x80..=0xff_u8], 0..20);
    (name, value.prop_map(|value| value.trim_ascii().to_vec()))
}

prop_compose! {
    fn request()(
        method in token().prop_filter("CONNECT has no meaning here", |method| method != "CONNECT"),
        path in "/[!-\"$->@-~]{0,20}",
        query in "[!-\"$-~]{0,20}",
        version in prop_oneof![Just(Version::Http10), Just(Version::Http11)],
        mut fields in vec(plain_field(), 0..6),
        body in prop::option::of((vec(any::<u8>(), 0..40), any::<bool>())),
        rest in vec(any::<u8>(), 0..10),
    ) -> (Vec<u8>, ReadRequest) {
        fields.push(("Host".to_owned(), b"a".to_vec()));
        let (framing, body, wire) = match body {
            None => (BodyFraming::Empty, Vec::new(), Vec::new()),
            Some((body, true)) if version == Version::Http11 => {
                fields.push(("Transfer-Encoding".to_owned(), b"chunked".to_vec()));
                let wire = chunks(&body, &[3, 1, 7]);
                (BodyFraming::Chunked, body, wire)
            }
            Some((body, _)) => {
                fields.push(("Content-Length".to_owned(), body.len().to_string().into_bytes()));
                (BodyFraming::Length(body.len() as u64), body.clone(), body)
            }
        };
        let mut bytes = format!("{method} {path}?{query} HTTP/{}\r\n", version.as_str()).into_bytes();
        for (name, value) in &fields {
            bytes.extend_from_slice(&[name.as_bytes(), b":", value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(&[b"\r\n", wire.as_slice(), &rest].concat());
        let expected = ReadRequest {
            method, path: path.into_bytes(), query: query.into_bytes(), form: TargetForm::Origin,
            version, fields, framing, host: Some(b"a".to_vec()), body, rest,
            wishes: fuzzing::Wishes {
                keep_alive: version == Version::Http11,
                expects_continue: false,
                accepts_trailers: false,
                upgrade: None,
            },
        };
        (bytes, expected)
    }
}

/// A chunked body, cut into chunks of the given sizes in turn.
fn chunks(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut wire = Vec::new();
    let (mut rest, mut sizes) = (body, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = rest.len().min(*sizes.next().unwrap());
        let (chunk, behind) = rest.split_at(size);
        wire.extend_from_slice(format!("{size:x}\r\n").as_bytes());
        wire.extend_from_slice(&[chunk, b"\r\n"].concat());
        rest = behind;
    }
    wire.extend_from_slice(b"0\r\n\r\n");
    wire
}

/// The request in wire form, as another server would pass it on.
fn serialise(request: &ReadRequest) -> Vec<u8> {
    let mut bytes = format!("{} ", request.method).into_bytes();
    if request.form == TargetForm::Absolute {
        bytes.extend_from_slice(&[b"http://", request.host.as_deref().unwrap()].concat());
    }
    bytes.extend_from_slice(&request.path);
    if !request.query.is_empty() {
        bytes.extend_from_slice(&[b"?", request.query.as_slice()].concat());
    }
    bytes.extend_from_slice(format!(" HTTP/{}\r\n", request.version.as_str()).as_bytes());
    for (name, value) in &request.fields {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    match request.framing {
        BodyFraming::Chunked => bytes.extend_from_slice(&chunks(&request.body, &[5])),
        BodyFraming::Empty | BodyFraming::Length(_) => bytes.extend_from_slice(&request.body),
    }
    bytes.extend_from_slice(&request.rest);
    bytes
}

proptest! {
    #[test]
    fn any_bytes_keep_the_invariants_of_the_head(bytes in nearly_a_request()) {
        fuzzing::head(&bytes);
    }

    #[test]
    fn any_request_keeps_the_invariants_of_http2(bytes in nearly_an_http2_request()) {
        fuzzing::http2(&bytes);
    }

    #[test]
    fn any_bytes_keep_the_invariants_of_chunks(bytes in nearly_a_request()) {
        fuzzing::chunked(&bytes);
    }

    #[test]
    fn any_bytes_keep_the_invariants_of_response_fields(bytes in vec(any::<u8>(), 0..100)) {
        fuzzing::response_fields(&bytes);
    }

    #[test]
    fn valid_requests_are_read_as_written((bytes, expected) in request()) {
        prop_assert_eq!(
            read_request([bytes.as_slice()], &HeadLimits::default()),
            Reading::Complete(Box::new(expected))
        );
    }

    #[test]
    fn a_valid_request_is_the_same_for_every_split((bytes, _) in request(), at in any::<prop::sample::Index>()) {
        let limits = HeadLimits::default();
        let whole = read_request([bytes.as_slice()], &limits);
        let (first, second) = bytes.split_at(at.index(bytes.len()));
        prop_assert_eq!(read_request([first, second], &limits), whole);
    }

    #[test]
    fn what_is_accepted_reads_the_same_when_passed_on(bytes in nearly_a_request()) {
        let limits = HeadLimits::default();
        if let Reading::Complete(request) = read_request([bytes.as_slice()], &limits) {
            let again = read_request([serialise(&request).as_slice()], &limits);
            prop_assert_eq!(again, Reading::Complete(request));
        }
    }

    #[test]
    fn one_changed_byte_never_panics((mut bytes, _) in request(), at in any::<prop::sample::Index>(), byte: u8) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fuzzing::head(&bytes);
    }

    #[test]
    fn parts_of_a_head_never_panic(bytes in nearly_a_request()) {
        let mut scanner = HeadScanner::default();
        for part in [&bytes[..], &bytes[..bytes.len() / 2], &[]] {
            let _: bool = scanner.has_started(part);
            let _ = scanner.find_end(part, &HeadLimits { size: 40, target: 4, fields: 2 });
            let _ = parse_head(part, &HeadLimits { size: 0, target: 0, fields: 0 }, |_| ());
            let _ = ChunkDecoder::default().decode(part);
        }
    }

    #[test]
    fn a_body_survives_being_chunked(body in vec(any::<u8>(), 0..200), sizes in vec(1..50_usize, 1..5)) {
        let wire = chunks(&body, &sizes);
        fuzzing::chunked(&wire);
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let Reading::Complete(request) = read_request([&head[..], &wire], &HeadLimits::default())
        else {
            return Err(TestCaseError::fail("not complete"));
        };
        prop_assert_eq!(request.body, body);
    }

    #[test]
    fn paths_without_escapes_decode_to_themselves(path in "/[ -$&-~]{0,30}") {
        prop_assert_eq!(decode_path(path.as_bytes()), path.as_str());
    }

    #[test]
    fn escaped_paths_decode_to_what_was_escaped(path: String) {
        let escapes: Vec<String> = path.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let raw = escapes.concat();
        prop_assert_eq!(decode_path(raw.as_bytes()), path);
    }
}
