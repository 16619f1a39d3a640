//! Running an application's lifespan (ASGI lifespan 2.0). Which message means what is
//! `protocol::lifespan`'s to say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_protocol::lifespan::{
    Lifespan, LifespanExit, LifespanFailure, LifespanMessage, LifespanMode, LifespanOutcome,
    ShutdownOutcome, StartupOutcome,
};
use tokio::sync::Notify;

use crate::app::PyApp;
use crate::awaitable::{Awaitable, Done, Operation};
use crate::message::Message;
use crate::other_loop::LoopHandle;
use crate::scope::lifespan_scope;
use crate::tasks::{End, OnEnd, Tasks};
use crate::{errors, logging};

/// The lifespan of one worker's application.
#[derive(Debug, Clone)]
pub(crate) struct LifespanRun {
    channel: Arc<Channel>,
    /// Apart from the requests' tasks: it runs as long as the worker does.
    tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Channel {
    state: Mutex<State>,
    changed: Notify,
    handle: LoopHandle,
    /// A startup that fails is told by the supervisor, to browsers, too.
    is_development: bool,
}

#[derive(Debug)]
struct State {
    /// `None` where the application is not called.
    machine: Option<Lifespan>,
    /// Events that the application has not received.
    events: Vec<Event>,
    receivers: Vec<Waker>,
    startup: Option<StartupOutcome>,
    shutdown: Option<ShutdownOutcome>,
    is_over: bool,
    /// Of the exception that startup ended with, in development.
    traceback: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Startup,
    Shutdown,
}

impl LifespanRun {
    pub(crate) fn new(
        mode: LifespanMode,
        handle: LoopHandle,
        tasks: Tasks,
        is_development: bool,
    ) -> Self {
        Self {
            tasks: Arc::new(tasks),
            channel: Arc::new(Channel {
                state: Mutex::new(State {
                    machine: Lifespan::new(mode),
                    events: vec![Event::Startup],
                    receivers: Vec::new(),
                    startup: None,
                    shutdown: None,
                    is_over: false,
                    traceback: None,
                }),
                changed: Notify::new(),
                handle,
                is_development,
            }),
        }
    }

    /// Whether the application is told at all.
    pub(crate) fn is_on(&self) -> bool {
        self.channel.lock().machine.is_some()
    }

    /// Calls the application with the lifespan scope and waits for its answer to
    /// `lifespan.startup`.
    pub(crate) async fn startup(
        &self,
        app: &PyApp,
        state: &Py<PyDict>,
    ) -> PyResult<StartupOutcome> {
        if !self.is_on() {
            return Ok(StartupOutcome::Unsupported);
        }
        Python::attach(|py| -> PyResult<()> {
            let scope = lifespan_scope(py, state.bind(py))?;
            let exchange = Bound::new(py, LifespanExchange(Arc::clone(&self.channel)))?;
            let receive = exchange.getattr(intern!(py, "receive"))?;
            let send = exchange.getattr(intern!(py, "send"))?;
            let on_end = LifespanEnd(Arc::clone(&self.channel));
            app.start(py, &self.tasks, &scope, receive, send, on_end);
            Ok(())
        })?;
        Ok(self.channel.wait(|state| state.startup.clone()).await)
    }

    /// The traceback of the exception that startup ended with, in development.
    pub(crate) fn take_traceback(&self) -> Option<String> {
        self.channel.lock().traceback.take()
    }

    /// Ends an application that does not answer.
    pub(crate) fn cancel(&self, py: Python<'_>) {
        self.tasks.cancel_all(py);
    }

    /// Tells the application to shut down. Returns whether it is there to be told.
    pub(crate) fn begin_shutdown(&self) -> bool {
        let mut state = self.channel.lock();
        let begun = state.machine.as_mut().is_some_and(Lifespan::begin_shutdown);
        if begun {
            state.events.push(Event::Shutdown);
            let receivers = std::mem::take(&mut state.receivers);
            drop(state);
            receivers.into_iter().for_each(Waker::wake);
        }
        begun
    }

    /// Waits for the answer. `None` where none can come any more.
    pub(crate) async fn shutdown(&self) -> Option<ShutdownOutcome> {
        let answer = |state: &State| match &state.shutdown {
            Some(outcome) => Some(Some(outcome.clone())),
            None => state.is_over.then_some(None),
        };
        self.channel.wait(answer).await
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait<T>(&self, mut ready: impl FnMut(&State) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            if let Some(value) = ready(&self.lock()) {
                return value;
            }
            changed.await;
        }
    }

