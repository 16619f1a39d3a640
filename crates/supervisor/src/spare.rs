//! A process that is about to be a worker: `--reload` only.
//!
//! Starting an interpreter and importing asyncio takes longer than all else between a saved file and the
//! new code's answer. So one is started once the code has been served for a moment, imports what every
//! worker needs and nothing of the application, and waits to be told its place.
//!
//! Owns: that process. Must not know: when a worker is wanted.

use std::os::fd::OwnedFd;
use std::time::Duration;

use log::debug;
use tokio::time::Instant;

use crate::run::LOG;
use crate::scoreboard::Scoreboard;
use crate::sockets::Listener;
use crate::spawn::{self, Place, Spawned, WorkerCommand};

/// What `RSGI_ROLE` says to it.
const ROLE: &str = "spare";

/// How long after a worker has become ready: the first requests have the processor for themselves.
const REST: Duration = Duration::from_millis(200);

/// The process, or when there will be one.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    process: Option<Spawned>,
    due: Option<Instant>,
}

impl Spare {
    /// A worker is ready: the next one may be prepared.
    pub(crate) fn plan(&mut self) {
        if self.process.is_none() {
            self.due = Some(Instant::now() + REST);
        }
    }

    /// When it is to be started.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Starts it. Without one, workers are started as ever.
    pub(crate) fn start(
        &mut self,
        command: &WorkerCommand,
        listeners: &[Listener],
        scoreboard: &Scoreboard,
    ) {
        self.due = None;
        let unknown = Place { slot: 0, index: 0 };
        self.process = spawn::spawn(&command.in_role(ROLE), listeners, scoreboard, unknown)
            .inspect_err(|error| debug!(target: LOG, "Cannot start a spare process: {error}"))
            .ok();
    }

    /// Makes it the worker of this place, if there is one that listens.
    pub(crate) fn take(&mut self, place: Place, settings: &OwnedFd) -> Option<Spawned> {
        self.due = None;
        let process = self.process.take()?;
        let told = process.control.send_place(place.slot, place.index);
        match told.and_then(|()| process.control.send_setup(settings)) {
            Ok(()) => Some(process),
            Err(error) => {
                debug!(target: LOG, "The spare process [{}] is lost: {error}", process.pid);
                None // and reaped as an orphan
            }
        }
    }

    /// Whether it was this process that has ended.
    pub(crate) fn has_lost(&mut self, pid: u32) -> bool {
        self.process.take_if(|process| process.pid == pid).is_some()
    }

    /// Ends it: nothing in it is worth an orderly end.
    pub(crate) fn end(&mut self) {
        self.due = None;
        if let Some(process) = self.process.take() {
            process.end();
        }
    }
}
