//! Names of cipher suites: OpenSSL's and IANA's.

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, SupportedCipherSuite};

use super::error::TlsError;

/// OpenSSL's names for TLS 1.2; those of TLS 1.3 are IANA's.
const OPENSSL: [(&str, CipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// The provider of cryptography, with these suites only.
pub(super) fn provider(names: &[String]) -> Result<CryptoProvider, TlsError> {
    let mut provider = aws_lc_rs::default_provider();
    if names.is_empty() {
        return Ok(provider);
    }
    let all = std::mem::take(&mut provider.cipher_suites);
    let mut unknown = Vec::new();
    for name in names {
        let meant: Vec<SupportedCipherSuite> =
            all.iter().filter(|suite| is_meant(name, **suite)).copied().collect();
        if meant.is_empty() {
            unknown.push(name.as_str());
        }
        for suite in meant {
            if !provider.cipher_suites.contains(&suite) {
                provider.cipher_suites.push(suite);
            }
        }
    }
    if !unknown.is_empty() {
        let known: Vec<String> = all.iter().map(|suite| name_of(*suite)).collect();
        return Err(TlsError::Ciphers { names: unknown.join(", "), known: known.join(", ") });
    }
    if !provider.cipher_suites.iter().any(|suite| suite.tls13().is_some()) {
        let mut suites: Vec<_> = all.into_iter().filter(|suite| suite.tls13().is_some()).collect();
        suites.append(&mut provider.cipher_suites);
        provider.cipher_suites = suites;
    }
    Ok(provider)
}

/// Whether a name, or one of the groups that are in use, means this suite.
fn is_meant(name: &str, suite: SupportedCipherSuite) -> bool {
    let is_tls12 = suite.tls13().is_none();
    let shown = name_of(suite);
    match name.to_ascii_uppercase().as_str() {
        "DEFAULT" => true,
        "ECDHE+AESGCM" | "EECDH+AESGCM" => is_tls12 && shown.contains("GCM"),
        "ECDHE+CHACHA20" | "EECDH+CHACHA20" => is_tls12 && shown.contains("CHACHA20"),
        wanted => shown == wanted || iana(suite) == wanted,
    }
}

/// `TLS_AES_128_GCM_SHA256`. (rustls writes `TLS13_` for the version it is of.)
fn iana(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

/// The name that OpenSSL knows a suite by.
fn name_of(suite: SupportedCipherSuite) -> String {
    let known = OPENSSL.iter().find(|(_, known)| *known == suite.suite());
    known.map_or_else(|| iana(suite), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &str) -> Vec<String> {
        let names: Vec<String> = names.split(':').map(str::to_owned).collect();
        provider(&names).unwrap().cipher_suites.into_iter().map(name_of).collect()
    }

    #[test]
    fn every_suite_is_known_by_both_names() {
        for suite in aws_lc_rs::default_provider().cipher_suites {
            for name in [name_of(suite), iana(suite), iana(suite).to_ascii_lowercase()] {
                assert!(is_meant(&name, suite), "{name}");
            }
            assert!(!name_of(suite).contains("_WITH_"), "{suite:?}");
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_leaves_tls13_alone() {
        assert_eq!(
            suites("ECDHE-RSA-AES128-GCM-SHA256:TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
            [
                "TLS_AES_256_GCM_SHA384",
                "TLS_AES_128_GCM_SHA256",
                "TLS_CHACHA20_POLY1305_SHA256",
                "ECDHE-RSA-AES128-GCM-SHA256",
                "ECDHE-ECDSA-AES256-GCM-SHA384",
            ]
        );
        assert_eq!(suites("TLS_AES_128_GCM_SHA256"), ["TLS_AES_128_GCM_SHA256"]);
        assert_eq!(suites("ECDHE+AESGCM").len(), 3 + 4);
        assert_eq!(suites("DEFAULT").len(), 9);
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let names = ["AES128-SHA", "ECDHE+AESGCM", "NONSENSE"].map(str::to_owned);
        let message = provider(&names).unwrap_err().to_string();
        assert!(message.contains("`AES128-SHA, NONSENSE`"), "{message}");
        assert!(message.contains("ECDHE-RSA-AES128-GCM-SHA256"), "{message}");
    }
}
