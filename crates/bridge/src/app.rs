//! An [`App`] that is a Python callable: scope in, task started, outcome reported.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_protocol::websocket::Kind;
use rsgi_server::{App, ConnectionInfo, Exchange, Kept, Outcome, Request, WebSocket};

use crate::http::HttpExchange;
use crate::other_loop::{Head, Job, LaterScope, LoopHandle, OtherLoop};
use crate::scope::{ConnectionScope, ScopeTemplate};
use crate::selector::Selector;
use crate::tasks::{End, OnEnd, Tasks, leaves_the_loop, to_coroutine};
use crate::websocket::{WebSocketExchange, keep};
use crate::{errors, logging};

/// A Python application on one event loop.
#[derive(Debug, Clone)]
pub(crate) struct PyApp(Arc<Application>);

impl Deref for PyApp {
    type Target = Application;

    fn deref(&self) -> &Application {
        &self.0
    }
}

/// What a [`PyApp`] is about.
#[derive(Debug)]
pub(crate) struct Application {
    callable: Py<PyAny>,
    home: Home,
    handle: LoopHandle,
    pub(crate) tasks: Tasks,
    root_path: String,
    /// Set once the lifespan has filled the state.
    template: OnceLock<ScopeTemplate>,
}

/// The event loop of the application's tasks.
#[derive(Debug)]
pub(crate) enum Home {
    /// rsgi's: this thread is in its `select()`.
    Own(Py<Selector>),
    /// Somebody else's, in another thread.
    Other(Arc<OtherLoop>),
}

impl Home {
    /// What kind of loop it is.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let selector = event_loop.getattr_opt(intern!(event_loop.py(), "_selector"))?;
        match selector.map(Bound::cast_into::<Selector>) {
            Some(Ok(selector)) => Ok(Self::Own(selector.unbind())),
            Some(Err(_)) | None => Ok(Self::Other(OtherLoop::new(event_loop)?)),
        }
    }

    /// How it is reached.
    pub(crate) fn handle(&self) -> LoopHandle {
        match self {
            Self::Own(selector) => LoopHandle::Own(Arc::clone(selector.get().reactor())),
            Self::Other(event_loop) => LoopHandle::Other(Arc::clone(&event_loop.mailbox)),
        }
    }
}

/// What is kept for the life of a connection.
#[derive(Debug)]
pub(crate) enum Connection {
    /// `None` if it could not be made.
    Known(Option<ConnectionScope>),
    /// Made by the loop's thread.
    Later(Arc<LaterScope>),
}

impl PyApp {
    pub(crate) fn new(callable: Py<PyAny>, home: Home, tasks: Tasks, root_path: String) -> Self {
        let handle = home.handle();
        let template = OnceLock::new();
        Self(Arc::new(Application { callable, home, handle, tasks, root_path, template }))
    }

    /// Calls the application with any scope and starts what it returns as one of `tasks`.
    pub(crate) fn start(
        &self,
        py: Python<'_>,
        tasks: &Arc<Tasks>,
        scope: &Bound<'_, PyDict>,
        receive: Bound<'_, PyAny>,
        send: Bound<'_, PyAny>,
        on_end: impl OnEnd,
    ) {
        match &self.home {
            Home::Own(selector) => {
                let left = self.begin(py, tasks, scope, receive, send, on_end);
                settle(py, selector.get(), left.map(drop));
            }
            Home::Other(event_loop) => {
                let job = AnyCall {
                    app: self.clone(),
                    tasks: Arc::clone(tasks),
                    arguments: (scope.clone().unbind(), receive.unbind(), send.unbind()),
                    on_end,
                };
                event_loop.begin(Box::new(job), tasks.queue());
            }
        }
    }
}

impl Application {
    /// Fixes what all scopes share. Once, before the first request.
    pub(crate) fn prepare(&self, py: Python<'_>, state: Py<PyDict>) -> PyResult<()> {
        let template = ScopeTemplate::new(py, &self.root_path, state)?;
        self.template.get_or_init(|| template);
        Ok(())
    }

    /// Calls the application, in the loop's thread. An error is the interpreter's own and has to
    /// leave the event loop. Returns the task's number, if it goes on.
    fn begin(
        &self,
        py: Python<'_>,
        tasks: &Tasks,
        scope: &Bound<'_, PyDict>,
        receive: Bound<'_, PyAny>,
        send: Bound<'_, PyAny>,
        on_end: impl OnEnd,
    ) -> PyResult<Option<usize>> {
        let called = self.callable.bind(py).call1((scope, receive, send)).and_then(to_coroutine);
        match called {
            Ok(coroutine) => tasks.start(py, coroutine, on_end),
            Err(error) if leaves_the_loop(py, &error) => {
                on_end.ended(py, End::Cancelled);
                Err(error)
            }
            Err(error) => {
                errors::keep_traceback(py, &error);
                on_end.ended(py, End::Raised(error));
                Ok(None)
            }
        }
    }

