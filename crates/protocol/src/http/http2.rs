//! What an HTTP/2 request's pseudo-fields mean (RFC 9113, section 8.3.1): the same target, host and
//! fields as over HTTP/1.1.
//!
//! The HTTP/2 stack has checked that the pseudo-fields are there once each and that no
//! connection-specific field is; what a URI or a host may be is checked here, by the rules that
//! HTTP/1.1 has.

use super::authority::is_authority;
use super::head::{Field, HeadLimits};
use super::target::{Target, TargetForm};
use crate::error::RequestError;

/// The pseudo-fields.
#[derive(Debug, Clone, Copy)]
pub struct PseudoFields<'b> {
    /// `:method`.
    pub method: &'b str,
    /// `:path`.
    pub path: &'b [u8],
    /// `:authority`.
    pub authority: Option<&'b [u8]>,
    /// `:protocol`, which makes a `CONNECT` an extended one (RFC 8441, section 4).
    pub protocol: Option<&'b str>,
}

/// A request, as over HTTP/1.1.
#[derive(Debug)]
pub struct ReadRequest<'b> {
    /// The target.
    pub target: Target<'b>,
    /// The fields as an application sees them.
    pub fields: Vec<Field<'b>>,
    /// Whether the client waits for a `100` before it sends content.
    pub expects_continue: bool,
    /// Whether it asks for a WebSocket.
    pub is_websocket: bool,
}

