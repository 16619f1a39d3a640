//! The command: settings, sockets, then the supervisor.

use std::ffi::OsString;
use std::io::{self, Write};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_config::{BindOptions, Config, LoadError, Loaded, load, process_environment};
use rsgi_supervisor::{
    BindError, Listener, SupervisorOptions, WorkerCommand, activated, bind_all, exit, run,
};

use crate::{ask, keywords, logging, options as settings};

/// Run the command `rsgi` with these arguments (without its name). Returns the exit status.
///
/// `command` is the program and the arguments that start a worker.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<OsString>, command: Vec<OsString>) -> u8 {
    if let Some(ask) = arguments.first().and_then(|word| ask::command(word)) {
        return py.detach(|| ask(arguments.into_iter().skip(1).collect()));
    }
    let loaded = match load(arguments, &process_environment) {
        Ok(loaded) => loaded,
        Err(error) => return py.detach(|| explain(&error)),
    };
    py.detach(|| supervise(loaded, command))
}

/// Supervise workers with settings given as keywords: `rsgi.run()` with an import string.
#[pyfunction]
pub(crate) fn supervise_keywords(
    py: Python<'_>,
    settings: &Bound<'_, PyDict>,
    command: Vec<OsString>,
) -> PyResult<u8> {
    let loaded = keywords::load(settings)?;
    Ok(py.detach(|| supervise(loaded, command)))
}

/// Prints why no configuration came out.
pub(crate) fn explain(error: &LoadError) -> u8 {
    let text = format!("{error}\n");
    // A reader that has gone (`rsgi --help | head -1`) is not worth a message.
    let _ = match error {
        LoadError::Help(_) => io::stdout().lock().write_all(text.as_bytes()),
        LoadError::Usage(_) => io::stderr().lock().write_all(text.as_bytes()),
    };
    error.exit_status()
}

fn supervise(loaded: Loaded, command: Vec<OsString>) -> u8 {
    let Loaded { config, notices } = loaded;
    logging::install(&config.log);
    for notice in notices {
        log::warn!("{notice}");
    }
    let listeners = match listen(&config.bind) {
        Ok(listeners) => listeners,
        Err(error) => {
            log::error!("{error}");
            return exit::STARTUP;
        }
    };
    // After the application's own addresses: those are what a mistake is more likely to be about.
    let admin = match bind_all(config.bind.admin.as_slice(), settings::backlog(&config.bind)) {
        Ok(admin) => admin,
        Err(error) => {
            log::error!("admin listener: {error}");
            return exit::STARTUP;
        }
    };
    match options(&config, command) {
        Ok(options) => run(options, listeners, admin),
        Err(error) => {
            log::error!("the settings cannot be passed to the workers: {error}");
            exit::FAILURE
        }
    }
}

/// The sockets that systemd has opened for this process, or else those that the settings name.
fn listen(bind: &BindOptions) -> Result<Vec<Listener>, BindError> {
    let variable = |name| process_environment(name).and_then(|value| value.into_string().ok());
    let (pid, fds) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    let activated = activated(std::process::id(), pid.as_deref(), fds.as_deref())?;
    if activated.is_empty() {
        bind_all(&bind.addresses, settings::backlog(bind))
    } else {
        Ok(activated)
    }
}

fn options(config: &Config, command: Vec<OsString>) -> serde_json::Result<SupervisorOptions> {
    let mut command = command.into_iter();
    Ok(SupervisorOptions {
        workers: usize::try_from(config.workers.workers).unwrap_or(usize::MAX),
        command: WorkerCommand {
            program: command.next().unwrap_or_default(),
            args: command.collect(),
            env: Vec::new(),
        },
        setup: serde_json::to_value(config)?,
        timeout_graceful_shutdown: Some(config.workers.timeout_graceful_shutdown),
        timeout_worker_startup: Some(config.workers.timeout_worker_startup),
    })
}
