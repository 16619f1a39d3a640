//! From the settings to the access log.

use std::io;
use std::sync::Arc;

use rsgi_config::{
    AccessFormat, FormatAtom, FormatPart, LogFile, LogFormat, LogOptions, process_environment,
};
use rsgi_server::{
    AccessLog, AccessLogOptions, Atom, Conversion, Format, Number, Output, Pattern, PatternPart,
    TextStyle, access_file, access_stream,
};

use super::number;
use super::queue::{Queue, Requests};

/// The access log of a worker; `worker` is its number from 0, if it has one.
pub(crate) fn access_log(
    options: &LogOptions,
    worker: Option<usize>,
    python: Option<&Arc<Queue>>,
) -> io::Result<AccessLog> {
    let output = match python {
        _ if !options.access_log => Output::Off,
        Some(queue) => Output::Records(Box::new(Requests(Arc::clone(queue)))),
        None => {
            let sink = match &options.access_logfile {
                Some(LogFile(path)) => access_file(path.clone())?,
                None => access_stream()?,
            };
            let is_terminal = sink.is_terminal();
            let format = match (&options.access_logformat, options.format) {
                (Some(AccessFormat(parts)), _) => Format::Pattern(pattern(parts)),
                (None, LogFormat::Json) => Format::Json,
                (None, LogFormat::Text) => Format::Text(TextStyle {
                    colours: options.use_colors.unwrap_or(is_terminal),
                    stamped: !is_terminal,
                }),
            };
            Output::Lines(sink, format)
        }
    };
    Ok(AccessLog::new(
        output,
        AccessLogOptions {
            exclude: options.access_log_exclude.clone(),
            slow: options.slow_request_warning,
            worker: number(worker),
        },
    ))
}

/// Whether the file can be opened.
pub(crate) fn try_access_file(LogFile(path): &LogFile) -> io::Result<()> {
    access_file(path.clone()).map(drop)
}

fn pattern(parts: &[FormatPart]) -> Pattern {
    Pattern::new(parts.iter().map(|part| match part {
        FormatPart::Text(text) => PatternPart::Text(text.clone()),
        FormatPart::Value { atom, width, left, precision, conversion } => {
            let number = match conversion {
                'd' => Number::Integer,
                'f' => Number::Float,
                _ => Number::Natural,
            };
            let conversion =
                Conversion { width: *width, left: *left, precision: *precision, number };
            match atom {
                // The settings have found it in the list of names, which a test compares with this
                // one.
                FormatAtom::Named(name) => Atom::named(name).map_or_else(
                    || PatternPart::Text(String::new()),
                    |atom| PatternPart::Value(atom, conversion),
                ),
                FormatAtom::RequestField(name) => {
                    PatternPart::RequestField(name.clone(), conversion)
                }
                FormatAtom::ResponseField(name) => {
                    PatternPart::ResponseField(name.clone(), conversion)
                }
                FormatAtom::Variable(name) => PatternPart::Text(variable(name)),
            }
        }
    }))
}

/// A variable of the environment: the same for all lines.
fn variable(name: &str) -> String {
    let value = process_environment(name).map(|value| value.to_string_lossy().into_owned());
    value.map_or_else(|| "-".to_owned(), |value| value.replace(char::is_control, " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_atom_that_the_settings_know_means_something() {
        for name in FormatAtom::NAMES {
            assert!(Atom::named(name).is_some(), "{name}");
        }
    }
}
