//! What all connections of a worker share: the application, the options, the counters, the drain
//! state.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rsgi_protocol::forwarded::{Forwarded, Forwarding};
use rsgi_protocol::http::head::{Field, HeadLimits, Version};
use rsgi_protocol::http::response::ServerFields;
use rsgi_protocol::http::target::Target;
use rsgi_protocol::websocket::Message;
use tokio::time::Instant;

use crate::access_log::{AccessLog, CLIENT_CLOSED_REQUEST, Ended, Entry as LogEntry};
use crate::admission::{Admission, Ticket, Verdict};
use crate::connections::Connections;
use crate::exchange::{Exchange, Outcome};
use crate::http2::OwnFields;
use crate::live::{LiveKey, LiveRequests};
use crate::redirect::Redirect;
use crate::rejection::RejectionLog;
use crate::tls::TlsInfo;
use crate::websocket::{Kept, SHORT, Turnstile, WebSocket, WebSocketOptions};

/// An application, as the server sees it. `bridge` implements it over Python; tests and benchmarks
/// in Rust.
pub trait App: Send + Sync + 'static {
    /// What the application keeps for the life of a connection (the scope's `client` and `server`,
    /// say).
    type Connection: Send;

    /// A connection was opened.
    fn connect(&self, peer: &ConnectionInfo) -> Self::Connection;

    /// Starts the application on one request and returns as soon as it waits. The request is
    /// borrowed from the connection's buffer; whatever is needed later has to be copied. The
    /// application must call [`Exchange::finish`] in the end, from here or later.
    fn call(&self, connection: &Self::Connection, request: &Request<'_>, exchange: &Arc<Exchange>);

    /// Starts the application on one WebSocket, in the same way; it must call
    /// [`WebSocket::finish`] in the end. An application that knows no WebSockets fails.
    fn websocket(&self, _: &Self::Connection, _: &Request<'_>, websocket: &Arc<WebSocket>) {
        websocket.finish(Outcome::Failed);
    }

    /// The application has taken too long over a request (a WebSocket's handshake included): what
    /// still runs of it is to be stopped. Nobody waits for that.
    fn cancel(&self, _: &Exchange) {}

    /// Runs what waits for the long message that a WebSocket's connection has just taken in, before
    /// the next connection has its turn. Called without a lock; it may as well happen later.
    fn run_woken(&self) {}

    /// What the application is to get for a message from a client, if it makes something of its own
    /// of it: then its bytes are copied once, to there. It comes back as
    /// [`MessageReceived::Kept`](crate::MessageReceived::Kept). Not asked for short messages.
    fn keep(&self, _: &Message<'_>) -> Option<Kept> {
        None
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// The client's address and port; `None` on a Unix socket.
    pub client: Option<(String, u16)>,
    /// The server's address and port, or a Unix socket's path and no port.
    pub server: Option<(String, Option<u16>)>,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// How it is encrypted, if it is.
    pub tls: Option<Arc<TlsInfo>>,
    /// Where to send requests instead of to the application.
    pub redirect: Option<Redirect>,
    /// How forwarded fields are read; none from a peer who is not trusted.
    pub forwarding: Option<Arc<Forwarding>>,
}

impl fmt::Display for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.client, &self.server) {
            (Some((host, port)), _) if host.contains(':') => write!(f, "[{host}]:{port}"),
            (Some((host, port)), _) => write!(f, "{host}:{port}"),
            (None, Some((path, _))) => write!(f, "unix:{path}"),
            (None, None) => f.write_str("unix:"),
        }
    }
}

/// A request's head, as an [`App`] sees it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method, in the case the client used.
    pub method: &'a str,
    /// Path and query, still percent-encoded.
    pub target: Target<'a>,
    /// The protocol's version.
    pub version: Version,
    /// Names in the client's spelling, in order, duplicates kept.
    pub fields: &'a [Field<'a>],
    /// Whether trailers may follow a response's body.
    pub accepts_trailers: bool,
    /// What a trusted proxy says about it. The host is in `fields` already.
    pub forwarded: Option<&'a Forwarded<'a>>,
    /// What the logs call it, if they call it something.
    pub id: Option<&'a str>,
}

