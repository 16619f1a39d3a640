//! The opening handshake: over HTTP/1.1 (RFC 6455 section 4.2), and over HTTP/2, where it is an
//! extended `CONNECT` without a key (RFC 8441 section 5).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::deflate::Agreement;
use crate::error::RequestError;
use crate::http::fields::{FieldBlock, FieldError, split_lines};
use crate::http::grammar::{is_token, members};
use crate::http::head::{Field, RequestHead};
use crate::http::response::ServerFields;

/// RFC 6455 section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The base64 form of 20 bytes.
const ACCEPT_LENGTH: usize = 28;

/// Whether a request asks for the protocol. Whether it asks in the right way is for
/// [`ClientHandshake::read`] to say.
pub fn is_asked_for(head: &RequestHead<'_, '_>) -> bool {
    let upgrade = head.upgrade.unwrap_or_default();
    members(upgrade).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// What the answer to a handshake needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClientHandshake {
    accept: [u8; ACCEPT_LENGTH],
    /// What was agreed on, if the client offered compression.
    pub deflate: Option<Agreement>,
}

impl ClientHandshake {
    /// Reads the handshake that a request [asks for](is_asked_for).
    pub fn read(head: &RequestHead<'_, '_>) -> Result<Self, RequestError> {
        if head.method != "GET" {
            return Err(RequestError::WebSocketMethod);
        }
        if !head.framing.is_empty() {
            return Err(RequestError::WebSocketContent);
        }
        check_version(head.fields)?;
        let key = one(head.fields, "sec-websocket-key").ok_or(RequestError::WebSocketKey)?;
        let mut nonce = [0; 18];
        match STANDARD.decode_slice(key, &mut nonce) {
            Ok(16) => {}
            _ => return Err(RequestError::WebSocketKey),
        }
        check_subprotocols(head.fields)?;
        Ok(Self { accept: accept(key), deflate: Agreement::negotiate(head.fields) })
    }

    /// Appends the response that switches protocols.
    pub fn encode_http1(
        &self,
        out: &mut Vec<u8>,
        acceptance: &Acceptance,
        deflate: Option<Agreement>,
        server: ServerFields<'_>,
    ) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\n\
              upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ",
        );
        out.extend_from_slice(&self.accept);
        out.extend_from_slice(b"\r\n");
        if let Some(agreement) = deflate {
            out.extend_from_slice(b"sec-websocket-extensions: ");
            out.extend_from_slice(agreement.to_field().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if !acceptance.has_date {
            out.extend_from_slice(server.date);
        }
        if !acceptance.has_server {
            out.extend_from_slice(server.server);
        }
        out.extend_from_slice(acceptance.fields.as_wire());
        out.extend_from_slice(server.extra);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads the handshake that the fields of an extended `CONNECT` are. Returns what is agreed on if the
/// client offers compression.
pub fn read_http2(fields: &[Field<'_>]) -> Result<Option<Agreement>, RequestError> {
    check_version(fields)?;
    check_subprotocols(fields)?;
    Ok(Agreement::negotiate(fields))
}

fn check_version(fields: &[Field<'_>]) -> Result<(), RequestError> {
    match one(fields, "sec-websocket-version") {
        Some(b"13") => Ok(()),
        Some(_) => Err(RequestError::WebSocketVersion),
        None => Err(RequestError::WebSocketVersionMissing),
    }
}

fn check_subprotocols(fields: &[Field<'_>]) -> Result<(), RequestError> {
    let are_tokens = subprotocols(fields).all(|name| is_token(name.as_bytes()));
    if are_tokens { Ok(()) } else { Err(RequestError::WebSocketSubprotocol) }
}

/// The subprotocols that the client offers, in its order.
pub fn subprotocols<'a>(fields: &'a [Field<'_>]) -> impl Iterator<Item = &'a str> {
    fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("sec-websocket-protocol"))
        .flat_map(|field| members(field.value))
        .filter(|name| !name.is_empty())
        // What is not UTF-8 is no token, either.
        .map(|name| std::str::from_utf8(name).unwrap_or(" "))
}

/// The value of the only field with this name.
fn one<'a>(fields: &[Field<'a>], name: &str) -> Option<&'a [u8]> {
    let mut values = fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let value = values.next()?.value;
    values.next().is_none().then_some(value)
}

fn accept(key: &[u8]) -> [u8; ACCEPT_LENGTH] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [b'='; ACCEPT_LENGTH];
    // 20 bytes fill 28 characters exactly.
    let _ = STANDARD.encode_slice(digest, &mut accept);
    accept
}

/// What an application's `websocket.accept` adds to the answer.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    fields: FieldBlock,
    has_date: bool,
    has_server: bool,
}

