//! `receive` and `send` of one WebSocket (ASGI WebSocket 2.5).
//!
//! As in [`crate::http`], both act when they are called and return an object to await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict, PyString};
use rsgi_protocol::http::response::ResponseHead;
use rsgi_protocol::websocket::close::{self, Close};
use rsgi_protocol::websocket::handshake::Acceptance;
use rsgi_protocol::websocket::{Kind, Message as Received};
use rsgi_server::{Flow, Kept, MessageReceived, Outgoing, WebSocket};

use crate::awaitable::{Awaitable, Done, Operation};
use crate::errors;
use crate::ffi::reference_count;
use crate::message::{Key, Message, SHARE_FROM, invalid_header, with_bytes, wrong_type};
use crate::other_loop::LoopHandle;

/// One WebSocket, as the application holds it: `receive` and `send` are its methods.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct WebSocketExchange {
    websocket: Arc<WebSocket>,
    handle: LoopHandle,
    /// What `receive()` has returned last: it is returned again where nobody has kept it.
    receiving: Mutex<Option<Py<Awaitable>>>,
}

impl WebSocketExchange {
    pub(crate) fn new(websocket: Arc<WebSocket>, handle: LoopHandle) -> Self {
        Self { websocket, handle, receiving: Mutex::new(None) }
    }

    fn receiving(&self) -> MutexGuard<'_, Option<Py<Awaitable>>> {
        self.receiving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_operation(&self, operation: impl Operation) -> Awaitable {
        Awaitable::operation(Box::new(operation), self.handle.clone())
    }

    fn take(&self, message: &Bound<'_, PyAny>) -> PyResult<Flow> {
        let py = message.py();
        let message = Message::new(message);
        let kind = message.kind()?;
        match kind.to_str()? {
            "websocket.send" => self.send_message(&message),
            "websocket.accept" => self.accept(py, &message),
            "websocket.close" => self.close(py, &message),
            "websocket.http.response.start" => {
                let status = message.status()?;
                let mut head = ResponseHead::new(status).map_err(errors::from_field)?;
                message.headers(|name, value| {
                    head.push(name, value).map_err(|error| invalid_header(name, error))
                })?;
                self.websocket.response_start(head).map_err(errors::from_websocket_send)
            }
            "websocket.http.response.body" => {
                let data = message.body()?;
                let more = message.more_body()?;
                self.websocket.response_body(data, more).map_err(errors::from_websocket_send)
            }
            other => Err(PyRuntimeError::new_err(format!(
                "unknown ASGI message `{other}` for a WebSocket; expected `websocket.accept`, \
                 `websocket.send` or `websocket.close`"
            ))),
        }
    }

    fn send_message(&self, message: &Message<'_, '_>) -> PyResult<Flow> {
        let text = message.get(Key::Text)?;
        let bytes = message.get(Key::Bytes)?;
        let sent = match (text, bytes) {
            (Some(text), None) => {
                let text = text.cast_into::<PyString>().map_err(|error| {
                    wrong_type("`text` of `websocket.send`", "str", &error.into_inner())
                })?;
                let utf8 = text.to_str()?;
                let outgoing = if utf8.len() < SHARE_FROM {
                    Outgoing::Slice(utf8.as_bytes())
                } else {
                    Outgoing::Shared(Bytes::from_owner(PyBackedStr::try_from(text.clone())?))
                };
                self.websocket.send(Kind::Text, outgoing)
            }
            (None, Some(bytes)) => {
                if let Ok(bytes) = bytes.cast::<PyBytes>() {
                    let outgoing = if bytes.as_bytes().len() < SHARE_FROM {
                        Outgoing::Slice(bytes.as_bytes())
                    } else {
                        Outgoing::Shared(Bytes::from_owner(PyBackedBytes::from(bytes.clone())))
                    };
                    self.websocket.send(Kind::Binary, outgoing)
                } else {
                    with_bytes(&bytes, "`bytes` of `websocket.send`", |bytes| {
                        Ok(self.websocket.send(Kind::Binary, Outgoing::Slice(bytes)))
                    })?
                }
            }
            (Some(_), Some(_)) => {
                return Err(PyValueError::new_err("`websocket.send` has both `text` and `bytes`"));
            }
            (None, None) => {
                return Err(PyValueError::new_err(
                    "`websocket.send` has neither `text` nor `bytes`",
                ));
            }
        };
        sent.map_err(errors::from_websocket_send)
    }

