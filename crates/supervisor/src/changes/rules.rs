//! Which files count, and which directories are looked into.
//!
//! A pattern is a shell's: without a `/` it is about a name, with one about the end of a path, and
//! one that starts with `/` about the whole. An exclusion is also about everything in a directory that
//! it matches. The first of these decides: what the user excludes, what the user includes, what is
//! excluded by default, what is included by default. As in uvicorn both lists add to the defaults;
//! unlike there, what is named beats the default (`--reload-include .env`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// uvicorn's defaults.
const INCLUDED: [&str; 1] = ["*.py"];
const EXCLUDED: [&str; 4] = [".*", ".py[cod]", ".sw.*", "~*"];

/// Directories that hold nothing that anybody edits, whatever a `.gitignore` says. Hidden ones are
/// left out as well, and those of virtual environments are known by what is in them.
const DULL: [&str; 4] = ["__pycache__", "node_modules", "site-packages", "__pypackages__"];

/// What a virtual environment has in it.
const ENVIRONMENT: &str = "pyvenv.cfg";

/// The user's rules and the defaults.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    roots: Vec<PathBuf>,
    include: GlobSet,
    exclude: GlobSet,
    default_include: GlobSet,
    default_exclude: GlobSet,
    /// Files that were named by their path.
    files: Vec<PathBuf>,
}

impl Rules {
    pub(super) fn new(
        roots: &[PathBuf],
        include: &[String],
        exclude: &[String],
    ) -> Result<Self, String> {
        let absolute = |pattern: &String| Path::new(pattern).canonicalize().ok();
        let is_path = |pattern: &&String| pattern.contains('/');
        let files: Vec<PathBuf> =
            include.iter().filter_map(absolute).filter(|path| path.is_file()).collect();
        // Where the user is, a path with a `/` means that one.
        let excluded = exclude.iter().filter(is_path).filter_map(absolute);
        let excluded = excluded.map(|path| globset::escape(&path.to_string_lossy()));
        let named = files.iter().map(|path| globset::escape(&path.to_string_lossy()));
        let exclude: Vec<String> = exclude.iter().cloned().chain(excluded).collect();
        let include: Vec<String> = include.iter().cloned().chain(named).collect();
        Ok(Self {
            roots: roots.to_vec(),
            include: set("--reload-include", include)?,
            exclude: set("--reload-exclude", exclude)?,
            default_include: set("", INCLUDED)?,
            default_exclude: set("", EXCLUDED)?,
            files,
        })
    }

    /// Whether a change of this file is one.
    pub(super) fn counts(&self, path: &Path) -> bool {
        if self.below_root(path).any(|part| self.exclude.is_match(part)) {
            return false;
        }
        self.include.is_match(path)
            || self.default_include.is_match(path) && !self.default_exclude.is_match(path)
    }

    /// Whether to look for files in a directory that is not one of the roots.
    pub(super) fn descends(&self, directory: &Path) -> bool {
        let name = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let is_dull = DULL.contains(&name) || self.default_exclude.is_match(directory);
        !is_dull && !self.exclude.is_match(directory) && !directory.join(ENVIRONMENT).exists()
    }

    /// Where the files are that were named by their path.
    pub(super) fn parents_of_files(&self) -> Vec<PathBuf> {
        self.files.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect()
    }

    /// The path itself and the directories that lead to it from a root.
    fn below_root<'a>(&self, path: &'a Path) -> impl Iterator<Item = &'a Path> {
        let roots = self.roots.clone();
        path.ancestors().take_while(move |part| !roots.iter().any(|root| root == part))
    }
}

fn set(flag: &str, patterns: impl IntoIterator<Item = impl AsRef<str>>) -> Result<GlobSet, String> {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        let pattern = pattern.as_ref();
        let trimmed = pattern.trim_start_matches("./").trim_end_matches('/');
        let anywhere = if trimmed.starts_with('/') { "" } else { "**/" };
        let glob =
            GlobBuilder::new(&format!("{anywhere}{trimmed}")).literal_separator(true).build();
        builder.add(glob.map_err(|error| format!("{flag}: {}: `{pattern}`", error.kind()))?);
    }
    builder.build().map_err(|error| format!("{flag}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(include: &[&str], exclude: &[&str]) -> Rules {
        let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        Rules::new(&["/app".into()], &owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn which_files_count() {
        let table: &[(&[&str], &[&str], &str, bool)] = &[
            (&[], &[], "/app/main.py", true),
            (&[], &[], "/app/a/b/c.py", true),
            (&[], &[], "/app/main.pyc", false),
            (&[], &[], "/app/index.html", false),
            (&[], &[], "/app/.main.py", false),
            (&[], &[], "/app/.main.py.swp", false),
            (&[], &[], "/app/main.py~", false),
            (&[], &[], "/app/~main.py", false),
            (&[], &[], "/app/4913", false),
            (&["*.html"], &[], "/app/templates/index.html", true),
            (&["*.html"], &[], "/app/main.py", true),
            (&["templates/*.html"], &[], "/app/x/templates/index.html", true),
            (&["templates/*.html"], &[], "/app/templates/x/index.html", false),
            (&["templates/**/*.html"], &[], "/app/templates/x/index.html", true),
            (&["./conf/app.toml"], &[], "/app/conf/app.toml", true),
            (&[".env"], &[], "/app/.env", true),
            (&["*"], &[], "/app/data.bin", true),
            (&[], &["test_*"], "/app/test_main.py", false),
            (&[], &["tests"], "/app/tests/main.py", false),
            (&[], &["tests/"], "/app/a/tests/b/main.py", false),
            (&[], &["/app/a"], "/app/a/main.py", false),
            (&[], &["a/b"], "/app/a/b/main.py", false),
            (&[], &["a/b"], "/app/a/main.py", true),
            (&["*.html"], &["*.html"], "/app/index.html", false),
            // A root is watched wherever it lies.
            (&[], &["app"], "/app/main.py", true),
        ];
        for (include, exclude, path, expected) in table {
            let counts = rules(include, exclude).counts(Path::new(path));
            assert_eq!(counts, *expected, "{path} {include:?} {exclude:?}");
        }
    }

    #[test]
    fn which_directories_are_looked_into() {
        let table: &[(&[&str], &str, bool)] = &[
            (&[], "/app/pkg", true),
            (&[], "/app/build", true),
            (&[], "/app/.git", false),
            (&[], "/app/.venv", false),
            (&[], "/app/.mypy_cache", false),
            (&[], "/app/pkg/__pycache__", false),
            (&[], "/app/node_modules", false),
            (&[], "/app/env/lib/python3.13/site-packages", false),
            (&["data"], "/app/data", false),
            (&["data/"], "/app/pkg/data", false),
            (&["da*"], "/app/data", false),
        ];
        for (exclude, path, expected) in table {
            let descends = rules(&[], exclude).descends(Path::new(path));
            assert_eq!(descends, *expected, "{path} {exclude:?}");
        }
    }

    #[test]
    fn a_pattern_that_is_none_is_named() {
        let wrong = Rules::new(&[], &["a[".to_owned()], &[]).unwrap_err();
        assert!(wrong.starts_with("--reload-include: ") && wrong.ends_with("`a[`"), "{wrong}");
    }
}
