//! Version 1: `PROXY TCP4 192.0.2.1 203.0.113.7 56324 443` and CRLF.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::memchr;

use super::{Endpoints, ProxyHeader, ProxyHeaderError};

/// How the line begins.
pub(super) const START: &[u8] = b"PROXY ";
/// The longest line, its end included (section 2.1).
const LONGEST_LINE: usize = 107;

pub(super) fn parse(bytes: &[u8]) -> Result<Option<(ProxyHeader, usize)>, ProxyHeaderError> {
    let invalid = ProxyHeaderError::InvalidLine;
    let window = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
    let Some(end) = memchr(b'\n', window) else {
        return if window.len() < LONGEST_LINE { Ok(None) } else { Err(ProxyHeaderError::TooLong) };
    };
    let line = bytes.get(START.len()..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| str::from_utf8(line).ok()).ok_or(invalid)?;
    let endpoints = endpoints(line).ok_or(invalid)?;
    Ok(Some((ProxyHeader { endpoints, is_encrypted: false }, end.saturating_add(1))))
}

/// What stands behind `PROXY `.
fn endpoints(line: &str) -> Option<Endpoints> {
    let (family, rest) = line.split_once(' ').unwrap_or((line, ""));
    // Whatever follows it has to be ignored (section 2.1).
    if family == "UNKNOWN" {
        return Some(Endpoints::Unknown);
    }
    let parse: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return None,
    };
    let mut words = rest.split(' ');
    let source = parse(words.next()?)?;
    let destination = parse(words.next()?)?;
    let source = SocketAddr::new(source, port(words.next()?)?);
    let destination = SocketAddr::new(destination, port(words.next()?)?);
    words.next().is_none().then_some(Endpoints::Inet { source, destination })
}

/// Digits without a sign and without leading zeros.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = is_plain && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}