    fn begin_http(
        &self,
        py: Python<'_>,
        connection: &ConnectionScope,
        request: &Request<'_>,
        exchange: &Arc<Exchange>,
    ) -> PyResult<()> {
        let Some(template) = self.template.get() else {
            exchange.finish(Outcome::Failed);
            return Ok(());
        };
        let prepared = template.build(py, connection, request).and_then(|scope| {
            let http = HttpExchange::new(Arc::clone(exchange), self.handle.clone());
            let http = Bound::new(py, http)?;
            let receive = http.getattr(intern!(py, "receive"))?;
            let send = http.getattr(intern!(py, "send"))?;
            Ok((scope, receive, send))
        });
        match prepared {
            Ok((scope, receive, send)) => {
                let id = request.id.map(Box::from);
                let on_end = HttpEnd { exchange: Arc::clone(exchange), id };
                let number = self.begin(py, &self.tasks, &scope, receive, send, on_end)?;
                if let Some(number) = number {
                    exchange.set_task(number);
                }
                Ok(())
            }
            Err(error) => {
                report(error);
                exchange.finish(Outcome::Failed);
                Ok(())
            }
        }
    }

    fn begin_websocket(
        &self,
        py: Python<'_>,
        connection: &ConnectionScope,
        request: &Request<'_>,
        websocket: &Arc<WebSocket>,
    ) -> PyResult<()> {
        let Some(template) = self.template.get() else {
            websocket.finish(Outcome::Failed);
            return Ok(());
        };
        let prepared = template.build_websocket(py, connection, request).and_then(|scope| {
            let shared = WebSocketExchange::new(Arc::clone(websocket), self.handle.clone());
            let shared = Bound::new(py, shared)?;
            let receive = shared.getattr(intern!(py, "receive"))?;
            let send = shared.getattr(intern!(py, "send"))?;
            Ok((scope, receive, send))
        });
        match prepared {
            Ok((scope, receive, send)) => {
                let id = request.id.map(Box::from);
                let on_end = WebSocketEnd { websocket: Arc::clone(websocket), id };
                let number = self.begin(py, &self.tasks, &scope, receive, send, on_end)?;
                if let Some(number) = number {
                    websocket.handshake().set_task(number);
                }
                Ok(())
            }
            Err(error) => {
                report(error);
                websocket.finish(Outcome::Failed);
                Ok(())
            }
        }
    }
}

/// What comes after every entry into Python from within `select()`.
fn settle(py: Python<'_>, selector: &Selector, left: PyResult<()>) {
    if let Err(error) = left {
        selector.reactor().interrupt(error);
    }
    selector.after_python(py);
}

impl App for PyApp {
    type Connection = Connection;

    fn connect(&self, peer: &ConnectionInfo) -> Connection {
        match &self.home {
            Home::Own(_) => Connection::Known(self.template.get().and_then(|template| {
                Python::attach(|py| template.of_connection(py, peer).map_err(report).ok())
            })),
            Home::Other(_) => Connection::Later(Arc::new(LaterScope::new(peer))),
        }
    }

    fn call(&self, connection: &Connection, request: &Request<'_>, exchange: &Arc<Exchange>) {
        match (connection, &self.home) {
            (Connection::Known(Some(connection)), Home::Own(selector)) => Python::attach(|py| {
                let left = self.begin_http(py, connection, request, exchange);
                settle(py, selector.get(), left);
            }),
            (Connection::Later(connection), Home::Other(event_loop)) => {
                let call = RequestCall {
                    app: self.clone(),
                    connection: Arc::clone(connection),
                    head: Head::copy(request),
                    caller: Caller::Http(Arc::clone(exchange)),
                };
                event_loop.begin(Box::new(call), self.tasks.queue());
            }
            (Connection::Known(_) | Connection::Later(_), _) => exchange.finish(Outcome::Failed),
        }
    }

    fn websocket(
        &self,
        connection: &Connection,
        request: &Request<'_>,
        websocket: &Arc<WebSocket>,
    ) {
        match (connection, &self.home) {
            (Connection::Known(Some(connection)), Home::Own(selector)) => Python::attach(|py| {
                let left = self.begin_websocket(py, connection, request, websocket);
                settle(py, selector.get(), left);
            }),
            (Connection::Later(connection), Home::Other(event_loop)) => {
                let call = RequestCall {
                    app: self.clone(),
                    connection: Arc::clone(connection),
                    head: Head::copy(request),
                    caller: Caller::WebSocket(Arc::clone(websocket)),
                };
                event_loop.begin(Box::new(call), self.tasks.queue());
            }
            (Connection::Known(_) | Connection::Later(_), _) => websocket.finish(Outcome::Failed),
        }
    }

