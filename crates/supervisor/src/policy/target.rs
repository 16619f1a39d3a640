//! What there should be: a worker for every index, replacements one at a time, more and fewer.
//!
//! The other half of [`Policy`]: `machine.rs` moves workers from stage to stage, this file compares
//! them with the target and asks for what is missing.

use super::machine::{Mode, Policy, Rollout, Seat, Stage, Worker};
use super::notice::{Notice, Reason};
use super::{Action, Pid};

impl Policy {
    /// Starts a worker for every index that has none and has waited long enough.
    pub(super) fn fill_seats(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.seats.len() {
            let is_taken = self.workers.iter().any(|w| w.index == index && w.stage.is_staying());
            let is_due = self.seats.get(index).is_some_and(|seat| seat.respawn_at <= self.now);
            if !is_taken && is_due && self.spawn(index, actions).is_none() {
                return;
            }
        }
    }

    /// Begins the next replacement unless one is under way, or a worker is on its way up anyway.
    pub(super) fn advance_rollout(&mut self, actions: &mut Vec<Action>) {
        let is_starting = |worker: &Worker| matches!(worker.stage, Stage::Starting { .. });
        if self.rollout.is_some() || self.workers.iter().any(is_starting) {
            return;
        }
        let Some((old, index, pid, reason)) = self.next_to_replace() else {
            let reload_done = self.reload.is_some_and(|first| {
                self.workers.iter().all(|w| w.generation >= first || !w.stage.is_staying())
            });
            if reload_done {
                self.reload = None;
                actions.push(Action::Log(Notice::Reloaded));
            }
            return;
        };
        if self.has_free_slot() {
            actions.push(Action::Log(Notice::Replacing { index, pid, reason }));
        }
        if let Some(new) = self.spawn(index, actions) {
            self.rollout = Some(Rollout { old, new, reason });
        }
    }

    /// The ready worker of the lowest index that should be replaced: generation, index, pid, why.
    fn next_to_replace(&self) -> Option<(u32, usize, Pid, Reason)> {
        let wanted = self.workers.iter().filter_map(|worker| {
            let Stage::Ready { recycle_at, .. } = worker.stage else {
                return None;
            };
            let reason = if self.reload.is_some_and(|first| worker.generation < first) {
                Reason::Reload
            } else if recycle_at.is_some_and(|at| at <= self.now) {
                Reason::Recycle
            } else {
                return None;
            };
            Some((worker.generation, worker.index, worker.pid?, reason))
        });
        wanted.min_by_key(|&(_, index, ..)| index)
    }

    fn has_free_slot(&self) -> bool {
        self.workers.len() < self.settings.slots
    }

    /// Asks for a worker in the lowest free slot; its generation, or `None` if no slot is free.
    fn spawn(&mut self, index: usize, actions: &mut Vec<Action>) -> Option<u32> {
        let is_free = |slot: &usize| self.workers.iter().all(|worker| worker.slot != *slot);
        let slot = (0..self.settings.slots).find(is_free)?;
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let deadline = self.settings.startup.map(|limit| self.now.saturating_add(limit));
        let stage = Stage::Starting { deadline };
        self.workers.push(Worker { slot, index, generation, pid: None, stage });
        actions.push(Action::Spawn { slot, index, generation });
        Some(generation)
    }

    pub(super) fn scale_up(&mut self, actions: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        let workers = self.seats.len();
        if workers + 1 >= self.settings.slots {
            actions.push(Action::Log(Notice::ScaleLimit { workers }));
            return;
        }
        self.seats.push(Seat::default());
        actions.push(Action::Log(Notice::ScaledTo { workers: workers + 1 }));
    }

    /// Makes use of room that was found after the start.
    pub(super) fn grow_to(&mut self, workers: usize) {
        let most = self.settings.slots.saturating_sub(1);
        if self.mode == Mode::Running && workers.min(most) > self.seats.len() {
            self.seats.resize_with(workers.min(most), Seat::default);
        }
    }

    pub(super) fn scale_down(&mut self, actions: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        if self.seats.len() == 1 {
            actions.push(Action::Log(Notice::ScaleLimit { workers: 1 }));
            return;
        }
        self.seats.pop();
        let workers = self.seats.len();
        actions.push(Action::Log(Notice::ScaledTo { workers }));
        let is_superfluous = |worker: &Worker| worker.index >= workers;
        // A rollout of that index ends with its old worker, like any other.
        self.send_away(is_superfluous, actions);
    }
}
