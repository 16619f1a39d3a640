//! Which Python exception a Rust error becomes. The only place where that is decided.

use pyo3::exceptions::{PyBaseException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rsgi_protocol::LifespanError;
use rsgi_protocol::http::fields::FieldError;
use rsgi_server::{FileError, SendError};
use rsgi_supervisor::InheritError;
use tokio::task::JoinError;

pyo3::create_exception!(
    rsgi,
    ClientDisconnected,
    PyOSError,
    "Raised by `send()` once the client has gone (ASGI HTTP 2.4, \"Disconnected Client\")."
);

/// A process was not given what it needs.
pub(crate) fn from_inherit(error: InheritError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// The server has not come to its end.
pub(crate) fn from_join(error: &JoinError) -> PyErr {
    PyRuntimeError::new_err(format!("the server has ended: {error}"))
}

/// `send()` refused a message.
pub(crate) fn from_send(error: SendError) -> PyErr {
    match error {
        SendError::Disconnected => ClientDisconnected::new_err(error.to_string()),
        SendError::Message(error) => PyRuntimeError::new_err(error.to_string()),
    }
}

/// `send()` refused a message for a WebSocket.
pub(crate) fn from_websocket_send(error: SendError) -> PyErr {
    match error {
        SendError::Disconnected => ClientDisconnected::new_err("the WebSocket is closed"),
        SendError::Message(error) => PyRuntimeError::new_err(error.to_string()),
    }
}

/// A file was not sent, or not all of it; `path` is its name, if it was given by name.
pub(crate) fn from_file(error: FileError, path: Option<&Py<PyAny>>) -> PyErr {
    match error {
        FileError::Send(error) => from_send(error),
        FileError::Io(error) => Python::attach(|py| match (error.raw_os_error(), path) {
            // Python makes a `FileNotFoundError` and the like of these.
            (Some(number), Some(path)) => {
                PyOSError::new_err((number, os_text(&error), path.clone_ref(py)))
            }
            (Some(number), None) => PyOSError::new_err((number, os_text(&error))),
            (None, _) => PyOSError::new_err(error.to_string()),
        }),
        other @ FileError::NotRegular => PyValueError::new_err(other.to_string()),
        other @ FileError::Truncated { .. } => PyOSError::new_err(other.to_string()),
    }
}

/// What the system says about an error, without the number that std adds.
fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// A header or a status cannot be sent.
pub(crate) fn from_field(error: FieldError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// A lifespan message came at the wrong time.
pub(crate) fn from_lifespan(error: LifespanError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// Whether an exception only says that the client went away: the one `send()` raises, one that a
/// framework raised on seeing it, or a group of nothing else.
pub(crate) fn is_disconnect(error: &Bound<'_, PyBaseException>) -> bool {
    static GROUP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

    let py = error.py();
    if error.is_instance_of::<ClientDisconnected>() {
        return true;
    }

    let group = GROUP.import(py, "builtins", "BaseExceptionGroup");
    if group.and_then(|group| error.is_instance(group)).unwrap_or(false) {
        let members = error.getattr("exceptions").and_then(|members| members.try_iter());
        return members.is_ok_and(|mut members| {
            members.all(|member| {
                member.is_ok_and(|member| member.cast::<PyBaseException>().is_ok_and(is_disconnect))
            })
        });
    }
    let context = error.getattr("__context__");
    context.is_ok_and(|context| context.cast::<PyBaseException>().is_ok_and(is_disconnect))
}

/// Ties the traceback of an exception that was raised to its value, which Python before 3.12 does only
/// where it is caught.
pub(crate) fn keep_traceback(py: Python<'_>, error: &PyErr) {
    if let Some(traceback) = error.traceback(py)
        && let Err(error) = error.value(py).setattr("__traceback__", traceback)
    {
        log::debug!("an exception without its traceback: {error}");
    }
}

/// The exception with its traceback, as Python prints it, without a trailing line break.
pub(crate) fn format(error: &Bound<'_, PyBaseException>) -> String {
    let formatted = error
        .py()
        .import("traceback")
        .and_then(|traceback| traceback.call_method1("format_exception", (error,)))
        .and_then(|lines| lines.extract::<Vec<String>>());
    match formatted {
        Ok(lines) => lines.concat().trim_end().to_owned(),
        Err(_) => error.to_string(),
    }
}
