//! An [`App`] that is a Python callable: scope in, task started, outcome reported.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_protocol::websocket::Message;
use rsgi_server::{App, ConnectionInfo, Exchange, Kept, Outcome, Request, WebSocket};

use crate::http::{Pair, Pairs};
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
    pairs: Pairs,
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
        Self(Arc::new(Application {
            callable,
            home,
            handle,
            tasks,
            pairs: Pairs::default(),
            root_path,
            template: OnceLock::new(),
        }))
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
                let left = self.begin(py, tasks, scope, &receive, &send, on_end);
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

impl PyApp {
    /// Calls the application for one request: now, or soon in its own thread.
    fn call_for<A: Answer>(&self, connection: &Connection, request: &Request<'_>, answer: &Arc<A>) {
        match (connection, &self.home) {
            (Connection::Known(Some(connection)), Home::Own(selector)) => Python::attach(|py| {
                let left = self.begin_request(py, connection, request, answer);
                settle(py, selector.get(), left);
            }),
            (Connection::Later(connection), Home::Other(event_loop)) => {
                let call = RequestCall {
                    app: self.clone(),
                    connection: Arc::clone(connection),
                    head: Head::copy(request),
                    answer: Arc::clone(answer),
                };
                event_loop.begin(Box::new(call), self.tasks.queue());
            }
            (Connection::Known(_) | Connection::Later(_), _) => answer.finish(Outcome::Failed),
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
        receive: &Bound<'_, PyAny>,
        send: &Bound<'_, PyAny>,
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

    /// Calls the application for one request.
    fn begin_request<A: Answer>(
        &self,
        py: Python<'_>,
        connection: &ConnectionScope,
        request: &Request<'_>,
        answer: &Arc<A>,
    ) -> PyResult<()> {
        let prepared = match self.template.get() {
            Some(template) => A::scope(py, template, connection, request)
                .and_then(|scope| Ok((scope, answer.pair(py, self)?))),
            None => Err(PyRuntimeError::new_err("it has not started")),
        };
        let (scope, pair) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                report(error);
                answer.finish(Outcome::Failed);
                return Ok(());
            }
        };
        let on_end = RequestEnd { answer: Arc::clone(answer), id: request.id.map(Box::from) };
        let (receive, send) = (pair.receive.bind(py), pair.send.bind(py));
        match self.begin(py, &self.tasks, &scope, receive, send, on_end)? {
            Some(number) => answer.set_task(number),
            None => self.pairs.give_back(py, pair),
        }
        Ok(())
    }
}

/// What a request is answered by.
trait Answer: Send + Sync + 'static {
    /// The request's scope.
    fn scope<'py>(
        py: Python<'py>,
        template: &ScopeTemplate,
        connection: &ConnectionScope,
        request: &Request<'_>,
    ) -> PyResult<Bound<'py, PyDict>>;

    /// `receive` and `send`.
    fn pair(self: &Arc<Self>, py: Python<'_>, app: &Application) -> PyResult<Pair>;

    /// Leaves the number of the task that goes on behind the call.
    fn set_task(&self, number: usize);

    /// Whether the client has gone.
    fn is_disconnected(&self) -> bool;

    /// What a task that ends now has left undone.
    fn undone(&self) -> Option<&'static str>;

    /// The application's call has ended.
    fn finish(&self, outcome: Outcome);
}

impl Answer for Exchange {
    fn scope<'py>(
        py: Python<'py>,
        template: &ScopeTemplate,
        connection: &ConnectionScope,
        request: &Request<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        template.build(py, connection, request)
    }

    fn pair(self: &Arc<Self>, py: Python<'_>, app: &Application) -> PyResult<Pair> {
        app.pairs.take(py, self, &app.handle)
    }

    fn set_task(&self, number: usize) {
        self.set_task(number);
    }

    fn is_disconnected(&self) -> bool {
        self.is_disconnected()
    }

    fn undone(&self) -> Option<&'static str> {
        let is_done = self.is_complete() || self.is_disconnected();
        (!is_done).then_some("its response was complete")
    }

    fn finish(&self, outcome: Outcome) {
        self.finish(outcome);
    }
}

impl Answer for WebSocket {
    fn scope<'py>(
        py: Python<'py>,
        template: &ScopeTemplate,
        connection: &ConnectionScope,
        request: &Request<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        template.build_websocket(py, connection, request)
    }

    fn pair(self: &Arc<Self>, py: Python<'_>, app: &Application) -> PyResult<Pair> {
        let shared = WebSocketExchange::new(Arc::clone(self), app.handle.clone());
        Pair::of(Bound::new(py, shared)?.as_any())
    }

    fn set_task(&self, number: usize) {
        self.handshake().set_task(number);
    }

    fn is_disconnected(&self) -> bool {
        self.is_disconnected()
    }

    fn undone(&self) -> Option<&'static str> {
        (!self.is_over()).then_some("its WebSocket was closed")
    }

    fn finish(&self, outcome: Outcome) {
        self.finish(outcome);
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
        self.call_for(connection, request, exchange);
    }

    fn websocket(
        &self,
        connection: &Connection,
        request: &Request<'_>,
        websocket: &Arc<WebSocket>,
    ) {
        self.call_for(connection, request, websocket);
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

    fn keep(&self, message: &Message<'_>) -> Option<Kept> {
        match &self.handle {
            LoopHandle::Own(_) => Python::attach(|py| keep(py, message)),
            // Without the interpreter it is the server that keeps it.
            LoopHandle::Other(_) => None,
        }
    }
}

/// A request on its way to another thread.
struct RequestCall<A> {
    app: PyApp,
    connection: Arc<LaterScope>,
    head: Head,
    answer: Arc<A>,
}

impl<A: Answer> Job for RequestCall<A> {
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
        self.head.with(|request| self.app.begin_request(py, connection, request, &self.answer))
    }

    fn lost(self: Box<Self>) {
        self.answer.finish(Outcome::Failed);
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
        app.begin(py, &tasks, scope.bind(py), receive.bind(py), send.bind(py), on_end).map(drop)
    }

    fn lost(self: Box<Self>) {
        Python::attach(|py| self.on_end.ended(py, End::Cancelled));
    }
}

/// Something went wrong before the application was called.
fn report(error: PyErr) {
    log::error!("cannot call the application: {error}");
}

/// What a request's task leaves behind.
struct RequestEnd<A> {
    answer: Arc<A>,
    /// What the logs call the request.
    id: Option<Box<str>>,
}

impl<A: Answer> OnEnd for RequestEnd<A> {
    fn ended(&self, py: Python<'_>, end: End) {
        let outcome = match end {
            End::Returned => Outcome::Returned,
            End::Raised(error) => {
                let value = error.value(py);
                if errors::is_disconnect(value) && self.answer.is_disconnected() {
                    log::debug!("the application stopped: the client disconnected");
                } else {
                    logging::exception("Exception in ASGI application", value, self.id.as_deref());
                }
                Outcome::Failed
            }
            End::Cancelled => {
                if let Some(what) = self.answer.undone() {
                    log::error!(
                        request_id = self.id.as_deref().unwrap_or_default();
                        "Exception in ASGI application\nasyncio.CancelledError: cancelled before {what}"
                    );
                }
                Outcome::Failed
            }
        };
        self.answer.finish(outcome);
    }
}
