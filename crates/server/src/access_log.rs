//! The access log: one line a response, in uvicorn's wording, formatted here and written in
//! batches.
//!
//! Lines are collected in memory and leave when the loop is about to sleep or enough have gathered.
//! A reader that does not keep up (a full pipe) never blocks the loop: beyond [`BACKLOG_LIMIT`]
//! lines are dropped, counted, and the count is reported as soon as there is room.
//!
//! Several workers write to the same place, so only whole lines leave in one system call. A file is
//! appended to, and opened anew when somebody has moved it away ([`AccessLog::reopen`]).

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal, Write as _};
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};

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
    /// `None` for a stream that was open already.
    path: Option<PathBuf>,
    colours: bool,
    buffer: Mutex<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    fd: OwnedFd,
    /// Whether a write of any length is done at once and in one piece.
    is_file: bool,
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
        Ok(Self::to_fd(stdout.as_fd().try_clone_to_owned()?, None, colours))
    }

    /// Lines are appended to the file at `path`, which should be absolute: it is opened again.
    pub fn to_file(path: PathBuf, colours: Option<bool>) -> io::Result<Self> {
        let file = append_to(&path)?;
        Ok(Self::to_fd(file.into(), Some(path), colours.unwrap_or(false)))
    }

    fn to_fd(fd: OwnedFd, path: Option<PathBuf>, colours: bool) -> Self {
        let is_file = is_file(&fd);
        let buffer = Mutex::new(Buffer { fd, is_file, lines: Vec::new(), dropped: 0 });
        Self { sink: Some(Sink { path, colours, buffer }) }
    }

    /// Opens the file anew, if it is one: the old one has been moved away, and gets what has gathered
    /// so far. On an error it stays the one that is written to.
    pub fn reopen(&self) -> io::Result<()> {
        let Some((sink, path)) = self.sink.as_ref().and_then(|s| Some((s, s.path.as_ref()?)))
        else {
            return Ok(());
        };
        let file = append_to(path)?;
        let mut buffer = sink.lock();
        buffer.write_out(Duration::ZERO);
        buffer.fd = file.into();
        buffer.is_file = is_file(&buffer.fd);
        Ok(())
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
            buffer.write_out(Duration::ZERO);
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
                buffer.write_out(patience);
            }
        }
    }
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffer {
    /// Writes what has gathered, as far as it can without blocking for longer than `patience`.
    fn write_out(&mut self, patience: Duration) {
        if self.dropped > 0 && self.lines.len() < BACKLOG_LIMIT {
            let dropped = mem::take(&mut self.dropped);
            let line = format!("WARNING:  {dropped} access log lines were dropped\n");
            self.lines.extend_from_slice(line.as_bytes());
        }
        let mut written = 0;
        while let Some(rest) = self.lines.get(written..).filter(|rest| !rest.is_empty()) {
            let piece = if self.is_file { rest } else { pipe_piece(rest) };
            if !is_writable(&self.fd, patience) {
                break;
            }
            match rustix::io::write(&self.fd, piece) {
                Ok(count) => written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // Nobody will ever read it (EPIPE), or the disk is full: the lines are lost,
                // serving goes on.
                Err(_) => written = self.lines.len(),
            }
        }
        self.lines.drain(..written);
        if self.lines.is_empty() && self.lines.capacity() > 8 * BATCH {
            self.lines = Vec::new();
        }
    }
}

/// Opens a file, or a named pipe: without waiting for its reader.
fn append_to(path: &Path) -> io::Result<File> {
    let no_waiting = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    File::options().append(true).create(true).custom_flags(no_waiting).open(path)
}

