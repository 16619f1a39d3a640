//! Applications: one that answers inside the call, one that runs as a task, and one that the test
//! itself plays.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rsgi_protocol::http::cycle::{More, Trailers};
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::head::Version;
use rsgi_protocol::http::response::ResponseHead;
use rsgi_server::{App, ConnectionInfo, Exchange, Flow, Outcome, Received, Request, SendError};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// So that a test fails where it would wait for ever; time is paused.
const PATIENCE: Duration = Duration::from_secs(3600);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An application for tests.
pub(crate) struct TestApp(Handler);

enum Handler {
    Eager(Box<dyn Fn(Call) + Send + Sync>),
    Spawned(Box<dyn Fn(Call) -> Task + Send + Sync>),
    Played(mpsc::Sender<Call>),
}

impl TestApp {
    /// Runs inside `App::call`; the application's call ends when the handler lets go of it.
    pub(crate) fn eager(handler: impl Fn(Call) + Send + Sync + 'static) -> Self {
        Self(Handler::Eager(Box::new(handler)))
    }

    /// Runs in a task of its own; the call ends with the task.
    pub(crate) fn spawned<F>(handler: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self(Handler::Spawned(Box::new(move |call| Box::pin(handler(call)))))
    }

    /// Answers `200` with the request's path, inside the call.
    pub(crate) fn echo_path() -> Self {
        Self::eager(|call| call.answer(call.path.clone()))
    }

    /// Answers `200` with the request's content.
    pub(crate) fn echo_content() -> Self {
        Self::spawned(async |call: Call| {
            if let Some(content) = call.content().await {
                call.answer(content);
            }
        })
    }

    /// Hands every call to the test.
    pub(super) fn played() -> (Self, mpsc::Receiver<Call>) {
        let (tx, rx) = mpsc::channel(256);
        (Self(Handler::Played(tx)), rx)
    }
}

impl App for TestApp {
    /// The client's and the server's address.
    type Connection = (Option<String>, Option<String>);

    fn connect(&self, peer: &ConnectionInfo) -> Self::Connection {
        let client = peer.client.as_ref().map(|(host, port)| format!("{host}:{port}"));
        let server =
            peer.server.as_ref().map(|(host, port)| format!("{host}:{}", port.unwrap_or(0)));
        (client, server)
    }

    fn call(&self, addresses: &Self::Connection, request: &Request<'_>, exchange: &Arc<Exchange>) {
        let call = Call::new(addresses, request, exchange);
        match &self.0 {
            Handler::Eager(handler) => handler(call),
            Handler::Spawned(handler) => drop(tokio::spawn(handler(call))),
            Handler::Played(tx) => tx.try_send(call).expect("the test takes its calls"),
        }
    }
}

/// One request, from the application's side. The application's call ends when this is dropped.
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) version: Version,
    pub(crate) accepts_trailers: bool,
    /// The client, as a proxy has it or as it has connected.
    pub(crate) client: String,
    pub(crate) server: Option<String>,
    pub(crate) host: String,
    pub(crate) exchange: Arc<Exchange>,
}

impl Call {
    fn new(
        (client, server): &(Option<String>, Option<String>),
        request: &Request<'_>,
        exchange: &Arc<Exchange>,
    ) -> Self {
        let forwarded = request.forwarded.and_then(|forwarded| forwarded.client);
        let forwarded = forwarded.map(|(address, port)| format!("{address}:{port}"));
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let host = request.fields.iter().find(|field| is_host(field.name));
        let host = host.map_or_else(Vec::new, |field| field.value.to_vec());
        Self {
            client: forwarded.or_else(|| client.clone()).unwrap_or_default(),
            server: server.clone(),
            host: String::from_utf8(host).expect("tests send text"),
            path: String::from_utf8_lossy(request.target.path).into_owned(),
            version: request.version,
            accepts_trailers: request.accepts_trailers,
            exchange: Arc::clone(exchange),
        }
    }

    /// `receive()`.
    pub(crate) async fn receive(&self) -> Received {
        let received = timeout(PATIENCE, poll_fn(|cx| self.exchange.poll_receive(cx))).await;
        received.expect("something comes")
    }

    /// All of the content; `None` if the client left before its end.
    pub(crate) async fn content(&self) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            match self.receive().await {
                Received::Body { data, more } => {
                    content.extend_from_slice(&data);
                    if more == More::Last {
                        return Some(content);
                    }
                }
                Received::Disconnect => return None,
            }
        }
    }

    /// `http.response.start`.
    pub(crate) fn start(&self, status: u16, fields: &[(&str, &str)]) -> Result<Flow, SendError> {
        self.exchange.start(response_head(status, fields), Trailers::No)
    }

    /// `http.response.start` with `trailers: True`.
    pub(crate) fn start_with_trailers(&self) -> Result<Flow, SendError> {
        self.exchange.start(response_head(200, &[]), Trailers::Announced)
    }

    /// `http.response.body` with `more_body: True`. Does not wait.
    pub(crate) fn part(&self, data: impl Into<Bytes>) -> Result<Flow, SendError> {
        self.exchange.body(data.into(), More::Follows)
    }

    /// The last `http.response.body`.
    pub(crate) fn last(&self, data: impl Into<Bytes>) -> Result<Flow, SendError> {
        self.exchange.body(data.into(), More::Last)
    }

    /// The last `http.response.trailers`.
    pub(crate) fn trailers(&self, fields: &[(&str, &str)]) -> Result<Flow, SendError> {
        self.exchange.trailers(&block(fields), More::Last)
    }

    /// `http.response.early_hint`.
    pub(crate) fn early_hint(&self, fields: &[(&str, &str)]) -> Result<Flow, SendError> {
        self.exchange.early_hint(block(fields))
    }

    /// Waits until the connection has taken what was sent.
    pub(crate) async fn drained(&self) {
        let drained = timeout(PATIENCE, poll_fn(|cx| self.exchange.poll_drained(cx))).await;
        drained.expect("the client reads or leaves");
    }

    /// A whole `200`.
    pub(crate) fn answer(&self, content: impl Into<Bytes>) {
        self.start(200, &[]).expect("nothing was sent before");
        self.last(content).expect("the client is there");
    }

    /// The call raises.
    pub(crate) fn fail(self) {
        self.exchange.finish(Outcome::Failed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // The first outcome counts.
        self.exchange.finish(Outcome::Returned);
    }
}

fn response_head(status: u16, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::new(status).expect("tests use valid statuses");
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes()).expect("tests use valid fields");
    }
    head
}

fn block(fields: &[(&str, &str)]) -> FieldBlock {
    let mut block = FieldBlock::default();
    for (name, value) in fields {
        block.push(name.as_bytes(), value.as_bytes()).expect("tests use valid fields");
    }
    block
}
