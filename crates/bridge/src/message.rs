//! Reading an application's ASGI messages out of Python objects, with errors that name what is
//! wrong.

use bytes::Bytes;
use pyo3::exceptions::{PyKeyError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rsgi_protocol::http::cycle::More;

use crate::errors;

/// From this size on, a body is passed on as the Python object that it is; below, a copy is
/// cheaper.
pub(crate) const SHARE_FROM: usize = 16 * 1024;

/// One message: a dict, or any other mapping.
#[derive(Debug)]
pub(crate) struct Message<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
    content: Content<'a, 'py>,
}

/// How a message is read.
#[derive(Debug)]
enum Content<'a, 'py> {
    /// A dict with nothing but common keys, which is cheaper to walk through once than to ask for
    /// each of them. Their values, in the order of [`Key`].
    Values([Option<Bound<'py, PyAny>>; Key::COUNT]),
    /// Any other dict.
    Dict(&'a Bound<'py, PyDict>),
    Mapping,
}

/// The keys of the messages of most requests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    Type,
    Body,
    MoreBody,
    Status,
    Headers,
    Text,
    Bytes,
}

impl Key {
    const COUNT: usize = 7;
    const NAMES: [&'static str; Self::COUNT] =
        ["type", "body", "more_body", "status", "headers", "text", "bytes"];

    /// Their names, interned as those in an application's code are, which are the same objects then.
    fn names(py: Python<'_>) -> &[Py<PyString>; Self::COUNT] {
        static NAMES: PyOnceLock<[Py<PyString>; Key::COUNT]> = PyOnceLock::new();
        NAMES.get_or_init(py, || Self::NAMES.map(|name| PyString::intern(py, name).unbind()))
    }
}

impl<'a, 'py> Content<'a, 'py> {
    fn of(object: &'a Bound<'py, PyAny>) -> Self {
        let Ok(dict) = object.cast::<PyDict>() else { return Self::Mapping };
        if dict.len() > Key::COUNT {
            return Self::Dict(dict);
        }
        let names = Key::names(object.py());
        let mut values = [const { None }; Key::COUNT];
        for (key, value) in dict {
            let place = names.iter().position(|name| name.is(&key));
            let Some(place) = place.and_then(|place| values.get_mut(place)) else {
                return Self::Dict(dict);
            };
            *place = Some(value);
        }
        Self::Values(values)
    }
}

impl<'a, 'py> Message<'a, 'py> {
    pub(crate) fn new(object: &'a Bound<'py, PyAny>) -> Self {
        Self { object, content: Content::of(object) }
    }

    /// The token of the thread that holds it.
    pub(crate) fn py(&self) -> Python<'py> {
        self.object.py()
    }

    /// The value at a common key, if there is one that is not `None`.
    pub(crate) fn get(&self, key: Key) -> PyResult<Option<Bound<'py, PyAny>>> {
        match &self.content {
            Content::Values(values) => {
                let value = values.get(key as usize).and_then(Option::as_ref);
                Ok(value.filter(|value| !value.is_none()).cloned())
            }
            Content::Dict(_) | Content::Mapping => {
                let name = Key::names(self.py()).get(key as usize);
                name.map_or(Ok(None), |name| self.find(name.bind(self.py())))
            }
        }
    }

