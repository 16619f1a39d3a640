//! The access log: one line a response, in uvicorn's wording, formatted here and written in
//! batches.
//!
//! Lines are collected in memory and leave when the loop is about to sleep or enough have gathered.
//! A reader that does not keep up (a full pipe) never blocks the loop: beyond [`BACKLOG_LIMIT`]
//! lines are dropped, counted, and the count is reported as soon as there is room.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::exchange::RequestLine;
use crate::service::ConnectionInfo;

/// A pipe that polls writable takes this much without blocking (POSIX `PIPE_BUF` on Linux).
const PIPE_BUF: usize = 4096;
/// Collected lines are written out at this size, sleep or not.
const BATCH: usize = 8 * 1024;
/// What may wait for a reader that does not keep up.
const BACKLOG_LIMIT: usize = 1024 * 1024;
/// How long the last lines of a worker may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where access lines go.
#[derive(Debug, Default)]
pub struct AccessLog {
    sink: Option<Sink>,
}

#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    colours: bool,
    buffer: Mutex<Buffer>,
}

#[derive(Debug, Default)]
struct Buffer {
    lines: Vec<u8>,
    dropped: u64,
}

/// What one line tells.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    pub(crate) peer: &'a ConnectionInfo,
    pub(crate) request: &'a RequestLine,
    pub(crate) status: u16,
}

impl AccessLog {
    /// No access log.
    pub fn off() -> Self {
        Self::default()
    }

    /// Lines go to standard output; `colours` forces them on or off, otherwise a terminal decides.
    pub fn to_stdout(colours: Option<bool>) -> io::Result<Self> {
        let stdout = io::stdout();
        let colours = colours.unwrap_or_else(|| stdout.is_terminal());
        Ok(Self::to_fd(stdout.as_fd().try_clone_to_owned()?, colours))
    }

    fn to_fd(fd: OwnedFd, colours: bool) -> Self {
        Self { sink: Some(Sink { fd, colours, buffer: Mutex::default() }) }
    }

    /// Whether lines are wanted at all.
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    pub(crate) fn write(&self, record: &Record<'_>) {
        let Some(sink) = &self.sink else { return };
        let mut buffer = sink.lock();
        if buffer.lines.len() >= BACKLOG_LIMIT {
            buffer.dropped += 1;
            return;
        }
        format_line(&mut buffer.lines, record, sink.colours);
        if buffer.lines.len() >= BATCH {
            sink.write_out(&mut buffer, Duration::ZERO);
        }
    }

    /// Writes what has gathered, as far as the reader takes it without blocking.
    pub fn flush(&self) {
        self.flush_within(Duration::ZERO);
    }

    /// Writes the last lines; waits a moment for a slow reader.
    pub fn close(&self) {
        self.flush_within(CLOSE_TIMEOUT);
    }

    fn flush_within(&self, patience: Duration) {
        if let Some(sink) = &self.sink {
            let mut buffer = sink.lock();
            if !buffer.lines.is_empty() {
                sink.write_out(&mut buffer, patience);
            }
        }
    }
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_out(&self, buffer: &mut Buffer, patience: Duration) {
        if buffer.dropped > 0 && buffer.lines.len() < BACKLOG_LIMIT {
            let dropped = mem::take(&mut buffer.dropped);
            let line = format!("WARNING:  {dropped} access log lines were dropped\n");
            buffer.lines.extend_from_slice(line.as_bytes());
        }
        let mut written = 0;
        while let Some(rest) = buffer.lines.get(written..).filter(|rest| !rest.is_empty()) {
            let piece = rest.get(..PIPE_BUF).unwrap_or(rest);
            if !self.is_writable(patience) {
                break;
            }
            match rustix::io::write(&self.fd, piece) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // Nobody will ever read it (EPIPE), or the disk is full: the lines are lost,
                // serving goes on.
                Err(_) => written = buffer.lines.len(),
            }
        }
        buffer.lines.drain(..written);
        if buffer.lines.is_empty() && buffer.lines.capacity() > 8 * BATCH {
            buffer.lines = Vec::new();
        }
    }

    fn is_writable(&self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        matches!(poll(&mut fds, timeout.as_ref()), Ok(1..))
    }
}

