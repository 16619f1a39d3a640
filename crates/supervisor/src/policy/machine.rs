//! The state machine itself; its diagrams and rules are in the parent module's header.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::{self, Jitter};
use super::notice::{Notice, Reason};
use super::recycle::{Limits, Recycle};
use super::reload::{Reload, Renewal, Stale};
use super::{
    Action, CRASH_LIMIT, CRASH_WINDOW, ClockTime, EXIT_LIMIT, Event, Exit, KILL_MARGIN, Pid,
    PolicySettings, SAME_STOP, STABLE,
};
use crate::exit;

/// One worker process, from the wish for it until it is reaped.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) slot: usize,
    pub(super) index: usize,
    pub(super) generation: u32,
    /// `None` between [`Action::Spawn`] and its answer.
    pub(super) pid: Option<Pid>,
    pub(super) stage: Stage,
    /// It serves in place of code that does not start.
    pub(super) is_stand_in: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Starting {
        deadline: Option<Duration>,
    },
    Ready {
        since: Duration,
        recycle: Option<Recycle>,
        limits: Limits,
    },
    Leaving {
        kill_at: Option<Duration>,
    },
    /// It was blocked and has been given up.
    Aborted {
        kill_at: Duration,
    },
    Killed,
}

impl Stage {
    /// Whether the worker serves or is going to: one of these per index is enough.
    pub(super) fn is_staying(self) -> bool {
        matches!(self, Self::Starting { .. } | Self::Ready { .. })
    }
}

/// What is remembered about an index while no worker has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seat {
    pub(super) deaths: u32,
    pub(super) respawn_at: Duration,
}

/// The replacement under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rollout {
    pub(super) old: u32,
    pub(super) reason: Reason,
    pub(super) step: Step,
}

/// How far it has got; its diagram is in the parent module's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Measuring,
    /// Both run.
    Overlapping {
        new: u32,
    },
    /// In place: the old one is still there.
    Vacating,
    /// In place: the old one has gone.
    Filling {
        new: u32,
    },
}

impl Rollout {
    fn is_with(&self, generation: u32) -> bool {
        match self.step {
            Step::Overlapping { new } | Step::Filling { new } => new == generation,
            Step::Measuring | Step::Vacating => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Running,
    /// `drain_at` is set as long as the workers still accept.
    Stopping {
        code: u8,
        since: Duration,
        drain_at: Option<Duration>,
    },
    Exited,
}

/// The supervisor's state and rules.
#[derive(Debug)]
pub struct Policy {
    pub(super) settings: PolicySettings,
    pub(super) mode: Mode,
    pub(super) workers: Vec<Worker>,
    /// One per index there should be: its length is the number of workers wanted.
    pub(super) seats: Vec<Seat>,
    pub(super) rollout: Option<Rollout>,
    pub(super) reload: Option<Reload>,
    pub(super) renewal: Option<Renewal>,
    pub(super) stale: Option<Stale>,
    /// In development: why the code does not start.
    pub(super) trouble: Option<String>,
    /// When the last reload was asked for.
    pub(super) reload_clock: ClockTime,
    pub(super) next_generation: u32,
    pub(super) was_ready: bool,
    pub(super) deaths: VecDeque<Duration>,
    pub(super) jitter: Jitter,
    pub(super) now: Duration,
}

impl Policy {
    /// A policy that has not started anything; the first [`Event::Tick`] makes it.
    pub fn new(settings: PolicySettings) -> Self {
        let most = settings.slots.saturating_sub(1).max(1);
        Self {
            settings,
            mode: Mode::Running,
            workers: Vec::new(),
            seats: vec![Seat::default(); settings.workers.clamp(1, most)],
            rollout: None,
            reload: None,
            renewal: None,
            stale: None,
            trouble: None,
            reload_clock: ClockTime::default(),
            next_generation: 1,
            was_ready: false,
            deaths: VecDeque::new(),
            jitter: Jitter::new(settings.seed),
            now: Duration::ZERO,
        }
    }

    /// Takes note of an event that happened at `now`, the time since the supervisor started, and
    /// says what to do.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.mode == Mode::Exited {
            return actions;
        }
        self.now = now.max(self.now);
        self.take(event, &mut actions);
        self.end_delay(&mut actions);
        self.enforce_deadlines(&mut actions);
        match self.mode {
            Mode::Running => {
                self.retire();
                self.fill_seats(&mut actions);
                self.advance_rollout(&mut actions);
                self.remind(&mut actions);
            }
            Mode::Stopping { code, .. } if self.workers.is_empty() => {
                self.mode = Mode::Exited;
                actions.push(Action::Exit { code });
            }
            Mode::Stopping { .. } | Mode::Exited => {}
        }
        actions
    }

