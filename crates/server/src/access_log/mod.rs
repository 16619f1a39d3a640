//! The access log: one line a response, as text in uvicorn's wording, as JSON, in the user's own
//! format, or as records for somebody else's logging; and one warning for a slow request.
//!
//! Owns which requests are logged and what is told about them. Lines are formatted here, by the
//! loop's thread, and leave in batches: when the loop is about to sleep, but not more often than each
//! few milliseconds, or when enough have gathered. Where they go and what happens if nobody reads them is [`LogSink`]'s.

mod entry;
mod json;
mod pattern;
mod request_id;
mod slow;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::future::pending;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use wildmatch::WildMatch;

pub(crate) use self::entry::{Entry, Subject};
pub use self::pattern::{Atom, Conversion, Number, Pattern, PatternPart};
pub use self::text::TextStyle;
use crate::log_output::{LogSink, Trouble, push_three};
use crate::service::ConnectionInfo;

/// Which requests are logged, and how.
#[derive(Debug)]
pub struct AccessLog {
    output: Output,
    capture: Capture,
    excluded: Vec<WildMatch>,
    worker: Option<u32>,
    pid: u32,
    ids: request_id::Source,
    /// Whether any request is of interest.
    is_on: bool,
}

/// What is wanted of the access log.
#[derive(Debug, Default)]
pub struct AccessLogOptions {
    /// Paths that are not logged: `*` is any text, `?` any character.
    pub exclude: Vec<String>,
    /// From which duration on there is a warning.
    pub slow: Option<Duration>,
    /// The worker's number.
    pub worker: Option<u32>,
}

/// Where the lines go.
pub enum Output {
    /// Nowhere.
    Off,
    /// To a stream or a file.
    Lines(LogSink, Format),
    /// To somebody who makes something else of them.
    Records(Box<dyn Records>),
}

/// What a line looks like.
#[derive(Debug)]
pub enum Format {
    /// Text in uvicorn's wording.
    Text(TextStyle),
    /// An object.
    Json,
    /// The user's own.
    Pattern(Pattern),
}

/// Takes what would become a line. Called on the loop's thread for every request.
pub trait Records: Send + Sync {
    /// A response has ended.
    fn record(&self, record: &AccessRecord<'_>);
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("Off"),
            Self::Lines(sink, format) => f.debug_tuple("Lines").field(sink).field(format).finish(),
            Self::Records(_) => f.write_str("Records"),
        }
    }
}

/// What has to be taken from a request's head.
#[derive(Debug)]
struct Capture {
    ids: Ids,
    traceparent: bool,
    request_fields: Vec<Box<str>>,
    response_fields: Vec<Box<str>>,
    slow: Option<Duration>,
}

/// Which requests have an id in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    No,
    /// Those that came with one.
    Received,
    /// All.
    Always,
}

/// When and by whom a line is written.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    time: SystemTime,
    pid: u32,
    worker: Option<u32>,
}

/// The status of a request whose client left before there was a response: nobody has seen it, and it
/// is nginx's, which is what operators look for.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// The phrase of a status in a line.
fn phrase(status: u16) -> Option<&'static str> {
    if status == CLIENT_CLOSED_REQUEST {
        return Some("Client Closed Request");
    }
    rsgi_protocol::http::response::reason_phrase(status)
}

/// What one line tells.
#[derive(Debug, Clone, Copy)]
pub struct AccessRecord<'a> {
    peer: &'a ConnectionInfo,
    entry: &'a Entry,
    /// 0 where there was none.
    status: u16,
    bytes: u64,
    duration: Duration,
}

/// How a response ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) started: Instant,
    pub(crate) now: Instant,
}

impl Ended {
    /// Answered by the server, without a word from the application.
    pub(crate) fn at_once(status: u16, now: Instant) -> Self {
        Self { status, bytes: 0, started: now, now }
    }
}

