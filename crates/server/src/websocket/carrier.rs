//! An open WebSocket over what carries it: one loop for all carriers, and whose turn it is to take input.
//!
//! Must not know what a carrier is: a connection, or a stream of one.

use std::mem;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::session::{End, Session};
use super::turnstile::Pass;
use crate::deadline::{Clock, Deadline};
use crate::exchange::HIGH_WATER;
use crate::http1::write_queue::WriteQueue;
use crate::service::{App, DrainPhase, Service};
use crate::transport::give_way;

/// What moves a WebSocket's bytes.
pub(crate) trait Carrier<A: App> {
    /// Reads in a row before others get their turn: small frames take time without calling the
    /// application.
    const BURST: usize;

    /// What waits for the client.
    fn out(&mut self) -> &mut WriteQueue;

    /// Sends that, as far as the client takes it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Reads once, and has the session take what there is.
    fn poll_read(&mut self, intake: Intake<'_, A>, cx: &mut Context<'_>) -> Read;

    /// Nothing goes on: gives back what is not needed for that.
    fn rest(&mut self);
}

/// The client is.
#[derive(Debug)]
pub(crate) struct Gone;

/// What reading came to.
#[derive(Debug)]
pub(crate) enum Read {
    Some,
    /// It is somebody else's turn.
    Yield,
    Nothing,
    Lost,
}

/// Goes on with a WebSocket until it is over.
pub(crate) fn poll<A: App, C: Carrier<A>>(
    session: &mut Session,
    carrier: &mut C,
    service: &Service<A>,
    deadline: &mut Deadline,
    clock: &mut Clock,
    cx: &mut Context<'_>,
) -> Poll<Result<End, Gone>> {
    let mut reads = 0;
    loop {
        if session.is_open() && service.phase() >= DrainPhase::Draining {
            session.drain(clock.refresh());
        }
        if carrier.out().len() < HIGH_WATER {
            session.take(carrier.out(), || clock.refresh());
        }
        let was_full = carrier.out().len() >= HIGH_WATER;
        match carrier.poll_flush(cx) {
            // What has been held back above can go on.
            Poll::Ready(Ok(())) if was_full => continue,
            Poll::Ready(Ok(())) | Poll::Pending => {}
            Poll::Ready(Err(Gone)) => return Poll::Ready(Err(Gone)),
        }
        if let Some(end) = session.end() {
            return Poll::Ready(Ok(end));
        }
        let read = match Intake::begin(session, service, carrier.out()) {
            Some(intake) => carrier.poll_read(intake, cx),
            None => Read::Yield,
        };
        match read {
            Read::Some if reads < C::BURST => {
                reads += 1;
                continue;
            }
            Read::Some => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Read::Yield => {
                give_way(cx);
                return Poll::Pending;
            }
            Read::Nothing => {}
            Read::Lost => return Poll::Ready(Err(Gone)),
        }
        deadline.set(session.deadline());
        if deadline.poll(cx).is_pending() {
            carrier.rest();
            return Poll::Pending;
        }
        session.on_deadline(carrier.out(), clock.refresh());
    }
}

/// A session's turn to take input. Whoever goes on with a large message gives its place up by dropping
/// this, and keeps it by [`Self::end`].
pub(crate) struct Intake<'a, A: App> {
    session: &'a mut Session,
    service: &'a Service<A>,
    pass: Option<Pass>,
    is_taking: bool,
}

impl<'a, A: App> Intake<'a, A> {
    /// `None` if it is somebody else's turn.
    fn begin(session: &'a mut Session, service: &'a Service<A>, out: &WriteQueue) -> Option<Self> {
        // Answers to a client that does not read them are not piled up.
        let is_taking = out.len() < HIGH_WATER && session.wants_input();
        let pass = if is_taking {
            session.inflation.begin(&service.turnstile).ok()?
        } else {
            session.inflation.step_aside();
            None
        };
        Some(Self { session, service, pass, is_taking })
    }

    /// Whether the session has room for anything now.
    pub(crate) fn is_taking(&self) -> bool {
        self.is_taking
    }

    /// Whether the next message, or the rest of this one, is likely to be longer than `length`.
    pub(crate) fn expects_more_than(&self, length: usize) -> bool {
        self.session.expects_more_than(length)
    }

    /// Has the session take `bytes`; what it answers goes to `out`. Returns how many are used up: the
    /// rest has to come again.
    pub(crate) fn feed(&mut self, bytes: &mut [u8], out: &mut WriteQueue) -> usize {
        let service = self.service;
        self.session.feed(bytes, out, Instant::now, |message| service.message_received(message))
    }

    /// The same with what has been kept of earlier reads, if anything is taken now.
    pub(crate) fn feed_kept(&mut self, kept: &mut BytesMut, out: &mut WriteQueue) -> usize {
        if !self.is_taking || kept.is_empty() {
            return 0;
        }
        let mut buffer = mem::take(kept);
        let used = self.feed(&mut buffer, out);
        buffer.advance(used);
        *kept = buffer;
        used
    }

    /// Ends the turn, after which there may be more to do.
    pub(crate) fn end(self) -> Read {
        if self.session.take_is_laden() {
            self.session.inflation.go_on(self.pass, &self.service.turnstile);
            return Read::Yield;
        }
        Read::Some
    }
}
