//! A histogram of durations that one process writes and any may read.
//!
//! Bucket 0 counts what took less than 1 us, bucket n what took less than 2^n us: finding it is one
//! instruction, and no two durations in a bucket differ by more than a factor of two.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::scoreboard::add;

/// How many buckets there are; the last one has no limit.
pub(crate) const BUCKETS: usize = 32;

/// Part of a slot of the scoreboard.
#[repr(C)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

/// The numbers of a [`Histogram`], or of several added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Durations {
    /// How many fell into each bucket.
    pub(crate) buckets: [u64; BUCKETS],
    /// All of them together.
    pub(crate) sum_ns: u64,
}

impl Histogram {
    /// Counts one duration.
    pub(crate) fn record(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(nanoseconds / 1000)) {
            add(bucket, 1);
        }
        add(&self.sum_ns, nanoseconds);
    }

    pub(crate) fn read(&self) -> Durations {
        Durations {
            buckets: self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = &AtomicU64> {
        self.buckets.iter().chain([&self.sum_ns])
    }
}

impl Durations {
    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: &Self) {
        for (own, other) in self.buckets.iter_mut().zip(other.buckets) {
            *own = own.wrapping_add(other);
        }
        self.sum_ns = self.sum_ns.wrapping_add(other.sum_ns);
    }
}

fn bucket(microseconds: u64) -> usize {
    ((u64::BITS - microseconds.leading_zeros()) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_powers_of_two() {
        for (micros, expected) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1_000_000, 20)] {
            assert_eq!(bucket(micros), expected, "{micros}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn sums_of_several_processes_add_up() {
        let mut one = Durations::default();
        one.buckets[3] = 2;
        one.sum_ns = 10_000;
        let two = one.clone();
        one.add(&two);
        assert_eq!((one.buckets[3], one.sum_ns), (4, 20_000));
    }
}
