use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::UNIX_EPOCH;

use rsgi_protocol::http::response::{ResponseHead, ServerFields};
use rsgi_protocol::http::{Field, Target, TargetForm};

use super::*;
use crate::log_output::Timestamps;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn peer() -> ConnectionInfo {
    ConnectionInfo {
        client: Some(("127.0.0.1".to_owned(), 5000)),
        server: None,
        scheme: "http",
        tls: None,
        redirect: None,
        forwarding: None,
    }
}

fn stamp() -> Stamp {
    let time = UNIX_EPOCH + Duration::from_millis(1_795_876_955_123);
    Stamp { time, pid: 7, worker: Some(1) }
}

fn target<'a>(path: &'a [u8], query: &'a [u8]) -> Target<'a> {
    Target { form: TargetForm::Origin, path, query }
}

/// A request with these fields, as `log` sees it.
fn entry(
    log: &AccessLog,
    path: &[u8],
    query: &[u8],
    fields: &[(&str, &[u8])],
) -> Option<Box<Entry>> {
    let fields: Vec<Field<'_>> = fields.iter().map(|(name, value)| Field { name, value }).collect();
    log.enter(&Subject {
        method: "GET",
        target: &target(path, query),
        http_version: "1.1",
        fields: &fields,
        client: None,
    })
}

fn log(format: Format) -> AccessLog {
    let (_, writer) = std::io::pipe().unwrap();
    let sink = LogSink::to_stream(OwnedFd::from(writer), |_| {});
    AccessLog::new(Output::Lines(sink, format), AccessLogOptions::default())
}

fn text(colours: bool, stamped: bool) -> Format {
    Format::Text(TextStyle { colours, stamped })
}

