//! Why TLS cannot be spoken with what was given, with what to do about it.

use std::io;
use std::path::PathBuf;

/// Certificates, keys or settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read the file: `{}` ({source})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is larger than any certificate.
    #[error("the file is too large for certificates or keys: `{}`", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is no certificate where one should be.
    #[error("the file holds no certificate in PEM form: `{name}`")]
    NoCertificate {
        /// The file.
        name: String,
    },
    /// A certificate cannot be used.
    #[error("the certificate cannot be used: `{name}` ({reason})")]
    Certificate {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// There is no key where one should be.
    #[error("the file holds no private key in PEM form: `{name}`")]
    NoKey {
        /// The file.
        name: String,
    },
    /// A key cannot be used.
    #[error("the private key cannot be used: `{name}` ({reason})")]
    Key {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// A key is encrypted, and there is no password.
    #[error("the private key is encrypted, set its password: `{name}`")]
    PasswordMissing {
        /// The file.
        name: String,
    },
    /// A key is encrypted with another password.
    #[error("the private key cannot be decrypted, check its password: `{name}` ({reason})")]
    Password {
        /// The file.
        name: String,
        /// Why.
        reason: String,
    },
    /// A key is encrypted in the way of old versions of OpenSSL.
    #[error(
        "the private key is encrypted in an old form, convert it with \
         `openssl pkcs8 -topk8 -in OLD -out NEW`: `{name}`"
    )]
    OldEncryption {
        /// The file.
        name: String,
    },
    /// Certificate and key do not belong together.
    #[error("certificate and private key do not belong together: `{name}`")]
    Mismatch {
        /// The certificate's file.
        name: String,
    },
    /// An authority for clients' certificates cannot be used.
    #[error("the authorities of clients' certificates cannot be used: {reason}")]
    Authority {
        /// Why.
        reason: String,
    },
    /// There is no authority for clients' certificates.
    #[error("the file of authorities holds no certificate in PEM form")]
    NoAuthority,
    /// The lists of revoked certificates cannot be used.
    #[error("the lists of revoked certificates cannot be used: {reason}")]
    Revocations {
        /// Why.
        reason: String,
    },
    /// Cipher suites that are unknown or not safe enough.
    #[error("cipher suites unknown or not supported: `{names}`; there are {known}")]
    Ciphers {
        /// Those that were asked for and do not exist.
        names: String,
        /// Those that exist.
        known: String,
    },
    /// No cipher suite is left.
    #[error("no cipher suite is left for the versions that are allowed")]
    NoCiphers,
    /// The system's random numbers fail.
    #[error("the system has no random numbers")]
    Random,
}
