//! The small value types that settings carry, and how each is written as text.
//!
//! Owns the grammar of an address (`--bind`), of a size in bytes, and of the closed sets of words
//! (`--log-level`, `--lifespan`). Knows nothing of flags, variables or where a text came from;
//! must not open, resolve or bind anything.

mod address;
mod log;
mod size;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use self::address::{Bind, digits, parse_fd, parse_host, parse_port, unix_path};
pub use self::address::{BindAddr, DEFAULT_PORT, DEFAULT_UNIX_PERMISSIONS};
pub use self::log::{LogConfig, LogFile, LogFormat, LogLevel};
pub use self::size::{ByteSize, MemoryLimit};

/// A user or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// By number; it need not have a name.
    Id(u32),
    /// By name, which is still to be looked up.
    Name(String),
}

impl FromStr for Account {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // The highest number means "none" to the kernel.
        if let Some(id) = digits(text).filter(|id| *id < u32::MAX) {
            return Ok(Self::Id(id));
        }
        let is_name = text.starts_with(|c: char| !c.is_ascii_digit() && c != '-')
            && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && c != ':');
        if is_name {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(ParseError::new("a name or a number"))
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "{id}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// How many worker processes there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerCount {
    /// As many as the processors and the memory that the server may use have room for.
    Auto,
    /// This many.
    Exactly(u32),
}

/// Why a text is not the value it should be: what would have been right, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct ParseError(pub(crate) String);

impl ParseError {
    /// An error that says what was `expected`.
    pub(crate) fn new(expected: impl Into<String>) -> Self {
        Self(expected.into())
    }
}

/// Whether the application is told of start and stop (ASGI lifespan).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifespan {
    /// Try, and go on without if the application raises on the lifespan scope.
    #[default]
    Auto,
    /// The application must support it.
    On,
    /// Never.
    Off,
}

impl Lifespan {
    /// The words for the variants.
    pub(crate) const WORDS: &'static [&'static str] = &["auto", "on", "off"];

    /// The word for this variant.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

impl FromStr for Lifespan {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        [Self::Auto, Self::On, Self::Off]
            .into_iter()
            .find(|value| value.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| one_of(Self::WORDS))
    }
}

impl fmt::Display for Lifespan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which versions of HTTP are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpVersions {
    /// HTTP/1.1 and HTTP/2.
    #[default]
    Auto,
    /// HTTP/1.1 and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl HttpVersions {
    /// The words that mean one of the variants: granian's, and uvicorn's names of its parsers.
    const WORDS: &'static [&'static str] = &["auto", "1", "2", "h11", "httptools", "zttp"];

    /// What a list of gunicorn's names stands for: `h1`, `h2`, or both.
    pub(crate) fn from_protocols(text: &str) -> Result<Self, ParseError> {
        let mut names: Vec<&str> = text.split(',').map(str::trim).collect();
        names.sort_unstable();
        names.dedup();
        match names.as_slice() {
            ["h1"] => Ok(Self::Http1),
            ["h2"] => Ok(Self::Http2),
            ["h1", "h2"] => Ok(Self::Auto),
            _ => Err(ParseError::new("h1, h2 or both with a `,` between them")),
        }
    }
}

impl FromStr for HttpVersions {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        // A class of uvicorn's, `module:class`, is a parser as well.
        if text
            .split_once(':')
            .is_some_and(|(module, class)| !module.is_empty() && !class.is_empty())
        {
            return Ok(Self::Auto);
        }
        let word = Self::WORDS.iter().find(|word| word.eq_ignore_ascii_case(text));
        match *word.ok_or_else(|| one_of(Self::WORDS))? {
            "1" => Ok(Self::Http1),
            "2" => Ok(Self::Http2),
            _ => Ok(Self::Auto),
        }
    }
}

/// Which protocol the application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Interface {
    /// ASGI 3, or 2 if it looks like that.
    #[default]
    Auto,
    /// ASGI 3: one call with `scope`, `receive` and `send`.
    Asgi3,
    /// ASGI 2: a call with `scope`, whose result is called with `receive` and `send`.
    Asgi2,
    /// WSGI, in threads.
    Wsgi,
}

impl Interface {
    /// The words for the variants; `asgi` is granian's.
    pub(crate) const WORDS: &'static [&'static str] = &["auto", "asgi3", "asgi2", "wsgi", "asgi"];

    /// The word for this variant.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Asgi3 => "asgi3",
            Self::Asgi2 => "asgi2",
            Self::Wsgi => "wsgi",
        }
    }
}

impl FromStr for Interface {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text.eq_ignore_ascii_case("asgi") {
            return Ok(Self::Asgi3);
        }
        [Self::Auto, Self::Asgi3, Self::Asgi2, Self::Wsgi]
            .into_iter()
            .find(|value| value.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| one_of(Self::WORDS))
    }
}

/// Whether WebSockets are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ws {
    /// They are.
    #[default]
    Auto,
    /// A request for one is answered as any other.
    None,
}

impl Ws {
    /// The words that mean one of the variants: uvicorn's, where each names an implementation.
    const WORDS: &'static [&'static str] =
        &["auto", "none", "websockets", "websockets-sansio", "wsproto"];
}

impl FromStr for Ws {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let word = Self::WORDS.iter().find(|word| word.eq_ignore_ascii_case(text));
        match word.ok_or_else(|| one_of(Self::WORDS))? {
            &"none" => Ok(Self::None),
            _ => Ok(Self::Auto),
        }
    }
}

/// An error that lists the allowed words: "one of auto, on, off".
pub(crate) fn one_of(words: &[&str]) -> ParseError {
    ParseError::new(format!("one of {}", words.join(", ")))
}
