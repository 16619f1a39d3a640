//! Whose word counts.

use std::net::IpAddr;

use ipnet::IpNet;

/// Who is at the other end of a connection, or at one end of another connection further on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A host.
    Address(IpAddr),
    /// A program on the same machine, at a Unix socket.
    Unix,
    /// Somebody behind a proxy that does not say who.
    Unknown,
}

/// Who is trusted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Trust {
    /// Everybody, also those who are not known.
    pub everybody: bool,
    /// Those at Unix sockets.
    pub unix: bool,
    /// The hosts of these networks.
    pub networks: Vec<IpNet>,
    /// What a trusted proxy may call another one instead of its address.
    pub names: Vec<String>,
}

impl Trust {
    /// Whether this peer is trusted.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.everybody
            || match peer {
                Peer::Address(address) => {
                    // An IPv4 host stays one where it comes through an IPv6 socket.
                    let address = address.to_canonical();
                    self.networks.iter().any(|network| network.contains(&address))
                }
                Peer::Unix => self.unix,
                Peer::Unknown => false,
            }
    }

    /// Whether whoever is called this is trusted. Not so where everybody is: behind a node without
    /// an address nothing can be told.
    pub(super) fn trusts_name(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_trusted_by_network() {
        let networks = ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        let networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        let trust = Trust { networks, ..Trust::default() };
        let table = [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::10.0.0.1", false),
        ];
        for (address, expected) in table {
            let peer = Peer::Address(address.parse().unwrap());
            assert_eq!(trust.trusts(peer), expected, "{address}");
        }
        assert!(!trust.trusts(Peer::Unix));
        assert!(!trust.trusts(Peer::Unknown));
    }

    #[test]
    fn everybody_is_everybody() {
        let trust = Trust { everybody: true, ..Trust::default() };
        let address = Peer::Address("192.0.2.1".parse().unwrap());
        for peer in [address, Peer::Unix, Peer::Unknown] {
            assert!(trust.trusts(peer), "{peer:?}");
        }
    }
}
