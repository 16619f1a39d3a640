//! Session tickets: a client that comes back is spared most of a handshake, whichever worker it
//! comes to (RFC 8446 section 4.6.1, RFC 5077).
//!
//! All workers seal with the same keys, which their supervisor draws, replaces every [`ROTATION`]
//! and forgets after another one. What a ticket says about a client's certificate is trusted, so
//! whoever makes the keys draws new ones when it is no longer the same clients that may connect.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

use super::error::TlsError;

/// How long a key seals tickets, and how long after it still opens them. With random nonces one key
/// is good for 2^32 tickets (NIST SP 800-38D section 8.3): 100,000 a second all the time.
pub const ROTATION: std::time::Duration = std::time::Duration::from_secs(12 * 3600);

/// Keys of AES-256-GCM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKeys {
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

impl TicketKeys {
    /// New keys; tickets from before are worth nothing.
    pub fn new() -> Result<Self, TlsError> {
        Ok(Self { current: random()?, previous: None })
    }

    /// A new key, and the last one for tickets that are out there.
    pub fn rotate(&mut self) -> Result<(), TlsError> {
        self.previous = Some(std::mem::replace(&mut self.current, random()?));
        Ok(())
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

fn random() -> Result<[u8; 32], TlsError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| TlsError::Random)?;
    Ok(bytes)
}

/// Seals and opens tickets: a random nonce, then what it seals.
pub(super) struct Ticketer {
    current: LessSafeKey,
    previous: Option<LessSafeKey>,
}

impl Ticketer {
    pub(super) fn new(keys: &TicketKeys) -> Result<Self, TlsError> {
        let key = |bytes: &[u8; 32]| {
            UnboundKey::new(&AES_256_GCM, bytes).map(LessSafeKey::new).map_err(|_| TlsError::Random)
        };
        Ok(Self {
            current: key(&keys.current)?,
            previous: keys.previous.as_ref().map(key).transpose()?,
        })
    }
}

impl fmt::Debug for Ticketer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticketer")
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(ROTATION.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let number = Nonce::assume_unique_for_key(nonce);
        self.current.seal_in_place_append_tag(number, Aad::empty(), &mut sealed).ok()?;
        Some([&nonce, sealed.as_slice()].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find_map(|key| {
            let mut opened = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let length = key.open_in_place(nonce, Aad::empty(), &mut opened).ok()?.len();
            opened.truncate(length);
            Some(opened)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_one_rotation_in_every_worker() {
        let mut keys = TicketKeys::new().unwrap();
        let ticket = Ticketer::new(&keys).unwrap().encrypt(b"secret").unwrap();
        let opened = |keys: &TicketKeys| Ticketer::new(keys).unwrap().decrypt(&ticket);
        assert_eq!(opened(&keys), Some(b"secret".to_vec()));
        keys.rotate().unwrap();
        assert_eq!(opened(&keys), Some(b"secret".to_vec()));
        keys.rotate().unwrap();
        assert_eq!(opened(&keys), None);
    }

    #[test]
    fn a_ticket_that_was_changed_is_none() {
        let ticketer = Ticketer::new(&TicketKeys::new().unwrap()).unwrap();
        let ticket = ticketer.encrypt(b"secret").unwrap();
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(ticketer.decrypt(&changed), None, "{at}");
        }
        for length in 0..ticket.len() {
            assert_eq!(ticketer.decrypt(&ticket[..length]), None, "{length}");
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = TicketKeys { current: [7; 32], previous: Some([7; 32]) };
        let ticketer = Ticketer::new(&keys).unwrap();
        assert!(!format!("{keys:?} {ticketer:?}").contains('7'));
    }
}
