//! Sending clients of a plain listener to the encrypted one.

use bytes::Bytes;
use rsgi_protocol::http::cycle::{More, Trailers};
use rsgi_protocol::http::response::ResponseHead;
use rsgi_protocol::http::target::TargetForm;

use crate::exchange::{Exchange, Outcome};
use crate::service::Request;

/// Where an encrypted listener is, seen from a plain one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// The port of the plain listener; none on a Unix socket.
    pub from: Option<u16>,
    /// The port of the encrypted one.
    pub to: Option<u16>,
}

impl Redirect {
    /// Answers a request with the place of the same thing.
    pub(crate) fn answer(self, request: &Request<'_>, exchange: &Exchange) {
        // RFC 9110 section 15.4: with 301 a client may turn a POST into a GET, with 308 it may not.
        let status = if matches!(request.method, "GET" | "HEAD") { 301 } else { 308 };
        let location = self.location(request);
        let head = match location {
            Some(location) => ResponseHead::new(status).and_then(|mut head| {
                head.push(b"location", &location)?;
                Ok(head)
            }),
            // HTTP/1.0 may come without a host, and then there is no place to tell.
            None => ResponseHead::new(400),
        };
        let sent = head.map(|mut head| {
            let _ = head.push(b"content-length", b"0");
            exchange.start(head, Trailers::No).and_then(|_| exchange.body(Bytes::new(), More::Last))
        });
        let is_sent = matches!(sent, Ok(Ok(_)));
        exchange.finish(if is_sent { Outcome::Returned } else { Outcome::Failed });
    }

    fn location(self, request: &Request<'_>) -> Option<Vec<u8>> {
        let field = request.fields.iter().find(|field| field.name.eq_ignore_ascii_case("host"))?;
        let (host, port) = split(field.value);
        if host.is_empty() {
            return None;
        }
        // Whoever asked for another port than ours came through somebody who maps ports, and maps the
        // usual one for the encrypted listener.
        let is_ours = self.from == Some(port.unwrap_or(80));
        let port = self.to.filter(|to| is_ours && *to != 443);
        let mut location = [b"https://", host].concat();
        if let Some(port) = port {
            location.extend_from_slice(format!(":{port}").as_bytes());
        }
        if request.target.form != TargetForm::Asterisk {
            location.extend_from_slice(request.target.path);
            if !request.target.query.is_empty() {
                location.push(b'?');
                location.extend_from_slice(request.target.query);
            }
        }
        Some(location)
    }
}

/// Host and port of an authority, whose form has been checked.
fn split(authority: &[u8]) -> (&[u8], Option<u16>) {
    let end = authority.iter().rposition(|byte| *byte == b':' || *byte == b']');
    let Some((host, port)) = end
        .filter(|at| authority.get(*at) == Some(&b':'))
        .and_then(|at| Some((authority.get(..at)?, authority.get(at + 1..)?)))
    else {
        return (authority, None);
    };
    (host, std::str::from_utf8(port).ok().and_then(|port| port.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rsgi_protocol::http::head::{Field, Version};
    use rsgi_protocol::http::target::Target;

    fn location(redirect: Redirect, host: Option<&str>, path: &str, query: &str) -> Option<String> {
        let field = host.map(|host| Field { name: "Host", value: host.as_bytes() });
        let target = Target {
            path: path.as_bytes(),
            query: query.as_bytes(),
            form: if path == "*" { TargetForm::Asterisk } else { TargetForm::Origin },
        };
        let request = Request {
            id: None,
            method: "GET",
            target,
            version: Version::Http11,
            fields: field.as_slice(),
            accepts_trailers: false,
            forwarded: None,
        };
        redirect.location(&request).map(|location| String::from_utf8(location).unwrap())
    }

    #[test]
    fn the_port_is_the_one_a_client_can_reach() {
        let table = [
            (80, 443, "x.org", "https://x.org/"),
            (80, 8443, "x.org", "https://x.org:8443/"),
            (80, 8443, "x.org:80", "https://x.org:8443/"),
            (8080, 8443, "x.org:8080", "https://x.org:8443/"),
            (8080, 8443, "[::1]:8080", "https://[::1]:8443/"),
            (8080, 443, "[::1]:8080", "https://[::1]/"),
            // mapped: 80 to 8080, 443 to 8443
            (8080, 8443, "x.org", "https://x.org/"),
            (8080, 8443, "x.org:9000", "https://x.org/"),
            (80, 443, "x.org:", "https://x.org/"),
        ];
        for (from, to, host, expected) in table {
            let redirect = Redirect { from: Some(from), to: Some(to) };
            assert_eq!(
                location(redirect, Some(host), "/", "").as_deref(),
                Some(expected),
                "{host}"
            );
        }
    }

    #[test]
    fn the_place_is_the_same() {
        let redirect = Redirect { from: None, to: Some(8443) };
        let place = |path, query| location(redirect, Some("x"), path, query);
        assert_eq!(place("/a%20b", "c=d%26").as_deref(), Some("https://x/a%20b?c=d%26"));
        assert_eq!(place("//evil.example/x", "").as_deref(), Some("https://x//evil.example/x"));
        assert_eq!(place("*", "").as_deref(), Some("https://x"));
        assert_eq!(location(redirect, None, "/", ""), None);
    }
}
