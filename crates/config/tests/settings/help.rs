//! `--help` and `--version`.

use rsgi_config::LoadError;

use crate::load_with;

fn help(line: &str) -> String {
    match load_with(line, &[]) {
        Err(LoadError::Help(text)) => text,
        other => panic!("`{line}`: {other:?}"),
    }
}

#[test]
fn help_fits_in_80_columns() {
    let text = help("--help");
    let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(long, [""; 0]);
    assert_eq!(text.lines().find(|line| line.ends_with(' ')), None);
}

#[test]
fn help_has_every_group_default_and_known_variable() {
    let text = help("--help");
    let expected = [
        "Usage: rsgi [OPTIONS] APP\n",
        "\nApplication\n",
        "\nAddresses\n",
        "\nWorkers\n",
        "\nHTTP\n",
        "\nLogging\n",
        "[env: RSGI_APP, UVICORN_APP]",
        "[env: WEB_CONCURRENCY]",
        "[env: NO_COLOR, FORCE_COLOR]",
        "  --[no-]access-log ",
        "  -b, --bind ADDRESS ",
        "[default: 64KiB]",
        "RSGI_TIMEOUT_KEEP_ALIVE",
    ];
    for part in expected {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn help_does_not_show_what_has_no_effect() {
    let text = help("--help");
    for flag in ["--worker-class", "--loop", "--threads", "--daemon", "--max-requests "] {
        assert!(!text.contains(flag), "{flag}");
    }
}

#[test]
fn help_is_given_beside_mistakes() {
    assert_eq!(help("-h"), help("--help"));
    assert_eq!(help("--hsot x --help -w"), help("--help"));
}

#[test]
fn version_is_one_line() {
    let expected = format!("rsgi {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V", "-v"] {
        assert_eq!(help(flag), expected, "{flag}");
    }
}