    fn cancel(&self, exchange: &Exchange) {
        if let Some(number) = exchange.task() {
            Python::attach(|py| self.tasks.cancel(py, number));
        }
    }

    fn run_woken(&self) {
        if let LoopHandle::Own(reactor) = &self.handle {
            reactor.run_deferred();
        }
    }

    fn keep(&self, kind: Kind, data: &[u8]) -> Option<Kept> {
        match &self.handle {
            LoopHandle::Own(_) => Python::attach(|py| keep(py, kind, data)),
            // Without the interpreter it is the server that keeps it.
            LoopHandle::Other(_) => None,
        }
    }
}

/// A request on its way to another thread.
struct RequestCall {
    app: PyApp,
    connection: Arc<LaterScope>,
    head: Head,
    caller: Caller,
}

/// Whose application is called.
enum Caller {
    Http(Arc<Exchange>),
    WebSocket(Arc<WebSocket>),
}

impl Job for RequestCall {
    fn run(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        let Some(template) = self.app.template.get() else {
            self.lost();
            return Ok(());
        };
        let connection = match self.connection.get(py, template) {
            Ok(connection) => connection,
            Err(error) => {
                report(error);
                self.lost();
                return Ok(());
            }
        };
        self.head.with(|request| match &self.caller {
            Caller::Http(exchange) => self.app.begin_http(py, connection, request, exchange),
            Caller::WebSocket(websocket) => {
                self.app.begin_websocket(py, connection, request, websocket)
            }
        })
    }

    fn lost(self: Box<Self>) {
        match &self.caller {
            Caller::Http(exchange) => exchange.finish(Outcome::Failed),
            Caller::WebSocket(websocket) => websocket.finish(Outcome::Failed),
        }
    }
}

/// A call whose scope there is already.
struct AnyCall<E> {
    app: PyApp,
    tasks: Arc<Tasks>,
    arguments: (Py<PyDict>, Py<PyAny>, Py<PyAny>),
    on_end: E,
}

impl<E: OnEnd> Job for AnyCall<E> {
    fn run(self: Box<Self>, py: Python<'_>) -> PyResult<()> {
        let Self { app, tasks, arguments: (scope, receive, send), on_end } = *self;
        let (receive, send) = (receive.into_bound(py), send.into_bound(py));
        app.begin(py, &tasks, scope.bind(py), receive, send, on_end).map(drop)
    }

    fn lost(self: Box<Self>) {
        Python::attach(|py| self.on_end.ended(py, End::Cancelled));
    }
}

/// What a WebSocket's task leaves behind.
struct WebSocketEnd {
    websocket: Arc<WebSocket>,
    id: Option<Box<str>>,
}

impl OnEnd for WebSocketEnd {
    fn ended(&self, py: Python<'_>, end: End) {
        let outcome = match end {
            End::Returned => Outcome::Returned,
            End::Raised(error) => {
                let value = error.value(py);
                if errors::is_disconnect(value) && self.websocket.is_disconnected() {
                    log::debug!("the application stopped: the client disconnected");
                } else {
                    logging::exception("Exception in ASGI application", value, self.id.as_deref());
                }
                Outcome::Failed
            }
            End::Cancelled => {
                if !self.websocket.is_over() {
                    log::error!(
                        request_id = self.id.as_deref().unwrap_or_default();
                        "Exception in ASGI application\nasyncio.CancelledError: cancelled before its WebSocket was closed"
                    );
                }
                Outcome::Failed
            }
        };
        self.websocket.finish(outcome);
    }
}

/// Something went wrong before the application was called.
fn report(error: PyErr) {
    log::error!("cannot call the application: {error}");
}

/// What a request's task leaves behind.
struct HttpEnd {
    exchange: Arc<Exchange>,
    /// What the logs call the request.
    id: Option<Box<str>>,
}

impl OnEnd for HttpEnd {
    fn ended(&self, py: Python<'_>, end: End) {
        let outcome = match end {
            End::Returned => Outcome::Returned,
            End::Raised(error) => {
                let value = error.value(py);
                if errors::is_disconnect(value) && self.exchange.is_disconnected() {
                    log::debug!("the application stopped: the client disconnected");
                } else {
                    logging::exception("Exception in ASGI application", value, self.id.as_deref());
                }
                Outcome::Failed
            }
            End::Cancelled => {
                if !self.exchange.is_complete() && !self.exchange.is_disconnected() {
                    log::error!(
                        request_id = self.id.as_deref().unwrap_or_default();
                        "Exception in ASGI application\nasyncio.CancelledError: cancelled before its response was complete"
                    );
                }
                Outcome::Failed
            }
        };
        self.exchange.finish(outcome);
    }
}
