//! A file as the content of a response (the ASGI extensions "Path Send" and "Zero Copy Send").
//!
//! It is read in pieces which take the way of every other content, so that back-pressure, TLS,
//! HTTP/2 and deadlines hold for it. What the page cache has is read at once (`RWF_NOWAIT`); what
//! would have to come from a disk is read by a thread of tokio's blocking pool, so that a slow disk
//! holds nobody up but its own client. `sendfile(2)` would save a copy, and wait for the disk in the
//! loop's thread (`docs/decisions/0011-files-by-page-cache.md`).

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rsgi_protocol::http::cycle::More;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, ReadWriteFlags};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, spawn_blocking, yield_now};

use crate::exchange::{Exchange, SendError};

/// What is read at once: enough that a piece costs little beside its bytes.
const PIECE: usize = 128 * 1024;
/// Pieces that are sent before others get their turn, to a client that reads as fast.
const BURST: usize = 4;

/// What to send.
#[derive(Debug)]
pub enum FileSource {
    /// A whole file that has not been opened.
    Path(PathBuf),
    /// Some of an open one.
    Open(OpenFile),
}

/// A part of an open file.
#[derive(Debug)]
pub struct OpenFile {
    file: Arc<File>,
    offset: u64,
    length: u64,
}

/// Why a file, or the rest of it, was not sent.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be opened or read.
    #[error("{0}")]
    Io(io::Error),
    /// Something else has this name: a directory, a pipe, a device.
    #[error("only regular files can be sent")]
    NotRegular,
    /// It became shorter while it was sent.
    #[error("the file was truncated while it was sent: {missing} bytes are missing")]
    Truncated {
        /// Of what had been announced.
        missing: u64,
    },
    /// The message is not legal now, or the client has gone.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl OpenFile {
    /// `count` bytes from `offset` on, or what there is of them.
    pub fn new(fd: OwnedFd, offset: u64, count: Option<u64>) -> Result<Self, FileError> {
        let file = File::from(fd);
        let metadata = file.metadata().map_err(FileError::Io)?;
        if !metadata.is_file() {
            return Err(FileError::NotRegular);
        }
        let rest = metadata.len().saturating_sub(offset);
        let length = count.map_or(rest, |count| count.min(rest));
        Ok(Self { file: Arc::new(file), offset, length })
    }

    /// Where the part ends.
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(self.length)
    }

    /// Reads without waiting for a disk; `None` where that is not possible.
    fn read_now(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let mut slices = [IoSliceMut::new(into)];
        match rustix::io::preadv2(&self.file, &mut slices, self.offset, ReadWriteFlags::NOWAIT) {
            Ok(count) => Ok(Some(count)),
            // Not in the page cache, or a file system that cannot tell.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads at least one byte into the front of `buffer`, in a thread where it has to be.
    async fn read(&self, mut buffer: BytesMut) -> io::Result<(BytesMut, usize)> {
        if let Some(count) = self.read_now(&mut buffer)? {
            return Ok((buffer, count));
        }
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        let read = spawn_blocking(move || {
            let count = file.read_at(&mut buffer, offset)?;
            Ok((buffer, count))
        });
        read.await.map_err(io::Error::other)?
    }
}

/// Opens what needs no disk to be found; `None` where that is not known.
fn open_now(path: &Path) -> Option<io::Result<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(fd) => Some(Ok(fd)),
        // Not cached, or refused by an old kernel or a sandbox.
        Err(Errno::AGAIN | Errno::NOSYS | Errno::PERM | Errno::INVAL | Errno::INTR) => None,
        Err(error) => Some(Err(error.into())),
    }
}

async fn open(path: PathBuf) -> Result<OpenFile, FileError> {
    let opened = match open_now(&path) {
        Some(opened) => opened,
        None => spawn_blocking(move || {
            // A pipe without a writer must not hold the thread.
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            rustix::fs::open(&path, flags, Mode::empty()).map_err(io::Error::from)
        })
        .await
        .map_err(io::Error::other)
        .and_then(|opened| opened),
    };
    OpenFile::new(opened.map_err(FileError::Io)?, 0, None)
}

/// Sends a file as the next part of a response; `message` is what the application called it. The
/// response goes on, or is complete, once the task has ended well.
pub fn send_file(
    exchange: &Arc<Exchange>,
    message: &'static str,
    source: FileSource,
    more: More,
    runtime: &Handle,
) -> Result<JoinHandle<Result<(), FileError>>, SendError> {
    exchange.begin_file(message)?;
    let exchange = Arc::clone(exchange);
    Ok(runtime.spawn(async move {
        let prepared = prepare(&exchange, source, more).await;
        let Some(file) = prepared.inspect_err(|_| exchange.refuse_file())? else {
            return Ok(exchange.end_file(more)?);
        };
        let copied = copy(&exchange, file).await;
        copied.inspect_err(|_| exchange.break_file())?;
        Ok(exchange.end_file(more)?)
    }))
}

/// Opens the file and announces its length. `None` if nobody wants its content.
async fn prepare(
    exchange: &Exchange,
    source: FileSource,
    more: More,
) -> Result<Option<OpenFile>, FileError> {
    let file = match source {
        FileSource::Path(path) => open(path).await?,
        FileSource::Open(file) => file,
    };
    let is_wanted = exchange.open_file(file.length, more)?;
    Ok(is_wanted.then_some(file))
}

/// Gives the content to the exchange as fast as the client takes it.
async fn copy(exchange: &Exchange, mut file: OpenFile) -> Result<(), FileError> {
    let mut spare = None;
    let mut pieces = 0;
    while file.length > 0 {
        let wanted = usize::try_from(file.length).unwrap_or(usize::MAX).min(PIECE);
        let (buffer, count) =
            file.read(buffer(spare.take(), wanted)).await.map_err(FileError::Io)?;
        if count == 0 {
            return Err(FileError::Truncated { missing: file.length });
        }
        file.offset += count as u64;
        file.length -= count as u64;
        let whole = buffer.freeze();
        exchange.feed_file(whole.slice(..count))?;
        spare = Some(whole);
        pieces += 1;
        if pieces % BURST == 0 {
            yield_now().await;
        }
        std::future::poll_fn(|cx| exchange.poll_drained(cx)).await;
    }
    Ok(())
}

/// `length` bytes to read into: those of the last piece again, if it has left.
fn buffer(spare: Option<Bytes>, length: usize) -> BytesMut {
    let again = spare.and_then(|spare| spare.try_into_mut().ok());
    match again {
        Some(mut buffer) if buffer.len() >= length => {
            buffer.truncate(length);
            buffer
        }
        _ => BytesMut::zeroed(length),
    }
}
