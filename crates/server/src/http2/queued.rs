//! A request on an HTTP/2 stream that waits for a place at the application. Its content stays with the
//! stack, whose windows bound it.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::Accepted;
use crate::admission::Ticket;
use crate::deadline::Deadline;
use crate::service::Turn;

/// Resolves to the request and its turn.
pub(super) struct Queued {
    waiting: Option<(Accepted, Ticket)>,
    deadline: Deadline,
}

impl Queued {
    pub(super) fn new(accepted: Accepted, ticket: Ticket, until: Option<Instant>) -> Self {
        let mut deadline = Deadline::default();
        deadline.set(until);
        Self { waiting: Some((accepted, ticket)), deadline }
    }
}

impl Future for Queued {
    type Output = Option<(Accepted, Turn)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(((request, mut respond), ticket)) = self.waiting.take() else {
            return Poll::Ready(None);
        };
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Some(((request, respond), Turn::Left)));
        }
        if ticket.poll(cx).is_ready() {
            return Poll::Ready(Some(((request, respond), Turn::Due(ticket))));
        }
        if self.deadline.poll(cx).is_ready() {
            return Poll::Ready(Some(((request, respond), Turn::Missed)));
        }
        self.waiting = Some(((request, respond), ticket));
        Poll::Pending
    }
}
