//! `rsgi._native.Selector`: the [`Reactor`] with the interface of `selectors.BaseSelector`, for
//! `asyncio.SelectorEventLoop(selector)`.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyKeyError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyInt, PyList, PyTuple};
use pyo3::{PyTypeInfo, intern};
use rustix::event::epoll::{self, EventFlags};

use crate::ffi::with_fd;
use crate::reactor::{Patience, Reactor, TurnError, watch_data};

/// `selectors.EVENT_READ`.
const EVENT_READ: i64 = 1;
/// `selectors.EVENT_WRITE`.
const EVENT_WRITE: i64 = 2;

/// asyncio's selector over tokio's reactor.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct Selector {
    reactor: Arc<Reactor>,
    links: Mutex<Links>,
    /// How many timers there were when `select()` was called.
    timers: AtomicUsize,
}

/// What the selector holds of Python's.
#[derive(Debug)]
struct Links {
    /// Descriptor to `SelectorKey`; `None` once closed.
    keys: Option<Py<PyDict>>,
    /// The view of `keys`; `None` once closed.
    map: Option<Py<SelectorMap>>,
    /// The event loop's deque of callbacks that are ready to run.
    ready: Option<Py<PyAny>>,
    /// The event loop, for its heap of timers.
    event_loop: Option<Py<PyAny>>,
    /// That heap. asyncio puts another in its place now and then, but not while `select()` runs.
    scheduled: Option<Py<PyList>>,
}

impl Selector {
    /// The reactor behind this selector.
    pub(crate) fn reactor(&self) -> &Arc<Reactor> {
        &self.reactor
    }

    fn links(&self) -> std::sync::MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let links = self.links();
        let keys = links.keys.as_ref().map(|keys| keys.bind(py).clone());
        keys.ok_or_else(|| PyRuntimeError::new_err("Selector is closed"))
    }

    /// Changes the epoll set; an error is Python's `OSError` of the right kind.
    fn change(
        &self,
        fd: RawFd,
        call: impl FnOnce(BorrowedFd<'_>, BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> PyResult<()> {
        let result = self.reactor.with_watched(|watched| with_fd(fd, |fd| call(watched, fd)));
        match result.flatten() {
            Some(result) => result.map_err(|errno| io::Error::from(errno).into()),
            None => Err(PyOSError::new_err("invalid file descriptor")),
        }
    }

    /// Call after every entry into Python from a tokio task: ends the turn if asyncio now has
    /// something to do.
    pub(crate) fn after_python(&self, py: Python<'_>) {
        let (ready, scheduled) = {
            let links = self.links();
            let (Some(ready), Some(scheduled)) = (&links.ready, &links.scheduled) else {
                return;
            };
            (ready.clone_ref(py), scheduled.clone_ref(py))
        };
        let has_ready = ready.bind(py).len().unwrap_or(1) > 0;
        // asyncio only adds to the heap while `select()` runs.
        if has_ready || scheduled.bind(py).len() != self.timers.load(Ordering::Relaxed) {
            self.reactor.wake();
        }
    }

    /// Notes the heap of timers, and how many there are.
    fn look_at_timers(&self, py: Python<'_>) -> PyResult<()> {
        // Nothing is held across a call into Python, however small: it may come back here.
        let event_loop =
            self.links().event_loop.as_ref().map(|event_loop| event_loop.clone_ref(py));
        if let Some(event_loop) = event_loop {
            let scheduled = event_loop.bind(py).getattr(intern!(py, "_scheduled"))?;
            let scheduled = scheduled.cast_into::<PyList>()?;
            self.timers.store(scheduled.len(), Ordering::Relaxed);
            let before = self.links().scheduled.replace(scheduled.unbind());
            drop(before);
        }
        Ok(())
    }
}

