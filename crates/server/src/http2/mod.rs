//! One HTTP/2 connection (RFC 9113) over the `h2` crate: frames, HPACK, flow control and the
//! defences against floods are its; what a request means, back-pressure and deadlines are ours.
//!
//! One task drives the connection and all of its streams. What has arrived is taken in first, then
//! the applications are called, then everything they have sent leaves in as few writes as possible.
//! Long because all deadlines of a connection are in one place.

mod agreed;
mod answer;
mod queued;
mod stream;
mod tunnel;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::ext::Protocol;
use h2::server::{Builder, Handshake, SendResponse};
use h2::{Reason, RecvStream};
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::Version;
use rsgi_protocol::http::http2::{PseudoFields, read_request};
use rsgi_protocol::websocket::handshake;
use tokio::time::Instant;

pub(crate) use self::agreed::Http2Connection;
pub(crate) use self::answer::OwnFields;

use self::answer::answer;
use self::queued::Queued;
use self::stream::{Abandoned, Admitted, Expectation, SEND_BUFFER, STALL_TIMEOUT, StreamTask};
use crate::access_log::{Entry, Subject};
use crate::admission::Verdict;
use crate::connections::{Entry as Place, Standing};
use crate::deadline::Deadline;
use crate::forwarding::{client_of, with_host};
use crate::service::{App, ConnectionInfo, DrainPhase, Request, Service, Turn};
use crate::transport::{Progress, Rewound, Transport};

/// Streams that a client may have open at one time.
const STREAMS: u32 = 128;
/// Requests that are taken in before other connections get their turn, as long as it takes no longer
/// than that: applications that wait for nothing are answered with one write, and a slow one does
/// not keep the others waiting.
const BURST: usize = STREAMS as usize;
const BURST_TIME: Duration = Duration::from_millis(2);
/// Bytes that are read before other connections get their turn: frames that call no application
/// (`PING`, `SETTINGS`, `RST_STREAM`) take about 10 ms for each megabyte.
const READ_BURST: usize = 32 * 1024;
/// How much content a stream, and all of them together, may send before their applications read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a client resets before they are taken in ("rapid reset", CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Requests that a client has abandoned and whose applications have not ended; above it, new ones
/// are refused: resetting a stream must not make room for another application.
const ABANDONED: usize = STREAMS as usize;
/// How long a client may keep its end of a connection open that we have closed.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// The task of one connection, which its maker has entered with the service. Resolves when it is
/// closed.
pub(crate) struct Http2Task<T: Transport, A: App> {
    stage: Stage<T>,
    streams: FuturesUnordered<StreamTask<A>>,
    /// Requests that have been read and whose application has not been called: at most [`BURST`].
    accepted: VecDeque<Accepted>,
    /// Requests that wait for their turn at the application.
    queued: FuturesUnordered<Queued>,
    /// Applications that go on although their client has left the stream.
    abandoned: Vec<Abandoned>,
    service: Arc<Service<A>>,
    standing: Arc<Standing>,
    peer: Arc<ConnectionInfo>,
    context: A::Connection,
    /// For the hand-shake, and while there is no stream to wait for.
    deadline: Deadline,
    waits_for: WaitsFor,
    /// How many bytes the client has taken, and whether this is the end.
    progress: Arc<Progress>,
    /// Since when the client knows, or could know, that this connection ends (GOAWAY).
    leaving: Option<Instant>,
    /// How much of a shutdown the streams have heard of.
    followed: DrainPhase,
    /// Whether there has been a request.
    has_served: bool,
}

enum Stage<T: Transport> {
    Handshake(Box<Handshake<Rewound<T>, Bytes>>),
    Open(Box<h2::server::Connection<Rewound<T>, Bytes>>),
    Over,
}

/// What the deadline of a connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// Nothing, or the hand-shake.
    Other,
    /// The next request.
    Request,
    /// That the client goes.
    Leave,
    /// That it goes, now that everything is said.
    Close,
    /// That the client takes the rest of its responses, of which it has taken so much.
    Reader { written: u64 },
}

/// What is left of a connection's turn.
#[derive(Debug)]
struct Burst {
    requests: usize,
    /// From the first request on.
    until: Option<Instant>,
    is_over: bool,
}