impl AccessLog {
    /// An access log with this output.
    pub fn new(output: Output, options: AccessLogOptions) -> Self {
        let mut capture = Capture {
            ids: Ids::No,
            traceparent: false,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            slow: options.slow,
        };
        match &output {
            Output::Off => {}
            Output::Lines(_, Format::Text(_)) => capture.ids = Ids::Received,
            Output::Lines(_, Format::Json) | Output::Records(_) => {
                capture.ids = Ids::Always;
                capture.traceparent = true;
            }
            Output::Lines(_, Format::Pattern(pattern)) => {
                capture.request_fields.clone_from(&pattern.request_fields);
                capture.response_fields.clone_from(&pattern.response_fields);
                capture.traceparent = pattern.names(Atom::Traceparent);
                if pattern.names(Atom::RequestId) {
                    capture.ids = Ids::Always;
                } else if capture.traceparent {
                    capture.ids = Ids::Received;
                }
            }
        }
        Self {
            is_on: !matches!(output, Output::Off) || options.slow.is_some(),
            output,
            capture,
            excluded: options.exclude.iter().map(|glob| WildMatch::new(glob)).collect(),
            worker: options.worker,
            pid: std::process::id(),
            ids: request_id::Source::new(),
        }
    }

    /// No access log.
    pub fn off() -> Self {
        Self::new(Output::Off, AccessLogOptions::default())
    }

    /// Opens the file anew, if it is one.
    pub fn reopen(&self) -> io::Result<()> {
        match &self.output {
            Output::Lines(sink, _) => sink.reopen(),
            Output::Off | Output::Records(_) => Ok(()),
        }
    }

    /// Writes what has gathered, as far as the reader takes it without blocking; what comes right
    /// after a write is left to [`Self::write_gathered`]. Call before the loop goes to sleep.
    pub fn flush(&self) {
        if let Output::Lines(sink, _) = &self.output {
            sink.flush_or_gather();
        }
    }

    /// Writes what [`Self::flush`] leaves, a few milliseconds later. Never ends.
    pub async fn write_gathered(&self) {
        match &self.output {
            Output::Lines(sink, _) => sink.write_gathered().await,
            Output::Off | Output::Records(_) => pending().await,
        }
    }

    /// Writes the last lines; waits a moment for a slow reader.
    pub fn close(&self) {
        if let Output::Lines(sink, _) = &self.output {
            sink.close();
        }
    }

    /// What is to be remembered of a request; `None` if nobody wants to hear of it.
    pub(crate) fn enter(&self, subject: &Subject<'_>) -> Option<Box<Entry>> {
        if !self.is_on {
            return None;
        }
        let is_listed = !matches!(self.output, Output::Off) && !self.excludes(subject.target.path);
        if !is_listed && self.capture.slow.is_none() {
            return None;
        }
        Some(Box::new(Entry::new(subject, &self.capture, || self.ids.next(), is_listed)))
    }

    fn excludes(&self, path: &[u8]) -> bool {
        if self.excluded.is_empty() {
            return false;
        }
        let path = String::from_utf8_lossy(path);
        self.excluded.iter().any(|glob| glob.matches(&path))
    }

    /// A response begins.
    pub(crate) fn respond(
        &self,
        entry: &mut Entry,
        head: &rsgi_protocol::http::response::ResponseHead,
        server: rsgi_protocol::http::response::ServerFields<'_>,
    ) {
        entry.respond(head, server, &self.capture);
    }

    /// A request is over; without a response, it is logged with the status `unanswered`.
    pub(crate) fn leave(
        &self,
        peer: &ConnectionInfo,
        entry: &Entry,
        ended: Ended,
        unanswered: impl FnOnce() -> u16,
    ) {
        let duration = ended.now.saturating_duration_since(ended.started);
        let Ended { status, bytes, .. } = ended;
        let record = AccessRecord { peer, entry, status, bytes, duration };
        if entry.is_listed() {
            let status = if status == 0 { unanswered() } else { status };
            self.write(&AccessRecord { status, ..record });
        }
        if entry.is_watched() && self.capture.slow.is_some_and(|limit| duration >= limit) {
            slow::warn(&record, ended.started);
        }
    }

