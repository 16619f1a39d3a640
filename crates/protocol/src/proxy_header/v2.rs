//! Version 2: sixteen bytes, then addresses, then whatever else the proxy wants to tell.

use std::net::SocketAddr;

use super::{Endpoints, LONGEST, ProxyHeader, ProxyHeaderError};

/// How the header begins: no other protocol can.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The version, in the upper half of the thirteenth byte.
const VERSION: u8 = 2;
/// Types of further information (section 2.2.6).
const TYPE_SSL: u8 = 0x20;
/// The bit of that one that says that the client's connection is encrypted.
const CLIENT_SSL: u8 = 1;
/// What comes before the addresses.
const FIXED: usize = 16;
/// Two paths.
const UNIX_ADDRESSES: usize = 216;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let invalid = ProxyHeaderError::InvalidBinary;
    let behind = bytes.get(SIGNATURE.len()..).unwrap_or_default();
    let Some((&kind, rest)) = behind.split_first() else { return Ok(None) };
    let (version, command) = (kind >> 4, kind & 0x0f);
    if version != VERSION || command > 1 {
        return Err(invalid);
    }
    let Some((&family, rest)) = rest.split_first() else { return Ok(None) };
    let Some((&length, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(length));
    let whole = length.saturating_add(FIXED);
    if whole > LONGEST {
        return Err(ProxyHeaderError::TooLong);
    }
    let Some(content) = rest.get(..length) else { return Ok(None) };
    // The rest of a health check has to be ignored (section 2.2).
    let header = if command == 0 {
        ProxyHeader { endpoints: Endpoints::Local, is_encrypted: false }
    } else {
        header(family, content).ok_or(invalid)?
    };
    Ok(Some((header, whole)))
}

/// Addresses of a family, and what follows them.
fn header(family: u8, content: &[u8]) -> Option<ProxyHeader> {
    // The lower half is the transport: what was a datagram for the client is none here.
    let (endpoints, rest) = match (family >> 4, family & 0x0f) {
        (1, 1 | 2) => inet::<4>(content)?,
        (2, 1 | 2) => inet::<16>(content)?,
        (3, 1 | 2) => (Endpoints::Unix, content.get(UNIX_ADDRESSES..)?),
        // Addresses of a kind that is unknown cannot be told from what follows them.
        (0, _) | (_, 0) => {
            return Some(ProxyHeader { endpoints: Endpoints::Unknown, is_encrypted: false });
        }
        _ => return None,
    };
    let is_encrypted = is_encrypted(rest)?;
    Some(ProxyHeader { endpoints, is_encrypted })
}

/// Two addresses of `N` bytes, then their ports.
fn inet<const N: usize>(content: &[u8]) -> Option<(Endpoints, &[u8])>
where
    std::net::IpAddr: From<[u8; N]>,
{
    let (source, rest) = content.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, rest) = rest.split_first_chunk()?;
    let socket = |address: &[u8; N], port| SocketAddr::from((*address, u16::from_be_bytes(port)));
    let endpoints = Endpoints::Inet {
        source: socket(source, *source_port),
        destination: socket(destination, *destination_port),
    };
    Some((endpoints, rest))
}

/// Whether further information says that the client's connection is encrypted. Nothing if it breaks
/// the rules: a type, a length, so many bytes.
fn is_encrypted(mut rest: &[u8]) -> Option<bool> {
    let mut is_encrypted = false;
    while let Some((&kind, behind)) = rest.split_first() {
        let (length, behind) = behind.split_first_chunk()?;
        let (value, behind) = behind.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        if kind == TYPE_SSL {
            is_encrypted |= value.first()? & CLIENT_SSL != 0;
        }
        rest = behind;
    }
    Some(is_encrypted)
}
