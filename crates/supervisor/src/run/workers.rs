//! The supervisor's workers as processes: started, told, listened to, killed and reaped.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use log::{debug, error, warn};
use rustix::process::{Pid as RawPid, Signal, WaitOptions, WaitStatus};
use serde_json::json;
use tokio::io::unix::AsyncFd;

use super::{LOG, Supervisor};
use crate::control::{FromWorker, Report, SupervisorControl, ToWorker};
use crate::policy::{Event, Exit, Pid, Reason};
use crate::preload::Failure;
use crate::scoreboard::Phase;
use crate::settings::Settings;
use crate::spawn::{self, Place, Spawned};
use crate::sys::descriptor::watch;

/// The key of what a stand-in is told, beside the settings.
pub const STAND_IN: &str = "stand_in";

/// A worker that exists and has not been reaped, so its number cannot mean another process.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) slot: usize,
    pub(super) index: usize,
    /// `None` once the worker has closed its end.
    pub(super) control: Option<AsyncFd<SupervisorControl>>,
    /// Whether it was we who killed it.
    pub(super) was_killed: bool,
}

impl Supervisor {
    /// Starts a worker, or asks a template for it; then the answer comes when there is one.
    pub(super) fn spawn(&mut self, place: Place, generation: u32) -> Vec<Event> {
        let slot = place.slot;
        self.scoreboard.slot(slot).assign(generation);
        if let (Some(preload), gift) = self.preload() {
            let failures = preload.request(place, gift);
            return failures.into_iter().map(|failure| self.spawn_failed(failure)).collect();
        }
        let settings = self.settings.file();
        if let Some(spare) = self.spare.as_mut().and_then(|spare| spare.take(place, settings)) {
            return vec![self.adopt(slot, spare)];
        }
        match spawn::spawn(&self.command, &self.listeners, &self.scoreboard, place) {
            Ok(spawned) => vec![self.spawned(slot, spawned)],
            Err(error) => {
                let program = self.command.program.to_string_lossy();
                let message = format!("{error}: `{program}`");
                vec![self.spawn_failed(Failure { slot, message })]
            }
        }
    }

    /// Starts a worker that knows why the application cannot be served.
    pub(super) fn stand_in(&mut self, place: Place, generation: u32, why: &str) -> Vec<Event> {
        let slot = place.slot;
        self.scoreboard.slot(slot).assign(generation);
        let spawned = self.settings.renewed(&json!({ STAND_IN: why })).and_then(|settings| {
            let spawned = spawn::spawn(&self.command, &self.listeners, &self.scoreboard, place)?;
            Ok((settings, spawned))
        });
        match spawned {
            Ok((settings, spawned)) => {
                tell(&spawned, &settings);
                vec![self.adopt(slot, spawned)]
            }
            Err(error) => vec![self.spawn_failed(Failure { slot, message: error.to_string() })],
        }
    }

    /// Shows why there are no workers yet: a process that the policy does not know, to be ended before
    /// the first one that it does. Without it, nobody is answered.
    pub(super) fn stand_in_before_workers(&self, why: &str) -> Option<Spawned> {
        let place = Place { slot: 0, index: 0 };
        self.scoreboard.slot(place.slot).assign(0);
        let spawned = self.settings.renewed(&json!({ STAND_IN: why })).and_then(|settings| {
            let spawned = spawn::spawn(&self.command, &self.listeners, &self.scoreboard, place)?;
            tell(&spawned, &settings);
            Ok(spawned)
        });
        self.announce();
        spawned
            .inspect_err(|error| warn!(target: LOG, "Nothing can be shown instead: {error}"))
            .ok()
    }

    pub(super) fn spawned(&mut self, slot: usize, spawned: Spawned) -> Event {
        tell(&spawned, &self.settings);
        self.adopt(slot, spawned)
    }

    /// Listens to a new worker from now on.
    fn adopt(&mut self, slot: usize, spawned: Spawned) -> Event {
        let Spawned { pid, control } = spawned;
        self.scoreboard.slot(slot).set_pid(pid);
        let control = watch(control)
            .inspect_err(|error| error!(target: LOG, "Cannot listen to worker [{pid}]: {error}"))
            .ok();
        let index = self.policy.index_of(slot).unwrap_or_default();
        self.workers.insert(pid, Running { slot, index, control, was_killed: false });
        Event::Spawned { slot, pid }
    }

    pub(super) fn spawn_failed(&self, failure: Failure) -> Event {
        let Failure { slot, message } = failure;
        self.scoreboard.slot(slot).release();
        Event::SpawnFailed { slot, message }
    }

    pub(super) fn order(&self, pid: Pid, order: &ToWorker) {
        let Some(control) = self.workers.get(&pid).and_then(|worker| worker.control.as_ref())
        else {
            return; // it has closed its end, so it is about to exit or will be killed in time
        };
        if let Err(error) = control.get_ref().send_order(order) {
            debug!(target: LOG, "Worker [{pid}] does not take orders any more: {error}");
        }
    }

    /// Signals a worker. Only one that was not reaped: until then nobody else can have its number.
    pub(super) fn kill(&self, pid: Pid, signal: Signal) {
        let target = i32::try_from(pid).ok().and_then(RawPid::from_raw);
        if let Some(target) = target.filter(|_| self.workers.contains_key(&pid))
            && let Err(error) = rustix::process::kill_process(target, signal)
        {
            warn!(target: LOG, "Cannot signal worker [{pid}]: {error}");
        }
    }

