//! One HTTP/1.x connection: a state machine over a socket, polled by one task (RFC 9112).
//!
//! ```text
//!            head complete                 response complete, content read
//!   Head ─────────────────────► Exchange ──────────────────────────────────► Head
//!    │ timeout, bad request,        │ cannot be kept alive, │ accepted as a
//!    │ drain, closed by client      │ refused, abandoned    │ WebSocket
//!    └──────────► Closing ◄─────────┴────── WebSocket ◄─────┘
//! ```
//!
//! A head that finds no place at the application waits in between (`queued.rs`).
//!
//! `protocol` owns the grammar and the rules; this module owns the socket, the buffers and the
//! deadlines. It is the hot path of the whole server: an answered request costs one read, one
//! write, no allocation beyond its [`Exchange`] and no timer operation (see [`Deadline`]). Longer than
//! other files because it is one machine: what has parts of its own is in the modules below.

mod active;
mod closing;
mod patience;
mod queued;
mod task;
mod websocket;
pub(crate) mod write_queue;

use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::HeadScanner;
use rsgi_protocol::http::head::{Version, parse_head};
use rsgi_protocol::http::response::{Persistence, ResponseHead};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;

pub(crate) use self::task::ConnectionTask;

use self::active::{Active, Applied, Refusal};
use self::closing::{Close, Closing};
use self::write_queue::WriteQueue;
use crate::connections::Entry;
use crate::deadline::{Clock, Deadline};
use crate::exchange::{HIGH_WATER, Outlet, Written};
use crate::service::{App, ConnectionInfo, DrainPhase, Service, Turn, Versions};
use crate::transport::{Rewound, Slot, Transport};
use crate::websocket::Session;

/// What is read at once while a head is expected: on the stack, so that an idle connection holds no
/// buffer.
const HEAD_READ: usize = 16 * 1024;
/// What is read at once while content is expected.
const CONTENT_READ: usize = 64 * 1024;
/// Pipelined bytes that are taken in while a response is under way.
const PIPELINE_LIMIT: usize = 64 * 1024;
/// Pipelined requests that are answered before other connections get their turn.
const PIPELINE_BURST: usize = 16;
/// Unread request content that is read and dropped to keep a connection; above it, closing is
/// cheaper.
const DISCARD_LIMIT: u64 = 64 * 1024;
/// How long a client may read nothing of a complete response that waits for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How a connection begins that speaks HTTP/2 by prior knowledge (RFC 9113, section 3.4): made to
/// look like the whole head of a request that no HTTP/1 server takes.
const HTTP2_HEAD: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// Buffers above this size are given back when a connection becomes idle.
const IDLE_BUFFER: usize = 4096;

/// One connection.
struct Connection<T, A: App> {
    io: Slot<T>,
    entry: Entry<A>,
    peer: ConnectionInfo,
    context: A::Connection,
    phase: Phase,
    /// What has been read and not been used.
    read: BytesMut,
    scanner: HeadScanner,
    write: WriteQueue,
    /// Of the request whose head comes next.
    turn: Turn,
    deadline: Deadline,
    /// How much was waiting in `write` when the client last read something of a complete response.
    unread: usize,
    /// Whether a request has been answered.
    is_reused: bool,
    /// Whether the client has said that it sends no more.
    is_half_closed: bool,
    /// How many requests have been answered in this turn.
    served: usize,
    /// This connection, for the exchanges that wait for their application.
    outlet: Weak<dyn Outlet>,
    is_registered: bool,
}

enum Phase {
    Head,
    /// A whole head is at the start of what was read, and waits for its turn.
    Queued,
    Exchange(Active),
    /// Boxed, so that connections without one stay small.
    WebSocket(Box<Session>),
    Closing(Closing),
    /// The client speaks HTTP/2: [`Connection::hand_over`] is next.
    Http2,
    /// Only while a phase is being replaced.
    Moving,
}

/// What a step of the machine came to.
enum Progress {
    /// The phase has changed, or there may be more to do.
    Again,
    /// Wakers are in place.
    Wait,
    /// The connection is over.
    Done,
}

impl<T: Transport, A: App> Connection<T, A> {
    fn new(io: T, entry: Entry<A>, peer: ConnectionInfo, outlet: Weak<dyn Outlet>) -> Self {
        let context = entry.service.app.connect(&peer);
        Self {
            io: Slot::new(io),
            entry,
            peer,
            context,
            outlet,
            phase: Phase::Head,
            read: BytesMut::new(),
            scanner: HeadScanner::default(),
            write: WriteQueue::default(),
            turn: Turn::default(),
            deadline: Deadline::default(),
            unread: 0,
            is_reused: false,
            is_half_closed: false,
            served: 0,
            is_registered: false,
        }
    }

