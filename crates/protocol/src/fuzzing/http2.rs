//! The invariants of an HTTP/2 request's mapping to what HTTP/1.1 would have said.

use ::http::uri::{Authority, PathAndQuery};
use ::http::{HeaderName, HeaderValue, Method};

use crate::http::http2::{PseudoFields, ReadRequest, read_request};
use crate::http::{HeadLimits, parse_head};

/// What the HTTP/2 stack lets through, written as a head of HTTP/1.1: `:authority` and `:protocol`
/// are fields there.
struct Given {
    method: Method,
    path: PathAndQuery,
    authority: Option<Authority>,
    protocol: Option<String>,
    fields: Vec<(HeaderName, HeaderValue)>,
}

fn read(bytes: &[u8]) -> Option<Given> {
    let mut lines = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    let mut words = lines.next()?.split(|&byte| byte == b' ');
    let mut given = Given {
        method: Method::from_bytes(words.next()?).ok()?,
        path: PathAndQuery::try_from(words.next()?).ok()?,
        authority: None,
        protocol: None,
        fields: Vec::new(),
    };
    for line in lines.filter(|line| !line.is_empty()) {
        let from = usize::from(line.starts_with(b":"));
        let colon = line.iter().skip(from).position(|&byte| byte == b':')?.checked_add(from)?;
        let (name, value) = line.split_at_checked(colon)?;
        let value = value.get(1..)?.trim_ascii();
        match name {
            b":authority" => given.authority = Some(Authority::try_from(value).ok()?),
            b":protocol" => given.protocol = Some(str::from_utf8(value).ok()?.to_owned()),
            name => given
                .fields
                .push((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?)),
        }
    }
    Some(given)
}

/// A request that is accepted has one host that HTTP/1.1 takes with the same target, at most one
/// cookie with every crumb in it, and all other fields in their order.
pub fn http2(bytes: &[u8]) {
    let Some(given) = read(bytes) else { return };
    let limits = HeadLimits { size: 2048, target: 512, fields: 16 };
    let pseudo = PseudoFields {
        method: given.method.as_str(),
        path: given.path.as_str().as_bytes(),
        authority: given.authority.as_ref().map(|authority| authority.as_str().as_bytes()),
        protocol: given.protocol.as_deref(),
    };
    let fields = || given.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut joined = Vec::new();
    let Ok(ReadRequest { target, fields: got, is_websocket, .. }) =
        read_request(pseudo, fields(), &limits, &mut joined)
    else {
        return;
    };
    assert!(got.len() <= limits.fields.saturating_add(1), "more fields than allowed");
    assert_eq!(is_websocket, given.method == Method::CONNECT, "a CONNECT for something else");
    assert!(!is_websocket || given.protocol.is_some(), "a WebSocket that nobody asked for");
    let named = |name: &'static str| got.iter().filter(move |field| field.name == name);
    assert_eq!(named("host").count(), 1, "not one host");
    let host = named("host").next().map(|field| field.value).unwrap_or_default();
    if let Some(authority) = &given.authority {
        assert_eq!(host, authority.as_str().as_bytes(), "another host counts");
        assert_eq!(got.first().map(|field| field.name), Some("host"), "the host is not first");
    }
    let crumbs: Vec<&[u8]> =
        fields().filter(|(name, _)| *name == "cookie").map(|(_, value)| value).collect();
    let cookie: Vec<&[u8]> = named("cookie").map(|field| field.value).collect();
    if crumbs.is_empty() {
        assert!(cookie.is_empty(), "a cookie out of nothing");
    } else {
        assert_eq!(cookie, [crumbs.join(b"; ".as_slice())], "crumbs were lost");
    }
    let others = |name: &str| !matches!(name, "host" | "cookie");
    let expected: Vec<_> = fields().filter(|(name, _)| others(name)).collect();
    let plain = got.iter().filter(|field| others(field.name));
    let plain: Vec<_> = plain.map(|field| (field.name, field.value)).collect();
    assert_eq!(plain, expected, "fields were lost, or changed places");
    let method = if is_websocket { "GET" } else { given.method.as_str() };
    let line = [method.as_bytes(), b" ", pseudo.path, b" HTTP/1.1\r\nhost: "].concat();
    let head = [&line, host, b"\r\n\r\n"].concat();
    let same = parse_head(&head, &limits, |head| head.target == target && head.host == Some(host));
    assert_eq!(same, Ok(true), "HTTP/1.1 reads it otherwise");
}
