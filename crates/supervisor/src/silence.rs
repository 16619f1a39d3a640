//! Workers that show no sign of life: the stamp that each worker's watchdog leaves on the
//! scoreboard once a second has become old.
//!
//! Owns: when to look, and when a stamp is too old. A worker is silent only if two looks in a row
//! find the same old stamp: after the whole server was frozen (a suspended machine, a paused
//! container), the supervisor may be the first to run again, and all stamps are old then.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::Pid;

/// The shortest time between two looks.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// What the supervisor remembers between two looks.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Option<Duration>,
    next_look: Instant,
    /// Whose stamp was too old at the last look, and that stamp.
    suspects: BTreeMap<Pid, u64>,
}

impl Silence {
    /// `limit` is the age that a stamp may reach; `None` is no limit.
    pub(crate) fn new(limit: Option<Duration>, now: Instant) -> Self {
        let mut silence = Self { limit, next_look: now, suspects: BTreeMap::new() };
        silence.schedule(now);
        silence
    }

    /// When to call [`Self::look`]; `None` is never.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.limit.map(|_| self.next_look)
    }

    fn schedule(&mut self, now: Instant) {
        let period = self.limit.map_or(SHORTEST_PERIOD, |limit| (limit / 4).max(SHORTEST_PERIOD));
        self.next_look = now + period;
    }

    /// Who is silent, and for how long. `seen` are the stamps of all workers that should be
    /// serving, 0 for one whose watchdog has not begun.
    pub(crate) fn look(
        &mut self,
        seen: impl Iterator<Item = (Pid, u64)>,
        now_ns: u64,
        now: Instant,
    ) -> Vec<(Pid, Duration)> {
        self.schedule(now);
        let limit = self.limit.unwrap_or(Duration::MAX);
        let before = std::mem::take(&mut self.suspects);
        let mut silent = Vec::new();
        for (pid, stamp) in seen {
            let age = Duration::from_nanos(now_ns.saturating_sub(stamp));
            if stamp == 0 || age <= limit {
                continue;
            }
            if before.get(&pid) == Some(&stamp) {
                silent.push((pid, age));
            }
            self.suspects.insert(pid, stamp);
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn silence(limit: u64) -> (Silence, Instant) {
        let now = Instant::now();
        (Silence::new(Some(Duration::from_secs(limit)), now), now)
    }

    #[test]
    fn looks_are_a_quarter_of_the_limit_apart_but_at_least_a_second() {
        for (limit, period) in [(30, 7_500), (3, 1_000), (1, 1_000)] {
            let (mut silence, now) = silence(limit);
            let first = now + Duration::from_millis(period);
            assert_eq!(silence.next_look(), Some(first), "{limit}");
            silence.look(std::iter::empty(), 0, first);
            assert_eq!(silence.next_look(), Some(first + Duration::from_millis(period)));
        }
        assert_eq!(Silence::new(None, Instant::now()).next_look(), None);
    }

    #[test]
    fn a_worker_is_silent_when_two_looks_find_the_same_old_stamp() {
        let (mut silence, now) = silence(4);
        let mut look = |seen: &[(Pid, u64)], seconds: u64| {
            let seen = seen.iter().map(|&(pid, stamp)| (pid, stamp * SECOND));
            silence.look(seen, seconds * SECOND, now)
        };
        assert_eq!(look(&[(1, 10), (2, 10)], 14), [], "exactly the limit is not too old");
        assert_eq!(look(&[(1, 10), (2, 14)], 15), [], "the first time is a suspicion");
        assert_eq!(look(&[(1, 10), (2, 15)], 16), [(1, Duration::from_secs(6))]);
    }

    #[test]
    fn a_server_that_was_frozen_as_a_whole_kills_nobody() {
        let (mut silence, now) = silence(4);
        assert_eq!(silence.look([(1, SECOND)].into_iter(), 1_000 * SECOND, now), []);
        assert_eq!(silence.look([(1, 1_000 * SECOND)].into_iter(), 1_001 * SECOND, now), []);
        assert_eq!(silence.look([(1, SECOND)].into_iter(), 2_000 * SECOND, now), []);
    }

    #[test]
    fn a_worker_whose_watchdog_has_not_begun_is_not_silent() {
        let (mut silence, now) = silence(1);
        for seconds in [100, 200] {
            assert_eq!(silence.look([(1, 0)].into_iter(), seconds * SECOND, now), []);
        }
    }
}