    fn service(&self) -> &Service<A> {
        &self.entry.service
    }

    fn service_arc(&self) -> &Arc<Service<A>> {
        &self.entry.service
    }

    fn peer(&self) -> ConnectionInfo {
        self.peer.clone()
    }

    fn on_head(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        if self.served >= PIPELINE_BURST {
            cx.waker().wake_by_ref();
            return match self.write.poll_flush(&mut self.io, cx) {
                Poll::Ready(Err(_)) => Progress::Done,
                Poll::Ready(Ok(())) | Poll::Pending => Progress::Wait,
            };
        }
        // A client that pipelines without reading is not answered any further until it reads.
        if !self.read.is_empty() && self.write.len() < HIGH_WATER {
            let mut buffer = mem::take(&mut self.read);
            let used = self.on_head_bytes(&buffer, clock);
            buffer.advance(used);
            self.read = buffer;
            if !matches!(self.phase, Phase::Head) {
                return Progress::Again;
            }
        }
        let was_full = self.write.len() >= HIGH_WATER;
        match self.write.poll_flush(&mut self.io, cx) {
            Poll::Pending => return self.wait_for_reader(cx, clock),
            Poll::Ready(Err(_)) => return Progress::Done,
            // What has been held back above can go on.
            Poll::Ready(Ok(())) if was_full && !self.read.is_empty() => return Progress::Again,
            Poll::Ready(Ok(())) if self.unread == 0 => {}
            Poll::Ready(Ok(())) => {
                // The client has read its response; from now on it is idle.
                self.unread = 0;
                self.deadline
                    .set(clock.now().checked_add(self.service().options.keep_alive_timeout));
            }
        }
        if let Some(until) = self.service().idle_until()
            && !self.has_head_bytes()
        {
            self.deadline.set_earlier(until);
        }
        self.read_head(cx, clock)
    }

    fn read_head(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        if self.is_half_closed {
            return Progress::Done;
        }
        let mut space = [const { MaybeUninit::uninit() }; HEAD_READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Pending => return self.wait_for_head(cx, clock),
            Poll::Ready(Err(_)) => return Progress::Done,
            Poll::Ready(Ok(())) => {}
        }
        let data = buffer.filled();
        if data.is_empty() {
            return Progress::Done;
        }
        self.entry.set_busy();
        // Empty lines are not a head's beginning; the first head's time runs from the connection's,
        // unless a drain has cut that short.
        let begins = (self.is_reused || self.service().idle_until().is_some())
            && !self.has_head_bytes()
            && data.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        if begins || self.deadline.is_unset() {
            self.deadline.set(clock.now().checked_add(self.service().options.head_timeout));
        }
        if self.read.is_empty() {
            let used = self.on_head_bytes(data, clock);
            self.read.extend_from_slice(data.get(used..).unwrap_or_default());
        } else {
            self.read.extend_from_slice(data);
        }
        Progress::Again
    }

    fn wait_for_head(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        if self.deadline.is_unset() {
            // A new connection: its first byte belongs to its first head.
            self.deadline.set(clock.now().checked_add(self.service().options.head_timeout));
        }
        if self.entry.standing.is_asked() {
            return self.close(Close::Clean);
        }
        if self.deadline.poll(cx).is_pending() {
            return Progress::Wait;
        }
        if self.has_head_bytes() {
            self.refuse(RequestError::RequestTimeout, false, clock)
        } else {
            self.close(Close::Clean)
        }
    }

    fn has_head_bytes(&self) -> bool {
        self.scanner.has_started(&self.read)
    }

