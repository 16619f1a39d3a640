//! The name of one request: the client's, or one that is made here.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// How long an id is that is made here.
pub(crate) const LENGTH: usize = 32;
/// The longest one that is taken from a client.
const LONGEST: usize = 128;

/// Whether an `X-Request-ID` is taken over: letters, digits and what ids and their encodings use,
/// so that it can be written and passed on anywhere as it is.
pub(super) fn is_well_formed(value: &[u8]) -> bool {
    let is_good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@~".contains(byte);
    (1..=LONGEST).contains(&value.len()) && value.iter().all(is_good)
}

/// Makes ids. Not secret, only different: from each other by a counter, from those of other
/// processes by a random half.
#[derive(Debug)]
pub(super) struct Source {
    process: u64,
    counter: AtomicU64,
}

impl Source {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        let process = random.hash_one(std::process::id());
        Self { process, counter: AtomicU64::new(random.hash_one("first")) }
    }

    /// 32 hexadecimal digits, like a trace id.
    pub(super) fn next(&self) -> [u8; LENGTH] {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let mut id = [0; LENGTH];
        for (digits, number) in id.chunks_exact_mut(16).zip([self.process, scattered(number)]) {
            for (digit, shift) in digits.iter_mut().zip((0..64).step_by(4).rev()) {
                let value = (number >> shift) & 15;
                *digit = b"0123456789abcdef".get(value as usize).copied().unwrap_or(b'0');
            }
        }
        id
    }
}

/// A number for a number, one to one (`SplitMix64`'s last step): neighbours look nothing alike, and a
/// part of an id tells as many of them apart as the whole.
fn scattered(number: u64) -> u64 {
    let mut number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ() {
        let sources = [Source::new(), Source::new()];
        let ids: HashSet<_> = (0..10_000).map(|n: usize| sources[n % 2].next()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().flatten().all(u8::is_ascii_hexdigit));
    }

    #[test]
    fn a_clients_id_is_bounded_and_plain() {
        for good in ["a", "4bf92f35-77b3", "Root=1-67891233-abc", &"x".repeat(128)] {
            assert!(is_well_formed(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a\"", "a\\", "a,b", "\u{e9}", "a\n", &"x".repeat(129)] {
            assert!(!is_well_formed(bad.as_bytes()), "{bad}");
        }
    }
}