impl Burst {
    fn new() -> Self {
        Self { requests: BURST, until: None, is_over: false }
    }

    /// Takes in another request, if there is time.
    fn take(&mut self, now: Instant) -> bool {
        let until = *self.until.get_or_insert(now + BURST_TIME);
        self.is_over |= self.requests == 0 || now > until;
        if !self.is_over {
            self.requests -= 1;
        }
        !self.is_over
    }
}

type Accepted = (http::Request<RecvStream>, SendResponse<Bytes>);

impl<T: Transport, A: App> Http2Task<T, A> {
    /// `io` begins with the client's preface (RFC 9113, section 3.4).
    pub(crate) fn new(io: Rewound<T>, entry: &Place<A>, peer: ConnectionInfo) -> Self {
        let service = &entry.service;
        let context = service.app.connect(&peer);
        let options = &service.options;
        let mut deadline = Deadline::default();
        deadline.set(Instant::now().checked_add(options.head_timeout));
        let progress = io.progress();
        let mut builder = Builder::new();
        if options.websocket.is_some() {
            builder.enable_connect_protocol();
        }
        let handshake = builder
            .max_concurrent_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(options.head.size).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS)
            .handshake(io);
        Self {
            stage: Stage::Handshake(Box::new(handshake)),
            streams: FuturesUnordered::new(),
            accepted: VecDeque::new(),
            queued: FuturesUnordered::new(),
            abandoned: Vec::new(),
            service: Arc::clone(service),
            standing: Arc::clone(&entry.standing),
            peer: Arc::new(peer),
            context,
            deadline,
            waits_for: WaitsFor::Other,
            progress,
            leaving: None,
            followed: DrainPhase::Serving,
            has_served: false,
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Handshake(handshake) = &mut self.stage else {
            return Poll::Ready(());
        };
        self.stage = match Pin::new(handshake).poll(cx) {
            Poll::Ready(Ok(connection)) => Stage::Open(Box::new(connection)),
            Poll::Ready(Err(error)) => {
                log::debug!("{}: the HTTP/2 handshake failed: {error}", self.peer);
                Stage::Over
            }
            Poll::Pending if self.deadline.poll(cx).is_pending() => return Poll::Pending,
            Poll::Pending => Stage::Over,
        };
        self.deadline.set(None);
        Poll::Ready(())
    }

