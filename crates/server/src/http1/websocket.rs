//! A connection that has been switched to WebSocket: reads and writes for a [`Session`].

use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::sync::Weak;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Close, Connection, IDLE_BUFFER, Phase, Progress};
use crate::deadline::Clock;
use crate::exchange::{HIGH_WATER, Written};
use crate::service::{App, DrainPhase};
use crate::transport::Transport;
use crate::websocket::{End, Log, Pass, Session};

/// What is read at once where messages are small: a hundred of them.
const SMALL_READ: usize = 4 * 1024;
/// And where they are not: a message of 64 KiB with its header, so that it comes whole.
const LARGE_READ: usize = 64 * 1024 + 64;
/// What is read at once behind a frame that is not complete enough to begin with.
const PARTIAL_READ: usize = 1024;

/// Reads in a row before other connections get their turn: small frames take time without calling the
/// application.
const BURST: usize = 4;

/// What reading came to.
enum Read {
    Some,
    /// It is somebody else's turn.
    Yield,
    Nothing,
    Lost,
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
        let mut reads = 0;
        loop {
            let Phase::WebSocket(session) = &mut self.phase else {
                return Progress::Again;
            };
            if session.is_open() && self.entry.service.phase() >= DrainPhase::Draining {
                session.drain(clock.refresh());
            }
            if self.write.len() < HIGH_WATER {
                session.take(&mut self.write, || clock.refresh());
            }
            let was_full = self.write.len() >= HIGH_WATER;
            match self.write.poll_flush(&mut self.io, cx) {
                // What has been held back above can go on.
                Poll::Ready(Ok(())) if was_full => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(_)) => return self.lose_websocket(),
            }
            match session.end() {
                Some(End::Clean) => return self.close(Close::Clean),
                Some(End::Linger) => return self.close(Close::Linger),
                None => {}
            }
            match self.read_websocket(cx) {
                Read::Some if reads < BURST => {
                    reads += 1;
                    continue;
                }
                Read::Some | Read::Yield => {
                    cx.waker().wake_by_ref();
                    return Progress::Wait;
                }
                Read::Nothing => {}
                Read::Lost => return self.lose_websocket(),
            }
            let Phase::WebSocket(session) = &mut self.phase else {
                return Progress::Again;
            };
            self.deadline.set(session.deadline());
            if self.deadline.poll(cx).is_pending() {
                self.rest_websocket();
                return Progress::Wait;
            }
            session.on_deadline(&mut self.write, clock.refresh());
        }
    }

    /// Reads once, and has the session take what there is.
    fn read_websocket(&mut self, cx: &mut Context<'_>) -> Read {
        // Answers to a client that does not read them are not piled up.
        if self.write.len() >= HIGH_WATER {
            return Read::Nothing;
        }
        let Phase::WebSocket(session) = &mut self.phase else {
            return Read::Nothing;
        };
        // Given up wherever this does not go on with a large message.
        let Ok(pass) = session.begin_turn(&self.entry.service.turnstile) else {
            return Read::Yield;
        };
        if !self.read.is_empty() {
            let mut buffer = mem::take(&mut self.read);
            let used = self.feed_websocket(&mut buffer);
            buffer.advance(used);
            self.read = buffer;
            if used > 0 {
                return self.end_turn(pass);
            }
        }
        let Phase::WebSocket(session) = &self.phase else {
            return Read::Nothing;
        };
        if !session.wants_input() {
            return Read::Nothing;
        }
        if self.read.is_empty() {
            return if session.expects_more_than(SMALL_READ) {
                self.read_messages::<LARGE_READ>(cx, pass)
            } else {
                self.read_messages::<SMALL_READ>(cx, pass)
            };
        }
        // The start of a header or of a control frame: whoever sends no more of it holds this.
        self.read.reserve(PARTIAL_READ);
        match pin!(self.io.read_buf(&mut self.read)).poll(cx) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(1..)) => Read::Some,
            Poll::Ready(Ok(0) | Err(_)) => Read::Lost,
        }
    }

    fn end_turn(&mut self, pass: Option<Pass>) -> Read {
        if let Phase::WebSocket(session) = &mut self.phase {
            let is_laden = session.end_turn(pass, &self.entry.service.turnstile);
            return if is_laden { Read::Yield } else { Read::Some };
        }
        Read::Some
    }

    /// Reads to the stack: an idle connection holds no buffer, and what comes whole is not copied.
    ///
    /// A function of its own for each size: the compiler touches every page of a large array, used
    /// or not.
    #[inline(never)]
    fn read_messages<const SIZE: usize>(
        &mut self,
        cx: &mut Context<'_>,
        pass: Option<Pass>,
    ) -> Read {
        let mut space = [const { MaybeUninit::uninit() }; SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                let used = self.feed_websocket(buffer.filled_mut());
                let rest = buffer.filled().get(used..).unwrap_or_default();
                self.read.extend_from_slice(rest);
                self.end_turn(pass)
            }
            Poll::Ready(_) => Read::Lost,
        }
    }

    fn feed_websocket(&mut self, bytes: &mut [u8]) -> usize {
        let Phase::WebSocket(session) = &mut self.phase else {
            return bytes.len();
        };
        let service = &self.entry.service;
        let now = tokio::time::Instant::now;
        session.feed_in_turns(bytes, &mut self.write, now, |kind, data| {
            service.message_received(kind, data)
        })
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

    /// The connection waits: gives back what it does not need for that.
    fn rest_websocket(&mut self) {
        if self.read.is_empty() && self.read.capacity() > IDLE_BUFFER {
            self.read = BytesMut::new();
        }
        self.write.shrink();
    }

    fn lose_websocket(&mut self) -> Progress {
        if let Phase::WebSocket(session) = &mut self.phase {
            session.lose();
        }
        Progress::Done
    }

    /// The shutdown's deadline has passed: the client is told as far as it listens.
    pub(super) fn cut_websocket(&mut self) {
        if let Phase::WebSocket(session) = &mut self.phase {
            session.cut(&mut self.write);
            let _ = self.write.poll_flush(&mut self.io, &mut Context::from_waker(Waker::noop()));
        }
    }
}
