//! What a proxy in front says about a request: `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`, and
//! `Forwarded` (RFC 7239).
//!
//! Owns: whose word counts ([`Trust`]), and what a chain of proxies comes to. A chain is read from its
//! right end, where the proxy that connected has written, for as long as the writers are trusted: what
//! stands further left is a client's word, whatever it looks like. What cannot be understood ends the
//! chain in the same way, and is never an error: clients could make requests fail for others with it.
//! Must not know: which fields are read by default, connections, or Python.

mod element;
mod node;
mod prefix;
mod trust;

use std::borrow::Cow;
use std::net::IpAddr;

use crate::http::Field;
use crate::http::authority::is_authority;
use element::Element;
use node::Node;
pub use prefix::Prefix;
pub use trust::{Peer, Trust};

/// A field that may be believed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForwardedField {
    /// `X-Forwarded-For`: the client's address.
    For,
    /// `X-Forwarded-Proto`: its scheme.
    Proto,
    /// `X-Forwarded-Host`: the host it asked for.
    Host,
    /// `X-Forwarded-Prefix`: what has been taken off the path.
    Prefix,
    /// `Forwarded`: address, scheme and host.
    Standard,
}

impl ForwardedField {
    /// Its name on the wire, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::For => "x-forwarded-for",
            Self::Proto => "x-forwarded-proto",
            Self::Host => "x-forwarded-host",
            Self::Prefix => "x-forwarded-prefix",
            Self::Standard => "forwarded",
        }
    }

    fn is_name_of(self, field: &Field<'_>) -> bool {
        field.name.eq_ignore_ascii_case(self.name())
    }

    /// Which of them a field is. All requests of a trusted peer come here: most names are told from
    /// these by their length.
    fn of(field: &Field<'_>) -> Option<Self> {
        let known = match field.name.len() {
            9 => Self::Standard,
            15 => Self::For,
            16 => Self::Host,
            17 => Self::Proto,
            18 => Self::Prefix,
            _ => return None,
        };
        known.is_name_of(field).then_some(known)
    }

    const fn bit(self) -> u8 {
        match self {
            Self::For => 1,
            Self::Proto => 1 << 1,
            Self::Host => 1 << 2,
            Self::Prefix => 1 << 3,
            Self::Standard => 1 << 4,
        }
    }
}

/// The scheme a client used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// `http` or `ws`.
    Http,
    /// `https` or `wss`.
    Https,
}

impl Scheme {
    /// As HTTP calls it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let is = |word| text.eq_ignore_ascii_case(word);
        if is("http") || is("ws") {
            Some(Self::Http)
        } else if is("https") || is("wss") {
            Some(Self::Https)
        } else {
            None
        }
    }
}

/// What is known about a request beyond its connection; nothing where the fields say nothing that
/// can be believed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forwarded<'a> {
    /// The client's address and port, 0 where the port is not told.
    pub client: Option<(IpAddr, u16)>,
    /// The client's scheme.
    pub scheme: Option<Scheme>,
    /// The host and port that the client asked for, in the form of a Host field.
    pub host: Option<Cow<'a, [u8]>>,
    /// The start of the path that the request came without.
    pub prefix: Option<Prefix<'a>>,
}

/// How forwarded fields are read.
#[derive(Clone, Debug, Default)]
pub struct Forwarding {
    /// Whose fields are believed.
    pub trust: Trust,
    /// Which fields are.
    pub fields: Vec<ForwardedField>,
}