    fn write(&self, record: &AccessRecord<'_>) {
        match &self.output {
            Output::Off => {}
            Output::Records(records) => records.record(record),
            Output::Lines(sink, format) => {
                let limit = sink.value_limit();
                sink.append(|out, stamps| {
                    let stamp =
                        Stamp { time: SystemTime::now(), pid: self.pid, worker: self.worker };
                    match format {
                        Format::Text(style) => {
                            text::push_line(out, record, *style, stamp, stamps, limit);
                        }
                        Format::Json => json::push_line(out, record, stamp, stamps, limit),
                        Format::Pattern(pattern) => {
                            pattern.push_line(out, record, stamp, stamps, limit);
                        }
                    }
                });
            }
        }
    }
}

/// Lines on standard output.
pub fn access_stream() -> io::Result<LogSink> {
    let fd = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(LogSink::to_stream(fd, say))
}

/// Lines in a file; `path` should be absolute.
pub fn access_file(path: PathBuf) -> io::Result<LogSink> {
    LogSink::to_file(path, say)
}

/// Says in the other log what cannot be said in this one.
fn say(trouble: Trouble) {
    match trouble {
        Trouble::Lost(lines) => log::warn!("{lines} access log lines were lost"),
        Trouble::Unwritable(error) => {
            log::error!(
                "cannot write the access log, lines are lost until it works again: {error}"
            );
        }
    }
}

impl AccessRecord<'_> {
    /// The client's address and port.
    pub fn client(&self) -> String {
        let mut out = Vec::new();
        self.push_client(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// The method, in the case the client used.
    pub fn method(&self) -> &str {
        self.entry.method()
    }

    /// Path and query, percent-encoded.
    pub fn full_path(&self) -> &[u8] {
        self.entry.full_path()
    }

    /// `1.0`, `1.1` or `2`.
    pub fn http_version(&self) -> &'static str {
        self.entry.http_version()
    }

    /// Whether the request asked for a WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.entry.is_websocket()
    }

    /// The response's status; 101 where a WebSocket was accepted.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// How long it took.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// The length of the response's content, as it was sent.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The request's id.
    pub fn request_id(&self) -> Option<&str> {
        self.entry.request_id()
    }

    /// The trace that the request belongs to.
    pub fn traceparent(&self) -> Option<&str> {
        self.entry.traceparent()
    }

    fn scheme(&self) -> &'static str {
        match (self.entry.is_websocket(), self.peer.scheme) {
            (true, "https") => "wss",
            (true, _) => "ws",
            (false, scheme) => scheme,
        }
    }

    fn push_client(&self, out: &mut Vec<u8>) {
        match (self.entry.client(), &self.peer.client) {
            (Some((address, port)), _) => {
                // Writing to a vector cannot fail.
                let _ = write!(out, "{address}:{port}");
            }
            (None, Some((host, port))) => {
                out.extend_from_slice(host.as_bytes());
                out.push(b':');
                out.extend_from_slice(itoa::Buffer::new().format(*port).as_bytes());
            }
            (None, None) => out.extend_from_slice(b"unix:"),
        }
    }

    /// `0.412`
    fn push_milliseconds(&self, out: &mut Vec<u8>) {
        let micros = self.duration.subsec_micros();
        let millis = self.duration.as_secs().saturating_mul(1000) + u64::from(micros / 1000);
        out.extend_from_slice(itoa::Buffer::new().format(millis).as_bytes());
        out.push(b'.');
        push_three(out, micros);
    }

    /// `0.000412`
    fn push_seconds(&self, out: &mut Vec<u8>) {
        let micros = self.duration.subsec_micros();
        out.extend_from_slice(itoa::Buffer::new().format(self.duration.as_secs()).as_bytes());
        out.push(b'.');
        push_three(out, micros / 1000);
        push_three(out, micros);
    }
}
