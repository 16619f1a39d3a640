//! The directories below a root that somebody may edit files in.
//!
//! Left out are those that the rules leave out and, inside a Git repository, those that Git ignores:
//! build outputs, data, environments under any name. Only directories: a file that Git ignores
//! (`local_settings.py`) counts like any other.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use log::warn;

use super::rules::Rules;
use crate::run::LOG;

/// So many directories are watched below a root: a link to `/` must not walk the whole machine.
const MOST: usize = 20_000;

/// Adds the root and the directories below it.
pub(super) fn directories(root: &Path, rules: &Rules, found: &mut BTreeSet<PathBuf>) {
    let (top, rules) = (root.to_owned(), rules.clone());
    let walk = WalkBuilder::new(root)
        .ignore(false)
        .follow_links(true)
        .filter_entry(move |entry| {
            // The kind of a link is what it leads to.
            let is_directory = entry.file_type().is_some_and(|kind| kind.is_dir());
            is_directory && (entry.path() == top || rules.descends(entry.path()))
        })
        .build();
    // What cannot be read cannot be edited.
    for (count, entry) in walk.flatten().enumerate() {
        if count == MOST {
            let root = root.display();
            warn!(target: LOG, "More than {MOST} directories in '{root}', the rest is not watched; narrow --reload-dir");
            return;
        }
        found.insert(entry.into_path());
    }
}
