//! The process that workers are forked from: `--preload`. See `rsgi_supervisor`'s `preload` for who
//! does what.
//!
//! Owns: what a template was given, until one of its forks becomes a worker. Must not know: how a
//! process is forked in Python (`rsgi._template`). Nothing here starts a thread or a runtime: a
//! fork would have their memory and not them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rsgi_config::Config;
use rsgi_supervisor::{Fork, Inherited};

use crate::worker::{Worker, logging_config};
use crate::{errors, logging};

/// A template process, which has imported the application.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct Template {
    config: Config,
    /// `None` in a worker that has been forked.
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    inherited: Inherited,
    /// The worker to fork.
    fork: Option<Fork>,
}

#[pymethods]
impl Template {
    /// Take over what the supervisor passed in the environment variable `RSGI_WORKER`.
    #[staticmethod]
    fn inherited(value: &str) -> PyResult<Self> {
        let inherited = Inherited::from_env_value(value).map_err(errors::from_inherit)?;
        let setup = inherited.control.receive_setup_blocking()?;
        let config: Config = serde_json::from_value(setup)
            .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        logging::install(&config.log, None)?;
        Ok(Self { config, state: Mutex::new(Some(State { inherited, fork: None })) })
    }

    /// The application to import, as in `module:attribute`.
    #[getter]
    fn target(&self) -> Option<&str> {
        self.config.app.target.as_deref()
    }

    /// Whether the target makes the application.
    #[getter]
    fn factory(&self) -> bool {
        self.config.app.factory
    }

    /// Which protocol the application speaks.
    #[getter]
    fn interface(&self) -> &'static str {
        self.config.app.interface.as_str()
    }

    /// How many calls of a WSGI application may run at once.
    #[getter]
    fn wsgi_threads(&self) -> u32 {
        self.config.app.wsgi_threads
    }

    /// The directory to import from.
    #[getter]
    fn app_dir(&self) -> &str {
        &self.config.app.app_dir
    }

    /// How Python's `logging` is configured; see `Worker.logging`.
    #[getter]
    fn logging(&self) -> Option<(&'static str, String)> {
        logging_config(&self.config.log)
    }

    /// Report that the application could not be loaded.
    fn fail(&self, message: &str) -> PyResult<()> {
        Ok(self.lock().template()?.inherited.control.failed(message)?)
    }

    /// Report that workers can be forked, although these threads will be missing in them.
    fn ready(&self, threads: Vec<String>) -> PyResult<()> {
        if !threads.is_empty() {
            log::warn!(
                "Importing the application started threads, which the workers will not have \
                 (--preload); start them in the lifespan's startup: {}",
                threads.join(", ")
            );
        }
        Ok(self.lock().template()?.inherited.control.ready()?)
    }

    /// Wait until a worker is wanted. False if none will be.
    fn wait(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| {
            let mut guard = self.lock();
            let state = guard.template()?;
            state.fork = state.inherited.control.receive_fork_blocking()?;
            Ok(state.fork.is_some())
        })
    }

    /// Report that the worker exists, as this process.
    fn forked(&self, pid: u32) -> PyResult<()> {
        let mut guard = self.lock();
        let State { inherited, fork } = guard.template()?;
        let slot = fork.take().ok_or_else(nothing_to_fork)?.slot;
        Ok(inherited.control.forked(slot, pid)?)
    }

    /// Report that the worker does not exist.
    fn not_forked(&self, message: &str) -> PyResult<()> {
        let mut guard = self.lock();
        let State { inherited, fork } = guard.template()?;
        let slot = fork.take().ok_or_else(nothing_to_fork)?.slot;
        Ok(inherited.control.not_forked(slot, message)?)
    }

    /// Become the worker, in the process that was forked. None if it is not wanted any more.
    fn become_worker(&self, py: Python<'_>) -> PyResult<Option<Worker>> {
        let State { inherited, fork } = self.lock().take().ok_or_else(nothing_to_fork)?;
        let Fork { slot, index, control } = fork.ok_or_else(nothing_to_fork)?;
        // The template's channel must not stay open in the worker, nor its slot be used.
        let inherited = Inherited { slot, index, control, ..inherited };
        py.detach(|| Worker::supervised(inherited))
    }
}

impl Template {
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is behind the lock of a template, and not of a worker.
trait OfTemplate {
    fn template(&mut self) -> PyResult<&mut State>;
}

impl OfTemplate for MutexGuard<'_, Option<State>> {
    fn template(&mut self) -> PyResult<&mut State> {
        self.as_mut().ok_or_else(nothing_to_fork)
    }
}

fn nothing_to_fork() -> PyErr {
    PyRuntimeError::new_err("this process has no worker to fork")
}
