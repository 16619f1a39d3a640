//! Certificates with their keys, as they travel between processes and as they are used.

use std::fmt;
use std::sync::Arc;

use pkcs8::der::pem::{LineEnding, encode_string};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use serde::{Deserialize, Serialize};

use super::error::TlsError;

/// Everything that comes from files, as PEM text, keys decrypted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// Certificates; the first is the default.
    pub identities: Vec<Identity>,
    /// Whom clients' certificates must come from.
    pub authorities: String,
    /// Lists of revoked certificates of clients.
    pub revocations: String,
}

/// A certificate, its chain, and its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// What to call it in a message: the certificate's file.
    pub name: String,
    /// The certificate, then those that lead to its authority.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("identities", &self.identities).finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An identity that can be used.
#[derive(Debug)]
pub(super) struct Certified {
    pub(super) key: Arc<CertifiedKey>,
    /// The certificate without its chain, for applications.
    pub(super) pem: Arc<str>,
}

impl Certified {
    pub(super) fn new(identity: &Identity, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let name = || identity.name.clone();
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(identity.chain.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| TlsError::Certificate {
                    name: name(),
                    reason: error.to_string(),
                })?;
        let Some(certificate) = chain.first() else {
            return Err(TlsError::NoCertificate { name: name() });
        };
        let pem = pem_of(certificate).into();
        let key =
            PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(
                |error| match error {
                    rustls::pki_types::pem::Error::NoItemsFound => TlsError::NoKey { name: name() },
                    error => TlsError::Key { name: name(), reason: error.to_string() },
                },
            )?;
        let key = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::Mismatch { name: name() }
            }
            Error::InvalidCertificate(error) => {
                TlsError::Certificate { name: name(), reason: error.to_string() }
            }
            error => TlsError::Key { name: name(), reason: error.to_string() },
        })?;
        Ok(Self { key: Arc::new(key), pem })
    }
}

/// A certificate as text.
pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> String {
    // Fails for labels that are none and lengths beyond any certificate.
    encode_string("CERTIFICATE", LineEnding::LF, certificate).unwrap_or_default()
}
