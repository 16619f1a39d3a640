//! What proxies say about requests, put to use: which connections are asked for it, and what changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rsgi_protocol::forwarded::{Forwarded, Forwarding, Peer, Scheme};
use rsgi_protocol::http::Field;
use rsgi_protocol::proxy_header::{Endpoints, ProxyHeader};

use crate::redirect::Redirect;
use crate::service::ConnectionInfo;

impl ConnectionInfo {
    /// Reads the forwarded fields of this connection's requests, if its peer is trusted. Decided once:
    /// connections of others cost nothing more.
    pub(crate) fn trusting(mut self, peer: Peer, forwarding: Option<&Arc<Forwarding>>) -> Self {
        self.forwarding = forwarding.filter(|it| it.trust.trusts(peer)).map(Arc::clone);
        self
    }

    /// The connection as a PROXY header describes it, and who is at its other end.
    pub(crate) fn proxied(mut self, header: ProxyHeader, peer: Peer) -> (Self, Peer) {
        let peer = match header.endpoints {
            Endpoints::Local => peer,
            Endpoints::Inet { source, destination } => {
                self.client = Some((host(source), source.port()));
                self.server = Some((host(destination), Some(destination.port())));
                Peer::Address(source.ip())
            }
            Endpoints::Unix => {
                self.client = None;
                Peer::Unix
            }
            // The addresses stay the connection's, but it is not the proxy who speaks.
            Endpoints::Unknown => Peer::Unknown,
        };
        if header.is_encrypted {
            self.scheme = Scheme::Https.as_str();
        }
        (self, peer)
    }

    /// Where to send a request. Not one whose client has an encrypted connection to a proxy: it would
    /// come back, and back again.
    pub(crate) fn redirect_of(&self, forwarded: Option<&Forwarded<'_>>) -> Option<Redirect> {
        let redirect = self.redirect?;
        let scheme = forwarded.and_then(|it| it.scheme).map_or(self.scheme, Scheme::as_str);
        (scheme != Scheme::Https.as_str()).then_some(redirect)
    }
}

/// The client that a proxy names, as it is logged.
pub(crate) fn client_of(forwarded: Option<&Forwarded<'_>>) -> Option<(IpAddr, u16)> {
    forwarded.and_then(|it| it.client)
}

/// An address without its port; an IPv4 client of a dual-stack socket is an IPv4 client.
pub(crate) fn host(address: SocketAddr) -> String {
    address.ip().to_canonical().to_string()
}

/// The fields with `host` in place of the received one.
pub(crate) fn with_host<'b>(fields: &[Field<'b>], host: &'b [u8]) -> Vec<Field<'b>> {
    let mut fields = fields.to_vec();
    let mut is_there = false;
    for field in fields.iter_mut().filter(|field| field.name.eq_ignore_ascii_case("host")) {
        field.value = host;
        is_there = true;
    }
    if !is_there {
        fields.push(Field { name: "host", value: host });
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_replaced_where_it_stood_or_added() {
        let field = |name, value| Field { name, value };
        let fields = [field("A", b"1".as_slice()), field("HOST", b"x"), field("B", b"2")];
        let named: Vec<_> = with_host(&fields, b"y").iter().map(|it| (it.name, it.value)).collect();
        assert_eq!(named, [("A", b"1".as_slice()), ("HOST", b"y"), ("B", b"2")]);
        let added = with_host(&fields[..1], b"y");
        assert_eq!(added.last().map(|it| (it.name, it.value)), Some(("host", b"y".as_slice())));
    }
}