    /// Looks for a whole head at the start of `bytes` and starts its exchange. Returns how many
    /// bytes are used up.
    fn on_head_bytes(&mut self, bytes: &[u8], clock: &mut Clock) -> usize {
        let limits = self.entry.service.options.head;
        let end = match self.scanner.find_end(bytes, &limits) {
            Ok(Some(end)) => end,
            Ok(None) => return 0,
            Err(error) => {
                self.refuse(error, false, clock);
                return bytes.len();
            }
        };
        self.scanner.reset();
        let now = clock.now();
        let started = parse_head(bytes.get(..end).unwrap_or_default(), &limits, |head| {
            if self.is_spoken_to_in_vain() {
                let refusal = Refusal::Invalid(RequestError::UnsupportedVersion);
                return Err((refusal, head.method == "HEAD"));
            }
            let forwarding = self.peer.forwarding.as_deref();
            let forwarded = forwarding.and_then(|it| it.read(head.fields));
            let active =
                Active::new(&self.entry.service, &head, forwarded.as_ref(), &mut self.turn, now)
                    .map_err(|refusal| (refusal, head.method == "HEAD"))?;
            // In its place before the application runs: a panic there must find it.
            self.phase = Phase::Exchange(active);
            self.deadline.set(self.entry.service.silent_until(now));
            if let Phase::Exchange(active) = &self.phase {
                let Self { entry, context, peer, .. } = self;
                active.call(&entry.service, context, peer, &head, forwarded.as_ref());
            }
            Ok(())
        });
        match started {
            Ok(Ok(())) => {}
            Ok(Err((Refusal::Invalid(error), is_head))) => {
                self.refuse(error, is_head, clock);
            }
            Err(_) if self.may_speak_http2() && bytes.starts_with(HTTP2_HEAD) => {
                self.phase = Phase::Http2;
                return 0;
            }
            Err(error) => {
                self.refuse(error, false, clock);
            }
            Ok(Err((Refusal::Queued(ticket), _))) => {
                self.queue(ticket, now);
                return 0;
            }
            Ok(Err((Refusal::Busy(entry), is_head))) => {
                let (service, entry) = (self.service(), entry.as_deref());
                if service.turn_away(&self.turn, &self.peer, entry, clock.now()) {
                    let text = if is_head { "" } else { "Service Unavailable" };
                    self.answer(503, text, Version::Http11, clock);
                    self.close(Close::Linger);
                }
            }
        }
        end
    }

    /// Whether HTTP/1 is not spoken. Redirects are for everybody.
    fn is_spoken_to_in_vain(&self) -> bool {
        self.service().options.versions == Versions::Http2 && self.peer.redirect.is_none()
    }

    /// Whether the client may begin with HTTP/2: with its first request, and unless it has agreed on
    /// another protocol.
    fn may_speak_http2(&self) -> bool {
        let agreed = self.peer.tls.as_ref().and_then(|tls| tls.protocol.as_ref());
        !self.is_reused && agreed.is_none() && self.service().options.versions != Versions::Http1
    }

    fn on_exchange(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        loop {
            let Phase::Exchange(active) = &mut self.phase else {
                return Progress::Again;
            };
            let mut progressed = false;
            let was_complete = active.is_complete();
            if self.write.len() < HIGH_WATER {
                let applied = active.apply(&self.entry.service, &self.read, &mut self.write, clock);
                match applied {
                    Applied::Complete if active.is_over() => return self.finish(clock),
                    Applied::Complete if self.deadline.is_unset() || !was_complete => {
                        // Only the rest of the content is missing, and nobody waits for it.
                        let patience = self.entry.service.options.head_timeout;
                        self.deadline.set(clock.now().checked_add(patience));
                    }
                    Applied::Nothing | Applied::Complete => {}
                    Applied::Written => {
                        progressed = true;
                        self.note_progress();
                    }
                    Applied::Abandoned => return self.abandon(clock),
                    Applied::Accepted => return self.switch(cx, clock),
                    Applied::Disconnected => return self.lose(clock),
                }
            } else {
                // A client that does not read must not keep the application from hearing of it.
                active.end_stream(&self.entry.service);
            }
            let Phase::Exchange(active) = &mut self.phase else {
                return Progress::Again;
            };
            if active.register(cx.waker(), &self.outlet) {
                // The application may have sent something just before it had somebody to wake.
                continue;
            }
            let waiting = self.write.len();
            match self.write.poll_flush(&mut self.io, cx) {
                Poll::Ready(Ok(())) => progressed |= waiting >= HIGH_WATER,
                Poll::Ready(Err(_)) => return self.lose(clock),
                Poll::Pending => {}
            }
            if self.write.len() < waiting {
                self.note_progress();
            }
            match self.pump_content(cx) {
                Ok(Pumped::Progressed) => self.note_progress(),
                Ok(Pumped::Waiting) if progressed => {}
                Ok(Pumped::Waiting) => {
                    self.limit_wait(clock);
                    return match self.deadline.poll(cx) {
                        Poll::Pending => Progress::Wait,
                        Poll::Ready(()) => self.run_out(clock),
                    };
                }
                Err(Broken::Client) => return self.lose(clock),
                Err(Broken::Request(error)) => return self.refuse_content(error, clock),
            }
        }
    }

