//! The request that a connection is at: its content on the way in, its response on the way out.

use std::sync::{Arc, Weak};
use std::task::Waker;

use bytes::{Buf, BytesMut};
use rsgi_protocol::error::RequestError;
use rsgi_protocol::forwarded::Forwarded;
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::head::{RequestHead, Version};
use rsgi_protocol::http::response::{
    Persistence, ResponseFraming, ResponseHead, encode_chunk_size, encode_interim,
};
use rsgi_protocol::http::{BodyFraming, ChunkDecoder, Field, TargetForm};
use rsgi_protocol::websocket::handshake::{self, ClientHandshake};
use tokio::time::Instant;

use super::write_queue::WriteQueue;
use super::{Close, DISCARD_LIMIT};
use crate::access_log::{Ended, Entry, Subject};
use crate::admission::{Ticket, Verdict};
use crate::deadline::Clock;
use crate::exchange::{Exchange, Outcome, Outlet, Output, OutputEnd};
use crate::forwarding::{client_of, with_host};
use crate::live::LiveKey;
use crate::service::{App, ConnectionInfo, DrainPhase, Request, Service, Turn};
use crate::websocket::WebSocket;

/// One exchange, from the connection's side.
pub(super) struct Active {
    exchange: Arc<Exchange>,
    version: Version,
    method: Method,
    persistence: Persistence,
    trailers: TrailerDemand,
    content: Content,
    received: u64,
    response: Response,
    status: u16,
    started: Instant,
    sent: u64,
    entry: Option<Box<Entry>>,
    live: LiveKey,
    registration: Registration,
    upgrade: Option<Box<Upgrade>>,
}

/// What a request is that asks for a WebSocket: an exchange like any other, until the application
/// accepts.
pub(super) struct Upgrade {
    pub(super) handshake: ClientHandshake,
    pub(super) websocket: Arc<WebSocket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Head,
    Other,
}

/// Whether the client asked for trailers (`TE: trailers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TrailerDemand {
    Wanted,
    Unwanted,
}

/// What is still to come from the client.
#[derive(Debug)]
enum Content {
    Read,
    Length { left: u64, expectation: Expectation },
    Chunked { decoder: ChunkDecoder, expectation: Expectation },
}

/// `Expect: 100-continue` (RFC 9110, section 10.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    None,
    Unanswered,
}

/// What has gone into the write queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Response {
    Waiting,
    Started(ResponseFraming),
    Complete,
}

/// Whether the exchange holds the connection's waker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Registration {
    None,
    Waiting,
}

/// Why a request does not reach the application.
pub(super) enum Refusal {
    /// It breaks the rules.
    Invalid(RequestError),
    /// The concurrency limit is reached; the entry is for the access log.
    Busy(Option<Box<Entry>>),
    /// It is, and the request waits for its turn.
    Queued(Ticket),
}

/// What came of looking at the application's side.
pub(super) enum Applied {
    Nothing,
    Written,
    Complete,
    Abandoned,
    Disconnected,
    /// As a WebSocket.
    Accepted,
}

impl Active {
    /// Admits a request, and counts it; [`Active::finish`] counts it off.
    pub(super) fn new<A: App>(
        service: &Service<A>,
        head: &RequestHead<'_, '_>,
        forwarded: Option<&Forwarded<'_>>,
        turn: &mut Turn,
        now: Instant,
    ) -> Result<Self, Refusal> {
        let options = &service.options;
        if let (BodyFraming::Length(length), Some(limit)) = (head.framing, options.body_limit)
            && length > limit
        {
            return Err(Refusal::Invalid(RequestError::BodyTooLarge));
        }
        let expectation =
            if head.expects_continue { Expectation::Unanswered } else { Expectation::None };
        let content = match head.framing {
            BodyFraming::Empty | BodyFraming::Length(0) => Content::Read,
            BodyFraming::Length(left) => Content::Length { left, expectation },
            BodyFraming::Chunked => {
                Content::Chunked { decoder: ChunkDecoder::default(), expectation }
            }
        };
        let method = if head.method == "HEAD" { Method::Head } else { Method::Other };
        let is_read = matches!(content, Content::Read);
        let is_websocket = options.websocket.is_some() && handshake::is_asked_for(head);
        let handshake = is_websocket.then(|| ClientHandshake::read(head)).transpose();
        let handshake = handshake.map_err(Refusal::Invalid)?;
        match service.admit(turn) {
            Verdict::Admitted => {}
            Verdict::Wait(ticket) => return Err(Refusal::Queued(ticket)),
            Verdict::Busy => return Err(Refusal::Busy(entry(service, head, forwarded))),
        }
        let exchange = Exchange::new(method == Method::Head, is_read);
        let upgrade = handshake.zip(options.websocket.as_ref()).map(|(mut handshake, options)| {
            handshake.deflate = handshake.deflate.filter(|_| options.deflate);
            let websocket = WebSocket::new(Arc::clone(&exchange), options, handshake.deflate);
            Box::new(Upgrade { handshake, websocket })
        });
        let active = Self {
            version: head.version,
            method,
            persistence: if head.keep_alive { Persistence::KeepAlive } else { Persistence::Close },
            trailers: if head.accepts_trailers {
                TrailerDemand::Wanted
            } else {
                TrailerDemand::Unwanted
            },
            content,
            received: 0,
            response: Response::Waiting,
            status: 0,
            started: now,
            live: service.live_requests().enter(head.method, head.target.path, now),
            sent: 0,
            entry: entry(service, head, forwarded).map(|entry| match upgrade {
                Some(_) => entry.of_websocket(),
                None => entry,
            }),
            registration: Registration::None,
            exchange,
            upgrade,
        };
        turn.begin();
        service.request_started(now);
        Ok(active)
    }

