//! The command: settings, sockets, then the supervisor.

use std::ffi::OsString;
use std::io::{self, Write};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_config::{Config, LoadError, Loaded, load, process_environment};
use rsgi_supervisor::{
    BindError, Listener, SupervisorOptions, Updates, WorkerCommand, activated, bind_all, exit, run,
};
use serde_json::Value;
use tokio::sync::watch;

use crate::tls::Keeper;
use crate::{keywords, logging, options as settings, tls};

/// Run the command `rsgi` with these arguments (without its name). Returns the exit status.
///
/// `command` is the program and the arguments that start a worker.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, arguments: Vec<OsString>, command: Vec<OsString>) -> u8 {
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
fn explain(error: &LoadError) -> u8 {
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
    let keeper = match Keeper::new(&config) {
        Ok(keeper) => keeper,
        Err(error) => {
            log::error!("{error}");
            return exit::STARTUP;
        }
    };
    let listeners = match listen(&config) {
        Ok(listeners) => listeners,
        Err(error) => {
            log::error!("{error}");
            return exit::STARTUP;
        }
    };
    match options(config, command, keeper) {
        Ok(options) => run(options, listeners),
        Err(error) => {
            log::error!("the settings cannot be passed to the workers: {error}");
            exit::FAILURE
        }
    }
}

/// The sockets that systemd has opened for this process, or else those that the settings name.
fn listen(config: &Config) -> Result<Vec<Listener>, BindError> {
    let bind = &config.bind;
    let variable = |name| process_environment(name).and_then(|value| value.into_string().ok());
    let (pid, fds) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    let activated = activated(std::process::id(), pid.as_deref(), fds.as_deref())?;
    if activated.is_empty() {
        bind_all(&bind.addresses, settings::backlog(bind))
    } else if tls::encrypts_activated(config) {
        Ok(activated.into_iter().map(Listener::encrypted).collect())
    } else {
        Ok(activated)
    }
}

fn options(
    config: Config,
    command: Vec<OsString>,
    keeper: Option<Keeper>,
) -> serde_json::Result<SupervisorOptions> {
    let (setup, updates) = match keeper {
        Some(keeper) => told(config.clone(), keeper)?,
        None => (serde_json::to_value(&config)?, None),
    };
    let mut command = command.into_iter();
    Ok(SupervisorOptions {
        workers: usize::try_from(config.workers.workers).unwrap_or(usize::MAX),
        command: WorkerCommand {
            program: command.next().unwrap_or_default(),
            args: command.collect(),
            env: Vec::new(),
        },
        setup,
        updates,
        timeout_graceful_shutdown: Some(config.workers.timeout_graceful_shutdown),
        timeout_worker_startup: Some(config.workers.timeout_worker_startup),
    })
}

/// What workers are told where there is TLS, and how that changes.
fn told(config: Config, keeper: Keeper) -> serde_json::Result<(Value, Option<Updates>)> {
    let setup = keeper.state().add_to(&config)?;
    let (sender, updates) = watch::channel(setup.clone());
    keeper.watch(move |state| match state.add_to(&config) {
        Ok(setup) => sender.send(setup).is_ok(),
        Err(error) => {
            log::error!("new certificates cannot be passed to the workers: {error}");
            true
        }
    });
    Ok((setup, Some(updates)))
}