    fn record(&self, state: &mut State, outcome: LifespanOutcome) {
        match outcome {
            LifespanOutcome::Startup(outcome) => state.startup = Some(outcome),
            LifespanOutcome::Shutdown(outcome) => state.shutdown = Some(outcome),
        }
        self.changed.notify_waiters();
    }
}

/// `receive` and `send` of the lifespan scope.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct LifespanExchange(Arc<Channel>);

impl LifespanExchange {
    fn accept(&self, message: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = message.py();
        let message = Message::new(message);
        let kind = message.kind()?;
        let text = message.find(intern!(py, "message"))?.map(|text| text.str()).transpose()?;
        let text = text.map(|text| text.to_string_lossy().into_owned());
        let message =
            LifespanMessage::from_asgi(kind.to_str()?, text).map_err(errors::from_lifespan)?;
        let mut state = self.0.lock();
        let Some(machine) = &mut state.machine else {
            return Ok(());
        };
        let outcome = machine.on_message(message).map_err(errors::from_lifespan)?;
        self.0.record(&mut state, outcome);
        Ok(())
    }
}

#[pymethods]
impl LifespanExchange {
    /// Wait for the next event: `lifespan.startup` or `lifespan.shutdown`.
    fn receive(&self) -> Awaitable {
        let operation = Receive(Arc::clone(&self.0));
        Awaitable::operation(Box::new(operation), self.0.handle.clone())
    }

    /// Answer an event.
    fn send(&self, message: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let py = message.py();
        match self.accept(message) {
            Ok(()) => Done::get(py),
            Err(error) => Ok(Py::new(py, Awaitable::failing(error))?.into_any()),
        }
    }
}

struct Receive(Arc<Channel>);

impl Operation for Receive {
    fn poll(&self, py: Python<'_>, cx: &mut Context<'_>) -> Poll<PyResult<Py<PyAny>>> {
        let mut state = self.0.lock();
        if state.events.is_empty() {
            state.receivers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let event = state.events.remove(0);
        drop(state);
        let message = PyDict::new(py);
        let kind = match event {
            Event::Startup => intern!(py, "lifespan.startup"),
            Event::Shutdown => intern!(py, "lifespan.shutdown"),
        };
        Poll::Ready(
            message.set_item(intern!(py, "type"), kind).map(|()| message.into_any().unbind()),
        )
    }
}

struct LifespanEnd(Arc<Channel>);

impl OnEnd for LifespanEnd {
    fn ended(&self, py: Python<'_>, end: End) {
        let mut state = self.0.lock();
        state.is_over = true;
        let exit = match end {
            End::Returned => LifespanExit::Returned,
            End::Raised(_) | End::Cancelled => LifespanExit::Raised,
        };
        let outcome = state.machine.as_mut().and_then(|machine| machine.on_exit(exit));
        if let (Some(outcome), End::Raised(error)) = (&outcome, &end) {
            let error = error.value(py);
            if is_failure(outcome) {
                if self.0.is_development && state.startup.is_none() {
                    state.traceback = Some(errors::format(error));
                } else {
                    logging::exception("Exception in 'lifespan' protocol", error, None);
                }
            } else {
                // Most applications that do not know lifespan raise on its scope type: their way of
                // saying so.
                log::debug!("{}", errors::format(error));
            }
        }
        if let Some(outcome) = outcome {
            self.0.record(&mut state, outcome);
        }
        self.0.changed.notify_waiters();
    }
}

fn is_failure(outcome: &LifespanOutcome) -> bool {
    matches!(
        outcome,
        LifespanOutcome::Startup(StartupOutcome::Failed(_))
            | LifespanOutcome::Shutdown(ShutdownOutcome::Failed(_))
    )
}

/// What the log says about a failure, beside an exception.
pub(crate) fn describe(failure: &LifespanFailure) -> Option<&str> {
    match failure {
        LifespanFailure::Reported(message) if message.is_empty() => None,
        LifespanFailure::Reported(message) => Some(message),
        LifespanFailure::Raised => None,
        LifespanFailure::Returned => {
            Some("the application returned from its lifespan without an answer")
        }
    }
}