/// What is told to the outside about a worker's load. All methods are on the request path: a few
/// atomics at most.
pub trait Telemetry: Send + Sync + 'static {
    /// Whether this worker should take the next connection, or leave it to one with less to do.
    fn may_accept(&self) -> bool {
        true
    }
    /// A connection was accepted; `open` is how many there are now.
    fn connection_opened(&self, open: u32);
    /// A connection ended.
    fn connection_closed(&self, open: u32);
    /// A request goes to the application at `now`; `in_flight` is how many there are now.
    fn request_started(&self, in_flight: u32, now: Instant);
    /// A response ended at `now`. `status` is 0 where none was sent.
    fn request_finished(&self, in_flight: u32, status: u16, duration: Duration, now: Instant);
    /// The server answered a request by itself, which did not reach the application.
    fn request_refused(&self, _status: u16) {}
    /// So much was read from a client.
    fn bytes_read(&self, _count: usize) {}
    /// So much was written to a client.
    fn bytes_written(&self, _count: usize) {}
    /// A message came in on a WebSocket.
    fn message_received(&self) {}
    /// So many requests wait now for one of the places that the application has.
    fn queue_changed(&self, _waiting: u32) {}
    /// A request was turned away because there was no place.
    fn request_turned_away(&self) {}
    /// The application took too long over a request.
    fn request_timed_out(&self) {}
    /// Whether this worker can take connections at all.
    fn set_accepting(&self, _accepting: bool) {}
}

/// Telemetry that nobody reads.
#[derive(Debug, Clone, Copy)]
pub struct NoTelemetry;

impl Telemetry for NoTelemetry {
    fn connection_opened(&self, _: u32) {}
    fn connection_closed(&self, _: u32) {}
    fn request_started(&self, _: u32, _: Instant) {}
    fn request_finished(&self, _: u32, _: u16, _: Duration, _: Instant) {}
}

/// Which versions of HTTP are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Versions {
    /// HTTP/1.x and HTTP/2: what was agreed on in a TLS handshake, or else what the client begins
    /// with.
    #[default]
    All,
    /// HTTP/1.x only.
    Http1,
    /// HTTP/2 only.
    Http2,
}

/// The server's settings, in its own terms.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which versions of HTTP are spoken. What is offered in TLS handshakes has to agree with it.
    pub versions: Versions,
    /// Limits of a request's head.
    pub head: HeadLimits,
    /// The longest request content accepted.
    pub body_limit: Option<u64>,
    /// How many requests may be with the application at once; more wait or are answered 503.
    pub concurrency_limit: Option<u32>,
    /// What happens when there is too much to do.
    pub overload: Overload,
    /// How long a whole request head may take, the wait for a new connection's first byte
    /// included.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// How WebSockets are served; `None` where a request for one is like any other.
    pub websocket: Option<WebSocketOptions>,
    /// Whose forwarded fields are read, and which; none for nobody's.
    pub forwarding: Option<Arc<Forwarding>>,
    /// Whether responses carry `date`.
    pub date: bool,
    /// Whole field lines (`name: value CRLF`) for every response: `server` and the user's own.
    pub server_field: Vec<u8>,
    /// The user's own fields for every response, as whole lines.
    pub extra_fields: Vec<u8>,
    /// Whether somebody waits for a drain's end (`--reload`): connections without a request close
    /// after [`HASTY_PATIENCE`], and a response that has begun is cut where it would be asked to end.
    pub is_hasty: bool,
    /// Where the application runs.
    pub application: Residence,
}

/// Where an application runs, as seen from the connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Residence {
    /// In the thread that drives them: what it sends leaves while it sends it.
    #[default]
    SameThread,
    /// In another one, which must not touch a connection: what it sends leaves once the connection's
    /// own task gets to it.
    OtherThread,
}

