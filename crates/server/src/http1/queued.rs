//! A request whose head is here and which waits for a place at the application: its content is held
//! back, and a client that leaves gives its place in the queue up.

use std::mem;
use std::pin::pin;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

use super::{Connection, IDLE_BUFFER, PIPELINE_LIMIT, Phase, Progress};
use crate::admission::Ticket;
use crate::deadline::Clock;
use crate::service::{App, Turn};
use crate::transport::Transport;

impl<T: Transport, A: App> Connection<T, A> {
    /// The request at the start of what is read has to wait.
    pub(super) fn queue(&mut self, ticket: Ticket, now: Instant) {
        self.turn = Turn::Due(ticket);
        self.phase = Phase::Queued;
        self.deadline.set(now.checked_add(self.service().options.overload.queue_timeout));
    }

    pub(super) fn on_queued(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        // Responses to what was asked before.
        if let Poll::Ready(Err(_)) = self.write.poll_flush(&mut self.io, cx) {
            return self.give_up(clock);
        }
        let is_due = match &self.turn {
            Turn::Due(ticket) => ticket.poll(cx).is_ready(),
            Turn::Unasked | Turn::Missed | Turn::Left => true,
        };
        if is_due {
            return self.take_turn(clock);
        }
        // Reading is how a client is seen to leave. One that has sent this much more is not watched
        // any further: its time in the queue is bounded.
        if self.read.len() < PIPELINE_LIMIT {
            self.read.reserve(IDLE_BUFFER);
            match pin!(self.io.read_buf(&mut self.read)).poll(cx) {
                Poll::Ready(Ok(1..)) => return Progress::Again,
                Poll::Ready(Ok(0) | Err(_)) => return self.give_up(clock),
                Poll::Pending => {}
            }
        }
        if self.deadline.poll(cx).is_pending() {
            return Progress::Wait;
        }
        self.turn = Turn::Missed;
        self.take_turn(clock)
    }

    /// The client has left: its place is free, and the log hears of it.
    fn give_up(&mut self, clock: &mut Clock) -> Progress {
        self.turn = Turn::Left;
        self.take_turn(clock);
        Progress::Done
    }

    /// Goes on with the head, which either has its place now or will be refused.
    fn take_turn(&mut self, clock: &mut Clock) -> Progress {
        self.phase = Phase::Head;
        clock.refresh();
        let mut buffer = mem::take(&mut self.read);
        let used = self.on_head_bytes(&buffer, clock);
        buffer.advance(used);
        self.read = buffer;
        Progress::Again
    }
}
