//! An [`App`] that is a Python callable: scope in, task started, outcome reported.

use std::sync::{Arc, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_server::{App, ConnectionInfo, Exchange, Outcome, Request, WebSocket};

use crate::errors;
use crate::http::HttpExchange;
use crate::other_loop::{Call, OtherLoop};
use crate::reactor::Reactor;
use crate::scope::{ConnectionScope, ScopeTemplate};
use crate::selector::Selector;
use crate::tasks::{End, OnEnd, Tasks, leaves_the_loop, to_coroutine};
use crate::websocket::WebSocketExchange;

/// A Python application on one event loop.
#[derive(Debug)]
pub(crate) struct PyApp {
    callable: Py<PyAny>,
    home: Home,
    pub(crate) tasks: Arc<Tasks>,
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
    Other(OtherLoop),
}

impl Home {
    /// The reactor, where the loop is rsgi's.
    pub(crate) fn reactor(&self) -> Option<&Arc<Reactor>> {
        match self {
            Self::Own(selector) => Some(selector.get().reactor()),
            Self::Other(_) => None,
        }
    }
}

impl PyApp {
    pub(crate) fn new(callable: Py<PyAny>, home: Home, tasks: Tasks, root_path: String) -> Self {
        Self { callable, home, tasks: Arc::new(tasks), root_path, template: OnceLock::new() }
    }

    /// Fixes what all scopes share. Once, before the first request.
    pub(crate) fn prepare(&self, py: Python<'_>, state: Py<PyDict>) -> PyResult<()> {
        let template = ScopeTemplate::new(py, &self.root_path, state)?;
        self.template.get_or_init(|| template);
        Ok(())
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
        let selector = match &self.home {
            Home::Own(selector) => selector.get(),
            Home::Other(event_loop) => {
                let call = Call {
                    callable: self.callable.clone_ref(py),
                    arguments: (scope.clone().unbind(), receive.unbind(), send.unbind()),
                    tasks: Arc::clone(tasks),
                    on_end: Box::new(on_end),
                };
                return event_loop.start(py, call);
            }
        };
        let called = self.callable.bind(py).call1((scope, receive, send)).and_then(to_coroutine);
        let left = match called {
            Ok(coroutine) => tasks.start(py, coroutine, on_end),
            Err(error) if leaves_the_loop(py, &error) => {
                on_end.ended(py, End::Cancelled);
                Err(error)
            }
            Err(error) => {
                on_end.ended(py, End::Raised(error));
                Ok(())
            }
        };
        if let Err(error) = left {
            selector.reactor().interrupt(error);
        }
        selector.after_python(py);
    }
}

impl App for PyApp {
    type Connection = Option<ConnectionScope>;

    fn connect(&self, peer: &ConnectionInfo) -> Self::Connection {
        Python::attach(|py| ConnectionScope::new(py, peer).map_err(report).ok())
    }

    fn call(&self, connection: &Self::Connection, request: &Request<'_>, exchange: &Arc<Exchange>) {
        Python::attach(|py| {
            let (Some(connection), Some(template)) = (connection, self.template.get()) else {
                return exchange.finish(Outcome::Failed);
            };
            let prepared = template.build(py, connection, request).and_then(|scope| {
                let reactor = self.home.reactor().cloned();
                let http = Bound::new(py, HttpExchange::new(Arc::clone(exchange), reactor))?;
                let receive = http.getattr(intern!(py, "receive"))?;
                let send = http.getattr(intern!(py, "send"))?;
                Ok((scope, receive, send))
            });
            match prepared {
                Ok((scope, receive, send)) => {
                    let on_end = HttpEnd(Arc::clone(exchange));
                    self.start(py, &self.tasks, &scope, receive, send, on_end);
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
                let reactor = self.home.reactor().cloned();
                let shared = WebSocketExchange::new(Arc::clone(websocket), reactor);
                let shared = Bound::new(py, shared)?;
                let receive = shared.getattr(intern!(py, "receive"))?;
                let send = shared.getattr(intern!(py, "send"))?;
                Ok((scope, receive, send))
            });
            match prepared {
                Ok((scope, receive, send)) => {
                    let on_end = WebSocketEnd(Arc::clone(websocket));
                    self.start(py, &self.tasks, &scope, receive, send, on_end);
                }
                Err(error) => {
                    report(error);
                    websocket.finish(Outcome::Failed);
                }
            }
        });
    }
}

/// What a WebSocket's task leaves behind.
struct WebSocketEnd(Arc<WebSocket>);

impl OnEnd for WebSocketEnd {
    fn ended(&self, py: Python<'_>, end: End) {
        let outcome = match end {
            End::Returned => Outcome::Returned,
            End::Raised(error) => {
                let value = error.value(py);
                if errors::is_disconnect(value) && self.0.is_disconnected() {
                    log::debug!("the application stopped: the client disconnected");
                } else {
                    log::error!("Exception in ASGI application\n{}", errors::format(value));
                }
                Outcome::Failed
            }
            End::Cancelled => {
                if !self.0.is_over() {
                    log::error!(
                        "Exception in ASGI application\nasyncio.CancelledError: cancelled before its WebSocket was closed"
                    );
                }
                Outcome::Failed
            }
        };
        self.0.finish(outcome);
    }
}

/// Something went wrong before the application was called.
fn report(error: PyErr) {
    log::error!("cannot call the application: {error}");
}

/// What a request's task leaves behind.
struct HttpEnd(Arc<Exchange>);

impl OnEnd for HttpEnd {
    fn ended(&self, py: Python<'_>, end: End) {
        let outcome = match end {
            End::Returned => Outcome::Returned,
            End::Raised(error) => {
                let value = error.value(py);
                if errors::is_disconnect(value) && self.0.is_disconnected() {
                    log::debug!("the application stopped: the client disconnected");
                } else {
                    log::error!("Exception in ASGI application\n{}", errors::format(value));
                }
                Outcome::Failed
            }
            End::Cancelled => {
                if !self.0.is_complete() && !self.0.is_disconnected() {
                    log::error!(
                        "Exception in ASGI application\nasyncio.CancelledError: cancelled before its response was complete"
                    );
                }
                Outcome::Failed
            }
        };
        self.0.finish(outcome);
    }
}
