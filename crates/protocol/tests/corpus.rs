//! Runs every request under `tests/requests/`, whole, cut in two at every byte, and byte by byte.
//!
//! `valid/NAME.http` is what `valid/NAME.toml` says; `invalid/NAME.http` is refused with the error
//! and status that `invalid/NAME.toml` names. The error `Incomplete` (status 0) means that the
//! request must never be taken for complete.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use rsgi_protocol::fuzzing::{self, ReadRequest, Reading, read_request};
use rsgi_protocol::http::{BodyFraming, HeadLimits, TargetForm};

#[derive(Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
struct Valid {
    method: String,
    path: String,
    query: String,
    version: String,
    #[serde(default = "origin")]
    form: String,
    host: Option<String>,
    /// Names and values as the client sent them; bytes outside ASCII as Latin-1.
    fields: Vec<(String, String)>,
    framing: String,
    body: String,
    keep_alive: bool,
    #[serde(default)]
    expects_continue: bool,
    #[serde(default)]
    accepts_trailers: bool,
    upgrade: Option<String>,
    /// What follows on the connection.
    #[serde(default)]
    rest: String,
}

fn origin() -> String {
    "origin".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invalid {
    error: String,
    status: u16,
}

fn directory(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/requests").join(kind)
}

/// The cases by name; a file without its partner is a mistake.
fn cases<T: for<'de> Deserialize<'de>>(kind: &str) -> BTreeMap<String, (Vec<u8>, T)> {
    let mut cases = BTreeMap::new();
    let mut files = 0;
    for entry in fs::read_dir(directory(kind)).unwrap() {
        let path = entry.unwrap().path();
        files += 1;
        if path.extension().is_some_and(|extension| extension == "http") {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = fs::read_to_string(path.with_extension("toml"))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let case = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            cases.insert(name, (fs::read(&path).unwrap(), case));
        }
    }
    assert_eq!(files, cases.len() * 2, "every NAME.http has a NAME.toml and the other way round");
    cases
}

fn read(parts: &[&[u8]]) -> Reading {
    read_request(parts.iter().copied(), &HeadLimits::default())
}

/// The reading of the whole; the same for every cut, or the case fails.
fn read_every_way(name: &str, bytes: &[u8]) -> Reading {
    let whole = read(&[bytes]);
    // The few large ones, which are about limits, are cut at fewer places.
    let stride = bytes.len() / 4096 * 7 + 1;
    for at in (0..=bytes.len()).step_by(stride) {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read(&[first, second]), whole, "{name} cut at {at}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(&single), whole, "{name} byte by byte");
    whole
}

fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn describe(request: &ReadRequest) -> Valid {
    Valid {
        method: request.method.clone(),
        path: latin_1(&request.path),
        query: latin_1(&request.query),
        version: request.version.as_str().to_owned(),
        form: match request.form {
            TargetForm::Origin => origin(),
            TargetForm::Absolute => "absolute".to_owned(),
            TargetForm::Asterisk => "asterisk".to_owned(),
        },
        host: request.host.as_deref().map(latin_1),
        fields: request.fields.iter().map(|(name, value)| (name.clone(), latin_1(value))).collect(),
        framing: match request.framing {
            BodyFraming::Empty => "empty".to_owned(),
            BodyFraming::Length(length) => format!("length {length}"),
            BodyFraming::Chunked => "chunked".to_owned(),
        },
        body: latin_1(&request.body),
        keep_alive: request.wishes.keep_alive,
        expects_continue: request.wishes.expects_continue,
        accepts_trailers: request.wishes.accepts_trailers,
        upgrade: request.wishes.upgrade.as_deref().map(latin_1),
        rest: latin_1(&request.rest),
    }
}

#[test]
fn valid_requests_are_read_as_described() {
    let cases = cases::<Valid>("valid");
    assert!(cases.len() >= 60, "only {} cases found", cases.len());
    for (name, (bytes, expected)) in cases {
        match read_every_way(&name, &bytes) {
            Reading::Complete(request) => assert_eq!(describe(&request), expected, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn invalid_requests_are_refused_for_the_named_reason() {
    let cases = cases::<Invalid>("invalid");
    assert!(cases.len() >= 110, "only {} cases found", cases.len());
    for (name, (bytes, expected)) in cases {
        let found = match read_every_way(&name, &bytes) {
            Reading::Refused(error) => (format!("{error:?}"), error.status()),
            Reading::Incomplete => ("Incomplete".to_owned(), 0),
            Reading::Complete(request) => panic!("{name} was accepted: {request:?}"),
        };
        assert_eq!(found, (expected.error, expected.status), "{name}");
    }
}

#[test]
fn the_corpus_keeps_the_invariants_of_the_fuzz_targets() {
    for kind in ["valid", "invalid"] {
        for entry in fs::read_dir(directory(kind)).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            fuzzing::head(&bytes);
            fuzzing::http2(&bytes);
            fuzzing::response_fields(&bytes);
            let body = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            fuzzing::chunked(body.map_or(&bytes, |at| &bytes[at + 4..]));
        }
    }
}
