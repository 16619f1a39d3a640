//! The server's own log: lines in uvicorn's wording on standard error.

use std::io::{self, IsTerminal, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rsgi_config::{LogLevel, LogOptions};

struct StderrLog {
    colours: bool,
}

/// Starts logging; later calls change nothing.
pub(crate) fn install(options: &LogOptions) {
    let colours = options.use_colors.unwrap_or_else(|| io::stderr().is_terminal());
    if log::set_boxed_logger(Box::new(StderrLog { colours })).is_ok() {
        log::set_max_level(filter(options.level));
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

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What the libraries below say is theirs, unless somebody is after everything.
        metadata.target().starts_with("rsgi")
            || metadata.target() == "_native"
            || metadata.target().starts_with("_native::")
            || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format_line(record.level(), self.colours, &record.args().to_string());
            // There is nowhere to report that the log cannot be written.
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
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
