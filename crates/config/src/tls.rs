//! The settings of TLS, and how their values are written.
//!
//! Owns which of them need each other. Must not open a file: whether a certificate is one is found
//! out by whoever reads it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Problem;
use crate::types::{BindAddr, ParseError};

/// Certificates, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// PEM files with a certificate and its chain each; the first is the default. None for no TLS.
    pub certificates: Vec<PathBuf>,
    /// A PEM file with a key for each certificate, or none if the keys are in the same files.
    pub keys: Vec<PathBuf>,
    /// What the keys are encrypted with.
    pub password: Option<Secret>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Names of cipher suites, in order of preference; empty for the defaults.
    pub ciphers: Vec<String>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// PEM file with the authorities that clients' certificates must come from.
    pub authorities: Option<PathBuf>,
    /// PEM files with lists of revoked certificates.
    pub revocations: Vec<PathBuf>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Whether plain listeners send clients to the encrypted one.
    pub redirect: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            certificates: Vec::new(),
            keys: Vec::new(),
            password: None,
            min_version: TlsVersion::Tls12,
            ciphers: Vec::new(),
            client_certificates: ClientCertificates::None,
            authorities: None,
            revocations: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            redirect: false,
        }
    }
}

impl TlsOptions {
    /// Whether there is a certificate.
    pub fn is_on(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// What does not fit together, with the addresses or in itself.
    pub(crate) fn problems(&self, addresses: &[BindAddr]) -> Vec<Problem> {
        let mut messages = Vec::new();
        let encrypted = addresses.iter().filter(|address| address.is_tls()).count();
        if !self.is_on() {
            let needs = [
                (encrypted > 0, "an https address"),
                (!self.keys.is_empty(), "ssl_keyfile"),
                (self.client_certificates != ClientCertificates::None, "ssl_cert_reqs"),
                (self.redirect, "redirect_https"),
            ];
            let needs = needs.into_iter().filter(|(is_given, _)| *is_given);
            messages.extend(needs.map(|(_, name)| format!("{name} needs ssl_certfile")));
        } else if !self.keys.is_empty() && self.keys.len() != self.certificates.len() {
            messages.push(format!(
                "ssl_keyfile is needed once for each ssl_certfile, or not at all where the keys are in the \
                 certificates' files: {} of {}",
                self.keys.len(),
                self.certificates.len()
            ));
        }
        let verifies = self.client_certificates != ClientCertificates::None;
        if verifies && self.authorities.is_none() {
            messages.push("ssl_cert_reqs needs ssl_ca_certs".to_owned());
        }
        if !self.revocations.is_empty() && !verifies {
            messages.push("ssl_crl needs ssl_cert_reqs".to_owned());
        }
        if self.redirect && self.is_on() && (encrypted == 0 || encrypted == addresses.len()) {
            messages.push(
                "redirect_https needs a plain address beside an encrypted one, such as \
                 `--bind http://0.0.0.0:80 --bind https://0.0.0.0:443`"
                    .to_owned(),
            );
        }
        messages.into_iter().map(Problem::general).collect()
    }
}

/// A text that is not shown.
///
/// It is written out where settings are serialised, because workers may need it: what shows
/// settings to people must leave [`TlsOptions::password`] out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A version of the protocol. Older ones are not spoken (RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificates {
    /// They are not asked for one.
    None,
    /// One that is shown must be valid.
    Optional,
    /// Without a valid one there is no connection.
    Required,
}

/// A minimum version: `TLSv1.2`, `TLSv1_2`, `tls1.2`, `1.2`, or a constant of Python's `ssl`.
///
/// The constants are `PROTOCOL_TLS` (2), `PROTOCOL_TLS_CLIENT` (16) and `PROTOCOL_TLS_SERVER` (17),
/// which leave it open, `PROTOCOL_TLSv1_2` (5), and `TLSVersion.TLSv1_2` and `TLSv1_3` (771, 772).
pub(crate) fn version(text: &str) -> Result<TlsVersion, ParseError> {
    let lower = text.to_ascii_lowercase().replace('_', ".");
    let name = lower.strip_prefix("protocol.").unwrap_or(&lower);
    let number = name.strip_prefix("tlsv").or_else(|| name.strip_prefix("tls"));
    match number.unwrap_or(name).trim_start_matches('.') {
        "1.2" | "5" | "771" | "2" | "16" | "17" => Ok(TlsVersion::Tls12),
        "" | "server" | "client" if number.is_some() => Ok(TlsVersion::Tls12),
        "1.3" | "772" => Ok(TlsVersion::Tls13),
        _ => Err(ParseError::new("TLSv1.2 or TLSv1.3; older versions are not safe")),
    }
}

/// A list of cipher suites, with `:` or `,` between them.
pub(crate) fn ciphers(text: &str) -> Result<Vec<String>, ParseError> {
    let names = text.split([':', ',', ' ']).map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ParseError::new("names of cipher suites with `:` between them"));
    }
    Ok(names)
}

/// `none`, `optional` or `required`, or Python's numbers and names for them.
pub(crate) fn client_certificates(text: &str) -> Result<ClientCertificates, ParseError> {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("cert_").unwrap_or(&lower) {
        "0" | "none" => Ok(ClientCertificates::None),
        "1" | "optional" => Ok(ClientCertificates::Optional),
        "2" | "required" => Ok(ClientCertificates::Required),
        _ => Err(ParseError::new("0 (none), 1 (optional) or 2 (required)")),
    }
}

/// The path of a file.
pub(crate) fn file(text: &str) -> Result<PathBuf, ParseError> {
    if text.is_empty() {
        return Err(ParseError::new("the path of a file"));
    }
    Ok(PathBuf::from(text))
}
