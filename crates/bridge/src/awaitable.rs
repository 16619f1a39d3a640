//! What `receive()` and `send()` return.
//!
//! People await these in every way there is: `await x`, `asyncio.wait_for(x)`,
//! `asyncio.create_task(x)`, `gather`, anyio task groups. Some of those insist on a *coroutine*, so
//! the objects have `send`, `throw`, `close` and `__await__`, which is what
//! `collections.abc.Coroutine` (and with it `asyncio.iscoroutine`) looks for. Like a coroutine, an
//! operation does not finish, and takes nothing, unless it is awaited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use rsgi_server::NOBODY;

use crate::other_loop::LoopHandle;
use crate::suspension::Suspension;

/// Something that an application awaits.
pub(crate) trait Operation: Send + Sync + 'static {
    /// The result, or the promise to wake `cx` once there may be one. Takes nothing unless it
    /// returns it.
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>>;

    /// Whether there may be another result after this one.
    fn can_be_repeated(&self) -> bool {
        false
    }
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
///
/// Where it has to wait, the task that awaits it is suspended on a [`Suspension`].
#[pyclass(frozen, module = "rsgi._native")]
pub struct Awaitable {
    state: Mutex<State>,
}

impl std::fmt::Debug for Awaitable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Awaitable").finish_non_exhaustive()
    }
}

/// ```text
///        nothing there       woken, and nothing there
/// Fresh ───────────────► Waiting ◄──┐
///   │ ▲                   │  └──────┘
///   │ │ [`Awaitable::renew`]  │ woken, and there is something
///   └─┴───────────────────┴─────────────► Over
/// ```
enum State {
    /// Not awaited yet.
    Fresh(Start),
    /// Suspended once, to let the loop run.
    Yielded,
    /// Suspended until the operation has something.
    Waiting(Work),
    /// Awaited to its end, thrown into or closed. With what it is renewed by, if it came to its end.
    Over(Option<Work>),
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
    /// What the last wait was spent on, or is.
    suspension: Option<Arc<Suspension>>,
}

/// How a step ended.
enum Step {
    /// The task is to wait for this future.
    Wait(Py<PyAny>),
    /// The task is to wait for one turn of the loop.
    Pause,
    Return(Py<PyAny>),
}

impl Awaitable {
    /// Awaits `operation`, whose wake-ups reach the loop by `handle`.
    pub(crate) fn operation(operation: Box<dyn Operation>, handle: LoopHandle) -> Self {
        Self::starting(Start::Operation(Work { operation, handle, suspension: None }))
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

    /// Makes it as if it had not been awaited, if it has come to its end and its operation is one that can
    /// be awaited again. For who knows that nobody else refers to it.
    pub(crate) fn renew(&self) -> bool {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Over(None)) {
            State::Over(Some(work)) => {
                *state = State::Fresh(Start::Operation(work));
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, py: Python<'_>) -> PyResult<Step> {
        // While a step runs Python code the state is `Over`, so that a second task which awaits the
        // same object is told.
        let state = std::mem::replace(&mut *self.state(), State::Over(None));
        match state {
            State::Over(_) => {
                Err(PyRuntimeError::new_err("cannot reuse already awaited receive() or send()"))
            }
            State::Yielded => Ok(Step::Return(py.None())),
            State::Fresh(Start::Error(error)) => Err(error),
            State::Fresh(Start::Yield) => {
                *self.state() = State::Yielded;
                Ok(Step::Pause)
            }
            State::Fresh(Start::Operation(work)) => {
                // Where the one before had to wait, so will this one, most often.
                if work.suspension.is_some() { self.wait(py, work) } else { self.look(py, work) }
            }
            State::Waiting(work) => {
                if work.suspension.as_ref().is_none_or(|suspension| suspension.is_woken()) {
                    return self.look(py, work);
                }
                *self.state() = State::Waiting(work);
                Err(PyRuntimeError::new_err("receive() or send() is being awaited already"))
            }
        }
    }

    /// Polls the operation where the result most often is there, and no waker is needed.
    fn look(&self, py: Python<'_>, work: Work) -> PyResult<Step> {
        match work.operation.poll(py, &mut Context::from_waker(NOBODY)) {
            Poll::Ready(result) => self.finish(py, work, result),
            Poll::Pending => self.wait(py, work),
        }
    }

    /// Polls the operation; where it has to wait, suspends.
    fn wait(&self, py: Python<'_>, mut work: Work) -> PyResult<Step> {
        let event_loop = running_loop(py)?;
        let suspension = match work.suspension.take() {
            Some(suspension) if suspension.serves(&event_loop) => suspension,
            _ => Suspension::new(event_loop, work.handle.clone())?,
        };
        suspension.begin();
        let waker = Waker::from(Arc::clone(&suspension));
        let polled = work.operation.poll(py, &mut Context::from_waker(&waker));
        if let Poll::Ready(result) = polled {
            work.suspension = Some(suspension);
            return self.finish(py, work, result);
        }
        let future = suspension.future(py)?;
        work.suspension = Some(suspension);
        *self.state() = State::Waiting(work);
        Ok(Step::Wait(future))
    }

    fn finish(
        &self,
        py: Python<'_>,
        mut work: Work,
        result: PyResult<Py<PyAny>>,
    ) -> PyResult<Step> {
        if work.operation.can_be_repeated() {
            if !Suspension::serves_again(py) {
                work.suspension = None;
            }
            *self.state() = State::Over(Some(work));
        }
        result.map(Step::Return)
    }

    fn resume(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.step(py)? {
            Step::Wait(future) => Ok(future),
            Step::Pause => Ok(py.None()),
            Step::Return(value) => Err(stop_iteration(py, value)?),
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
        let state = std::mem::replace(&mut *self.state(), State::Over(None));
        drop(state);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(state) = self.state.try_lock()
            && let State::Waiting(work)
            | State::Fresh(Start::Operation(work))
            | State::Over(Some(work)) = &*state
            && let Some(suspension) = &work.suspension
        {
            suspension.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.close();
    }
}

/// By which an iterator returns a value. Made at once: one that is made when it is raised costs twice as much.
fn stop_iteration(py: Python<'_>, value: Py<PyAny>) -> PyResult<PyErr> {
    let error = py.get_type::<PyStopIteration>().call1((value,))?;
    Ok(PyErr::from_value(error))
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
