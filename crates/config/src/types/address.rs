//! Where to listen: addresses as people write them.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ParseError;

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