/// Reads a request: its target, and its fields as an application sees them. `:authority` comes
/// first, as `host`, in the place of any other; the crumbs of a cookie come last, as the one
/// `cookie` that is written into `cookie` (RFC 9113, section 8.2.3).
pub fn read_request<'b>(
    pseudo: PseudoFields<'b>,
    fields: impl Iterator<Item = (&'b str, &'b [u8])>,
    limits: &HeadLimits,
    cookie: &'b mut Vec<u8>,
) -> Result<ReadRequest<'b>, RequestError> {
    let (method, is_websocket) = match (pseudo.method, pseudo.protocol) {
        // The handshake is a GET in another form.
        ("CONNECT", Some(name)) if name.eq_ignore_ascii_case("websocket") => ("GET", true),
        ("CONNECT", Some(_)) => return Err(RequestError::ProtocolNotImplemented),
        ("CONNECT", None) => return Err(RequestError::MethodNotImplemented),
        (method, _) => (method, false),
    };
    if pseudo.path.len() > limits.target {
        return Err(RequestError::TargetTooLong);
    }
    let (target, _) = Target::parse(method, pseudo.path)?;
    if target.form == TargetForm::Absolute {
        return Err(RequestError::InvalidTarget);
    }
    let mut read = Vec::with_capacity(fields.size_hint().0.saturating_add(1));
    if let Some(authority) = pseudo.authority {
        if !is_authority(authority) {
            return Err(RequestError::InvalidHost);
        }
        read.push(Field { name: "host", value: authority });
    }
    let mut expects_continue = false;
    let mut crumbs = 0_usize;
    for (name, value) in fields {
        match name {
            "host" if pseudo.authority.is_some() => {}
            "host" if read.iter().any(|field: &Field<'_>| field.name == "host") => {
                return Err(RequestError::DuplicateHost);
            }
            "host" if !is_authority(value) => return Err(RequestError::InvalidHost),
            "cookie" => {
                if crumbs > 0 {
                    cookie.extend_from_slice(b"; ");
                }
                crumbs = crumbs.saturating_add(1);
                cookie.extend_from_slice(value);
            }
            _ => {
                if name == "expect" {
                    if !value.eq_ignore_ascii_case(b"100-continue") {
                        return Err(RequestError::InvalidExpectation);
                    }
                    expects_continue = true;
                }
                read.push(Field { name, value });
            }
        }
    }
    if !read.iter().any(|field| field.name == "host") {
        return Err(RequestError::MissingHost);
    }
    if read.len().saturating_add(crumbs) > limits.fields {
        return Err(RequestError::TooManyFields);
    }
    if crumbs > 0 {
        read.push(Field { name: "cookie", value: cookie });
    }
    Ok(ReadRequest { target, fields: read, expects_continue, is_websocket })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The method, with a protocol behind a space if there is one; the path, the authority, the fields.
    type Given<'a> = (&'a str, &'a str, Option<&'a str>, &'a [(&'a str, &'a str)]);

    fn read(given: Given<'_>) -> Result<String, RequestError> {
        let (method, path, authority, fields) = given;
        let (method, protocol) = match method.split_once(' ') {
            Some((method, protocol)) => (method, Some(protocol)),
            None => (method, None),
        };
        let (path, authority) = (path.as_bytes(), authority.map(str::as_bytes));
        let pseudo = PseudoFields { method, path, authority, protocol };
        let fields = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
        let limits = HeadLimits { fields: 4, target: 20, ..HeadLimits::default() };
        let mut cookie = Vec::new();
        let ReadRequest { target, fields, expects_continue, is_websocket } =
            read_request(pseudo, fields, &limits, &mut cookie)?;
        let lossy = String::from_utf8_lossy;
        let mut text = format!("{}?{}", lossy(target.path), lossy(target.query));
        for field in fields {
            text.extend([" ", field.name, "=", &lossy(field.value)]);
        }
        if expects_continue {
            text.push_str(" (waits)");
        }
        if is_websocket {
            text.push_str(" (websocket)");
        }
        Ok(text)
    }

    #[test]
    fn requests_become_what_http_1_would_have_said() {
        let cases: [(Given<'_>, &str); 9] = [
            (("GET", "/a?b", Some("x:1"), &[("q", "1")]), "/a?b host=x:1 q=1"),
            (("GET", "/", Some("x"), &[("host", "y")]), "/? host=x"),
            (("GET", "/", None, &[("host", "y")]), "/? host=y"),
            (("OPTIONS", "*", Some("x"), &[]), "*? host=x"),
            (
                ("GET", "/", Some("x"), &[("cookie", "a=1"), ("q", "1"), ("cookie", "b=2")]),
                "/? host=x q=1 cookie=a=1; b=2",
            ),
            (("GET", "/", Some("x"), &[("q", "1"), ("q", "2")]), "/? host=x q=1 q=2"),
            (
                ("PUT", "/", Some("x"), &[("expect", "100-Continue")]),
                "/? host=x expect=100-Continue (waits)",
            ),
            (("CONNECT websocket", "/a?b", Some("x"), &[]), "/a?b host=x (websocket)"),
            (("CONNECT WebSocket", "/", Some("x"), &[("q", "1")]), "/? host=x q=1 (websocket)"),
        ];
        for (given, expected) in cases {
            assert_eq!(read(given).as_deref(), Ok(expected), "{given:?}");
        }
    }

    #[test]
    fn what_http_1_refuses_is_refused() {
        let cases: [(Given<'_>, RequestError); 14] = [
            (("CONNECT", "/", Some("x"), &[]), RequestError::MethodNotImplemented),
            (("CONNECT connect-udp", "/", Some("x"), &[]), RequestError::ProtocolNotImplemented),
            (("CONNECT websocket", "*", Some("x"), &[]), RequestError::AsteriskTarget),
            (("CONNECT websocket", "/", None, &[]), RequestError::MissingHost),
            (("GET", "*", Some("x"), &[]), RequestError::AsteriskTarget),
            (("GET", "a", Some("x"), &[]), RequestError::InvalidTarget),
            (("GET", "http://x/", Some("x"), &[]), RequestError::InvalidTarget),
            (("GET", "/#a", Some("x"), &[]), RequestError::InvalidTarget),
            (("GET", "/01234567890123456789", Some("x"), &[]), RequestError::TargetTooLong),
            (("GET", "/", Some("u@x"), &[]), RequestError::InvalidHost),
            (("GET", "/", None, &[]), RequestError::MissingHost),
            (("PUT", "/", Some("x"), &[("expect", "luck")]), RequestError::InvalidExpectation),
            (("GET", "/", None, &[("host", "x"), ("host", "x")]), RequestError::DuplicateHost),
            (
                ("GET", "/", Some("x"), &[("a", ""), ("a", ""), ("a", ""), ("cookie", "")]),
                RequestError::TooManyFields,
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(read(given), Err(expected), "{given:?}");
        }
        assert_eq!(read(("GET", "/", None, &[("host", "a b")])), Err(RequestError::InvalidHost));
    }
}