#[pymethods]
impl Selector {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let keys = PyDict::new(py).unbind();
        Ok(Self {
            timers: AtomicUsize::new(0),
            reactor: Arc::new(Reactor::new()?),
            links: Mutex::new(Links {
                map: Some(Py::new(py, SelectorMap { keys: keys.clone_ref(py) })?),
                keys: Some(keys),
                ready: None,
                event_loop: None,
                scheduled: None,
            }),
        })
    }

    /// Tell the selector which event loop it serves.
    fn attach(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let ready = event_loop.getattr(intern!(event_loop.py(), "_ready"))?;
        self.reactor.belongs_to(event_loop);
        let mut links = self.links();
        links.ready = Some(ready.unbind());
        links.event_loop = Some(event_loop.clone().unbind());
        Ok(())
    }

    /// Whether the event loop has a task factory of its owner's.
    #[getter]
    fn has_task_factory(&self) -> bool {
        self.reactor.has_task_factory()
    }

    #[setter(has_task_factory)]
    fn set_has_task_factory(&self, has_task_factory: bool) {
        self.reactor.set_has_task_factory(has_task_factory);
    }

    /// End the running `select()` as soon as sockets have had their turn. Safe from any thread.
    fn wake(&self) {
        self.reactor.wake();
    }

    #[pyo3(signature = (fileobj, events, data = None))]
    fn register<'py>(
        &self,
        fileobj: Bound<'py, PyAny>,
        events: i64,
        data: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = fileobj.py();
        let keys = self.keys(py)?;
        let flags = to_flags(events)?;
        let fd = fileobj_to_fd(&fileobj)?;
        if keys.contains(fd)? {
            let text = format!("{} (FD {fd}) is already registered", fileobj.repr()?);
            return Err(PyKeyError::new_err(text));
        }
        self.change(fd, |watched, watching| epoll::add(watched, watching, watch_data(fd), flags))?;
        let key = selector_key(py)?.call1((fileobj, fd, events, data))?;
        keys.set_item(fd, &key)?;
        Ok(key)
    }

    fn unregister<'py>(&self, fileobj: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let keys = self.keys(fileobj.py())?;
        let key = find_key(&keys, &fileobj)?.ok_or_else(|| not_registered(&fileobj))?;
        let fd: RawFd = key.get_item(1)?.extract()?;
        keys.del_item(fd)?;
        // A descriptor that was closed first has left the set by itself.
        let _ = self.change(fd, |watched, watching| epoll::delete(watched, watching));
        Ok(key)
    }

    #[pyo3(signature = (fileobj, events, data = None))]
    fn modify<'py>(
        &self,
        fileobj: Bound<'py, PyAny>,
        events: i64,
        data: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = fileobj.py();
        let keys = self.keys(py)?;
        let key = find_key(&keys, &fileobj)?.ok_or_else(|| not_registered(&fileobj))?;
        let fd: RawFd = key.get_item(1)?.extract()?;
        let present: i64 = key.get_item(2)?.extract()?;
        if events != present {
            let flags = to_flags(events)?;
            let changed = self.change(fd, |watched, watching| {
                epoll::modify(watched, watching, watch_data(fd), flags)
            });
            if let Err(error) = changed {
                keys.del_item(fd)?;
                return Err(error);
            }
        }
        let key = selector_key(py)?.call1((key.get_item(0)?, fd, events, data))?;
        keys.set_item(fd, &key)?;
        Ok(key)
    }

    #[pyo3(signature = (timeout = None))]
    fn select<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        let keys = self.keys(py)?;
        self.look_at_timers(py)?;
        let patience = match timeout {
            None => Patience::Endless,
            Some(seconds) if seconds <= 0.0 => Patience::None,
            Some(seconds) => {
                Duration::try_from_secs_f64(seconds).map_or(Patience::Endless, Patience::Limited)
            }
        };
        let found = PyList::empty(py);
        match self.reactor.turn(patience, |py| self.after_python(py)) {
            Ok(ready) => {
                for ready in ready {
                    report(&keys, ready, &found)?;
                }
                Ok(found)
            }
            Err(TurnError::Python(error)) => Err(error),
            Err(TurnError::Misuse(text)) => Err(PyRuntimeError::new_err(text)),
            Err(TurnError::Io(error)) => Err(error.into()),
        }
    }

    fn close(&self, py: Python<'_>) {
        let taken = self.links().take();
        self.reactor.close();
        if let Some(keys) = &taken.keys {
            keys.bind(py).clear();
        }
        drop(taken);
    }

    fn get_key<'py>(&self, fileobj: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let keys = self.keys(fileobj.py())?;
        find_key(&keys, &fileobj)?.ok_or_else(|| not_registered(&fileobj))
    }

    /// A live view: it costs nothing to ask for and shows later changes. None once closed.
    fn get_map(&self, py: Python<'_>) -> Option<Py<SelectorMap>> {
        self.links().map.as_ref().map(|map| map.clone_ref(py))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*args))]
    fn __exit__(&self, args: &Bound<'_, PyTuple>) {
        self.close(args.py());
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A lock that is held belongs to a call in progress, and what is in use need not be
        // collected.
        if let Ok(links) = self.links.try_lock() {
            visit.call(&links.keys)?;
            visit.call(&links.map)?;
            visit.call(&links.ready)?;
            visit.call(&links.event_loop)?;
            visit.call(&links.scheduled)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let taken = self.links.try_lock().map(|mut links| links.take());
        drop(taken);
    }
}