    /// The next report of any worker. Cancel-safe: a report is taken only to be returned.
    pub(super) fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<(Pid, Report)> {
        for (&pid, worker) in &mut self.workers {
            if let Poll::Ready(report) = poll_control(pid, &mut worker.control, cx) {
                return Poll::Ready((pid, report));
            }
        }
        self.preload.as_mut().map_or(Poll::Pending, |preload| preload.poll_report(cx))
    }

    /// Reaps all dead children: workers, and orphans that became ours.
    pub(super) fn reap(&mut self) -> Option<u8> {
        let mut outcome = None;
        // Counted before the victim dies, so that whoever can be reaped has been counted.
        let mut oom_kills = self.oom.look();
        // An error means that there are no children.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let (Ok(pid), Some(exit)) = (Pid::try_from(pid.as_raw_pid()), exit_of(status)) else {
                continue; // stopped or continued, which we do not ask for
            };
            let was_killed = self.workers.get(&pid).is_none_or(|worker| worker.was_killed);
            let is_kill = exit == Exit::Signal(libc::SIGKILL) && !was_killed;
            let exit = if is_kill && oom_kills > 0 { Exit::OutOfMemory } else { exit };
            oom_kills = oom_kills.saturating_sub(u64::from(exit == Exit::OutOfMemory));
            outcome = outcome.or(self.bury(pid, exit));
        }
        outcome
    }

    /// Deals with the end of a child.
    pub(super) fn bury(&mut self, pid: Pid, exit: Exit) -> Option<u8> {
        if self.spare.as_mut().is_some_and(|spare| spare.has_lost(pid)) {
            debug!(target: LOG, "The spare process [{pid}] is lost: it {exit}");
            return None;
        }
        let Some(worker) = self.workers.remove(&pid) else {
            let (preload, gift) = self.preload();
            if !preload.as_ref().is_some_and(|preload| preload.is_template(pid)) {
                debug!(target: LOG, "Reaped process [{pid}], an orphan: it {exit}");
            }
            let news = preload.map(|preload| preload.exited(pid, exit, gift));
            return self.follow(news.unwrap_or_default());
        };
        let mut outcome = None;
        for event in
            last_reports(worker.control.as_ref()).into_iter().filter_map(|r| event_of(pid, r))
        {
            outcome = outcome.or(self.handle(event));
        }
        let slot = self.scoreboard.slot(worker.slot);
        slot.set_phase(Phase::Gone);
        self.status.retire(worker.index, slot);
        slot.release();
        outcome.or(self.handle(Event::WorkerExited { pid, exit }))
    }
}

/// Tells a new worker its settings. What fails from here on shows in the worker, which gives up
/// without them.
fn tell(worker: &Spawned, settings: &Settings) {
    if let Err(error) = worker.control.send_setup(settings.file()) {
        warn!(target: LOG, "Cannot send the settings to worker [{}]: {error}", worker.pid);
    }
}

/// The next report through a channel, which becomes `None` at its end.
pub(crate) fn poll_control(
    pid: Pid,
    channel: &mut Option<AsyncFd<SupervisorControl>>,
    cx: &mut Context<'_>,
) -> Poll<Report> {
    while let Some(control) = channel {
        let Poll::Ready(ready) = control.poll_read_ready(cx) else {
            break;
        };
        match ready.and_then(|mut guard| {
            let received = control.get_ref().try_receive();
            if matches!(received, Ok(FromWorker::Nothing)) {
                guard.clear_ready();
            }
            received
        }) {
            Ok(FromWorker::Report(report)) => return Poll::Ready(report),
            Ok(FromWorker::Nothing) => {}
            Ok(FromWorker::End) => *channel = None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                warn!(target: LOG, "Worker [{pid}] sent nonsense: {error}");
            }
            Err(error) => {
                warn!(target: LOG, "Lost the channel to worker [{pid}]: {error}");
                *channel = None;
            }
        }
    }
    Poll::Pending
}

/// What a worker said before it died and nobody read yet.
pub(crate) fn last_reports(control: Option<&AsyncFd<SupervisorControl>>) -> Vec<Report> {
    let mut reports = Vec::new();
    while let Some(Ok(FromWorker::Report(report))) =
        control.map(|control| control.get_ref().try_receive())
    {
        reports.push(report);
    }
    reports
}

/// What a worker's report means; `None` for one that only a template can make.
pub(super) fn event_of(pid: Pid, report: Report) -> Option<Event> {
    Some(match report {
        Report::Ready => Event::WorkerReady { pid },
        Report::Failed { message } => Event::WorkerFailedToStart { pid, message },
        Report::Recycle { served, limit } => {
            Event::WorkerWantsRecycle { pid, reason: Reason::Requests { served, limit } }
        }
        Report::Blocked { for_ms } => {
            Event::WorkerBlocked { pid, duration: Duration::from_millis(for_ms) }
        }
        Report::Forked { .. } | Report::NotForked { .. } => return None,
    })
}

/// The kernel's letter for what a process does (proc(5)): the first field behind its name.
pub(super) fn process_state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal))
}
