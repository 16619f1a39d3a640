//! One HTTP/2 stream: a request's content on the way in ([`content`]), its response on the way out
//! ([`response`]). The two end each other, and that is here: what one of them meets decides what the
//! other one still does.

mod content;
mod response;
mod websocket;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::websocket::deflate::Agreement;
use tokio::time::Instant;

use super::tunnel::{Asked, Tunnel};
use crate::access_log::{Ended, Entry};
use crate::deadline::Deadline;
use crate::exchange::{Exchange, NoOutlet};
use crate::live::LiveKey;
use crate::service::{App, ConnectionInfo, DrainPhase, Service};
use crate::websocket::WebSocket;

/// How long a client may take nothing of a response that the application has finished.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What the stack keeps of one stream's response.
pub(super) const SEND_BUFFER: usize = 64 * 1024;

/// A request that the server answers, before its application is called.
pub(super) struct Admitted<A: App> {
    pub(super) service: Arc<Service<A>>,
    pub(super) peer: Arc<ConnectionInfo>,
    /// `None` if the request has no content.
    pub(super) content: Option<RecvStream>,
    pub(super) expectation: Expectation,
    pub(super) respond: SendResponse<Bytes>,
    /// If the request asks for a WebSocket; then it has no content.
    pub(super) asked: Option<(RecvStream, Option<Agreement>)>,
    pub(super) is_head: bool,
    pub(super) entry: Option<Box<Entry>>,
    pub(super) live: LiveKey,
    pub(super) now: Instant,
}

/// `Expect: 100-continue` (RFC 9110, section 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expectation {
    None,
    Unanswered,
}

/// The task of one stream. Resolves when nothing is left to do for it.
pub(super) struct StreamTask<A: App> {
    service: Arc<Service<A>>,
    peer: Arc<ConnectionInfo>,
    exchange: Arc<Exchange>,
    content: Option<RecvStream>,
    expectation: Expectation,
    received: u64,
    respond: SendResponse<Bytes>,
    response: SendState,
    /// What the application has sent and the stack has not taken.
    queue: VecDeque<Bytes>,
    queued: usize,
    /// What comes behind the queue, once the application has sent everything.
    last: Option<FieldBlock>,
    is_head: bool,
    status: u16,
    started: Instant,
    sent: u64,
    entry: Option<Box<Entry>>,
    live: LiveKey,
    stall: Deadline,
    /// Until when there has to be progress, as long as the application has not sent everything.
    silence: Deadline,
    is_over: bool,
    socket: Socket,
}

/// What a request is that asks for a WebSocket: one like any other, until the application accepts.
enum Socket {
    None,
    Asked(Box<Asked>),
    Open(Box<Tunnel>),
}

/// An application that goes on although its client has left.
pub(super) enum Abandoned {
    Request(Arc<Exchange>),
    WebSocket(Arc<WebSocket>),
}

impl Abandoned {
    pub(super) fn has_ended(&self) -> bool {
        match self {
            Self::Request(exchange) => exchange.outcome().is_some(),
            Self::WebSocket(websocket) => websocket.has_ended(),
        }
    }
}

enum SendState {
    /// The head has not been sent.
    Waiting,
    /// Content may follow.
    Open(SendStream<Bytes>),
    /// The stack has everything, or takes nothing any more.
    Ended,
}

/// The client has gone, or must not go on.
pub(super) struct Lost;

impl<A: App> StreamTask<A> {
    /// Counts the request; the end of the task counts it off.
    pub(super) fn new(admitted: Admitted<A>) -> Self {
        let Admitted {
            service,
            peer,
            content,
            expectation,
            respond,
            asked,
            is_head,
            entry,
            live,
            now,
        } = admitted;
        service.request_started(now);
        let mut silence = Deadline::default();
        silence.set(service.silent_until(now));
        let exchange = Exchange::new(is_head, content.is_none());
        let socket = match (asked, &service.options.websocket) {
            (Some((content, deflate)), Some(options)) => {
                let websocket = WebSocket::new(Arc::clone(&exchange), options, deflate);
                Socket::Asked(Box::new(Asked { websocket, deflate, content }))
            }
            _ => Socket::None,
        };
        Self {
            exchange,
            socket,
            service,
            peer,
            content,
            expectation,
            received: 0,
            respond,
            response: SendState::Waiting,
            queue: VecDeque::new(),
            queued: 0,
            last: None,
            is_head,
            status: 0,
            started: now,
            sent: 0,
            entry,
            live,
            stall: Deadline::default(),
            silence,
            is_over: false,
        }
    }

    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    pub(super) fn entry(&self) -> Option<&Entry> {
        self.entry.as_deref()
    }

    /// What the application is called with, if it is for a WebSocket.
    pub(super) fn websocket(&self) -> Option<&Arc<WebSocket>> {
        match &self.socket {
            Socket::None => None,
            Socket::Asked(asked) => Some(&asked.websocket),
            Socket::Open(tunnel) => Some(tunnel.websocket()),
        }
    }

    fn application(&self) -> Abandoned {
        match self.websocket() {
            Some(websocket) => Abandoned::WebSocket(Arc::clone(websocket)),
            None => Abandoned::Request(Arc::clone(&self.exchange)),
        }
    }

