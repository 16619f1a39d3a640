//! What tells a worker to end, and how it ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use rsgi_supervisor::{WorkerControl, exit};
use tokio::sync::Notify;

/// What tells a worker to end, and how it ended.
#[derive(Debug)]
pub(super) struct Control {
    /// `None` without a supervisor.
    pub(super) supervisor: Option<WorkerControl>,
    pub(super) index: usize,
    pub(super) stop: AtomicU8,
    stopped: Notify,
    /// Somebody has moved the log files away.
    pub(super) logs_moved: Notify,
    pub(super) status: AtomicU8,
    pub(super) has_started: AtomicBool,
}

/// What has been asked for; each is more urgent than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stop {
    No = 0,
    /// Serve on for the shutdown's delay, then as for the next.
    Announced = 1,
    Graceful = 2,
    Now = 3,
}

impl Control {
    pub(super) fn new(supervisor: Option<WorkerControl>, index: usize) -> Arc<Self> {
        Arc::new(Self {
            supervisor,
            index,
            stop: AtomicU8::new(Stop::No as u8),
            stopped: Notify::new(),
            logs_moved: Notify::new(),
            status: AtomicU8::new(exit::CLEAN),
            has_started: AtomicBool::new(false),
        })
    }

    pub(super) fn request(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
        self.stopped.notify_waiters();
    }

    pub(super) async fn requested(&self, stop: Stop) {
        loop {
            let stopped = self.stopped.notified();
            if self.stop.load(Ordering::Relaxed) >= stop as u8 {
                return;
            }
            stopped.await;
        }
    }

    /// Tells the supervisor, if there is one.
    pub(super) fn report(&self, report: impl FnOnce(&WorkerControl) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.supervisor.as_ref().map(report) {
            log::debug!("the supervisor does not listen: {error}");
        }
    }
}
