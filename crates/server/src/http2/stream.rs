//! One HTTP/2 stream: a request's content on the way in, its response on the way out. Long because the
//! two directions end each other: what one of them meets decides what the other one still does.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::Version;
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::response::{ResponseFraming, ResponseHead};
use rsgi_protocol::websocket::deflate::Agreement;
use tokio::time::Instant;

use super::answer::{answer, append};
use super::tunnel::{Asked, Tunnel};
use crate::access_log::{Ended, Entry};
use crate::deadline::Deadline;
use crate::exchange::{Exchange, HIGH_WATER, NoOutlet, Outcome, Output, OutputEnd};
use crate::live::LiveKey;
use crate::service::{App, ConnectionInfo, DrainPhase, Service};
use crate::websocket::{Log, WebSocket};

/// How long a client may take nothing of a response that the application has finished.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What the stack keeps of one stream's response.
pub(super) const SEND_BUFFER: usize = 64 * 1024;
/// The end of a response is handed over whole if it is at most this long: the stack keeps what the
/// client's window has no room for.
const HAND_OVER: usize = 16 * 1024;
/// Pieces of content below this size are copied.
const OWN_BUFFER: usize = 4096;

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

    /// The application has accepted a WebSocket: answers, and goes on with it.
    fn switch(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let Socket::Asked(asked) = mem::replace(&mut self.socket, Socket::None) else {
            return Err(Lost);
        };
        let (Some(acceptance), Some(options)) =
            (asked.websocket.take_acceptance(), &self.service.options.websocket)
        else {
            return Err(Lost);
        };
        let date = crate::date::line_at(Instant::now());
        let mut response = Response::new(());
        let fields = response.headers_mut();
        append(fields, acceptance.all_fields(self.service.server_fields(&date)));
        if let Some(agreement) = asked.deflate
            && let Ok(value) = HeaderValue::try_from(agreement.to_field())
        {
            fields.insert(http::header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let sent = self.respond.send_response(response, false);
        let log =
            if self.entry().is_some_and(Entry::is_listed) { Log::Lines } else { Log::Nothing };
        let Ok(send) = sent else {
            self.socket = Socket::Asked(asked);
            return Err(Lost);
        };
        let tunnel = Tunnel::new(*asked, send, options, log, cx.waker());
        self.socket = Socket::Open(Box::new(tunnel));
        // What HTTP/1.1 answers and the log knows as accepted; the client sees 200.
        self.status = 101;
        self.silence.set(None);
        self.response = SendState::Ended;
        self.count_off();
        Ok(())
    }

    /// A shutdown has got further.
    pub(super) fn follow_shutdown(&self) {
        if let Socket::Open(tunnel) = &self.socket {
            return tunnel.wake();
        }
        self.end_stream();
    }

    /// The shutdown's deadline has passed.
    pub(super) fn cut_websocket(&mut self) {
        if let Socket::Open(tunnel) = &mut self.socket {
            tunnel.cut();
        }
    }

    /// Asks the application to end a response that has begun, once the shutdown has come that far.
    fn end_stream(&self) {
        let has_begun = matches!(self.response, SendState::Open(_));
        if has_begun && self.service.phase() >= DrainPhase::EndingStreams {
            self.exchange.ask_to_end();
        }
    }

    /// Takes what the application has sent, as long as the client keeps up. Returns whether there
    /// was something.
    fn take_output(&mut self) -> Result<bool, Lost> {
        if self.queued >= HIGH_WATER || self.last.is_some() {
            return Ok(false);
        }
        let Output { hints, head, chunks, end, .. } = self.exchange.take();
        let mut moved = head.is_some() || !chunks.is_empty() || !hints.is_empty();
        if matches!(self.response, SendState::Waiting) {
            for hint in &hints {
                self.send_informational(StatusCode::EARLY_HINTS, hint);
            }
        }
        for chunk in chunks {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
        let is_open = matches!(end, OutputEnd::Open);
        match end {
            OutputEnd::Open => {}
            OutputEnd::Complete(trailers) => {
                self.last = Some(trailers);
                moved = true;
            }
            OutputEnd::Abandoned => return self.abandon().map(|()| true),
            OutputEnd::Disconnected => return Err(Lost),
        }
        if let Some(head) = head {
            self.send_head(&head)?;
        }
        if is_open {
            self.end_stream();
        }
        Ok(moved)
    }

    fn send_head(&mut self, head: &ResponseHead) -> Result<(), Lost> {
        let date = crate::date::line_at(Instant::now());
        let fields = self.service.server_fields(&date);
        let whole = self.last.is_some().then_some(self.queued as u64);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status()).unwrap_or_default();
        append(response.headers_mut(), head.all_fields(fields));
        if let Some(entry) = &mut self.entry {
            self.service.access_log().respond(entry, head, fields);
        }
        if let ResponseFraming::Length(length) = head.framing(Version::Http2, self.is_head, whole) {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        self.status = head.status();
        let is_all = self.queue.is_empty() && self.last.as_ref().is_some_and(FieldBlock::is_empty);
        let send = self.respond.send_response(response, is_all).map_err(|_| Lost)?;
        self.response = if is_all { SendState::Ended } else { SendState::Open(send) };
        Ok(())
    }

    fn send_informational(&mut self, status: StatusCode, fields: &FieldBlock) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        append(response.headers_mut(), fields.iter());
        // It is advice. A stream that has been reset shows elsewhere.
        let _ = self.respond.send_informational(response);
    }

    /// Sends as much of the queue as the client has room for; pending if it has not for all.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Lost> {
        let SendState::Open(send) = &mut self.response else {
            return Ok(Poll::Ready(()));
        };
        let is_short = self.last.is_some() && self.queued <= HAND_OVER;
        let ends_with_data = self.last.as_ref().is_some_and(FieldBlock::is_empty);
        while let Some(mut chunk) = self.queue.pop_front() {
            let mut room = chunk.len();
            if !is_short {
                if send.capacity() == 0 {
                    // Tells of more room only once: what there is already is asked for above.
                    send.reserve_capacity(self.queued.min(SEND_BUFFER));
                    if let Poll::Ready(Some(Err(_)) | None) = send.poll_capacity(cx) {
                        return Err(Lost);
                    }
                }
                room = send.capacity().min(room);
            }
            if room == 0 {
                self.queue.push_front(chunk);
                return Ok(Poll::Pending);
            }
            let piece = chunk.split_to(room);
            self.queued -= piece.len();
            self.sent += piece.len() as u64;
            if !chunk.is_empty() {
                self.queue.push_front(chunk);
            }
            self.stall.set(None);
            let is_end = ends_with_data && self.queue.is_empty();
            send.send_data(piece, is_end).map_err(|_| Lost)?;
            if is_end {
                self.response = SendState::Ended;
                return Ok(Poll::Ready(()));
            }
        }
        match self.last.take() {
            None => return Ok(Poll::Ready(())),
            Some(trailers) if trailers.is_empty() => send.send_data(Bytes::new(), true),
            Some(trailers) => {
                let mut fields = HeaderMap::new();
                append(&mut fields, trailers.iter());
                send.send_trailers(fields)
            }
        }
        .map_err(|_| Lost)?;
        self.response = SendState::Ended;
        Ok(Poll::Ready(()))
    }

    /// Moves content to the application while it keeps up: the client's window opens again only
    /// for what has been moved. Returns whether something was.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut moved = false;
        while let Some(content) = &mut self.content {
            if !self.exchange.has_room() {
                break;
            }
            match content.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.expectation = Expectation::None;
                    let count = data.len();
                    self.received += count as u64;
                    if self.service.options.body_limit.is_some_and(|limit| self.received > limit) {
                        let error = RequestError::BodyTooLarge;
                        return self.refuse_content(error).map(|()| true);
                    }
                    content.flow_control().release_capacity(count).map_err(|_| Lost)?;
                    let is_last = content.is_end_stream();
                    // A small piece would keep the whole buffer alive that it was read into.
                    let is_small = count < OWN_BUFFER;
                    let data = if is_small { Bytes::copy_from_slice(&data) } else { data };
                    self.exchange.feed(data, is_last);
                    if is_last {
                        self.content = None;
                        if let Some(entry) = &mut self.entry {
                            entry.received();
                        }
                    }
                    moved = true;
                }
                Poll::Ready(None) => {
                    self.content = None;
                    self.exchange.feed(Bytes::new(), true);
                    moved = true;
                }
                Poll::Ready(Some(Err(_))) => return Err(Lost),
                Poll::Pending => {
                    self.answer_expectation();
                    break;
                }
            }
        }
        Ok(moved)
    }

    /// Tells the client to go on, once the application has asked for the content.
    fn answer_expectation(&mut self) {
        let is_due = self.expectation == Expectation::Unanswered
            && matches!(self.response, SendState::Waiting)
            && self.exchange.is_asked();
        if is_due {
            self.expectation = Expectation::None;
            self.send_informational(StatusCode::CONTINUE, &FieldBlock::default());
        }
    }

    /// The request's content is longer than it may be, or does not come.
    fn refuse_content(&mut self, error: RequestError) -> Result<(), Lost> {
        self.service.rejections.report(&self.peer, error, Instant::now());
        self.disconnect();
        self.answer(error.status(), &error.to_string())
    }

    /// The application has ended without completing its response.
    fn abandon(&mut self) -> Result<(), Lost> {
        if self.exchange.outcome() == Some(Outcome::Returned) && !self.exchange.is_asked_to_end() {
            if matches!(self.socket, Socket::Asked(_)) && !self.exchange.has_started() {
                log::error!("ASGI callable returned without completing handshake.");
            } else if self.exchange.has_started() {
                log::error!("ASGI callable returned without completing response.");
            } else {
                log::error!("ASGI callable returned without starting response.");
            }
        }
        self.disconnect();
        self.answer(500, "Internal Server Error")
    }

    /// A response of the server's own where none has begun; otherwise the stream is cut, so that
    /// the client can tell.
    fn answer(&mut self, status: u16, text: &str) -> Result<(), Lost> {
        if !matches!(self.response, SendState::Waiting) {
            return Err(self.cut(Reason::INTERNAL_ERROR));
        }
        self.status = status;
        self.response = SendState::Ended;
        answer(&mut self.respond, &self.service, status, text, self.is_head);
        Ok(())
    }

    fn cut(&mut self, reason: Reason) -> Lost {
        match mem::replace(&mut self.response, SendState::Ended) {
            SendState::Open(mut send) => send.send_reset(reason),
            SendState::Waiting | SendState::Ended => self.respond.send_reset(reason),
        }
        Lost
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
