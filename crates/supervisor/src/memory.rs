//! How much memory there is and who has it: control groups (v1 and v2) and `/proc`.
//!
//! Owns: reading. What follows from the numbers is `policy`'s. Everything here answers `None` where
//! the system does not say, and nothing fails.

use std::fs;
use std::path::{Path, PathBuf};

use crate::policy::{Memory, Pid};

/// From here on a v1 limit is none: the kernel's largest is 2^63 less a page.
const NO_LIMIT: u64 = 1 << 62;

/// The control group that limits the memory of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    version: Version,
    /// Its directory, then those above it: each may have a limit of its own.
    levels: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// One level's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    used: u64,
    limit: u64,
}

impl Cgroup {
    /// The one that this process is in.
    pub(crate) fn of_this_process() -> Option<Self> {
        let cgroup = fs::read_to_string("/proc/self/cgroup").ok()?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Self::find(&cgroup, &mounts)
    }

    /// From the texts of `/proc/self/cgroup` and `/proc/self/mountinfo` (proc(5), cgroups(7)).
    ///
    /// Where both versions are mounted, memory belongs to v1 if that has a line for it.
    fn find(cgroup: &str, mounts: &str) -> Option<Self> {
        let lines = || cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let of_v1 = lines().find(|(names, _)| names.split(',').any(|name| name == "memory"));
        let (version, path) = match of_v1 {
            Some((_, path)) => (Version::V1, path),
            None => (Version::V2, lines().find(|(names, _)| names.is_empty())?.1),
        };
        let (root, mount) = mounts.lines().find_map(|line| mount_of(line, version))?;
        // A container sees its own directory as the mount's root, whatever its path is outside.
        let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        let mount = Path::new(mount);
        let full: PathBuf = mount.join(inside).components().collect();
        let levels = full.ancestors().take_while(|level| level.starts_with(mount));
        Some(Self { version, levels: levels.map(Path::to_owned).collect() })
    }

    /// The lowest limit, in bytes.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.levels.iter().filter_map(|level| self.limit_at(level)).min()
    }

    /// The figures of the level that is nearest to its limit.
    fn tightest(&self) -> Option<Level> {
        let levels = self.levels.iter().filter_map(|level| self.read(level));
        levels.min_by_key(|level| level.limit.saturating_sub(level.used))
    }

    /// How often the kernel has killed a process of the group because of the limit.
    pub(crate) fn oom_kills(&self) -> Option<u64> {
        let name = match self.version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        };
        let own = self.levels.first()?;
        value_of("oom_kill", &fs::read_to_string(own.join(name)).ok()?)
    }

    fn limit_at(&self, level: &Path) -> Option<u64> {
        let name = match self.version {
            Version::V1 => "memory.limit_in_bytes",
            Version::V2 => "memory.max",
        };
        // `max` is no number, and no limit.
        number(&level.join(name)).filter(|limit| *limit < NO_LIMIT)
    }

    fn read(&self, level: &Path) -> Option<Level> {
        let (usage, inactive) = match self.version {
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::V2 => ("memory.current", "inactive_file"),
        };
        let limit = self.limit_at(level)?;
        // Files that were read once count as used until somebody needs the room.
        let stat = fs::read_to_string(level.join("memory.stat")).unwrap_or_default();
        let reclaimable = value_of(inactive, &stat).unwrap_or(0);
        let used = number(&level.join(usage))?.saturating_sub(reclaimable);
        Some(Level { used, limit })
    }
}

/// What is known about memory when this worker is to be replaced.
pub(crate) fn measure(cgroup: Option<&Cgroup>, worker: Pid) -> Option<Memory> {
    let Level { used, limit } = cgroup?.tightest()?;
    Some(Memory { used, limit, worker: resident(worker)? })
}

/// The resident bytes of a process (proc(5), `statm`).
pub(crate) fn resident(pid: Pid) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

