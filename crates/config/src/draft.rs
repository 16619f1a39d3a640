//! The configuration while its settings are being read: rows of the table write into a [`Draft`].
//!
//! Owns what takes more than one setting to decide: how `--host`, `--port`, `--bind`, `--uds` and
//! `--fd` become one list of addresses, and which part of a stop's time streams have.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Problem;
use crate::options::{BindOptions, Config, Launch};
use crate::proxies::{ForwardedField, TrustedPeer};
use crate::types::{Bind, BindAddr, DEFAULT_UNIX_PERMISSIONS, LogLevel};

/// A configuration in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// Everything that one setting decides alone.
    pub(crate) config: Config,
    /// How the processes are started.
    pub(crate) launch: Launch,
    /// The parts of the addresses.
    pub(crate) listen: Listen,
    /// `--timeout-stream-shutdown`.
    pub(crate) stream_shutdown: StreamShutdown,
    /// Lists that have a default, which the first value replaces.
    pub(crate) proxies: Proxies,
    /// Whether there was an `--access-logfile`.
    pub(crate) has_access_logfile: bool,
}

/// Whom to believe, and what.
#[derive(Debug, Default)]
pub(crate) struct Proxies {
    /// `--forwarded-allow-ips`.
    pub(crate) allow_from: Option<Vec<TrustedPeer>>,
    /// `--forwarded-headers`.
    pub(crate) fields: Option<Vec<ForwardedField>>,
    /// `--proxy-allow-from`.
    pub(crate) protocol_allow_from: Option<Vec<TrustedPeer>>,
}

/// How long streams may go on when the server stops.
#[derive(Debug, Default)]
pub(crate) enum StreamShutdown {
    /// A third of what all requests have.
    #[default]
    Auto,
    /// So long.
    After(Duration),
    /// As long as all requests.
    Never,
}

/// What was said about where to listen.
#[derive(Debug, Default)]
pub(crate) struct Listen {
    /// `--host`.
    pub(crate) host: Option<String>,
    /// `--port`.
    pub(crate) port: Option<u16>,
    /// `--bind`.
    pub(crate) binds: Vec<Bind>,
    /// `--uds`.
    pub(crate) uds: Option<PathBuf>,
    /// `--uds-permissions`.
    pub(crate) uds_permissions: Option<u32>,
    /// `--fd`.
    pub(crate) fd: Option<i32>,
}

impl Draft {
    /// The finished configuration, or what does not fit together in it.
    pub(crate) fn finish(self) -> Result<Config, Vec<Problem>> {
        let config = self.unchecked();
        let problems = config.tls.problems(&config.bind.addresses);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// The same, whether or not it fits together.
    pub(crate) fn unchecked(mut self) -> Config {
        let is_tls = self.config.tls.is_on();
        if let Some(addresses) = self.listen.addresses(is_tls) {
            self.config.bind.addresses = addresses;
        } else if is_tls {
            let addresses = std::mem::take(&mut self.config.bind.addresses);
            self.config.bind.addresses = addresses.into_iter().map(BindAddr::encrypted).collect();
        }
        let workers = &mut self.config.workers;
        workers.timeout_stream_shutdown = match self.stream_shutdown {
            StreamShutdown::Auto => Some(workers.timeout_graceful_shutdown / 3),
            StreamShutdown::After(limit) => Some(limit),
            StreamShutdown::Never => None,
        };
        let log = &mut self.config.log;
        // As in uvicorn, where lines about requests are at `info`; gunicorn's users name a file, and then
        // expect them at any level. Python's loggers have levels of their own.
        let is_quiet = log.level.python_number() > LogLevel::Info.python_number();
        log.access_log &= self.has_access_logfile || log.python || !is_quiet;
        let proxy = &mut self.config.proxy;
        replace(&mut proxy.allow_from, self.proxies.allow_from);
        replace(&mut proxy.fields, self.proxies.fields);
        replace(&mut proxy.protocol_allow_from, self.proxies.protocol_allow_from);
        self.config
    }
}

fn replace<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

impl Listen {
    /// The addresses, or nothing if none was given. With a certificate, those that do not say
    /// otherwise are encrypted.
    fn addresses(self, is_tls: bool) -> Option<Vec<BindAddr>> {
        let permissions = self.uds_permissions.unwrap_or(DEFAULT_UNIX_PERMISSIONS);
        let encrypt = |address: BindAddr| if is_tls { address.encrypted() } else { address };
        let binds = self.binds.into_iter();
        let mut addresses: Vec<BindAddr> = binds
            .map(|bind| if bind.has_scheme { bind.address } else { encrypt(bind.address) })
            .collect();
        let uds = self.uds.map(|path| BindAddr::Unix { path, permissions });
        addresses.extend(uds.into_iter().chain(self.fd.map(BindAddr::Fd)).map(encrypt));
        for address in &mut addresses {
            address.set_permissions(permissions);
        }
        if !addresses.is_empty() {
            return Some(addresses);
        }
        if self.host.is_none() && self.port.is_none() {
            return None;
        }
        let mut addresses = BindOptions::default().addresses;
        if let Some(BindAddr::Tcp { host, port }) = addresses.first_mut() {
            *host = self.host.unwrap_or_else(|| std::mem::take(host));
            *port = self.port.unwrap_or(*port);
        }
        Some(addresses.into_iter().map(encrypt).collect())
    }
}
