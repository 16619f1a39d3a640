//! A service, its connections, and the books that have to balance at the end of every test.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rsgi_protocol::forwarded::Peer;
use rsgi_protocol::http::head::HeadLimits;
use rsgi_server::{
    AccessLog, ConnectionInfo, DrainPhase, Opening, Options, Residence, Service, Telemetry,
    Transport, Versions, open, serve,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::app::{Call, TestApp};
use super::client::Client;

/// What a connection holds in each direction unless a test says otherwise.
const CAPACITY: usize = 256 * 1024;

/// A service and whatever is connected to it. Every test ends with [`Stage::settle`].
pub(crate) struct Stage {
    service: Arc<Service<TestApp>>,
    books: Arc<Books>,
    abortive_closes: Arc<AtomicU32>,
    calls: Option<mpsc::Receiver<Call>>,
    is_settled: bool,
}

/// Waits until no task can go on without time passing, or somebody outside doing something. (Paused
/// time moves only then.)
pub(crate) async fn until_idle() {
    sleep(Duration::from_millis(1)).await;
}

/// Who is connected.
fn info() -> ConnectionInfo {
    ConnectionInfo {
        client: Some(("192.0.2.1".to_owned(), 50000)),
        server: Some(("192.0.2.2".to_owned(), Some(80))),
        scheme: "http",
        tls: None,
        redirect: None,
        forwarding: None,
    }
}

impl Stage {
    pub(crate) fn new(app: TestApp) -> Self {
        Self::with(app, |_| {})
    }

    /// With other options than the usual: a head within 10 s, 5 s between requests, no limits.
    pub(crate) fn with(app: TestApp, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            versions: Versions::All,
            head: HeadLimits::default(),
            body_limit: None,
            concurrency_limit: None,
            overload: rsgi_server::Overload::default(),
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            websocket: None,
            forwarding: None,
            date: false,
            server_field: Vec::new(),
            extra_fields: Vec::new(),
            application: Residence::SameThread,
            is_hasty: false,
        };
        change(&mut options);
        let books = Arc::new(Books::default());
        let telemetry = Arc::<Books>::clone(&books);
        Self {
            service: Service::new(app, options, AccessLog::off(), telemetry),
            books,
            abortive_closes: Arc::default(),
            calls: None,
            is_settled: false,
        }
    }

    /// The test plays the application: see [`Stage::call`].
    pub(crate) fn played() -> Self {
        Self::played_with(|_| {})
    }

    pub(crate) fn played_with(change: impl FnOnce(&mut Options)) -> Self {
        let (app, calls) = TestApp::played();
        let mut stage = Self::with(app, change);
        stage.calls = Some(calls);
        stage
    }

    /// The next call of the played application.
    pub(crate) async fn call(&mut self) -> Call {
        let calls = self.calls.as_mut().expect("the application is played by the test");
        let call = timeout(Duration::from_secs(600), calls.recv()).await;
        call.expect("the application is called").expect("the service is alive")
    }

    /// Asserts that the played application has no call to answer.
    pub(crate) async fn is_not_called(&mut self) {
        until_idle().await;
        let calls = self.calls.as_mut().expect("the application is played by the test");
        assert!(calls.try_recv().is_err(), "the application was called");
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_over(CAPACITY)
    }

    /// A connection that holds `capacity` bytes in each direction.
    pub(crate) fn connect_over(&self, capacity: usize) -> Client {
        Client::new(self.wire_over(capacity))
    }

    /// A connection of `peer` that begins with what `opening` says.
    pub(crate) fn open(&self, opening: &Opening, peer: Peer) -> Client {
        let (ours, theirs) = self.wires(CAPACITY);
        open(theirs, &self.service, opening, peer, info());
        Client::new(ours)
    }

    /// The client's end of such a connection.
    pub(crate) fn wire_over(&self, capacity: usize) -> DuplexStream {
        let (ours, theirs) = self.wires(capacity);
        serve(theirs, &self.service, info());
        ours
    }

    /// Both ends of a connection.
    fn wires(&self, capacity: usize) -> (DuplexStream, Wire) {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let abortive_closes = Arc::clone(&self.abortive_closes);
        (ours, Wire { io: theirs, abortive_closes })
    }

    pub(crate) fn advance(&self, phase: DrainPhase) {
        self.service.advance(phase);
    }

    /// Waits until every connection has ended.
    pub(crate) async fn emptied(&self) {
        let emptied = timeout(Duration::from_secs(600), self.service.emptied()).await;
        emptied.expect("every connection ends");
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.service.open_connections()
    }

    pub(crate) fn requests_in_flight(&self) -> u32 {
        self.service.requests_in_flight()
    }

    /// The statuses of finished requests, in order; 0 where nothing was sent.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        self.books.statuses.lock().expect("no panic holds this lock").clone()
    }

    /// The statuses of requests that the server refused by itself, in order.
    pub(crate) fn refusals(&self) -> Vec<u16> {
        self.books.refusals.lock().expect("no panic holds this lock").clone()
    }

    /// Bytes read and bytes written so far.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let Books { read, written, .. } = &*self.books;
        (read.load(Ordering::Relaxed), written.load(Ordering::Relaxed))
    }

    pub(crate) fn abortive_closes(&self) -> u32 {
        self.abortive_closes.load(Ordering::Relaxed)
    }

    /// The shared teardown: all connections end by themselves, and nothing is left open in the
    /// books.
    pub(crate) async fn settle(mut self) {
        self.is_settled = true;
        self.emptied().await;
        assert_eq!(self.service.open_connections(), 0, "open connections");
        assert_eq!(self.service.requests_in_flight(), 0, "requests in flight");
        let Books { opened, closed, open, started, finished, in_flight, .. } = &*self.books;
        let count = |counter: &AtomicU32| counter.load(Ordering::Relaxed);
        assert_eq!(count(opened), count(closed), "connections opened and closed");
        assert_eq!(count(open), 0, "open connections, as told");
        assert_eq!(count(started), count(finished), "requests started and finished");
        assert_eq!(count(in_flight), 0, "requests in flight, as told");
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        assert!(self.is_settled || std::thread::panicking(), "a test ends with `settle`");
    }
}