/// The memory of this machine in bytes.
pub(crate) fn of_this_machine() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Root and mount point of a line of mountinfo, if it mounts the memory controller of `version`.
fn mount_of(line: &str, version: Version) -> Option<(&str, &str)> {
    let (before, behind) = line.split_once(" - ")?;
    let mut behind = behind.split(' ');
    let (kind, _, options) = (behind.next()?, behind.next()?, behind.next()?);
    let is_wanted = match version {
        Version::V1 => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        Version::V2 => kind == "cgroup2",
    };
    let mut before = before.split(' ').skip(3);
    is_wanted.then(|| Some((before.next()?, before.next()?))).flatten()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind `key` in lines of `key number`.
fn value_of(key: &str, lines: &str) -> Option<u64> {
    let pairs = lines.lines().filter_map(|line| line.split_once(' '));
    pairs.into_iter().find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

/// Tells whether a death was the kernel's doing at a memory limit, from a counter that only grows.
#[derive(Debug)]
pub(crate) struct OomWatch {
    cgroup: Option<Cgroup>,
    seen: u64,
}

impl OomWatch {
    pub(crate) fn new(cgroup: Option<Cgroup>) -> Self {
        let seen = cgroup.as_ref().and_then(Cgroup::oom_kills).unwrap_or(0);
        Self { cgroup, seen }
    }

    /// How many processes have been killed since the last look.
    pub(crate) fn look(&mut self) -> u64 {
        let kills = self.cgroup.as_ref().and_then(Cgroup::oom_kills).unwrap_or(self.seen);
        let grown = kills.saturating_sub(self.seen);
        self.seen = kills;
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1_HOST: &str = "7:memory:/user/app\n3:cpu,cpuacct:/user\n0::/init\n";
    const V1_MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw
33 25 0:30 / /sys/fs/cgroup/memory rw,nosuid shared:14 - cgroup cgroup rw,memory
34 25 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct
";
    const V2_MOUNTS: &str = "\
22 1 0:20 / /proc rw - proc proc rw
30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    fn levels(cgroup: &str, mounts: &str) -> Option<(Version, Vec<String>)> {
        let found = Cgroup::find(cgroup, mounts)?;
        let levels = found.levels.iter().map(|level| level.display().to_string()).collect();
        Some((found.version, levels))
    }

    #[test]
    fn the_group_is_found_on_a_host_and_in_a_container_of_either_version() {
        let in_docker_v1 =
            "33 25 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        let v1 = "/sys/fs/cgroup/memory";
        let v2 = "/sys/fs/cgroup";
        let table = [
            (
                V1_HOST,
                V1_MOUNTS,
                Version::V1,
                vec![format!("{v1}/user/app"), format!("{v1}/user"), v1.into()],
            ),
            ("7:memory:/docker/abc\n", in_docker_v1, Version::V1, vec![v1.into()]),
            (
                "7:memory:/docker/abc/own\n",
                in_docker_v1,
                Version::V1,
                vec![format!("{v1}/own"), v1.into()],
            ),
            (
                "0::/system.slice/app.service\n",
                V2_MOUNTS,
                Version::V2,
                vec![
                    format!("{v2}/system.slice/app.service"),
                    format!("{v2}/system.slice"),
                    v2.into(),
                ],
            ),
            ("0::/\n", V2_MOUNTS, Version::V2, vec![v2.into()]),
        ];
        for (cgroup, mounts, version, expected) in table {
            assert_eq!(levels(cgroup, mounts), Some((version, expected)), "{cgroup}");
        }
    }

    #[test]
    fn without_control_groups_there_is_none() {
        for (cgroup, mounts) in
            [("", ""), ("nonsense", V2_MOUNTS), (V1_HOST, V2_MOUNTS), ("0::/", "")]
        {
            assert_eq!(levels(cgroup, mounts), None, "{cgroup} {mounts}");
        }
    }

    /// A tree of files that stands in for the kernel's.
    struct Tree(PathBuf);

    impl Tree {
        fn new(test: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir();
            let tree = Self(root.join(format!("rsgi-cgroup-{}-{test}", std::process::id())));
            for (name, text) in files {
                tree.write(name, text);
            }
            tree
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn cgroup(&self, version: Version) -> Cgroup {
            Cgroup { version, levels: vec![self.0.join("app"), self.0.clone()] }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn of_several_limits_the_one_with_the_least_room_counts_and_file_cache_is_room() {
        let v2 = Tree::new(
            "v2",
            &[
                ("app/memory.max", "max\n"),
                ("app/memory.current", "700\n"),
                ("memory.max", "1000\n"),
                ("memory.current", "950\n"),
                ("memory.stat", "anon 600\nfile 300\ninactive_file 250\nactive_file 50\n"),
            ],
        );
        let cgroup = v2.cgroup(Version::V2);
        assert_eq!(cgroup.limit(), Some(1000));
        assert_eq!(cgroup.tightest(), Some(Level { used: 700, limit: 1000 }));
        v2.write("app/memory.max", "800\n");
        assert_eq!(cgroup.limit(), Some(800));
        assert_eq!(cgroup.tightest(), Some(Level { used: 700, limit: 800 }));

        let v1 = Tree::new(
            "v1",
            &[
                ("app/memory.limit_in_bytes", "268435456\n"),
                ("app/memory.usage_in_bytes", "200000000\n"),
                ("app/memory.stat", "inactive_file 1\ntotal_inactive_file 50000000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.usage_in_bytes", "900000000000\n"),
            ],
        );
        let cgroup = v1.cgroup(Version::V1);
        assert_eq!(cgroup.limit(), Some(268_435_456));
        let expected = Level { used: 150_000_000, limit: 268_435_456 };
        assert_eq!(cgroup.tightest(), Some(expected));
    }

    #[test]
    fn no_limit_and_no_files_are_nothing_to_go_by() {
        let tree = Tree::new("none", &[("app/memory.max", "max\n"), ("app/memory.current", "1\n")]);
        for version in [Version::V1, Version::V2] {
            let cgroup = tree.cgroup(version);
            assert_eq!((cgroup.limit(), cgroup.tightest(), cgroup.oom_kills()), (None, None, None));
            assert_eq!(measure(Some(&cgroup), std::process::id()), None);
        }
        assert_eq!(measure(None, std::process::id()), None);
    }

    #[test]
    fn out_of_memory_is_told_by_a_counter_that_has_grown() {
        let table = [
            (Version::V1, "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill "),
            (Version::V2, "memory.events", "low 0\nhigh 7\nmax 9\noom 5\noom_kill "),
        ];
        for (version, name, text) in table {
            let name = format!("app/{name}");
            let tree = Tree::new(&format!("oom-{version:?}"), &[(&name, &format!("{text}3\n"))]);
            let mut watch = OomWatch::new(Some(tree.cgroup(version)));
            assert_eq!(watch.look(), 0);
            tree.write(&name, &format!("{text}5\n"));
            assert_eq!(watch.look(), 2);
            assert_eq!(watch.look(), 0);
        }
        assert_eq!(OomWatch::new(None).look(), 0);
    }

    #[test]
    fn this_process_and_this_machine_have_memory() {
        let (own, all) = (resident(std::process::id()).unwrap(), of_this_machine().unwrap());
        assert!(own > 100_000 && own < all, "{own} of {all}");
        assert_eq!(resident(0), None);
    }
}
