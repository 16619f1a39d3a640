//! What there is and should be, for whoever wants to show it; and why workers were restarted.
//!
//! Owns: the words for a worker's state and for a restart's cause. **A new cause needs one line**,
//! in [`Notice::restart`]; one that should be counted as 0 before it first happens another, in
//! [`CAUSES`].

use super::Pid;
use super::machine::{Mode, Policy, Stage};
use super::notice::{Notice, Reason};

/// The causes that are shown with 0 until they happen.
pub(crate) const CAUSES: [&str; 5] = ["crash", "failed_start", "blocked", "reload", "recycling"];

/// Where a worker is in its life, in the supervisor's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Starting,
    Ready,
    Draining,
    Killed,
}

impl State {
    pub(crate) const ALL: [Self; 4] = [Self::Starting, Self::Ready, Self::Draining, Self::Killed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Killed => "killed",
        }
    }
}

/// All workers at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    /// Whether the server shuts down.
    pub(crate) is_stopping: bool,
    /// How many workers there should be.
    pub(crate) wanted: usize,
    /// Those that exist, in the order of their indices; a replacement behind its predecessor.
    pub(crate) workers: Vec<Seen>,
}

/// One worker process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) slot: usize,
    pub(crate) index: usize,
    pub(crate) generation: u32,
    pub(crate) pid: Pid,
    pub(crate) state: State,
}

impl Policy {
    /// What there is now.
    pub(crate) fn overview(&self) -> Overview {
        let mut workers: Vec<Seen> = self
            .workers
            .iter()
            .filter_map(|worker| {
                Some(Seen {
                    slot: worker.slot,
                    index: worker.index,
                    generation: worker.generation,
                    pid: worker.pid?,
                    state: match worker.stage {
                        Stage::Starting { .. } => State::Starting,
                        Stage::Ready { .. } => State::Ready,
                        Stage::Leaving { .. } => State::Draining,
                        Stage::Aborted { .. } | Stage::Killed => State::Killed,
                    },
                })
            })
            .collect();
        workers.sort_by_key(|worker| (worker.index, worker.generation));
        Overview { is_stopping: self.mode != Mode::Running, wanted: self.seats.len(), workers }
    }
}

impl Notice {
    /// The worker that is restarted, and the cause as a metric's label; `None` if this tells of
    /// something else.
    pub(crate) fn restart(&self) -> Option<(usize, &'static str)> {
        Some(match *self {
            Self::Died { index, .. } => (index, "crash"),
            Self::Blocked { index, .. } | Self::Silent { index, .. } => (index, "blocked"),
            Self::SpawnFailed { index, .. }
            | Self::StartFailed { index, .. }
            | Self::StartTimedOut { index, .. }
            | Self::DiedStarting { index, .. } => (index, "failed_start"),
            Self::Replacing { index, reason: Reason::Reload, .. } => (index, "reload"),
            Self::Replacing { index, .. } => (index, "recycling"),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{Event, Exit, PolicySettings};

    fn policy(workers: usize) -> Policy {
        let mut policy =
            Policy::new(PolicySettings { workers, slots: 8, seed: 1, ..PolicySettings::default() });
        policy.on(Event::Tick, Duration::ZERO);
        policy
    }

    fn states(policy: &Policy) -> Vec<(usize, Pid, &'static str)> {
        let seen = policy.overview().workers;
        seen.iter().map(|worker| (worker.index, worker.pid, worker.state.as_str())).collect()
    }

    #[test]
    fn every_worker_is_shown_with_its_state() {
        let mut policy = policy(2);
        assert_eq!(states(&policy), []); // asked for, no process yet
        policy.on(Event::Spawned { slot: 1, pid: 11 }, Duration::ZERO);
        policy.on(Event::Spawned { slot: 0, pid: 10 }, Duration::ZERO);
        policy.on(Event::WorkerReady { pid: 11 }, Duration::ZERO);
        assert_eq!(states(&policy), [(0, 10, "starting"), (1, 11, "ready")]);
        assert!(!policy.overview().is_stopping);

        policy.on(Event::StopRequested, Duration::ZERO);
        assert!(policy.overview().is_stopping);
        assert_eq!(states(&policy), [(0, 10, "draining"), (1, 11, "draining")]);
        policy.on(Event::StopRequested, Duration::from_secs(1));
        assert_eq!(states(&policy), [(0, 10, "killed"), (1, 11, "killed")]);
        assert_eq!(policy.overview().wanted, 2);
    }

    #[test]
    fn each_cause_of_a_restart_has_a_label() {
        let (index, pid, message) = (3, 7, String::new());
        let exit = Exit::Signal(9);
        let replacing = |reason| Notice::Replacing { index, pid, reason };
        let table = [
            (Notice::Died { index, pid, exit }, "crash"),
            (Notice::Blocked { index, pid, duration: Duration::ZERO }, "blocked"),
            (Notice::Silent { index, pid, duration: Duration::ZERO, state: None }, "blocked"),
            (Notice::DiedStarting { index, pid, exit }, "failed_start"),
            (Notice::StartTimedOut { index, pid, limit: Duration::ZERO }, "failed_start"),
            (Notice::SpawnFailed { index, message: message.clone() }, "failed_start"),
            (Notice::StartFailed { index, pid, message }, "failed_start"),
            (replacing(Reason::Reload), "reload"),
            (replacing(Reason::Requests { served: 2, limit: 1 }), "recycling"),
        ];
        for (notice, cause) in table {
            assert_eq!(notice.restart(), Some((index, cause)), "{notice}");
            assert!(CAUSES.contains(&cause));
        }
        assert_eq!(Notice::Finished { index, pid, exit }.restart(), None);
        assert_eq!(Notice::Reloaded.restart(), None);
    }
}