    /// Moves request content towards the application, or watches for the client leaving.
    fn pump_content(&mut self, cx: &mut Context<'_>) -> Result<Pumped, Broken> {
        let Phase::Exchange(active) = &mut self.phase else {
            return Ok(Pumped::Waiting);
        };
        let is_read = active.content_is_read();
        if is_read {
            if self.is_half_closed || self.read.len() >= PIPELINE_LIMIT {
                return Ok(Pumped::Waiting);
            }
        } else {
            if self.read.is_empty() && active.answer_expectation(&mut self.write) {
                return Ok(Pumped::Progressed);
            }
            let limit = self.entry.service.options.body_limit;
            let decoded = active.decode(&mut self.read, limit).map_err(Broken::Request)?;
            if decoded || active.content_is_read() {
                return Ok(Pumped::Progressed);
            }
            if !active.has_room() {
                return Ok(Pumped::Waiting);
            }
        }
        let size = if is_read { IDLE_BUFFER } else { CONTENT_READ };
        self.read.reserve(size);
        match pin!(self.io.read_buf(&mut self.read)).poll(cx) {
            Poll::Pending => Ok(Pumped::Waiting),
            Poll::Ready(Ok(1..)) => Ok(Pumped::Progressed),
            Poll::Ready(Ok(0)) if is_read => {
                self.is_half_closed = true;
                active.half_close();
                Ok(Pumped::Progressed)
            }
            Poll::Ready(Ok(0) | Err(_)) => Err(Broken::Client),
        }
    }

    /// The response is complete and the content is read: on to the next request, or to the end.
    fn finish(&mut self, clock: &mut Clock) -> Progress {
        let Phase::Exchange(active) = mem::replace(&mut self.phase, Phase::Moving) else {
            return Progress::Done;
        };
        let now = clock.refresh();
        active.finish(&self.entry.service, &self.peer, now);
        if active.persistence() == Persistence::Close {
            let how = if active.content_is_read() { Close::Clean } else { Close::Linger };
            return self.close(how);
        }
        self.phase = Phase::Head;
        self.is_reused = true;
        self.served += 1;
        let options = &self.entry.service.options;
        let patience = if self.has_head_bytes() {
            options.head_timeout
        } else {
            self.entry.set_idle(now);
            options.keep_alive_timeout
        };
        self.deadline.set(now.checked_add(patience));
        if self.read.is_empty() && self.read.capacity() > IDLE_BUFFER {
            self.read = BytesMut::new();
        }
        self.write.shrink();
        Progress::Again
    }

    /// The client has gone.
    fn lose(&mut self, clock: &mut Clock) -> Progress {
        if let Phase::Exchange(active) = mem::replace(&mut self.phase, Phase::Moving) {
            active.disconnect();
            active.finish(&self.entry.service, &self.peer, clock.refresh());
        }
        Progress::Done
    }

    /// The application has ended without completing its response.
    fn abandon(&mut self, clock: &mut Clock) -> Progress {
        let Phase::Exchange(mut active) = mem::replace(&mut self.phase, Phase::Moving) else {
            return Progress::Done;
        };
        active.report_abandoned();
        let how = if let Some(how) = active.cut() {
            how
        } else {
            active.set_status(500);
            let text = if active.is_head() { "" } else { "Internal Server Error" };
            self.answer(500, text, active.version(), clock);
            if active.content_is_read() { Close::Clean } else { Close::Linger }
        };
        active.disconnect();
        active.finish(&self.entry.service, &self.peer, clock.refresh());
        self.close(how)
    }

    /// The request's content turned out malformed (or too long) while the application was at it.
    fn refuse_content(&mut self, error: RequestError, clock: &mut Clock) -> Progress {
        let Phase::Exchange(mut active) = mem::replace(&mut self.phase, Phase::Moving) else {
            return Progress::Done;
        };
        active.disconnect();
        let cut = active.cut();
        if cut.is_none() {
            active.set_status(error.status());
        }
        active.finish(&self.entry.service, &self.peer, clock.refresh());
        match cut {
            Some(how) => {
                self.service().rejections.report(&self.peer, error, clock.now());
                self.close(how)
            }
            None => self.answer_invalid(error, active.is_head(), clock),
        }
    }

    /// Answers a request that never reached the application because it cannot be understood.
    fn refuse(&mut self, error: RequestError, is_head: bool, clock: &mut Clock) -> Progress {
        self.service().request_refused(error.status());
        self.answer_invalid(error, is_head, clock)
    }

    /// Answers a request that cannot be understood, and closes.
    fn answer_invalid(
        &mut self,
        error: RequestError,
        is_head: bool,
        clock: &mut Clock,
    ) -> Progress {
        self.service().rejections.report(&self.peer, error, clock.now());
        let text = if is_head { String::new() } else { error.to_string() };
        self.answer(error.status(), &text, Version::Http11, clock);
        self.close(Close::Linger)
    }

