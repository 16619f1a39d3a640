//! Settings given as Python keywords.

use std::ffi::OsString;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};
use rsgi_config::{LoadError, Loaded, Value, WorkerCount, from_keywords, from_keywords_of_run};

/// What keywords say together with the environment and the files that they name, read once.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct Keywords {
    pub(crate) loaded: Loaded,
}

#[pymethods]
impl Keywords {
    /// The keywords of `rsgi.run()` with `starts_processes`, or else of a server that is one.
    #[new]
    #[pyo3(signature = (settings, *, starts_processes=false))]
    fn new(settings: &Bound<'_, PyDict>, starts_processes: bool) -> PyResult<Self> {
        let pairs = pairs(settings)?;
        let read = if starts_processes { from_keywords_of_run } else { from_keywords };
        let loaded = read(pairs).map_err(|error| match error {
            LoadError::Help(text) | LoadError::Usage(text) => PyValueError::new_err(text),
        })?;
        Ok(Self { loaded })
    }

    /// Whether they are for more than one worker, or may be.
    #[getter]
    fn several(&self) -> bool {
        self.loaded.config.workers.workers != WorkerCount::Exactly(1)
    }

    /// Whether changed files are to restart the application.
    #[getter]
    fn reload(&self) -> bool {
        self.loaded.config.reload.is_on
    }
}

fn pairs(settings: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Value)>> {
    let mut pairs = Vec::with_capacity(settings.len());
    for (name, value) in settings {
        let name: String = name.extract()?;
        let value = to_value(&name, &value)?;
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Sets the variables that the keywords ask for, where the application finds them.
pub(crate) fn set_environment(py: Python<'_>, variables: &[(OsString, OsString)]) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    for (name, value) in variables {
        environ.set_item(name, value)?;
    }
    Ok(())
}

/// A `dict` for Python's `logging`, as the text that can be passed on. What is used in this process
/// itself is the object, and may have anything in it.
fn log_config(value: &Bound<'_, PyAny>) -> PyResult<String> {
    if !value.is_instance_of::<PyDict>() {
        return Ok("{}".to_owned());
    }
    let py = value.py();
    let options = PyDict::new(py);
    options.set_item("default", py.get_type::<PyString>())?;
    py.import("json")?.call_method("dumps", (value,), Some(&options))?.extract()
}

fn to_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if value.is_none() {
        return Ok(Value::None);
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(value.extract()?));
    }
    if value.is_instance_of::<PyInt>() {
        return Ok(Value::Int(value.extract()?));
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Value::Float(value.extract()?));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(Value::Str(value.extract()?));
    }
    if let Ok(path) = value.call_method0("__fspath__") {
        return Ok(Value::Str(path.extract()?));
    }
    if name == "log_config" {
        return log_config(value).map(Value::Str);
    }
    if let Ok(items) = value.try_iter() {
        return items
            .map(|item| {
                let item = item?;
                // `headers=[("x-a", "1")]`, as in uvicorn.
                match item.extract::<(String, String)>() {
                    Ok((name, value)) => Ok(format!("{name}:{value}")),
                    Err(_) => Ok(item.str()?.extract()?),
                }
            })
            .collect::<PyResult<_>>()
            .map(Value::List);
    }
    if value.is_callable() {
        // `loop=uvloop.new_event_loop`: as if it had been named.
        let part = |name: &str| value.getattr(name)?.extract::<String>();
        if let (Ok(module), Ok(name)) = (part("__module__"), part("__qualname__")) {
            return Ok(Value::Str(format!("{module}:{name}")));
        }
    }
    let kind = value.get_type().qualname()?;
    Err(PyTypeError::new_err(format!("`{name}` cannot be a `{kind}`")))
}
