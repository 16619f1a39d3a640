//! What lines are written to: a file, a pipe, a socket or a terminal, each without waiting for
//! whoever reads.
//!
//! Several processes write to the same place, so only whole lines leave in one system call. A pipe
//! that is shared with other processes cannot be made non-blocking for all of them: it is opened
//! anew, through `/proc`, as this process's own.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

/// So much goes into a pipe in one piece, whoever else writes to it (POSIX `PIPE_BUF` on Linux).
const PIPE_BUF: usize = 4096;
/// The most that a value of a client's takes in a line that must fit into [`PIPE_BUF`].
const PIPE_VALUE_LIMIT: usize = 1000;
/// The same for a file, which takes any line in one piece: longer than any head is allowed to be.
const FILE_VALUE_LIMIT: usize = 1024 * 1024;

/// Where lines go, and how they are written there.
#[derive(Debug, Clone)]
pub(super) struct Target {
    fd: Arc<OwnedFd>,
    kind: Kind,
}

/// How to write without waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A write of any length is done at once and in one piece.
    File,
    /// A pipe, opened without blocking.
    Pipe,
    Socket,
    /// A terminal, a device, or a pipe that could not be opened anew: waiting has to be guessed.
    Other,
}

impl Target {
    pub(super) fn of_file(file: File) -> Self {
        let fd = OwnedFd::from(file);
        let kind = match file_type(&fd) {
            Some(FileType::RegularFile) => Kind::File,
            Some(FileType::Fifo) => Kind::Pipe,
            _ => Kind::Other,
        };
        Self { fd: Arc::new(fd), kind }
    }

    pub(super) fn of_stream(fd: OwnedFd) -> Self {
        let (fd, kind) = match file_type(&fd) {
            Some(FileType::RegularFile) => (fd, Kind::File),
            Some(FileType::Socket) => (fd, Kind::Socket),
            Some(FileType::Fifo) => match own_end(&fd) {
                Ok(own) => (own, Kind::Pipe),
                Err(_) => (fd, Kind::Other),
            },
            _ => (fd, Kind::Other),
        };
        Self { fd: Arc::new(fd), kind }
    }

    /// Whether somebody looks at the lines as they come.
    pub(super) fn is_terminal(&self) -> bool {
        self.fd.is_terminal()
    }

    /// The most that one value of a client's should take in a line, so that the line leaves in one
    /// piece.
    pub(super) fn value_limit(&self) -> usize {
        match self.kind {
            Kind::File => FILE_VALUE_LIMIT,
            Kind::Pipe | Kind::Socket | Kind::Other => PIPE_VALUE_LIMIT,
        }
    }

    /// Writes some of it, without waiting: `EAGAIN` where that would be necessary.
    pub(super) fn write(&self, lines: &[u8]) -> rustix::io::Result<usize> {
        match self.kind {
            Kind::File => rustix::io::write(&self.fd, lines),
            Kind::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.fd, pipe_piece(lines), flags)
            }
            Kind::Other if !self.wait(Duration::ZERO) => Err(Errno::AGAIN),
            Kind::Pipe | Kind::Other => rustix::io::write(&self.fd, pipe_piece(lines)),
        }
    }

    /// Waits for room. Returns whether there is some, or an error to be had.
    pub(super) fn wait(&self, patience: Duration) -> bool {
        let timeout = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        matches!(poll(&mut fds, timeout.as_ref()), Ok(1..))
    }
}

fn file_type(fd: &OwnedFd) -> Option<FileType> {
    rustix::fs::fstat(fd).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// The same pipe, by a description that no other process has: not to wait is not a matter of theirs.
fn own_end(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens a file, or a named pipe: without waiting for its reader.
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    let no_waiting = OFlags::NONBLOCK.union(OFlags::NOCTTY).bits().cast_signed();
    File::options().append(true).create(true).custom_flags(no_waiting).open(path)
}

/// What goes into a pipe at once: whole lines. A line that is longer than what fits for sure leaves
/// by itself: the kernel cuts it only where it runs out of room.
fn pipe_piece(lines: &[u8]) -> &[u8] {
    let Some(piece) = lines.get(..PIPE_BUF) else {
        return lines;
    };
    let is_end = |byte: &u8| *byte == b'\n';
    let end = piece.iter().rposition(is_end).or_else(|| lines.iter().position(is_end));
    end.and_then(|last| lines.get(..=last)).unwrap_or(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_go_into_a_pipe_at_once() {
        let line = [b"x".repeat(999).as_slice(), b"\n"].concat();
        let lines = line.repeat(10);
        assert_eq!(pipe_piece(&lines).len(), 4000);
        assert_eq!(pipe_piece(&line), line);
        let long = [b"x".repeat(5000).as_slice(), b"\ny\n"].concat();
        assert_eq!(pipe_piece(&long).len(), 5001);
    }
}
