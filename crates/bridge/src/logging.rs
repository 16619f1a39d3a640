//! The server's own log: lines in uvicorn's wording on standard error or in a file.
//!
//! A file is appended to by the supervisor and all workers, a line in one system call, and opened
//! anew when somebody has moved it away ([`reopen`]).

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rsgi_config::{LogFile, LogLevel, LogOptions};

/// The log of this process.
static LOG: ServerLog = ServerLog { sink: Mutex::new(None) };

struct ServerLog {
    /// `None` before [`install`].
    sink: Mutex<Option<Sink>>,
}

struct Sink {
    /// `None` for standard error.
    file: Option<(PathBuf, File)>,
    colours: bool,
}

/// Starts logging, or goes on elsewhere. If the file cannot be opened, nothing changes.
pub(crate) fn install(options: &LogOptions) -> io::Result<()> {
    let file = match &options.error_logfile {
        Some(LogFile(path)) => Some((path.clone(), append_to(path)?)),
        None => None,
    };
    let is_terminal = || file.is_none() && io::stderr().is_terminal();
    let colours = options.use_colors.unwrap_or_else(is_terminal);
    *LOG.sink() = Some(Sink { file, colours });
    // Only the first one counts; it is this one, or the program's own.
    let _ = log::set_logger(&LOG);
    log::set_max_level(filter(options.level));
    Ok(())
}

/// Makes the paths absolute: they are opened again, and the application may change its directory.
pub(crate) fn make_absolute(options: &mut LogOptions) -> io::Result<()> {
    let files = [&mut options.access_logfile, &mut options.error_logfile];
    for LogFile(path) in files.into_iter().flatten() {
        *path = std::path::absolute(&path)?;
    }
    Ok(())
}

/// Opens the log file anew; on an error the old one stays, and the error is in it.
pub(crate) fn reopen() {
    let path = LOG.sink().as_ref().and_then(|sink| Some(sink.file.as_ref()?.0.clone()));
    let Some(path) = path else { return };
    match append_to(&path) {
        Ok(file) => {
            if let Some(sink) = LOG.sink().as_mut() {
                sink.file = Some((path, file));
            }
        }
        Err(error) => log::error!("cannot open the log file anew: {error}: `{}`", path.display()),
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().append(true).create(true).open(path)
}

impl ServerLog {
    fn sink(&self) -> MutexGuard<'_, Option<Sink>> {
        self.sink.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Critical | LogLevel::Error => LevelFilter::Error,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

impl Log for ServerLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What the libraries below say is theirs, unless somebody is after everything.
        metadata.target().starts_with("rsgi")
            || metadata.target() == "_native"
            || metadata.target().starts_with("_native::")
            || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Before the lock: what is shown may log itself.
        let message = record.args().to_string();
        let mut sink = self.sink();
        let Some(sink) = sink.as_mut() else { return };
        let line = format_line(record.level(), sink.colours, &message);
        // There is nowhere to report that the log cannot be written.
        let _ = match &mut sink.file {
            Some((_, file)) => file.write_all(line.as_bytes()),
            None => io::stderr().lock().write_all(line.as_bytes()),
        };
    }

    fn flush(&self) {}
}

/// `INFO:     message`: the level and its colon take ten columns, as in uvicorn.
fn format_line(level: Level, colours: bool, message: &str) -> String {
    let (name, colour) = match level {
        Level::Error => ("ERROR", 31),
        Level::Warn => ("WARNING", 33),
        Level::Info => ("INFO", 32),
        Level::Debug => ("DEBUG", 36),
        Level::Trace => ("TRACE", 34),
    };
    let padding = " ".repeat(9_usize.saturating_sub(name.len()));
    if colours {
        format!("\x1b[{colour}m{name}\x1b[0m:{padding}{message}\n")
    } else {
        format!("{name}:{padding}{message}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_padded_as_uvicorn_pads_them() {
        assert_eq!(format_line(Level::Info, false, "x"), "INFO:     x\n");
        assert_eq!(format_line(Level::Warn, false, "x"), "WARNING:  x\n");
        assert_eq!(format_line(Level::Error, true, "x"), "\x1b[31mERROR\x1b[0m:    x\n");
    }
}
