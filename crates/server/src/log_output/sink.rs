//! Where lines go: a stream that was open already, or a file. Never blocks for long, never grows
//! without bound, and survives a reader that has gone and a disk that is full.
//!
//! ```text
//! append ──► buffer ──► write, as far as the reader takes it
//!              │            ├── all: whatever had been lost is reported
//!              │            ├── full: a thread waits for room, and writes on
//!              │            └── failed: the lines are lost and counted, once it is said why
//!              └── full: the line is lost and counted
//! ```
//!
//! A write to a pipe costs more than the lines in it, and so does the reader that it wakes: lines
//! that come right after a write wait a moment for more of their kind.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, mem, thread};

use rustix::io::Errno;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Timestamps;
use super::target::{Target, append_to};

/// Collected lines are written out at this size, asked for or not.
const BATCH: usize = 16 * 1024;
/// How long lines wait for more of their kind.
const GATHERING: Duration = Duration::from_millis(5);
/// What may wait for a reader that does not keep up.
const BACKLOG_LIMIT: usize = 1024 * 1024;
/// How long the last lines of a process may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the thread that waits for room looks whether anybody still wants it to.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// How often it goes on although nobody does: the last lines of a log that was replaced.
const LAST_INTERVALS: u32 = 10;

/// Where the lines of one log go.
pub struct LogSink {
    shared: Arc<Shared>,
}

/// What has gone wrong, and cannot be said in the log itself.
#[derive(Debug)]
pub enum Trouble {
    /// So many lines were lost; there is room again.
    Lost(u64),
    /// Lines cannot be written; said once, until they can be.
    Unwritable(io::Error),
}

struct Shared {
    /// `None` for a stream that was open already.
    path: Option<PathBuf>,
    is_terminal: bool,
    value_limit: usize,
    buffer: Mutex<Buffer>,
    /// Lines wait for [`LogSink::write_gathered`].
    has_gathered: Notify,
    on_trouble: Box<dyn Fn(Trouble) + Send + Sync>,
}

#[derive(Debug)]
struct Buffer {
    target: Target,
    stamps: Timestamps,
    lines: Vec<u8>,
    lost: u64,
    writing: Writing,
    drainer: Drainer,
    /// Up to when lines wait for more.
    gathers_until: Option<Instant>,
    /// Whether the last thing written was the first part of a line whose rest is lost.
    is_torn: bool,
}

/// Whether a thread waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drainer {
    None,
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Works,
    Fails,
}

