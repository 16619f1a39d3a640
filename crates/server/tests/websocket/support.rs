//! Both ends of a WebSocket without a socket: a client that makes and reads frames, and the
//! application, which the test plays. Time is paused in every test.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rsgi_protocol::http::head::{Field, HeadLimits};
use rsgi_protocol::websocket::deflate::{Agreement, Compressor};
use rsgi_protocol::websocket::handshake::Acceptance;
use rsgi_protocol::websocket::{Close, Kind, Message};
use rsgi_server::{
    AccessLog, App, ConnectionInfo, DrainPhase, Exchange, Flow, Kept, MessageReceived, Options,
    Outcome, Outgoing, Request, Residence, SendError, Service, Telemetry, Versions, WebSocket,
    WebSocketOptions, serve,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, timeout};

/// So that a test fails where it would wait for ever; time is paused.
const PATIENCE: Duration = Duration::from_secs(3600);
const MASK: [u8; 4] = [1, 2, 3, 4];

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

pub(crate) const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// Hands every WebSocket to the test, and answers HTTP requests with 200.
struct Played {
    calls: mpsc::Sender<Call>,
    woken: Woken,
}

/// What the application does when it is told that something may have been woken.
type Woken = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl App for Played {
    type Connection = ();

    fn connect(&self, _: &ConnectionInfo) {}

    fn call(&self, (): &(), _: &Request<'_>, exchange: &Arc<Exchange>) {
        use rsgi_protocol::http::cycle::{More, Trailers};
        use rsgi_protocol::http::response::ResponseHead;
        let head = ResponseHead::new(200).expect("a status");
        exchange.start(head, Trailers::No).expect("first");
        exchange.body(bytes::Bytes::from_static(b"http"), More::Last).expect("second");
        exchange.finish(Outcome::Returned);
    }

    fn websocket(&self, (): &(), _: &Request<'_>, websocket: &Arc<WebSocket>) {
        let call = Call { websocket: Arc::clone(websocket) };
        self.calls.try_send(call).expect("the test takes its calls");
    }

    fn run_woken(&self) {
        let woken = self.woken.lock().expect("no panic holds this lock").take();
        if let Some(woken) = woken {
            woken();
        }
    }

    fn keep(&self, message: &Message<'_>) -> Option<Kept> {
        let Message::Text(data) = message else { return None };
        Some(Box::new(String::from_utf8_lossy(data).into_owned()))
    }
}

/// One WebSocket, from the application's side. Its call returns when this is dropped.
pub(crate) struct Call {
    pub(crate) websocket: Arc<WebSocket>,
}

impl Call {
    /// `receive()`.
    pub(crate) async fn receive(&self) -> MessageReceived {
        let received = timeout(PATIENCE, poll_fn(|cx| self.websocket.poll_receive(cx))).await;
        received.expect("something comes")
    }