    /// Calls the application.
    pub(super) fn call<A: App>(
        &self,
        service: &Service<A>,
        context: &A::Connection,
        peer: &ConnectionInfo,
        head: &RequestHead<'_, '_>,
        forwarded: Option<&Forwarded<'_>>,
    ) {
        // The authority of an absolute target wins over Host (RFC 9112, section 3.2.2), and what a
        // proxy says over both. A client that sent no Host (HTTP/1.0) is not made to have sent one.
        let is_host = |field: &Field<'_>| field.name.eq_ignore_ascii_case("host");
        let host = match forwarded.and_then(|it| it.host.as_deref()) {
            None if head.target.form == TargetForm::Absolute => {
                head.host.filter(|_| head.fields.iter().any(is_host))
            }
            host => host,
        };
        let replaced = host.map_or_else(Vec::new, |host| with_host(head.fields, host));
        let request = Request {
            method: head.method,
            target: head.target,
            version: head.version,
            fields: if replaced.is_empty() { head.fields } else { &replaced },
            accepts_trailers: head.accepts_trailers && head.version == Version::Http11,
            forwarded,
            id: self.entry.as_deref().and_then(Entry::request_id),
        };
        match (peer.redirect_of(forwarded), &self.upgrade) {
            (Some(redirect), _) => redirect.answer(&request, &self.exchange),
            (None, Some(upgrade)) => {
                service.app.websocket(context, &request, &upgrade.websocket);
            }
            (None, None) => service.app.call(context, &request, &self.exchange),
        }
    }

    /// Takes what the application has sent and puts it into `write` in wire form. `unused` is what
    /// has been read behind the request's head.
    pub(super) fn apply<A: App>(
        &mut self,
        service: &Service<A>,
        unused: &[u8],
        write: &mut WriteQueue,
        clock: &mut Clock,
    ) -> Applied {
        if self.response == Response::Complete {
            return Applied::Complete;
        }
        if self.upgrade.as_ref().is_some_and(|upgrade| upgrade.websocket.is_accepted()) {
            return Applied::Accepted;
        }
        let output = self.exchange.take();
        let mut applied = Applied::Nothing;
        for hint in &output.hints {
            if self.response == Response::Waiting && self.version == Version::Http11 {
                write.append(|out| encode_interim(out, b"HTTP/1.1 103 Early Hints\r\n", hint));
                applied = Applied::Written;
            }
        }
        if let Some(head) = &output.head {
            self.write_head(service, head, &output, unused, write, clock);
        }
        if !output.chunks.is_empty() {
            applied = Applied::Written;
        }
        let framing = match self.response {
            Response::Started(framing) => framing,
            Response::Waiting | Response::Complete => ResponseFraming::Nothing,
        };
        for chunk in output.chunks {
            self.sent += chunk.len() as u64;
            if framing == ResponseFraming::Chunked {
                write.append(|out| encode_chunk_size(out, chunk.len()));
                write.push(chunk);
                write.append(|out| out.extend_from_slice(b"\r\n"));
            } else {
                write.push(chunk);
            }
        }
        match output.end {
            OutputEnd::Open => {
                self.end_stream(service);
                applied
            }
            OutputEnd::Abandoned => Applied::Abandoned,
            OutputEnd::Disconnected => Applied::Disconnected,
            OutputEnd::Complete(trailers) => {
                if framing == ResponseFraming::Chunked {
                    self.write_last_chunk(&trailers, write);
                }
                self.response = Response::Complete;
                Applied::Complete
            }
        }
    }

