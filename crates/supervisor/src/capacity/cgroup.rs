//! What the control groups of this process allow it, in both versions of their interface.
//!
//! Owns: finding the process's groups and reading their limits (cgroups(7); `cpu.max` and
//! `memory.max` of Documentation/admin-guide/cgroup-v2.rst, `cpu.cfs_*` and
//! `memory.limit_in_bytes` of cgroup-v1). Must not know: what follows from a limit. Files come
//! through an argument, so that every layout is a table in the tests.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Processor time that a group may use: so much in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    time_us: u64,
    period_us: u64,
}

/// The tightest limits of a process's groups and of the groups above them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) quota: Option<Quota>,
    /// In bytes.
    pub(super) memory: Option<u64>,
}

/// Reads a file's text; `None` if it is not there or is none.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

/// At least this is what version 1 writes for "no limit": the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

impl Quota {
    fn new(time_us: u64, period_us: u64) -> Option<Self> {
        (time_us > 0 && period_us > 0).then_some(Self { time_us, period_us })
    }

    /// The processors it takes to use all of it.
    pub(super) fn processors(self) -> u64 {
        self.time_us.div_ceil(self.period_us)
    }

    fn is_tighter_than(self, other: Self) -> bool {
        u128::from(self.time_us) * u128::from(other.period_us)
            < u128::from(other.time_us) * u128::from(self.period_us)
    }
}

impl fmt::Display for Quota {
    /// In processors, such as `1.5`, with at most two decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = u128::from(self.time_us) * 100 / u128::from(self.period_us);
        let text = format!("{}.{:02}", hundredths / 100, hundredths % 100);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The limits of this process.
pub(super) fn limits(read: Read<'_>) -> Limits {
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let (groups, mounts) = (text("/proc/self/cgroup"), text("/proc/self/mountinfo"));
    let mut limits = Limits::default();
    for (version, directory) in directories(&groups, &mounts, "cpu") {
        if let Some(quota) = quota(read, version, &directory)
            && limits.quota.is_none_or(|tightest| quota.is_tighter_than(tightest))
        {
            limits.quota = Some(quota);
        }
    }
    for (version, directory) in directories(&groups, &mounts, "memory") {
        let limit = memory(read, version, &directory);
        limits.memory = [limits.memory, limit].into_iter().flatten().min();
    }
    limits
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

fn quota(read: Read<'_>, version: Version, directory: &Path) -> Option<Quota> {
    let text = |name: &str| read(&directory.join(name));
    match version {
        Version::V1 => {
            // -1 is no limit, and no number for `u64`.
            let time_us = text("cpu.cfs_quota_us")?.trim().parse().ok()?;
            Quota::new(time_us, text("cpu.cfs_period_us")?.trim().parse().ok()?)
        }
        Version::V2 => {
            let max = text("cpu.max")?;
            let mut words = max.split_whitespace();
            let time_us = words.next()?.parse().ok()?;
            Quota::new(time_us, words.next().map_or(Ok(100_000), str::parse).ok()?)
        }
    }
}

fn memory(read: Read<'_>, version: Version, directory: &Path) -> Option<u64> {
    let name = match version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    let limit = read(&directory.join(name))?.trim().parse().ok()?;
    (limit < NO_LIMIT).then_some(limit)
}

/// The directories of the process's groups that can limit what `controller` controls, from its own
/// up to the mount point, in each version that is mounted.
fn directories(groups: &str, mounts: &str, controller: &str) -> Vec<(Version, PathBuf)> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(group)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let version = if controllers.split(',').any(|name| name == controller) {
            Version::V1
        } else if id == "0" && controllers.is_empty() {
            Version::V2
        } else {
            continue;
        };
        let mounts: Vec<Mount<'_>> = mounts
            .lines()
            .filter_map(Mount::parse)
            .filter(|mount| mount.has(version, controller))
            .collect();
        // Of several mounts, the one that shows the group. Inside a namespace none may: then the
        // mount point is the group itself, or as near as one can come.
        let inside = mounts.iter().find_map(|mount| Some((mount, mount.inside(group)?)));
        if let Some((mount, inside)) =
            inside.or_else(|| mounts.first().map(|mount| (mount, Path::new(""))))
        {
            let point = Path::new(mount.point);
            found.extend(inside.ancestors().map(|part| (version, point.join(part))));
        }
    }
    found
}

