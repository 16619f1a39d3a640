//! An [`App`] that is a Python callable: scope in, task started, outcome reported.

use std::sync::{Arc, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_protocol::websocket::Kind;
use rsgi_server::{App, ConnectionInfo, Exchange, Kept, Outcome, Request, WebSocket};

use crate::http::HttpExchange;
use crate::scope::{ConnectionScope, ScopeTemplate};
use crate::selector::Selector;
use crate::tasks::{End, OnEnd, Tasks, leaves_the_loop, to_coroutine};
use crate::websocket::{WebSocketExchange, keep};
use crate::{errors, logging};

/// A Python application on one event loop.
#[derive(Debug)]
pub(crate) struct PyApp {
    callable: Py<PyAny>,
    selector: Py<Selector>,
    pub(crate) tasks: Tasks,
    root_path: String,
    /// Set once the lifespan has filled the state.
    template: OnceLock<ScopeTemplate>,
}

impl PyApp {
    pub(crate) fn new(
        callable: Py<PyAny>,
        selector: Py<Selector>,
        tasks: Tasks,
        root_path: String,
    ) -> Self {
        Self { callable, selector, tasks, root_path, template: OnceLock::new() }
    }

    /// Fixes what all scopes share. Once, before the first request.
    pub(crate) fn prepare(&self, py: Python<'_>, state: Py<PyDict>) -> PyResult<()> {
        let template = ScopeTemplate::new(py, &self.root_path, state)?;
        self.template.get_or_init(|| template);
        Ok(())
    }

    /// Calls the application with any scope and starts what it returns as one of `tasks`. Returns the
    /// task's number, if it goes on.
    pub(crate) fn start(
        &self,
        py: Python<'_>,
        tasks: &Tasks,
        scope: &Bound<'_, PyDict>,
        receive: Bound<'_, PyAny>,
        send: Bound<'_, PyAny>,
        on_end: impl OnEnd,
    ) -> Option<usize> {
        let called = self.callable.bind(py).call1((scope, receive, send)).and_then(to_coroutine);
        let left = match called {
            Ok(coroutine) => tasks.start(py, coroutine, on_end),
            Err(error) if leaves_the_loop(py, &error) => {
                on_end.ended(py, End::Cancelled);
                Err(error)
            }
            Err(error) => {
                on_end.ended(py, End::Raised(error));
                Ok(None)
            }
        };
        let selector = self.selector.get();
        let number = left.unwrap_or_else(|error| {
            selector.reactor().interrupt(error);
            None
        });
        selector.after_python(py);
        number
    }
}

impl App for PyApp {
    type Connection = Option<ConnectionScope>;

    fn connect(&self, peer: &ConnectionInfo) -> Self::Connection {
        let template = self.template.get()?;
        Python::attach(|py| template.of_connection(py, peer).map_err(report).ok())
    }

    fn call(&self, connection: &Self::Connection, request: &Request<'_>, exchange: &Arc<Exchange>) {
        Python::attach(|py| {
            let (Some(connection), Some(template)) = (connection, self.template.get()) else {
                return exchange.finish(Outcome::Failed);
            };
            let prepared = template.build(py, connection, request).and_then(|scope| {
                let reactor = Arc::clone(self.selector.get().reactor());
                let http = Bound::new(py, HttpExchange::new(Arc::clone(exchange), reactor))?;
                let receive = http.getattr(intern!(py, "receive"))?;
                let send = http.getattr(intern!(py, "send"))?;
                Ok((scope, receive, send))
            });
            match prepared {
                Ok((scope, receive, send)) => {
                    let id = request.id.map(Box::from);
                    let on_end = HttpEnd { exchange: Arc::clone(exchange), id };
                    if let Some(number) = self.start(py, &self.tasks, &scope, receive, send, on_end)
                    {
                        exchange.set_task(number);
                    }
                }
                Err(error) => {
                    report(error);
                    exchange.finish(Outcome::Failed);
                }
            }
        });
    }

    fn websocket(
        &self,
        connection: &Self::Connection,
        request: &Request<'_>,
        websocket: &Arc<WebSocket>,
    ) {
        Python::attach(|py| {
            let (Some(connection), Some(template)) = (connection, self.template.get()) else {
                return websocket.finish(Outcome::Failed);
            };
            let prepared = template.build_websocket(py, connection, request).and_then(|scope| {
                let reactor = Arc::clone(self.selector.get().reactor());
                let shared = WebSocketExchange::new(Arc::clone(websocket), reactor);
                let shared = Bound::new(py, shared)?;
                let receive = shared.getattr(intern!(py, "receive"))?;
                let send = shared.getattr(intern!(py, "send"))?;
                Ok((scope, receive, send))
            });
            match prepared {
                Ok((scope, receive, send)) => {
                    let id = request.id.map(Box::from);
                    let on_end = WebSocketEnd { websocket: Arc::clone(websocket), id };
                    if let Some(number) = self.start(py, &self.tasks, &scope, receive, send, on_end)
                    {
                        websocket.handshake().set_task(number);
                    }
                }
                Err(error) => {
                    report(error);
                    websocket.finish(Outcome::Failed);
                }
            }
        });
    }

    fn cancel(&self, exchange: &Exchange) {
        if let Some(number) = exchange.task() {
            Python::attach(|py| self.tasks.cancel(py, number));
        }
    }

    fn run_woken(&self) {
        self.selector.get().reactor().run_deferred();
    }

    fn keep(&self, kind: Kind, data: &[u8]) -> Option<Kept> {
        Python::attach(|py| keep(py, kind, data))
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