    /// Asserts that the next message is this text.
    pub(crate) async fn receives(&self, text: &str) {
        match self.receive().await {
            MessageReceived::Message(Kind::Text, data) => {
                assert_eq!(&data[..], text.as_bytes());
                assert!(data.len() <= 64, "kept otherwise");
            }
            MessageReceived::Kept(Kind::Text, kept) => {
                assert_eq!(*kept.downcast::<String>().expect("as it was kept"), text);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asserts that nothing is to be received.
    pub(crate) async fn hears_nothing(&self) {
        let receive = poll_fn(|cx| self.websocket.poll_receive(cx));
        let received = timeout(Duration::from_millis(1), receive).await;
        assert!(received.is_err(), "{received:?}");
    }

    /// The code and reason of the disconnect that comes next.
    pub(crate) async fn disconnect(&self) -> (u16, String) {
        match self.receive().await {
            MessageReceived::Disconnect(close) => (close.code, close.reason.to_string()),
            other => panic!("{other:?}"),
        }
    }

    /// Receives `websocket.connect` and accepts.
    pub(crate) async fn accept(&self) {
        assert!(matches!(self.receive().await, MessageReceived::Connect));
        self.websocket.accept(Acceptance::default()).expect("connecting");
    }

    pub(crate) fn send(&self, text: &str) -> Result<Flow, SendError> {
        self.websocket.send(Kind::Text, Outgoing::Slice(text.as_bytes()))
    }

    pub(crate) fn close(&self, code: u16) -> Result<Flow, SendError> {
        self.websocket.close(&Close::new(code))
    }

    /// Waits until the client has read enough.
    pub(crate) async fn drained(&self) {
        let drained = timeout(PATIENCE, poll_fn(|cx| self.websocket.poll_drained(cx))).await;
        drained.expect("the client reads or leaves");
    }

    /// The call raises.
    pub(crate) fn fail(self) {
        self.websocket.finish(Outcome::Failed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // The first outcome counts.
        self.websocket.finish(Outcome::Returned);
    }
}

/// A service whose application is the test.
pub(crate) struct Stage {
    service: Arc<Service<Played>>,
    calls: mpsc::Receiver<Call>,
    woken: Woken,
    books: Arc<Books>,
}

#[derive(Debug, Default)]
struct Books {
    messages: AtomicU32,
    in_flight: AtomicU32,
    statuses: Mutex<Vec<u16>>,
}

impl Telemetry for Books {
    fn connection_opened(&self, _: u32) {}

    fn connection_closed(&self, _: u32) {}

    fn request_started(&self, in_flight: u32, _: Instant) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
    }

    fn request_finished(&self, in_flight: u32, status: u16, _: Duration, _: Instant) {
        self.in_flight.store(in_flight, Ordering::Relaxed);
        self.statuses.lock().expect("no panic holds this lock").push(status);
    }

    fn message_received(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other options than the usual: 32 messages of 1 MiB, pings after 20 s, 20 s for the
    /// answer, 3 s for a goodbye.
    pub(crate) fn with(change: impl FnOnce(&mut WebSocketOptions)) -> Self {
        let mut websocket = WebSocketOptions {
            max_size: 1 << 20,
            max_queue: 32,
            ping_interval: Some(Duration::from_secs(20)),
            ping_timeout: Some(Duration::from_secs(20)),
            deflate: true,
            drain_grace: Duration::from_secs(3),
        };
        change(&mut websocket);
        Self::over(Some(websocket))
    }

    /// Where WebSockets are switched off.
    pub(crate) fn without() -> Self {
        Self::over(None)
    }

    fn over(websocket: Option<WebSocketOptions>) -> Self {
        let options = Options {
            versions: Versions::All,
            head: HeadLimits::default(),
            body_limit: None,
            concurrency_limit: None,
            overload: rsgi_server::Overload::default(),
            head_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(5),
            websocket,
            forwarding: None,
            date: false,
            server_field: Vec::new(),
            extra_fields: Vec::new(),
            application: Residence::SameThread,
            is_hasty: false,
        };
        let (tx, calls) = mpsc::channel(16);
        let books = Arc::new(Books::default());
        let telemetry = Arc::<Books>::clone(&books);
        let woken = Woken::default();
        let app = Played { calls: tx, woken: Arc::clone(&woken) };
        let service = Service::new(app, options, AccessLog::off(), telemetry);
        Self { service, calls, woken, books }
    }

    pub(crate) fn connect(&self) -> Client {
        self.connect_over(256 * 1024)
    }

    /// A connection that holds `capacity` bytes in each direction.
    pub(crate) fn connect_over(&self, capacity: usize) -> Client {
        let (ours, theirs) = tokio::io::duplex(capacity);
        let info = ConnectionInfo {
            client: None,
            server: None,
            scheme: "http",
            tls: None,
            redirect: None,
            forwarding: None,
        };
        serve(theirs, &self.service, info);
        Client { io: ours, buffer: Vec::new() }
    }

    /// A connection that speaks HTTP/2.
    pub(crate) fn wire(&self) -> DuplexStream {
        self.connect().io
    }

    /// The next call of the application.
    pub(crate) async fn call(&mut self) -> Call {
        let call = timeout(PATIENCE, self.calls.recv()).await;
        call.expect("the application is called").expect("the service is alive")
    }

    /// An accepted WebSocket.
    pub(crate) async fn open(&mut self) -> (Client, Call) {
        self.open_over(256 * 1024).await
    }

    pub(crate) async fn open_over(&mut self, capacity: usize) -> (Client, Call) {
        let mut client = self.connect_over(capacity);
        client.send(HANDSHAKE).await;
        let call = self.call().await;
        call.accept().await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, call)
    }

    /// Has the application do this when it is next told that something may have been woken.
    pub(crate) fn when_woken(&self, call: impl FnOnce() + Send + 'static) {
        *self.woken.lock().expect("no panic holds this lock") = Some(Box::new(call));
    }

    pub(crate) fn advance(&self, phase: DrainPhase) {
        self.service.advance(phase);
    }

    /// How many messages have been counted.
    pub(crate) fn messages(&self) -> u32 {
        self.books.messages.load(Ordering::Relaxed)
    }

    pub(crate) fn requests_in_flight(&self) -> u32 {
        self.books.in_flight.load(Ordering::Relaxed)
    }

    /// All connections end by themselves; the statuses of all requests are these.
    pub(crate) async fn settle(self, statuses: &[u16]) {
        timeout(PATIENCE, self.service.emptied()).await.expect("every connection ends");
        assert_eq!(self.requests_in_flight(), 0);
        assert_eq!(*self.books.statuses.lock().expect("no panic holds this lock"), statuses);
    }
}

/// The client's end.
pub(crate) struct Client {
    io: DuplexStream,
    buffer: Vec<u8>,
}

/// A masked frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => frame.push(0x80 | length),
        (_, Ok(length)) => {
            frame.push(0xfe);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(0xff);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

/// What a client offers that compresses.
pub(crate) const DEFLATE: (&str, &str) = ("sec-websocket-extensions", "permessage-deflate");

/// A binary message that is `length` bytes long once it is decompressed, and a thousandth of that before.
pub(crate) fn large_when_decompressed(length: usize) -> Vec<u8> {
    let field = Field { name: DEFLATE.0, value: DEFLATE.1.as_bytes() };
    let agreement = Agreement::negotiate(&[field]).expect("an offer that suits");
    let compressed = Compressor::new(agreement).compress(&vec![0; length]);
    frame(BINARY | 0x40, &compressed.expect("zeros compress well"))
}

/// Counts the turns of a task that always has something to do: everybody else's.
pub(crate) struct Turns {
    count: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Turns {
    pub(crate) fn new() -> Self {
        let count = Arc::<AtomicU32>::default();
        let counter = Arc::clone(&count);
        let task = tokio::spawn(async move {
            loop {
                counter.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        Self { count, task }
    }

    /// How many there have been.
    pub(crate) fn end(self) -> u32 {
        self.task.abort();
        self.count.load(Ordering::Relaxed)
    }
}

impl Client {
    pub(crate) fn over(io: DuplexStream) -> Self {
        Self { io, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.io.write_all(bytes.as_ref())).await;
        sent.expect("the server reads").expect("the server is there");
    }

    /// Sends as much as is taken now; returns how much that was.
    pub(crate) async fn send_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match timeout(Duration::from_millis(1), self.io.write(rest)).await {
                Ok(count) => sent += count.expect("the server is there"),
                Err(_) => break,
            }
        }
        sent
    }

    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) {
        self.send(frame(first, payload)).await;
    }

    /// Reads a response's head.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = self.buffer.drain(..at + 4).collect();
                return String::from_utf8(head).expect("a head is text");
            }
            self.fill().await;
        }
    }

    /// Reads one frame: its first byte and its payload.
    pub(crate) async fn reads(&mut self) -> (u8, Vec<u8>) {
        let head = self.exactly(2).await;
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let length = match head[1] {
            126 => {
                let length = self.exactly(2).await;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            127 => {
                let length = self.exactly(8).await;
                let length = u64::from_be_bytes(length.try_into().expect("eight bytes"));
                usize::try_from(length).expect("tests are small")
            }
            short => usize::from(short),
        };
        (head[0], self.exactly(length).await)
    }

    /// Asserts that a close frame with this code, and then the end, comes.
    pub(crate) async fn is_closed(&mut self, code: u16) {
        assert_eq!(self.close_code().await, code);
        self.ends().await;
    }

    /// Reads a close frame.
    pub(crate) async fn close_code(&mut self) -> u16 {
        let (first, payload) = self.reads().await;
        assert_eq!(first, CLOSE, "{payload:?}");
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// Asserts that nothing but the end comes.
    pub(crate) async fn ends(&mut self) {
        let rest = timeout(PATIENCE, self.io.read_to_end(&mut self.buffer)).await;
        rest.expect("the server closes").expect("a duplex stream cannot fail");
        assert_eq!(self.buffer, [], "nothing before the end");
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.fill().await;
        }
        self.buffer.drain(..length).collect()
    }

    async fn fill(&mut self) {
        let count = timeout(PATIENCE, self.io.read_buf(&mut self.buffer)).await;
        let count = count.expect("the server goes on").expect("a duplex stream cannot fail");
        assert_ne!(count, 0, "closed behind {:?}", String::from_utf8_lossy(&self.buffer));
    }

    /// Asserts that the server neither sends anything nor closes while nothing else happens.
    pub(crate) async fn hears_nothing(&mut self) {
        assert_eq!(self.buffer, [], "nothing is left over");
        let read = timeout(Duration::from_millis(1), self.io.read_buf(&mut self.buffer)).await;
        assert!(read.is_err(), "{read:?}: {:?}", self.buffer);
    }
}
