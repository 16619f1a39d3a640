//! Serving beside an event loop that is not rsgi's: plain asyncio's, uvloop's, Jupyter's.
//!
//! ```text
//! the program's thread                          thread `rsgi-io`
//! the loop, with the application's tasks   ◄──  connections, timers, drain: tokio
//!           [`Mailbox`]: begin this call, this future has a result, cancel this task
//!                                          ──►  a waker: something was sent, there is room again
//! ```
//!
//! `receive` and `send` act on the exchange from the loop's thread, as they do on rsgi's loop. The
//! other thread does not touch Python for a request: it would wait for the interpreter, five
//! milliseconds each time the program is busy. Owns: the thread, and how things get onto the loop.
//! Must not know: what the calls are about. The server's end becomes a future of the loop's by way of
//! pyo3-async-runtimes; docs/decisions/0015 says why requests do not go that way.

mod call;
mod ending;
mod mailbox;

use std::future::Future;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::{Builder, Handle};

pub(crate) use self::call::{FirstStep, Head, Job, LaterScope};
use self::ending::Ending;
use self::mailbox::Reader;
pub(crate) use self::mailbox::{Letter, Mailbox};
use crate::errors;
use crate::reactor::{Deferred, ParkHooks, Reactor};
use crate::tasks::Queued;

/// How what happens outside of Python reaches the event loop.
#[derive(Debug, Clone)]
pub(crate) enum LoopHandle {
    /// rsgi's own, whose turn ends once there is something for it.
    Own(Arc<Reactor>),
    /// Another one, in another thread.
    Other(Arc<Mailbox>),
}

impl LoopHandle {
    /// Whether it is this loop.
    pub(crate) fn drives(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        match self {
            Self::Own(reactor) => reactor.drives(event_loop),
            Self::Other(mailbox) => mailbox.belongs_to(event_loop),
        }
    }

    /// Has `deferred` run by the loop's thread, soon. From any thread.
    pub(crate) fn defer(&self, deferred: Arc<dyn Deferred>) {
        match self {
            Self::Own(reactor) => reactor.defer(deferred),
            Self::Other(mailbox) => mailbox.post(Letter::Run(deferred)),
        }
    }

    /// Where tokio's tasks are spawned; `None` once that is over.
    pub(crate) fn runtime(&self) -> Option<Handle> {
        match self {
            Self::Own(reactor) => reactor.handle(),
            Self::Other(mailbox) => mailbox.runtime(),
        }
    }

    /// Something has been done to the loop from its own thread.
    pub(crate) fn changed(&self) {
        if let Self::Own(reactor) = self {
            reactor.wake();
        }
    }
}

/// Somebody else's event loop.
#[derive(Debug)]
pub(crate) struct OtherLoop {
    event_loop: Py<PyAny>,
    /// What `serve()` was awaited in; each call of the application gets a copy.
    context: Py<PyAny>,
    pub(crate) mailbox: Arc<Mailbox>,
}

impl OtherLoop {
    /// The loop that the calling thread runs, and the context it is in. It reads its mailbox from
    /// now on.
    pub(crate) fn new(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<Self>> {
        let py = event_loop.py();
        let context = py.import("contextvars")?.call_method0("copy_context")?;
        let mailbox = Arc::new(Mailbox::new(event_loop)?);
        let this = Arc::new(Self {
            event_loop: event_loop.clone().unbind(),
            context: context.unbind(),
            mailbox: Arc::clone(&mailbox),
        });
        let number = mailbox.number();
        event_loop.call_method1("add_reader", (number, Reader::new(mailbox)))?;
        Ok(this)
    }

    /// Makes a call in the loop's thread, soon. From any thread, attached or not.
    pub(crate) fn begin(self: &Arc<Self>, job: Box<dyn Job>, queued: Queued) {
        let letter = Letter::Begin(Arc::clone(self), FirstStep::new(job, queued));
        self.mailbox.post(letter);
    }

    fn call_soon(&self, py: Python<'_>, step: FirstStep) -> PyResult<()> {
        let context = self.context.bind(py).call_method0(intern!(py, "copy"))?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), context)?;
        let event_loop = self.event_loop.bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (step,), Some(&keywords))?;
        Ok(())
    }

    /// Reads the mailbox no more. From the loop's thread.
    fn close(&self, py: Python<'_>) {
        let number = self.mailbox.number();
        if let Err(error) = self.event_loop.bind(py).call_method1("remove_reader", (number,)) {
            log::debug!("the event loop has been closed: {error}");
        }
    }
}

/// The thread beside a loop.
#[derive(Debug)]
pub(crate) struct Beside {
    thread: JoinHandle<()>,
    event_loop: Arc<OtherLoop>,
}

impl Beside {
    /// Runs `life` on a tokio runtime in a thread of its own. Gives the loop's future that is settled
    /// once that runtime has ended.
    pub(crate) fn start(
        py: Python<'_>,
        event_loop: Arc<OtherLoop>,
        life: impl Future<Output = ()> + Send + 'static,
        hooks: Arc<dyn ParkHooks>,
    ) -> PyResult<(Self, Py<PyAny>)> {
        let (parking, waking) = (Arc::clone(&hooks), hooks);
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .on_thread_park(move || parking.before_park())
            .on_thread_unpark(move || waking.after_park())
            .build()?;
        let (ending, ended) = Ending::new(event_loop.event_loop.bind(py))?;
        let mailbox = Arc::clone(&event_loop.mailbox);
        mailbox.set_runtime(Some(runtime.handle().clone()));
        let thread = thread::Builder::new().name("rsgi-io".to_owned()).spawn(move || {
            // As a task, so that a panic ends it and not the thread.
            let over = runtime.block_on(async { tokio::spawn(life).await });
            mailbox.set_runtime(None);
            drop(mailbox);
            drop(runtime);
            ending.say(over.map_err(|error| {
                log::error!("the server has ended: {error}");
                errors::from_join(&error)
            }));
        })?;
        Ok((Self { thread, event_loop }, ended))
    }

    /// Waits for the thread, which is at its end. From the loop's thread.
    pub(crate) fn join(self, py: Python<'_>) {
        self.event_loop.close(py);
        if py.detach(|| self.thread.join()).is_err() {
            log::error!("the thread of the connections has panicked");
        }
    }
}
