//! What is logged, and where it goes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ParseError, one_of};

/// A file that is written line by line, and opened anew when somebody has moved it away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogFile(
    /// Its path, relative to the directory the server was started in.
    pub PathBuf,
);

impl LogFile {
    /// Reads a path; nothing for `-`, which is the standard stream.
    pub(crate) fn or_standard_stream(text: &str) -> Result<Option<Self>, ParseError> {
        match text {
            "" => Err(ParseError::new("a path, or - for the standard stream")),
            "-" => Ok(None),
            path => Ok(Some(Self(PathBuf::from(path)))),
        }
    }
}

/// A configuration of Python's `logging`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogConfig {
    /// A file: INI, JSON, YAML or TOML, as its name says.
    File(PathBuf),
    /// The text of a JSON object.
    Json(String),
}

impl LogConfig {
    /// Reads the path of a file or a JSON object; nothing for `none`.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, ParseError> {
        // hypercorn's prefixes: the name of the file says the same
        let path = ["json:", "toml:"].iter().find_map(|prefix| text.strip_prefix(prefix));
        match path.unwrap_or(text) {
            "" => Err(ParseError::new("a file for Python's logging, or a JSON object")),
            path if path.contains('\0') => Err(ParseError::new("the path of a file")),
            object if object.starts_with('{') => Ok(Some(Self::Json(object.to_owned()))),
            path if path.eq_ignore_ascii_case("none") => Ok(None),
            path => Ok(Some(Self::File(PathBuf::from(path)))),
        }
    }
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// uvicorn's wording.
    #[default]
    Text,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// The words for them.
    pub(crate) const WORDS: &'static [&'static str] = &["text", "json"];
}

impl FromStr for LogFormat {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text.to_ascii_lowercase().as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(one_of(Self::WORDS)),
        }
    }
}

/// How much the server says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Only what ends the server.
    Critical,
    /// Failures of the application or of the server.
    Error,
    /// What an operator should look at.
    Warning,
    /// Starts, stops and the access log.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
    /// Every message between server and application.
    Trace,
}

impl LogLevel {
    /// All levels, the quietest first.
    pub const ALL: [Self; 6] =
        [Self::Critical, Self::Error, Self::Warning, Self::Info, Self::Debug, Self::Trace];
    /// The words for them.
    pub(crate) const WORDS: &'static [&'static str] =
        &["critical", "error", "warning", "info", "debug", "trace"];

    /// The word for this level.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// The number that Python's `logging` has for this level (5 for `trace`, as in uvicorn).
    pub const fn python_number(self) -> u8 {
        match self {
            Self::Critical => 50,
            Self::Error => 40,
            Self::Warning => 30,
            Self::Info => 20,
            Self::Debug => 10,
            Self::Trace => 5,
        }
    }
}

impl FromStr for LogLevel {
    type Err = ParseError;

    /// Reads the word in any case, or Python's number for it.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::ALL
            .into_iter()
            .find(|level| {
                level.as_str().eq_ignore_ascii_case(text)
                    || text.parse() == Ok(level.python_number())
            })
            .ok_or_else(|| one_of(Self::WORDS))
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