impl Forwarding {
    /// What the fields of a request say that came from a peer who is trusted; `None` if there are
    /// none.
    ///
    /// `Forwarded`, where it is read and there, speaks for itself: nothing is taken from the others
    /// then that it could have said, so that a client cannot mix its own word in.
    pub fn read<'a>(&self, fields: &[Field<'a>]) -> Option<Forwarded<'a>> {
        let found =
            fields.iter().filter_map(ForwardedField::of).fold(0, |all, one| all | one.bit());
        let found = found & self.fields.iter().fold(0, |all, one| all | one.bit());
        if found == 0 {
            return None;
        }
        let has = |wanted: ForwardedField| found & wanted.bit() != 0;
        let mut forwarded = Forwarded::default();
        if has(ForwardedField::Standard) {
            forwarded = self.standard(fields);
        } else {
            if has(ForwardedField::For) {
                forwarded.client = self.client(fields);
            }
            if has(ForwardedField::Proto) {
                forwarded.scheme =
                    last_value(fields, ForwardedField::Proto).and_then(Scheme::parse);
            }
            if has(ForwardedField::Host) {
                let host = last_value(fields, ForwardedField::Host).map(str::as_bytes);
                forwarded.host = host.filter(|host| is_authority(host)).map(Cow::Borrowed);
            }
        }
        if has(ForwardedField::Prefix) {
            forwarded.prefix = last_value(fields, ForwardedField::Prefix).and_then(Prefix::parse);
        }
        Some(forwarded)
    }

    /// `X-Forwarded-For`.
    fn client(&self, fields: &[Field<'_>]) -> Option<(IpAddr, u16)> {
        let mut chain = Chain { trust: &self.trust, client: None };
        for field in fields.iter().rev().filter(|field| ForwardedField::For.is_name_of(field)) {
            for value in field.value.rsplit(|byte| *byte == b',') {
                let text = str::from_utf8(value).unwrap_or_default();
                if chain.ends_at(text.trim_matches(WHITE_SPACE)) {
                    return chain.client;
                }
            }
        }
        chain.client
    }

    /// `Forwarded`. The element that names the client is also the one that says how the client came:
    /// one and the same proxy has written all of it.
    fn standard<'a>(&self, fields: &[Field<'a>]) -> Forwarded<'a> {
        let mut chain = Chain { trust: &self.trust, client: None };
        let mut last = Element::default();
        'lines: for field in
            fields.iter().rev().filter(|field| ForwardedField::Standard.is_name_of(field))
        {
            // In a line that is broken no part can be told from another: a quote that a client has
            // opened may have swallowed what a proxy appended.
            let Some(elements) = element::elements(field.value) else {
                break;
            };
            for element in elements.into_iter().rev() {
                let ends = chain.ends_at(element.node.as_deref().unwrap_or_default());
                last = element;
                if ends {
                    break 'lines;
                }
            }
        }
        Forwarded {
            client: chain.client,
            scheme: last.proto.as_deref().and_then(Scheme::parse),
            host: last.host.map(into_bytes).filter(|host| is_authority(host)),
            prefix: None,
        }
    }
}

const WHITE_SPACE: [char; 2] = [' ', '\t'];

/// The last value of a list over all fields of a name: what the proxy that connected has written.
fn last_value<'a>(fields: &[Field<'a>], wanted: ForwardedField) -> Option<&'a str> {
    let field = fields.iter().rfind(|field| wanted.is_name_of(field))?;
    let last = field.value.rsplit(|byte| *byte == b',').next()?;
    Some(str::from_utf8(last).ok()?.trim_matches(WHITE_SPACE))
}

fn into_bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// A walk along a chain of proxies, away from the server.
struct Chain<'t> {
    trust: &'t Trust,
    /// The farthest address that somebody trusted has seen.
    client: Option<(IpAddr, u16)>,
}

impl Chain<'_> {
    /// Goes on to the next node. Returns whether the chain ends there: at a node that is not
    /// trusted, which is the client, or at one that hides what is behind it.
    fn ends_at(&mut self, text: &str) -> bool {
        match Node::parse(text) {
            Node::Address(address, port) => {
                self.client = Some((address, port));
                !self.trust.trusts(Peer::Address(address))
            }
            Node::Unix => !self.trust.trusts(Peer::Unix),
            Node::Name(name) => !self.trust.trusts_name(name),
        }
    }
}

#[cfg(test)]
mod tests;
