//! One HTTP/2 stream: a request's content on the way in, its response on the way out.

use std::collections::VecDeque;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::Version;
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::response::{ResponseFraming, ResponseHead};
use tokio::time::Instant;

use crate::deadline::Deadline;
use crate::exchange::{
    Exchange, HIGH_WATER, Outcome, Outlet, Output, OutputEnd, RequestLine, Written,
};
use crate::service::{App, ConnectionInfo, Service};

/// How long a client may take nothing of a response that waits for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The end of a response is handed over whole if it is at most this long: the stack keeps what the
/// client's window has no room for.
const HAND_OVER: usize = 16 * 1024;

/// A request that the server answers, before its application is called.
pub(super) struct Admitted<A: App> {
    pub(super) service: Arc<Service<A>>,
    pub(super) peer: Arc<ConnectionInfo>,
    /// `None` if the request has no content.
    pub(super) content: Option<RecvStream>,
    pub(super) expectation: Expectation,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) is_head: bool,
    pub(super) line: Option<RequestLine>,
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
    line: Option<RequestLine>,
    stall: Deadline,
    is_over: bool,
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
struct Lost;

/// An outlet that is never there: the connection writes for all of its streams at once.
struct NoOutlet;

impl Outlet for NoOutlet {
    fn write_now(&self, _: &mut Context<'_>) -> Written {
        Written::Busy
    }
}

impl<A: App> StreamTask<A> {
    /// Counts the request; the end of the task counts it off.
    pub(super) fn new(admitted: Admitted<A>) -> Self {
        let Admitted { service, peer, content, expectation, respond, is_head, line, now } =
            admitted;
        service.request_started(now);
        Self {
            exchange: Exchange::new(is_head, content.is_none()),
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
            line,
            stall: Deadline::default(),
            is_over: false,
        }
    }

    pub(super) fn exchange(&self) -> &Arc<Exchange> {
        &self.exchange
    }

    fn poll_steps(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Lost> {
        let mut is_registered = false;
        loop {
            let taken = self.take_output()?;
            let sent = self.poll_send(cx)?;
            if matches!(self.response, SendState::Ended) {
                // The rest of the content is of no use to anybody: dropping it tells the client to
                // stop (RFC 9113, section 8.1).
                return Ok(Poll::Ready(()));
            }
            if self.poll_content(cx)? || (taken && sent.is_ready()) {
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
            if sent.is_pending() {
                if self.stall.is_unset() {
                    self.stall.set(Instant::now().checked_add(STALL_TIMEOUT));
                }
                if self.stall.poll(cx).is_ready() {
                    return self.cut(Reason::CANCEL);
                }
            }
            return Ok(Poll::Pending);
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
        Ok(moved)
    }

    fn send_head(&mut self, head: &ResponseHead) -> Result<(), Lost> {
        let date = self.service.date_line(Instant::now());
        let fields = self.service.server_fields(&date);
        let whole = self.last.is_some().then_some(self.queued as u64);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status()).unwrap_or_default();
        append(response.headers_mut(), head.all_fields(fields));
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
                send.reserve_capacity(self.queued);
                match send.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(granted))) => room = granted.min(room),
                    Poll::Ready(Some(Err(_)) | None) => return Err(Lost),
                    Poll::Pending => room = 0,
                }
            }
            if room == 0 {
                self.queue.push_front(chunk);
                return Ok(Poll::Pending);
            }
            let piece = chunk.split_to(room);
            self.queued -= piece.len();
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
                    self.received += data.len() as u64;
                    if self.service.options.body_limit.is_some_and(|limit| self.received > limit) {
                        return self.refuse_content().map(|()| true);
                    }
                    content.flow_control().release_capacity(data.len()).map_err(|_| Lost)?;
                    let is_last = content.is_end_stream();
                    self.exchange.feed(data, is_last);
                    if is_last {
                        self.content = None;
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

    /// The request's content is longer than it may be.
    fn refuse_content(&mut self) -> Result<(), Lost> {
        let error = RequestError::BodyTooLarge;
        self.service.rejections.report(&self.peer, error, Instant::now());
        self.exchange.disconnect();
        self.answer(error.status(), &error.to_string())
    }

    /// The application has ended without completing its response.
    fn abandon(&mut self) -> Result<(), Lost> {
        if self.exchange.outcome() == Some(Outcome::Returned) {
            if self.exchange.has_started() {
                log::error!("ASGI callable returned without completing response.");
            } else {
                log::error!("ASGI callable returned without starting response.");
            }
        }
        self.exchange.disconnect();
        self.answer(500, "Internal Server Error")
    }

    /// A response of the server's own where none has begun; otherwise the stream is cut, so that
    /// the client can tell.
    fn answer(&mut self, status: u16, text: &str) -> Result<(), Lost> {
        self.queue.clear();
        self.queued = 0;
        let (SendState::Waiting, Ok(head)) = (&self.response, ResponseHead::new(status)) else {
            return self.cut(Reason::INTERNAL_ERROR).map(|_| ());
        };
        if !self.is_head {
            self.queue.push_back(Bytes::copy_from_slice(text.as_bytes()));
            self.queued = text.len();
        }
        self.last = Some(FieldBlock::default());
        self.send_head(&with_text_type(head))
    }

    fn cut(&mut self, reason: Reason) -> Result<Poll<()>, Lost> {
        match mem::replace(&mut self.response, SendState::Ended) {
            SendState::Open(mut send) => send.send_reset(reason),
            SendState::Waiting | SendState::Ended => self.respond.send_reset(reason),
        }
        Err(Lost)
    }

    /// The end: the application hears of it if it has not seen the whole response off.
    fn finish(&mut self) {
        if mem::replace(&mut self.is_over, true) {
            return;
        }
        self.exchange.leave();
        if !self.exchange.is_complete() {
            self.exchange.disconnect();
        }
        let now = Instant::now();
        self.service.request_finished(self.status, self.started, now);
        self.service.log_access(&self.peer, self.line.as_ref(), self.status);
    }
}

impl<A: App> Future for StreamTask<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_steps(cx) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(())) => {}
            Err(Lost) => self.exchange.disconnect(),
        }
        self.finish();
        Poll::Ready(())
    }
}

impl<A: App> Unpin for StreamTask<A> {}

impl<A: App> Drop for StreamTask<A> {
    fn drop(&mut self) {
        // The connection has gone, or the application panicked: nobody must wait for ever.
        self.finish();
    }
}

/// Fields of the server's own responses.
pub(super) fn with_text_type(mut head: ResponseHead) -> ResponseHead {
    // A constant, and valid.
    let _ = head.push(b"content-type", b"text/plain; charset=utf-8");
    if head.status() == 503 {
        let _ = head.push(b"retry-after", b"1");
    }
    head
}

/// Adds fields whose names and values have been checked, by rules that are stricter than HTTP/2's.
pub(super) fn append<'a>(map: &mut HeaderMap, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
}
