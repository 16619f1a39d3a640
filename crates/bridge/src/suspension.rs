//! What a task is suspended on while it waits for a message.
//!
//! An `asyncio.Future`, which asyncio's tasks know without looking up anything by its name. It never has a
//! result: whatever wakes the task takes its wake-up out of the future and calls it within `select()`, where
//! the message that ends the wait has come from ([`Reactor::defer`](crate::reactor::Reactor::defer)). So the
//! event loop's queue is not needed, and the next wait finds the future as this one did.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyList};

use crate::ffi::{native_function, run_in};
use crate::other_loop::LoopHandle;
use crate::reactor::Deferred;

/// The future of one wait after another, and the waker that ends them.
pub(crate) struct Suspension {
    future: Py<PyAny>,
    event_loop: Py<PyAny>,
    handle: LoopHandle,
    /// Whether the loop is another one than the application's.
    is_elsewhere: bool,
    is_woken: AtomicBool,
    /// Whether the future has got a result for once.
    is_spent: AtomicBool,
    /// How the task goes on that has waited last.
    wakeup: Mutex<Option<Wakeup>>,
}

/// What a task has left with a future.
struct Wakeup {
    function: Py<PyAny>,
    context: Py<PyAny>,
}

impl Suspension {
    /// For tasks of `event_loop`; `handle` is how the application's is reached.
    pub(crate) fn new(event_loop: Bound<'_, PyAny>, handle: LoopHandle) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "loop"), &event_loop)?;
        let future = Asyncio::get(py)?.future.bind(py).call((), Some(&keywords))?;
        Ok(Arc::new(Self {
            future: future.unbind(),
            is_elsewhere: !handle.drives(&event_loop),
            event_loop: event_loop.unbind(),
            handle,
            is_woken: AtomicBool::new(false),
            is_spent: AtomicBool::new(false),
            wakeup: Mutex::new(None),
        }))
    }

    /// Whether a task of `event_loop` can wait here.
    pub(crate) fn serves(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.event_loop.is(event_loop) && !self.is_spent.load(Ordering::Relaxed)
    }

    /// Begins a wait: what woke the one before is over.
    pub(crate) fn begin(&self) {
        self.is_woken.store(false, Ordering::Relaxed);
    }

    /// Whether the wait has ended.
    pub(crate) fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Relaxed)
    }

    /// The future, for a coroutine to yield to its task.
    pub(crate) fn future(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // How a task tells `await future` from a future that is yielded by mistake.
        self.future.bind(py).setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok(self.future.clone_ref(py))
    }

    /// Whether the future of a wait that is over serves the next one. From Python 3.14 on, a future keeps a
    /// list of who awaits it, from which only what it calls by itself is taken.
    pub(crate) fn serves_again(py: Python<'_>) -> bool {
        Asyncio::get(py).is_ok_and(|asyncio| asyncio.is_forgetful)
    }

    pub(crate) fn traverse(self: &Arc<Self>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What also waits to be woken is held by more than the collector knows of.
        if Arc::strong_count(self) > 1 {
            return Ok(());
        }
        visit.call(&self.future)?;
        visit.call(&self.event_loop)?;
        if let Ok(wakeup) = self.wakeup.try_lock()
            && let Some(wakeup) = &*wakeup
        {
            visit.call(&wakeup.function)?;
            visit.call(&wakeup.context)?;
        }
        Ok(())
    }

    fn wakeup(&self) -> MutexGuard<'_, Option<Wakeup>> {
        self.wakeup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something now: runs the task that waits. In the thread of its loop.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.is_woken.store(true, Ordering::Relaxed);
        let future = self.future.bind(py);
        // Most often it is the same task that waits. Nothing is held while Python code runs.
        let known = self.wakeup().take();
        if let Some(wakeup) = known
            && wakeup.leave(future)?
        {
            return self.go_on(py, wakeup);
        }
        let callbacks = future.getattr(intern!(py, "_callbacks"))?;
        let Some(callbacks) = callbacks.cast::<PyList>().ok().filter(|list| !list.is_empty())
        else {
            // Nobody waits any more; a cancellation is on its way through the loop's queue.
            return Ok(());
        };
        if let Some(wakeup) = Wakeup::alone(callbacks)?
            && wakeup.leave(future)?
        {
            return self.go_on(py, wakeup);
        }
        // A task that is not asyncio's own is woken as by any other future.
        self.is_spent.store(true, Ordering::Relaxed);
        future.call_method1(intern!(py, "set_result"), (py.None(),))?;
        Ok(())
    }

    fn go_on(&self, py: Python<'_>, wakeup: Wakeup) -> PyResult<()> {
        let done = Asyncio::get(py)?.done.bind(py);
        run_in(wakeup.context.bind(py), wakeup.function.bind(py), done)?;
        let before = self.wakeup().replace(wakeup);
        drop(before);
        Ok(())
    }

    /// Has another loop's thread run the task.
    fn call_elsewhere(self: Arc<Self>, py: Python<'_>) -> PyResult<()> {
        let event_loop = self.event_loop.clone_ref(py);
        let resume = PyCFunction::new_closure(py, None, None, move |arguments, _| {
            self.resume(arguments.py())
        })?;
        event_loop.call_method1(py, intern!(py, "call_soon_threadsafe"), (resume,))?;
        Ok(())
    }
}

