//! How many workers a machine, or the container around the server, has room for: `--workers auto`.
//!
//! Two workers per processor and one more: while one waits for its clients' packets or for a write
//! to a disk, another has the processor. A memory limit may allow fewer. How much a worker takes
//! only a worker can tell, so the first is started alone and measured when it is ready.
//!
//! Owns: the arithmetic and its reasons. Must not know: who starts workers (`run`).

mod cgroup;

use std::fmt;
use std::path::Path;

use cgroup::Quota;

use crate::policy::Pid;

/// Each worker is counted as this many quarters of its size at the start: requests in flight,
/// caches and the heap's fragments come later.
const GROWTH_QUARTERS: u64 = 5;

/// What the workers have at their disposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// Processors in the affinity mask.
    affinity: usize,
    quota: Option<Quota>,
    /// The memory limit in bytes, if there is one.
    memory: Option<u64>,
}

/// How large the processes are, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// The first worker.
    pub(crate) worker: u64,
    /// What there is besides workers.
    pub(crate) others: u64,
}

/// How many workers, and why: the log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) workers: usize,
    capacity: Capacity,
    /// Without it, memory had no say.
    sizes: Option<Sizes>,
}

impl Capacity {
    /// What this process has.
    pub(crate) fn of_this_process() -> Self {
        let limits = cgroup::limits(&|path: &Path| std::fs::read_to_string(path).ok());
        Self { affinity: affinity(), quota: limits.quota, memory: limits.memory }
    }

    /// Whether the workers must be measured before it is known how many there can be.
    pub(crate) fn is_limited_by_memory(&self) -> bool {
        self.memory.is_some()
    }

    fn processors(&self) -> usize {
        let by_quota = self.quota.map(|quota| usize::try_from(quota.processors()));
        let by_quota = by_quota.and_then(Result::ok).unwrap_or(usize::MAX);
        self.affinity.min(by_quota).max(1)
    }

    /// The most workers that the processors are good for, up to `most`.
    pub(crate) fn by_processors(&self, most: usize) -> Choice {
        let workers = self.processors().saturating_mul(2).saturating_add(1).min(most);
        Choice { workers, capacity: *self, sizes: None }
    }
}

impl Choice {
    /// The same within the memory limit. `None` for sizes that could not be measured stays with one
    /// worker: more might be too many.
    pub(crate) fn within_memory(self, sizes: Option<Sizes>) -> Self {
        let Some(limit) = self.capacity.memory else {
            return self;
        };
        let fitting = sizes.map_or(1, |sizes| fitting(limit, sizes));
        Self { workers: self.workers.min(fitting), sizes, ..self }
    }
}

/// How many workers fit, at least 1. One more has room beside them: the replacement that is ready
/// before its predecessor leaves.
fn fitting(limit: u64, sizes: Sizes) -> usize {
    let one = (sizes.worker.saturating_mul(GROWTH_QUARTERS) / 4).max(1);
    let all = limit.saturating_sub(sizes.others) / one;
    usize::try_from(all.saturating_sub(1)).unwrap_or(usize::MAX).max(1)
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (workers, processors) = (self.workers, self.capacity.processors());
        let (s, cpus) = (plural(workers), plural(processors));
        write!(f, "Using {workers} worker{s}: {processors} CPU{cpus}")?;
        if let Some(quota) = self.capacity.quota {
            write!(f, " (cgroup quota {quota})")?;
        }
        if let Some(limit) = self.capacity.memory {
            write!(f, ", memory limit {} MiB", mebibytes(limit))?;
            match self.sizes {
                Some(sizes) => write!(f, ", first worker {} MiB", mebibytes(sizes.worker))?,
                None => f.write_str(", first worker of unknown size")?,
            }
        }
        Ok(())
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1024 * 1024)
}

/// The processors that this process may run on.
fn affinity() -> usize {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let allowed = allowed.and_then(|set| usize::try_from(set.count()).ok()).filter(|&n| n > 0);
    // A machine with more processors than the set has room for gets std's number, which looks at
    // the quota, too, and rounds it down.
    allowed.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
}

