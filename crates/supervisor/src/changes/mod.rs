//! `--reload`: notices that files of the application have changed, and says which.
//!
//! ```text
//! inotify ──────────┐
//!                   ├─► rules: does the file count? ─► burst: is that all? ─► names of the files
//! looking (polling) ┘
//! ```
//!
//! Every directory is watched by itself and not its whole tree: what nobody edits (virtual
//! environments, caches, `node_modules`, what Git ignores) is left out, and costs nothing. Where the
//! kernel does not report changes, because they are made on another machine, the files are looked at.
//!
//! Own code over `rustix` and `ignore` rather than `notify`, whose watcher wakes up for every file that
//! an application opens and whose polling compares whole seconds, so that a second save is missed.
//!
//! Owns: what is watched, and when a change is complete. Must not know: what follows from one.

mod burst;
mod events;
mod look;
mod mounts;
mod rules;
mod tree;

use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{debug, info, warn};
use rsgi_config::ReloadOptions;
use tokio::time::Instant;

use self::burst::{Burst, Sign};
use self::events::{Events, Found, Seen};
use self::look::Looks;
use self::rules::Rules;
use crate::run::{LOG, sleep_until};

/// How soon a directory that has vanished is looked for again.
const REAPPEARANCE: Duration = Duration::from_millis(250);
/// How soon after a directory has come or gone the tree is walked again: many come together.
const SETTLING: Duration = Duration::from_millis(10);
/// So many changed files are named.
const NAMED: usize = 3;

/// The watched files.
#[derive(Debug)]
pub(crate) struct Changes {
    rules: Rules,
    roots: Vec<PathBuf>,
    directories: BTreeSet<PathBuf>,
    /// `None` where the kernel gives none.
    events: Option<Events>,
    looks: Looks,
    interval: Duration,
    /// Whether to look at files rather than wait for events; `None` is as the mount needs it.
    poll: Option<bool>,
    look_at: Option<Instant>,
    walk_at: Option<Instant>,
    burst: Burst,
    is_limit_told: bool,
}

impl Changes {
    /// Watches from now on. What is wrong with the options, otherwise.
    pub(crate) fn watch(options: &ReloadOptions) -> Result<Self, String> {
        let mut roots = Vec::new();
        for directory in &options.directories {
            let found = directory.canonicalize().ok().filter(|path| path.is_dir());
            roots.push(found.ok_or_else(|| {
                format!("--reload-dir: no such directory: `{}`", directory.display())
            })?);
        }
        let includes = options.include.iter();
        roots.extend(
            includes
                .filter_map(|pattern| Path::new(pattern).canonicalize().ok())
                .filter(|path| path.is_dir()),
        );
        let rules = Rules::new(&roots, &options.include, &options.exclude)?;
        let names: Vec<String> = roots.iter().map(|root| format!("'{}'", root.display())).collect();
        info!(target: LOG, "Will watch for changes in these directories: [{}]", names.join(", "));
        let mut changes = Self {
            rules,
            roots,
            directories: BTreeSet::new(),
            events: None,
            looks: Looks::default(),
            interval: options.delay,
            poll: options.poll,
            look_at: None,
            walk_at: None,
            burst: Burst::default(),
            is_limit_told: false,
        };
        if options.poll != Some(true) {
            match Events::new() {
                Ok(events) => changes.events = Some(events),
                Err(error) => changes.tell_limit(&error),
            }
        }
        changes.walk(None);
        if changes.looks.is_empty() {
            debug!(target: LOG, "Watching {} directories", changes.directories.len());
        } else {
            let seconds = changes.interval.as_secs_f64();
            info!(target: LOG, "Looking for changes every {seconds} s (--reload-poll)");
        }
        Ok(changes)
    }

    /// Waits for a change and returns the names of the files. Cancel-safe: what has been noticed is
    /// kept until it is returned.
    pub(crate) async fn next(&mut self) -> Vec<String> {
        loop {
            if let Some(paths) = self.burst.take(Instant::now()) {
                return named(paths);
            }
            tokio::select! {
                biased;
                seen = next_events(self.events.as_mut()) => self.note(seen),
                () = sleep_until(self.walk_at) => self.walk(Some(Instant::now())),
                () = sleep_until(self.look_at) => self.look(Instant::now()),
                () = sleep_until(self.burst.due()) => {}
            }
        }
    }

    /// Forgets what has been noticed: it is dealt with already.
    pub(crate) fn forget(&mut self) {
        if let Some(Ok(seen)) = self.events.as_mut().map(Events::read) {
            self.note(seen);
        }
        self.burst = Burst::default();
    }