/// One line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
struct Mount<'a> {
    /// Which directory of the file system is mounted.
    root: &'a str,
    point: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, point) = (mount.next()?, mount.next()?);
        let mut file_system = file_system.split(' ');
        let kind = file_system.next()?;
        Some(Self { root, point, kind, options: file_system.nth(1)? })
    }

    fn has(&self, version: Version, controller: &str) -> bool {
        match version {
            Version::V1 => {
                self.kind == "cgroup" && self.options.split(',').any(|name| name == controller)
            }
            Version::V2 => self.kind == "cgroup2",
        }
    }

    /// Where a group is below the mount point; `None` if the mount does not show it.
    fn inside<'g>(&self, group: &'g str) -> Option<&'g Path> {
        let inside = Path::new(group).strip_prefix(self.root).ok()?;
        let is_plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
        is_plain.then_some(inside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "\
        33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
        34 32 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        35 32 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const DOCKER_V1: &str = "\
        33 32 0:29 /docker/f00 /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n\
        34 32 0:30 /docker/f00 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    /// Limits as text: processors and bytes, `-` for none.
    fn shown(files: &[(&str, &str)]) -> String {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        let Limits { quota, memory } = limits(&read);
        let quota = quota.map_or("-".to_owned(), |quota| quota.to_string());
        format!("{quota} {}", memory.map_or("-".to_owned(), |bytes| bytes.to_string()))
    }

    fn at(groups: &str, mounts: &str, files: &[(&str, &str)]) -> String {
        let proc = [("/proc/self/cgroup", groups), ("/proc/self/mountinfo", mounts)];
        shown(&[&proc, files].concat())
    }

    #[test]
    fn version_2_is_read_in_every_layout() {
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let table: [Case; 9] = [
            ("0::/\n", &[], "- -"),
            ("0::/app\n", &[("/sys/fs/cgroup/app/cpu.max", "150000 100000\n")], "1.5 -"),
            ("0::/app\n", &[("/sys/fs/cgroup/app/cpu.max", "max 100000\n")], "- -"),
            ("0::/app\n", &[("/sys/fs/cgroup/app/cpu.max", "50000\n")], "0.5 -"),
            ("0::/app\n", &[("/sys/fs/cgroup/app/cpu.max", "nonsense\n")], "- -"),
            ("0::/app\n", &[("/sys/fs/cgroup/app/memory.max", "max\n")], "- -"),
            ("0::/app\n", &[("/sys/fs/cgroup/app/memory.max", "536870912\n")], "- 536870912"),
            // The tightest of all levels counts, whichever it is.
            (
                "0::/pod/app\n",
                &[
                    ("/sys/fs/cgroup/pod/app/cpu.max", "400000 200000\n"),
                    ("/sys/fs/cgroup/pod/cpu.max", "100000 100000\n"),
                    ("/sys/fs/cgroup/pod/app/memory.max", "1000\n"),
                    ("/sys/fs/cgroup/pod/memory.max", "max\n"),
                    ("/sys/fs/cgroup/memory.max", "2000\n"),
                ],
                "1 1000",
            ),
            // A namespace whose root is elsewhere: the mount point is the best there is.
            ("0::/../other\n", &[("/sys/fs/cgroup/memory.max", "3000\n")], "- 3000"),
        ];
        for (groups, files, expected) in table {
            assert_eq!(at(groups, V2, files), expected, "{groups} {files:?}");
        }
    }

    #[test]
    fn version_1_is_read_in_every_layout() {
        let cpu = |quota, period| {
            [
                ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", quota),
                ("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", period),
            ]
        };
        let groups = "4:memory:/a/b\n2:cpu,cpuacct:/a\n0::/\n";
        assert_eq!(at(groups, V1, &cpu("-1\n", "100000\n")), "- -");
        assert_eq!(at(groups, V1, &cpu("250000\n", "100000\n")), "2.5 -");
        assert_eq!(at(groups, V1, &cpu("10000\n", "0\n")), "- -");
        let memory = |limit| [("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", limit)];
        assert_eq!(at(groups, V1, &memory("9223372036854771712\n")), "- -");
        assert_eq!(at(groups, V1, &memory("268435456\n")), "- 268435456");
    }

    #[test]
    fn a_container_sees_its_group_at_the_mount_point() {
        let groups = "4:memory:/docker/f00\n2:cpu:/docker/f00\n";
        let files = [
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "133000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n"),
        ];
        assert_eq!(at(groups, DOCKER_V1, &files), "1.33 268435456");
        // With a namespace of its own, its group is the root.
        assert_eq!(at("4:memory:/\n2:cpu:/\n", DOCKER_V1, &files), "1.33 268435456");
    }

    #[test]
    fn what_is_missing_is_no_limit() {
        assert_eq!(shown(&[]), "- -");
        assert_eq!(at("0::/app\n", "", &[("/sys/fs/cgroup/app/cpu.max", "1 1\n")]), "- -");
        assert_eq!(at("nonsense\n:\n", "also nonsense\n - \n", &[]), "- -");
        // Version 1 groups without the controller's mount.
        assert_eq!(at("4:memory:/a\n", V2, &[("/sys/fs/cgroup/a/memory.max", "1000\n")]), "- -");
    }

    #[test]
    fn a_quota_is_rounded_up_to_processors() {
        let table = [(50, 100, 1), (100, 100, 1), (101, 100, 2), (150, 100, 2), (400, 200, 2)];
        for (time_us, period_us, expected) in table {
            let quota = Quota::new(time_us, period_us).unwrap();
            assert_eq!(quota.processors(), expected, "{time_us}/{period_us}");
        }
    }
}
