//! Workers that live and do nothing: the loop is blocked, or the whole process stands still.
//!
//! Owns: that such a worker counts as dead from the moment it is given up, so that its index is
//! filled at once. It never counts towards a crash loop: all workers hang together when what they all
//! wait for hangs, and a server that then gave up would not be there when it is back. Must not know:
//! how either is found out (the worker's watchdog says the one, the scoreboard the other).

use std::time::Duration;

use super::machine::{Policy, Stage};
use super::notice::Notice;
use super::{ABORT_GRACE, Action, Pid};

impl Policy {
    /// The worker's watchdog says that its loop has not moved for this long.
    pub(super) fn blocked(&mut self, pid: Pid, duration: Duration, actions: &mut Vec<Action>) {
        // ABRT and not KILL: a core dump, or a handler of the application's, may say more.
        let stage = Stage::Aborted { kill_at: self.now.saturating_add(ABORT_GRACE) };
        let notice = |index| Notice::Blocked { index, pid, duration };
        self.give_up(pid, stage, notice, Action::Abort { pid }, actions);
    }

    /// Nothing has been seen of the worker for this long, not even its watchdog.
    pub(super) fn silent(
        &mut self,
        pid: Pid,
        duration: Duration,
        state: Option<char>,
        actions: &mut Vec<Action>,
    ) {
        // A stopped process takes no other signal.
        let notice = |index| Notice::Silent { index, pid, duration, state };
        self.give_up(pid, Stage::Killed, notice, Action::Kill { pid }, actions);
    }

    /// Only a worker that should be serving: start-up and drain have limits of their own.
    fn give_up(
        &mut self,
        pid: Pid,
        stage: Stage,
        notice: impl FnOnce(usize) -> Notice,
        action: Action,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.by_pid(pid) else {
            return;
        };
        let Stage::Ready { since, .. } = worker.stage else {
            return;
        };
        worker.stage = stage;
        let (index, generation) = (worker.index, worker.generation);
        actions.push(Action::Log(notice(index)));
        actions.push(action);
        let empty = self.lose(index, generation, since);
        self.back_off(index, empty, actions);
    }
}
