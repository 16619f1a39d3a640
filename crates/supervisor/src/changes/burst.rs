//! When a change is complete: changes that come together are one.
//!
//! Saving a file is several steps (truncate, write, close; or write another, rename), and a checkout
//! is hundreds of files. What has been noticed is told once it has been quiet for long enough, and
//! how long that is follows from what was seen last of each file:
//!
//! | what was seen | it is quiet after | because |
//! |---|---|---|
//! | one file, closed or renamed into place | 20 ms | that is an editor's save, and somebody waits for it |
//! | several | 80 ms | that is a program at work, and there will be more |
//! | a file that is open for writing, or gone | 150 ms | the other half of a save is still to come |
//!
//! Somebody who never stops writing is not waited for: after 2 s the change is told as it is.
//!
//! Owns: those times. Must not know: what is watched, or what time it is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

const ONE: Duration = Duration::from_millis(20);
const SEVERAL: Duration = Duration::from_millis(80);
const UNFINISHED: Duration = Duration::from_millis(150);
const LONGEST: Duration = Duration::from_secs(2);
/// So many paths are remembered: more are not told anybody.
const MOST: usize = 1000;

/// What was seen of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// It is complete.
    Whole,
    /// It is being written, or it is gone.
    Unfinished,
}

/// Changes that have been noticed and not told.
#[derive(Debug, Default)]
pub(super) struct Burst {
    paths: BTreeMap<PathBuf, Sign>,
    span: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    first: Instant,
    last: Instant,
}

impl Burst {
    pub(super) fn note(&mut self, path: PathBuf, sign: Sign, now: Instant) {
        let first = self.span.map_or(now, |span| span.first);
        self.span = Some(Span { first, last: now });
        if self.paths.len() < MOST || self.paths.contains_key(&path) {
            self.paths.insert(path, sign);
        }
    }

    /// When [`Self::take`] has something, if nothing else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        let Span { first, last } = self.span?;
        let quiet = if self.paths.values().any(|sign| *sign == Sign::Unfinished) {
            UNFINISHED
        } else if self.paths.len() > 1 {
            SEVERAL
        } else {
            ONE
        };
        Some((last + quiet).min(first + LONGEST))
    }

    /// What has changed, once that is all.
    pub(super) fn take(&mut self, now: Instant) -> Option<Vec<PathBuf>> {
        self.due().filter(|due| *due <= now)?;
        self.span = None;
        Some(std::mem::take(&mut self.paths).into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::{Unfinished, Whole};
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_change_is_told_once_it_has_been_quiet() {
        // (when, which file, what of it), and when it is told
        type Row = (&'static str, &'static [(u64, &'static str, Sign)], u64);
        let table: &[Row] = &[
            ("one save", &[(0, "a", Whole)], 20),
            (
                "truncated, written, closed",
                &[(0, "a", Unfinished), (3, "a", Unfinished), (5, "a", Whole)],
                25,
            ),
            ("written and not closed", &[(0, "a", Unfinished)], 150),
            (
                "renamed away, and another into its place",
                &[(0, "a", Unfinished), (40, "a", Whole)],
                60,
            ),
            ("two files at once", &[(0, "a", Whole), (5, "b", Whole)], 85),
            ("one file twice", &[(0, "a", Whole), (15, "a", Whole)], 35),
            ("one whole, one not", &[(0, "a", Whole), (1, "b", Unfinished)], 151),
        ];
        for (what, signs, told) in table {
            let start = Instant::now();
            let mut burst = Burst::default();
            for (at, path, sign) in *signs {
                assert_eq!(burst.take(start + ms(*at)), None, "{what}");
                burst.note(PathBuf::from(path), *sign, start + ms(*at));
            }
            assert_eq!(burst.due(), Some(start + ms(*told)), "{what}");
            assert_eq!(burst.take(start + ms(told - 1)), None, "{what}");
            assert!(burst.take(start + ms(*told)).is_some(), "{what}");
            assert_eq!(burst.due(), None, "{what}");
            assert_eq!(burst.take(start + ms(100_000)), None, "{what}");
        }
    }

    #[test]
    fn hundreds_of_files_in_a_row_are_one_change_with_bounded_memory() {
        let start = Instant::now();
        let mut burst = Burst::default();
        for number in 0..3000 {
            let now = start + Duration::from_micros(number * 500);
            assert_eq!(burst.take(now), None);
            burst.note(PathBuf::from(format!("{number}")), Whole, now);
        }
        let paths = burst.take(start + ms(1700)).unwrap();
        assert_eq!(paths.len(), MOST);
    }

    #[test]
    fn a_file_that_is_written_all_the_time_is_told_after_two_seconds() {
        let start = Instant::now();
        let mut burst = Burst::default();
        let told = (0..1000).map(|step| start + ms(step * 10)).find(|&now| {
            burst.note(PathBuf::from("a"), Unfinished, now);
            burst.take(now).is_some()
        });
        assert_eq!(told, Some(start + LONGEST));
    }
}
