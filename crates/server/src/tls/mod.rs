//! TLS: which certificate a client sees, whether it must show one, and the handshake.
//!
//! What is spoken is decided when a [`Tls`] is made and can be replaced while connections run:
//! those that are open keep what they began with. Encryption itself is rustls'. Must not know: when
//! files change (its user watches them, with [`Files`]) or what is spoken inside.

mod ciphers;
mod error;
mod files;
mod handshake;
mod identity;
mod info;
mod keys;
mod tickets;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier,
};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig};

pub use self::error::TlsError;
pub use self::files::{Files, Seen};
pub(crate) use self::handshake::serve;
pub use self::identity::{Identity, Material};
pub use self::info::TlsInfo;
pub use self::tickets::{ROTATION, TicketKeys};

use self::identity::Certified;
use self::tickets::Ticketer;
use crate::rejection::RejectionLog;

/// What is asked of clients, in the server's own terms.
#[derive(Debug, Clone)]
pub struct TlsOptions {
    /// Whether versions older than 1.3 are refused.
    pub only_tls13: bool,
    /// Names of cipher suites, in order of preference; empty for the defaults.
    pub ciphers: Vec<String>,
    /// Whether clients show a certificate.
    pub client_certificates: ClientCertificates,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// What can be spoken inside, in order of preference (RFC 7301).
    pub protocols: Vec<Vec<u8>>,
}

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    None,
    /// One that is shown must be valid.
    Optional,
    /// Without a valid one there is no connection.
    Required,
}

/// The TLS of one worker, shared by its listeners.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    /// Read once in a handshake.
    current: RwLock<Arc<Vec<Arc<Choice>>>>,
    failures: RejectionLog,
}

/// One certificate that a client may be shown, and everything that goes with it.
#[derive(Debug)]
struct Choice {
    config: Arc<ServerConfig>,
    certified: Certified,
}

impl Tls {
    /// TLS with these certificates; the first is for clients that name no other's host.
    pub fn new(
        options: TlsOptions,
        material: &Material,
        tickets: &TicketKeys,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(ciphers::provider(&options.ciphers)?);
        let choices = choices(&options, &provider, material, tickets)?;
        Ok(Self {
            options,
            provider,
            current: RwLock::new(Arc::new(choices)),
            failures: RejectionLog::default(),
        })
    }

    /// Uses other certificates from the next connection on. Nothing changes if they cannot be used.
    pub fn replace(&self, material: &Material, tickets: &TicketKeys) -> Result<(), TlsError> {
        let choices = choices(&self.options, &self.provider, material, tickets)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(choices);
        Ok(())
    }

    fn current(&self) -> Arc<Vec<Arc<Choice>>> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificate for a client: one for the name it asks for that it can verify, or else one
    /// for the name, or else the first.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<Choice>> {
        let current = self.current();
        let first = current.first()?;
        if current.len() == 1 {
            return Some(Arc::clone(first));
        }
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named: Vec<&Arc<Choice>> = current
            .iter()
            .filter(|choice| name.as_ref().is_some_and(|name| choice.is_for(name)))
            .collect();
        let candidates = if named.is_empty() { vec![first] } else { named };
        let understood = candidates.iter().find(|choice| {
            choice.certified.key.key.choose_scheme(hello.signature_schemes()).is_some()
        });
        understood.or(candidates.first()).map(|choice| Arc::clone(choice))
    }
}

impl Choice {
    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let certificate = self.certified.key.cert.first();
        certificate
            .and_then(|certificate| ParsedCertificate::try_from(certificate).ok())
            .is_some_and(|certificate| {
                rustls::client::verify_server_name(&certificate, name).is_ok()
            })
    }
}

fn choices(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    material: &Material,
    tickets: &TicketKeys,
) -> Result<Vec<Arc<Choice>>, TlsError> {
    let verifier = verifier(options, provider, material)?;
    let ticketer = Arc::new(Ticketer::new(tickets)?);
    let versions: &[_] = if options.only_tls13 {
        &[&rustls::version::TLS13]
    } else {
        &[&rustls::version::TLS13, &rustls::version::TLS12]
    };
    material
        .identities
        .iter()
        .map(|identity| {
            let certified = Certified::new(identity, provider)?;
            let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
                .with_protocol_versions(versions)
                .map_err(|_| TlsError::NoCiphers)?;
            let resolver = SingleCertAndKey::from(Arc::clone(&certified.key));
            let mut config = builder
                .with_client_cert_verifier(Arc::clone(&verifier))
                .with_cert_resolver(Arc::new(resolver));
            config.alpn_protocols.clone_from(&options.protocols);
            config.ticketer = Arc::<Ticketer>::clone(&ticketer);
            // What a client needs to come back is in its ticket, so that any worker will do.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            Ok(Arc::new(Choice { config: Arc::new(config), certified }))
        })
        .collect()
}

fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    material: &Material,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    if options.client_certificates == ClientCertificates::None {
        return Ok(WebPkiClientVerifier::no_client_auth());
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(material.authorities.as_bytes()) {
        let added = certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()));
        added.map_err(|reason| TlsError::Authority { reason })?;
    }
    if roots.is_empty() {
        return Err(TlsError::NoAuthority);
    }
    let revocations: Vec<CertificateRevocationListDer<'static>> =
        CertificateRevocationListDer::pem_slice_iter(material.revocations.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::Revocations { reason: error.to_string() })?;
    if revocations.is_empty() && !material.revocations.is_empty() {
        return Err(TlsError::Revocations { reason: "the files hold none".to_owned() });
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !revocations.is_empty() {
        builder = builder.with_crls(revocations).enforce_revocation_expiration();
    }
    if options.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError::Revocations { reason: error.to_string() })
}
