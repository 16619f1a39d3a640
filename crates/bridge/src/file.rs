//! The messages that name a file instead of carrying content (the ASGI extensions "Path Send" and
//! "Zero Copy Send"): what they mean in Python, and what awaiting them means.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use rsgi_server::{FileError, OpenFile};
use rustix::fs::SeekFrom;
use tokio::task::JoinHandle;

use crate::awaitable::Operation;
use crate::errors;
use crate::ffi::with_fd;
use crate::message::{Message, wrong_type};

pub(crate) const PATH_SEND: &str = "http.response.pathsend";
pub(crate) const ZERO_COPY_SEND: &str = "http.response.zerocopysend";

/// `path` of a path-send message.
pub(crate) fn path<'py>(
    py: Python<'py>,
    message: &Message<'_, 'py>,
) -> PyResult<(PathBuf, Bound<'py, PyAny>)> {
    let what = "`path` of `http.response.pathsend`";
    let given = message
        .find(intern!(py, "path"))?
        .ok_or_else(|| PyValueError::new_err(format!("{what} is missing")))?;
    let path = given.extract().map_err(|_| wrong_type(what, "str", &given))?;
    Ok((path, given))
}

/// `file`, `offset` and `count` of a zero-copy message. The descriptor is duplicated: the
/// application closes its own when it likes.
pub(crate) fn open_file<'py>(py: Python<'py>, message: &Message<'_, 'py>) -> PyResult<OpenFile> {
    let what = "`file` of `http.response.zerocopysend`";
    let given = message
        .find(intern!(py, "file"))?
        .ok_or_else(|| PyValueError::new_err(format!("{what} is missing")))?;
    let (number, object) = if let Ok(number) = given.extract::<RawFd>() {
        (number, None)
    } else {
        let number = given
            .call_method0(intern!(py, "fileno"))
            .map_err(|_| wrong_type(what, "a file or a file descriptor", &given))?;
        (number.extract()?, Some(given))
    };
    let fd = duplicate(number)?;
    let offset = number_of(message, intern!(py, "offset"))?;
    let count = number_of(message, intern!(py, "count"))?;
    let position = match (offset, &object) {
        (Some(offset), _) => offset,
        // A buffered file's position is its own.
        (None, Some(object)) => object.call_method0(intern!(py, "tell"))?.extract()?,
        (None, None) => rustix::fs::tell(&fd).map_err(io::Error::from)?,
    };
    let kept = offset.is_none().then(|| fd.try_clone()).transpose()?;
    let file =
        OpenFile::new(fd, position, count).map_err(|error| errors::from_file(error, None))?;
    // What is sent without an offset is read from the file, as `os.sendfile` does.
    match (kept, object) {
        (None, _) => {}
        (Some(_), Some(object)) => {
            object.call_method1(intern!(py, "seek"), (file.end(),))?;
        }
        (Some(fd), None) => {
            rustix::fs::seek(fd.as_fd(), SeekFrom::Start(file.end())).map_err(io::Error::from)?;
        }
    }
    Ok(file)
}

fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let duplicated = with_fd(number, |fd| fd.try_clone_to_owned());
    duplicated.unwrap_or_else(|| Err(io::Error::from_raw_os_error(libc::EBADF)))
}

/// A number that may be absent.
fn number_of<'py>(
    message: &Message<'_, 'py>,
    key: &Bound<'py, pyo3::types::PyString>,
) -> PyResult<Option<u64>> {
    let Some(given) = message.find(key)? else { return Ok(None) };
    given.extract().map(Some).map_err(|_| {
        let text = format!("`{key}` of `http.response.zerocopysend` must be a number from 0 up");
        PyValueError::new_err(text)
    })
}

/// Waits until a file has been sent.
pub(crate) struct SendFile {
    task: Mutex<JoinHandle<Result<(), FileError>>>,
    path: Option<Py<PyAny>>,
}

impl SendFile {
    pub(crate) fn new(task: JoinHandle<Result<(), FileError>>, path: Option<Py<PyAny>>) -> Self {
        Self { task: Mutex::new(task), path }
    }
}

impl Operation for SendFile {
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *task).poll(cx).map(|ended| match ended {
            Ok(Ok(())) => Ok(py.None()),
            Ok(Err(error)) => Err(errors::from_file(error, self.path.as_ref())),
            Err(error) => Err(io::Error::other(error).into()),
        })
    }
}
