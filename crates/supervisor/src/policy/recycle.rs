//! When a worker has had its share: of requests, of memory, of time.
//!
//! Owns: the limits of one worker, with their spread, and what follows when one is reached. Must not
//! know: how memory is read (an event says how much there is).

use std::time::Duration;

use super::machine::{Policy, Stage};
use super::notice::Reason;
use super::{Pid, PolicySettings, RECYCLE_RETRY};

/// A limit is higher by up to this part, at random for each worker: workers that were started
/// together and do the same are then not due together.
pub const SPREAD: f64 = 0.1;

/// What is known about memory when a worker is to be replaced, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What all processes under the limit use.
    pub used: u64,
    /// What they may use.
    pub limit: u64,
    /// What the worker that is to be replaced has resident: about what its successor will need.
    pub worker: u64,
}

impl Memory {
    /// Whether the successor can start while the worker still runs.
    pub fn has_room_for_another(&self) -> bool {
        self.used.checked_add(self.worker).is_some_and(|sum| sum <= self.limit)
    }
}

/// The limits of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    resident: Option<u64>,
    retire_at: Option<Duration>,
}

/// That a worker should be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Recycle {
    pub(super) at: Duration,
    pub(super) reason: Reason,
}

impl Limits {
    /// When [`super::Event::Tick`] is due because of them.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.retire_at
    }
}

impl Policy {
    /// The limits of a worker that is ready now.
    pub(super) fn draw_limits(&mut self) -> Limits {
        let PolicySettings { max_rss, lifetime, .. } = self.settings;
        let mut spread = || 1.0 + SPREAD * self.jitter.next();
        let resident = max_rss.map(|limit| stretched(limit, spread()));
        let lifetime = lifetime.map(|limit| limit.mul_f64(spread()));
        Limits { resident, retire_at: lifetime.map(|lifetime| self.now.saturating_add(lifetime)) }
    }

    /// A ready worker is due, unless it is already.
    pub(super) fn wants_recycle(&mut self, pid: Pid, reason: Reason) {
        let now = self.now;
        if let Some(worker) = self.by_pid(pid)
            && let Stage::Ready { recycle, .. } = &mut worker.stage
        {
            recycle.get_or_insert(Recycle { at: now, reason });
        }
    }

    /// A worker has so many bytes resident.
    pub(super) fn memory_sampled(&mut self, pid: Pid, resident: u64) {
        let Some(limit) = self.settings.max_rss else {
            return;
        };
        let is_over = self.by_pid(pid).is_some_and(|worker| match worker.stage {
            Stage::Ready { limits, .. } => limits.resident.is_some_and(|limit| resident > limit),
            _ => false,
        });
        if is_over {
            self.wants_recycle(pid, Reason::Memory { resident, limit });
        }
    }

    /// Whoever has lived for long enough is due.
    pub(super) fn retire(&mut self) {
        let (now, limit) = (self.now, self.settings.lifetime.unwrap_or_default());
        for worker in &mut self.workers {
            if let Stage::Ready { since, recycle: recycle @ None, limits } = &mut worker.stage
                && let Some(at) = limits.retire_at.filter(|at| *at <= now)
            {
                let reason = Reason::Lifetime { age: now.saturating_sub(*since), limit };
                *recycle = Some(Recycle { at, reason });
            }
        }
    }

    /// The replacement of a worker that is due failed: it gets another one later.
    pub(super) fn recycle_later(&mut self, generation: u32) {
        let again = self.now.saturating_add(RECYCLE_RETRY);
        for worker in self.workers.iter_mut().filter(|worker| worker.generation == generation) {
            if let Stage::Ready { recycle: Some(recycle), .. } = &mut worker.stage {
                recycle.at = again;
            }
        }
    }
}

/// `limit` times a factor near 1.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a spread of a tenth does not mind; the cast back saturates"
)]
fn stretched(limit: u64, factor: f64) -> u64 {
    (limit as f64 * factor) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_worker_has_room_if_it_fits_under_the_limit_beside_what_is_used() {
        let table = [
            (0, 100, 100, true),
            (60, 100, 40, true),
            (60, 100, 41, false),
            (100, 100, 0, true),
            (101, 100, 0, false),
            (50, u64::MAX, 100, true),
            (u64::MAX, u64::MAX, 1, false),
        ];
        for (used, limit, worker, expected) in table {
            let memory = Memory { used, limit, worker };
            assert_eq!(memory.has_room_for_another(), expected, "{memory:?}");
        }
    }

    #[test]
    fn a_limit_is_stretched_and_never_overflows() {
        assert_eq!(stretched(1000, 1.0), 1000);
        assert_eq!(stretched(1000, 1.05), 1050);
        assert_eq!(stretched(u64::MAX, 1.1), u64::MAX);
    }
}
