//! The server's end as something that the program's loop can await, by way of pyo3-async-runtimes.
//!
//! Owns: what that crate needs of a runtime, and what it sees of the loop. Requests do not come by
//! here; docs/decisions/0015 says why. What is made here is not to be cancelled: a future that is
//! cancelled is over at once, and a stop takes its time.

use std::any::Any;
use std::fmt;
use std::future::{Future, ready};
use std::io;
use std::pin::Pin;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3_async_runtimes::TaskLocals;
use pyo3_async_runtimes::generic::{
    ContextExt, JoinError, Runtime as Spawner, future_into_py_with_locals,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// The thread's side: it says what has become of the server.
pub(super) struct Ending {
    said: oneshot::Sender<PyResult<()>>,
    /// Drives nothing but the way from there to the loop: the server's own runtime, with all that is
    /// left on it, has ended by then.
    runtime: Runtime,
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").finish_non_exhaustive()
    }
}

impl Ending {
    /// With the future of `event_loop` that gets what is said. From the loop's thread.
    pub(super) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<(Self, Py<PyAny>)> {
        let py = event_loop.py();
        let runtime = Builder::new_current_thread().build()?;
        let (said, heard) = oneshot::channel();
        let heard = async {
            let lost = io::Error::from(io::ErrorKind::BrokenPipe);
            heard.await.unwrap_or_else(|_| Err(lost.into()))
        };
        let seen = Bound::new(py, SeenLoop { event_loop: event_loop.clone().unbind() })?;
        let entered = runtime.enter();
        let locals = TaskLocals::new(seen.into_any());
        let future = future_into_py_with_locals::<Entered, _, _>(py, locals, heard)?.unbind();
        drop(entered);
        Ok((Self { said, runtime }, future))
    }

    /// Settles the loop's future. From any thread that is not attached.
    pub(super) fn say(self, outcome: PyResult<()>) {
        let Self { said, runtime } = self;
        // The other end is in a task of the runtime.
        if said.send(outcome).is_err() {
            log::debug!("nobody waits for the end");
        }
        // None of its tasks waits for anything any more.
        while runtime.metrics().num_alive_tasks() > 0 {
            runtime.block_on(yield_now());
        }
    }
}

/// The runtime that the calling thread is in, as the crate wants one. It has no static one here: a
/// server's ends with the server.
struct Entered;

impl Spawner for Entered {
    type JoinError = Failed;
    type JoinHandle = Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>;

    fn spawn<F: Future<Output = ()> + Send + 'static>(future: F) -> Self::JoinHandle {
        let handle = Handle::current().spawn(future);
        Box::pin(async { handle.await.map_err(Failed) })
    }

    /// Here and now. What the crate hands over takes the interpreter, and this thread has nothing
    /// left to be kept from.
    fn spawn_blocking<F: FnOnce() + Send + 'static>(function: F) -> Self::JoinHandle {
        function();
        Box::pin(ready(Ok(())))
    }
}

impl ContextExt for Entered {
    /// Nothing within asks for the loop.
    fn scope<F, R>(_: TaskLocals, future: F) -> Pin<Box<dyn Future<Output = R> + Send>>
    where
        F: Future<Output = R> + Send + 'static,
    {
        Box::pin(future)
    }

    fn get_task_locals() -> Option<TaskLocals> {
        None
    }
}

/// Why a task has no result.
struct Failed(tokio::task::JoinError);

impl JoinError for Failed {
    fn is_panic(&self) -> bool {
        self.0.is_panic()
    }

    fn into_panic(self) -> Box<dyn Any + Send + 'static> {
        self.0.into_panic()
    }
}

/// A loop as the crate sees it. One that was closed with a server on it is no error: nobody waits.
#[pyclass(frozen, module = "rsgi._native")]
struct SeenLoop {
    event_loop: Py<PyAny>,
}

#[pymethods]
impl SeenLoop {
    fn create_future<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop.bind(py).call_method0(intern!(py, "create_future"))
    }

    #[pyo3(signature = (*arguments, **keywords))]
    fn call_soon_threadsafe(
        &self,
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let py = arguments.py();
        let name = intern!(py, "call_soon_threadsafe");
        match self.event_loop.bind(py).call_method(name, arguments, keywords) {
            Err(error) if error.is_instance_of::<PyRuntimeError>(py) => {
                log::debug!("the event loop has been closed: {error}");
                Ok(())
            }
            called => called.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn new_loop(py: Python<'_>) -> Bound<'_, PyAny> {
        py.import("asyncio").unwrap().call_method0("new_event_loop").unwrap()
    }

    /// What a loop gets that waits while a thread says it.
    fn heard(outcome: impl FnOnce(Ending) + Send + 'static) -> PyResult<()> {
        Python::attach(|py| {
            let event_loop = new_loop(py);
            let (ending, future) = Ending::new(&event_loop)?;
            let thread = thread::spawn(move || outcome(ending));
            let result = event_loop.call_method1("run_until_complete", (future,));
            py.detach(|| thread.join()).unwrap();
            event_loop.call_method0("close")?;
            result.map(drop)
        })
    }

    #[test]
    fn the_loop_hears_what_is_said() {
        heard(|ending| ending.say(Ok(()))).unwrap();
        let error = heard(|ending| ending.say(Err(PyRuntimeError::new_err("worse")))).unwrap_err();
        assert_eq!(error.to_string(), "RuntimeError: worse");
    }

    #[test]
    fn a_loop_that_is_closed_or_has_cancelled_its_future_is_left_alone() {
        let cancelled = Python::attach(|py| {
            let event_loop = new_loop(py);
            let (ending, future) = Ending::new(&event_loop).unwrap();
            future.call_method0(py, "cancel").unwrap();
            (ending, event_loop.unbind())
        });
        cancelled.0.say(Ok(()));
        let (ending, future) = Python::attach(|py| {
            let event_loop = new_loop(py);
            let (ending, future) = Ending::new(&event_loop).unwrap();
            event_loop.call_method0("close").unwrap();
            cancelled.1.call_method0(py, "close").unwrap();
            (ending, future)
        });
        ending.say(Ok(()));
        Python::attach(|py| {
            assert!(!future.call_method0(py, "done").unwrap().is_truthy(py).unwrap());
        });
    }
}
