//! What waits to be written to a connection: small pieces copied together, large ones as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// From this size on, a body is cheaper to hand to `writev` than to copy behind its head (measured:
/// a copy of 16 KiB takes about as long as the extra iovec and the reference count).
const COPY_LIMIT: usize = 16 * 1024;

/// How many pieces one `writev` takes; more are rare and simply wait for the next call.
const SLICES: usize = 32;

/// What one connection writes before others get their turn, to a client that reads as fast.
const BURST: usize = 512 * 1024;

/// Bytes on their way to the client, in order.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    /// Complete pieces, first to leave.
    pieces: VecDeque<Bytes>,
    /// What comes behind the pieces and is still being added to.
    tail: Vec<u8>,
    /// How much of `tail` has left.
    sent: usize,
    /// All bytes that wait.
    length: usize,
    /// Whether some wait below, too.
    is_held_back: bool,
}

impl WriteQueue {
    /// How many bytes have not left; at least 1 as long as the client has not taken all of them.
    pub(crate) fn len(&self) -> usize {
        if self.is_held_back { self.length.max(1) } else { self.length }
    }

    /// Lets `write` append to the tail.
    pub(crate) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.length += self.tail.len() - before;
    }

    /// Adds `data`, by copy or by reference.
    pub(crate) fn push(&mut self, data: Bytes) {
        if data.len() < COPY_LIMIT {
            self.append(|tail| tail.extend_from_slice(&data));
            return;
        }
        self.close_tail();
        self.length += data.len();
        self.pieces.push_back(data);
    }

    /// Takes everything over from `other`, behind what is there. Where nothing is, no byte moves.
    pub(crate) fn take_from(&mut self, other: &mut Self) {
        // Below is the same for both.
        self.is_held_back |= mem::take(&mut other.is_held_back);
        if self.length == 0 {
            mem::swap(self, other);
            self.is_held_back = mem::take(&mut other.is_held_back);
            return;
        }
        for piece in other.pieces.drain(..) {
            self.push(piece);
        }
        let rest = other.tail.get(other.sent..).unwrap_or_default();
        self.append(|tail| tail.extend_from_slice(rest));
        other.tail.clear();
        other.sent = 0;
        other.length = 0;
    }

    fn close_tail(&mut self) {
        if self.tail.len() > self.sent {
            let mut piece = Bytes::from(mem::take(&mut self.tail));
            piece.advance(self.sent);
            self.pieces.push_back(piece);
        }
        self.tail.clear();
        self.sent = 0;
    }

    /// Writes until nothing is left; pauses for a turn of the loop after [`BURST`] bytes.
    pub(crate) fn poll_flush<T: AsyncWrite + Unpin>(
        &mut self,
        io: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut burst = 0;
        while self.length > 0 {
            if burst >= BURST {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = if self.pieces.is_empty() {
                let rest = self.tail.get(self.sent..).unwrap_or_default();
                ready!(Pin::new(&mut *io).poll_write(cx, rest))?
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES];
                let used = self.fill(&mut slices);
                let slices = slices.get(..used).unwrap_or_default();
                ready!(Pin::new(&mut *io).poll_write_vectored(cx, slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            burst += count;
            self.consume(count);
        }
        // TLS holds back what the socket did not take; a socket holds back nothing.
        let flushed = Pin::new(io).poll_flush(cx);
        self.is_held_back = flushed.is_pending();
        flushed
    }

    /// Takes out what is next to leave, at most `room` bytes.
    pub(crate) fn pop(&mut self, room: usize) -> Option<Bytes> {
        let piece = if let Some(first) = self.pieces.front_mut() {
            if first.len() > room { first.split_to(room) } else { self.pieces.pop_front()? }
        } else {
            let rest = self.tail.get(self.sent..)?;
            if self.sent == 0 && rest.len() <= room {
                Bytes::from(mem::take(&mut self.tail))
            } else {
                let piece = Bytes::copy_from_slice(rest.get(..room).unwrap_or(rest));
                self.sent += piece.len();
                if self.sent >= self.tail.len() {
                    self.tail.clear();
                    self.sent = 0;
                }
                piece
            }
        };
        self.length = self.length.saturating_sub(piece.len());
        Some(piece).filter(|piece| !piece.is_empty())
    }

    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = self.tail.get(self.sent..).filter(|tail| !tail.is_empty());
        let pieces = self.pieces.iter().map(AsRef::as_ref).chain(tail);
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn consume(&mut self, mut count: usize) {
        self.length = self.length.saturating_sub(count);
        while let Some(first) = self.pieces.front_mut() {
            if count < first.len() {
                first.advance(count);
                return;
            }
            count -= first.len();
            self.pieces.pop_front();
        }
        self.sent += count;
        if self.sent >= self.tail.len() {
            self.tail.clear();
            self.sent = 0;
        }
    }

    /// Gives memory back that a large response needed and an idle connection does not.
    pub(crate) fn shrink(&mut self) {
        if self.length == 0 {
            if self.tail.capacity() > 4096 {
                self.tail = Vec::new();
            }
            if self.pieces.capacity() > 8 {
                self.pieces = VecDeque::new();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Takes `step` bytes a call.
    struct Slow {
        step: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            let count = data.len().min(self.step);
            self.taken.extend_from_slice(&data[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let count = all.len().min(self.step);
            self.taken.extend_from_slice(&all[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Takes everything, and has written it out when asked for the second time, as TLS may.
    #[derive(Default)]
    struct Holding {
        flushes: usize,
    }

    impl AsyncWrite for Holding {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            data: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(data.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes < 2 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_held_back_below_has_not_left() {
        let mut queue = WriteQueue::default();
        let mut io = Holding::default();
        let mut cx = Context::from_waker(Waker::noop());
        queue.append(|tail| tail.extend_from_slice(b"response"));
        assert!(queue.poll_flush(&mut io, &mut cx).is_pending());
        assert_eq!(queue.len(), 1);
        assert!(queue.poll_flush(&mut io, &mut cx).is_ready());
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_queue_is_taken_over_in_order() {
        let large = Bytes::from(vec![b'L'; COPY_LIMIT]);
        for before in ["", "before"] {
            let (mut queue, mut other) = (WriteQueue::default(), WriteQueue::default());
            queue.append(|tail| tail.extend_from_slice(before.as_bytes()));
            other.push(Bytes::from_static(b"1"));
            other.push(large.clone());
            other.push(Bytes::from_static(b"2"));
            queue.take_from(&mut other);
            queue.append(|tail| tail.push(b'3'));
            let expected = [before.as_bytes(), b"1", &large, b"23"].concat();
            assert_eq!((queue.len(), other.len()), (expected.len(), 0));
            let mut io = Slow { step: 100, taken: Vec::new() };
            let mut cx = Context::from_waker(Waker::noop());
            assert!(other.poll_flush(&mut io, &mut cx).is_ready());
            assert!(queue.poll_flush(&mut io, &mut cx).is_ready());
            assert_eq!(io.taken, expected);
        }
    }

    #[test]
    fn what_is_taken_out_is_in_order_too() {
        let large = Bytes::from(vec![b'L'; COPY_LIMIT + 3]);
        for room in [1, 7, 4096, COPY_LIMIT, usize::MAX] {
            let mut queue = WriteQueue::default();
            queue.append(|tail| tail.extend_from_slice(b"head"));
            queue.push(large.clone());
            queue.append(|tail| tail.extend_from_slice(b"small"));
            let expected = [b"head".as_slice(), &large, b"small"].concat();
            let mut taken = Vec::new();
            while let Some(piece) = queue.pop(room) {
                assert!(piece.len() <= room);
                taken.extend_from_slice(&piece);
                assert_eq!(queue.len(), expected.len() - taken.len());
            }
            assert_eq!(taken, expected, "{room}");
            assert_eq!(queue.pop(room), None);
        }
    }

    #[test]
    fn bytes_leave_in_order_whatever_a_write_takes() {
        let large = Bytes::from(vec![b'L'; COPY_LIMIT + 3]);
        for step in [1, 7, 4096, COPY_LIMIT, usize::MAX] {
            let mut queue = WriteQueue::default();
            let mut expected = Vec::new();
            for round in 0..3 {
                queue.append(|tail| tail.extend_from_slice(b"head"));
                queue.push(large.clone());
                queue.push(Bytes::from_static(b"small"));
                expected.extend_from_slice(b"head");
                expected.extend_from_slice(&large);
                expected.extend_from_slice(b"small");
                assert_eq!(queue.len(), expected.len(), "round {round}");
            }
            let mut io = Slow { step, taken: Vec::new() };
            let mut cx = Context::from_waker(Waker::noop());
            assert!(queue.poll_flush(&mut io, &mut cx).is_ready());
            assert_eq!(io.taken, expected, "{step}");
            assert_eq!(queue.len(), 0);
        }
    }
}
