//! What a connection runs over: a socket, or TLS over one.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

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

/// A transport with bytes that have been read from it already. Counts what is written, and reads no
/// more at a time than it is allowed to: whoever loops over it until nothing is left would otherwise
/// do so for as long as a client keeps sending.
#[derive(Debug)]
pub(crate) struct Rewound<T> {
    read: BytesMut,
    io: T,
    written: Arc<AtomicU64>,
    allowance: Allowance,
}

/// How much may be read until it is renewed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowance(Arc<AtomicUsize>);

impl Allowance {
    pub(crate) fn renew(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn spend(&self, bytes: usize) {
        self.0.store(self.left().saturating_sub(bytes), Ordering::Relaxed);
    }
}

impl<T> Rewound<T> {
    pub(crate) fn new(read: BytesMut, io: T) -> Self {
        Self { read, io, written: Arc::default(), allowance: Allowance::default() }
    }

    /// What may be read; there is nothing at first.
    pub(crate) fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// How many bytes have been written; goes on counting.
    pub(crate) fn written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.written)
    }

    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = polled {
            self.written.fetch_add(count as u64, Ordering::Relaxed);
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
        if self.allowance.left() == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.read.is_empty() {
            let before = buffer.filled().len();
            let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
            self.allowance.spend(buffer.filled().len().saturating_sub(before));
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
