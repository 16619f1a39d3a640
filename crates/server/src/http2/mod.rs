//! One HTTP/2 connection (RFC 9113) over the `h2` crate: frames, HPACK, flow control and the
//! defences against floods are its; what a request means, back-pressure and deadlines are ours.
//!
//! One task drives the connection and all of its streams. What has arrived is taken in first, then
//! the applications are called, then everything they have sent leaves in as few writes as possible.

mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::{Builder, Handshake, SendResponse};
use http::Response;
use http::StatusCode;
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::Version;
use rsgi_protocol::http::http2::{PseudoFields, read_request};
use rsgi_protocol::http::response::ResponseHead;
use tokio::time::Instant;

use self::stream::{Admitted, Expectation, StreamTask, append, with_text_type};
use crate::deadline::Deadline;
use crate::exchange::RequestLine;
use crate::service::{App, ConnectionInfo, DrainPhase, Entry, Request, Service};
use crate::transport::Transport;

/// Streams that a client may have open at one time.
const STREAMS: u32 = 128;
/// How much content a stream, and all of them together, may send before their applications read.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What the stack keeps of one stream's response.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client resets before they are taken in ("rapid reset", CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// How long a client may take nothing of responses that are complete.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

type H2Connection<T> = h2::server::Connection<T, Bytes>;

/// The task of one connection. Resolves when it is closed.
pub(crate) struct Http2Task<T: Transport, A: App> {
    stage: Stage<T>,
    streams: FuturesUnordered<StreamTask<A>>,
    /// Taken in, not yet with the application.
    accepted: Vec<(http::Request<RecvStream>, SendResponse<Bytes>)>,
    entry: Entry<A>,
    peer: Arc<ConnectionInfo>,
    context: A::Connection,
    /// For the hand-shake, and while no stream is open.
    deadline: Deadline,
    is_registered: bool,
    is_draining: bool,
}

enum Stage<T: Transport> {
    Handshake(Box<Handshake<T, Bytes>>),
    Open(Box<H2Connection<T>>),
    Over,
}