    /// A response of the server's own; the connection closes behind it.
    fn answer(&mut self, status: u16, text: &str, version: Version, clock: &mut Clock) {
        let Ok(mut head) = ResponseHead::new(status) else {
            return;
        };
        let content_type: (&[u8], &[u8]) = (b"content-type", b"text/plain; charset=utf-8");
        let more: Option<(&[u8], &[u8])> = match status {
            // RFC 6455 section 4.4.
            426 => Some((b"sec-websocket-version", b"13")),
            503 => Some((b"retry-after", b"1")),
            _ => None,
        };
        for (name, value) in [content_type].into_iter().chain(more) {
            // Both are constants and valid.
            let _ = head.push(name, value);
        }
        let service = Arc::clone(&self.entry.service);
        let date = crate::date::line_at(clock.now());
        self.write.append(|out| {
            let framing = head.framing(version, false, Some(text.len() as u64));
            let fields = service.server_fields(&date);
            head.encode_http1(out, version, framing, Persistence::Close, fields);
            out.extend_from_slice(text.as_bytes());
        });
    }

    /// The shutdown's deadline has passed.
    fn cut(&mut self, clock: &mut Clock) {
        if matches!(self.phase, Phase::Exchange(_)) {
            self.io.make_close_abortive();
            self.lose(clock);
        }
        self.cut_websocket();
    }
}

enum Pumped {
    Progressed,
    Waiting,
}

enum Broken {
    Client,
    Request(RequestError),
}

impl<T: Transport, A: App> Connection<T, A> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_registered {
            self.is_registered = true;
            self.entry.register(cx.waker());
        }
        let mut clock = Clock::default();
        self.served = 0;
        loop {
            if self.service().phase() >= DrainPhase::EndingStreams && self.is_cut() {
                self.cut(&mut clock);
                return Poll::Ready(());
            }
            let progress = match self.phase {
                Phase::Head => self.on_head(cx, &mut clock),
                Phase::Queued => self.on_queued(cx, &mut clock),
                Phase::Exchange(_) => self.on_exchange(cx, &mut clock),
                Phase::WebSocket(_) => self.on_websocket(cx, &mut clock),
                Phase::Closing(_) => self.on_closing(cx, &mut clock),
                Phase::Http2 | Phase::Moving => Progress::Done,
            };
            match progress {
                Progress::Again => {}
                Progress::Wait => return Poll::Pending,
                Progress::Done => return Poll::Ready(()),
            }
        }
    }

    /// Whether nothing more is waited for, in a drain that has got to streams.
    fn is_cut(&self) -> bool {
        let is_stream = matches!(&self.phase, Phase::Exchange(active) if active.has_begun());
        let service = self.service();
        service.phase() == DrainPhase::Cut || is_stream && service.options.is_hasty
    }

    /// The transport and what has been read from it, if the client has turned out to speak HTTP/2.
    fn hand_over(&mut self) -> Option<Rewound<T>> {
        if !matches!(self.phase, Phase::Http2) {
            return None;
        }
        Some(Rewound::new(mem::take(&mut self.read), self.io.vacate()?))
    }

    /// Takes what the application has sent and writes it; what follows from it is left to the task.
    fn write_now(&mut self, cx: &mut Context<'_>) -> Written {
        let active = match &mut self.phase {
            Phase::Exchange(active) => active,
            Phase::WebSocket(_) => return self.write_messages_now(cx),
            _ => return Written::Busy,
        };
        if self.write.len() >= HIGH_WATER {
            return Written::Busy;
        }
        let service = &self.entry.service;
        let applied = active.apply(service, &self.read, &mut self.write, &mut Clock::default());
        match applied {
            // The task sees to the rest.
            Applied::Complete => self.deadline.set(None),
            _ => self.note_progress(),
        }
        // A client that does not take it all wakes the task when it does.
        let failed = matches!(self.write.poll_flush(&mut self.io, cx), Poll::Ready(Err(_)));
        match applied {
            Applied::Nothing | Applied::Written if !failed => Written::Settled,
            _ => Written::Unsettled,
        }
    }
}

impl<T, A: App> Drop for Connection<T, A> {
    fn drop(&mut self) {
        // A panic in this task, or a runtime that shuts down: the application must not wait for
        // ever.
        if let Phase::Exchange(active) = &self.phase {
            active.disconnect();
            active.finish(&self.entry.service, &self.peer, Instant::now());
        }
        if let Phase::WebSocket(session) = &mut self.phase {
            session.lose();
        }
    }
}
