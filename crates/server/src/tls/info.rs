//! What an application may know about a connection's TLS (the `tls` extension of ASGI).

use std::sync::Arc;

use rustls::ServerConnection;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::identity::{Certified, pem_of};

/// How a connection is encrypted, and for whom.
#[derive(Debug, Clone)]
pub struct TlsInfo {
    /// The server's certificate that the client was shown, as PEM.
    pub server_certificate: Arc<str>,
    /// The client's certificate and those it sent with it, as PEM.
    pub client_chain: Vec<String>,
    /// Whom the client's certificate is for (RFC 4514).
    pub client_name: Option<String>,
    /// The version's number on the wire, 0x0304 for TLS 1.3.
    pub version: Option<u16>,
    /// The cipher suite's number on the wire.
    pub cipher_suite: Option<u16>,
    /// What both sides have agreed to speak, if the client asked.
    pub protocol: Option<Vec<u8>>,
}

impl TlsInfo {
    pub(super) fn new(session: &ServerConnection, shown: &Certified) -> Self {
        let chain = session.peer_certificates().unwrap_or_default();
        let client = chain.first().and_then(|certificate| Certificate::from_der(certificate).ok());
        Self {
            server_certificate: Arc::clone(&shown.pem),
            client_chain: chain.iter().map(pem_of).collect(),
            client_name: client.map(|client| client.tbs_certificate().subject().to_string()),
            version: session.protocol_version().map(u16::from),
            cipher_suite: session.negotiated_cipher_suite().map(|suite| suite.suite().into()),
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
        }
    }
}
