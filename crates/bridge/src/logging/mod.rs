//! The server's own log, and where both logs of this process go.
//!
//! Lines in uvicorn's wording or JSON objects, on standard error or in a file; the supervisor and all
//! workers append to the same one, a line in one system call. Python's `logging` can take them over
//! ([`queue`]).

mod access;
mod queue;
mod supervisor;

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use rsgi_config::{LogConfig, LogFile, LogFormat, LogLevel, LogOptions};
use rsgi_server::{JsonLine, LogSink, Timestamps, Trouble};

pub(crate) use self::access::{access_log, try_access_file};
use self::queue::{Item, ServerItem};
pub(crate) use self::queue::{LogQueue, Queue, close};
pub(crate) use self::supervisor::{PythonLog, switch};
use crate::errors;

/// The log of this process.
static LOG: ServerLog = ServerLog { current: Mutex::new(None), python: Mutex::new(None) };

struct ServerLog {
    /// `None` before [`install`].
    current: Mutex<Option<Arc<Current>>>,
    /// Where lines go instead, as long as somebody takes them there.
    python: Mutex<Option<Arc<Queue>>>,
}

struct Current {
    sink: LogSink,
    style: Style,
    pid: u32,
    worker: Option<u32>,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// uvicorn's wording; with time and process where nobody watches the lines come.
    Text {
        colours: bool,
        stamped: bool,
    },
    Json,
}

/// Starts logging, or goes on elsewhere. If the file cannot be opened, nothing changes. `worker` is
/// the number of a worker, counted from 0.
pub(crate) fn install(options: &LogOptions, worker: Option<usize>) -> io::Result<()> {
    let sink = match &options.error_logfile {
        Some(LogFile(path)) => LogSink::to_file(path.clone(), say_on_stderr)?,
        None => LogSink::to_stream(io::stderr().as_fd().try_clone_to_owned()?, say_in_the_log),
    };
    let is_terminal = sink.is_terminal();
    let style = match options.format {
        LogFormat::Json => Style::Json,
        LogFormat::Text => Style::Text {
            colours: options.use_colors.unwrap_or(is_terminal),
            stamped: !is_terminal,
        },
    };
    let worker = number(worker);
    let pid = std::process::id();
    *lock(&LOG.current) = Some(Arc::new(Current { sink, style, pid, worker }));
    *lock(&LOG.python) = None;
    // Only the first one counts; it is this one, or the program's own.
    let _ = log::set_logger(&LOG);
    log::set_max_level(filter(options.level));
    Ok(())
}

/// A worker's number, which is that of the metrics and of `RSGI_WORKER_INDEX`.
fn number(worker: Option<usize>) -> Option<u32> {
    worker.and_then(|index| u32::try_from(index).ok())
}

/// From now on lines go into `queue`, as long as it is open.
pub(crate) fn to_python(queue: &Arc<Queue>) {
    *lock(&LOG.python) = Some(Arc::clone(queue));
}

/// Makes the paths absolute: they are opened again, and the application may change its directory.
pub(crate) fn make_absolute(options: &mut LogOptions) -> io::Result<()> {
    let files = [&mut options.access_logfile, &mut options.error_logfile];
    for LogFile(path) in files.into_iter().flatten() {
        *path = std::path::absolute(&path)?;
    }
    if let Some(LogConfig::File(path)) = &mut options.config {
        *path = std::path::absolute(&path)?;
    }
    Ok(())
}

/// Opens the log file anew; on an error the old one stays, and the error is in it.
pub(crate) fn reopen() {
    let Some(current) = LOG.current() else { return };
    if let Err(error) = current.sink.reopen() {
        let path = current.sink.path().unwrap_or_else(|| "".as_ref()).display();
        log::error!("cannot open the log file anew: {error}: `{path}`");
    }
}

