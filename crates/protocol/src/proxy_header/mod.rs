//! The PROXY protocol, versions 1 and 2: the header with which a proxy that does not look into a
//! connection says whose it is (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! Owns: the grammar, and where a header ends. Nothing is guessed: where a header has to be, the first
//! byte that cannot be part of one is an error. Must not know: from whom one is taken, and how long it
//! may take.
//!
//! Written here and not taken from a crate because it is the edge of trust: what is not a header to
//! the letter is refused, sizes have a limit, and bytes may come in any pieces.

mod v1;
mod v2;

use std::net::SocketAddr;

/// Which versions are understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Versions {
    /// A line of text.
    V1,
    /// Binary.
    V2,
    /// Either.
    Both,
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoints {
    /// The proxy's own, a health check.
    Local,
    /// That of a client at this address, who connected to that one.
    Inet {
        /// The client.
        source: SocketAddr,
        /// What it has connected to.
        destination: SocketAddr,
    },
    /// That of a client of a Unix socket.
    Unix,
    /// That of somebody whom the proxy does not name.
    Unknown,
}

/// What a header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ProxyHeader {
    /// Who and where.
    pub endpoints: Endpoints,
    /// Whether the client's connection to the proxy is encrypted, where the proxy tells.
    pub is_encrypted: bool,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// Something else was sent.
    #[error("the PROXY header is missing")]
    Missing,
    /// A line that breaks the rules.
    #[error("the PROXY line is malformed")]
    InvalidLine,
    /// A binary header that breaks the rules.
    #[error("the PROXY header is malformed")]
    InvalidBinary,
    /// More than anybody needs.
    #[error("the PROXY header is too long")]
    TooLong,
}

/// The longest header that is taken. The addresses are 232 bytes at most; what comes behind them can
/// be a client's certificate.
pub const LONGEST: usize = 8 * 1024;

/// Reads the header that `bytes` begin with: what it says, and its length. `None` if its end is still
/// to come.
pub fn parse(
    bytes: &[u8],
    versions: Versions,
) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let begins = |known: &[u8]| {
        let count = bytes.len().min(known.len());
        bytes.get(..count) == known.get(..count)
    };
    if versions != Versions::V2 && begins(v1::START) {
        v1::parse(bytes)
    } else if versions != Versions::V1 && begins(v2::SIGNATURE) {
        v2::parse(bytes)
    } else {
        Err(ProxyHeaderError::Missing)
    }
}

#[cfg(test)]
mod tests;
