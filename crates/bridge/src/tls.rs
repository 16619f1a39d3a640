//! TLS between settings, files and workers: who reads certificates, and how workers get new ones.
//!
//! ```text
//! supervisor   settings ──► Keeper: reads the files, decrypts keys, draws the keys of session tickets
//!                             │ thread: looks at the files every 2 s
//!                             ▼
//! worker       set-up, later updates ──► Tls, shared by the listeners
//! ```
//!
//! Files are read in one place, once: all workers have the same certificates and tickets, a worker
//! that starts while a file is broken gets what worked last, and a mistake is logged once. An idle
//! worker is never woken. Nothing of it touches a disk: the set-up travels in memory (a memfd).

use std::thread;
use std::time::{Duration, Instant};

use rsgi_config::{BindAddr, Config, HttpVersions};
use rsgi_server::Redirect;
use rsgi_server::tls::{
    ClientCertificates, Files, Material, ROTATION, Seen, TicketKeys, Tls, TlsError, TlsOptions,
};
use rsgi_supervisor::Updates;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How often the files are looked at: a new certificate is in use within twice this.
const INTERVAL: Duration = Duration::from_secs(2);

/// Where a worker finds its [`State`] in what it is told, beside the settings.
const KEY: &str = "tls_state";

/// What workers need to speak TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    material: Material,
    tickets: TicketKeys,
}

impl State {
    /// What a supervisor has put into a set-up or an update.
    pub(crate) fn from_setup(setup: &Value) -> serde_json::Result<Option<Self>> {
        setup.get(KEY).map(Self::deserialize).transpose()
    }

    /// What a supervisor adds to the settings that a worker is told.
    fn addition(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self).map(|state| json!({ KEY: state }))
    }

    /// TLS with it.
    pub(crate) fn start(&self, config: &Config) -> Result<Tls, TlsError> {
        Tls::new(options(config), &self.material, &self.tickets)
    }

    /// Goes on with it.
    pub(crate) fn apply_to(&self, tls: &Tls) -> Result<(), TlsError> {
        tls.replace(&self.material, &self.tickets)
    }
}

/// Knows the files, and what was in them when it could last be used.
#[derive(Debug)]
pub(crate) struct Keeper {
    files: Files,
    options: TlsOptions,
    state: State,
    /// When the files were last read, they were like this.
    seen: Seen,
    /// Whether to read them again although they look the same.
    reading: Reading,
    rotated: Instant,
}

/// What the last look at the files came to.
#[derive(Debug, PartialEq, Eq)]
enum Reading {
    /// They are in use.
    Settled,
    /// They have just changed, and may be changing still: a clock that ticks every few
    /// milliseconds does not tell two changes in a row apart.
    Changed,
    /// They cannot be used. A pair that is half written is no mistake yet.
    Failed { reason: String, is_logged: bool },
}

impl Keeper {
    /// Reads the files for the first time; none if the settings name no certificate.
    pub(crate) fn new(config: &Config) -> Result<Option<Self>, TlsError> {
        if !config.tls.is_on() {
            return Ok(None);
        }
        let files = files(config);
        let seen = files.look();
        let state = State { material: files.read()?, tickets: TicketKeys::new()? };
        let options = options(config);
        Tls::new(options.clone(), &state.material, &state.tickets)?;
        let reading = Reading::Changed;
        Ok(Some(Self { files, options, state, seen, reading, rotated: Instant::now() }))
    }

    /// What is in use.
    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// Keeps looking, in a thread of its own: files may be slow, and decrypting a key is. Ends when
    /// `publish` says that nobody listens any more.
    pub(crate) fn watch(mut self, publish: impl Fn(&State) -> bool + Send + 'static) {
        let work = move || {
            loop {
                thread::sleep(INTERVAL);
                if self.has_changed(Instant::now()) && !publish(&self.state) {
                    return;
                }
            }
        };
        // It needs little: no recursion, no buffers on the stack.
        let started = thread::Builder::new()
            .name("rsgi-tls-files".to_owned())
            .stack_size(256 * 1024)
            .spawn(work);
        if let Err(error) = started {
            log::error!("cannot watch the certificates: {error}");
        }
    }

    /// What workers are told beside the settings, now and whenever it changes.
    pub(crate) fn updates(self) -> serde_json::Result<Updates> {
        let (sender, updates) = watch::channel(self.state.addition()?);
        self.watch(move |state| match state.addition() {
            Ok(addition) => sender.send(addition).is_ok(),
            Err(error) => {
                log::error!("new certificates cannot be passed to the workers: {error}");
                true
            }
        });
        Ok(updates)
    }

