//! Files with variables, one `NAME=value` a line (`--env-file`).
//!
//! Owns what is said about a line that cannot be read; the grammar is dotenvy's. A line is never
//! shown: these files are where secrets are kept.

use std::ffi::OsString;
use std::path::Path;

use crate::error::Problem;
use crate::surroundings::Surroundings;

/// Adds the variables of a file to `surroundings`, unless they are set; gives those that it added.
pub(crate) fn add(
    surroundings: &mut Surroundings,
    path: &str,
    origin: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(OsString, OsString)> {
    let mut added = Vec::new();
    for (name, value) in read(&surroundings.path(path), path, origin, problems) {
        let (name, value) = (OsString::from(name), OsString::from(value));
        if !surroundings.variables.contains_key(&name) {
            surroundings.variables.insert(name.clone(), value.clone());
            added.push((name, value));
        }
    }
    added
}

/// The variables of a file, a later line for a name before an earlier one.
fn read(
    path: &Path,
    shown: &str,
    origin: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(String, String)> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            problems.push(Problem::of(origin, format!("cannot read `{shown}`: {error}")));
            return Vec::new();
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut variables = Vec::new();
    for item in dotenvy::from_read_iter(bytes.as_slice()) {
        match item {
            // an environment cannot hold it, and starting a worker would fail
            Ok((name, value)) if value.contains('\0') => {
                problems.push(Problem::of(shown, format!("{name} has a NUL character")));
            }
            Ok(variable) => variables.push(variable),
            Err(error) => problems.push(describe(&error, &text, shown)),
        }
    }
    variables.reverse();
    variables
}

/// What is wrong with a line; dotenvy's own message would show it.
fn describe(error: &dotenvy::Error, text: &str, shown: &str) -> Problem {
    let dotenvy::Error::LineParse(line, _) = error else {
        return Problem::of(shown, error.to_string());
    };
    let first = line.lines().next().unwrap_or_default().trim_end();
    // a mistake in a value comes without the name before it
    let number = text.lines().position(|candidate| candidate.trim_end().ends_with(first));
    let place = number.map_or_else(String::new, |number| format!(":{}", number.saturating_add(1)));
    Problem::of(
        format!("{shown}{place}"),
        "expected `NAME=value`, with quotes around a value that has spaces",
    )
}
