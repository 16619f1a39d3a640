//! What the supervisor is told, and what of it is for the policy.

use std::time::Duration;

use log::info;
use rsgi_config::{MemoryLimit, ReloadOptions, WorkerCount};
use tokio::sync::watch;
use tokio::time::Instant;

use super::LOG;
use crate::capacity::{Capacity, Choice};
use crate::hooks::Hooks;
use crate::memory::{self, Cgroup};
use crate::policy::PolicySettings;
use crate::scoreboard::{MAX_SLOTS, monotonic_ns};
use crate::service_manager::ServiceManager;
use crate::spawn::WorkerCommand;

/// How often the workers' memory is looked at if it is limited: seldom enough to cost nothing.
pub const MEMORY_INTERVAL: Duration = Duration::from_secs(10);

/// How the workers are run.
#[derive(Debug)]
pub struct SupervisorOptions {
    /// How many workers there should be, at least 1 and less than [`MAX_SLOTS`].
    pub workers: WorkerCount,
    /// How a worker is started.
    pub command: WorkerCommand,
    /// What every worker is told first, of any size.
    pub setup: serde_json::Value,
    /// What is added to that, key by key. Whenever it changes, those that run are told, too, as an
    /// [`Order::Update`](crate::Order::Update). Of a reload's options it is not used.
    pub updates: Option<Updates>,
    /// How long a worker may take to finish what is running; `None` is no limit.
    pub timeout_graceful_shutdown: Option<Duration>,
    /// How long the workers go on accepting once a stop was asked for.
    pub shutdown_delay: Duration,
    /// How long a worker may take until it is ready; `None` is no limit.
    pub timeout_worker_startup: Option<Duration>,
    /// Who wants to be told how it goes.
    pub service_manager: Option<ServiceManager>,
    /// How long a ready worker may show no sign of life; `None` is no limit.
    pub timeout: Option<Duration>,
    /// The name of what runs once before any worker, in a process that its settings tell what to do.
    pub on_start: Option<String>,
    /// Whether workers are forked from a process that has done what they have in common.
    pub preload: bool,
    /// A worker with more resident memory is replaced.
    pub workers_max_rss: Option<MemoryLimit>,
    /// How often that is looked at; usually [`MEMORY_INTERVAL`].
    pub memory_interval: Duration,
    /// A worker that has served for longer is replaced.
    pub workers_lifetime: Option<Duration>,
    /// Whether, and where, changed files restart the workers. Of a reload's options it is not used.
    pub reload: Option<ReloadOptions>,
    /// What the program around knows.
    pub hooks: Hooks,
}

/// What is added to the set-up, each time as a whole.
pub type Updates = watch::Receiver<serde_json::Value>;

/// Room for replacements and scaling: workers read all slots, so not simply the most there can be.
pub(super) fn slots_for(workers: usize) -> usize {
    (2 * workers + 14).min(MAX_SLOTS)
}

/// How many workers there are at first, and what is to be decided when the first one is ready.
pub(super) fn scale(count: WorkerCount) -> (usize, Option<Choice>) {
    match count {
        WorkerCount::Exactly(count) => (usize::try_from(count).unwrap_or(MAX_SLOTS), None),
        WorkerCount::Auto => {
            let capacity = Capacity::of_this_process();
            let choice = capacity.by_processors(MAX_SLOTS - 1);
            if capacity.is_limited_by_memory() {
                return (1, Some(choice));
            }
            info!(target: LOG, "{choice}");
            (choice.workers, None)
        }
    }
}

/// The policy's part of the options.
pub(super) fn policy_settings(
    options: &SupervisorOptions,
    workers: usize,
    slots: usize,
    cgroup: Option<&Cgroup>,
) -> PolicySettings {
    let whole = || cgroup.and_then(Cgroup::limit).or_else(memory::of_this_machine);
    let max_rss = options.workers_max_rss.and_then(|limit| match limit {
        MemoryLimit::Bytes(bytes) => Some(bytes),
        MemoryLimit::Percent(percent) => whole().map(|whole| whole / 100 * u64::from(percent)),
    });
    PolicySettings {
        workers,
        slots,
        graceful: options.timeout_graceful_shutdown,
        delay: options.shutdown_delay,
        startup: options.timeout_worker_startup,
        max_rss,
        lifetime: options.workers_lifetime,
        development: options.reload.is_some(),
        seed: monotonic_ns() ^ u64::from(std::process::id()),
    }
}

/// When the workers' memory is looked at next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampling {
    interval: Duration,
    pub(super) next: Instant,
}

impl Sampling {
    /// Not at all without a limit.
    pub(super) fn of(settings: &PolicySettings, interval: Duration) -> Option<Self> {
        settings.max_rss?;
        Some(Self { interval, next: Instant::now() + interval })
    }

    pub(super) fn again(self) -> Self {
        Self { next: Instant::now() + self.interval, ..self }
    }
}
