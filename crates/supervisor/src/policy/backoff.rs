//! How long to wait before a worker that keeps dying is started again.
//!
//! None after the first death: most are alone, and a worker less is felt. Then 0.1 s, doubling up to
//! 30 s, each shortened by up to a half so that workers that died together do not start together.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// The delay after the `deaths`th death in a row, with `jitter` between 0 and 1.
pub(super) fn delay(deaths: u32, jitter: f64) -> Duration {
    let Some(doublings) = deaths.checked_sub(2) else {
        return Duration::ZERO;
    };
    let full = FIRST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST);
    full.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
}

/// A small generator (xorshift64*), enough to spread delays and the same for the same seed.
#[derive(Debug, Clone)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1) // zero would stay zero
    }

    /// The next number, from 0 up to 1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        f64::from(u32::try_from(bits).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_from_a_tenth_of_a_second_to_half_a_minute() {
        let seconds: Vec<f64> = (0..14).map(|deaths| delay(deaths, 0.0).as_secs_f64()).collect();
        let expected = [0.0, 0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0];
        assert_eq!(seconds, expected);
        assert_eq!(delay(u32::MAX, 0.0), LONGEST);
    }

    #[test]
    fn jitter_takes_off_up_to_a_half() {
        assert_eq!(delay(20, 1.0), LONGEST / 2);
        assert_eq!(delay(20, 0.5), Duration::from_millis(22_500));
    }

    #[test]
    fn jitter_spreads_and_repeats_for_the_same_seed() {
        let draw = |seed| {
            let mut jitter = Jitter::new(seed);
            (0..1000).map(|_| jitter.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        for seed in [0, 1, 7, u64::MAX] {
            let numbers = draw(seed);
            assert!(numbers.iter().all(|n| (0.0..=1.0).contains(n)));
            let mean = numbers.iter().sum::<f64>() / 1000.0;
            assert!((0.4..0.6).contains(&mean), "seed {seed}: {mean}");
        }
    }
}
