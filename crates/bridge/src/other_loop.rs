//! Serving beside an event loop that is not rsgi's: plain asyncio's, uvloop's, Jupyter's.
//!
//! ```text
//! the program's thread                          thread `rsgi-io`
//! the loop, with the application's tasks   ◄──  connections, timers, drain: tokio
//!           `call_soon_threadsafe`: start this call, this future has a result
//!                                          ──►  a waker: something was sent, there is room again
//! ```
//!
//! `receive` and `send` act on the exchange from the loop's thread, as they do on rsgi's loop, and
//! how a future is resolved from another thread is `awaitable`'s to know. Owns: the thread, and how
//! a call of the application gets onto the loop. Must not know: what is called, and why.
//! (docs/decisions/0010 says why no crate does this.)

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Builder;

use crate::reactor::ParkHooks;
use crate::tasks::{End, OnEnd, Queued, Tasks, leaves_the_loop, to_coroutine};

/// Somebody else's event loop.
pub(crate) struct OtherLoop {
    event_loop: Py<PyAny>,
    /// What `serve()` was awaited in; each call of the application gets a copy.
    context: Py<PyAny>,
    /// Called where the loop cannot be reached any more.
    on_lost: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for OtherLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtherLoop").field("event_loop", &self.event_loop).finish_non_exhaustive()
    }
}

/// A call of the application that the loop has not begun.
pub(crate) struct Call {
    pub(crate) callable: Py<PyAny>,
    pub(crate) arguments: (Py<PyDict>, Py<PyAny>, Py<PyAny>),
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) on_end: Box<dyn OnEnd>,
}

impl OtherLoop {
    /// The loop that the calling thread runs, and the context it is in.
    pub(crate) fn new(
        event_loop: &Bound<'_, PyAny>,
        on_lost: impl Fn() + Send + Sync + 'static,
    ) -> PyResult<Self> {
        let context = event_loop.py().import("contextvars")?.call_method0("copy_context")?;
        Ok(Self {
            event_loop: event_loop.clone().unbind(),
            context: context.unbind(),
            on_lost: Box::new(on_lost),
        })
    }

    /// Makes the call in the loop's thread, soon. From any thread.
    pub(crate) fn start(&self, py: Python<'_>, call: Call) {
        let queued = call.tasks.queue();
        let step = FirstStep { waiting: Mutex::new(Some((call, queued))) };
        if let Err(error) = self.call_soon(py, step) {
            log::error!("the event loop cannot be reached: {error}");
            (self.on_lost)();
        }
    }

    fn call_soon(&self, py: Python<'_>, step: FirstStep) -> PyResult<()> {
        let context = self.context.bind(py).call_method0(intern!(py, "copy"))?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        let name = intern!(py, "call_soon_threadsafe");
        self.event_loop.bind(py).call_method(name, (step,), Some(&keywords))?;
        Ok(())
    }
}

/// The callback that makes a [`Call`].
#[pyclass(frozen, module = "rsgi._native")]
pub struct FirstStep {
    waiting: Mutex<Option<(Call, Queued)>>,
}

impl fmt::Debug for FirstStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstStep").finish_non_exhaustive()
    }
}

impl FirstStep {
    fn take(&self) -> Option<(Call, Queued)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl FirstStep {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some((Call { callable, arguments, tasks, on_end }, queued)) = self.take() else {
            return Ok(());
        };
        let called = callable.bind(py).call1(arguments).and_then(to_coroutine);
        let left = match called {
            Ok(coroutine) => tasks.start(py, coroutine, on_end),
            Err(error) if leaves_the_loop(py, &error) => {
                on_end.ended(py, End::Cancelled);
                Err(error)
            }
            Err(error) => {
                on_end.ended(py, End::Raised(error));
                Ok(())
            }
        };
        // Not before the task is known: a drain waits for one of the two.
        drop(queued);
        left
    }
}

impl Drop for FirstStep {
    fn drop(&mut self) {
        // The loop was closed before it got here.
        if let Some((call, queued)) = self.take() {
            Python::attach(|py| call.on_end.ended(py, End::Cancelled));
            drop(queued);
        }
    }
}

/// Runs `life` on a tokio runtime in a thread of its own, and then `after` without one.
pub(crate) fn run_beside(
    life: impl Future<Output = ()> + Send + 'static,
    hooks: Arc<dyn ParkHooks>,
    after: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (parking, waking) = (Arc::clone(&hooks), hooks);
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(move || parking.before_park())
        .on_thread_unpark(move || waking.after_park())
        .build()?;
    thread::Builder::new().name("rsgi-io".to_owned()).spawn(move || {
        // As a task, so that a panic ends it and not the thread.
        if let Err(error) = runtime.block_on(async { tokio::spawn(life).await }) {
            log::error!("the server has ended: {error}");
        }
        drop(runtime);
        after();
    })
}
