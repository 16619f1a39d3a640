//! What `receive()` and `send()` return.
//!
//! People await these in every way there is: `await x`, `asyncio.wait_for(x)`,
//! `asyncio.create_task(x)`, `gather`, anyio task groups. Some of those insist on a *coroutine*, so
//! the objects have `send`, `throw`, `close` and `__await__`, which is what
//! `collections.abc.Coroutine` (and with it `asyncio.iscoroutine`) looks for. Like a coroutine, an
//! operation does not finish, and takes nothing, unless it is awaited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use smallvec::SmallVec;

use crate::other_loop::LoopHandle;
use crate::reactor::Deferred;

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
///
/// While it waits it is its own future: it yields itself, and the task that awaits it leaves its
/// wake-up here, as it would with an `asyncio.Future`. So nothing is made for a wait, and the
/// wake-up does not go through the event loop's queue: [`Reactor`] runs it inside `select()`, where
/// the message that ends the wait has come from.
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
///   │                     │  └──────┘
///   │ there is something  │ woken, and there is something
///   └─────────────────────┴─────────────► Over
/// ```
enum State {
    /// Not awaited yet.
    Fresh(Start),
    /// Suspended once, to let the loop run.
    Yielded,
    /// Suspended until the operation has something.
    Waiting(Waiting),
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

/// The future that a suspended operation is.
struct Waiting {
    work: Work,
    progress: Progress,
    handover: Handover,
    event_loop: Py<PyAny>,
    /// Whom to call once there is progress, and in which context.
    callbacks: SmallVec<[Callback; 1]>,
}

struct Callback {
    function: Py<PyAny>,
    context: Option<Py<PyAny>>,
}

enum Progress {
    Pending,
    Woken,
    /// With what `cancel()` was given.
    Cancelled(Option<Py<PyAny>>),
}

/// asyncio's `_asyncio_future_blocking`: tells `await future` from a future that a coroutine yields
/// by mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handover {
    /// Has been yielded, and the task has not seen it yet.
    Yielded,
    Taken,
}

/// How a step ended.
enum Step {
    /// The task is to wait for this object.
    Wait,
    /// The task is to wait for one turn of the loop.
    Pause,
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

    /// Does something with the future that this is while it waits. No Python object may be dropped
    /// in there: what its end runs may come back here.
    fn with_future<R>(&self, call: impl FnOnce(&mut Waiting) -> R) -> Option<R> {
        match &mut *self.state() {
            State::Waiting(waiting) => Some(call(waiting)),
            _ => None,
        }
    }

    fn step(slf: &Bound<'_, Self>) -> PyResult<Step> {
        let py = slf.py();
        let this = slf.get();
        // While a step runs Python code the state is `Over`, so that a second task which awaits the
        // same object is told.
        let state = std::mem::replace(&mut *this.state(), State::Over);
        match state {
            State::Over => {
                Err(PyRuntimeError::new_err("cannot reuse already awaited receive() or send()"))
            }
            State::Yielded => Ok(Step::Return(py.None())),
            State::Fresh(Start::Error(error)) => Err(error),
            State::Fresh(Start::Yield) => {
                *this.state() = State::Yielded;
                Ok(Step::Pause)
            }
            State::Fresh(Start::Operation(work)) => Self::advance(slf, work),
            State::Waiting(waiting) => match waiting.progress {
                Progress::Woken => Self::advance(slf, waiting.work),
                Progress::Cancelled(message) => Err(cancelled(py, message)?),
                Progress::Pending => {
                    *this.state() = State::Waiting(waiting);
                    Err(PyRuntimeError::new_err("receive() or send() is being awaited already"))
                }
            },
        }
    }

