//! The command: settings, sockets, then the supervisor.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_config::{
    BindOptions, Config, LoadError, Loaded, Surroundings, load, process_environment,
};
use rsgi_supervisor::{
    BindError, Identity, Listener, PidFile, ServiceManager, SupervisorOptions, WorkerCommand,
    activated, bind_all, exit, run,
};

use crate::{keywords, logging, options as settings};

/// Run the command `rsgi` with these arguments (without its name). Returns the exit status.
///
/// `command` is the program and the arguments that start a worker, `reader` those that read a
/// Python file of settings.
#[pyfunction]
pub(crate) fn main(
    py: Python<'_>,
    arguments: Vec<OsString>,
    command: Vec<OsString>,
    reader: Vec<OsString>,
) -> u8 {
    let surroundings = Surroundings::of_process(reader);
    let loaded = match py.detach(|| load(arguments, &surroundings)) {
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

/// Raise what `supervise_keywords` and `Worker.alone` would raise for these settings.
#[pyfunction]
pub(crate) fn check_keywords(settings: &Bound<'_, PyDict>) -> PyResult<()> {
    keywords::load(settings).map(drop)
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
    let Loaded { config, notices, launch } = loaded;
    logging::install(&config.log);
    for notice in notices {
        log::warn!("{notice}");
    }
    if let Some(directory) = &launch.directory
        && let Err(error) = std::env::set_current_dir(directory)
    {
        log::error!("cannot serve from `{}`: {error}", directory.display());
        return exit::STARTUP;
    }
    let (listeners, _pid_file) = match prepare(&config) {
        Ok(prepared) => prepared,
        Err((error, status)) => {
            log::error!("{error}");
            return status;
        }
    };
    match options(&config, launch.environment, command) {
        Ok(options) => run(options, listeners),
        Err(error) => {
            log::error!("the settings cannot be passed to the workers: {error}");
            exit::FAILURE
        }
    }
}

/// Opens whatever the first user of the process has to open, then becomes the one it is to run as.
fn prepare(config: &Config) -> Result<(Vec<Listener>, Option<PidFile>), (String, u8)> {
    let failed = |error: &dyn Display| (error.to_string(), exit::STARTUP);
    let workers = &config.workers;
    let identity = Identity::find(workers.user.as_ref(), workers.group.as_ref())
        .map_err(|error| (error.to_string(), exit::USAGE))?;
    let listeners = listen(&config.bind).map_err(|error| failed(&error))?;
    let pid_file = workers.pid.as_deref().map(PidFile::create).transpose();
    let pid_file = pid_file.map_err(|error| failed(&error))?;
    if let Some(identity) = identity {
        identity.assume(&listeners, pid_file.as_ref()).map_err(|error| failed(&error))?;
    }
    Ok((listeners, pid_file))
}

/// Who started this process and wants to know how it goes.
fn service_manager() -> Option<ServiceManager> {
    let variable = |name| process_environment(name).and_then(|value| value.into_string().ok());
    let socket = process_environment("NOTIFY_SOCKET");
    let (usec, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
    let pid = pid.as_deref();
    ServiceManager::from_values(std::process::id(), socket.as_deref(), usec.as_deref(), pid)
        .unwrap_or_else(|error| {
            log::warn!("Cannot tell the service manager anything, NOTIFY_SOCKET: {error}");
            None
        })
}

/// The sockets that systemd has opened for this process, or else those that the settings name.
fn listen(bind: &BindOptions) -> Result<Vec<Listener>, BindError> {
    let variable = |name| process_environment(name).and_then(|value| value.into_string().ok());
    let (pid, fds) = (variable("LISTEN_PID"), variable("LISTEN_FDS"));
    let activated = activated(std::process::id(), pid.as_deref(), fds.as_deref())?;
    if activated.is_empty() {
        return bind_all(&bind.addresses, settings::backlog(bind));
    }
    let names = variable("LISTEN_FDNAMES").map(|names| format!(" ({names})")).unwrap_or_default();
    log::info!("Using {} socket(s) of the service manager{names}", activated.len());
    Ok(activated)
}

fn options(
    config: &Config,
    env: Vec<(OsString, OsString)>,
    command: Vec<OsString>,
) -> serde_json::Result<SupervisorOptions> {
    let mut command = command.into_iter();
    Ok(SupervisorOptions {
        workers: usize::try_from(config.workers.workers).unwrap_or(usize::MAX),
        command: WorkerCommand {
            program: command.next().unwrap_or_default(),
            args: command.collect(),
            env,
        },
        setup: serde_json::to_value(config)?,
        timeout_graceful_shutdown: Some(config.workers.timeout_graceful_shutdown),
        shutdown_delay: config.workers.shutdown_delay,
        timeout_worker_startup: Some(config.workers.timeout_worker_startup),
        service_manager: service_manager(),
    })
}