/// Logs an exception of the application's. Python's `logging` gets the exception itself.
pub(crate) fn exception(
    message: &str,
    error: &Bound<'_, PyBaseException>,
    request_id: Option<&str>,
) {
    let item = || {
        let item = ServerItem::new(Level::Error, message.to_owned(), request_id);
        Item::Server(ServerItem { exception: Some(error.clone().unbind()), ..item })
    };
    if LOG.python().is_some_and(|queue| queue.push(item)) {
        return;
    }
    let traceback = errors::format(error);
    log::error!(
        traceback = traceback.as_str(),
        request_id = request_id.unwrap_or_default();
        "{message}"
    );
}

/// Log a message between server and application.
#[pyfunction]
pub(crate) fn trace(message: &str) {
    log::trace!(target: "rsgi", "{message}");
}

/// Whether messages between server and application are logged.
pub(crate) fn is_tracing() -> bool {
    log::max_level() == LevelFilter::Trace
}

impl ServerLog {
    fn current(&self) -> Option<Arc<Current>> {
        lock(&self.current).clone()
    }

    fn python(&self) -> Option<Arc<Queue>> {
        lock(&self.python).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        // As with Python's levels: an error is less than that, and nothing here is more.
        LogLevel::Critical => LevelFilter::Off,
        LogLevel::Error => LevelFilter::Error,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Info => LevelFilter::Info,
        LogLevel::Debug => LevelFilter::Debug,
        LogLevel::Trace => LevelFilter::Trace,
    }
}

/// Lines of the log were lost, or cannot be written: there is nowhere else to say so but in it, once
/// it works again.
fn say_in_the_log(trouble: Trouble) {
    if let Trouble::Lost(lines) = trouble {
        log::warn!("{lines} log lines were lost");
    }
}

/// The same for a file, beside which there is standard error.
fn say_on_stderr(trouble: Trouble) {
    if let Trouble::Unwritable(error) = &trouble {
        let line = format!("ERROR:    cannot write the log file, lines are lost: {error}\n");
        // And where that cannot be written, nobody can be told.
        if let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned() {
            let stderr = LogSink::to_stream(stderr, |_| {});
            stderr.write(|out, _| out.extend_from_slice(line.as_bytes()));
        }
    }
    say_in_the_log(trouble);
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
        // Before any lock: what is shown may log itself.
        let message = record.args().to_string();
        let Some(current) = self.current() else { return };
        // The watchdog speaks when Python does not: it never waits for it.
        let python = self.python().filter(|_| !record.target().starts_with("_native::watchdog"));
        if python.is_some_and(|queue| queue.push(|| Item::Server(server_item(record, &message)))) {
            return;
        }
        current.sink.write(|out, stamps| match current.style {
            Style::Text { colours, stamped } => {
                if stamped {
                    stamps.push_iso(out, SystemTime::now());
                    // Writing to a vector cannot fail.
                    let _ = write!(out, " [{}] ", current.pid);
                }
                push_text(out, record, colours, &message);
            }
            Style::Json => push_json(out, record, &current, &message, stamps),
        });
    }

    fn flush(&self) {
        if let Some(current) = self.current() {
            current.sink.close();
        }
    }
}

/// `INFO:     message`: the level and its colon take ten columns, as in uvicorn. A traceback follows.
fn push_text(out: &mut Vec<u8>, record: &Record<'_>, colours: bool, message: &str) {
    let (name, colour) = match record.level() {
        Level::Error => ("ERROR", 31),
        Level::Warn => ("WARNING", 33),
        Level::Info => ("INFO", 32),
        Level::Debug => ("DEBUG", 36),
        Level::Trace => ("TRACE", 34),
    };
    let padding = 9_usize.saturating_sub(name.len());
    let _ = if colours {
        writeln!(out, "\x1b[{colour}m{name}\x1b[0m:{:padding$}{message}", "")
    } else {
        writeln!(out, "{name}:{:padding$}{message}", "")
    };
    if let Some(traceback) = text_of(record, "traceback") {
        out.extend_from_slice(traceback.as_bytes());
        out.push(b'\n');
    }
}

fn text_of(record: &Record<'_>, key: &str) -> Option<String> {
    let value = record.key_values().get(Key::from(key))?;
    Some(value.to_string()).filter(|text| !text.is_empty())
}

/// The most of a message, or of a traceback, that becomes a member of an object.
const MEMBER_LIMIT: usize = 256 * 1024;

