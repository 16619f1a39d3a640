//! Starting coroutines as asyncio tasks, and keeping the ones that have not ended.
//!
//! asyncio itself only holds weak references to tasks. What is kept here is also what a shutdown
//! waits for, and what it cancels at its deadline.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTypeInfo, intern};
use slab::Slab;
use tokio::sync::Notify;

use crate::other_loop::{Letter, LoopHandle};

/// Starts tasks on one event loop.
#[derive(Debug)]
pub(crate) struct Tasks {
    event_loop: Py<PyAny>,
    handle: LoopHandle,
    /// `None` before Python 3.12, and where the loop makes the tasks: another one, or for a context.
    eager: Option<Eager>,
    /// `contextvars.Context`, where each task has an empty one.
    fresh: Option<Py<PyAny>>,
    running: Arc<Running>,
}

/// `asyncio.Task`, for an eager start. Looked up once: every request needs all of it.
#[derive(Debug)]
struct Eager {
    class: Py<PyAny>,
    keywords: Py<PyDict>,
    done: Py<PyAny>,
    exception: Py<PyAny>,
}

/// Tasks that have not ended.
#[derive(Debug, Default)]
struct Running {
    tasks: Mutex<Slab<Py<PyAny>>>,
    /// Calls that will become tasks.
    queued: AtomicUsize,
    emptied: Notify,
}

/// A call that will become a task; as long as it lives, the tasks count as running.
#[derive(Debug)]
pub(crate) struct Queued(Arc<Running>);

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::AcqRel);
        self.0.emptied.notify_waiters();
    }
}

/// How a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It returned.
    Returned,
    /// It raised this.
    Raised(PyErr),
    /// It was cancelled.
    Cancelled,
}

/// What is told about a task's end.
pub(crate) trait OnEnd: Send + Sync + 'static {
    /// The task has ended.
    fn ended(&self, py: Python<'_>, end: End);
}

impl Tasks {
    pub(crate) fn new(
        py: Python<'_>,
        event_loop: Bound<'_, PyAny>,
        handle: LoopHandle,
    ) -> PyResult<Self> {
        let is_own = matches!(handle, LoopHandle::Own(_));
        let is_eager = is_own && py.version_info() >= (3, 12);
        let eager = is_eager.then(|| Eager::new(&event_loop)).transpose()?;
        let event_loop = event_loop.unbind();
        Ok(Self { event_loop, handle, eager, fresh: None, running: Arc::default() })
    }

    /// The same, with an empty context for each task in place of a copy of the current one.
    pub(crate) fn in_fresh_contexts(self, py: Python<'_>) -> PyResult<Self> {
        let class = py.import("contextvars")?.getattr("Context")?;
        Ok(Self { eager: None, fresh: Some(class.unbind()), ..self })
    }

    /// Announces a call that will become one of these tasks.
    pub(crate) fn queue(&self) -> Queued {
        self.running.queued.fetch_add(1, Ordering::AcqRel);
        Queued(Arc::clone(&self.running))
    }

    /// Runs `coroutine` as a task in a copy of the current context; `on_end` is called once it has
    /// ended, perhaps before this returns. An error is the interpreter's own
    /// (`KeyboardInterrupt`, `SystemExit`) and has to leave the event loop; `on_end` has then
    /// been called, too. Returns the task's number, if it has not ended.
    pub(crate) fn start(
        &self,
        py: Python<'_>,
        coroutine: Bound<'_, PyAny>,
        on_end: impl OnEnd,
    ) -> PyResult<Option<usize>> {
        let created = match self.eager() {
            Some(eager) => eager.start(py, &coroutine),
            None => self.create(py, &coroutine),
        };
        let task = match created {
            Ok((task, None)) => task,
            Ok((_, Some(end))) => {
                on_end.ended(py, end);
                return Ok(None);
            }
            Err(error) => {
                on_end.ended(py, End::Cancelled);
                return Err(error);
            }
        };
        let key = self.running.lock().insert(task.clone().unbind());
        let callback =
            TaskEnd { running: Arc::clone(&self.running), key, on_end: Box::new(on_end) };
        task.call_method1(intern!(py, "add_done_callback"), (callback,))?;
        Ok(Some(key))
    }

    /// How tasks are started here, unless somebody else makes them.
    fn eager(&self) -> Option<&Eager> {
        match &self.handle {
            LoopHandle::Own(reactor) if !reactor.has_task_factory() => self.eager.as_ref(),
            LoopHandle::Own(_) | LoopHandle::Other(_) => None,
        }
    }

