//! `receive` and `send` of one HTTP request (ASGI HTTP 2.5).
//!
//! Both act when they are called and return an object to await. Where nothing has to wait, that
//! object is a shared one that is already done.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use rsgi_protocol::http::cycle::{More, Trailers};
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::response::ResponseHead;
use rsgi_server::{Exchange, FileSource, Flow, Received, send_file};

use crate::awaitable::{Awaitable, Done, Operation};
use crate::errors;
use crate::ffi::reference_count;
use crate::file::{self, SendFile};
use crate::message::{Message, invalid_header};
use crate::other_loop::LoopHandle;

/// One request, as the application holds it: `receive` and `send` are its methods.
///
/// It serves one request after another, as long as nobody else has kept it: see [`Pairs`].
#[pyclass(module = "rsgi._native")]
#[derive(Debug)]
pub struct HttpExchange {
    /// `None` between two requests.
    exchange: Option<Arc<Exchange>>,
    handle: LoopHandle,
}

/// What an application is called with: two bound methods of one object.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) receive: Py<PyAny>,
    pub(crate) send: Py<PyAny>,
    /// The object, if it can serve another request.
    exchange: Option<Py<HttpExchange>>,
}

impl Pair {
    /// The methods of one that serves a single request.
    pub(crate) fn of(exchange: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = exchange.py();
        Ok(Self {
            receive: exchange.getattr(intern!(py, "receive"))?.unbind(),
            send: exchange.getattr(intern!(py, "send"))?.unbind(),
            exchange: None,
        })
    }
}

/// Those that no request has at the moment. Most applications have let go of theirs when they
/// return, and three objects need not be made for the next request.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Mutex<Vec<Pair>>);

/// How many are kept. An application that does not wait for anything needs one.
const SPARE: usize = 64;

impl Pairs {
    /// `receive` and `send` of one request.
    pub(crate) fn take(
        &self,
        py: Python<'_>,
        exchange: &Arc<Exchange>,
        handle: &LoopHandle,
    ) -> PyResult<Pair> {
        let given = Some(Arc::clone(exchange));
        let spare = self.lock().pop();
        if let Some(pair) = spare
            && let Some(exchange) = &pair.exchange
        {
            exchange.bind(py).try_borrow_mut()?.exchange = given;
            return Ok(pair);
        }
        let exchange = Bound::new(py, HttpExchange { exchange: given, handle: handle.clone() })?;
        let pair = Pair::of(exchange.as_any())?;
        Ok(Pair { exchange: Some(exchange.unbind()), ..pair })
    }

    /// The request's task has ended. What the application has kept stays its own.
    pub(crate) fn give_back(&self, py: Python<'_>, pair: Pair) {
        let Some(exchange) = pair.exchange.as_ref().map(|exchange| exchange.bind(py)) else {
            return;
        };
        // The two methods hold the object.
        let is_free = reference_count(pair.receive.bind(py)) == 1
            && reference_count(pair.send.bind(py)) == 1
            && reference_count(exchange) == 3;
        if is_free && let Ok(mut exchange) = exchange.try_borrow_mut() {
            exchange.exchange = None;
        } else {
            return;
        }
        let mut spare = self.lock();
        if spare.len() < SPARE {
            spare.push(pair);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Pair>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpExchange {
    fn exchange(&self) -> PyResult<&Arc<Exchange>> {
        self.exchange.as_ref().ok_or_else(|| PyRuntimeError::new_err("the request is over"))
    }

    fn await_operation(&self, operation: impl Operation) -> Awaitable {
        Awaitable::operation(Box::new(operation), self.handle.clone())
    }

    fn accept(&self, message: &Bound<'_, PyAny>) -> PyResult<Accepted> {
        let message = Message::new(message);
        let kind = message.kind()?;
        let exchange = self.exchange()?;
        match kind.to_str()? {
            "http.response.body" => {
                let data = message.body()?;
                let more = message.more_body()?;
                exchange.body(data, more).map(Flow::into).map_err(errors::from_send)
            }
            "http.response.start" => start(exchange, &message).map(Flow::into),
            rare => self.accept_rare(exchange, rare, &message),
        }
    }

    /// The messages of extensions.
    fn accept_rare(
        &self,
        exchange: &Arc<Exchange>,
        kind: &str,
        message: &Message<'_, '_>,
    ) -> PyResult<Accepted> {
        let py = message.py();
        match kind {
            "http.response.trailers" => {
                let mut fields = FieldBlock::default();
                message.headers(|name, value| {
                    fields.push(name, value).map_err(|error| invalid_header(name, error))
                })?;
                let more = More::from(message.flag(intern!(py, "more_trailers"))?);
                exchange.trailers(&fields, more).map(Flow::into).map_err(errors::from_send)
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
                exchange.early_hint(fields).map(Flow::into).map_err(errors::from_send)
            }
            "http.response.debug" => exchange.debug().map(Flow::into).map_err(errors::from_send),
            file::PATH_SEND => {
                let (path, given) = file::path(py, message)?;
                let source = FileSource::Path(path);
                self.send_file(exchange, file::PATH_SEND, source, More::Last, Some(given.unbind()))
            }
            file::ZERO_COPY_SEND => {
                let more = message.more_body()?;
                let source = FileSource::Open(file::open_file(py, message)?);
                self.send_file(exchange, file::ZERO_COPY_SEND, source, more, None)
            }
            other => Err(PyRuntimeError::new_err(format!(
                "unknown ASGI message `{other}` for an HTTP response; expected `http.response.start` or \
                 `http.response.body`"
            ))),
        }
    }

    fn send_file(
        &self,
        exchange: &Arc<Exchange>,
        message: &'static str,
        source: FileSource,
        more: More,
        path: Option<Py<PyAny>>,
    ) -> PyResult<Accepted> {
        let handle = self.handle.runtime();
        let handle = handle.ok_or_else(|| PyRuntimeError::new_err("the event loop is closed"))?;
        let task = send_file(exchange, message, source, more, &handle);
        let task = task.map_err(errors::from_send)?;
        Ok(Accepted::File(SendFile::new(task, path)))
    }
}

/// `http.response.start`.
fn start(exchange: &Exchange, message: &Message<'_, '_>) -> PyResult<Flow> {
    let py = message.py();
    let status = message.status()?;
    let mut head = ResponseHead::new(status).map_err(errors::from_field)?;
    message.headers(|name, value| {
        head.push(name, value).map_err(|error| invalid_header(name, error))
    })?;
    let announced = message.flag(intern!(py, "trailers"))?;
    let trailers = if announced { Trailers::Announced } else { Trailers::No };
    exchange.start(head, trailers).map_err(errors::from_send)
}

#[pymethods]
impl HttpExchange {
    /// Wait for the next event: `http.request` or `http.disconnect`.
    fn receive(&self) -> PyResult<Awaitable> {
        Ok(self.await_operation(Receive(Arc::clone(self.exchange()?))))
    }

    /// Send an event: `http.response.start`, `http.response.body` or an extension's.
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        let awaitable = match self.accept(message) {
            Ok(Accepted::Message(Flow::Open)) => return Done::get(py),
            Ok(Accepted::Message(Flow::Yield)) => Awaitable::yielding(),
            Ok(Accepted::Message(Flow::Full)) => {
                self.await_operation(Drain(Arc::clone(self.exchange()?)))
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