/// The memory that a process takes up: its share of what it shares with others, or if the kernel does not tell
/// that, all it has in memory.
pub(crate) fn size_of(pid: Pid) -> Option<u64> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let share = read("smaps_rollup").and_then(|text| field(&text, "Pss:"));
    share.or_else(|| field(&read("status")?, "VmRSS:"))
}

/// The bytes of a line such as `Pss:    49152 kB`.
fn field(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn capacity(affinity: usize, quota: &str, memory: Option<u64>) -> Capacity {
        let read = |path: &Path| {
            Some(match path.to_str()? {
                "/proc/self/cgroup" => "0::/\n".to_owned(),
                "/proc/self/mountinfo" => "1 1 0:1 / /c rw - cgroup2 cgroup2 rw\n".to_owned(),
                "/c/cpu.max" => quota.to_owned(),
                _ => return None,
            })
        };
        Capacity { affinity, quota: cgroup::limits(&read).quota, memory }
    }

    #[test]
    fn processors_are_those_of_the_mask_and_of_the_quota_rounded_up() {
        let table = [
            (1, "max", 255, "Using 3 workers: 1 CPU"),
            (2, "max", 255, "Using 5 workers: 2 CPUs"),
            (8, "150000 100000", 255, "Using 5 workers: 2 CPUs (cgroup quota 1.5)"),
            (8, "50000 100000", 255, "Using 3 workers: 1 CPU (cgroup quota 0.5)"),
            (2, "800000 100000", 255, "Using 5 workers: 2 CPUs (cgroup quota 8)"),
            (200, "max", 255, "Using 255 workers: 200 CPUs"),
        ];
        for (affinity, quota, most, expected) in table {
            let choice = capacity(affinity, quota, None).by_processors(most);
            assert_eq!(choice.to_string(), expected);
            // Without a limit, sizes change nothing.
            let sizes = Sizes { worker: u64::MAX, others: u64::MAX };
            assert_eq!(choice.within_memory(Some(sizes)), choice);
        }
    }

    #[test]
    fn a_memory_limit_keeps_room_for_growth_and_a_replacement() {
        // limit, worker, others (MiB), workers of at most 5
        let table = [
            (512, 48, 20, 5),
            (512, 100, 20, 2),
            (256, 48, 16, 3),
            (256, 96, 16, 1),
            (256, 400, 16, 1),
            (256, 48, 300, 1),
            (256, 0, 0, 5),
        ];
        for (limit, worker, others, expected) in table {
            let sizes = Sizes { worker: worker * MIB, others: others * MIB };
            let choice = capacity(2, "max", Some(limit * MIB)).by_processors(255);
            let choice = choice.within_memory(Some(sizes));
            assert_eq!(choice.workers, expected, "{limit} {worker} {others}");
        }
    }

    #[test]
    fn the_reasons_are_one_line() {
        let choice = capacity(2, "150000 100000", Some(512 * MIB)).by_processors(255);
        assert_eq!(
            choice.within_memory(Some(Sizes { worker: 48 * MIB, others: 20 * MIB })).to_string(),
            "Using 5 workers: 2 CPUs (cgroup quota 1.5), memory limit 512 MiB, first worker 48 MiB"
        );
        assert_eq!(
            choice.within_memory(None).to_string(),
            "Using 1 worker: 2 CPUs (cgroup quota 1.5), memory limit 512 MiB, \
             first worker of unknown size"
        );
    }

    #[test]
    fn the_kernels_numbers_are_read() {
        let text =
            "00400000-7ff000 ---p 00000000 00:00 0 [rollup]\nRss: 9 kB\nPss:       49152 kB\n";
        assert_eq!(field(text, "Pss:"), Some(48 * MIB));
        assert_eq!(field("VmRSS:\t  1024 kB\n", "VmRSS:"), Some(MIB));
        assert_eq!(field("Pss: many kB\n", "Pss:"), None);
        assert!(size_of(std::process::id()).is_some_and(|size| size > 64 * 1024));
        assert_eq!(size_of(0), None);
    }
}