    /// The stable number of the worker in this slot.
    pub(crate) fn index_of(&self, slot: usize) -> Option<usize> {
        self.workers.iter().find(|worker| worker.slot == slot).map(|worker| worker.index)
    }

    /// When [`Event::Tick`] is due; `None` if only events can change anything.
    pub fn next_deadline(&self) -> Option<Duration> {
        let running = self.mode == Mode::Running;
        let of_workers = self.workers.iter().filter_map(|worker| match worker.stage {
            Stage::Starting { deadline } => deadline,
            Stage::Ready { recycle, limits, .. } => {
                recycle.map_or(limits.deadline(), |recycle| Some(recycle.at)).filter(|_| running)
            }
            Stage::Leaving { kill_at } => kill_at,
            Stage::Aborted { kill_at } => Some(kill_at),
            Stage::Killed => None,
        });
        let of_seats = self.seats.iter().map(|seat| seat.respawn_at).filter(|_| running);
        let drain_at = match self.mode {
            Mode::Stopping { drain_at, .. } => drain_at,
            Mode::Running | Mode::Exited => None,
        };
        // What is past and still there waits for an event, such as a slot becoming free.
        let of_reload = self.stale.iter().map(Stale::remind_at).filter(|_| running);
        let all = of_workers.chain(of_seats).chain(of_reload).chain(drain_at);
        all.filter(|&at| at > self.now).min()
    }

