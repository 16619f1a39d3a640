//! Looking at files again and again, where nobody reports their changes.
//!
//! Compares modification time in nanoseconds, size and inode: two saves within a second are two, and
//! so is an older file that is moved into place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::burst::Sign;
use super::rules::Rules;

/// What two states of a file differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    modified: (i64, i64),
    size: u64,
    inode: u64,
}

/// What a directory had in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Inside {
    files: BTreeMap<PathBuf, State>,
    directories: BTreeSet<PathBuf>,
}

/// The directories that are looked at.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeMap<PathBuf, Inside>);

/// What has changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) files: Vec<(PathBuf, Sign)>,
    /// Whether directories have come or gone.
    pub(super) has_directories: bool,
}

impl Looks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, directory: &Path, rules: &Rules) {
        self.0.insert(directory.to_owned(), Inside::of(directory, rules));
    }

    pub(super) fn remove(&mut self, directory: &Path) {
        self.0.remove(directory);
    }

    pub(super) fn look(&mut self, rules: &Rules) -> Difference {
        let mut difference = Difference::default();
        for (directory, before) in &mut self.0 {
            let now = Inside::of(directory, rules);
            before.compare(&now, &mut difference);
            *before = now;
        }
        difference
    }
}

impl Inside {
    /// Empty for a directory that is gone.
    fn of(directory: &Path, rules: &Rules) -> Self {
        let mut inside = Self::default();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let counts = rules.counts(&path);
            // Of the others only directories matter, and most file systems tell without asking.
            let is_plain = entry.file_type().is_ok_and(|kind| kind.is_file());
            if is_plain && !counts {
                continue;
            }
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if metadata.is_dir() {
                inside.directories.insert(path);
            } else if counts {
                inside.files.insert(path, State::of(&metadata));
            }
        }
        inside
    }

    fn compare(&self, now: &Self, difference: &mut Difference) {
        for (path, state) in &now.files {
            if self.files.get(path) != Some(state) {
                // A save that is looked at half-way.
                let sign = if state.size == 0 { Sign::Unfinished } else { Sign::Whole };
                difference.files.push((path.clone(), sign));
            }
        }
        let gone = self.files.keys().filter(|path| !now.files.contains_key(*path));
        difference.files.extend(gone.map(|path| (path.clone(), Sign::Unfinished)));
        difference.has_directories |= self.directories != now.directories;
    }
}

impl State {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.size(),
            inode: metadata.ino(),
        }
    }
}

/// The files of a directory that count.
pub(super) fn files(directory: &Path, rules: &Rules) -> Vec<PathBuf> {
    Inside::of(directory, rules).files.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(modified: i64, size: u64, inode: u64) -> State {
        State { modified: (1, modified), size, inode }
    }

    #[test]
    fn a_difference_is_any_of_time_size_inode_and_being_there() {
        type Row = (&'static str, Option<State>, Option<State>, Option<Sign>);
        let table: [Row; 7] = [
            ("the same", Some(state(1, 1, 1)), Some(state(1, 1, 1)), None),
            ("within a second", Some(state(1, 1, 1)), Some(state(2, 1, 1)), Some(Sign::Whole)),
            ("an older one", Some(state(9, 1, 1)), Some(state(2, 1, 7)), Some(Sign::Whole)),
            ("another size", Some(state(1, 1, 1)), Some(state(1, 2, 1)), Some(Sign::Whole)),
            ("truncated", Some(state(1, 1, 1)), Some(state(2, 0, 1)), Some(Sign::Unfinished)),
            ("new", None, Some(state(1, 1, 1)), Some(Sign::Whole)),
            ("gone", Some(state(1, 1, 1)), None, Some(Sign::Unfinished)),
        ];
        for (what, before, now, expected) in table {
            let inside = |state: Option<State>| Inside {
                files: state.into_iter().map(|state| (PathBuf::from("a"), state)).collect(),
                directories: BTreeSet::new(),
            };
            let mut difference = Difference::default();
            inside(before).compare(&inside(now), &mut difference);
            let signs: Vec<Sign> = difference.files.iter().map(|(_, sign)| *sign).collect();
            assert_eq!(signs, Vec::from_iter(expected), "{what}");
        }
    }
}
