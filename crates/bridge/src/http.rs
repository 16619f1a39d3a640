//! `receive` and `send` of one HTTP request (ASGI HTTP 2.5).
//!
//! Both act when they are called and return an object to await. Where nothing has to wait, that
//! object is a shared one that is already done.

use std::sync::Arc;
use std::task::{Context, Poll};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};
use rsgi_protocol::http::cycle::{More, Trailers};
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::response::ResponseHead;
use rsgi_server::{Exchange, FileSource, Flow, Received, send_file};

use crate::awaitable::{Awaitable, Done, Operation};
use crate::errors;
use crate::file::{self, SendFile};
use crate::message::{Message, invalid_header};
use crate::other_loop::LoopHandle;

/// One request, as the application holds it: `receive` and `send` are its methods.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct HttpExchange {
    exchange: Arc<Exchange>,
    handle: LoopHandle,
}

impl HttpExchange {
    pub(crate) fn new(exchange: Arc<Exchange>, handle: LoopHandle) -> Self {
        Self { exchange, handle }
    }

    fn await_operation(&self, operation: impl Operation) -> Awaitable {
        Awaitable::operation(Box::new(operation), self.handle.clone())
    }

    fn accept(&self, message: &Bound<'_, PyAny>) -> PyResult<Accepted> {
        let py = message.py();
        let message = Message::new(message);
        let kind = message.kind(intern!(py, "type"))?;
        if is(&kind, intern!(py, "http.response.body")) {
            let data = message.body(intern!(py, "body"))?;
            let more = More::from(message.flag(intern!(py, "more_body"))?);
            return self.exchange.body(data, more).map(Flow::into).map_err(errors::from_send);
        }
        if is(&kind, intern!(py, "http.response.start")) {
            return self.start(py, &message).map(Flow::into);
        }
        self.accept_rare(py, &kind, &message)
    }

    /// The messages of extensions.
    fn accept_rare<'py>(
        &self,
        py: Python<'py>,
        kind: &Bound<'py, PyString>,
        message: &Message<'_, 'py>,
    ) -> PyResult<Accepted> {
        match kind.to_str()? {
            "http.response.trailers" => {
                let mut fields = FieldBlock::default();
                message.headers(intern!(py, "headers"), |name, value| {
                    fields.push(name, value).map_err(|error| invalid_header(name, error))
                })?;
                let more = More::from(message.flag(intern!(py, "more_trailers"))?);
                self.exchange.trailers(&fields, more).map(Flow::into).map_err(errors::from_send)
            }
            "http.response.early_hint" => {
                let mut fields = FieldBlock::default();
                if let Some(links) = message.find(intern!(py, "links"))? {
                    for link in links.try_iter()? {
                        let link = link?;
                        let link = link
                            .cast::<PyBytes>()
                            .map_err(|_| crate::message::wrong_type("a link", "bytes", &link))?;
                        fields
                            .push(b"link", link.as_bytes())
                            .map_err(|error| invalid_header(b"link", error))?;
                    }
                }
                self.exchange.early_hint(fields).map(Flow::into).map_err(errors::from_send)
            }
            "http.response.debug" => {
                self.exchange.debug().map(Flow::into).map_err(errors::from_send)
            }
            file::PATH_SEND => {
                let (path, given) = file::path(py, message)?;
                let source = FileSource::Path(path);
                self.send_file(file::PATH_SEND, source, More::Last, Some(given.unbind()))
            }
            file::ZERO_COPY_SEND => {
                let more = More::from(message.flag(intern!(py, "more_body"))?);
                let source = FileSource::Open(file::open_file(py, message)?);
                self.send_file(file::ZERO_COPY_SEND, source, more, None)
            }
            other => Err(PyRuntimeError::new_err(format!(
                "unknown ASGI message `{other}` for an HTTP response; expected `http.response.start` or \
                 `http.response.body`"
            ))),
        }
    }

    fn send_file(
        &self,
        message: &'static str,
        source: FileSource,
        more: More,
        path: Option<Py<PyAny>>,
    ) -> PyResult<Accepted> {
        let handle = self.handle.runtime();
        let handle = handle.ok_or_else(|| PyRuntimeError::new_err("the event loop is closed"))?;
        let task = send_file(&self.exchange, message, source, more, &handle);
        let task = task.map_err(errors::from_send)?;
        Ok(Accepted::File(SendFile::new(task, path)))
    }

    fn start<'py>(&self, py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<Flow> {
        let status = message.status(intern!(py, "status"))?;
        let mut head = ResponseHead::new(status).map_err(errors::from_field)?;
        message.headers(intern!(py, "headers"), |name, value| {
            head.push(name, value).map_err(|error| invalid_header(name, error))
        })?;
        let announced = message.flag(intern!(py, "trailers"))?;
        let trailers = if announced { Trailers::Announced } else { Trailers::No };
        self.exchange.start(head, trailers).map_err(errors::from_send)
    }
}

#[pymethods]
impl HttpExchange {
    /// Wait for the next event: `http.request` or `http.disconnect`.
    fn receive(&self) -> Awaitable {
        self.await_operation(Receive(Arc::clone(&self.exchange)))
    }

    /// Send an event: `http.response.start`, `http.response.body` or an extension's.
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        let awaitable = match self.accept(message) {
            Ok(Accepted::Message(Flow::Open)) => return Done::get(py),
            Ok(Accepted::Message(Flow::Yield)) => Awaitable::yielding(),
            Ok(Accepted::Message(Flow::Full)) => {
                self.await_operation(Drain(Arc::clone(&self.exchange)))
            }
            Ok(Accepted::File(sending)) => self.await_operation(sending),
            Err(error) => Awaitable::failing(error),
        };
        Ok(Py::new(py, awaitable)?.into_any())
    }
}

/// A message that is on its way.
enum Accepted {
    Message(Flow),
    File(SendFile),
}

impl From<Flow> for Accepted {
    fn from(flow: Flow) -> Self {
        Self::Message(flow)
    }
}

struct Receive(Arc<Exchange>);

impl Operation for Receive {
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.0.poll_receive(cx).map(|received| to_message(py, received))
    }
}

struct Drain(Arc<Exchange>);

impl Operation for Drain {
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.0.poll_drained(cx).map(|()| Ok(py.None()))
    }
}

fn to_message(py: Python<'_>, received: Received) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    let kind = intern!(py, "type");
    match received {
        Received::Body { data, more } => {
            message.set_item(kind, intern!(py, "http.request"))?;
            message.set_item(intern!(py, "body"), PyBytes::new(py, &data))?;
            message.set_item(intern!(py, "more_body"), more == More::Follows)?;
        }
        Received::Disconnect => message.set_item(kind, intern!(py, "http.disconnect"))?,
    }
    Ok(message.into_any().unbind())
}

/// Whether two strings are equal, most often by being the same object.
fn is(left: &Bound<'_, PyString>, right: &Bound<'_, PyString>) -> bool {
    left.is(right)
        || left.to_str().is_ok_and(|left| right.to_str().is_ok_and(|right| left == right))
}