impl Links {
    fn take(&mut self) -> Self {
        Self {
            keys: self.keys.take(),
            map: self.map.take(),
            ready: self.ready.take(),
            event_loop: self.event_loop.take(),
            scheduled: self.scheduled.take(),
        }
    }
}

/// What `Selector.get_map()` returns: file object or descriptor to `SelectorKey`.
#[pyclass(frozen, mapping, module = "rsgi._native")]
#[derive(Debug)]
pub struct SelectorMap {
    keys: Py<PyDict>,
}

#[pymethods]
impl SelectorMap {
    fn __len__(&self, py: Python<'_>) -> usize {
        self.keys.bind(py).len()
    }

    fn __getitem__<'py>(&self, fileobj: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        find_key(self.keys.bind(fileobj.py()), &fileobj)?.ok_or_else(|| not_registered(&fileobj))
    }

    fn __contains__(&self, fileobj: Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(find_key(self.keys.bind(fileobj.py()), &fileobj)?.is_some())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys.bind(py).call_method0(intern!(py, "__iter__"))
    }

    #[pyo3(signature = (fileobj, default = None))]
    fn get<'py>(
        &self,
        fileobj: Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(find_key(self.keys.bind(fileobj.py()), &fileobj)?.or(default))
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys.bind(py).call_method0(intern!(py, "keys"))
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys.bind(py).call_method0(intern!(py, "values"))
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.keys.bind(py).call_method0(intern!(py, "items"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.keys)
    }
}

/// The key of `fileobj`, if it is registered.
fn find_key<'py>(
    keys: &Bound<'py, PyDict>,
    fileobj: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match fileobj_to_fd(fileobj) {
        Ok(fd) => keys.get_item(fd),
        // A file object that has been closed has no descriptor any more; its key still names it.
        Err(error) => {
            for (_, key) in keys {
                if key.get_item(0)?.is(fileobj) {
                    return Ok(Some(key));
                }
            }
            Err(error)
        }
    }
}

fn report(
    keys: &Bound<'_, PyDict>,
    ready: crate::reactor::Ready,
    found: &Bound<'_, PyList>,
) -> PyResult<()> {
    // The application may have unregistered it since the kernel was asked.
    let Some(key) = keys.get_item(ready.fd)? else {
        return Ok(());
    };
    let mut events = 0;
    if ready.readable {
        events |= EVENT_READ;
    }
    if ready.writable {
        events |= EVENT_WRITE;
    }
    let wanted: i64 = key.get_item(2)?.extract()?;
    found.append((key, events & wanted))
}

fn to_flags(events: i64) -> PyResult<EventFlags> {
    if events == 0 || events & !(EVENT_READ | EVENT_WRITE) != 0 {
        return Err(PyValueError::new_err(format!("Invalid events: {events}")));
    }
    let mut flags = EventFlags::empty();
    if events & EVENT_READ != 0 {
        flags |= EventFlags::IN;
    }
    if events & EVENT_WRITE != 0 {
        flags |= EventFlags::OUT;
    }
    Ok(flags)
}

/// `selectors._fileobj_to_fd`: an integer, or an object with `fileno()`.
fn fileobj_to_fd(fileobj: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = fileobj.py();
    let number = if PyInt::is_type_of(fileobj) {
        fileobj.extract::<RawFd>()
    } else {
        fileobj.call_method0(intern!(py, "fileno")).and_then(|fileno| fileno.extract::<RawFd>())
    };
    match number {
        Ok(fd) if fd >= 0 => Ok(fd),
        Ok(fd) => Err(PyValueError::new_err(format!("Invalid file descriptor: {fd}"))),
        Err(error)
            if error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py) =>
        {
            let text = format!("Invalid file object: {}", fileobj.repr()?);
            Err(PyValueError::new_err(text))
        }
        Err(error) => Err(error),
    }
}

fn not_registered(fileobj: &Bound<'_, PyAny>) -> PyErr {
    match fileobj.repr() {
        Ok(repr) => PyKeyError::new_err(format!("{repr} is not registered")),
        Err(error) => error,
    }
}

fn selector_key(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static SELECTOR_KEY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    SELECTOR_KEY.import(py, "selectors", "SelectorKey")
}