    /// Whether the head of a response has been sent, and not all of the response.
    pub(super) fn has_begun(&self) -> bool {
        matches!(self.response, Response::Started(_))
    }

    /// Asks the application to end a response that has begun, once the shutdown has come that far.
    pub(super) fn end_stream<A: App>(&self, service: &Service<A>) {
        if self.has_begun() && service.phase() >= DrainPhase::EndingStreams {
            self.exchange.ask_to_end();
        }
    }

    fn write_head<A: App>(
        &mut self,
        service: &Service<A>,
        head: &ResponseHead,
        output: &Output,
        unused: &[u8],
        write: &mut WriteQueue,
        clock: &mut Clock,
    ) {
        let is_head = self.method == Method::Head;
        let whole = matches!(output.end, OutputEnd::Complete(_))
            .then(|| output.chunks.iter().map(|chunk| chunk.len() as u64).sum());
        let with_trailers = output.has_trailers && self.version == Version::Http11;
        let framing = if with_trailers && !head.forbids_content(is_head) {
            ResponseFraming::Chunked
        } else {
            head.framing(self.version, is_head, whole)
        };
        if framing == ResponseFraming::UntilClose
            || head.persistence() == Persistence::Close
            || service.phase() >= DrainPhase::Announcing
            || service.is_crowded()
            || !self.can_discard_content(unused)
        {
            self.persistence = Persistence::Close;
        }
        let date = crate::date::line_at(clock.now());
        let fields = service.server_fields(&date);
        write.append(|out| {
            head.encode_http1(out, self.version, framing, self.persistence, fields);
        });
        if let Some(entry) = &mut self.entry {
            service.access_log().respond(entry, head, fields);
        }
        self.status = head.status();
        self.response = Response::Started(framing);
    }

    fn write_last_chunk(&self, trailers: &FieldBlock, write: &mut WriteQueue) {
        write.append(|out| {
            out.extend_from_slice(b"0\r\n");
            if self.trailers == TrailerDemand::Wanted {
                out.extend_from_slice(trailers.as_wire());
            }
            out.extend_from_slice(b"\r\n");
        });
    }

    /// Whether what is left of the content is worth reading to keep the connection.
    fn can_discard_content(&self, unused: &[u8]) -> bool {
        match &self.content {
            Content::Read => true,
            Content::Length { expectation: Expectation::Unanswered, .. }
            | Content::Chunked { .. } => false,
            Content::Length { left, .. } => {
                left.saturating_sub(unused.len() as u64) <= DISCARD_LIMIT
            }
        }
    }

    /// Decodes what is at the start of `read` and gives it to the application. Returns whether
    /// anything moved.
    pub(super) fn decode(
        &mut self,
        read: &mut BytesMut,
        limit: Option<u64>,
    ) -> Result<bool, RequestError> {
        let mut moved = false;
        while !read.is_empty() && !self.content_is_read() && self.has_room() {
            let (data, is_last) = match &mut self.content {
                Content::Read => break,
                Content::Length { left, expectation } => {
                    // Whoever sends content no longer waits for a 100.
                    *expectation = Expectation::None;
                    let take = usize::try_from(*left).unwrap_or(usize::MAX).min(read.len());
                    *left -= take as u64;
                    (read.split_to(take), *left == 0)
                }
                Content::Chunked { decoder, expectation } => {
                    *expectation = Expectation::None;
                    let step = decoder.decode(read)?;
                    read.advance(step.consumed);
                    let data = read.split_to(step.data);
                    if step.consumed == 0 && data.is_empty() && !step.done {
                        return Ok(moved);
                    }
                    (data, step.done)
                }
            };
            moved = true;
            self.received += data.len() as u64;
            if limit.is_some_and(|limit| self.received > limit) {
                return Err(RequestError::BodyTooLarge);
            }
            if is_last {
                self.content = Content::Read;
                if let Some(entry) = &mut self.entry {
                    entry.received();
                }
            }
            if self.response != Response::Complete && (is_last || !data.is_empty()) {
                self.exchange.feed(data.freeze(), is_last);
            }
        }
        Ok(moved)
    }

