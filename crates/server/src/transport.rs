//! What a connection runs over: a socket, or TLS over one.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

/// A byte stream with a client at its end.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close an abortive one, so that a client whose response ends with the
    /// connection can tell that it is not whole.
    fn make_close_abortive(&self) {}
}

impl Transport for tokio::net::TcpStream {
    fn make_close_abortive(&self) {
        // A socket on which this fails is gone already.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for tokio::net::UnixStream {}

impl Transport for tokio::io::DuplexStream {}

/// Ends a task's turn, although it has more to do.
///
/// A task that just wakes itself is run up to 61 times in a row before tokio looks at the sockets again:
/// who gives way comes behind everybody who has become ready meanwhile.
pub(crate) fn give_way(cx: &mut Context<'_>) {
    // Asks to be woken after the look in its first poll.
    let _ = pin!(yield_now()).poll(cx);
}

/// How much a client may go on sending to a connection that has been closed.
const LINGER_LIMIT: usize = 512 * 1024;

/// A transport with bytes that have been read from it already, and whose end waits for the client's:
/// what a client still sends must not turn a clean end into a reset, which would take from it what it
/// has not read (RFC 9112, section 9.6).
///
/// It reads no more at a time than it is allowed to: whoever loops over it until nothing is left would
/// otherwise do so for as long as a client keeps sending.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    read: BytesMut,
    io: T,
    end: End,
    progress: Arc<Progress>,
}

/// How far a [`Rewound`] has got, and may go, for whoever has given it away.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    written: AtomicU64,
    is_closing: AtomicBool,
    allowance: AtomicUsize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    /// Only the client is waited for, and for no more than so many bytes.
    Lingering {
        left: usize,
    },
}

impl Progress {
    /// How many bytes have been written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Whether its end has begun.
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Lets so many bytes be read; there are none at first.
    pub(crate) fn renew_allowance(&self, bytes: usize) {
        self.allowance.store(bytes, Ordering::Relaxed);
    }

    fn allowance(&self) -> usize {
        self.allowance.load(Ordering::Relaxed)
    }

    fn spend(&self, bytes: usize) {
        self.allowance.store(self.allowance().saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl<T> Rewound<T> {
    pub(crate) fn new(read: BytesMut, io: T) -> Self {
        Self { read, io, end: End::NotYet, progress: Arc::default() }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = polled {
            self.progress.written.fetch_add(count as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<T: Transport> Transport for Rewound<T> {
    fn make_close_abortive(&self) {
        self.io.make_close_abortive();
    }
}

impl<T: Transport> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.progress.allowance() == 0 {
            give_way(cx);
            return Poll::Pending;
        }
        if self.read.is_empty() {
            let before = buffer.filled().len();
            let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
            self.progress.spend(buffer.filled().len().saturating_sub(before));
            return polled;
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(self.read.get(..count).unwrap_or_default());
        self.read.advance(count);
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, data);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Says that nothing more comes, and reads on until the client says so, too. How long that may
    /// take is the caller's to decide.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.progress.is_closing.store(true, Ordering::Relaxed);
        loop {
            match self.end {
                End::NotYet => {
                    ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
                    self.read = BytesMut::new();
                    self.end = End::Lingering { left: LINGER_LIMIT };
                }
                End::Lingering { left: 0 } => return Poll::Ready(Ok(())),
                End::Lingering { left } => {
                    let mut space = [const { MaybeUninit::uninit() }; 4096];
                    let mut buffer = ReadBuf::uninit(&mut space);
                    let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
                    let count = if read.is_ok() { buffer.filled().len() } else { 0 };
                    let left = if count == 0 { 0 } else { left.saturating_sub(count) };
                    self.end = End::Lingering { left };
                }
            }
        }
    }
}

/// A transport that can be taken out of a connection that has another task waiting for it.
#[derive(Debug)]
pub(crate) struct Slot<T>(Option<T>);

impl<T: Transport> Slot<T> {
    pub(crate) fn new(io: T) -> Self {
        Self(Some(io))
    }

    pub(crate) fn vacate(&mut self) -> Option<T> {
        self.0.take()
    }

    pub(crate) fn make_close_abortive(&self) {
        if let Some(io) = &self.0 {
            io.make_close_abortive();
        }
    }

    fn io(&mut self) -> io::Result<Pin<&mut T>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<T: Transport> AsyncRead for Slot<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.io()?.poll_read(cx, buffer)
    }
}

impl<T: Transport> AsyncWrite for Slot<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.io()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io()?.poll_shutdown(cx)
    }
}

impl<T: Transport> Transport for tokio_rustls::server::TlsStream<T> {
    fn make_close_abortive(&self) {
        self.get_ref().0.make_close_abortive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{Future as _, poll_fn};
    use std::pin::pin;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn an_end_waits_for_the_clients() {
        let (mut client, io) = tokio::io::duplex(64);
        let mut server = Rewound::new(BytesMut::new(), io);
        let progress = server.progress();
        server.write_all(b"last").await.unwrap();
        assert!(!progress.is_closing());
        let mut shutdown = pin!(poll_fn(move |cx| Pin::new(&mut server).poll_shutdown(cx)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(shutdown.as_mut().poll(&mut cx).is_pending());
        assert_eq!((progress.is_closing(), progress.written()), (true, 4));
        // What crosses it does no harm.
        client.write_all(&[0; 64]).await.unwrap();
        assert!(shutdown.as_mut().poll(&mut cx).is_pending());
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"last");
        drop(client);
        assert!(matches!(shutdown.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
    }

    #[tokio::test]
    async fn a_client_that_goes_on_and_on_is_not_waited_for() {
        let (mut client, io) = tokio::io::duplex(2 * LINGER_LIMIT);
        let mut server = Rewound::new(BytesMut::new(), io);
        client.write_all(&vec![0; LINGER_LIMIT]).await.unwrap();
        poll_fn(|cx| Pin::new(&mut server).poll_shutdown(cx)).await.unwrap();
    }
}
