//! Where the kernel does not report changes: file systems whose files somebody else can write.
//!
//! inotify tells what this kernel does to a file. On a network's or a host's directory the editor runs
//! elsewhere. An overlay reports what is written through it, which is all that should be.

use std::path::Path;

use rustix::fs::statfs;

/// `f_type` of such file systems (statfs(2), linux/magic.h).
const SILENT: [(&str, u32); 12] = [
    ("nfs", 0x6969),
    ("9p, of WSL and of virtual machines", 0x0102_1997),
    ("fuse and virtiofs, of Docker Desktop and of virtual machines", 0x6573_5546),
    ("smb", 0x517B),
    ("cifs", 0xFF53_4D42),
    ("smb2", 0xFE53_4D42),
    ("vboxsf", 0x786F_4256),
    ("vmhgfs", 0xBACB_ACBC),
    ("prl_fs", 0x7C7C_6673),
    ("ceph", 0x00C3_6400),
    ("afs", 0x5346_414F),
    ("coda", 0x7375_7245),
];

/// Whether changes of the files in a directory may go unreported.
pub(super) fn is_silent(directory: &Path) -> bool {
    // A platform has the type in one width or another; these are the bits.
    let number =
        statfs(directory).ok().and_then(|found| u32::try_from(found.f_type & 0xFFFF_FFFF).ok());
    number.is_some_and(is_silent_type)
}

fn is_silent_type(number: u32) -> bool {
    SILENT.iter().any(|(_, magic)| *magic == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_are_looked_at_and_the_rest_reported() {
        let table = [
            ("virtiofs", 0x6573_5546, true),
            ("9p", 0x0102_1997, true),
            ("nfs", 0x6969, true),
            ("ext4", 0xEF53, false),
            ("overlayfs", 0x794C_7630, false),
            ("btrfs", 0x9123_683E, false),
            ("xfs", 0x5846_5342, false),
            ("tmpfs", 0x0102_1994, false),
        ];
        for (name, magic, expected) in table {
            assert_eq!(is_silent_type(magic), expected, "{name}");
        }
        assert!(!is_silent(Path::new("/proc/no/such/directory")));
        assert!(!is_silent(Path::new("/proc")));
    }
}
