//! How long a request may have waited for the loop before the application was called.
//!
//! The kernel does not tell since when a socket has been readable, so this is the longest it can have been:
//!
//! - The loop slept until something became readable: since it woke.
//! - It asked the kernel and got an answer without sleeping: since the time it had asked before.
//! - It has been busy since: tokio asks again after at most [`LOOK_EVERY`] tasks, which under load are
//!   as many requests.
//!
//! So a handler that blocks the loop for a second shows as a second in all requests that came
//! meanwhile. One thread writes, the loop's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// tokio's default `event_interval` for the current-thread scheduler.
const LOOK_EVERY: u64 = 61;
/// `epoll_wait` with something to report takes a few microseconds; longer is a sleep.
const SLEEP_NS: u64 = 50_000;

/// The moments, all of `CLOCK_MONOTONIC` in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct QueueClock {
    /// When the loop last asked the kernel.
    asked: AtomicU64,
    /// The first moment at which what is found now can have become readable.
    earliest: AtomicU64,
    /// How many requests have been begun since `asked`.
    begun: AtomicU64,
}

impl QueueClock {
    /// The loop asks the kernel, and sleeps if there is nothing.
    pub(crate) fn parked(&self, now: u64) {
        self.look(now);
    }

    /// The kernel has answered.
    pub(crate) fn unparked(&self, now: u64) {
        let has_slept = now.saturating_sub(self.asked.load(Ordering::Relaxed)) >= SLEEP_NS;
        if has_slept {
            self.look(now);
            self.earliest.store(now, Ordering::Relaxed);
        }
    }

    /// How long a request that begins now may have waited.
    pub(crate) fn waited(&self, now: u64) -> Duration {
        let begun = self.begun.load(Ordering::Relaxed);
        self.begun.store(begun + 1, Ordering::Relaxed);
        if begun >= LOOK_EVERY {
            self.look(now);
        }
        Duration::from_nanos(now.saturating_sub(self.earliest.load(Ordering::Relaxed)))
    }

    fn look(&self, now: u64) {
        self.earliest.store(self.asked.load(Ordering::Relaxed), Ordering::Relaxed);
        self.asked.store(now, Ordering::Relaxed);
        self.begun.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn waited_ms(clock: &QueueClock, now_ms: u64) -> u128 {
        clock.waited(now_ms * MS).as_millis()
    }

    /// A clock whose loop was idle until `now_ms`.
    fn woken(now_ms: u64) -> QueueClock {
        let clock = QueueClock::default();
        clock.parked(MS);
        clock.unparked(now_ms * MS);
        clock
    }

    #[test]
    fn a_request_that_wakes_the_loop_has_not_waited() {
        assert_eq!(waited_ms(&woken(100), 100), 0);
    }

    #[test]
    fn requests_found_together_wait_for_those_before_them() {
        let clock = woken(100);
        assert_eq!([100, 103, 106].map(|now| waited_ms(&clock, now)), [0, 3, 6]);
    }

    #[test]
    fn what_comes_while_the_loop_is_blocked_has_waited_for_its_end() {
        let clock = woken(100);
        assert_eq!(waited_ms(&clock, 100), 0); // this one blocks for two seconds
        clock.parked(2100 * MS);
        clock.unparked(2100 * MS + 5_000); // something was there already
        assert_eq!(waited_ms(&clock, 2100), 2000);
        clock.parked(2101 * MS);
        clock.unparked(2101 * MS + 5_000);
        assert_eq!(waited_ms(&clock, 2101), 1);
        clock.parked(2102 * MS);
        clock.unparked(3000 * MS);
        assert_eq!(waited_ms(&clock, 3000), 0);
    }

    #[test]
    fn a_loop_that_never_sleeps_is_taken_to_look_now_and_then() {
        let clock = woken(1000);
        let longest = (0..10_000).map(|n| waited_ms(&clock, 1000 + n)).max();
        assert_eq!(longest, Some(2 * u128::from(LOOK_EVERY) + 1));
    }
}
