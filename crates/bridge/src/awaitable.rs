//! What `receive()` and `send()` return.
//!
//! People await these in every way there is: `await x`, `asyncio.wait_for(x)`,
//! `asyncio.create_task(x)`, `gather`, anyio task groups. Some of those insist on a *coroutine*, so
//! the objects have `send`, `throw`, `close` and `__await__`, which is what
//! `collections.abc.Coroutine` (and with it `asyncio.iscoroutine`) looks for. Like a coroutine, an
//! operation does not finish, and takes nothing, unless it is awaited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, ThreadId};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::other_loop::{Letter, LoopHandle};

/// Something that an application awaits.
pub(crate) trait Operation: Send + Sync + 'static {
    /// The result, or the promise to wake `cx` once there may be one. Takes nothing unless it
    /// returns it.
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>>;
}

/// An awaitable that is done and returns `None`. It has no state: one object serves every call.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct Done;

impl Done {
    /// The one object.
    pub(crate) fn get(py: Python<'_>) -> PyResult<Py<PyAny>> {
        static DONE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let done = DONE.get_or_try_init(py, || Py::new(py, Self).map(Py::into_any))?;
        Ok(done.clone_ref(py))
    }
}

#[pymethods]
impl Done {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[expect(clippy::unused_self, reason = "the iterator protocol")]
    fn __next__(&self) -> Option<Py<PyAny>> {
        None
    }

    #[expect(clippy::unused_self, reason = "the coroutine protocol")]
    fn send(&self, _value: &Bound<'_, PyAny>) -> PyErr {
        PyStopIteration::new_err(())
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    #[expect(clippy::unused_self, reason = "the coroutine protocol")]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        raise(kind, value, traceback)
    }

    #[expect(clippy::unused_self, reason = "the coroutine protocol")]
    fn close(&self) {}
}

/// An awaitable over an [`Operation`].
#[pyclass(frozen, module = "rsgi._native")]
pub struct Awaitable {
    state: Mutex<State>,
}

impl std::fmt::Debug for Awaitable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaitable").finish_non_exhaustive()
    }
}

enum State {
    /// Not awaited yet.
    Fresh(Start),
    /// Suspended once, to let the loop run.
    Yielded,
    /// Suspended on the future whose iterator this is.
    Suspended { iterator: Py<PyAny>, work: Work },
    /// Awaited to its end, thrown into or closed.
    Over,
}

/// What the first step does.
enum Start {
    /// Waits for the operation.
    Operation(Work),
    /// Suspends once and returns `None`.
    Yield,
    /// Raises.
    Error(PyErr),
}

struct Work {
    operation: Box<dyn Operation>,
    handle: LoopHandle,
}

/// How a step ended.
enum Step {
    /// The task is to wait for this (a future, or `None` for just one turn).
    Suspend(Py<PyAny>),
    Return(Py<PyAny>),
}

impl Awaitable {
    /// Awaits `operation`, whose wake-ups reach the loop by `handle`.
    pub(crate) fn operation(operation: Box<dyn Operation>, handle: LoopHandle) -> Self {
        Self::starting(Start::Operation(Work { operation, handle }))
    }

    /// Returns `None` after one turn of the loop.
    pub(crate) fn yielding() -> Self {
        Self::starting(Start::Yield)
    }

    /// Raises `error` when awaited, as the body of an `async def` would.
    pub(crate) fn failing(error: PyErr) -> Self {
        Self::starting(Start::Error(error))
    }