    /// Polls the operation; where it has to wait, suspends.
    fn advance(slf: &Bound<'_, Self>, work: Work) -> PyResult<Step> {
        let py = slf.py();
        // Most often the result is there, and no waker is needed.
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready(result) = work.operation.poll(py, &mut cx) {
            return result.map(Step::Return);
        }
        let event_loop = running_loop(py)?;
        let is_home = work.handle.drives(&event_loop);
        let waker = Waker::from(Arc::new(Alarm {
            awaitable: slf.clone().unbind(),
            elsewhere: (!is_home).then(|| event_loop.clone().unbind()),
            handle: work.handle.clone(),
        }));
        if let Poll::Ready(result) = work.operation.poll(py, &mut Context::from_waker(&waker)) {
            return result.map(Step::Return);
        }
        *slf.get().state() = State::Waiting(Waiting {
            work,
            progress: Progress::Pending,
            handover: Handover::Yielded,
            event_loop: event_loop.unbind(),
            callbacks: SmallVec::new(),
        });
        Ok(Step::Wait)
    }

    fn resume(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        match Self::step(slf)? {
            Step::Wait => Ok(slf.clone().into_any().unbind()),
            Step::Pause => Ok(slf.py().None()),
            Step::Return(value) => Err(PyStopIteration::new_err((value,))),
        }
    }

    /// There may be something now: runs the task that waits.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let callbacks = slf.get().with_future(|future| match future.progress {
            Progress::Pending => {
                future.progress = Progress::Woken;
                std::mem::take(&mut future.callbacks)
            }
            Progress::Woken | Progress::Cancelled(_) => SmallVec::new(),
        });
        for Callback { function, context } in callbacks.into_iter().flatten() {
            match context {
                Some(context) => {
                    context.bind(py).call_method1(intern!(py, "run"), (function, slf))?;
                }
                None => {
                    function.bind(py).call1((slf,))?;
                }
            }
        }
        Ok(())
    }

    /// Has the callbacks called by the event loop.
    fn schedule(slf: &Bound<'_, Self>, event_loop: Py<PyAny>, callback: Callback) -> PyResult<()> {
        let py = slf.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), callback.context)?;
        let arguments = (callback.function, slf);
        event_loop.call_method(py, intern!(py, "call_soon"), arguments, Some(&keywords))?;
        Ok(())
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

    fn __next__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Self::resume(slf)
    }

    fn send(slf: &Bound<'_, Self>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        Self::resume(slf)
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

    /// `True` only for the task that has just been given this; `None` where this is a coroutine
    /// like any other (`asyncio.isfuture`).
    #[getter(_asyncio_future_blocking)]
    fn is_handed_over(&self) -> Option<bool> {
        let handover = self.with_future(|future| future.handover);
        (handover == Some(Handover::Yielded)).then_some(true)
    }

    #[setter(_asyncio_future_blocking)]
    fn hand_over(&self, is_blocking: bool) {
        let handover = if is_blocking { Handover::Yielded } else { Handover::Taken };
        self.with_future(|future| future.handover = handover);
    }

    /// The loop of the task that waits.
    fn get_loop(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.with_future(|future| future.event_loop.clone_ref(py)) {
            Some(event_loop) => Ok(event_loop),
            None => Ok(running_loop(py)?.unbind()),
        }
    }

    #[pyo3(signature = (function, *, context = None))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        function: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let mut callback = Some(Callback { function, context });
        slf.get().with_future(|future| {
            if matches!(future.progress, Progress::Pending) {
                future.callbacks.extend(callback.take());
            }
        });
        match callback {
            Some(callback) => {
                let event_loop = slf.get().get_loop(slf.py())?;
                Self::schedule(slf, event_loop, callback)
            }
            None => Ok(()),
        }
    }

    fn remove_done_callback(&self, function: &Bound<'_, PyAny>) -> PyResult<usize> {
        let callbacks = self.with_future(|future| std::mem::take(&mut future.callbacks));
        let (mut kept, mut removed) = (SmallVec::new(), 0);
        for callback in callbacks.into_iter().flatten() {
            if callback.function.bind(function.py()).eq(function)? {
                removed += 1;
            } else {
                kept.push(callback);
            }
        }
        self.with_future(|future| std::mem::swap(&mut future.callbacks, &mut kept));
        Ok(removed)
    }

    /// Has the task that waits find a `CancelledError` here.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let py = slf.py();
        let cancelled = slf.get().with_future(|future| match future.progress {
            Progress::Pending => {
                future.progress = Progress::Cancelled(msg);
                let callbacks = std::mem::take(&mut future.callbacks);
                Some((future.event_loop.clone_ref(py), callbacks))
            }
            Progress::Woken | Progress::Cancelled(_) => None,
        });
        let Some((event_loop, callbacks)) = cancelled.flatten() else {
            return Ok(false);
        };
        for callback in callbacks {
            Self::schedule(slf, event_loop.clone_ref(py), callback)?;
        }
        Ok(true)
    }

    fn cancelled(&self) -> bool {
        self.with_future(|future| matches!(future.progress, Progress::Cancelled(_)))
            .unwrap_or(false)
    }

    fn done(&self) -> bool {
        self.with_future(|future| !matches!(future.progress, Progress::Pending)).unwrap_or(true)
    }

    /// `None`: what was waited for is the result of the coroutine, not of the future.
    fn result(&self, py: Python<'_>) -> PyResult<()> {
        let progress = self.with_future(|future| match &future.progress {
            Progress::Pending => Progress::Pending,
            Progress::Woken => Progress::Woken,
            Progress::Cancelled(message) => {
                Progress::Cancelled(message.as_ref().map(|message| message.clone_ref(py)))
            }
        });
        match progress {
            None | Some(Progress::Woken) => Ok(()),
            Some(Progress::Pending) => Err(invalid_state(py)?),
            Some(Progress::Cancelled(message)) => Err(cancelled(py, message)?),
        }
    }

    fn exception(&self, py: Python<'_>) -> PyResult<()> {
        self.result(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(state) = self.state.try_lock()
            && let State::Waiting(waiting) = &*state
        {
            visit.call(&waiting.event_loop)?;
            if let Progress::Cancelled(message) = &waiting.progress {
                visit.call(message)?;
            }
            for callback in &waiting.callbacks {
                visit.call(&callback.function)?;
                visit.call(&callback.context)?;
            }
        }
        Ok(())
    }
}

