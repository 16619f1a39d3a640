//! What the kernel reports about directories (inotify(7)).
//!
//! Owns: the descriptor, and which directory a report is about. Must not know: which files count.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::burst::Sign;
use crate::sys::descriptor::watch_descriptor;

/// Room for at least fifty reports.
const BUFFER: usize = 16 * 1024;

/// What is reported. Not that a file is opened or read, or has other permissions.
const WATCHED: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Directories under watch.
#[derive(Debug)]
pub(super) struct Events {
    inotify: AsyncFd<OwnedFd>,
    by_number: HashMap<i32, PathBuf>,
    by_path: HashMap<PathBuf, i32>,
}

/// What has been reported.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) found: Vec<Found>,
    /// Whether reports have been lost.
    pub(super) is_incomplete: bool,
}

/// One report.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    File(PathBuf, Sign),
    /// This directory has come or gone; what is watched under its name may be another one.
    Directory(PathBuf),
}

impl Events {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self {
            inotify: watch_descriptor(inotify)?,
            by_number: HashMap::new(),
            by_path: HashMap::new(),
        })
    }

    pub(super) fn add(&mut self, directory: &Path) -> io::Result<()> {
        let number = inotify::add_watch(self.inotify.get_ref(), directory, WATCHED)?;
        // The same directory under another name, through a link, has the same number.
        if let Some(before) = self.by_number.insert(number, directory.to_owned()) {
            self.by_path.remove(&before);
        }
        self.by_path.insert(directory.to_owned(), number);
        Ok(())
    }

    /// Forgets a directory that is gone, or is not wanted any more.
    pub(super) fn remove(&mut self, directory: &Path) {
        if let Some(number) = self.by_path.remove(directory) {
            self.by_number.remove(&number);
            // The kernel has removed it already if the directory is gone.
            let _ = inotify::remove_watch(self.inotify.get_ref(), number);
        }
    }

    /// The next reports. Cancel-safe: they are read only to be returned.
    pub(super) async fn next(&mut self) -> Seen {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else {
                return std::future::pending().await;
            };
            match read(ready.get_inner(), &mut self.by_number, &mut self.by_path) {
                Ok(seen) => return seen,
                Err(_) => ready.clear_ready(),
            }
        }
    }

    /// Reports that are there already.
    pub(super) fn read(&mut self) -> io::Result<Seen> {
        read(self.inotify.get_ref(), &mut self.by_number, &mut self.by_path)
    }
}

/// All reports that are there, or an error if there are none.
fn read(
    inotify: &OwnedFd,
    by_number: &mut HashMap<i32, PathBuf>,
    by_path: &mut HashMap<PathBuf, i32>,
) -> io::Result<Seen> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut seen = Seen::default();
    let mut count = 0;
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(error) if count == 0 => return Err(error.into()),
            Err(_) => return Ok(seen),
        };
        count += 1;
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            seen.is_incomplete = true;
            continue;
        }
        if flags.contains(ReadFlags::IGNORED) {
            // Nothing more comes of it, and the number may mean another directory soon.
            if let Some(path) = by_number.remove(&event.wd()) {
                by_path.remove(&path);
            }
            continue;
        }
        let file = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let Some(directory) = by_number.get(&event.wd()) else { continue };
        let path = file.map_or_else(|| directory.clone(), |file| directory.join(file));
        seen.found.extend(found(flags, path));
    }
}

fn found(flags: ReadFlags, path: PathBuf) -> Option<Found> {
    let comes_or_goes =
        ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
    if flags.intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF) {
        return Some(Found::Directory(path));
    }
    if flags.contains(ReadFlags::ISDIR) {
        return flags.intersects(comes_or_goes).then_some(Found::Directory(path));
    }
    let sign = if flags.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::MOVED_TO) {
        Sign::Whole
    } else {
        Sign::Unfinished
    };
    Some(Found::File(path, sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_about_a_file_or_about_directories() {
        let file = |sign| Some(Found::File("/x".into(), sign));
        let directory = ReadFlags::ISDIR;
        let table = [
            (ReadFlags::CLOSE_WRITE, file(Sign::Whole)),
            (ReadFlags::MOVED_TO, file(Sign::Whole)),
            (ReadFlags::MODIFY, file(Sign::Unfinished)),
            (ReadFlags::CREATE, file(Sign::Unfinished)),
            (ReadFlags::DELETE, file(Sign::Unfinished)),
            (ReadFlags::MOVED_FROM, file(Sign::Unfinished)),
            (ReadFlags::MODIFY | directory, None),
            (ReadFlags::CREATE | directory, Some(Found::Directory("/x".into()))),
            (ReadFlags::MOVED_FROM | directory, Some(Found::Directory("/x".into()))),
            (ReadFlags::DELETE_SELF, Some(Found::Directory("/x".into()))),
            (ReadFlags::MOVE_SELF, Some(Found::Directory("/x".into()))),
        ];
        for (flags, expected) in table {
            assert_eq!(found(flags, "/x".into()), expected, "{flags:?}");
        }
    }
}