impl<T: Transport, A: App> Http2Task<T, A> {
    /// `io` begins with the client's preface (RFC 9113, section 3.4).
    pub(crate) fn new(io: T, service: &Arc<Service<A>>, peer: ConnectionInfo) -> Self {
        let context = service.app.connect(&peer);
        let options = &service.options;
        let mut deadline = Deadline::default();
        deadline.set(Instant::now().checked_add(options.head_timeout));
        let handshake = Builder::new()
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
            accepted: Vec::new(),
            entry: service.enter(),
            peer: Arc::new(peer),
            context,
            deadline,
            is_registered: false,
            is_draining: false,
        }
    }

    fn service(&self) -> &Arc<Service<A>> {
        &self.entry.service
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Handshake(handshake) = &mut self.stage else {
            return Poll::Ready(());
        };
        match Pin::new(handshake).poll(cx) {
            Poll::Ready(Ok(connection)) => {
                self.stage = Stage::Open(Box::new(connection));
                self.deadline.set(None);
            }
            Poll::Ready(Err(error)) => {
                log::debug!("{}: the HTTP/2 handshake failed: {error}", self.peer);
                self.stage = Stage::Over;
            }
            Poll::Pending => {
                if self.deadline.poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.stage = Stage::Over;
            }
        }
        Poll::Ready(())
    }

    /// Reads and writes what there is. Returns whether the connection goes on.
    fn take_in(&mut self, cx: &mut Context<'_>) -> bool {
        let Stage::Open(connection) = &mut self.stage else {
            return false;
        };
        if !self.is_draining && self.entry.service.phase() >= DrainPhase::Draining {
            self.is_draining = true;
            connection.graceful_shutdown();
        }
        while self.accepted.len() < STREAMS as usize {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok(accepted))) => self.accepted.push(accepted),
                Poll::Ready(Some(Err(error))) => {
                    log::debug!("{}: the HTTP/2 connection ended: {error}", self.peer);
                    return false;
                }
                Poll::Ready(None) => return false,
                Poll::Pending => break,
            }
        }
        true
    }

    /// Calls the application for what has been taken in.
    fn start_streams(&mut self) -> bool {
        let mut accepted = std::mem::take(&mut self.accepted);
        let any = !accepted.is_empty();
        let mut nobody = Context::from_waker(Waker::noop());
        for (request, respond) in accepted.drain(..) {
            let Some(mut task) = self.start(request, respond) else {
                continue;
            };
            // Most responses are complete when the call returns; the others get a waker next.
            if Pin::new(&mut task).poll(&mut nobody).is_pending() {
                self.streams.push(task);
            }
        }
        self.accepted = accepted;
        any
    }

    fn start(
        &self,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> Option<StreamTask<A>> {
        let service = self.service();
        let options = &service.options;
        let (head, content) = request.into_parts();
        let is_head = head.method == http::Method::HEAD;
        let pseudo = PseudoFields {
            method: head.method.as_str(),
            path: head.uri.path_and_query().map_or(b"/", |path| path.as_str().as_bytes()),
            authority: head.uri.authority().map(|authority| authority.as_str().as_bytes()),
        };
        let fields = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let mut cookie = Vec::new();
        let now = Instant::now();
        let (target, fields) = match read_request(pseudo, fields, &options.head, &mut cookie) {
            Ok(read) => read,
            Err(error) => {
                service.rejections.report(&self.peer, error, now);
                refuse(&mut respond, service, error.status(), &error.to_string(), is_head, now);
                return None;
            }
        };
        let is_logged = service.access_log().is_on();
        let line = is_logged.then(|| RequestLine::new(pseudo.method, &target, "2"));
        let has_content = !content.is_end_stream();
        let declared = head.headers.get(http::header::CONTENT_LENGTH);
        let declared = declared.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if let (Some(length), Some(limit)) = (declared, options.body_limit)
            && length > limit
        {
            let error = RequestError::BodyTooLarge;
            service.rejections.report(&self.peer, error, now);
            refuse(&mut respond, service, error.status(), &error.to_string(), is_head, now);
            return None;
        }
        if options.concurrency_limit.is_some_and(|limit| service.requests_in_flight() >= limit) {
            service.log_access(&self.peer, line.as_ref(), 503);
            refuse(&mut respond, service, 503, "Service Unavailable", is_head, now);
            return None;
        }
        let expects = head.headers.get(http::header::EXPECT);
        let expects = expects.is_some_and(|value| value.as_bytes() == b"100-continue");
        let task = StreamTask::new(Admitted {
            service: Arc::clone(service),
            peer: Arc::clone(&self.peer),
            content: has_content.then_some(content),
            expectation: if expects && has_content {
                Expectation::Unanswered
            } else {
                Expectation::None
            },
            respond,
            is_head,
            line,
            now,
        });
        let request = Request {
            method: head.method.as_str(),
            target,
            version: Version::Http2,
            fields: &fields,
            accepts_trailers: true,
        };
        service.app.call(&self.context, &request, task.exchange());
        Some(task)
    }

    /// Waits for the next request of a client that has none, as long as it may be idle.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Stage::Open(connection) = &mut self.stage else {
            return Poll::Ready(());
        };
        if !self.streams.is_empty() {
            self.deadline.set(None);
            return Poll::Pending;
        }
        if self.deadline.is_unset() {
            // Responses that are complete may still be on their way.
            let patience = if connection.has_streams() {
                STALL_TIMEOUT
            } else {
                self.entry.service.options.keep_alive_timeout
            };
            self.deadline.set(Instant::now().checked_add(patience));
        }
        self.deadline.poll(cx)
    }
}

impl<T: Transport, A: App> Future for Http2Task<T, A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.is_registered {
            this.is_registered = true;
            this.entry.register(cx.waker());
        }
        if this.service().phase() == DrainPhase::Cut || matches!(this.stage, Stage::Over) {
            return Poll::Ready(());
        }
        if this.poll_handshake(cx).is_pending() {
            return Poll::Pending;
        }
        loop {
            if !this.take_in(cx) {
                return Poll::Ready(());
            }
            let mut progressed = this.start_streams();
            while let Poll::Ready(Some(())) = this.streams.poll_next_unpin(cx) {
                progressed = true;
            }
            if progressed {
                this.deadline.set(None);
                continue;
            }
            if this.poll_idle(cx).is_ready() {
                this.deadline.set(None);
                if this.is_draining {
                    return Poll::Ready(());
                }
                // GOAWAY, and a moment for it to be read.
                this.is_draining = true;
                if let Stage::Open(connection) = &mut this.stage {
                    connection.graceful_shutdown();
                }
                continue;
            }
            return Poll::Pending;
        }
    }
}

impl<T: Transport, A: App> Unpin for Http2Task<T, A> {}

/// A response of the server's own to a request that the application does not see.
fn refuse<A: App>(
    respond: &mut SendResponse<Bytes>,
    service: &Service<A>,
    status: u16,
    text: &str,
    is_head: bool,
    now: Instant,
) {
    let Ok(head) = ResponseHead::new(status) else {
        return;
    };
    let head = with_text_type(head);
    let date = service.date_line(now);
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    append(response.headers_mut(), head.all_fields(service.server_fields(&date)));
    // A client that has reset the stream does not want an answer.
    if let Ok(mut send) = respond.send_response(response, is_head)
        && !is_head
    {
        let _ = send.send_data(Bytes::copy_from_slice(text.as_bytes()), true);
    }
}
