//! The supervisor's lines through Python's `logging`, where a configuration says how.
//!
//! Owns: when that begins and ends. None of the application's code may run in the supervisor: with a
//! configuration that needs some, its lines stay what they are.

use std::io;
use std::sync::Arc;

use pyo3::prelude::*;
use rsgi_config::LogOptions;

use super::queue::{LogQueue, Queue, close};
use super::{LOG, install, lock, to_python};
use crate::worker::logging_config;

/// Lines go to Python's `logging` until this is dropped, if the settings name a configuration.
#[derive(Debug)]
pub(crate) struct PythonLog(());

impl PythonLog {
    /// From now on. As the user that the process is to be: handlers open files.
    pub(crate) fn begin(options: &LogOptions) -> Self {
        begin(options);
        Self(())
    }
}

impl Drop for PythonLog {
    fn drop(&mut self) {
        end();
    }
}

/// Logs as other settings say.
pub(crate) fn switch(options: &LogOptions) -> io::Result<()> {
    end();
    install(options, None)?;
    begin(options);
    Ok(())
}

fn begin(options: &LogOptions) {
    // With `--log-python` it is the application that configures it.
    if options.config.is_none() {
        return;
    }
    let Some((form, text)) = logging_config(options) else { return };
    let queue = Arc::new(Queue::default());
    let reader = LogQueue::new(Arc::clone(&queue));
    let arguments = (form, text, reader, options.level.python_number(), options.use_colors);
    let configured: PyResult<(bool, Option<String>)> = Python::attach(|py| {
        let logging = py.import("rsgi._logging")?;
        logging.call_method1("configure_supervisor", arguments)?.extract()
    });
    match configured {
        Ok((true, _)) => to_python(&queue),
        Ok((false, Some(module))) => log::info!(
            "The supervisor's lines do not go through --log-config, which needs `{module}`: the \
             application's code does not run here"
        ),
        Ok((false, None)) => {}
        Err(error) => log::error!("--log-config: {error}"),
    }
}

/// What has gathered gets a moment; later lines are the process's own again.
fn end() {
    let queue = lock(&LOG.python).clone();
    if let Some(queue) = queue {
        Python::attach(|py| close(py, &queue));
        *lock(&LOG.python) = None;
    }
}