    fn take(&mut self, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Spawned { slot, pid } => self.spawned(slot, pid, actions),
            Event::SpawnFailed { slot, message } => self.spawn_failed(slot, message, actions),
            Event::WorkerReady { pid } => self.became_ready(pid, actions),
            Event::WorkerFailedToStart { pid, message } => {
                self.failed_to_start(pid, message, actions);
            }
            Event::WorkerExited { pid, exit } => self.exited(pid, exit, actions),
            Event::WorkerBlocked { pid, duration } => self.blocked(pid, duration, actions),
            Event::WorkerSilent { pid, duration, state } => {
                self.silent(pid, duration, state, actions);
            }
            Event::WorkerWantsRecycle { pid, reason } => self.wants_recycle(pid, reason),
            Event::MemorySampled { pid, resident } => self.memory_sampled(pid, resident),
            Event::MemoryMeasured { pid, memory } => self.begin_rollout(pid, memory, actions),
            Event::SettingsRenewed { settings, clock } => self.renew(settings, clock),
            Event::ReloadRefused { message, clock } => self.refuse_reload(message, clock, actions),
            Event::StopRequested => match self.mode {
                Mode::Running => {
                    actions.push(Action::Log(Notice::Stopping));
                    self.stop_after_delay(actions);
                }
                // `timeout` and a terminal send the same stop twice: to the process and to its group.
                Mode::Stopping { since, .. } if self.now.saturating_sub(since) < SAME_STOP => {}
                Mode::Stopping { .. } | Mode::Exited => self.force(actions),
            },
            Event::QuitRequested => self.quit(actions),
            Event::ReloadRequested => self.begin_reload(actions),
            Event::FilesChanged { files } => self.changed(files, actions),
            Event::ScaleUp => self.scale_up(actions),
            Event::ScaleDown => self.scale_down(actions),
            Event::RoomFor { workers } => self.grow_to(workers),
            Event::Tick => {}
        }
    }

    // --- one worker's life ---

    fn spawned(&mut self, slot: usize, pid: Pid, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.iter_mut().find(|w| w.slot == slot && w.pid.is_none())
        else {
            return;
        };
        worker.pid = Some(pid);
        actions.push(Action::Log(Notice::WorkerStarted { index: worker.index, pid }));
        if !worker.stage.is_staying() {
            // It stopped being wanted before it existed.
            actions.push(Action::Terminate { pid });
        }
    }

    fn spawn_failed(&mut self, slot: usize, message: String, actions: &mut Vec<Action>) {
        let Some(position) = self.workers.iter().position(|w| w.slot == slot && w.pid.is_none())
        else {
            return;
        };
        let worker = self.workers.remove(position);
        // Otherwise it stopped being wanted before it existed, and nothing is missing.
        if worker.stage.is_staying() {
            let cause = format!("could not be started: {message}");
            actions.push(Action::Log(Notice::SpawnFailed { index: worker.index, message }));
            self.start_failed(&worker, &cause, actions);
        }
    }

    fn became_ready(&mut self, pid: Pid, actions: &mut Vec<Action>) {
        let now = self.now;
        let is_starting = |worker: &&mut Worker| matches!(worker.stage, Stage::Starting { .. });
        let Some(generation) = self.by_pid(pid).filter(is_starting).map(|w| w.generation) else {
            return;
        };
        let limits = self.draw_limits();
        if let Some(worker) = self.by_pid(pid) {
            worker.stage = Stage::Ready { since: now, recycle: None, limits };
        }
        if !self.was_ready {
            self.was_ready = true;
            actions.push(Action::AnnounceRunning);
        }
        if let Some(rollout) = self.rollout.filter(|rollout| rollout.is_with(generation)) {
            if matches!(rollout.step, Step::Filling { .. }) {
                self.rollout = None;
            }
            self.send_away(|worker| worker.generation == rollout.old, actions);
        }
    }

    fn failed_to_start(&mut self, pid: Pid, message: String, actions: &mut Vec<Action>) {
        let kill_at = Some(self.now + EXIT_LIMIT);
        let Some(worker) = self.by_pid(pid) else {
            return;
        };
        if !matches!(worker.stage, Stage::Starting { .. }) {
            return;
        }
        worker.stage = Stage::Leaving { kill_at };
        let worker = worker.clone();
        let cause = format!("failed to start: {message}");
        actions.push(Action::Log(Notice::StartFailed { index: worker.index, pid, message }));
        self.start_failed(&worker, &cause, actions);
    }

    fn exited(&mut self, pid: Pid, exit: Exit, actions: &mut Vec<Action>) {
        let Some(position) = self.workers.iter().position(|w| w.pid == Some(pid)) else {
            return;
        };
        let worker = self.workers.remove(position);
        let index = worker.index;
        match worker.stage {
            Stage::Starting { .. } => {
                actions.push(Action::Log(Notice::DiedStarting { index, pid, exit }));
                self.start_failed(&worker, &exit.to_string(), actions);
            }
            Stage::Ready { since, .. } => {
                actions.push(Action::Log(Notice::Died { index, pid, exit }));
                let empty = self.lose(index, worker.generation, since);
                self.count_death(index, &exit.to_string(), empty, actions);
            }
            Stage::Leaving { .. } | Stage::Aborted { .. } | Stage::Killed => {
                actions.push(Action::Log(Notice::Finished { index, pid, exit }));
                self.left(&worker, actions);
            }
        }
    }

    /// A worker that was ready is lost. Returns whether its index has nobody now.
    pub(super) fn lose(&mut self, index: usize, generation: u32, since: Duration) -> bool {
        if self.now.saturating_sub(since) >= STABLE
            && let Some(seat) = self.seats.get_mut(index)
        {
            seat.deaths = 0;
        }
        // If it was about to be replaced, its replacement already is what the index needs.
        let rollout = self.rollout.take_if(|rollout| rollout.old == generation);
        rollout.is_none_or(|rollout| rollout.step == Step::Measuring)
    }

    /// A worker will not become ready. It may still exist, on its way out.
    fn start_failed(&mut self, worker: &Worker, cause: &str, actions: &mut Vec<Action>) {
        if self.mode != Mode::Running || self.is_in_trouble(worker, cause, actions) {
            return;
        }
        if !self.was_ready {
            actions.push(Action::Log(Notice::StartupFailed));
            self.stop(exit::STARTUP, actions);
            return;
        }
        let Some(rollout) = self.rollout.take_if(|rollout| rollout.is_with(worker.generation))
        else {
            self.count_failed_start(worker.index, cause, actions);
            return;
        };
        let Rollout { old, reason, step } = rollout;
        let index = worker.index;
        let in_place = matches!(step, Step::Filling { .. });
        actions.push(Action::Log(Notice::ReplacementFailed { index, reason, in_place }));
        match reason {
            Reason::Reload => self.fail_reload(cause, actions),
            _ => self.recycle_later(old),
        }
        if in_place {
            self.count_failed_start(index, cause, actions);
        }
    }

    /// Like a death, except that after a failed reload it is known why, and old code serves.
    fn count_failed_start(&mut self, index: usize, cause: &str, actions: &mut Vec<Action>) {
        if self.settings.development || self.serves_in_spite_of_failed_reload() {
            self.back_off(index, true, actions);
        } else {
            self.count_death(index, cause, true, actions);
        }
    }

    /// A death nobody asked for: decides when the index gets its next worker, or gives up.
    fn count_death(&mut self, index: usize, cause: &str, empty: bool, actions: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        let now = self.now;
        self.deaths.push_back(now);
        self.deaths.retain(|&at| now.saturating_sub(at) < CRASH_WINDOW);
        if self.deaths.len() >= CRASH_LIMIT && !self.settings.development {
            actions.push(Action::Log(Notice::CrashLoop { last: cause.to_owned() }));
            self.stop(exit::FAILURE, actions);
            return;
        }
        self.back_off(index, empty, actions);
    }

    /// Decides when the index gets its next worker.
    pub(super) fn back_off(&mut self, index: usize, empty: bool, actions: &mut Vec<Action>) {
        let jitter = self.jitter.next();
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        seat.deaths = seat.deaths.saturating_add(1);
        let delay = backoff::delay(seat.deaths, jitter);
        seat.respawn_at = self.now + delay;
        if empty && !delay.is_zero() {
            actions.push(Action::Log(Notice::Respawning { index, delay }));
        }
    }

    /// Kills whoever has had enough time.
    fn enforce_deadlines(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        let is_due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let mut late = Vec::new();
        for worker in &mut self.workers {
            let Some(pid) = worker.pid else { continue };
            let index = worker.index;
            match worker.stage {
                Stage::Starting { deadline } if is_due(deadline) => {
                    let limit = self.settings.startup.unwrap_or_default();
                    actions.push(Action::Log(Notice::StartTimedOut { index, pid, limit }));
                    late.push(worker.clone());
                }
                Stage::Leaving { kill_at } if is_due(kill_at) => {
                    actions.push(Action::Log(Notice::KilledDraining { index, pid }));
                }
                Stage::Aborted { kill_at } if kill_at <= now => {
                    actions.push(Action::Log(Notice::KilledBlocked { index, pid }));
                }
                _ => continue,
            }
            worker.stage = Stage::Killed;
            actions.push(Action::Kill { pid });
        }
        for worker in late {
            self.start_failed(&worker, "was not ready in time", actions);
        }
    }

    // --- the end ---

    /// Tells all workers that match and stay to leave, in the way that fits their stage.
    pub(super) fn send_away(
        &mut self,
        matches: impl Fn(&Worker) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let limit = self.settings.graceful.map(|limit| limit.saturating_add(KILL_MARGIN));
        let kill_at = limit.map(|limit| self.now.saturating_add(limit));
        for worker in self.workers.iter_mut().filter(|worker| matches(worker)) {
            let is_ready = matches!(worker.stage, Stage::Ready { .. });
            if !worker.stage.is_staying() {
                continue;
            }
            worker.stage = Stage::Leaving { kill_at };
            if let Some(pid) = worker.pid {
                actions.push(if is_ready {
                    Action::Drain { pid }
                } else {
                    Action::Terminate { pid }
                });
            }
        }
    }

    /// Whoever serves does so a little longer, so that a load balancer can notice.
    fn stop_after_delay(&mut self, actions: &mut Vec<Action>) {
        let is_ready = |worker: &Worker| matches!(worker.stage, Stage::Ready { .. });
        if self.settings.delay.is_zero() || !self.workers.iter().any(is_ready) {
            return self.stop(exit::CLEAN, actions);
        }
        let delay = self.settings.delay;
        self.enter_stopping(exit::CLEAN, Some(self.now.saturating_add(delay)));
        actions.push(Action::Log(Notice::Announcing { delay }));
        for worker in self.workers.iter().filter(|worker| is_ready(worker)) {
            actions.extend(worker.pid.map(|pid| Action::Announce { pid }));
        }
        self.send_away(|worker| !is_ready(worker), actions);
    }

    /// Closes the listeners and drains once the delay of a stop is over.
    fn end_delay(&mut self, actions: &mut Vec<Action>) {
        if let Mode::Stopping { drain_at, .. } = &mut self.mode
            && drain_at.take_if(|at| *at <= self.now).is_some()
        {
            actions.push(Action::CloseListeners);
            self.send_away(|_| true, actions);
        }
    }

    fn stop(&mut self, code: u8, actions: &mut Vec<Action>) {
        self.enter_stopping(code, None);
        actions.push(Action::CloseListeners);
        self.send_away(|_| true, actions);
    }

    fn enter_stopping(&mut self, code: u8, drain_at: Option<Duration>) {
        self.mode = Mode::Stopping { code, since: self.now, drain_at };
        self.rollout = None;
        self.reload = None;
        self.stale = None;
    }

    /// Stops without draining: who is ready may still exit by itself, for a moment.
    fn quit(&mut self, actions: &mut Vec<Action>) {
        if self.mode == Mode::Running {
            actions.push(Action::Log(Notice::Quitting));
            self.enter_stopping(exit::CLEAN, Some(self.now));
        }
        if let Mode::Stopping { drain_at, .. } = &mut self.mode
            && drain_at.take().is_some()
        {
            actions.push(Action::CloseListeners);
        }
        let limit = self.now + EXIT_LIMIT;
        for worker in &mut self.workers {
            let kill_at = match worker.stage {
                Stage::Starting { .. } => self.now,
                Stage::Leaving { kill_at: Some(at) } => at.min(limit),
                Stage::Ready { .. } | Stage::Leaving { kill_at: None } => limit,
                Stage::Aborted { .. } | Stage::Killed => continue,
            };
            worker.stage = Stage::Leaving { kill_at: Some(kill_at) };
            actions.extend(worker.pid.map(|pid| Action::Quit { pid }));
        }
    }

    fn force(&mut self, actions: &mut Vec<Action>) {
        if self.workers.iter().all(|worker| worker.stage == Stage::Killed) {
            return;
        }
        actions.push(Action::Log(Notice::Forcing));
        for worker in self.workers.iter_mut().filter(|worker| worker.stage != Stage::Killed) {
            if let Some(pid) = worker.pid {
                worker.stage = Stage::Killed;
                actions.push(Action::Kill { pid });
            }
        }
    }

    pub(super) fn by_pid(&mut self, pid: Pid) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.pid == Some(pid))
    }
}
