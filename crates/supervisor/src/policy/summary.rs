//! What the policy has come to, for those who tell others: the service manager, health checks.

use super::Policy;
use super::machine::{Mode, Stage};

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// No worker has ever been ready.
    Starting,
    /// Serving.
    Running,
    /// Serving, and replacing every worker.
    Reloading,
    /// On its way out, perhaps still accepting.
    Stopping,
}

/// The server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Where it is in its life.
    pub condition: Condition,
    /// How many workers are ready.
    pub ready: usize,
    /// How many there should be.
    pub wanted: usize,
    /// How many processes there are.
    pub processes: usize,
}

impl Policy {
    /// The server as a whole, as of the last event.
    pub fn summary(&self) -> Summary {
        let condition = match self.mode {
            Mode::Stopping { .. } | Mode::Exited => Condition::Stopping,
            Mode::Running if self.reload.is_some() && self.was_ready => Condition::Reloading,
            Mode::Running if self.was_ready => Condition::Running,
            Mode::Running => Condition::Starting,
        };
        let is_ready = |stage| matches!(stage, Stage::Ready { .. });
        Summary {
            condition,
            ready: self.workers.iter().filter(|worker| is_ready(worker.stage)).count(),
            wanted: self.seats.len(),
            processes: self.workers.len(),
        }
    }
}