    fn accept<'py>(&self, py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<Flow> {
        let mut acceptance = Acceptance::default();
        if let Some(name) = message.find(intern!(py, "subprotocol"))? {
            let name = name.cast_into::<PyString>().map_err(|error| {
                wrong_type("`subprotocol` of `websocket.accept`", "str", &error.into_inner())
            })?;
            acceptance.subprotocol(name.to_str()?.as_bytes()).map_err(errors::from_field)?;
        }
        message.headers(|name, value| {
            acceptance.push(name, value).map_err(|error| invalid_header(name, error))
        })?;
        self.websocket.accept(acceptance).map_err(errors::from_websocket_send)
    }

    fn close<'py>(&self, py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<Flow> {
        let code = match message.find(intern!(py, "code"))? {
            None => close::NORMAL,
            Some(code) => {
                let number = code
                    .extract::<i64>()
                    .map_err(|_| wrong_type("`code` of `websocket.close`", "int", &code))?;
                let valid = u16::try_from(number)
                    .ok()
                    .filter(|&code| code == close::NO_STATUS || close::may_be_sent(code));
                valid.ok_or_else(|| {
                    PyValueError::new_err(format!(
                        "`code` of `websocket.close` must be 1000 to 1014 without the reserved \
                         ones, or 3000 to 4999, not `{number}`"
                    ))
                })?
            }
        };
        let reason = match message.find(intern!(py, "reason"))? {
            None => String::new(),
            Some(reason) => reason
                .extract()
                .map_err(|_: PyErr| wrong_type("`reason` of `websocket.close`", "str", &reason))?,
        };
        let close = Close::with_reason(code, &reason);
        self.websocket.close(&close).map_err(errors::from_websocket_send)
    }
}

#[pymethods]
impl WebSocketExchange {
    /// Wait for the next event: `websocket.connect`, `websocket.receive` or
    /// `websocket.disconnect`.
    fn receive(&self, py: Python<'_>) -> PyResult<Py<Awaitable>> {
        if let Some(receiving) = &*self.receiving()
            && reference_count(receiving.bind(py)) == 1
            && receiving.get().renew()
        {
            return Ok(receiving.clone_ref(py));
        }
        let receiving = Py::new(py, self.await_operation(Receive(Arc::clone(&self.websocket))))?;
        let before = self.receiving().replace(receiving.clone_ref(py));
        drop(before);
        Ok(receiving)
    }

    /// Send an event: `websocket.accept`, `websocket.send`, `websocket.close` or a denial's.
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        let awaitable = match self.take(message) {
            Ok(Flow::Open) => return Done::get(py),
            Ok(Flow::Yield) => Awaitable::yielding(),
            Ok(Flow::Full) => self.await_operation(Drain(Arc::clone(&self.websocket))),
            Err(error) => Awaitable::failing(error),
        };
        Ok(Py::new(py, awaitable)?.into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(receiving) = self.receiving.try_lock() {
            visit.call(&*receiving)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let receiving = self.receiving().take();
        drop(receiving);
    }
}

struct Receive(Arc<WebSocket>);

impl Operation for Receive {
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.0.poll_receive(cx).map(|received| to_message(py, received))
    }

    fn can_be_repeated(&self) -> bool {
        true
    }
}

struct Drain(Arc<WebSocket>);

impl Operation for Drain {
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        self.0.poll_drained(cx).map(|()| Ok(py.None()))
    }
}

/// A message from the client as the object that the application will get.
pub(crate) fn keep(py: Python<'_>, message: &Received<'_>) -> Option<Kept> {
    // What fails here for want of memory fails again, and louder, when it is received.
    let object = match message {
        Received::Text(data) => PyString::from_bytes(py, data).ok()?.into_any(),
        Received::Binary(data) => PyBytes::new(py, data).into_any(),
        Received::Masked(masked) => {
            let unmask = |out: &mut [u8]| {
                masked.copy_to(out);
                Ok(())
            };
            PyBytes::new_with(py, masked.len(), unmask).ok()?.into_any()
        }
    };
    Some(Box::new(object.unbind()))
}

fn to_message(py: Python<'_>, received: MessageReceived) -> PyResult<Py<PyAny>> {
    let message = PyDict::new(py);
    let kind = intern!(py, "type");
    match received {
        MessageReceived::Message(Kind::Text, data) => {
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            message.set_item(intern!(py, "text"), PyString::from_bytes(py, &data)?)?;
        }
        MessageReceived::Kept(sort, object) => {
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            let key = match sort {
                Kind::Text => intern!(py, "text"),
                Kind::Binary => intern!(py, "bytes"),
            };
            let object = object
                .downcast::<Py<PyAny>>()
                .map_err(|_| PyTypeError::new_err("a message was kept by somebody else"))?;
            message.set_item(key, *object)?;
        }
        MessageReceived::Message(Kind::Binary, data) => {
            message.set_item(kind, intern!(py, "websocket.receive"))?;
            message.set_item(intern!(py, "bytes"), PyBytes::new(py, &data))?;
        }
        MessageReceived::Connect => message.set_item(kind, intern!(py, "websocket.connect"))?,
        MessageReceived::Disconnect(close) => {
            message.set_item(kind, intern!(py, "websocket.disconnect"))?;
            message.set_item(intern!(py, "code"), close.code)?;
            message.set_item(intern!(py, "reason"), &*close.reason)?;
        }
    }
    Ok(message.into_any().unbind())
}