/// What became of the lines.
#[derive(Debug)]
enum Written {
    All,
    Part,
    Failed(Errno),
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl LogSink {
    /// A stream that is open already, such as standard output. `on_trouble` is called without any
    /// lock, and may log.
    pub fn to_stream(fd: OwnedFd, on_trouble: impl Fn(Trouble) + Send + Sync + 'static) -> Self {
        Self::new(Target::of_stream(fd), None, on_trouble)
    }

    /// A file that is appended to, or a named pipe. `path` should be absolute: it is opened again.
    pub fn to_file(
        path: PathBuf,
        on_trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Ok(Self::new(Target::of_file(append_to(&path)?), Some(path), on_trouble))
    }

    fn new(
        target: Target,
        path: Option<PathBuf>,
        on_trouble: impl Fn(Trouble) + Send + Sync + 'static,
    ) -> Self {
        let is_terminal = target.is_terminal();
        let value_limit = target.value_limit();
        let buffer = Mutex::new(Buffer {
            target,
            stamps: Timestamps::default(),
            lines: Vec::new(),
            lost: 0,
            writing: Writing::Works,
            drainer: Drainer::None,
            gathers_until: None,
            is_torn: false,
        });
        Self {
            shared: Arc::new(Shared {
                path,
                is_terminal,
                value_limit,
                buffer,
                has_gathered: Notify::new(),
                on_trouble: Box::new(on_trouble),
            }),
        }
    }

    /// Whether somebody looks at the lines as they come.
    pub fn is_terminal(&self) -> bool {
        self.shared.is_terminal
    }

    /// The file; `None` for a stream that was open already.
    pub fn path(&self) -> Option<&Path> {
        self.shared.path.as_deref()
    }

    /// The most that one value of a client's should take in a line, so that the line leaves in one
    /// piece.
    pub fn value_limit(&self) -> usize {
        self.shared.value_limit
    }

    /// Adds lines, which leave together with others.
    pub fn append(&self, format: impl FnOnce(&mut Vec<u8>, &mut Timestamps)) {
        let mut buffer = self.shared.lock();
        if buffer.add(format) && buffer.lines.len() >= BATCH {
            self.shared.write_out(buffer, Duration::ZERO);
        }
    }

    /// Adds lines, and writes them as far as the reader takes them.
    pub fn write(&self, format: impl FnOnce(&mut Vec<u8>, &mut Timestamps)) {
        let mut buffer = self.shared.lock();
        if buffer.add(format) {
            self.shared.write_out(buffer, Duration::ZERO);
        }
    }

    /// Writes what has gathered, as far as the reader takes it.
    pub fn flush(&self) {
        let buffer = self.shared.lock();
        if !buffer.lines.is_empty() {
            self.shared.write_out(buffer, Duration::ZERO);
        }
    }

    /// Writes what has gathered, as [`Self::flush`] does, but leaves to [`Self::write_gathered`] what
    /// comes right after a write. Costs next to nothing then.
    pub fn flush_or_gather(&self) {
        let buffer = self.shared.lock();
        if buffer.lines.is_empty() {
            return;
        }
        if buffer.gathers_until.is_none_or(|until| until <= Instant::now()) {
            self.shared.write_out(buffer, Duration::ZERO);
        } else {
            drop(buffer);
            self.shared.has_gathered.notify_one();
        }
    }

    /// Writes what [`Self::flush_or_gather`] leaves, once its time has come. Never ends; one task at
    /// a time.
    pub async fn write_gathered(&self) {
        loop {
            self.shared.has_gathered.notified().await;
            let until = self.shared.lock().gathers_until;
            sleep_until(until.unwrap_or_else(Instant::now)).await;
            // Enough may have come to be written in the meantime: what is left now waits anew.
            self.flush_or_gather();
        }
    }

    /// Writes the last lines; waits a moment for a slow reader.
    pub fn close(&self) {
        let mut buffer = self.shared.lock();
        if !buffer.lines.is_empty() {
            // The thread that waits for room may be anywhere.
            buffer.drainer = Drainer::None;
            self.shared.write_out(buffer, CLOSE_TIMEOUT);
        }
    }

    /// Opens the file anew, if it is one: the old one has been moved away, and gets what has gathered
    /// so far. On an error it stays the one that is written to.
    pub fn reopen(&self) -> io::Result<()> {
        let Some(path) = &self.shared.path else { return Ok(()) };
        let target = Target::of_file(append_to(path)?);
        self.flush();
        let mut buffer = self.shared.lock();
        buffer.target = target;
        buffer.is_torn = false;
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what has gathered, unless a thread is at it, and says what there is to say.
    fn write_out(self: &Arc<Self>, mut buffer: MutexGuard<'_, Buffer>, patience: Duration) {
        if buffer.drainer == Drainer::Waiting {
            return;
        }
        let written = buffer.write_out(patience);
        buffer.gathers_until = Some(Instant::now() + GATHERING);
        if matches!(written, Written::Part) {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name("rsgi-log".to_owned());
            if thread.spawn(move || shared.drain()).is_ok() {
                buffer.drainer = Drainer::Waiting;
            }
        }
        let trouble = buffer.trouble(&written);
        drop(buffer);
        if let Some(trouble) = trouble {
            (self.on_trouble)(trouble);
        }
    }

    /// Waits for room, and writes, until nothing is left.
    fn drain(self: Arc<Self>) {
        let mut orphaned = 0;
        while orphaned < LAST_INTERVALS {
            orphaned += u32::from(Arc::strong_count(&self) == 1);
            let target = self.lock().target.clone();
            target.wait(DRAIN_INTERVAL);
            let mut buffer = self.lock();
            // It has been closed.
            if buffer.drainer == Drainer::None {
                return;
            }
            let written = buffer.write_out(Duration::ZERO);
            if matches!(written, Written::Part) {
                continue;
            }
            buffer.drainer = Drainer::None;
            let trouble = buffer.trouble(&written);
            drop(buffer);
            if let Some(trouble) = trouble {
                (self.on_trouble)(trouble);
            }
            return;
        }
    }
}

impl Buffer {
    /// Returns whether there was room.
    fn add(&mut self, format: impl FnOnce(&mut Vec<u8>, &mut Timestamps)) -> bool {
        if self.lines.len() >= BACKLOG_LIMIT {
            self.lost += 1;
            return false;
        }
        if mem::take(&mut self.is_torn) {
            self.lines.push(b'\n');
        }
        format(&mut self.lines, &mut self.stamps);
        true
    }

    /// What has to be said.
    fn trouble(&mut self, written: &Written) -> Option<Trouble> {
        match written {
            Written::Part => None,
            Written::Failed(_) if self.writing == Writing::Fails => None,
            Written::Failed(error) => {
                self.writing = Writing::Fails;
                Some(Trouble::Unwritable((*error).into()))
            }
            Written::All => {
                self.writing = Writing::Works;
                let lost = mem::take(&mut self.lost);
                (lost > 0).then_some(Trouble::Lost(lost))
            }
        }
    }

    /// Writes what has gathered, as far as it can without blocking for longer than `patience`.
    fn write_out(&mut self, patience: Duration) -> Written {
        let mut written = 0;
        let mut failure = None;
        while let Some(rest) = self.lines.get(written..).filter(|rest| !rest.is_empty()) {
            match self.target.write(rest) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !patience.is_zero() && self.target.wait(patience) => {}
                Err(Errno::AGAIN) => break,
                // Nobody will ever read it (EPIPE), or the disk is full.
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        let (sent, rest) = self.lines.split_at(written.min(self.lines.len()));
        let is_all = rest.is_empty();
        if let Some(error) = failure {
            self.lost += rest.split(|byte| *byte == b'\n').skip(1).count() as u64;
            self.is_torn = sent.last().is_some_and(|byte| *byte != b'\n');
            self.lines.clear();
            return Written::Failed(error);
        }
        self.lines.drain(..written);
        if is_all && self.lines.capacity() > 8 * BATCH {
            self.lines = Vec::new();
        }
        if is_all { Written::All } else { Written::Part }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::sync::mpsc;

    use rustix::fs::OFlags;
    use tokio::time::sleep;

    use super::*;

    /// A sink, and what it has to say.
    fn sink(
        make: impl FnOnce(mpsc::Sender<Trouble>) -> LogSink,
    ) -> (LogSink, mpsc::Receiver<Trouble>) {
        let (tx, rx) = mpsc::channel();
        (make(tx), rx)
    }

    fn to_stream(fd: OwnedFd) -> (LogSink, mpsc::Receiver<Trouble>) {
        sink(|tx| LogSink::to_stream(fd, move |trouble| tx.send(trouble).unwrap_or_default()))
    }

    fn append(sink: &LogSink, line: &str) {
        sink.append(|out, _| {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        });
    }

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_and_no_line_is_lost() {
        let directory = std::env::temp_dir();
        let name = |what| directory.join(format!("rsgi-log-{}-{what}", std::process::id()));
        let (path, moved) = (name("now"), name("moved"));
        let log = LogSink::to_file(path.clone(), |trouble| panic!("{trouble:?}")).unwrap();
        append(&log, "before");
        std::fs::rename(&path, &moved).unwrap();
        append(&log, "between");
        log.reopen().unwrap();
        append(&log, "behind");
        log.close();
        let read = |path| std::fs::read_to_string(path).unwrap();
        let (old, new) = (read(&moved), read(&path));
        for path in [path, moved] {
            std::fs::remove_file(path).unwrap();
        }
        assert_eq!((old.as_str(), new.as_str()), ("before\nbetween\n", "behind\n"));
    }

    #[test]
    fn a_full_pipe_never_blocks_and_what_is_lost_is_counted_once_there_is_room() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (log, troubles) = to_stream(writer.into());
        let line = "x".repeat(99);
        for _ in 0..20_000 {
            append(&log, &line);
        }
        assert!(log.shared.lock().lines.len() <= BACKLOG_LIMIT + 100);
        assert!(troubles.try_recv().is_err(), "nobody has read yet");

        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            text
        });
        // By itself: nothing more is appended.
        let trouble = troubles.recv_timeout(Duration::from_secs(30));
        let Ok(Trouble::Lost(lost)) = trouble else { panic!("{trouble:?}") };
        log.close();
        drop(log);
        let text = reading.join().unwrap();
        assert!(lost > 0);
        assert_eq!(text.lines().count() as u64 + lost, 20_000);
        assert!(text.lines().all(|read| read == line));
    }

    #[test]
    fn a_writer_that_does_not_block_leaves_the_pipe_of_others_alone() {
        let (_reader, writer) = io::pipe().unwrap();
        let kept = writer.try_clone().unwrap();
        let (_log, _troubles) = to_stream(writer.into());
        let flags = rustix::fs::fcntl_getfl(&kept).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
    }

    #[test]
    fn what_cannot_be_written_is_said_once_and_counted() {
        let (log, troubles) = sink(|tx| {
            let tell = move |trouble| tx.send(trouble).unwrap_or_default();
            LogSink::to_file("/dev/full".into(), tell).unwrap()
        });
        for _ in 0..3 {
            append(&log, "lost");
            log.flush();
        }
        let trouble = troubles.try_recv();
        let Ok(Trouble::Unwritable(error)) = trouble else { panic!("{trouble:?}") };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(troubles.try_recv().is_err());

        let (mut reader, writer) = io::pipe().unwrap();
        log.shared.lock().target = Target::of_stream(writer.into());
        append(&log, "written");
        log.flush();
        assert!(matches!(troubles.try_recv(), Ok(Trouble::Lost(3))));
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "written\n");
    }

