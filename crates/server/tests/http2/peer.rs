//! A client that keeps the rules.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::Stage;

/// Time is paused; no deadline of the server's is longer.
const PATIENCE: Duration = Duration::from_secs(600);
const CAPACITY: usize = 256 * 1024;

/// The client's end of a connection.
pub(crate) struct Peer {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("tests send text")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("tests send text"))
    }
}

/// `GET path`.
pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path, &[])
}

/// A request's head.
pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(format!("http://test{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.version(http::Version::HTTP_2).body(()).expect("tests use valid requests")
}

impl Peer {
    pub(crate) async fn new(stage: &Stage) -> Self {
        Self::with(stage, CAPACITY, |_| {}).await
    }

    /// Over a wire that holds `capacity` bytes in each direction, with other settings.
    pub(crate) async fn with(
        stage: &Stage,
        capacity: usize,
        change: impl FnOnce(&mut Builder),
    ) -> Self {
        let mut builder = Builder::new();
        change(&mut builder);
        let (requests, connection) =
            builder.handshake(stage.wire_over(capacity)).await.expect("a duplex stream");
        Self { requests, connection: tokio::spawn(connection) }
    }

    /// Sends a request's head; its content, if any, is to be sent through the stream.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        has_content: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        self.try_send(request, has_content).await.expect("the connection is open")
    }

    pub(crate) async fn try_send(
        &mut self,
        request: Request<()>,
        has_content: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let ready = timeout(PATIENCE, poll_fn(|cx| self.requests.poll_ready(cx))).await;
        ready.expect("the client may open a stream")?;
        self.requests.send_request(request, !has_content)
    }

    /// Sends a request without content, and reads its response.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> Reply {
        self.try_ask(request).await.expect("a response")
    }

    pub(crate) async fn try_ask(&mut self, request: Request<()>) -> Result<Reply, h2::Error> {
        let (response, _) = self.try_send(request, false).await?;
        whole(response).await
    }

    /// Sends a request with content, in pieces as large as the server allows.
    pub(crate) async fn post(&mut self, request: Request<()>, content: &[u8]) -> Reply {
        let (response, mut stream) = self.send(request, true).await;
        let reply = tokio::spawn(whole(response));
        let mut rest = Bytes::copy_from_slice(content);
        while !rest.is_empty() {
            let Some(room) = room(&mut stream, rest.len()).await else { break };
            let piece = rest.split_to(room.min(rest.len()));
            stream.send_data(piece, false).expect("the stream is open");
        }
        // A server that has answered may have closed the stream.
        let _ = stream.send_data(Bytes::new(), true);
        reply.await.expect("no panic").expect("a response")
    }

    /// Waits for the end of the connection.
    pub(crate) async fn ended(self) -> Result<(), h2::Error> {
        let ended = timeout(PATIENCE, self.connection).await;
        // Until now: a client without use for its connection would close it.
        drop(self.requests);
        ended.expect("the server closes").expect("no panic")
    }

    /// The connection breaks.
    pub(crate) fn vanish(self) {
        self.connection.abort();
    }
}

/// How much the server lets the client send now; `None` once it has closed the stream.
pub(crate) async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Option<usize> {
    if stream.capacity() == 0 {
        stream.reserve_capacity(wanted);
        let room = timeout(PATIENCE, poll_fn(|cx| stream.poll_capacity(cx))).await;
        room.expect("the window opens").and_then(Result::ok)?;
    }
    Some(stream.capacity())
}

/// A response's head.
pub(crate) async fn head(response: ResponseFuture) -> Response<RecvStream> {
    timeout(PATIENCE, response).await.expect("the server answers").expect("a response")
}

/// A whole response.
pub(crate) async fn whole(response: ResponseFuture) -> Result<Reply, h2::Error> {
    let response = timeout(PATIENCE, response).await.expect("the server answers")?;
    let (head, mut content) = response.into_parts();
    let mut read = Vec::new();
    while let Some(piece) = piece(&mut content).await {
        read.extend_from_slice(&piece?);
    }
    let trailers = timeout(PATIENCE, content.trailers()).await.expect("an end")?;
    Ok(Reply { status: head.status.as_u16(), fields: head.headers, content: read, trailers })
}

/// The next piece of a response's content, whose room in the window is given back.
pub(crate) async fn piece(content: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = timeout(PATIENCE, content.data()).await.expect("the server goes on")?;
    if let Ok(piece) = &piece {
        content.flow_control().release_capacity(piece.len()).expect("it was received");
    }
    Some(piece)
}

/// Why the server reset a stream.
pub(crate) fn reset_reason(error: &h2::Error) -> Option<Reason> {
    assert!(error.is_reset() && error.is_remote(), "{error:?}");
    error.reason()
}
