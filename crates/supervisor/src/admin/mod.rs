//! The admin listener: health, metrics and the list of workers, told by the supervisor itself.
//!
//! It shares the supervisor's thread and needs nothing of a worker, so it answers while every
//! worker is blocked. Whatever a client does costs a bounded amount of memory and time: one short
//! request per connection, [`CONNECTIONS`] of them, [`LIMIT`] for each. Nothing can be changed
//! here, only looked at.
//!
//! Owns: the paths and their meaning. Must not know: how the numbers come about (`status`).

pub(crate) mod client;
mod health;
mod metrics;
mod workers;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use log::{debug, info, warn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::sockets::{Listener, ListenerKind};
use crate::status::Status;

const LOG: &str = "rsgi";
/// How long a connection may take from its first to its last byte.
const LIMIT: Duration = Duration::from_secs(10);
/// How many connections there may be; probes and scrapers need one each, for a moment.
const CONNECTIONS: usize = 32;
/// hyper's smallest buffer, which a request's head has to fit into.
const BUFFER: usize = 8192;
/// More than any client sends.
const FIELDS: usize = 64;
/// How long to wait when the process has no descriptor left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// The tasks that accept; dropping this ends them and their connections.
#[derive(Debug)]
pub(crate) struct Admin {
    _acceptors: JoinSet<()>,
}

impl Admin {
    /// Serves on these sockets, within the current runtime.
    pub(crate) fn start(listeners: Vec<Listener>, status: &Arc<Status>) -> io::Result<Self> {
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            info!(target: LOG, "Admin listener at {}", listener.address);
            let (socket, status) = (Socket::of(&listener)?, Arc::clone(status));
            acceptors.spawn(async move {
                accept(socket, &status).await;
                drop(listener); // and with it a Unix socket's file
            });
        }
        Ok(Self { _acceptors: acceptors })
    }
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Socket {
    fn of(listener: &Listener) -> io::Result<Self> {
        let fd = listener.fd.try_clone()?;
        Ok(match listener.kind {
            ListenerKind::Tcp => Self::Tcp(TcpListener::from_std(fd.into())?),
            ListenerKind::Unix => Self::Unix(UnixListener::from_std(fd.into())?),
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

async fn accept(socket: Socket, status: &Arc<Status>) {
    let mut connections = Connections::default();
    loop {
        match socket.accept().await {
            Ok(stream) => connections.spawn(serve(stream, Arc::clone(status))),
            Err(error) => {
                warn!(target: LOG, "Cannot accept an admin connection: {error}");
                sleep(OUT_OF_DESCRIPTORS).await;
            }
        }
    }
}

/// The connections of one socket, oldest first.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    handles: Vec<AbortHandle>,
}

impl Connections {
    /// Where there are too many, the oldest has to go: it had its time, and clients that do not let
    /// go must not keep probes out.
    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.handles.retain(|handle| !handle.is_finished());
        if self.handles.len() >= CONNECTIONS {
            self.handles.remove(0).abort();
        }
        self.handles.push(self.tasks.spawn(connection));
    }
}

async fn serve(stream: Box<dyn Stream>, status: Arc<Status>) {
    let service = service_fn(move |request| {
        let response = respond(&status, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(BUFFER)
        .max_headers(FIELDS)
        .timer(TokioTimer::new())
        .header_read_timeout(LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = timeout(LIMIT, connection).await {
        debug!(target: LOG, "An admin connection failed: {error}");
    }
}

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PATHS: &str = "paths: /livez /readyz /startupz /metrics /workers\n";

/// The whole of the interface. (hyper leaves the content out where the method is HEAD.)
fn respond<B>(status: &Status, request: &Request<B>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "use GET or HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let verdict = |(is_good, text): (bool, String)| {
        let code = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer(code, TEXT, text + "\n")
    };
    match request.uri().path() {
        "/livez" => answer(StatusCode::OK, TEXT, "alive\n"),
        "/readyz" => verdict(health::readiness(status.health())),
        "/startupz" => verdict(health::startup(status.health())),
        "/metrics" => {
            let wanted = request.headers().get(ACCEPT).map(HeaderValue::as_bytes);
            let format = metrics::Format::for_client(wanted.unwrap_or_default());
            let content_type = HeaderValue::from_static(format.content_type());
            answer(StatusCode::OK, content_type, metrics::render(status.snapshot(), format))
        }
        "/workers" => answer(StatusCode::OK, JSON, workers::render(&status.snapshot())),
        _ => answer(StatusCode::NOT_FOUND, TEXT, PATHS),
    }
}

fn answer(
    code: StatusCode,
    content_type: HeaderValue,
    content: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