impl Acceptance {
    /// The chosen subprotocol.
    pub fn subprotocol(&mut self, name: &[u8]) -> Result<(), FieldError> {
        if !is_token(name) {
            return Err(FieldError::InvalidSubprotocol);
        }
        self.fields.push(b"sec-websocket-protocol", name)
    }

    /// A field of the application's. The handshake's own are refused, those of the connection
    /// dropped.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let start = name.get(..14).unwrap_or_default();
        if start.eq_ignore_ascii_case(b"sec-websocket-") {
            return Err(FieldError::WebSocketField);
        }
        let of_connection =
            ["connection", "content-length", "keep-alive", "transfer-encoding", "upgrade"];
        if of_connection.into_iter().any(is) {
            return Ok(());
        }
        self.fields.push(name, value)?;
        self.has_date |= is("date");
        self.has_server |= is("server");
        Ok(())
    }

    /// All fields of an answer over HTTP/2 but `sec-websocket-extensions`, in order: the
    /// application's, with the server's around them.
    pub fn all_fields<'a>(
        &'a self,
        server: ServerFields<'a>,
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let date = if self.has_date { &[] } else { server.date };
        let name = if self.has_server { &[] } else { server.server };
        let parts = [date, name, self.fields.as_wire(), server.extra];
        parts.into_iter().flat_map(split_lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{HeadLimits, parse_head};

    /// The example of RFC 6455 section 1.3.
    const EXAMPLE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn read(head: &str) -> Option<Result<ClientHandshake, RequestError>> {
        parse_head(head.as_bytes(), &HeadLimits::default(), |head| {
            is_asked_for(&head).then(|| ClientHandshake::read(&head))
        })
        .unwrap()
    }

    #[test]
    fn the_example_of_the_rfc_is_answered_as_there() {
        let handshake = read(EXAMPLE).unwrap().unwrap();
        let mut acceptance = Acceptance::default();
        acceptance.subprotocol(b"chat").unwrap();
        acceptance.push(b"X-A", b"1").unwrap();
        acceptance.push(b"Connection", b"close").unwrap();
        acceptance.push(b"Server", b"mine").unwrap();
        let mut out = Vec::new();
        let server = ServerFields { date: b"date: d\r\n", server: b"server: s\r\n", extra: b"" };
        handshake.encode_http1(&mut out, &acceptance, None, server);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\ndate: d\r\n\
             sec-websocket-protocol: chat\r\nX-A: 1\r\nServer: mine\r\n\r\n"
        );
    }

    #[test]
    fn wrong_handshakes_are_told_apart() {
        use RequestError as E;
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let version = "Sec-WebSocket-Version: 13\r\n";
        let table = [
            (EXAMPLE.replace("GET", "POST"), Some(E::WebSocketMethod)),
            (
                EXAMPLE.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n"),
                Some(E::WebSocketContent),
            ),
            (EXAMPLE.replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"), None),
            (EXAMPLE.replace(": 13", ": 8"), Some(E::WebSocketVersion)),
            (EXAMPLE.replace(version, ""), Some(E::WebSocketVersionMissing)),
            (EXAMPLE.replace(version, &version.repeat(2)), Some(E::WebSocketVersionMissing)),
            (EXAMPLE.replace(key, ""), Some(E::WebSocketKey)),
            (EXAMPLE.replace(key, &key.repeat(2)), Some(E::WebSocketKey)),
            (EXAMPLE.replace("jZQ==", "jZQ="), Some(E::WebSocketKey)),
            (EXAMPLE.replace("jZQ==", "jZQx"), Some(E::WebSocketKey)),
            (EXAMPLE.replace("dGhl", ""), Some(E::WebSocketKey)),
            (EXAMPLE.replace("superchat", "super chat"), Some(E::WebSocketSubprotocol)),
            (EXAMPLE.replace("superchat", "super\u{e9}"), Some(E::WebSocketSubprotocol)),
            (EXAMPLE.replace("superchat", ""), None),
            (EXAMPLE.replace("Upgrade: websocket", "Upgrade: h2c, WebSocket"), None),
        ];
        for (head, error) in table {
            assert_eq!(read(&head).unwrap().err(), error, "{head}");
        }
        assert!(read(&EXAMPLE.replace("Upgrade: websocket", "Upgrade: h2c")).is_none());
        assert!(read(&EXAMPLE.replace("Connection: Upgrade", "Connection: close")).is_none());
        assert!(read(&EXAMPLE.replace("HTTP/1.1", "HTTP/1.0")).is_none());
    }

    #[test]
    fn over_http2_the_fields_are_judged_in_the_same_way() {
        use RequestError as E;
        type Given<'a> = &'a [(&'a str, &'a str)];
        let table: [(Given<'_>, Result<bool, E>); 8] = [
            (&[("sec-websocket-version", "13")], Ok(false)),
            // It has no meaning there, and no key is asked for.
            (&[("sec-websocket-version", "13"), ("sec-websocket-key", "x")], Ok(false)),
            (
                &[
                    ("sec-websocket-version", "13"),
                    ("sec-websocket-protocol", "a, b"),
                    ("sec-websocket-extensions", "permessage-deflate"),
                ],
                Ok(true),
            ),
            (&[], Err(E::WebSocketVersionMissing)),
            (&[("sec-websocket-version", "8")], Err(E::WebSocketVersion)),
            (&[("sec-websocket-version", "")], Err(E::WebSocketVersion)),
            (
                &[("sec-websocket-version", "13"), ("sec-websocket-version", "13")],
                Err(E::WebSocketVersionMissing),
            ),
            (
                &[("sec-websocket-version", "13"), ("sec-websocket-protocol", "a b")],
                Err(E::WebSocketSubprotocol),
            ),
        ];
        for (given, expected) in table {
            let fields: Vec<Field<'_>> =
                given.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
            assert_eq!(read_http2(&fields).map(|deflate| deflate.is_some()), expected, "{given:?}");
        }
    }

    #[test]
    fn the_answer_over_http2_has_the_same_fields() {
        let server =
            ServerFields { date: b"date: d\r\n", server: b"server: s\r\n", extra: b"e: 1\r\n" };
        let mut acceptance = Acceptance::default();
        acceptance.subprotocol(b"chat").unwrap();
        acceptance.push(b"Connection", b"close").unwrap();
        acceptance.push(b"Server", b"mine").unwrap();
        let fields: Vec<String> = acceptance
            .all_fields(server)
            .map(|(name, value)| {
                format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            })
            .collect();
        assert_eq!(fields, ["date=d", "sec-websocket-protocol=chat", "Server=mine", "e=1"]);
    }

    #[test]
    fn an_application_cannot_write_the_handshake_or_a_second_response() {
        let mut acceptance = Acceptance::default();
        for name in ["Sec-WebSocket-Accept", "sec-websocket-protocol", "SEC-WEBSOCKET-X"] {
            assert_eq!(acceptance.push(name.as_bytes(), b"x"), Err(FieldError::WebSocketField));
        }
        assert_eq!(acceptance.push(b"a", b"x\r\nb: y"), Err(FieldError::InvalidValue));
        assert_eq!(acceptance.subprotocol(b"a, b"), Err(FieldError::InvalidSubprotocol));
        assert_eq!(acceptance.subprotocol(b"a\r\nb: c"), Err(FieldError::InvalidSubprotocol));
        assert!(acceptance.fields.is_empty());
    }
}