/// `INFO:     127.0.0.1:53062 - "GET /items?q=1 HTTP/1.1" 200 OK`
fn format_line(out: &mut Vec<u8>, record: &Record<'_>, colours: bool) {
    let Record { peer, request, status } = record;
    let mut line = Text(out);
    line.push(if colours { "\x1b[32mINFO\x1b[0m:     " } else { "INFO:     " });
    match &peer.client {
        Some((host, port)) => {
            line.push(host);
            line.push(":");
            line.push(itoa::Buffer::new().format(*port));
        }
        None => line.push("unix:"),
    }
    line.push(" - \"");
    if colours {
        line.push("\x1b[1m");
    }
    line.push_escaped(&request.method);
    line.push(" ");
    line.push_escaped(&request.target);
    line.push(" HTTP/");
    line.push(request.http_version);
    if colours {
        line.push("\x1b[0m");
    }
    line.push("\" ");
    if colours {
        line.push(match status {
            200..300 => "\x1b[32m",
            300..400 => "\x1b[33m",
            _ => "\x1b[31m",
        });
    }
    line.push(itoa::Buffer::new().format(*status));
    if let Some(reason) = rsgi_protocol::http::response::reason_phrase(*status) {
        line.push(" ");
        line.push(reason);
    }
    line.push(if colours { "\x1b[0m\n" } else { "\n" });
}

struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    fn push(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// A client's text: nothing in it can end the quotes or the line.
    fn push_escaped(&mut self, text: &str) {
        if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
            return self.push(text);
        }
        for byte in text.bytes() {
            if byte.is_ascii_graphic() && byte != b'"' && byte != b'\\' {
                self.0.push(byte);
            } else {
                let mut escaped = String::with_capacity(4);
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\x{byte:02x}");
                self.push(&escaped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn peer() -> ConnectionInfo {
        ConnectionInfo {
            client: Some(("127.0.0.1".to_owned(), 5000)),
            server: None,
            scheme: "http",
            tls: None,
            redirect: None,
        }
    }

    fn request(target: &str) -> RequestLine {
        RequestLine { method: "GET".into(), target: target.into(), http_version: "1.1" }
    }

    #[test]
    fn lines_have_uvicorns_wording_and_cannot_be_forged() {
        let table = [
            ("/items?q=1", 200, "INFO:     127.0.0.1:5000 - \"GET /items?q=1 HTTP/1.1\" 200 OK\n"),
            (
                "/\"\n",
                404,
                "INFO:     127.0.0.1:5000 - \"GET /\\x22\\x0a HTTP/1.1\" 404 Not Found\n",
            ),
            ("/", 599, "INFO:     127.0.0.1:5000 - \"GET / HTTP/1.1\" 599\n"),
        ];
        for (target, status, expected) in table {
            let mut out = Vec::new();
            let record = Record { peer: &peer(), request: &request(target), status };
            format_line(&mut out, &record, false);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_full_pipe_never_blocks_and_loss_is_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = AccessLog::to_fd(writer.into(), false);
        let (peer, request) = (peer(), request("/a/rather/long/path/to/fill/the/pipe"));
        for _ in 0..20_000 {
            log.write(&Record { peer: &peer, request: &request, status: 200 });
        }
        let lost = log.sink.as_ref().unwrap().lock().dropped;
        assert!(lost > 0);

        let reading = std::thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        while !log.sink.as_ref().unwrap().lock().lines.is_empty() {
            log.close();
        }
        log.close();
        log.write(&Record { peer: &peer, request: &request, status: 200 });
        log.close();
        drop(log);
        let text = reading.join().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("INFO:")).count() as u64;
        assert_eq!(lines + lost, 20_001);
        assert!(text.contains(&format!("WARNING:  {lost} access log lines were dropped")));
        assert!(text.lines().all(|line| line.ends_with("200 OK") || line.ends_with("dropped")));
    }
}