/// Wakes the task that awaits.
struct Alarm {
    awaitable: Py<Awaitable>,
    /// Another event loop than the application's, if it is one of those that waits.
    elsewhere: Option<Py<PyAny>>,
    handle: LoopHandle,
}

impl Alarm {
    fn call(&self, py: Python<'_>, event_loop: &Py<PyAny>) -> PyResult<()> {
        let wake = pyo3::wrap_pyfunction!(wake_awaitable, py)?;
        let call = intern!(py, "call_soon_threadsafe");
        event_loop.bind(py).call_method1(call, (wake, &self.awaitable))?;
        Ok(())
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        match &self.elsewhere {
            None => {
                let handle = self.handle.clone();
                handle.defer(self);
            }
            Some(event_loop) => Python::attach(|py| {
                if let Err(error) = self.call(py, event_loop) {
                    // The loop was closed under the waiting task.
                    log::debug!("could not wake a task: {error}");
                }
            }),
        }
    }
}

impl Deferred for Alarm {
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        Awaitable::wake(self.awaitable.bind(py))
    }
}

#[pyfunction]
fn wake_awaitable(awaitable: &Bound<'_, Awaitable>) -> PyResult<()> {
    Awaitable::wake(awaitable)
}

fn cancelled(py: Python<'_>, message: Option<Py<PyAny>>) -> PyResult<PyErr> {
    static CANCELLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let kind = CANCELLED.import(py, "asyncio", "CancelledError")?;
    let error = match message {
        Some(message) => kind.call1((message,))?,
        None => kind.call0()?,
    };
    Ok(PyErr::from_value(error))
}

fn invalid_state(py: Python<'_>) -> PyResult<PyErr> {
    static INVALID: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let kind = INVALID.import(py, "asyncio", "InvalidStateError")?;
    Ok(PyErr::from_value(kind.call1(("it is still waiting",))?))
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
