//! `--reload`: what follows from a change of the application's files.
//!
//! ```text
//!            change, HUP: all leave              ready
//! (serving) ---------------------> trial starts -------> the others start
//!     ^                              |   ^
//!     |                              |   | change, HUP
//!     |      does not start: trouble v   |
//!     `--------------------------- stand-in
//! ```
//!
//! Unlike a reload in production the old code goes first: whoever asks after a change gets the new
//! code, however long it takes to start, and the sockets hold the connections meanwhile. One worker
//! tries the code before there are more, so that a mistake is told once. If it does not start, a
//! stand-in takes its place, which is told why, until the next change. The server never ends by itself.
//!
//! Owns: those rules. Must not know: what a stand-in does, or which files were looked at.

use super::Action;
use super::machine::{Mode, Policy, Seat, Stage, Worker};
use super::notice::Notice;

impl Policy {
    /// Files have changed.
    pub(super) fn changed(&mut self, files: Vec<String>, actions: &mut Vec<Action>) {
        if self.mode == Mode::Running {
            actions.push(Action::Log(Notice::Changed { files }));
            self.restart(actions);
        }
    }

    /// Sends everybody away and lets the code that is there now begin.
    pub(super) fn restart(&mut self, actions: &mut Vec<Action>) {
        self.rollout = None;
        self.trouble = None;
        self.seats.fill(Seat::default());
        self.deaths.clear();
        if let Some(workers) = self.settle_renewal(actions) {
            self.seats.resize_with(workers, Seat::default);
        }
        self.send_away(|_| true, actions);
    }

    /// How many workers may be asked for now: one until the code has been tried, or in its place.
    pub(super) fn seats_to_fill(&self) -> usize {
        let is_proven =
            |worker: &Worker| matches!(worker.stage, Stage::Ready { .. }) && !worker.is_stand_in;
        if !self.settings.development
            || self.trouble.is_none() && self.workers.iter().any(is_proven)
        {
            self.seats.len()
        } else {
            1
        }
    }

    /// A worker with the application's code did not start. Returns whether that has been dealt with.
    pub(super) fn is_in_trouble(
        &mut self,
        worker: &Worker,
        cause: &str,
        actions: &mut Vec<Action>,
    ) -> bool {
        // A process that could not be made, or a stand-in, is no mistake of the code's; and if others
        // of the same code serve, it is only one worker's.
        let is_code = self.settings.development && worker.pid.is_some() && !worker.is_stand_in;
        let serves = |worker: &Worker| matches!(worker.stage, Stage::Ready { .. });
        if !is_code || self.workers.iter().any(serves) {
            return false;
        }
        self.trouble = Some(cause.to_owned());
        actions.push(Action::Log(Notice::Trouble));
        true
    }
}