    /// Sends the response of an application that has answered inside its call, which most do.
    /// Returns whether the task is over; if it is not, or the client has gone, it has to be polled.
    pub(super) fn settle(&mut self) -> bool {
        // What would wait for this waker is registered anew when the task is polled.
        let mut nobody = Context::from_waker(Waker::noop());
        let settled = self.take_output().and_then(|_| self.poll_send(&mut nobody));
        let is_over = settled.is_ok() && matches!(self.response, SendState::Ended);
        if is_over {
            self.finish();
        }
        is_over
    }

    fn poll_steps(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Lost> {
        let mut is_registered = false;
        loop {
            if let Socket::Asked(asked) = &self.socket
                && asked.websocket.is_accepted()
            {
                return self.switch(cx).map(|()| Poll::Pending);
            }
            let taken = self.take_output()?;
            let waiting = self.queued;
            let sent = self.poll_send(cx)?;
            if matches!(self.response, SendState::Ended) {
                // The rest of the content is of no use to anybody: dropping it tells the client to
                // stop (RFC 9113, section 8.1).
                return Ok(Poll::Ready(()));
            }
            let has_moved = taken || self.queued < waiting;
            let has_content_moved = self.poll_content(cx)?;
            if has_moved || has_content_moved {
                self.note_progress();
            }
            if has_content_moved || (has_moved && sent.is_ready()) {
                continue;
            }
            if !is_registered {
                is_registered = true;
                self.exchange.wait(cx.waker(), Weak::<NoOutlet>::new());
                continue; // the application may have sent something just before
            }
            let reset = match &mut self.response {
                SendState::Open(send) => send.poll_reset(cx),
                SendState::Waiting | SendState::Ended => self.respond.poll_reset(cx),
            };
            if reset.is_ready() {
                return Err(Lost);
            }
            if sent.is_pending() && self.is_sent_off() {
                if self.stall.is_unset() {
                    self.stall.set(Instant::now().checked_add(STALL_TIMEOUT));
                }
                if self.stall.poll(cx).is_ready() {
                    return Err(self.cut(Reason::CANCEL));
                }
            } else if self.silence.poll(cx).is_ready() {
                self.run_out(sent.is_pending())?;
                continue;
            }
            return Ok(Poll::Pending);
        }
    }

    /// The application has sent something, or the client has sent or read something.
    fn note_progress(&mut self) {
        if !self.silence.is_unset() {
            self.silence.set(self.service.silent_until(Instant::now()));
        }
    }

    /// There has been no progress for too long (`--timeout-request`): what follows depends on who is
    /// waited for.
    fn run_out(&mut self, is_unread: bool) -> Result<(), Lost> {
        self.silence.set(None);
        if is_unread {
            return Err(self.cut(Reason::CANCEL));
        }
        if self.content.is_some() && self.exchange.waits_for_content() {
            return self.refuse_content(RequestError::RequestTimeout);
        }
        self.service.time_out(&self.exchange, self.live, &self.peer);
        self.disconnect();
        self.answer(504, "Gateway Timeout")
    }

    /// Whether the application has nothing more to add: only the client is waited for.
    fn is_sent_off(&self) -> bool {
        self.last.is_some()
            || self.exchange.is_complete()
            || self.exchange.outcome().is_some()
            || self.exchange.is_at_file()
    }

    /// Asks the application to end a response that has begun, once the shutdown has come that far.
    fn end_stream(&self) {
        let has_begun = matches!(self.response, SendState::Open(_));
        if has_begun && self.service.phase() >= DrainPhase::EndingStreams {
            self.exchange.ask_to_end();
        }
    }

    /// The application gets to hear that its client has gone.
    fn disconnect(&self) {
        self.exchange.disconnect();
        if let Socket::Asked(asked) = &self.socket {
            asked.websocket.lose();
        }
    }

    /// The end: the application hears of it if it has not seen the whole response off.
    fn finish(&mut self) {
        if !self.is_over {
            if !self.exchange.is_complete() {
                self.disconnect();
            }
            self.count_off();
        }
    }

    /// The request is over.
    fn count_off(&mut self) {
        self.is_over = true;
        self.exchange.leave();
        let now = Instant::now();
        self.service.live_requests().leave(self.live);
        self.service.request_finished(self.status, self.started, now);
        let (status, bytes, started) = (self.status, self.sent, self.started);
        let ended = Ended { status, bytes, started, now };
        self.service.log_access(&self.peer, self.entry.as_deref(), ended);
    }
}

impl<A: App> Future for StreamTask<A> {
    /// The application, if its client has left it and it is still at it.
    type Output = Option<Abandoned>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut left = None;
        if !matches!(this.socket, Socket::Open(_)) {
            match this.poll_steps(cx) {
                Ok(Poll::Pending) if matches!(this.socket, Socket::Open(_)) => {}
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {}
                Err(Lost) => left = Some(this.application()),
            }
        }
        if let Socket::Open(tunnel) = &mut this.socket {
            ready!(tunnel.poll(&this.service, cx));
            left = Some(this.application());
        }
        this.finish();
        Poll::Ready(left.filter(|left| !left.has_ended()))
    }
}

impl<A: App> Unpin for StreamTask<A> {}

impl<A: App> Drop for StreamTask<A> {
    fn drop(&mut self) {
        // The connection has gone, or the application panicked: nobody must wait for ever.
        self.finish();
    }
}
