//! The file with the supervisor's process number, for those who signal it.
//!
//! Owns: making it, and removing it if it is still ours. Must not know: why somebody wants it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::error::PidFileError;

/// More than any process number has digits.
const LONGEST: u64 = 32;

/// The file, removed when this is dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes this process's number. A number of a process that is gone is replaced, anything else
    /// that is there is an error.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source| PidFileError::Io { path: path.to_owned(), source };
        let path = std::path::absolute(path).map_err(failed)?;
        // No following of links and no waiting for pipes: the directory may be anybody's.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(flags.bits().cast_signed())
            .open(&path)
            .map_err(failed)?;
        match holder(&mut file).map_err(failed)? {
            Holder::Stranger => return Err(PidFileError::NotAPidFile { path }),
            Holder::Process(pid) if is_running(pid) => {
                return Err(PidFileError::Running { path, pid: pid.as_raw_pid() });
            }
            Holder::None | Holder::Process(_) => {}
        }
        file.set_len(0).map_err(failed)?;
        let number = format!("{}\n", std::process::id());
        io::Seek::rewind(&mut file)
            .and_then(|()| file.write_all(number.as_bytes()))
            .map_err(failed)?;
        Ok(Self { path, file })
    }

    /// Gives the file to the user that the process is going to be.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        std::os::unix::fs::fchown(&self.file, Some(uid), Some(gid))
    }

    /// Whether the file of that name is the one we wrote, and nobody has written into it since.
    fn is_ours(&mut self) -> io::Result<bool> {
        let (ours, found) = (self.file.metadata()?, fs::symlink_metadata(&self.path)?);
        let is_same = (ours.dev(), ours.ino()) == (found.dev(), found.ino());
        // A process number names itself: a forked copy of this value is not the owner.
        Ok(is_same && holder(&mut self.file)? == Holder::Process(rustix::process::getpid()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if !self.is_ours().unwrap_or(false) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            // The directory is not ours after a change of user; an empty file names nobody.
            log::debug!(target: "rsgi", "Emptying `{}`: {error}", self.path.display());
            if let Err(error) = self.file.set_len(0) {
                log::warn!(target: "rsgi", "Cannot remove `{}`: {error}", self.path.display());
            }
        }
    }
}

/// Whom a file names.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    None,
    Process(Pid),
    /// It is not a process number: somebody's data.
    Stranger,
}

fn holder(file: &mut File) -> io::Result<Holder> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Ok(Holder::Stranger);
    }
    let mut text = Vec::new();
    io::Seek::rewind(file)?;
    file.take(LONGEST).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let text = text.trim_ascii();
    if text.is_empty() {
        return Ok(Holder::None);
    }
    let pid = text.parse().ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    Ok(pid.map_or(Holder::Stranger, Holder::Process))
}

/// Whether another process has this number. In a new container the last run's is easily our own.
fn is_running(pid: Pid) -> bool {
    pid != rustix::process::getpid()
        && !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let name = format!("rsgi-pid-{}-{test}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// The number of a process that was ours and is gone.
    fn gone() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn it_has_the_number_as_long_as_it_lives() {
        let directory = Directory::new("life");
        let path = directory.0.join("pid");
        let file = PidFile::create(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_process_that_is_gone_left_is_replaced() {
        let directory = Directory::new("stale");
        let path = directory.0.join("pid");
        for left in [String::new(), format!("{}\n", gone()), format!(" {} ", std::process::id())] {
            fs::write(&path, &left).unwrap();
            drop(PidFile::create(&path).unwrap());
            assert!(!path.exists(), "{left:?}");
        }
    }

    #[test]
    fn the_file_of_a_process_that_runs_is_refused_and_kept() {
        let directory = Directory::new("live");
        let path = directory.0.join("pid");
        fs::write(&path, "1\n").unwrap();
        let message = PidFile::create(&path).unwrap_err().to_string();
        let expected = format!(
            "process 1 of the pid file still runs, stop it or remove the file: `{}`",
            path.display()
        );
        assert_eq!(message, expected);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_file_with_anything_else_is_refused_and_kept() {
        let directory = Directory::new("data");
        let path = directory.0.join("pid");
        for data in ["precious", "-1", "0", "12 13", &"1".repeat(100)] {
            fs::write(&path, data).unwrap();
            let message = PidFile::create(&path).unwrap_err().to_string();
            assert!(message.starts_with("the file exists and is no pid file"), "{message}");
            assert_eq!(fs::read_to_string(&path).unwrap(), data);
        }
        assert!(PidFile::create(&directory.0).is_err(), "a directory");
        let link = directory.0.join("link");
        std::os::unix::fs::symlink(directory.0.join("elsewhere"), &link).unwrap();
        assert!(PidFile::create(&link).is_err(), "a link");
        assert!(!directory.0.join("elsewhere").exists());
    }

    #[test]
    fn what_a_successor_wrote_stays() {
        let directory = Directory::new("successor");
        let path = directory.0.join("pid");
        let file = PidFile::create(&path).unwrap();
        fs::write(&path, "4711\n").unwrap();
        drop(file);
        assert!(path.exists(), "another number in our file");
        fs::remove_file(&path).unwrap();
        let file = PidFile::create(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, format!("{}\n", std::process::id())).unwrap();
        drop(file);
        assert!(path.exists(), "another file with our number");
    }
}