/// The line of a response of 13 bytes after 1234.567 ms.
fn line(log: &AccessLog, entry: &Entry, status: u16) -> String {
    let peer = peer();
    let duration = Duration::from_micros(1_234_567);
    let record = AccessRecord { peer: &peer, entry, status, bytes: 13, duration };
    let Output::Lines(_, format) = &log.output else { panic!("it has no lines") };
    let (mut out, mut stamps) = (Vec::new(), Timestamps::default());
    match format {
        Format::Text(style) => {
            text::push_line(&mut out, &record, *style, stamp(), &mut stamps, 1000);
        }
        Format::Json => json::push_line(&mut out, &record, stamp(), &mut stamps, 1000),
        Format::Pattern(pattern) => {
            pattern.push_line(&mut out, &record, stamp(), &mut stamps, 1000);
        }
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_text_line_begins_as_uvicorns_and_cannot_be_forged() {
    let log = log(text(false, false));
    let table: [(&[u8], &[u8], u16, &str); 5] = [
        (b"/items", b"q=1", 200, "\"GET /items?q=1 HTTP/1.1\" 200 OK"),
        (b"/\"\n\\ ", b"", 404, "\"GET /\\x22\\x0a\\x5c\\x20 HTTP/1.1\" 404 Not Found"),
        (b"/\xff\x1b[31m", b"", 404, "\"GET /\\xff\\x1b[31m HTTP/1.1\" 404 Not Found"),
        (b"/", b"", 599, "\"GET / HTTP/1.1\" 599"),
        (b"/", b"", 101, "\"GET / HTTP/1.1\" 101 Switching Protocols"),
    ];
    for (path, query, status, expected) in table {
        let entry = entry(&log, path, query, &[]).unwrap();
        let expected = format!("INFO:     127.0.0.1:5000 - {expected} 1234.567ms 13B\n");
        assert_eq!(line(&log, &entry, status), expected);
    }
}

#[test]
fn what_a_text_line_tells_beside_uvicorns_is_behind_it() {
    let fields: &[(&str, &[u8])] = &[("X-Request-ID", b"abc-1")];
    let stamped = log(text(false, true));
    let with_id = entry(&stamped, b"/", b"", fields).unwrap();
    assert_eq!(
        line(&stamped, &with_id, 200),
        "INFO:     127.0.0.1:5000 - \"GET / HTTP/1.1\" 200 OK 1234.567ms 13B id=abc-1 \
         2026-11-28T14:42:35.123Z [7]\n"
    );
    let coloured = log(text(true, false));
    let plain = entry(&coloured, b"/", b"", &[]).unwrap();
    assert_eq!(
        line(&coloured, &plain, 200),
        "\x1b[32mINFO\x1b[0m:     127.0.0.1:5000 - \"\x1b[1mGET / HTTP/1.1\x1b[0m\" \
         \x1b[32m200 OK\x1b[0m \x1b[2m1234.567ms 13B\x1b[0m\n"
    );
}

#[test]
fn a_client_behind_a_proxy_is_named() {
    let log = log(text(false, false));
    for (client, expected) in [("192.0.2.1", "192.0.2.1:0"), ("2001:db8::1", "2001:db8::1:0")] {
        let client = Some((client.parse().unwrap(), 0));
        let target = target(b"/", b"");
        let subject =
            Subject { method: "GET", target: &target, http_version: "1.1", fields: &[], client };
        let entry = log.enter(&subject).unwrap();
        assert_eq!(
            line(&log, &entry, 200),
            format!("INFO:     {expected} - \"GET / HTTP/1.1\" 200 OK 1234.567ms 13B\n")
        );
    }
}

#[test]
fn a_websocket_is_accepted_or_has_a_status() {
    let log = log(text(false, false));
    for (status, end) in [(101, "[accepted]"), (403, "403"), (500, "500")] {
        let entry = entry(&log, b"/ws", b"a", &[]).unwrap().of_websocket();
        let expected =
            format!("INFO:     127.0.0.1:5000 - \"WebSocket /ws?a\" {end} 1234.567ms 13B\n");
        assert_eq!(line(&log, &entry, status), expected);
    }
}

#[test]
fn an_object_has_all_members_whatever_the_request_carries() {
    let log = log(Format::Json);
    let fields: &[(&str, &[u8])] =
        &[("x-request-id", b"abc"), ("traceparent", TRACEPARENT.as_bytes())];
    let entry1 = entry(&log, b"/a\"\n\xff\xc3\xa9", b"q=\\", fields).unwrap();
    assert_eq!(
        line(&log, &entry1, 200),
        format!(
            "{{\"time\":\"2026-11-28T14:42:35.123Z\",\"level\":\"info\",\"logger\":\"rsgi.access\",\
             \"pid\":7,\"worker\":1,\"peer\":\"127.0.0.1:5000\",\"method\":\"GET\",\
             \"path\":\"/a\\\"\\n\u{fffd}\u{e9}\",\"query\":\"q=\\\\\",\"http_version\":\"1.1\",\
             \"type\":\"http\",\"status\":200,\"duration\":1.234567,\"bytes\":13,\
             \"request_id\":\"abc\",\"traceparent\":\"{TRACEPARENT}\"}}\n"
        )
    );
    // Neither is taken from a client as it is, and a request without an id gets one.
    let fields: &[(&str, &[u8])] = &[("x-request-id", b"a\"b"), ("traceparent", b"\"}\n{\"")];
    let entry2 = entry(&log, b"/", b"", fields).unwrap();
    let id = entry2.request_id().unwrap().to_owned();
    assert_eq!(id.len(), request_id::LENGTH);
    let end = format!("\"request_id\":\"{id}\",\"traceparent\":null}}\n");
    assert!(line(&log, &entry2, 200).ends_with(&end));
}

#[test]
fn a_line_for_a_pipe_fits_into_one_write_whatever_the_client_sends() {
    let (path, query) = (b"\x01".repeat(8000), b"\"".repeat(8000));
    let id = b"x".repeat(128);
    let fields: &[(&str, &[u8])] =
        &[("x-request-id", &id), ("traceparent", TRACEPARENT.as_bytes())];
    for format in [Format::Json, text(true, true)] {
        let log = log(format);
        let entry = entry(&log, &path, &query, fields).unwrap();
        let line = line(&log, &entry, 200);
        assert!(line.len() < 4096, "{}", line.len());
        assert!(line.contains("..."), "{line}");
    }
}

#[test]
fn every_atom_is_filled_in() {
    let number = |number, precision, width, left| Conversion { width, left, precision, number };
    let plain = Conversion::default();
    let named = |name| PatternPart::Value(Atom::named(name).unwrap(), plain);
    let conversion = |name, conversion| PatternPart::Value(Atom::named(name).unwrap(), conversion);
    let table = [
        (named("h"), "127.0.0.1"),
        (named("addr"), "127.0.0.1:5000"),
        (named("l"), "-"),
        (named("u"), "us\\x22er"),
        (named("t"), "[28/Nov/2026:14:42:35 +0000]"),
        (named("time"), "2026-11-28T14:42:35.123Z"),
        (named("r"), "GET /a%20b?q=1 HTTP/1.1"),
        (named("R"), "GET /a%20b HTTP/1.1"),
        (named("m"), "GET"),
        (named("method"), "GET"),
        (named("U"), "/a%20b"),
        (named("path"), "/a%20b"),
        (named("q"), "q=1"),
        (named("query_string"), "q=1"),
        (named("Uq"), "/a%20b?q=1"),
        (named("H"), "HTTP/1.1"),
        (named("protocol"), "HTTP/1.1"),
        (named("S"), "http"),
        (named("scheme"), "http"),
        (named("s"), "201"),
        (named("status"), "201"),
        (named("st"), "Created"),
        (named("B"), "13"),
        (named("b"), "13"),
        (named("f"), "http://x/\\x22"),
        (named("a"), "an agent"),
        (named("T"), "1"),
        (named("D"), "1234567"),
        (named("M"), "1234"),
        (named("L"), "1.234567"),
        (named("dt_ms"), "1234.567000"),
        (named("p"), "<7>"),
        (named("worker"), "1"),
        (named("request_id"), "abc"),
        (named("traceparent"), TRACEPARENT),
        (PatternPart::RequestField("User-Agent".to_owned(), plain), "an agent"),
        (PatternPart::RequestField("missing".to_owned(), plain), "-"),
        (PatternPart::ResponseField("ETag".to_owned(), plain), "\\x22v1\\x22"),
        (PatternPart::ResponseField("content-length".to_owned(), plain), "13"),
        (PatternPart::ResponseField("server".to_owned(), plain), "rsgi"),
        (conversion("dt_ms", number(Number::Float, Some(1), 0, false)), "1234.6"),
        (conversion("dt_ms", number(Number::Integer, None, 0, false)), "1234"),
        (conversion("s", number(Number::Integer, None, 6, false)), "   201"),
        (conversion("s", number(Number::Natural, None, 6, true)), "201   "),
        (conversion("m", number(Number::Natural, Some(2), 0, false)), "GE"),
    ];
    let fields: &[(&str, &[u8])] = &[
        ("Authorization", b"Basic dXMiZXI6c2VjcmV0"),
        ("Referer", b"http://x/\""),
        ("User-Agent", b"an agent"),
        ("X-Request-Id", b"abc"),
        ("Traceparent", TRACEPARENT.as_bytes()),
    ];
    let mut head = ResponseHead::new(201).unwrap();
    head.push(b"etag", b"\"v1\"").unwrap();
    head.push(b"content-length", b"13").unwrap();
    let server = ServerFields { server: b"server: rsgi\r\n", ..ServerFields::default() };
    for (part, expected) in table {
        let shown = format!("{part:?}");
        let log = log(Format::Pattern(Pattern::new([part])));
        let mut entry = entry(&log, b"/a%20b", b"q=1", fields).unwrap();
        log.respond(&mut entry, &head, server);
        assert_eq!(line(&log, &entry, 201), format!("{expected}\n"), "{shown}");
    }
}

#[test]
fn what_is_missing_is_a_dash() {
    let parts = ["u", "f", "a", "traceparent"]
        .map(|name| PatternPart::Value(Atom::named(name).unwrap(), Conversion::default()));
    let log = log(Format::Pattern(Pattern::new(parts)));
    let fields: &[(&str, &[u8])] = &[("authorization", b"Bearer abc")];
    let entry = entry(&log, b"/", b"", fields).unwrap();
    assert_eq!(line(&log, &entry, 200), "----\n");
}

#[test]
fn a_format_that_is_an_object_is_escaped_as_one() {
    let agent = PatternPart::RequestField("user-agent".to_owned(), Conversion::default());
    let parts = [
        PatternPart::Text("{\"agent\": \"".to_owned()),
        agent,
        PatternPart::Text("\"}".to_owned()),
    ];
    let log = log(Format::Pattern(Pattern::new(parts)));
    let entry = entry(&log, b"/", b"", &[("user-agent", b"\"\n\xff")]).unwrap();
    assert_eq!(line(&log, &entry, 200), "{\"agent\": \"\\\"\\n\u{fffd}\"}\n");
}

/// Remembers the paths that it is told of.
#[derive(Default)]
struct Paths(Arc<Mutex<Vec<String>>>);

impl Records for Paths {
    fn record(&self, record: &AccessRecord<'_>) {
        let path = String::from_utf8_lossy(record.full_path()).into_owned();
        self.0.lock().unwrap().push(path);
    }
}

/// Remembers the statuses that it is told of.
#[derive(Default)]
struct Statuses(Arc<Mutex<Vec<u16>>>);

impl Records for Statuses {
    fn record(&self, record: &AccessRecord<'_>) {
        self.0.lock().unwrap().push(record.status());
    }
}

#[test]
fn excluded_paths_are_in_no_line() {
    let paths = Paths::default();
    let seen = Arc::clone(&paths.0);
    let exclude = ["/health*", "/metrics", "*.ico", "/v?/ping"].map(str::to_owned).to_vec();
    let options = AccessLogOptions { exclude, ..AccessLogOptions::default() };
    let log = AccessLog::new(Output::Records(Box::new(paths)), options);
    let logged = ["/", "/a/health", "/metrics/x", "/v12/ping", "/ico"];
    let excluded = ["/health", "/healthz/deep", "/metrics", "/favicon.ico", "/a/b.ico", "/v1/ping"];
    for path in logged.iter().chain(&excluded) {
        if let Some(entry) = entry(&log, path.as_bytes(), b"", &[]) {
            log.leave(&peer(), &entry, Ended::at_once(200, Instant::now()), || unreachable!());
        }
    }
    assert_eq!(*seen.lock().unwrap(), logged);
}

#[test]
fn a_request_without_a_response_has_the_status_of_whose_fault_that_is() {
    let statuses = Statuses::default();
    let seen = Arc::clone(&statuses.0);
    let log = AccessLog::new(Output::Records(Box::new(statuses)), AccessLogOptions::default());
    let entry = entry(&log, b"/", b"", &[]).unwrap();
    for status in [499, 503] {
        log.leave(&peer(), &entry, Ended::at_once(0, Instant::now()), || status);
    }
    assert_eq!(*seen.lock().unwrap(), [499, 503]);
}

#[test]
fn a_client_that_left_has_nginx_s_status_in_text_and_json() {
    for (format, expected) in [
        (
            Format::Text(TextStyle { colours: false, stamped: false }),
            "HTTP/1.1\" 499 Client Closed Request ",
        ),
        (Format::Json, "\"status\":499"),
    ] {
        let log = log(format);
        let entry = entry(&log, b"/", b"", &[]).unwrap();
        let line = line(&log, &entry, CLIENT_CLOSED_REQUEST);
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn nothing_is_remembered_of_a_request_that_nobody_wants_to_hear_of() {
    assert!(entry(&AccessLog::off(), b"/", b"", &[]).is_none());
    let options = AccessLogOptions { slow: Some(Duration::ZERO), ..AccessLogOptions::default() };
    let entry = entry(&AccessLog::new(Output::Off, options), b"/", b"", &[]).unwrap();
    assert!(entry.is_watched() && !entry.is_listed());
    assert!(entry.request_id().is_none());
}

#[test]
fn a_stream_of_events_is_not_slow() {
    let options = AccessLogOptions { slow: Some(Duration::ZERO), ..AccessLogOptions::default() };
    let log = AccessLog::new(Output::Off, options);
    for (content_type, is_watched) in [("text/html", true), ("Text/Event-Stream; a=b", false)] {
        let mut entry = entry(&log, b"/", b"", &[]).unwrap();
        let mut head = ResponseHead::new(200).unwrap();
        head.push(b"content-type", content_type.as_bytes()).unwrap();
        log.respond(&mut entry, &head, ServerFields::default());
        assert_eq!(entry.is_watched(), is_watched, "{content_type}");
    }
}