impl Wake for Suspension {
    fn wake(self: Arc<Self>) {
        if !self.is_elsewhere {
            let handle = self.handle.clone();
            return handle.defer(self);
        }
        Python::attach(|py| {
            if let Err(error) = self.call_elsewhere(py) {
                // The loop was closed under the waiting task.
                log::debug!("could not wake a task: {error}");
            }
        });
    }
}

impl Deferred for Suspension {
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        self.resume(py)
    }
}

impl Wakeup {
    /// The wake-up of one of asyncio's tasks, if that is all there is.
    fn alone(callbacks: &Bound<'_, PyList>) -> PyResult<Option<Self>> {
        if callbacks.len() != 1 {
            return Ok(None);
        }
        let (function, context): (Bound<'_, PyAny>, Bound<'_, PyAny>) =
            callbacks.get_item(0)?.extract()?;
        let is_known = is_task_wakeup(&function)?;
        Ok(is_known.then(|| Self { function: function.unbind(), context: context.unbind() }))
    }

    /// Takes it out of the future; `false` if another one is there.
    fn leave(&self, future: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = future.py();
        let removed = Asyncio::get(py)?.remove.bind(py).call1((future, &self.function))?;
        removed.is_truthy()
    }
}

/// Whether this is how the tasks that are written in C go on. Only those take any future that is done for
/// the one they wait for: all they want to know of it is whether it has failed.
fn is_task_wakeup(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    static ADDRESS: AtomicUsize = AtomicUsize::new(0);
    let Some(address) = native_function(function) else {
        return Ok(false);
    };
    if ADDRESS.load(Ordering::Relaxed) == address {
        return Ok(true);
    }
    let py = function.py();
    let is_one = function.getattr(intern!(py, "__name__"))?.eq("task_wakeup")?
        && function
            .getattr(intern!(py, "__self__"))?
            .is_instance(Asyncio::get(py)?.task.bind(py))?;
    if is_one {
        ADDRESS.store(address, Ordering::Relaxed);
    }
    Ok(is_one)
}

/// What is needed of asyncio.
struct Asyncio {
    future: Py<PyAny>,
    task: Py<PyAny>,
    /// `Future.remove_done_callback`.
    remove: Py<PyAny>,
    /// A future with the result `None`.
    done: Py<PyAny>,
    is_forgetful: bool,
}

impl Asyncio {
    fn get(py: Python<'_>) -> PyResult<&'static Self> {
        static ASYNCIO: PyOnceLock<Asyncio> = PyOnceLock::new();
        ASYNCIO.get_or_try_init(py, || Self::new(py))
    }

    fn new(py: Python<'_>) -> PyResult<Self> {
        let asyncio = py.import("asyncio")?;
        let future = asyncio.getattr("Future")?;
        // All it ever asks its loop is whether that is being debugged. No real one is kept alive.
        let fields = PyDict::new(py);
        fields.set_item("get_debug", py.get_type::<pyo3::types::PyBool>())?;
        let no_loop = py.import("types")?.getattr("SimpleNamespace")?.call((), Some(&fields))?;
        let keywords = PyDict::new(py);
        keywords.set_item("loop", no_loop)?;
        let done = future.call((), Some(&keywords))?;
        done.call_method1("set_result", (py.None(),))?;
        Ok(Self {
            remove: future.getattr("remove_done_callback")?.unbind(),
            future: future.unbind(),
            task: asyncio.getattr("Task")?.unbind(),
            done: done.unbind(),
            is_forgetful: py.version_info() < (3, 14),
        })
    }
}
