//! A reload from its request to its end, and what is remembered of one that failed.
//!
//! Owns: which settings are in force meanwhile, the number of workers afterwards, and the reminder
//! that old code serves on. The replacements themselves are in `target.rs`.

use std::fmt;
use std::time::Duration;

use super::machine::{Mode, Policy, Seat, Stage};
use super::notice::Notice;
use super::{Action, PolicySettings};

/// How often it is said that a reload failed.
pub const REMINDER: Duration = Duration::from_secs(60);

/// How much of an error is repeated, in characters.
const REPEATED: usize = 300;

/// A time of day, as a clock on the wall shows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockTime {
    /// From 0 to 23.
    pub hour: u8,
    /// From 0 to 59.
    pub minute: u8,
    /// From 0 to 60.
    pub second: u8,
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

/// A reload that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reload {
    /// The first generation that is new.
    pub(super) first: u32,
    /// How many workers there should be in the end; `None` for as many as there are.
    pub(super) workers: Option<usize>,
}

/// What was true before a reload, until it is known how it ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewal {
    before: PolicySettings,
    wanted: PolicySettings,
}

/// A reload failed, and nobody has tried again since.
#[derive(Debug, Clone)]
pub(super) struct Stale {
    clock: ClockTime,
    message: String,
    /// The first generation that is not from before it.
    first: u32,
    remind_at: Duration,
}

impl Stale {
    pub(super) fn remind_at(&self) -> Duration {
        self.remind_at
    }
}

impl Policy {
    /// The settings have been read again; a request to reload follows.
    pub(super) fn renew(&mut self, wanted: PolicySettings, clock: ClockTime) {
        if self.mode != Mode::Running {
            return;
        }
        self.reload_clock = clock;
        let before = self.renewal.map_or(self.settings, |renewal| renewal.before);
        self.renewal = Some(Renewal { before, wanted });
        self.settings = PolicySettings {
            // The old workers still have the old limit.
            graceful: longer(before.graceful, wanted.graceful),
            slots: before.slots,
            seed: before.seed,
            development: before.development,
            ..wanted
        };
    }

    pub(super) fn begin_reload(&mut self, actions: &mut Vec<Action>) {
        if self.mode != Mode::Running {
            return;
        }
        if self.settings.development {
            actions.push(Action::Log(Notice::Restarting { workers: self.seats.len() }));
            return self.restart(actions);
        }
        // What TTIN and TTOU have done stays, unless the setting itself is another than before.
        let configured = self
            .renewal
            .filter(|renewal| renewal.wanted.workers != renewal.before.workers)
            .map(|renewal| renewal.wanted.workers.clamp(1, self.most_workers()));
        self.reload = Some(Reload { first: self.next_generation, workers: configured });
        self.stale = None;
        // It may bring the cure: whoever waits for another try gets it now.
        self.seats.fill(Seat::default());
        actions.push(Action::Log(Notice::Reloading { workers: self.seats.len() }));
    }

    /// Goes on with the settings that have been read again, whatever comes of them. How many workers
    /// there should be, if that has changed.
    pub(super) fn settle_renewal(&mut self, actions: &mut Vec<Action>) -> Option<usize> {
        let Renewal { before, wanted } = self.renewal.take()?;
        self.settings.graceful = wanted.graceful;
        actions.push(Action::KeepSettings);
        (wanted.workers != before.workers).then(|| wanted.workers.clamp(1, self.most_workers()))
    }

    /// Nothing old is left that should be replaced.
    pub(super) fn finish_reload(&mut self, actions: &mut Vec<Action>) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        actions.push(Action::Log(Notice::Reloaded));
        if let Some(renewal) = self.renewal.take() {
            self.settings.graceful = renewal.wanted.graceful;
            actions.push(Action::KeepSettings);
        }
        if let Some(workers) = reload.workers.filter(|&workers| workers != self.seats.len()) {
            self.scale_to(workers, actions);
            self.fill_seats(actions);
        }
    }

    /// The new code does not start: back to the settings with which the old one did.
    pub(super) fn fail_reload(&mut self, cause: &str, actions: &mut Vec<Action>) {
        let Some(reload) = self.reload.take() else {
            return;
        };
        if let Some(renewal) = self.renewal.take() {
            self.settings = renewal.before;
            actions.push(Action::RevertSettings);
        }
        self.remember_failure(cause, reload.first);
    }

    /// The settings could not be read again, so nothing is reloaded.
    pub(super) fn refuse_reload(
        &mut self,
        message: String,
        clock: ClockTime,
        actions: &mut Vec<Action>,
    ) {
        if self.mode != Mode::Running {
            return;
        }
        self.reload_clock = clock;
        self.remember_failure(&message, self.next_generation);
        actions.push(Action::Log(Notice::ReloadRefused { message }));
    }

    fn remember_failure(&mut self, cause: &str, first: u32) {
        let line = cause.trim_end().lines().next_back().unwrap_or_default().trim();
        let message = line.strip_prefix("failed to start: ").unwrap_or(line);
        self.stale = Some(Stale {
            clock: self.reload_clock,
            message: message.chars().take(REPEATED).collect(),
            first,
            remind_at: self.now.saturating_add(REMINDER),
        });
    }

    /// Says again that old code serves, if it does and it is time to.
    pub(super) fn remind(&mut self, actions: &mut Vec<Action>) {
        let (now, workers) = (self.now, self.seats.len());
        let Some(stale) = self.stale.as_mut().filter(|stale| stale.remind_at <= now) else {
            return;
        };
        stale.remind_at = now.saturating_add(REMINDER);
        let is_old =
            |stage, generation| matches!(stage, Stage::Ready { .. }) && generation < stale.first;
        let old = self.workers.iter().filter(|w| is_old(w.stage, w.generation)).count();
        if old == 0 {
            // They have died one by one, and their successors did start.
            self.stale = None;
            return;
        }
        let (clock, message) = (stale.clock, stale.message.clone());
        actions.push(Action::Log(Notice::StillOld { clock, message, old, workers }));
    }

    /// Whether new code is known not to start while old code serves: then no number of failed
    /// starts ends the server.
    pub(super) fn serves_in_spite_of_failed_reload(&self) -> bool {
        self.stale.is_some() && self.workers.iter().any(|w| matches!(w.stage, Stage::Ready { .. }))
    }
}

/// The longer of two limits, of which `None` is the longest.
fn longer(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    a.zip(b).map(|(a, b)| a.max(b))
}
