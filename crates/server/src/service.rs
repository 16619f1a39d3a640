//! What all connections of a worker share: the application, the options, the counters, the drain
//! state.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use rsgi_protocol::http::head::{Field, HeadLimits, Version};
use rsgi_protocol::http::response::ServerFields;
use rsgi_protocol::http::target::Target;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::access_log::{AccessLog, Record};
use crate::date::DateLine;
use crate::exchange::{Exchange, Outcome, RequestLine};
use crate::live::LiveRequests;
use crate::redirect::Redirect;
use crate::rejection::RejectionLog;
use crate::tls::TlsInfo;
use crate::websocket::{WebSocket, WebSocketOptions};

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
    /// How many requests may be with the application at once; more are answered 503.
    pub concurrency_limit: Option<u32>,
    /// How long a whole request head may take, the wait for a new connection's first byte
    /// included.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive_timeout: Duration,
    /// How WebSockets are served; `None` where a request for one is like any other.
    pub websocket: Option<WebSocketOptions>,
    /// Whether responses carry `date`.
    pub date: bool,
    /// Whole field lines (`name: value CRLF`) for every response: `server` and the user's own.
    pub server_field: Vec<u8>,
    /// The user's own fields for every response, as whole lines.
    pub extra_fields: Vec<u8>,
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

/// How long a connection without a request stays open once a drain has begun: its next request may
/// be on the way already, and closing would lose it. It is answered, with `connection: close`.
///
/// Far above what a busy client takes from a response to its next request, and below what somebody
/// who waits for the stop finds long.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(1);

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
    pub(crate) date: DateLine,
    telemetry: Arc<dyn Telemetry>,
    phase: AtomicU8,
    draining_since: OnceLock<Instant>,
    in_flight: AtomicU32,
    live: Arc<LiveRequests>,
    connections: Mutex<Slab<Option<Waker>>>,
    emptied: Notify,
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
        Arc::new(Self {
            app,
            options,
            access_log,
            rejections: RejectionLog::default(),
            date: DateLine::default(),
            telemetry,
            phase: AtomicU8::new(DrainPhase::Serving as u8),
            draining_since: OnceLock::new(),
            in_flight: AtomicU32::new(0),
            live: Arc::default(),
            connections: Mutex::new(Slab::new()),
            emptied: Notify::new(),
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
        let wakers: Vec<Waker> =
            self.connections().iter().filter_map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Until when a connection without a request may stay; `None` while serving.
    pub(crate) fn idle_until(&self) -> Option<Instant> {
        self.draining_since.get().and_then(|since| since.checked_add(DRAIN_PATIENCE))
    }

    /// Waits until no connection is open.
    pub async fn emptied(&self) {
        loop {
            let notified = self.emptied.notified();
            if self.connections().is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections().len()
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

    /// Writes out what the access log holds. Call before the loop goes to sleep.
    pub fn flush_access_log(&self) {
        self.access_log.flush();
    }

    /// Writes an access line, if a response was sent and lines are wanted.
    pub(crate) fn log_access(
        &self,
        peer: &ConnectionInfo,
        request: Option<&RequestLine>,
        status: u16,
    ) {
        if let Some(request) = request.filter(|_| status != 0) {
            self.access_log.write(&Record { peer, request, status });
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
    }

    pub(crate) fn request_refused(&self, status: u16) {
        self.telemetry.request_refused(status);
    }

    pub(crate) fn message_received(&self) {
        self.telemetry.message_received();
    }

    /// The `date` line for the moment `now`.
    pub(crate) fn date_line(&self, now: Instant) -> [u8; crate::date::LENGTH] {
        self.date.at(now)
    }

    /// What the server adds to a response.
    pub(crate) fn server_fields<'a>(&'a self, date: &'a [u8]) -> ServerFields<'a> {
        ServerFields {
            date: if self.options.date { date } else { &[] },
            server: &self.options.server_field,
            extra: &self.options.extra_fields,
        }
    }

    fn connections(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection for as long as the returned entry lives.
    pub(crate) fn enter(self: &Arc<Self>) -> Entry<A> {
        let mut connections = self.connections();
        let key = connections.insert(None);
        self.telemetry.connection_opened(clamp(connections.len()));
        drop(connections);
        Entry { service: Arc::clone(self), key }
    }
}

/// One connection in a service's list.
pub(crate) struct Entry<A: App> {
    pub(crate) service: Arc<Service<A>>,
    key: usize,
}

impl<A: App> Entry<A> {
    /// Leaves the waker that a drain uses.
    pub(crate) fn register(&self, waker: &Waker) {
        if let Some(place) = self.service.connections().get_mut(self.key) {
            *place = Some(waker.clone());
        }
    }
}

impl<A: App> Drop for Entry<A> {
    fn drop(&mut self) {
        let mut connections = self.service.connections();
        connections.try_remove(self.key);
        let open = connections.len();
        drop(connections);
        self.service.telemetry.connection_closed(clamp(open));
        if open == 0 {
            self.service.emptied.notify_waiters();
        }
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