    /// Tells the client to go on, once the application has asked for the content. Returns whether
    /// it did.
    pub(super) fn answer_expectation(&mut self, write: &mut WriteQueue) -> bool {
        let (Content::Length { expectation, .. } | Content::Chunked { expectation, .. }) =
            &mut self.content
        else {
            return false;
        };
        let is_due = *expectation == Expectation::Unanswered
            && self.response == Response::Waiting
            && self.exchange.is_asked();
        if is_due {
            *expectation = Expectation::None;
            write.append(|out| out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        is_due
    }

    /// Leaves word with the exchange where the connection can be reached. Returns whether it was
    /// not there yet.
    pub(super) fn register(&mut self, waker: &Waker, outlet: &Weak<dyn Outlet>) -> bool {
        let is_new = self.registration == Registration::None;
        if is_new {
            self.registration = Registration::Waiting;
            self.exchange.wait(waker, Weak::clone(outlet));
        }
        is_new
    }

    /// The exchange is over for the connection: logs it.
    pub(super) fn finish<A: App>(&self, service: &Service<A>, peer: &ConnectionInfo, now: Instant) {
        if self.registration == Registration::Waiting {
            self.exchange.leave();
        }
        service.live_requests().leave(self.live);
        service.request_finished(self.status, self.started, now);
        let (status, bytes, started) = (self.status, self.sent, self.started);
        let ended = Ended { status, bytes, started, now };
        service.log_access(peer, self.entry.as_deref(), ended);
    }

    /// The application has accepted: ends the exchange, and hands over what follows it.
    pub(super) fn into_upgrade<A: App>(
        mut self,
        service: &Service<A>,
        peer: &ConnectionInfo,
        now: Instant,
    ) -> Option<Box<Upgrade>> {
        self.status = 101;
        self.finish(service, peer, now);
        self.upgrade.take()
    }

    /// Whether lines are logged about this request.
    pub(super) fn is_logged(&self) -> bool {
        self.entry.as_deref().is_some_and(Entry::is_listed)
    }

    /// What the log says about an application that ended too early. Exceptions have been logged by
    /// the application's own side.
    pub(super) fn report_abandoned(&self) {
        if self.exchange.outcome() == Some(Outcome::Returned) && !self.exchange.is_asked_to_end() {
            if self.upgrade.is_some() && !self.exchange.has_started() {
                log::error!("ASGI callable returned without completing handshake.");
            } else if self.exchange.has_started() {
                log::error!("ASGI callable returned without completing response.");
            } else {
                log::error!("ASGI callable returned without starting response.");
            }
        }
    }

    /// How to end the connection where part of the response has left already.
    pub(super) fn cut(&self) -> Option<Close> {
        match self.response {
            Response::Waiting => None,
            Response::Started(ResponseFraming::UntilClose) => Some(Close::Reset),
            Response::Started(_) | Response::Complete => Some(Close::Cut),
        }
    }

    /// The application, or the client, has kept everybody waiting for too long.
    pub(super) fn time_out<A: App>(&self, service: &Service<A>, peer: &ConnectionInfo) {
        service.time_out(&self.exchange, self.live, peer);
    }

    /// Whether the application waits for content that the client does not send.
    pub(super) fn waits_for_content(&self) -> bool {
        !self.content_is_read() && self.exchange.waits_for_content()
    }

    /// Whether what is waited for is that the client reads a file.
    pub(super) fn is_at_file(&self) -> bool {
        self.exchange.is_at_file()
    }

    /// Whether the application has sent everything.
    pub(super) fn is_complete(&self) -> bool {
        self.response == Response::Complete
    }

    pub(super) fn disconnect(&self) {
        self.exchange.disconnect();
        if let Some(upgrade) = &self.upgrade {
            upgrade.websocket.lose();
        }
    }

    pub(super) fn half_close(&self) {
        if self.upgrade.is_some() {
            // Whoever asks for a WebSocket and will not say any more has gone.
            return self.disconnect();
        }
        self.exchange.half_close();
    }

    /// Whether nothing is left to do once the response is complete.
    pub(super) fn is_over(&self) -> bool {
        self.content_is_read() || self.persistence == Persistence::Close
    }

    pub(super) fn content_is_read(&self) -> bool {
        matches!(self.content, Content::Read)
    }

    /// Whether more content would be taken now.
    pub(super) fn has_room(&self) -> bool {
        self.response == Response::Complete || self.exchange.has_room()
    }

    pub(super) fn persistence(&self) -> Persistence {
        self.persistence
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn is_head(&self) -> bool {
        self.method == Method::Head
    }

    pub(super) fn set_status(&mut self, status: u16) {
        self.status = status;
    }
}

/// What the logs will want to know of a request.
fn entry<A: App>(
    service: &Service<A>,
    head: &RequestHead<'_, '_>,
    forwarded: Option<&Forwarded<'_>>,
) -> Option<Box<Entry>> {
    service.access_log().enter(&Subject {
        method: head.method,
        target: &head.target,
        http_version: head.version.as_str(),
        fields: head.fields,
        client: client_of(forwarded),
    })
}
