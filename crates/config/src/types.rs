//! The small value types that settings carry, and how each is written as text.
//!
//! Owns the grammar of an address (`--bind`), of a size in bytes, and of the closed sets of words
//! (`--log-level`, `--lifespan`). Knows nothing of flags, variables or where a text came from;
//! must not open, resolve or bind anything.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The port used when an address names none (uvicorn's default).
pub const DEFAULT_PORT: u16 = 8000;

/// The mode of a Unix socket unless `--uds-permissions` says otherwise (uvicorn's default).
pub const DEFAULT_UNIX_PERMISSIONS: u32 = 0o666;

/// The longest path of a Unix socket: `sun_path` has 108 bytes on Linux, one is the final NUL.
const MAX_UNIX_PATH: usize = 107;

/// One address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindAddr {
    /// A TCP port on an address or a host name that is still to be resolved.
    Tcp {
        /// A name, an IPv4 address, or an IPv6 address without brackets.
        host: String,
        /// The port; 0 lets the kernel choose.
        port: u16,
    },
    /// A Unix stream socket.
    Unix {
        /// Where the socket is created.
        path: PathBuf,
        /// The permission bits of the socket file.
        permissions: u32,
    },
    /// A listening socket that was opened by somebody else and inherited.
    Fd(i32),
    /// One of the others, with TLS.
    Tls(Box<Self>),
}

impl BindAddr {
    /// The same address, with TLS.
    pub(crate) fn encrypted(self) -> Self {
        if self.is_tls() { self } else { Self::Tls(Box::new(self)) }
    }

    /// Whether TLS is spoken there.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Sets the mode of a Unix socket.
    pub(crate) fn set_permissions(&mut self, bits: u32) {
        match self {
            Self::Unix { permissions, .. } => *permissions = bits,
            Self::Tls(inner) => inner.set_permissions(bits),
            Self::Tcp { .. } | Self::Fd(_) => {}
        }
    }
}

/// An address as it was given.
#[derive(Debug)]
pub(crate) struct Bind {
    pub(crate) address: BindAddr,
    /// Whether it says if it is encrypted.
    pub(crate) has_scheme: bool,
}

impl FromStr for Bind {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(Self { address: text.parse()?, has_scheme: split_scheme(text).is_some() })
    }
}

/// Whether TLS is asked for, the port that is meant where none is given, and the rest:
/// `https://host:port`, `https+unix:path`, `https+fd://N`, and the same with `http`.
fn split_scheme(text: &str) -> Option<(bool, u16, &str)> {
    for (scheme, is_tls, port) in [("https", true, 443), ("http", false, 80)] {
        let Some(rest) = text.strip_prefix(scheme) else { continue };
        if let Some(rest) = rest.strip_prefix("://") {
            return Some((is_tls, port, rest.strip_suffix('/').unwrap_or(rest)));
        }
        let rest = rest.strip_prefix('+');
        if let Some(rest) =
            rest.filter(|rest| rest.starts_with("unix:") || rest.starts_with("fd://"))
        {
            return Some((is_tls, port, rest));
        }
    }
    None
}

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

impl FromStr for BindAddr {
    type Err = ParseError;

    /// Reads `host:port`, `[v6]:port`, `:port` (all IPv4 addresses), a bare host, `unix:path` or
    /// `fd://N`, and `https://host:port`, `https+unix:path` or `https+fd://N` for TLS.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some((is_tls, default_port, rest)) = split_scheme(text) {
            let address = Self::parse(rest, default_port)?;
            return Ok(if is_tls { address.encrypted() } else { address });
        }
        Self::parse(text, DEFAULT_PORT)
    }
}

impl BindAddr {
    fn parse(text: &str, default_port: u16) -> Result<Self, ParseError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(Self::Unix {
                path: unix_path(path)?,
                permissions: DEFAULT_UNIX_PERMISSIONS,
            });
        }
        if let Some(number) = text.strip_prefix("fd://") {
            return parse_fd(number).map(Self::Fd);
        }
        let (host, port) = split_host_and_port(text)?;
        let port = port.map_or(Ok(default_port), parse_port)?;
        let host = if host.is_empty() { "0.0.0.0".to_owned() } else { parse_host(host)? };
        Ok(Self::Tcp { host, port })
    }
}

