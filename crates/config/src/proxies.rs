//! The settings about proxies in front, and how their values are written.
//!
//! Owns the grammar of a list of those who are trusted. What trust means, and what the fields mean, is
//! for others to know.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::types::{ParseError, one_of};

/// Whom to believe, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyOptions {
    /// Whether forwarded fields are read at all.
    pub headers: bool,
    /// Whose are.
    pub allow_from: Vec<TrustedPeer>,
    /// Which are.
    pub fields: Vec<ForwardedField>,
    /// Whether connections begin with a PROXY header.
    pub protocol: ProxyProtocol,
    /// Whose do.
    pub protocol_allow_from: Vec<TrustedPeer>,
}

impl Default for ProxyOptions {
    fn default() -> Self {
        Self {
            headers: true,
            allow_from: this_machine(),
            fields: vec![ForwardedField::For, ForwardedField::Proto],
            protocol: ProxyProtocol::Off,
            protocol_allow_from: this_machine(),
        }
    }
}

/// What uvicorn and gunicorn trust, and programs on the same machine that use a Unix socket instead.
fn this_machine() -> Vec<TrustedPeer> {
    let loopback = [IpAddr::from([127, 0, 0, 1]), std::net::Ipv6Addr::LOCALHOST.into()];
    let loopback = loopback.into_iter().map(|address| TrustedPeer::Network(address.into()));
    loopback.chain([TrustedPeer::Unix]).collect()
}

/// Somebody who is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustedPeer {
    /// Everybody.
    Everybody,
    /// Whoever has connected to a Unix socket.
    Unix,
    /// A network, or one address.
    Network(IpNet),
    /// Who is called this in a chain of proxies.
    Name(String),
}

/// `loopback`: this machine.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
/// What `private` adds to it: private (RFC 1918, RFC 4193) and link-local networks.
const PRIVATE: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

impl TrustedPeer {
    /// Reads a list with commas or white space between its parts; nobody for an empty one and for
    /// `none`.
    pub(crate) fn list(text: &str) -> Result<Vec<Self>, ParseError> {
        if text.trim().eq_ignore_ascii_case("none") {
            return Ok(Vec::new());
        }
        let parts = text.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty());
        let mut peers = Vec::new();
        for part in parts {
            match part {
                "loopback" => peers.extend(preset(&LOOPBACK)),
                "private" => peers.extend(preset(&LOOPBACK).chain(preset(&PRIVATE))),
                _ => peers.push(part.parse()?),
            }
            if matches!(part, "loopback" | "private") {
                peers.push(Self::Unix);
            }
        }
        Ok(peers)
    }
}

fn preset(networks: &[&str]) -> impl Iterator<Item = TrustedPeer> {
    // They are constants, and a test counts them.
    networks.iter().filter_map(|text| text.parse().ok()).map(TrustedPeer::Network)
}

impl FromStr for TrustedPeer {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        if text == "unix:" {
            return Ok(Self::Unix);
        }
        let plain = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = plain.parse::<IpAddr>() {
            return Ok(Self::Network(address.to_canonical().into()));
        }
        if let Ok(network) = text.parse::<IpNet>() {
            return Ok(Self::Network(network.trunc()));
        }
        // `10.0.0.*`, `10.0.0`, `10.0.0.1:80`, `10.0.0.0/33` or `unix:/path` mean something else than
        // they would do here
        let is_name =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
                && text.bytes().any(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if is_name {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(ParseError::new(
            "an IP address, a network such as 10.0.0.0/8, `unix:`, `private`, `loopback`, \
             a name in the fields, or `*`",
        ))
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Unix => f.write_str("unix:"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// A field that may be believed. `protocol` has the same list, because it knows no settings and this crate
/// knows no protocol; the `match` in `bridge/src/options.rs` does not compile if one of them grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForwardedField {
    /// `X-Forwarded-For`.
    For,
    /// `X-Forwarded-Proto`.
    Proto,
    /// `X-Forwarded-Host`.
    Host,
    /// `X-Forwarded-Prefix`.
    Prefix,
    /// `Forwarded`.
    Standard,
}

impl ForwardedField {
    const ALL: [Self; 5] = [Self::For, Self::Proto, Self::Host, Self::Prefix, Self::Standard];
    /// The names of the fields.
    const NAMES: [&str; 5] = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-prefix",
        "forwarded",
    ];

    /// Reads a list of names, as [`TrustedPeer::list`] does.
    pub(crate) fn list(text: &str) -> Result<Vec<Self>, ParseError> {
        let parts = text.split([',', ' ', '\t', '\n']).filter(|part| !part.is_empty());
        parts.map(str::parse).collect()
    }
}

impl FromStr for ForwardedField {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let known = Self::NAMES.iter().zip(Self::ALL);
        let known = known.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        known.map(|(_, field)| field).ok_or_else(|| one_of(&Self::NAMES))
    }
}

/// Whether connections begin with a PROXY header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// They do not.
    #[default]
    Off,
    /// A line of text.
    V1,
    /// Binary.
    V2,
    /// Either.
    Auto,
}

impl ProxyProtocol {
    /// The words for the variants.
    pub(crate) const WORDS: &'static [&'static str] = &["off", "v1", "v2", "auto"];
    /// What gunicorn takes besides, as it does: it was a switch once.
    const SWITCH: &'static [(&'static str, Self)] =
        &[("true", Self::Auto), ("false", Self::Off), ("none", Self::Off)];

    /// Whether this is one of the words.
    pub(crate) fn is_word(text: &str) -> bool {
        text.parse::<Self>().is_ok()
    }
}

impl FromStr for ProxyProtocol {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let variants = [Self::Off, Self::V1, Self::V2, Self::Auto];
        let words = Self::WORDS.iter().copied().zip(variants);
        let known = words.chain(Self::SWITCH.iter().copied());
        let mut known = known.filter(|(word, _)| word.eq_ignore_ascii_case(text));
        known.next().map(|(_, variant)| variant).ok_or_else(|| one_of(Self::WORDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_networks() {
        assert_eq!(preset(&LOOPBACK).count(), LOOPBACK.len());
        assert_eq!(preset(&PRIVATE).count(), PRIVATE.len());
    }
}
