//! Private keys in every form that people have them in.
//!
//! Encrypted ones (PKCS#8 with PBES2) are decrypted with `pkcs8`. The older form of OpenSSL
//! (`Proc-Type: 4,ENCRYPTED`) is not: no maintained crate reads it, its key derivation is one round of
//! MD5, and one command converts it.

use pkcs8::der::SecretDocument;
use pkcs8::der::pem::LineEnding;
use pkcs8::{EncryptedPrivateKeyInfoRef, Error};

use super::error::TlsError;

const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// The key of a PEM text as a PEM text that is not encrypted.
pub(super) fn decrypted(
    text: &str,
    password: Option<&str>,
    name: &str,
) -> Result<String, TlsError> {
    let named = || name.to_owned();
    if text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(TlsError::OldEncryption { name: named() });
    }
    let Some(section) = section(text) else {
        return Ok(text.to_owned());
    };
    let password = password.ok_or_else(|| TlsError::PasswordMissing { name: named() })?;
    let broken = |error: String| TlsError::Key { name: named(), reason: error };
    let (_, document) =
        SecretDocument::from_pem(section).map_err(|error| broken(error.to_string()))?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes())
        .map_err(|error| broken(error.to_string()))?;
    let key = encrypted
        .decrypt(password)
        .map_err(|error: Error| TlsError::Password { name: named(), reason: error.to_string() })?;
    let pem = key.to_pem("PRIVATE KEY", LineEnding::LF);
    pem.map(|pem| pem.to_string()).map_err(|error| broken(error.to_string()))
}

fn section(text: &str) -> Option<&str> {
    let start = text.find(BEGIN)?;
    let rest = text.get(start..)?;
    let end = rest.find(END)?;
    rest.get(..end + END.len())
}
