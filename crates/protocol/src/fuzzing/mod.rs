//! The invariants of this crate, as functions that panic where one does not hold.
//!
//! Owns: a reader that drives the engine as a connection does, and a second, naive reading of the
//! same bytes to compare with. The fuzz targets, the corpus and the properties all call these; no
//! server code does, and nothing here is API.

mod http2;
mod naive;
mod proxies;
mod websocket;

use crate::error::RequestError;
use crate::http::fields::FieldBlock;
use crate::http::{
    BodyFraming, ChunkDecoder, ChunkedLimits, HeadLimits, HeadScanner, RequestHead, TargetForm,
    Version, parse_head,
};
pub use http2::http2;
use naive::NaiveHead;
pub use proxies::{forwarded, proxy_header};
pub use websocket::{Frame, compression, read_frames, websocket};

/// A whole request, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadRequest {
    /// As in [`RequestHead`], like the ones below.
    pub method: String,
    /// The raw path.
    pub path: Vec<u8>,
    /// The query.
    pub query: Vec<u8>,
    /// The target's form.
    pub form: TargetForm,
    /// The version.
    pub version: Version,
    /// Names and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The framing.
    pub framing: BodyFraming,
    /// What the client wants besides.
    pub wishes: Wishes,
    /// The host that counts.
    pub host: Option<Vec<u8>>,
    /// The body, decoded.
    pub body: Vec<u8>,
    /// What came behind the request.
    pub rest: Vec<u8>,
}

/// What a head says about the connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wishes {
    /// Keep the connection.
    pub keep_alive: bool,
    /// Send `100 Continue`.
    pub expects_continue: bool,
    /// Trailers are welcome.
    pub accepts_trailers: bool,
    /// Change the protocol.
    pub upgrade: Option<Vec<u8>>,
}

/// What became of some bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reading {
    /// A request.
    Complete(Box<ReadRequest>),
    /// The request is still to be completed.
    Incomplete,
    /// No request.
    Refused(RequestError),
}

/// Reads one request from bytes that arrive in `parts`, as a connection would.
pub fn read_request<'a>(parts: impl IntoIterator<Item = &'a [u8]>, limits: &HeadLimits) -> Reading {
    let mut reader = Reader::default();
    for part in parts {
        reader.buffer.extend_from_slice(part);
        if let Err(error) = reader.advance(limits) {
            return Reading::Refused(error);
        }
    }
    match (reader.body, reader.request) {
        (Body::Complete, Some(mut request)) => {
            request.rest = reader.buffer;
            Reading::Complete(request)
        }
        _ => Reading::Incomplete,
    }
}

#[derive(Default)]
struct Reader {
    buffer: Vec<u8>,
    scanner: HeadScanner,
    request: Option<Box<ReadRequest>>,
    body: Body,
}

#[derive(Default)]
enum Body {
    #[default]
    NotYet,
    Length(u64),
    Chunked(ChunkDecoder),
    Complete,
}

impl Reader {
    fn advance(&mut self, limits: &HeadLimits) -> Result<(), RequestError> {
        if self.request.is_none() {
            let Some(end) = self.scanner.find_end(&self.buffer, limits)? else {
                return Ok(());
            };
            let head: Vec<u8> = self.buffer.drain(..end).collect();
            let request = parse_head(&head, limits, own)?;
            self.body = match request.framing {
                BodyFraming::Empty => Body::Complete,
                BodyFraming::Length(length) => Body::Length(length),
                BodyFraming::Chunked => Body::Chunked(ChunkDecoder::new(ChunkedLimits::default())),
            };
            self.request = Some(Box::new(request));
        }
        let Some(request) = &mut self.request else {
            return Ok(());
        };
        match &mut self.body {
            Body::Length(remaining) => {
                let here = usize::try_from(*remaining).unwrap_or(usize::MAX);
                let here = here.min(self.buffer.len());
                request.body.extend(self.buffer.drain(..here));
                *remaining = remaining.saturating_sub(here as u64);
                if *remaining == 0 {
                    self.body = Body::Complete;
                }
            }
            Body::Chunked(decoder) => {
                if take_chunks(decoder, &mut self.buffer, &mut request.body)? {
                    self.body = Body::Complete;
                }
            }
            Body::NotYet | Body::Complete => {}
        }
        Ok(())
    }
}

/// Moves all data that there is from `input` to `body`; true at the end of the body.
fn take_chunks(
    decoder: &mut ChunkDecoder,
    input: &mut Vec<u8>,
    body: &mut Vec<u8>,
) -> Result<bool, RequestError> {
    loop {
        let step = decoder.decode(input)?;
        assert!(
            step.consumed.saturating_add(step.data) <= input.len(),
            "a step goes past its input"
        );
        assert_eq!(step.done, decoder.is_done(), "step and decoder disagree on the end");
        input.drain(..step.consumed);
        body.extend(input.drain(..step.data));
        if step.done {
            return Ok(true);
        }
        if input.is_empty() {
            return Ok(false);
        }
        assert!(step.data > 0, "a step left input behind without reason");
    }
}

fn own(head: RequestHead<'_, '_>) -> ReadRequest {
    let owned_field =
        |field: &crate::http::Field<'_>| (field.name.to_owned(), field.value.to_vec());
    ReadRequest {
        method: head.method.to_owned(),
        path: head.target.path.to_vec(),
        query: head.target.query.to_vec(),
        form: head.target.form,
        version: head.version,
        fields: head.fields.iter().map(owned_field).collect(),
        framing: head.framing,
        wishes: Wishes {
            keep_alive: head.keep_alive,
            expects_continue: head.expects_continue,
            accepts_trailers: head.accepts_trailers,
            upgrade: head.upgrade.map(<[u8]>::to_vec),
        },
        host: head.host.map(<[u8]>::to_vec),
        body: Vec::new(),
        rest: Vec::new(),
    }
}