    const MILLI: Duration = Duration::from_millis(1);

    /// What has been written so far.
    fn read(reader: &mut PipeReader) -> String {
        let mut text = vec![0; 64 * 1024];
        let count = match rustix::io::read(&*reader, &mut text) {
            Err(Errno::AGAIN) => 0,
            count => count.unwrap(),
        };
        text.truncate(count);
        String::from_utf8(text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_right_after_a_write_leave_together() {
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        let (log, _troubles) = to_stream(writer.into());
        let log = Arc::new(log);
        let gathering = tokio::spawn({
            let log = Arc::clone(&log);
            async move { log.write_gathered().await }
        });
        let say = |line: &str| {
            append(&log, line);
            log.flush_or_gather();
        };
        for _ in 0..2 {
            say("at once");
            assert_eq!(read(&mut reader), "at once\n");
            for _ in 0..2 {
                say("soon");
                say("with others");
                sleep(MILLI * 3).await;
                assert_eq!(read(&mut reader), "");
                sleep(MILLI * 3).await;
                assert_eq!(read(&mut reader), "soon\nwith others\n");
            }
            sleep(GATHERING).await;
        }
        // A full batch has left meanwhile: what came behind it waits for its own time.
        say("at once");
        say("soon");
        sleep(MILLI * 3).await;
        say(&"x".repeat(BATCH));
        say("behind");
        assert_eq!(read(&mut reader).len(), "at once\nsoon\n\n".len() + BATCH);
        sleep(MILLI * 4).await;
        assert_eq!(read(&mut reader), "");
        sleep(MILLI * 2).await;
        assert_eq!(read(&mut reader), "behind\n");
        assert!(!gathering.is_finished());
    }

    #[test]
    fn a_reader_that_has_gone_is_said_once() {
        let (reader, writer) = io::pipe().unwrap();
        let (log, troubles) = to_stream(writer.into());
        drop(reader);
        for _ in 0..3 {
            append(&log, "lost");
            log.flush();
        }
        assert!(matches!(troubles.try_recv(), Ok(Trouble::Unwritable(_))));
        assert!(troubles.try_recv().is_err());
    }
}
