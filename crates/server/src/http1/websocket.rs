//! A connection that has been switched to WebSocket: reads and writes for a [`Session`].

use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::write_queue::WriteQueue;
use super::{Close, Connection, IDLE_BUFFER, Phase, Progress};
use crate::deadline::Clock;
use crate::exchange::{HIGH_WATER, Written};
use crate::service::App;
use crate::transport::{Slot, Transport};
use crate::websocket::{self, Carrier, End, Gone, Intake, Log, Read, Session};

/// What is read at once where messages are small: a hundred of them.
const SMALL_READ: usize = 4 * 1024;
/// And where they are not: a message of 64 KiB with its header, so that it comes whole.
const LARGE_READ: usize = 64 * 1024 + 64;
/// What is read at once behind a frame that is not complete enough to begin with.
const PARTIAL_READ: usize = 1024;

/// What carries a [`Session`] of a connection.
struct Wire<'a, T> {
    io: &'a mut Slot<T>,
    read: &'a mut BytesMut,
    write: &'a mut WriteQueue,
}

impl<T: Transport, A: App> Connection<T, A> {
    /// The application has accepted a WebSocket: answers, and goes on with it.
    pub(super) fn switch(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        let Phase::Exchange(active) = mem::replace(&mut self.phase, Phase::Moving) else {
            return Progress::Done;
        };
        let now = clock.refresh();
        let log = if active.is_logged() { Log::Lines } else { Log::Nothing };
        let service = &self.entry.service;
        let upgrade = active.into_upgrade(service, &self.peer, now);
        let (Some(upgrade), Some(options)) = (upgrade, &service.options.websocket) else {
            return Progress::Done;
        };
        let websocket = upgrade.websocket;
        let Some(acceptance) = websocket.take_acceptance() else {
            return Progress::Done;
        };
        let date = crate::date::line_at(now);
        let fields = service.server_fields(&date);
        let handshake = upgrade.handshake;
        self.write.append(|out| {
            handshake.encode_http1(out, &acceptance, handshake.deflate, fields);
        });
        websocket.wait(cx.waker(), Weak::clone(&self.outlet));
        let session = Session::new(websocket, options, handshake.deflate, log, now);
        self.phase = Phase::WebSocket(Box::new(session));
        Progress::Again
    }

    /// Whether this is a WebSocket whose last message was a long one.
    pub(super) fn has_long_message(&self) -> bool {
        matches!(&self.phase, Phase::WebSocket(session) if session.expects_more_than(SMALL_READ))
    }

    pub(super) fn on_websocket(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        let Self { io, read, write, phase, deadline, entry, .. } = self;
        let Phase::WebSocket(session) = phase else {
            return Progress::Again;
        };
        let mut wire = Wire { io, read, write };
        match websocket::poll(session, &mut wire, &entry.service, deadline, clock, cx) {
            Poll::Pending => Progress::Wait,
            Poll::Ready(Ok(End::Clean)) => self.close(Close::Clean),
            Poll::Ready(Ok(End::Linger)) => self.close(Close::Linger),
            Poll::Ready(Err(Gone)) => {
                session.lose();
                Progress::Done
            }
        }
    }

    /// Writes what the application has sent; see [`Connection::write_now`].
    pub(super) fn write_messages_now(&mut self, cx: &mut Context<'_>) -> Written {
        let Phase::WebSocket(session) = &mut self.phase else {
            return Written::Busy;
        };
        if self.write.len() >= HIGH_WATER {
            return Written::Busy;
        }
        session.take(&mut self.write, tokio::time::Instant::now);
        match self.write.poll_flush(&mut self.io, cx) {
            Poll::Ready(Ok(())) if session.is_open() => Written::Settled,
            _ => Written::Unsettled,
        }
    }

    /// The shutdown's deadline has passed: the client is told as far as it listens.
    pub(super) fn cut_websocket(&mut self) {
        if let Phase::WebSocket(session) = &mut self.phase {
            session.cut(&mut self.write);
            let _ = self.write.poll_flush(&mut self.io, &mut Context::from_waker(Waker::noop()));
        }
    }
}

impl<T: Transport, A: App> Carrier<A> for Wire<'_, T> {
    const BURST: usize = 4;

    fn out(&mut self) -> &mut WriteQueue {
        self.write
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.write.poll_flush(self.io, cx).map_err(|_| Gone)
    }

    fn poll_read(&mut self, mut intake: Intake<'_, A>, cx: &mut Context<'_>) -> Read {
        if intake.feed_kept(self.read, self.write) > 0 {
            return intake.end();
        }
        if !intake.is_taking() {
            return Read::Nothing;
        }
        if self.read.is_empty() {
            return if intake.expects_more_than(SMALL_READ) {
                self.read_messages::<LARGE_READ, A>(intake, cx)
            } else {
                self.read_messages::<SMALL_READ, A>(intake, cx)
            };
        }
        // The start of a header or of a control frame: whoever sends no more of it holds this.
        self.read.reserve(PARTIAL_READ);
        match pin!(self.io.read_buf(self.read)).poll(cx) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(1..)) => Read::Some,
            Poll::Ready(Ok(0) | Err(_)) => Read::Lost,
        }
    }

    fn rest(&mut self) {
        if self.read.is_empty() && self.read.capacity() > IDLE_BUFFER {
            *self.read = BytesMut::new();
        }
        self.write.shrink();
    }
}

impl<T: Transport> Wire<'_, T> {
    /// Reads to the stack: an idle connection holds no buffer, and what comes whole is not copied.
    ///
    /// A function of its own for each size: the compiler touches every page of a large array, used
    /// or not.
    #[inline(never)]
    fn read_messages<const SIZE: usize, A: App>(
        &mut self,
        mut intake: Intake<'_, A>,
        cx: &mut Context<'_>,
    ) -> Read {
        let mut space = [const { MaybeUninit::uninit() }; SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                let used = intake.feed(buffer.filled_mut(), self.write);
                self.read.extend_from_slice(buffer.filled().get(used..).unwrap_or_default());
                intake.end()
            }
            Poll::Ready(_) => Read::Lost,
        }
    }
}
