//! The state machine itself; its diagrams and rules are in the parent module's header.

use std::collections::VecDeque;
use std::time::Duration;

use super::backoff::{self, Jitter};
use super::notice::{Notice, Reason};
use super::{
    Action, CRASH_LIMIT, CRASH_WINDOW, EXIT_LIMIT, Event, Exit, KILL_MARGIN, Pid, PolicySettings,
    RECYCLE_RETRY, SAME_STOP, STABLE,
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
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stage {
    Starting { deadline: Option<Duration> },
    Ready { since: Duration, recycle_at: Option<Duration> },
    Leaving { kill_at: Option<Duration> },
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
    pub(super) new: u32,
    pub(super) reason: Reason,
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
    /// During a reload, the first generation that is new.
    pub(super) reload: Option<u32>,
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
                self.fill_seats(&mut actions);
                self.advance_rollout(&mut actions);
            }
            Mode::Stopping { code, .. } if self.workers.is_empty() => {
                self.mode = Mode::Exited;
                actions.push(Action::Exit { code });
            }
            Mode::Stopping { .. } | Mode::Exited => {}
        }
        actions
    }

    /// When [`Event::Tick`] is due; `None` if only events can change anything.
    pub fn next_deadline(&self) -> Option<Duration> {
        let running = self.mode == Mode::Running;
        let of_workers = self.workers.iter().filter_map(|worker| match worker.stage {
            Stage::Starting { deadline } => deadline,
            Stage::Ready { recycle_at, .. } => recycle_at.filter(|_| running),
            Stage::Leaving { kill_at } => kill_at,
            Stage::Killed => None,
        });
        let of_seats = self.seats.iter().map(|seat| seat.respawn_at).filter(|_| running);
        let drain_at = match self.mode {
            Mode::Stopping { drain_at, .. } => drain_at,
            Mode::Running | Mode::Exited => None,
        };
        // What is past and still there waits for an event, such as a slot becoming free.
        of_workers.chain(of_seats).chain(drain_at).filter(|&at| at > self.now).min()
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
            Event::WorkerWantsRecycle { pid } => {
                let now = self.now;
                if let Some(worker) = self.by_pid(pid)
                    && let Stage::Ready { recycle_at, .. } = &mut worker.stage
                {
                    recycle_at.get_or_insert(now);
                }
            }
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
            Event::ReloadRequested => {
                if self.mode == Mode::Running {
                    self.reload = Some(self.next_generation);
                    // It may bring the cure: whoever waits for another try gets it now.
                    self.seats.fill(Seat::default());
                    actions.push(Action::Log(Notice::Reloading { workers: self.seats.len() }));
                }
            }
            Event::ScaleUp => self.scale_up(actions),
            Event::ScaleDown => self.scale_down(actions),
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
        let cause = format!("could not be started: {message}");
        actions.push(Action::Log(Notice::SpawnFailed { index: worker.index, message }));
        if worker.stage.is_staying() {
            self.start_failed(&worker, &cause, actions);
        }
    }

    fn became_ready(&mut self, pid: Pid, actions: &mut Vec<Action>) {
        let now = self.now;
        let Some(worker) = self.by_pid(pid) else {
            return;
        };
        if !matches!(worker.stage, Stage::Starting { .. }) {
            return;
        }
        worker.stage = Stage::Ready { since: now, recycle_at: None };
        let generation = worker.generation;
        if !self.was_ready {
            self.was_ready = true;
            actions.push(Action::AnnounceRunning);
        }
        if let Some(rollout) = self.rollout.filter(|rollout| rollout.new == generation) {
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
                if self.now.saturating_sub(since) >= STABLE
                    && let Some(seat) = self.seats.get_mut(index)
                {
                    seat.deaths = 0;
                }
                // If it was about to be replaced, its replacement already is what the index needs.
                let had_replacement =
                    self.rollout.take_if(|rollout| rollout.old == worker.generation).is_some();
                self.count_death(index, &exit.to_string(), !had_replacement, actions);
            }
            Stage::Leaving { .. } | Stage::Killed => {
                actions.push(Action::Log(Notice::Finished { index, pid, exit }));
                self.rollout.take_if(|rollout| rollout.old == worker.generation);
            }
        }
    }

    /// A worker will not become ready. It may still exist, on its way out.
    fn start_failed(&mut self, worker: &Worker, cause: &str, actions: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        if !self.was_ready {
            actions.push(Action::Log(Notice::StartupFailed));
            self.stop(exit::STARTUP, actions);
            return;
        }
        let Some(rollout) = self.rollout.take_if(|rollout| rollout.new == worker.generation) else {
            self.count_death(worker.index, cause, true, actions);
            return;
        };
        let reason = rollout.reason;
        actions.push(Action::Log(Notice::ReplacementFailed { index: worker.index, reason }));
        match reason {
            Reason::Reload => self.reload = None,
            Reason::Recycle => {
                let again = self.now + RECYCLE_RETRY;
                for worker in self.workers.iter_mut().filter(|w| w.generation == rollout.old) {
                    if let Stage::Ready { recycle_at, .. } = &mut worker.stage {
                        *recycle_at = Some(again);
                    }
                }
            }
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
        if self.deaths.len() >= CRASH_LIMIT {
            actions.push(Action::Log(Notice::CrashLoop { last: cause.to_owned() }));
            self.stop(exit::FAILURE, actions);
            return;
        }
        let jitter = self.jitter.next();
        let Some(seat) = self.seats.get_mut(index) else {
            return;
        };
        seat.deaths = seat.deaths.saturating_add(1);
        let delay = backoff::delay(seat.deaths, jitter);
        seat.respawn_at = now + delay;
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
                Stage::Killed => continue,
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

    fn by_pid(&mut self, pid: Pid) -> Option<&mut Worker> {
        self.workers.iter_mut().find(|worker| worker.pid == Some(pid))
    }
}