/// What happens when there is too much to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Overload {
    /// How many requests may wait for a place at the application.
    pub queue_limit: u32,
    /// How long they wait before they are answered 503.
    pub queue_timeout: Duration,
    /// How long a request may make no progress before it is given up.
    pub request_timeout: Option<Duration>,
    /// How many connections may be open at once; more wait in the kernel's backlog.
    pub connection_limit: Option<u32>,
}

/// How long a connection without a request stays open once a drain has begun: its next request may
/// be on the way already, and closing would lose it. It is answered, with `connection: close`.
///
/// Far above what a busy client takes from a response to its next request, and below what somebody
/// who waits for the stop finds long.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

/// The same in a hasty drain: a client that has just connected is not hung up on.
pub const HASTY_PATIENCE: Duration = Duration::from_millis(50);

/// How far a shutdown has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum DrainPhase {
    /// Serving.
    Serving = 0,
    /// Serving, also new connections; every response says `connection: close`.
    Announcing = 1,
    /// No new connections; requests in flight finish, and so does one more on each connection if it
    /// comes within [`DRAIN_PATIENCE`].
    Draining = 2,
    /// Applications whose response has begun and does not end are told that nobody listens.
    EndingStreams = 3,
    /// Every connection is cut.
    Cut = 4,
}

/// What all connections share.
pub struct Service<A> {
    /// The application.
    pub app: A,
    pub(crate) options: Options,
    access_log: AccessLog,
    pub(crate) rejections: RejectionLog,
    telemetry: Arc<dyn Telemetry>,
    phase: AtomicU8,
    draining_since: OnceLock<Instant>,
    in_flight: AtomicU32,
    admission: Arc<Admission>,
    live: Arc<LiveRequests>,
    pub(crate) connections: Connections,
    pub(crate) turnstile: Turnstile,
    pub(crate) own_fields: OwnFields,
}

impl<A> fmt::Debug for Service<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl<A: App> Service<A> {
    /// A service over `app`.
    pub fn new(
        app: A,
        options: Options,
        access_log: AccessLog,
        telemetry: Arc<dyn Telemetry>,
    ) -> Arc<Self> {
        let limit = options.concurrency_limit;
        let length = options.overload.queue_limit;
        Arc::new(Self {
            app,
            admission: Admission::new(limit, length, Arc::clone(&telemetry)),
            options,
            access_log,
            rejections: RejectionLog::default(),
            telemetry,
            phase: AtomicU8::new(DrainPhase::Serving as u8),
            draining_since: OnceLock::new(),
            in_flight: AtomicU32::new(0),
            live: Arc::default(),
            connections: Connections::new(),
            turnstile: Turnstile::default(),
            own_fields: OwnFields::default(),
        })
    }

    /// How far a shutdown has got.
    pub fn phase(&self) -> DrainPhase {
        match self.phase.load(Ordering::Relaxed) {
            0 => DrainPhase::Serving,
            1 => DrainPhase::Announcing,
            2 => DrainPhase::Draining,
            3 => DrainPhase::EndingStreams,
            _ => DrainPhase::Cut,
        }
    }

    /// Goes on to `phase` and tells every connection. Never goes back.
    pub fn advance(&self, phase: DrainPhase) {
        if phase >= DrainPhase::Draining {
            self.draining_since.get_or_init(Instant::now);
        }
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.connections.wake_all();
    }