    /// Has the event loop make a task. Returns how it ended, if it has.
    fn create<'py>(
        &self,
        py: Python<'py>,
        coroutine: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<End>)> {
        let event_loop = self.event_loop.bind(py);
        let keywords = self.fresh.as_ref().map(|class| {
            let keywords = PyDict::new(py);
            keywords.set_item(intern!(py, "context"), class.bind(py).call0()?)?;
            Ok::<_, PyErr>(keywords)
        });
        let keywords = keywords.transpose()?;
        let name = intern!(py, "create_task");
        let task = event_loop.call_method(name, (coroutine,), keywords.as_ref())?;
        let is_done = task.call_method0(intern!(py, "done"))?.is_truthy()?;
        let end = is_done.then(|| end_of(&task));
        Ok((task, end))
    }

    /// How many tasks have not ended.
    pub(crate) fn count(&self) -> usize {
        self.running.lock().len()
    }

    /// Cancels every task that has not ended.
    pub(crate) fn cancel_all(&self, py: Python<'_>) {
        let tasks: Vec<_> =
            self.running.lock().iter().map(|(_, task)| task.clone_ref(py)).collect();
        for task in tasks {
            self.cancel_task(task.bind(py));
        }
        self.handle.changed();
    }

    /// Cancels the task with this number, if it has not ended.
    pub(crate) fn cancel(&self, py: Python<'_>, number: usize) {
        let task = self.running.lock().get(number).map(|task| task.clone_ref(py));
        if let Some(task) = task {
            self.cancel_task(task.bind(py));
            self.handle.changed();
        }
    }

    fn cancel_task(&self, task: &Bound<'_, PyAny>) {
        match &self.handle {
            LoopHandle::Own(_) => cancel(task),
            // It is the other thread's.
            LoopHandle::Other(mailbox) => mailbox.post(Letter::Cancel(task.clone().unbind())),
        }
    }

    /// Waits until every task has ended.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.running.emptied.notified();
            // In this order: a call becomes a task before it stops being queued.
            if self.running.queued.load(Ordering::Acquire) == 0 && self.running.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Eager {
    fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = event_loop.py();
        let keywords = PyDict::new(py);
        keywords.set_item("loop", event_loop)?;
        keywords.set_item("eager_start", true)?;
        let class = py.import("asyncio")?.getattr("Task")?;
        Ok(Self {
            keywords: keywords.unbind(),
            done: class.getattr("done")?.unbind(),
            exception: class.getattr("exception")?.unbind(),
            class: class.unbind(),
        })
    }

    /// Runs `coroutine` to its first wait. Returns how the task ended, if it has.
    fn start<'py>(
        &self,
        py: Python<'py>,
        coroutine: &Bound<'py, PyAny>,
    ) -> PyResult<(Bound<'py, PyAny>, Option<End>)> {
        let task = self.class.bind(py).call((coroutine,), Some(self.keywords.bind(py)))?;
        let is_done = self.done.bind(py).call1((&task,))?.is_truthy()?;
        let end = is_done.then(|| to_end(self.exception.bind(py).call1((&task,))));
        Ok((task, end))
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Slab<Py<PyAny>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's done callback.
#[pyclass(frozen, module = "rsgi._native")]
pub struct TaskEnd {
    running: Arc<Running>,
    key: usize,
    on_end: Box<dyn OnEnd>,
}

impl std::fmt::Debug for TaskEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskEnd").field("key", &self.key).finish_non_exhaustive()
    }
}

#[pymethods]
impl TaskEnd {
    fn __call__(&self, task: &Bound<'_, PyAny>) {
        let mut tasks = self.running.lock();
        let kept = tasks.try_remove(self.key);
        let is_empty = tasks.is_empty();
        drop(tasks);
        self.on_end.ended(task.py(), end_of(task));
        if is_empty {
            self.running.emptied.notify_waiters();
        }
        drop(kept);
    }
}

fn cancel(task: &Bound<'_, PyAny>) {
    if let Err(error) = task.call_method0(intern!(task.py(), "cancel")) {
        log::error!("could not cancel a task: {error}");
    }
}

/// How a task that is done ended. Marks its exception as seen.
fn end_of(task: &Bound<'_, PyAny>) -> End {
    to_end(task.call_method0(intern!(task.py(), "exception")))
}

/// What `task.exception()` tells.
fn to_end(exception: PyResult<Bound<'_, PyAny>>) -> End {
    match exception {
        Ok(none) if none.is_none() => End::Returned,
        Ok(error) => match error.cast_into::<PyBaseException>() {
            Ok(error) => End::Raised(PyErr::from_value(error.into_any())),
            Err(_) => End::Returned,
        },
        Err(_) => End::Cancelled,
    }
}

/// `object` itself if it is a coroutine, otherwise a coroutine that awaits it. ASGI only asks for
/// an awaitable.
pub(crate) fn to_coroutine(object: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    static COROUTINE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static WRAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let coroutine = COROUTINE.import(py, "types", "CoroutineType")?;
    if object.get_type().is(coroutine) {
        return Ok(object);
    }
    WRAP.import(py, "rsgi._event_loop", "await_it")?.call1((object,))
}

/// Whether the exception is one that asyncio lets through to `run_forever`.
pub(crate) fn leaves_the_loop(py: Python<'_>, error: &PyErr) -> bool {
    let kind = error.get_type(py);
    kind.is_subclass(&pyo3::exceptions::PyKeyboardInterrupt::type_object(py)).unwrap_or(false)
        || kind.is_subclass(&pyo3::exceptions::PySystemExit::type_object(py)).unwrap_or(false)
}