    /// Reads and writes what there is, and calls the application for what it is, as long as the
    /// burst lasts. Returns how many requests there were; `None` once the connection is over.
    fn take_in(&mut self, burst: &mut Burst, cx: &mut Context<'_>) -> Option<usize> {
        let Stage::Open(connection) = &mut self.stage else {
            return None;
        };
        if burst.is_over {
            return connection.poll_closed(cx).is_pending().then_some(0);
        }
        // All of them first: the applications' first steps may take their time, and what they answer
        // leaves with as few writes as possible.
        while self.accepted.len() < BURST {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(stream))) => self.accepted.push_back(stream),
                Poll::Ready(Some(Err(error))) => {
                    log::debug!("{}: the HTTP/2 connection ended: {error}", self.peer);
                    return None;
                }
                Poll::Ready(None) => return None,
                Poll::Pending => break,
            }
        }
        if self.progress.is_closing() {
            // Nobody would get the answers.
            self.accepted.clear();
        }
        let mut started = 0;
        while !self.accepted.is_empty() {
            let now = Instant::now();
            if !burst.take(now) {
                break;
            }
            if let Some(accepted) = self.accepted.pop_front() {
                self.start(accepted, Turn::default(), now);
                started += 1;
            }
        }
        self.has_served |= started > 0;
        Some(started)
    }

    fn start(&mut self, mut accepted: Accepted, turn: Turn, now: Instant) {
        if self.is_refusing(now) {
            // The client may send it again, elsewhere (RFC 9113, section 8.7).
            accepted.1.send_reset(Reason::REFUSED_STREAM);
        } else if let Some(mut task) = self.call(accepted, turn, now)
            && !task.settle()
        {
            self.streams.push(task);
        }
    }

    fn is_refusing(&mut self, now: Instant) -> bool {
        if self.abandoned.len() >= ABANDONED {
            self.abandoned.retain(|abandoned| !abandoned.has_ended());
        }
        let is_late = |since| now.saturating_duration_since(since) > self.service.patience();
        self.abandoned.len() >= ABANDONED || self.leaving.is_some_and(is_late)
    }

    /// Calls the application, unless the request is refused.
    fn call(
        &self,
        (request, mut respond): Accepted,
        mut turn: Turn,
        now: Instant,
    ) -> Option<StreamTask<A>> {
        let service = &self.service;
        let options = &service.options;
        let (head, content) = request.into_parts();
        let is_head = head.method == http::Method::HEAD;
        let pseudo = PseudoFields {
            method: head.method.as_str(),
            path: head.uri.path_and_query().map_or(b"/", |path| path.as_str().as_bytes()),
            authority: head.uri.authority().map(|authority| authority.as_str().as_bytes()),
            protocol: head.extensions.get::<Protocol>().map(Protocol::as_str),
        };
        let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let mut cookie = Vec::new();
        let read = read_request(pseudo, fields, &options.head, &mut cookie).and_then(|read| {
            // The stack has checked that it is a number, and will check that it is right.
            let declared = head.headers.get(http::header::CONTENT_LENGTH);
            let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
            match options.body_limit {
                Some(limit) if declared > Some(limit) => Err(RequestError::BodyTooLarge),
                _ if !read.is_websocket => Ok((read, None)),
                _ => handshake::read_http2(&read.fields).map(|deflate| (read, deflate)),
            }
        });
        let (read, deflate) = match read {
            Ok(read) => read,
            Err(error) => {
                service.rejections.report(&self.peer, error, now);
                service.request_refused(error.status());
                answer(&mut respond, service, error.status(), &error.to_string(), is_head);
                return None;
            }
        };
        let forwarding = self.peer.forwarding.as_deref();
        let forwarded = forwarding.and_then(|it| it.read(&read.fields));
        let forwarded = forwarded.as_ref();
        let entry = || {
            let entry = service.access_log().enter(&Subject {
                method: pseudo.method,
                target: &read.target,
                http_version: "2",
                fields: &read.fields,
                client: client_of(forwarded),
            });
            if read.is_websocket { entry.map(Entry::of_websocket) } else { entry }
        };
        match service.admit(&turn) {
            Verdict::Admitted => turn.begin(),
            Verdict::Wait(ticket) => {
                let until = now.checked_add(options.overload.queue_timeout);
                let request = http::Request::from_parts(head, content);
                self.queued.push(Queued::new((request, respond), ticket, until));
                return None;
            }
            Verdict::Busy => {
                if service.turn_away(&turn, &self.peer, entry().as_deref(), now) {
                    answer(&mut respond, service, 503, "Service Unavailable", is_head);
                }
                return None;
            }
        }
        let has_content = !content.is_end_stream() && !read.is_websocket;
        let (content, asked) = if read.is_websocket {
            let allowed = options.websocket.as_ref().is_some_and(|options| options.deflate);
            (None, Some((content, deflate.filter(|_| allowed))))
        } else {
            (has_content.then_some(content), None)
        };
        let task = StreamTask::new(Admitted {
            service: Arc::clone(service),
            peer: Arc::clone(&self.peer),
            content,
            asked,
            expectation: if read.expects_continue && has_content {
                Expectation::Unanswered
            } else {
                Expectation::None
            },
            respond,
            is_head,
            entry: entry(),
            live: service.live_requests().enter(pseudo.method, read.target.path, now),
            now,
        });
        let host = forwarded.and_then(|it| it.host.as_deref());
        let replaced = host.map(|host| with_host(&read.fields, host));
        let request = Request {
            method: head.method.as_str(),
            target: read.target,
            version: Version::Http2,
            fields: replaced.as_ref().unwrap_or(&read.fields),
            accepts_trailers: true,
            forwarded,
            id: task.entry().and_then(Entry::request_id),
        };
        match (self.peer.redirect_of(forwarded), task.websocket()) {
            (Some(redirect), _) => redirect.answer(&request, task.exchange()),
            (None, Some(websocket)) => service.app.websocket(&self.context, &request, websocket),
            (None, None) => service.app.call(&self.context, &request, task.exchange()),
        }
        Some(task)
    }

    /// Tells the client to open no more streams (RFC 9113, section 6.8).
    fn leave(&mut self) {
        if self.leaving.is_none()
            && let Stage::Open(connection) = &mut self.stage
        {
            self.leaving = Some(Instant::now());
            connection.graceful_shutdown();
        }
    }

    /// Closes without waiting any longer for a client that has been told.
    fn part(&mut self, cx: &mut Context<'_>) {
        if let Stage::Open(connection) = &mut self.stage {
            connection.abrupt_shutdown(Reason::NO_ERROR);
            let _ = connection.poll_closed(cx);
        }
    }

    /// What a shutdown asks for.
    fn follow_shutdown(&mut self) {
        let phase = self.service.phase();
        if phase >= DrainPhase::Draining {
            self.leave();
        }
        if phase > self.followed {
            self.followed = phase;
            self.streams.iter().for_each(StreamTask::follow_shutdown);
        }
    }

    /// The shutdown's deadline has passed: WebSockets are told, as far as their client listens.
    fn cut(&mut self, cx: &mut Context<'_>) {
        self.streams.iter_mut().for_each(StreamTask::cut_websocket);
        if let Stage::Open(connection) = &mut self.stage {
            let _ = connection.poll_closed(cx);
        }
    }

    /// Waits where no stream does: for the next request, or for responses that are complete to be
    /// taken. Ready if the client keeps neither up.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Open(connection) = &self.stage else {
            return Poll::Ready(());
        };
        let (waits_for, patience) = if self.progress.is_closing() {
            (WaitsFor::Close, Some(LINGER_TIMEOUT))
        } else if !self.streams.is_empty() || !self.queued.is_empty() {
            (WaitsFor::Other, None)
        } else if connection.has_streams() {
            let written = self.progress.written();
            (WaitsFor::Reader { written }, Some(STALL_TIMEOUT))
        } else if self.leaving.is_some() {
            (WaitsFor::Leave, Some(self.service.patience()))
        } else {
            (WaitsFor::Request, Some(self.service.options.keep_alive_timeout))
        };
        if self.waits_for != waits_for || self.deadline.is_unset() {
            let now = Instant::now();
            self.waits_for = waits_for;
            self.deadline.set(patience.and_then(|patience| now.checked_add(patience)));
            match waits_for {
                WaitsFor::Request if self.has_served => {
                    self.service.connections.set_idle(&self.standing, now);
                }
                WaitsFor::Other | WaitsFor::Reader { .. } => {
                    self.service.connections.set_busy(&self.standing);
                }
                WaitsFor::Request | WaitsFor::Leave | WaitsFor::Close => {}
            }
        }
        if waits_for == WaitsFor::Request && self.standing.is_asked() {
            return Poll::Ready(());
        }
        self.deadline.poll(cx)
    }
}