fn push_json(
    out: &mut Vec<u8>,
    record: &Record<'_>,
    current: &Current,
    message: &str,
    stamps: &mut Timestamps,
) {
    let mut line = JsonLine::new(out);
    let time = line.name("time");
    time.push(b'"');
    stamps.push_iso(time, SystemTime::now());
    time.push(b'"');
    line.text("level", level_name(record.level()).as_bytes(), MEMBER_LIMIT);
    let is_ours = record.target().starts_with("rsgi") || record.target().starts_with("_native");
    let logger = if is_ours { "rsgi.error" } else { record.target() };
    line.text("logger", logger.as_bytes(), MEMBER_LIMIT);
    line.integer("pid", u64::from(current.pid));
    line.integer_or_null("worker", current.worker.map(u64::from));
    line.text("message", message.as_bytes(), MEMBER_LIMIT);
    // A member that is always an object's or a number's: nothing here fails.
    let _ = record.key_values().visit(&mut Members(&mut line));
    line.end();
}

/// Writes what a record has beside its message.
struct Members<'l, 'o>(&'l mut JsonLine<'o>);

impl<'kvs> VisitSource<'kvs> for Members<'_, '_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        if let Some(number) = value.to_u64() {
            self.0.integer(key.as_str(), number);
        } else if let Some(number) = value.to_f64().filter(|number| number.is_finite()) {
            let _ = write!(self.0.name(key.as_str()), "{number:.6}");
        } else {
            let text = value.to_string();
            if !text.is_empty() {
                self.0.text(key.as_str(), text.as_bytes(), MEMBER_LIMIT);
            }
        }
        Ok(())
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn server_item(record: &Record<'_>, message: &str) -> ServerItem {
    let request_id = text_of(record, "request_id");
    let item = ServerItem::new(record.level(), message.to_owned(), request_id.as_deref());
    ServerItem { traceback: text_of(record, "traceback"), ..item }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(style: Style) -> Current {
        let (_, writer) = io::pipe().unwrap();
        let sink = LogSink::to_stream(writer.into(), |_| {});
        Current { sink, style, pid: 7, worker: Some(2) }
    }

    #[test]
    fn lines_are_padded_as_uvicorn_pads_them() {
        let table = [
            (Level::Info, false, "INFO:     x\n"),
            (Level::Warn, false, "WARNING:  x\n"),
            (Level::Error, true, "\x1b[31mERROR\x1b[0m:    x\n"),
        ];
        for (level, colours, expected) in table {
            let mut out = Vec::new();
            push_text(&mut out, &Record::builder().level(level).build(), colours, "x");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_traceback_is_behind_a_text_and_inside_an_object() {
        let pairs = [("traceback", "Traceback\n  File \"x\""), ("request_id", "")];
        let record =
            Record::builder().level(Level::Error).target("_native").key_values(&pairs).build();
        let mut out = Vec::new();
        push_text(&mut out, &record, false, "failed");
        assert_eq!(String::from_utf8(out).unwrap(), "ERROR:    failed\nTraceback\n  File \"x\"\n");
        let mut out = Vec::new();
        push_json(&mut out, &record, &current(Style::Json), "failed", &mut Timestamps::default());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["traceback"], "Traceback\n  File \"x\"");
        assert_eq!(value["message"], "failed");
        assert_eq!(value["level"], "error");
        assert_eq!(value["logger"], "rsgi.error");
        assert_eq!(value["worker"], 2);
        assert!(value.get("request_id").is_none(), "it has none");
        assert_eq!(out.iter().position(|byte| *byte == b'\n'), Some(out.len() - 1));
    }

    #[test]
    fn numbers_stay_numbers_in_an_object() {
        let pairs = [("status", Value::from(503)), ("duration", Value::from(0.25))];
        let record = Record::builder().level(Level::Warn).target("h2").key_values(&pairs).build();
        let mut out = Vec::new();
        push_json(&mut out, &record, &current(Style::Json), "x", &mut Timestamps::default());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&value["status"], &value["duration"]), (&503.into(), &0.25.into()));
        assert_eq!(value["logger"], "h2");
    }
}