    /// Until when a connection without a request may stay; `None` while serving.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.draining_since.get().and_then(|since| since.checked_add(self.patience()))
    }

    /// How long a connection without a request stays once a drain has begun.
    pub(crate) fn patience(&self) -> Duration {
        if self.options.is_hasty { HASTY_PATIENCE } else { DRAIN_PATIENCE }
    }

    /// How many requests wait for the end of their response.
    pub fn requests_in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Which requests those are.
    pub fn live_requests(&self) -> &Arc<LiveRequests> {
        &self.live
    }

    /// The access log.
    pub fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Logs a request that is over, if somebody wants to hear of it.
    pub(crate) fn log_access(&self, peer: &ConnectionInfo, entry: Option<&LogEntry>, ended: Ended) {
        if let Some(entry) = entry {
            self.access_log.leave(peer, entry, ended, || self.status_of_unanswered());
        }
    }

    /// Whose fault it is that a request ended without a response, as a status.
    fn status_of_unanswered(&self) -> u16 {
        if std::thread::panicking() {
            500
        } else if self.phase() == DrainPhase::Cut {
            503
        } else {
            CLIENT_CLOSED_REQUEST
        }
    }

    pub(crate) fn telemetry(&self) -> &Arc<dyn Telemetry> {
        &self.telemetry
    }

    pub(crate) fn may_accept(&self) -> bool {
        self.telemetry.may_accept()
    }

    pub(crate) fn request_started(&self, now: Instant) {
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.telemetry.request_started(in_flight, now);
    }

    pub(crate) fn request_finished(&self, status: u16, started: Instant, now: Instant) {
        let in_flight = self.in_flight.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        let duration = now.saturating_duration_since(started);
        self.telemetry.request_finished(in_flight, status, duration, now);
        self.admission.place_freed();
    }

    /// Whether a request may go to the application now. One that has waited brings its ticket, which
    /// then counts for as long as the request does not count by itself.
    pub(crate) fn admit(&self, turn: &Turn) -> Verdict {
        match turn {
            Turn::Due(_) => Verdict::Admitted,
            Turn::Missed | Turn::Left => Verdict::Busy,
            Turn::Unasked => self.admission.ask(self.requests_in_flight()),
        }
    }

    /// A request is over that has found no place. Returns whether somebody waits to be told.
    pub(crate) fn turn_away(
        &self,
        turn: &Turn,
        peer: &ConnectionInfo,
        entry: Option<&LogEntry>,
        now: Instant,
    ) -> bool {
        let is_there = !matches!(turn, Turn::Left);
        let status = if is_there { 503 } else { CLIENT_CLOSED_REQUEST };
        self.log_access(peer, entry, Ended::at_once(status, now));
        if is_there {
            self.request_turned_away();
        }
        is_there
    }

    fn request_turned_away(&self) {
        self.telemetry.request_turned_away();
        self.telemetry.request_refused(503);
    }

    /// The application has made no progress for too long.
    pub(crate) fn time_out(&self, exchange: &Exchange, live: LiveKey, peer: &ConnectionInfo) {
        let waited = self.options.overload.request_timeout.unwrap_or_default();
        let line = self.live.line(live);
        log::warn!("{peer} - \"{line}\" timed out: no progress for {waited:?}, task cancelled");
        self.telemetry.request_timed_out();
        self.app.cancel(exchange);
    }

    /// Until when a request may make no progress, if that is limited.
    pub(crate) fn silent_until(&self, now: Instant) -> Option<Instant> {
        self.options.overload.request_timeout.and_then(|limit| now.checked_add(limit))
    }

    pub(crate) fn request_refused(&self, status: u16) {
        self.telemetry.request_refused(status);
    }

    /// A message has come in on a WebSocket.
    pub(crate) fn message_received(&self, message: &Message<'_>) -> Option<Kept> {
        self.telemetry.message_received();
        if message.len() > SHORT { self.app.keep(message) } else { None }
    }

    /// What the server adds to a response.
    pub(crate) fn server_fields<'a>(&'a self, date: &'a [u8]) -> ServerFields<'a> {
        ServerFields {
            date: if self.options.date { date } else { &[] },
            server: &self.options.server_field,
            extra: &self.options.extra_fields,
        }
    }
}

/// How far a request has got in the queue for a place at the application.
#[derive(Debug, Default)]
pub(crate) enum Turn {
    /// It has not asked yet.
    #[default]
    Unasked,
    /// It may go, or wait to go, by its ticket.
    Due(Ticket),
    /// It has waited for too long.
    Missed,
    /// Its client has left.
    Left,
}

impl Turn {
    /// The request goes to the application, and counts by itself from now on.
    pub(crate) fn begin(&mut self) {
        if let Self::Due(ticket) = std::mem::take(self) {
            ticket.redeem();
        }
    }
}