impl<T: Transport, A: App> Future for Http2Task<T, A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.progress.renew_allowance(READ_BURST);
        if this.service.phase() == DrainPhase::Cut {
            this.cut(cx);
            return Poll::Ready(());
        }
        if this.poll_handshake(cx).is_pending() {
            return Poll::Pending;
        }
        this.follow_shutdown();
        let mut burst = Burst::new();
        loop {
            let was_over = burst.is_over;
            let Some(started) = this.take_in(&mut burst, cx) else {
                return Poll::Ready(());
            };
            if was_over {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut progressed = started > 0 || burst.is_over;
            while let Poll::Ready(Some(waited)) = this.queued.poll_next_unpin(cx) {
                if let Some((accepted, turn)) = waited {
                    this.start(accepted, turn, Instant::now());
                }
                progressed = true;
            }
            while let Poll::Ready(Some(abandoned)) = this.streams.poll_next_unpin(cx) {
                this.abandoned.extend(abandoned);
                progressed = true;
            }
            if progressed {
                this.deadline.set(None);
                continue;
            }
            if this.poll_idle(cx).is_pending() {
                return Poll::Pending;
            }
            match this.waits_for {
                WaitsFor::Request => this.leave(),
                WaitsFor::Leave => {
                    this.part(cx);
                    return Poll::Ready(());
                }
                WaitsFor::Other | WaitsFor::Close | WaitsFor::Reader { .. } => {
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl<T: Transport, A: App> Unpin for Http2Task<T, A> {}