    /// The value at any other key, if there is one that is not `None`.
    pub(crate) fn find(&self, key: &Bound<'py, PyString>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = match &self.content {
            Content::Values(_) => None,
            Content::Dict(dict) => dict.get_item(key)?,
            Content::Mapping => match self.object.get_item(key) {
                Ok(value) => Some(value),
                Err(error) if error.is_instance_of::<PyKeyError>(key.py()) => None,
                Err(error) if error.is_instance_of::<PyTypeError>(key.py()) => {
                    let kind = self.object.get_type().qualname()?;
                    let text = format!("an ASGI message must be a dict, not `{kind}`");
                    return Err(PyTypeError::new_err(text));
                }
                Err(error) => return Err(error),
            },
        };
        Ok(found.filter(|value| !value.is_none()))
    }

    /// The message's `type`.
    pub(crate) fn kind(&self) -> PyResult<Bound<'py, PyString>> {
        let kind = self
            .get(Key::Type)?
            .ok_or_else(|| PyTypeError::new_err("an ASGI message must have a `type`"))?;
        kind.cast_into::<PyString>()
            .map_err(|error| wrong_type("`type` of an ASGI message", "str", &error.into_inner()))
    }

    /// `more_body`, which is `False` when absent.
    pub(crate) fn more_body(&self) -> PyResult<More> {
        let value = self.get(Key::MoreBody)?;
        value.map_or(Ok(More::Last), |value| value.is_truthy().map(More::from))
    }

    /// A flag that is `False` when absent.
    pub(crate) fn flag(&self, key: &Bound<'py, PyString>) -> PyResult<bool> {
        self.find(key)?.map_or(Ok(false), |value| value.is_truthy())
    }

    /// `status`.
    pub(crate) fn status(&self) -> PyResult<u16> {
        let what = "`status` of `http.response.start`";
        let value = self
            .get(Key::Status)?
            .ok_or_else(|| PyTypeError::new_err(format!("{what} is missing")))?;
        let Ok(status) = value.extract::<i64>() else {
            return Err(wrong_type(what, "int", &value));
        };
        Ok(u16::try_from(status).unwrap_or(0))
    }

    /// `body`, which may be absent.
    pub(crate) fn body(&self) -> PyResult<Bytes> {
        let Some(value) = self.get(Key::Body)? else {
            return Ok(Bytes::new());
        };
        if let Ok(bytes) = value.cast::<PyBytes>() {
            return Ok(if bytes.as_bytes().len() < SHARE_FROM {
                Bytes::copy_from_slice(bytes.as_bytes())
            } else {
                Bytes::from_owner(PyBackedBytes::from(bytes.clone()))
            });
        }
        with_bytes(&value, "`body` of `http.response.body`", |bytes| {
            Ok(Bytes::copy_from_slice(bytes))
        })
    }

    /// Calls `add` with every name and value of `headers`, which may be absent.
    pub(crate) fn headers(
        &self,
        mut add: impl FnMut(&[u8], &[u8]) -> PyResult<()>,
    ) -> PyResult<()> {
        let Some(headers) = self.get(Key::Headers)? else {
            return Ok(());
        };
        if let Ok(list) = headers.cast::<PyList>() {
            return list.iter().try_for_each(|header| add_header(&header, &mut add));
        }
        let Ok(headers) = headers.try_iter() else {
            return Err(wrong_type("`headers`", "an iterable of pairs of bytes", &headers));
        };
        for header in headers {
            add_header(&header?, &mut add)?;
        }
        Ok(())
    }
}

fn add_header(
    header: &Bound<'_, PyAny>,
    add: &mut impl FnMut(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    let (name, value) = pair(header)?;
    if let (Ok(name), Ok(value)) = (name.cast::<PyBytes>(), value.cast::<PyBytes>()) {
        return add(name.as_bytes(), value.as_bytes());
    }
    with_bytes(&name, "a header name", |name| {
        with_bytes(&value, "a header value", |value| add(name, value))
    })
}

fn pair<'py>(header: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    if let Ok(tuple) = header.cast::<PyTuple>()
        && tuple.len() == 2
    {
        return Ok((tuple.get_item(0)?, tuple.get_item(1)?));
    }
    if let Ok(list) = header.cast::<PyList>()
        && list.len() == 2
    {
        return Ok((list.get_item(0)?, list.get_item(1)?));
    }
    header
        .try_iter()
        .and_then(Iterator::collect::<PyResult<Vec<_>>>)
        .ok()
        .and_then(|items| <[_; 2]>::try_from(items).ok())
        .map(|[name, value]| (name, value))
        .ok_or_else(|| wrong_type("a header", "a pair of name and value", header))
}

/// Lends the bytes of a `bytes`, `bytearray` or `memoryview`.
pub(crate) fn with_bytes<R>(
    value: &Bound<'_, PyAny>,
    what: &str,
    then: impl FnOnce(&[u8]) -> PyResult<R>,
) -> PyResult<R> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return then(bytes.as_bytes());
    }
    // `bytes(5)` and `bytes([1, 2])` make bytes, too, but nobody who sends those means it.
    let is_buffer = pyo3::buffer::PyUntypedBuffer::get(value).is_ok();
    if !is_buffer {
        return Err(wrong_type(what, "bytes", value));
    }
    let copied = value.py().get_type::<PyBytes>().call1((value,))?;
    then(copied.cast::<PyBytes>()?.as_bytes())
}

pub(crate) fn wrong_type(what: &str, wanted: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let got = value.get_type().qualname().map_or_else(|_| String::new(), |name| name.to_string());
    PyTypeError::new_err(format!("{what} must be {wanted}, not `{got}`"))
}

/// A header the server refuses, with its name.
pub(crate) fn invalid_header(name: &[u8], error: rsgi_protocol::http::fields::FieldError) -> PyErr {
    let error = errors::from_field(error);
    Python::attach(|py| {
        let text = format!("header `{}`: {}", name.escape_ascii(), error.value(py));
        pyo3::exceptions::PyValueError::new_err(text)
    })
}