/// `bytes` mean the same at once and byte by byte, and whatever is accepted reads the same to
/// `httparse` alone and to a reader of fifty naive lines.
pub fn head(bytes: &[u8]) {
    let limits = HeadLimits { size: 2048, target: 512, fields: 32 };
    let whole = read_request([bytes], &limits);
    let dripped = read_request(bytes.chunks(1), &limits);
    assert_eq!(whole, dripped, "the reads made a difference");
    if let Ok(Some(end)) = HeadScanner::default().find_end(bytes, &limits) {
        let head = bytes.get(..end).unwrap_or_default();
        if let Ok(request) = parse_head(head, &limits, own) {
            compare_with_httparse(head, &request);
            compare_with_naive(head, &request);
        }
    }
    // What no scanner vouched for must not do harm either.
    if let Ok(request) = parse_head(bytes, &limits, own) {
        compare_with_naive(bytes, &request);
    }
}

fn compare_with_httparse(head: &[u8], ours: &ReadRequest) {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut theirs = httparse::Request::new(&mut fields);
    let complete = theirs.parse(head) == Ok(httparse::Status::Complete(head.len()));
    assert!(complete, "accepted what httparse refuses");
    assert_eq!(theirs.method, Some(ours.method.as_str()));
    assert_eq!(theirs.headers.len(), ours.fields.len());
}

fn compare_with_naive(head: &[u8], ours: &ReadRequest) {
    let naive = NaiveHead::read(head);
    assert!(naive.is_some(), "accepted what a strict reader refuses");
    let Some(naive) = naive else { return };
    assert_eq!(naive.method, ours.method.as_bytes());
    assert_eq!(naive.version, format!("HTTP/{}", ours.version.as_str()).as_bytes());
    assert_eq!(naive.fields.len(), ours.fields.len());
    for ((name, value), (our_name, our_value)) in naive.fields.iter().zip(&ours.fields) {
        assert_eq!((*name, *value), (our_name.as_bytes(), our_value.as_slice()));
    }
    let mut target = ours.path.clone();
    if naive.target.contains(&b'?') {
        target.push(b'?');
        target.extend_from_slice(&ours.query);
    }
    match ours.form {
        TargetForm::Origin | TargetForm::Asterisk => assert_eq!(naive.target, target),
        TargetForm::Absolute => assert!(
            naive.target.ends_with(&target)
                || naive.target.ends_with(target.get(1..).unwrap_or_default()),
            "an absolute target lost its path"
        ),
    }
    let lengths = naive.values_of(b"content-length");
    let codings = naive.values_of(b"transfer-encoding");
    let expected = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Some(BodyFraming::Empty),
        ([length], []) => str::from_utf8(length)
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .map(BodyFraming::Length),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Some(BodyFraming::Chunked),
        _ => None,
    };
    assert_eq!(expected, Some(ours.framing), "accepted doubtful framing");
    let hosts = naive.values_of(b"host").len();
    assert!(hosts <= 1 && (hosts == 1 || ours.version == Version::Http10));
}

/// A chunked body reads the same at once, byte by byte and in sevens, and, when it is accepted, has
/// the data that a naive reader finds.
pub fn chunked(bytes: &[u8]) {
    let whole = read_chunks([bytes]);
    for size in [1, 7] {
        assert_eq!(whole, read_chunks(bytes.chunks(size)), "the reads made a difference");
    }
    if let Ok(Some((body, length))) = whole {
        let read = bytes.get(..length).and_then(naive::read_chunks);
        assert_eq!(read, Some(body), "accepted what a strict reader reads otherwise");
    }
}

/// The body and how many bytes it took; `None` if it is not complete.
fn read_chunks<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Option<(Vec<u8>, usize)>, RequestError> {
    let limits = ChunkedLimits { extension: 32, trailers: 64, trailer_fields: 3 };
    let mut decoder = ChunkDecoder::new(limits);
    let (mut input, mut body, mut seen) = (Vec::new(), Vec::new(), 0_usize);
    for part in parts {
        input.extend_from_slice(part);
        seen = seen.saturating_add(part.len());
        if take_chunks(&mut decoder, &mut input, &mut body)? {
            return Ok(Some((body, seen.saturating_sub(input.len()))));
        }
    }
    Ok(None)
}

/// Whatever an application sends as fields, the block holds whole lines and nothing else.
pub fn response_fields(bytes: &[u8]) {
    let mut block = FieldBlock::default();
    let mut accepted = 0_usize;
    for pair in bytes.split(|&byte| byte == 0xff) {
        let mut parts = pair.splitn(2, |&byte| byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let before = block.as_wire().len();
        match block.push(name, value) {
            Ok(()) => accepted = accepted.saturating_add(1),
            Err(_) => assert_eq!(block.as_wire().len(), before, "a refused field left bytes"),
        }
    }
    let wire = block.as_wire();
    let count = |wanted: u8| memchr::memchr_iter(wanted, wire).count();
    assert_eq!((count(b'\r'), count(b'\n'), count(0)), (accepted, accepted, 0));
    assert_eq!(wire.windows(2).filter(|pair| *pair == b"\r\n").count(), accepted);
    assert_eq!(block.iter().count(), accepted);
    let whole = [b"HTTP/1.1 200 OK\r\n", wire, b"\r\n"].concat();
    let mut fields = vec![httparse::EMPTY_HEADER; accepted];
    let mut response = httparse::Response::new(&mut fields);
    let complete = response.parse(&whole) == Ok(httparse::Status::Complete(whole.len()));
    assert!(complete, "the block is not what a client can read");
}