    fn note(&mut self, seen: Seen) {
        let now = Instant::now();
        for found in seen.found {
            match found {
                Found::File(path, sign) if self.rules.counts(&path) => {
                    self.burst.note(path, sign, now);
                }
                Found::File(..) => {}
                Found::Directory(path) => {
                    self.lose(&path);
                    self.walk_at.get_or_insert(now + SETTLING);
                }
            }
        }
        if seen.is_incomplete {
            // More has happened than the kernel remembers.
            self.walk_at.get_or_insert(now + SETTLING);
            self.burst.note(self.roots.first().cloned().unwrap_or_default(), Sign::Whole, now);
        }
    }

    /// Finds out which directories there are. At `since`, files in those that are new count as
    /// changed; at the start nothing does.
    fn walk(&mut self, since: Option<Instant>) {
        self.walk_at = None;
        let files = self.rules.parents_of_files();
        let mut there: BTreeSet<PathBuf> = files.into_iter().filter(|path| path.is_dir()).collect();
        for root in &self.roots {
            if root.is_dir() {
                tree::directories(root, &self.rules, &mut there);
            } else {
                let soon = since.unwrap_or_else(Instant::now) + REAPPEARANCE;
                self.walk_at = Some(soon);
            }
        }
        let gone: Vec<PathBuf> = self.directories.difference(&there).cloned().collect();
        for directory in &gone {
            self.lose(directory);
        }
        let new: Vec<PathBuf> = there.difference(&self.directories).cloned().collect();
        self.directories = there;
        for directory in new {
            self.add(&directory);
            if let Some(now) = since {
                // What was written before the watch began.
                for file in look::files(&directory, &self.rules) {
                    self.burst.note(file, Sign::Whole, now);
                }
            }
        }
        self.look_at = if self.looks.is_empty() {
            None
        } else {
            self.look_at.or(Some(Instant::now() + self.interval))
        };
    }

    /// Stops watching a directory and what is in it. If it is still there, or another of its name, the
    /// next walk begins anew with it.
    fn lose(&mut self, directory: &Path) {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let inside = self.directories.range::<Path, _>(from);
        let gone: Vec<PathBuf> =
            inside.take_while(|path| path.starts_with(directory)).cloned().collect();
        for directory in gone {
            self.directories.remove(&directory);
            self.looks.remove(&directory);
            if let Some(events) = &mut self.events {
                events.remove(&directory);
            }
        }
    }

    fn add(&mut self, directory: &Path) {
        let needs_looks = self.poll.unwrap_or_else(|| mounts::is_silent(directory));
        if let Some(events) = self.events.as_mut().filter(|_| !needs_looks) {
            match events.add(directory) {
                Ok(()) => return,
                // It vanished again, or cannot be read; its parent says when that changes.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => self.tell_limit(&error),
            }
        }
        self.looks.add(directory, &self.rules);
    }

    fn look(&mut self, now: Instant) {
        let difference = self.looks.look(&self.rules);
        for (path, sign) in difference.files {
            self.burst.note(path, sign, now);
        }
        if difference.has_directories && self.walk_at.is_none() {
            self.walk_at = Some(now);
        }
        self.look_at = Some(Instant::now() + self.interval);
    }

    fn tell_limit(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.is_limit_told, true) {
            warn!(
                target: LOG,
                "The kernel does not report changes of all files ({error}), so they are looked for every {} s; \
                 fs.inotify.max_user_watches or max_user_instances may be too low, or --reload-dir too wide",
                self.interval.as_secs_f64()
            );
        }
    }
}

async fn next_events(events: Option<&mut Events>) -> Seen {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

/// Paths as a person reads them, the first few by name.
fn named(paths: Vec<PathBuf>) -> Vec<String> {
    let here = std::env::current_dir().unwrap_or_default();
    let more = paths.len().saturating_sub(NAMED);
    let name = |path: PathBuf| {
        let path = path.strip_prefix(&here).map_or(path.as_path(), |inner| inner).to_owned();
        format!("'{}'", path.display().to_string().escape_debug())
    };
    let mut names: Vec<String> = paths.into_iter().take(NAMED).map(name).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_files_are_named_and_the_others_counted() {
        let paths = |count| (0..count).map(|n| PathBuf::from(format!("/x/{n}.py"))).collect();
        assert_eq!(named(paths(1)), ["'/x/0.py'"]);
        assert_eq!(named(paths(5)), ["'/x/0.py'", "'/x/1.py'", "'/x/2.py'", "2 more"]);
        assert_eq!(named(vec![PathBuf::from("/x/\n\x1b.py")]), ["'/x/\\n\\u{1b}.py'"]);
    }
}
