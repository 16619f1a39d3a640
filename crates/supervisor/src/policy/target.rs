//! What there should be: a worker for every index, replacements one at a time, more and fewer.
//!
//! The other half of [`Policy`]: `machine.rs` moves workers from stage to stage, this file compares
//! them with the target and asks for what is missing.

use super::machine::{Mode, Policy, Rollout, Seat, Stage, Step, Worker};
use super::notice::{Notice, Reason};
use super::{Action, Memory, Pid};

impl Policy {
    /// Starts a worker for every index that has none and has waited long enough.
    pub(super) fn fill_seats(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.seats_to_fill() {
            let is_vacated = |worker: &Worker| {
                self.rollout.is_some_and(|r| r.old == worker.generation && r.step == Step::Vacating)
            };
            let is_taken = self
                .workers
                .iter()
                .any(|w| w.index == index && (w.stage.is_staying() || is_vacated(w)));
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
        let Some((old, pid, reason)) = self.next_to_replace() else {
            if !self.workers.iter().any(|w| w.stage.is_staying() && self.is_reloaded_away(w)) {
                self.finish_reload(actions);
            }
            return;
        };
        if self.has_free_slot() {
            self.rollout = Some(Rollout { old, reason, step: Step::Measuring });
            actions.push(Action::MeasureMemory { pid });
        }
    }

    /// It is known whether there is memory for a worker more: begins the replacement that asked.
    pub(super) fn begin_rollout(
        &mut self,
        pid: Pid,
        memory: Option<Memory>,
        actions: &mut Vec<Action>,
    ) {
        let asked = |rollout: &mut Rollout| rollout.step == Step::Measuring;
        let Some(rollout) = self.rollout.take_if(asked) else {
            return;
        };
        let Rollout { old, reason, .. } = rollout;
        let is_old = |w: &&Worker| w.generation == old && matches!(w.stage, Stage::Ready { .. });
        let Some(index) = self.workers.iter().find(is_old).map(|worker| worker.index) else {
            return;
        };
        if let Some(memory) = memory.filter(|memory| !memory.has_room_for_another()) {
            actions.push(Action::Log(Notice::ReplacingInPlace { index, pid, reason, memory }));
            self.rollout = Some(Rollout { step: Step::Vacating, ..rollout });
            self.send_away(|worker| worker.generation == old, actions);
            return;
        }
        actions.push(Action::Log(Notice::Replacing { index, pid, reason }));
        if let Some(new) = self.spawn(index, actions) {
            self.rollout = Some(Rollout { step: Step::Overlapping { new }, ..rollout });
        }
    }

    /// A worker that was told to leave has gone: the next step of its replacement.
    pub(super) fn left(&mut self, worker: &Worker, actions: &mut Vec<Action>) {
        let Worker { generation, index, .. } = *worker;
        let ends = |rollout: &mut Rollout| {
            rollout.old == generation || rollout.step == Step::Filling { new: generation }
        };
        let Some(rollout) = self.rollout.take_if(ends) else {
            return;
        };
        if rollout.step == Step::Vacating
            && index < self.seats.len()
            && let Some(new) = self.spawn(index, actions)
        {
            self.rollout = Some(Rollout { step: Step::Filling { new }, ..rollout });
        }
    }

    /// The ready worker of the lowest index that should be replaced: generation, pid, why.
    fn next_to_replace(&self) -> Option<(u32, Pid, Reason)> {
        let wanted = self.workers.iter().filter_map(|worker| {
            let Stage::Ready { recycle, .. } = worker.stage else {
                return None;
            };
            let reason = if self.is_reloaded_away(worker) {
                Reason::Reload
            } else {
                recycle.filter(|recycle| recycle.at <= self.now)?.reason
            };
            Some((worker.index, worker.generation, worker.pid?, reason))
        });
        let (_, generation, pid, reason) = wanted.min_by_key(|&(index, ..)| index)?;
        Some((generation, pid, reason))
    }

    /// Whether a reload under way should replace this worker.
    fn is_reloaded_away(&self, worker: &Worker) -> bool {
        self.reload.as_ref().is_some_and(|reload| {
            let is_kept = reload.workers.is_none_or(|workers| worker.index < workers);
            worker.generation < reload.first && is_kept
        })
    }

    /// The most workers there can be: one slot stays free for a replacement.
    pub(super) fn most_workers(&self) -> usize {
        self.settings.slots.saturating_sub(1).max(1)
    }

    /// Another number of workers from now on.
    pub(super) fn scale_to(&mut self, workers: usize, actions: &mut Vec<Action>) {
        self.seats.resize_with(workers, Seat::default);
        actions.push(Action::Log(Notice::ScaledTo { workers }));
        // A rollout of such an index ends with its old worker, like any other.
        self.send_away(|worker| worker.index >= workers, actions);
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
        let is_stand_in = self.trouble.is_some();
        self.workers.push(Worker { slot, index, generation, pid: None, stage, is_stand_in });
        actions.push(match self.trouble.clone() {
            Some(why) => Action::StandIn { slot, index, generation, why },
            None => Action::Spawn { slot, index, generation },
        });
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
        self.scale_to(workers + 1, actions);
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
        self.scale_to(self.seats.len() - 1, actions);
    }
}