fn is_file(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

/// What goes into a pipe at once: whole lines, unless one alone is longer than what fits for sure.
fn pipe_piece(lines: &[u8]) -> &[u8] {
    let Some(piece) = lines.get(..PIPE_BUF) else {
        return lines;
    };
    let end = piece.iter().rposition(|byte| *byte == b'\n').map_or(PIPE_BUF, |last| last + 1);
    piece.get(..end).unwrap_or(piece)
}

fn is_writable(fd: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    let mut fds = [PollFd::new(fd, PollFlags::OUT)];
    matches!(poll(&mut fds, timeout.as_ref()), Ok(1..))
}

/// `INFO:     127.0.0.1:53062 - "GET /items?q=1 HTTP/1.1" 200 OK`
fn format_line(out: &mut Vec<u8>, record: &Record<'_>, colours: bool) {
    let Record { peer, request, status } = record;
    let mut line = Text(out);
    line.push(if colours { "\x1b[32mINFO\x1b[0m:     " } else { "INFO:     " });
    match (&request.client, &peer.client) {
        (Some((address, port)), _) => {
            // Writing to a vector cannot fail.
            let _ = write!(line.0, "{address}:{port}");
        }
        (None, Some((host, port))) => {
            line.push(host);
            line.push(":");
            line.push(itoa::Buffer::new().format(*port));
        }
        (None, None) => line.push("unix:"),
    }
    line.push(" - \"");
    if colours {
        line.push("\x1b[1m");
    }
    line.push_escaped(&request.method);
    line.push(" ");
    line.push_escaped(&request.target);
    if !request.is_websocket() {
        line.push(" HTTP/");
        line.push(request.http_version);
    }
    if colours {
        line.push("\x1b[0m");
    }
    line.push("\" ");
    if colours {
        line.push(match status {
            101 | 200..300 => "\x1b[32m",
            300..400 => "\x1b[33m",
            _ => "\x1b[31m",
        });
    }
    if request.is_websocket() && *status == 101 {
        line.push("[accepted]");
    } else {
        line.push(itoa::Buffer::new().format(*status));
    }
    let reason = rsgi_protocol::http::response::reason_phrase(*status);
    if let Some(reason) = reason.filter(|_| !request.is_websocket()) {
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
            forwarding: None,
        }
    }

    fn request(target: &str) -> RequestLine {
        RequestLine {
            method: "GET".into(),
            target: target.into(),
            http_version: "1.1",
            client: None,
        }
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
    fn a_client_behind_a_proxy_is_named() {
        for (client, expected) in [("192.0.2.1", "192.0.2.1:0"), ("2001:db8::1", "2001:db8::1:0")] {
            let mut out = Vec::new();
            let request = request("/").of_client(Some((client.parse().unwrap(), 0)));
            format_line(&mut out, &Record { peer: &peer(), request: &request, status: 200 }, false);
            let expected = format!("INFO:     {expected} - \"GET / HTTP/1.1\" 200 OK\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn only_whole_lines_go_into_a_pipe_at_once() {
        let line = [b"x".repeat(999).as_slice(), b"\n"].concat();
        let lines = line.repeat(10);
        assert_eq!(pipe_piece(&lines).len(), 4000);
        assert_eq!(pipe_piece(&line), line);
        assert_eq!(pipe_piece(&b"x".repeat(5000)).len(), PIPE_BUF);
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_and_no_line_is_lost() {
        let directory = std::env::temp_dir();
        let name = |what| directory.join(format!("rsgi-access-{}-{what}", std::process::id()));
        let (path, moved) = (name("now"), name("moved"));
        let log = AccessLog::to_file(path.clone(), None).unwrap();
        let write = |target| {
            log.write(&Record { peer: &peer(), request: &request(target), status: 200 });
        };
        write("/before");
        std::fs::rename(&path, &moved).unwrap();
        write("/between");
        log.reopen().unwrap();
        write("/behind");
        log.close();
        let read = |path| std::fs::read_to_string(path).unwrap();
        let (old, new) = (read(&moved), read(&path));
        for path in [path, moved] {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!(old.lines().count(), 2, "{old}");
        assert!(old.contains("/before") && old.contains("/between"), "{old}");
        assert_eq!(new.lines().count(), 1, "{new}");
        assert!(new.contains("/behind"), "{new}");
    }

    #[test]
    fn a_websocket_is_accepted_or_has_a_status() {
        for (status, end) in [(101, "[accepted]"), (403, "403"), (500, "500")] {
            let mut out = Vec::new();
            let request = request("/ws?a").of_websocket();
            format_line(&mut out, &Record { peer: &peer(), request: &request, status }, false);
            let expected = format!("INFO:     127.0.0.1:5000 - \"WebSocket /ws?a\" {end}\n");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_full_pipe_never_blocks_and_loss_is_counted() {
        let (mut reader, writer) = io::pipe().unwrap();
        let log = AccessLog::to_fd(writer.into(), None, false);
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
