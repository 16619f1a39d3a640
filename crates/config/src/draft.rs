//! The configuration while its settings are being read: rows of the table write into a [`Draft`].
//!
//! Owns what takes more than one setting to decide: how `--host`, `--port`, `--bind`, `--uds` and
//! `--fd` become one list of addresses, and which part of a stop's time streams have.

use std::path::PathBuf;
use std::time::Duration;

use crate::options::{BindOptions, Config, Launch};
use crate::types::{BindAddr, DEFAULT_UNIX_PERMISSIONS};

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
    pub(crate) binds: Vec<BindAddr>,
    /// `--uds`.
    pub(crate) uds: Option<PathBuf>,
    /// `--uds-permissions`.
    pub(crate) uds_permissions: Option<u32>,
    /// `--fd`.
    pub(crate) fd: Option<i32>,
}

impl Draft {
    /// The finished configuration.
    pub(crate) fn finish(mut self) -> Config {
        if let Some(addresses) = self.listen.addresses() {
            self.config.bind.addresses = addresses;
        }
        let workers = &mut self.config.workers;
        workers.timeout_stream_shutdown = match self.stream_shutdown {
            StreamShutdown::Auto => Some(workers.timeout_graceful_shutdown / 3),
            StreamShutdown::After(limit) => Some(limit),
            StreamShutdown::Never => None,
        };
        self.config
    }
}

impl Listen {
    /// The addresses, or nothing if none was given.
    fn addresses(self) -> Option<Vec<BindAddr>> {
        let permissions = self.uds_permissions.unwrap_or(DEFAULT_UNIX_PERMISSIONS);
        let mut addresses = self.binds;
        addresses.extend(self.uds.map(|path| BindAddr::Unix { path, permissions }));
        addresses.extend(self.fd.map(BindAddr::Fd));
        for address in &mut addresses {
            if let BindAddr::Unix { permissions: bits, .. } = address {
                *bits = permissions;
            }
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
        Some(addresses)
    }
}