    /// Looks once. Returns whether there is something new to use.
    fn has_changed(&mut self, now: Instant) -> bool {
        let mut has_changed = self.rotate(now);
        let seen = self.files.look();
        if seen == self.seen && self.reading == Reading::Settled {
            return has_changed;
        }
        let is_new = seen != self.seen;
        self.seen = seen;
        match self.read() {
            Ok(is_used) => {
                has_changed |= is_used;
                let recovered = matches!(self.reading, Reading::Failed { is_logged: true, .. });
                if is_used || recovered {
                    log::info!("The TLS certificates are reloaded.");
                }
                self.reading = if is_new || is_used { Reading::Changed } else { Reading::Settled };
            }
            Err(error) => self.fail(error.to_string()),
        }
        has_changed
    }

    fn read(&mut self) -> Result<bool, TlsError> {
        let material = self.files.read()?;
        if material == self.state.material {
            return Ok(false);
        }
        let mut tickets = self.state.tickets.clone();
        let trusted =
            |material: &Material| (material.authorities.clone(), material.revocations.clone());
        if trusted(&material) != trusted(&self.state.material) {
            // A ticket would let in clients that are not trusted any more.
            tickets = TicketKeys::new()?;
            self.rotated = Instant::now();
        }
        Tls::new(self.options.clone(), &material, &tickets)?;
        self.state = State { material, tickets };
        Ok(true)
    }

    /// The second time in a row it is a mistake, and not just a file that is being written.
    fn fail(&mut self, reason: String) {
        let is_logged = match &self.reading {
            Reading::Failed { reason: last, is_logged } if *last == reason => {
                if !is_logged {
                    log::error!(
                        "The TLS certificates cannot be reloaded, the last ones stay in use: {reason}"
                    );
                }
                true
            }
            _ => false,
        };
        self.reading = Reading::Failed { reason, is_logged };
    }

    fn rotate(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.rotated) < ROTATION {
            return false;
        }
        self.rotated = now;
        self.state.tickets.rotate().is_ok()
    }
}

/// The settings that a worker is told; it does not need the password.
pub(crate) fn setup(config: &Config) -> serde_json::Result<Value> {
    let mut config = config.clone();
    config.tls.password = None;
    serde_json::to_value(config)
}

fn files(config: &Config) -> Files {
    let tls = &config.tls;
    let keys = if tls.keys.is_empty() { &tls.certificates } else { &tls.keys };
    Files {
        identities: tls.certificates.iter().cloned().zip(keys.iter().cloned()).collect(),
        password: tls.password.as_ref().map(|password| password.reveal().to_owned()),
        authorities: tls.authorities.clone(),
        revocations: tls.revocations.clone(),
    }
}

fn options(config: &Config) -> TlsOptions {
    let tls = &config.tls;
    TlsOptions {
        only_tls13: tls.min_version == rsgi_config::TlsVersion::Tls13,
        ciphers: tls.ciphers.clone(),
        client_certificates: match tls.client_certificates {
            rsgi_config::ClientCertificates::None => ClientCertificates::None,
            rsgi_config::ClientCertificates::Optional => ClientCertificates::Optional,
            rsgi_config::ClientCertificates::Required => ClientCertificates::Required,
        },
        handshake_timeout: tls.handshake_timeout,
        // RFC 7301: the first that the client knows, too.
        protocols: match config.http.versions {
            HttpVersions::Auto => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            HttpVersions::Http1 => vec![b"http/1.1".to_vec()],
            HttpVersions::Http2 => vec![b"h2".to_vec()],
        },
    }
}

/// What plain listeners do instead of serving, if that is wanted.
pub(crate) fn redirect(
    config: &Config,
    listeners: &[rsgi_supervisor::Listener],
    plain: &rsgi_supervisor::Listener,
) -> Option<Redirect> {
    let to = listeners.iter().filter(|listener| listener.is_tls()).find_map(port);
    config.tls.redirect.then(|| Redirect { from: port(plain), to })
}

fn port(listener: &rsgi_supervisor::Listener) -> Option<u16> {
    let (scheme, rest) = listener.address.split_once("://")?;
    let port = rest.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.filter(|_| scheme.starts_with("http"))
}

/// Whether an address is to be encrypted that a service manager has opened: those have no scheme.
pub(crate) fn encrypts_activated(config: &Config) -> bool {
    config.tls.is_on() && !config.bind.addresses.iter().any(|address| !BindAddr::is_tls(address))
}