impl fmt::Display for BindAddr {
    /// Writes the form that [`FromStr`] reads; the permissions of a Unix socket are not part of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path, .. } => write!(f, "unix:{}", path.display()),
            Self::Fd(number) => write!(f, "fd://{number}"),
            Self::Tls(inner) if matches!(**inner, Self::Tcp { .. }) => write!(f, "https://{inner}"),
            Self::Tls(inner) => write!(f, "https+{inner}"),
        }
    }
}

fn split_host_and_port(text: &str) -> Result<(&str, Option<&str>), ParseError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or_else(address_expected)?;
        if host.parse::<Ipv6Addr>().is_err() && !host.contains('%') {
            return Err(ParseError::new("an IPv6 address between the brackets"));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(address_expected()),
        };
    }
    match text.split_once(':') {
        // `::1:80` could be read in two ways, so it is not read at all
        Some((_, rest)) if rest.contains(':') => {
            Err(ParseError::new("an IPv6 address in brackets, such as `[::1]:8000`"))
        }
        Some(("", "")) => Err(address_expected()),
        Some((host, port)) => Ok((host, Some(port))),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(ParseError::new(format!("an address (did you mean `:{text}`?)")))
        }
        None if text.is_empty() => Err(address_expected()),
        None => Ok((text, None)),
    }
}

fn address_expected() -> ParseError {
    ParseError::new("`host:port`, `[v6]:port`, `unix:path` or `fd://N`")
}

/// A host name or address, IPv6 with or without brackets; returned without brackets.
pub(crate) fn parse_host(text: &str) -> Result<String, ParseError> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let expected = || ParseError::new("a host name or an IP address");
    if let Some((address, _zone)) = inner.split_once('%') {
        return match address.parse::<Ipv6Addr>() {
            Ok(_) => Ok(inner.to_owned()),
            Err(_) => Err(expected()),
        };
    }
    if inner.contains(':') {
        return match inner.parse::<Ipv6Addr>() {
            Ok(_) => Ok(inner.to_owned()),
            Err(_) => Err(expected()),
        };
    }
    // `_` is no letter of a host name, but Compose service names have it and resolvers accept it
    let plausible = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    if inner.is_empty() || !inner.chars().all(plausible) {
        return Err(expected());
    }
    Ok(inner.to_owned())
}

/// A TCP port; 0 lets the kernel choose.
pub(crate) fn parse_port(text: &str) -> Result<u16, ParseError> {
    digits(text).ok_or_else(|| ParseError::new("a port: a whole number from 0 to 65535"))
}

/// The number of an inherited file descriptor.
pub(crate) fn parse_fd(text: &str) -> Result<i32, ParseError> {
    digits(text).ok_or_else(|| ParseError::new("the number of an open file descriptor"))
}

/// A whole number of digits alone: `parse` would take a sign.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The path of a Unix socket, short enough for the kernel.
pub(crate) fn unix_path(text: &str) -> Result<PathBuf, ParseError> {
    if text.is_empty() {
        return Err(ParseError::new("the path of a socket"));
    }
    if text.len() > MAX_UNIX_PATH {
        return Err(ParseError::new(format!(
            "the path of a socket, at most {MAX_UNIX_PATH} bytes long"
        )));
    }
    Ok(PathBuf::from(text))
}

/// A number of bytes, written plainly, with a binary unit (`64KiB`, `64K`) or a decimal one (`64KB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(
    /// The number of bytes.
    pub u64,
);

impl ByteSize {
    /// `count` times 1024 bytes.
    pub(crate) const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }
}

impl FromStr for ByteSize {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = || ParseError::new("a number of bytes, or one with KiB, MiB or GiB");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(expected()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| ParseError::new("a size below 16 EiB"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let factor = 1_u64 << shift;
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// How much memory a process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// A part of what all processes of the container may take together, from 1 to 100.
    Percent(u8),
}

impl MemoryLimit {
    /// Less than an interpreter takes: a number without its unit, most likely.
    pub(crate) const SMALLEST: ByteSize = ByteSize::kib(16 * 1024);
}

impl FromStr for MemoryLimit {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = || {
            let smallest = Self::SMALLEST;
            ParseError::new(format!("a size of at least {smallest}, such as 512MiB, or 1% to 100%"))
        };
        if let Some(number) = text.strip_suffix('%') {
            let percent = digits(number.trim_end()).filter(|percent| (1..=100).contains(percent));
            return percent.map(Self::Percent).ok_or_else(expected);
        }
        match text.parse() {
            Ok(size @ ByteSize(bytes)) if size >= Self::SMALLEST => Ok(Self::Bytes(bytes)),
            _ => Err(expected()),
        }
    }
}

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