/// What the telemetry was told.
#[derive(Debug, Default)]
struct Books {
    opened: AtomicU32,
    closed: AtomicU32,
    open: AtomicU32,
    started: AtomicU32,
    finished: AtomicU32,
    in_flight: AtomicU32,
    statuses: Mutex<Vec<u16>>,
    refusals: Mutex<Vec<u16>>,
    read: AtomicUsize,
    written: AtomicUsize,
}

impl Telemetry for Books {
    fn connection_opened(&self, open: u32) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.open.store(open, Ordering::Relaxed);
    }

    fn connection_closed(&self, open: u32) {
        self.closed.fetch_add(1, Ordering::Relaxed);
        self.open.store(open, Ordering::Relaxed);
    }

    fn request_started(&self, in_flight: u32, _: Instant) {
        self.started.fetch_add(1, Ordering::Relaxed);
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    fn request_finished(&self, in_flight: u32, status: u16, _: Duration, _: Instant) {
        self.finished.fetch_add(1, Ordering::Relaxed);
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.statuses.lock().expect("no panic holds this lock").push(status);
    }

    fn request_refused(&self, status: u16) {
        self.refusals.lock().expect("no panic holds this lock").push(status);
    }

    fn bytes_read(&self, count: usize) {
        self.read.fetch_add(count, Ordering::Relaxed);
    }

    fn bytes_written(&self, count: usize) {
        self.written.fetch_add(count, Ordering::Relaxed);
    }
}

/// The server's end: a duplex stream that counts abortive closes, which it cannot do itself.
struct Wire {
    io: DuplexStream,
    abortive_closes: Arc<AtomicU32>,
}

impl Transport for Wire {
    fn make_close_abortive(&self) {
        self.abortive_closes.fetch_add(1, Ordering::Relaxed);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