    fn starting(start: Start) -> Self {
        Self { state: Mutex::new(State::Fresh(start)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        // While a step runs Python code the state is `Over`, so that a second task which awaits the
        // same object is told.
        let state = std::mem::replace(&mut *self.state(), State::Over);
        match state {
            State::Over => {
                Err(PyRuntimeError::new_err("cannot reuse already awaited receive() or send()"))
            }
            State::Yielded => Ok(Step::Return(py.None())),
            State::Fresh(Start::Error(error)) => Err(error),
            State::Fresh(Start::Yield) => {
                *self.state() = State::Yielded;
                Ok(Step::Suspend(py.None()))
            }
            State::Fresh(Start::Operation(work)) => self.advance(py, work),
            State::Suspended { iterator, work } => {
                match iterator.bind(py).call_method0(intern!(py, "__next__")) {
                    Ok(future) => {
                        *self.state() = State::Suspended { iterator, work };
                        Ok(Step::Suspend(future.unbind()))
                    }
                    Err(error) if error.is_instance_of::<PyStopIteration>(py) => {
                        self.advance(py, work)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Polls the operation; where it has to wait, suspends on a new future of the running loop.
    fn advance(&self, py: Python<'_>, work: Work) -> PyResult<Step> {
        // Most often the result is there, and no future is needed.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = work.operation.poll(py, &mut cx) {
            return result.map(Step::Return);
        }
        let event_loop = running_loop(py)?;
        let future = event_loop.call_method0(intern!(py, "create_future"))?;
        let waker = Waker::from(Arc::new(FutureWaker {
            future: future.clone().unbind(),
            event_loop: event_loop.unbind(),
            thread: thread::current().id(),
            handle: work.handle.clone(),
        }));
        if let Poll::Ready(result) = work.operation.poll(py, &mut Context::from_waker(&waker)) {
            return result.map(Step::Return);
        }
        let iterator = future.call_method0(intern!(py, "__await__"))?;
        let suspended = iterator.call_method0(intern!(py, "__next__"))?;
        *self.state() = State::Suspended { iterator: iterator.unbind(), work };
        Ok(Step::Suspend(suspended.unbind()))
    }

    fn resume(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.step(py)? {
            Step::Suspend(future) => Ok(future),
            Step::Return(value) => Err(PyStopIteration::new_err((value,))),
        }
    }
}

#[pymethods]
impl Awaitable {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.resume(py)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.resume(py)
    }

    #[pyo3(signature = (kind, value = None, traceback = None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        // Nothing has been taken, so nothing is lost.
        self.close();
        raise(kind, value, traceback)
    }

    fn close(&self) {
        let state = std::mem::replace(&mut *self.state(), State::Over);
        drop(state);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(state) = self.state.try_lock()
            && let State::Suspended { iterator, .. } = &*state
        {
            visit.call(iterator)?;
        }
        Ok(())
    }
}

/// Resolves an asyncio future.
pub(crate) struct FutureWaker {
    future: Py<PyAny>,
    event_loop: Py<PyAny>,
    thread: ThreadId,
    handle: LoopHandle,
}

impl FutureWaker {
    pub(crate) fn resolve(&self, py: Python<'_>) -> PyResult<()> {
        if thread::current().id() == self.thread {
            resolve_future(self.future.bind(py))?;
            self.handle.changed();
            return Ok(());
        }
        let resolve = pyo3::wrap_pyfunction!(resolve_future, py)?;
        let call = intern!(py, "call_soon_threadsafe");
        self.event_loop.bind(py).call_method1(call, (resolve, &self.future))?;
        Ok(())
    }
}

impl Wake for FutureWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let LoopHandle::Other(mailbox) = &self.handle
            && thread::current().id() != self.thread
        {
            return mailbox.post(Letter::Resolve(Arc::clone(self)));
        }
        Python::attach(|py| {
            if let Err(error) = self.resolve(py) {
                // The loop was closed under the waiting task.
                log::debug!("could not wake a task: {error}");
            }
        });
    }
}

/// Sets a future's result to `None`, unless its task was cancelled meanwhile.
#[pyfunction]
fn resolve_future(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    GET.import(py, "asyncio", "get_running_loop")?.call0()
}

/// What `generator.throw` accepts: an exception, or the old triple.
fn raise(
    kind: Bound<'_, PyAny>,
    value: Option<Bound<'_, PyAny>>,
    traceback: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let error = match value {
        Some(value) if !value.is_none() => PyErr::from_value(value),
        _ => PyErr::from_value(kind),
    };
    if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
        let py = traceback.py();
        error.set_traceback(py, Some(traceback.cast_into()?));
    }
    Err(error)
}
