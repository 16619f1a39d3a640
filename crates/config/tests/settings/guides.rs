//! The tables of the guides for users of other servers: what a row says on its left must be what it
//! says on its right.

use std::ffi::OsString;
use std::path::Path;

use rsgi_config::{Launch, LoadError, Loaded, Surroundings, load};

use crate::support::Directory;

const SERVERS: [&str; 5] = ["rsgi", "uvicorn", "gunicorn", "hypercorn", "granian"];

/// The two cells of every row of the guide's tables whose first heading is `heading`.
fn rows(guide: &str, heading: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides");
    let text = std::fs::read_to_string(root.join(guide)).expect("the guide");
    let mut rows = Vec::new();
    let mut is_meant = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix("| ") else {
            is_meant &= line.starts_with('|');
            continue;
        };
        let (left, right) = line.split_once(" | ").expect("two cells");
        let right = right.trim_end_matches(" |");
        if left.starts_with('`') && is_meant {
            rows.push((left.trim_matches('`').to_owned(), right.to_owned()));
        } else {
            is_meant = left == heading;
        }
    }
    assert!(!rows.is_empty(), "{guide} has no rows under {heading}");
    rows
}

/// Runs `NAME=value server arguments`.
fn run(command: &str) -> Result<Loaded, LoadError> {
    let mut words = command.split(' ').peekable();
    let mut surroundings =
        Surroundings { directory: "/no/such/directory".into(), ..Surroundings::default() };
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        surroundings.variables.insert(name.into(), value.into());
        words.next();
    }
    let server = words.next();
    assert!(server.is_some_and(|name| SERVERS.contains(&name)), "{command}");
    load(words.map(Into::into), &surroundings)
}

fn check_commands(guide: &str, heading: &str) {
    let plain = run("rsgi main:app").expect("right").config;
    for (old, new) in rows(guide, heading) {
        let outcome = run(&old);
        if new.starts_with("refused") {
            assert!(matches!(outcome, Err(LoadError::Usage(_))), "{old}: {outcome:?}");
            continue;
        }
        let loaded = outcome.unwrap_or_else(|error| panic!("{old}: {error}"));
        if new.starts_with("no effect") {
            assert_eq!(loaded.config, plain, "{old}");
            assert!(!loaded.notices.is_empty(), "{old}: no notice");
        } else {
            let new = run(new.trim_matches('`')).unwrap_or_else(|error| panic!("{new}: {error}"));
            assert_eq!(loaded, new, "{old}");
            assert_eq!(new.notices, [""; 0], "{old}");
        }
    }
}

#[test]
fn commands_of_uvicorn_are_what_their_guide_says() {
    check_commands("from-uvicorn.md", "uvicorn");
}

#[test]
fn commands_of_gunicorn_are_what_their_guide_says() {
    check_commands("from-gunicorn.md", "gunicorn");
}

#[test]
fn commands_of_hypercorn_are_what_their_guide_says() {
    check_commands("from-hypercorn.md", "hypercorn");
}

#[test]
fn commands_of_granian_are_what_their_guide_says() {
    check_commands("from-granian.md", "granian");
}

#[test]
fn files_of_gunicorn_are_what_their_guide_says() {
    let directory = Directory::new("guide");
    for (old, new) in rows("from-gunicorn.md", "gunicorn.conf.py") {
        // what is written there is JSON, too
        let (name, value) = old.split_once(" = ").expect("an assignment");
        let answer = format!(r#"{{"settings": {{"{name}": [{value}, 1]}}}}"#);
        let left =
            load(arguments(name, &["-c", "gunicorn.conf.py"]), &directory.answering(&answer));
        let left = left.unwrap_or_else(|error| panic!("{old}: {error}"));
        if new.starts_with("no effect") {
            assert_eq!(left.config, crate::config("m:a"), "{old}");
            assert_eq!(left.notices, [format!("gunicorn.conf.py: no effect here: {name}")]);
            continue;
        }
        directory.write("rsgi.toml", new.trim_matches('`'));
        let right = load(arguments(name, &[]), &directory.surroundings(&[]))
            .unwrap_or_else(|error| panic!("{new}: {error}"));
        assert_eq!(left, right, "{old}");
        assert!(right.config != crate::config("m:a") || right.launch != Launch::default(), "{new}");
    }
}

/// A command line, without the application where a file names it.
fn arguments(name: &str, flags: &[&str]) -> Vec<OsString> {
    let target = (name != "wsgi_app").then_some(&"m:a");
    flags.iter().chain(target).map(Into::into).collect()
}
