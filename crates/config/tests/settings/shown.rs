//! `--check-config`, `--print-config` and `--completions`.

use rsgi_config::LoadError;

use crate::support::Directory;
use crate::{config, load_with, mistake};

fn text(line: &str, variables: &[(&str, &str)]) -> String {
    match load_with(line, variables) {
        Err(LoadError::Help(text)) => text,
        other => panic!("`{line}`: {other:?}"),
    }
}

#[test]
fn a_check_tells_notices_and_that_all_is_right() {
    assert_eq!(text("--check-config m:a", &[]), "the settings are right");
    let expected = "warning: --http h11 has no effect: there is one HTTP implementation\n\
                    the settings are right";
    assert_eq!(text("--check-config=yes m:a", &[]), "the settings are right");
    assert!(load_with("--check-config=no m:a", &[]).is_ok());
    let wrong = "error: --check-config: expected true or false, got `x`";
    assert_eq!(mistake("--check-config=x m:a", &[]), wrong);
    assert_eq!(text("--check-config --http h11 m:a", &[]), expected);
}

#[test]
fn a_check_or_a_print_of_what_is_wrong_is_a_usage_error() {
    let message = "error: --port: expected a port: a whole number from 0 to 65535, got `x`";
    assert_eq!(mistake("--check-config --port x m:a", &[]), message);
    assert_eq!(mistake("--print-config --port x m:a", &[]), message);
    assert!(mistake("--check-config", &[]).contains("the application is missing"));
}

#[test]
fn an_application_of_a_file_or_a_variable_is_printed_as_theirs() {
    let directory = Directory::new("shown-app");
    directory.write("rsgi.toml", "app = \"m:a\"");
    let shown = |variables: &[(&str, &str)]| match directory.load("--print-config", variables) {
        Err(LoadError::Help(text)) => {
            let line = text.lines().find(|line| line.starts_with("app = ")).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(&[]), "app = \"m:a\" # rsgi.toml:1 app");
    assert_eq!(shown(&[("RSGI_APP", "m:b")]), "app = \"m:b\" # RSGI_APP");
}

#[test]
fn every_value_is_printed_with_its_source() {
    let directory = Directory::new("shown");
    directory.write("rsgi.toml", "\nbacklog = 99");
    let variables = [("WEB_CONCURRENCY", "3"), ("RSGI_ACCESS_LOG", "off")];
    let text = match directory.load("--print-config --root-path /x m:a", &variables) {
        Err(LoadError::Help(text)) => text,
        other => panic!("{other:?}"),
    };
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "app = \"m:a\" # APP (command line)",
        "root_path = \"/x\" # --root-path (command line)",
        "backlog = 99 # rsgi.toml:2 backlog",
        "workers = 3 # WEB_CONCURRENCY",
        "access_log = false # RSGI_ACCESS_LOG",
        "timeout_keep_alive = \"5s\" # default",
        "# limit_concurrency # not set",
    ];
    for line in expected {
        assert!(lines.iter().any(|known| known == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn what_is_printed_is_a_file_that_means_the_same() {
    let lines = [
        "m:a",
        "--port 7 --host :: m:a",
        "-b :1 -b unix:/a --uds-permissions 660 m:a",
        "--header a:\"1\\2 --header b:c --limit-concurrency 5 --no-access-log --factory m:a",
        "--timeout-keep-alive 1.5 --limit-request-head-size 32KiB --use-colors m:a",
    ];
    let directory = Directory::new("round_trip");
    for line in lines {
        directory.write("rsgi.toml", text(&format!("--print-config {line}"), &[]));
        assert_eq!(directory.config("", &[]), config(line), "{line}");
    }
}

#[test]
fn an_application_is_not_needed_to_print() {
    assert!(text("--print-config", &[]).contains("# app "));
}

#[test]
fn secrets_are_not_printed() {
    let password = text("--print-config --ssl-certfile c --ssl-keyfile-password hunter2 m:a", &[]);
    assert!(password.contains("ssl_keyfile_password = \"***\""), "{password}");
    assert!(!password.contains("hunter2"), "{password}");
    let text = text("--print-config -e PASSWORD=hunter2 -e DB=postgres://u:hunter2@h m:a", &[]);
    assert!(text.contains("env = [\"PASSWORD=***\", \"DB=***\"]"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(mistake("-e hunter2 m:a", &[]), "error: --env: expected `NAME=VALUE`, got `***`");
}

#[test]
fn completions_know_what_help_shows() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&format!("--completions {shell}"), &[]);
        for name in ["timeout-keep-alive", "no-access-log", "completions", "critical"] {
            assert!(script.contains(name), "{shell}: {name}");
        }
        assert!(!script.contains("worker-class"), "{shell}");
    }
    let message = "error: --completions: expected one of bash, zsh, fish, got `tcsh`";
    assert_eq!(mistake("--completions tcsh m:a", &[]), message);
}

#[test]
fn what_is_asked_of_the_command_cannot_be_set_elsewhere() {
    assert!(load_with("m:a", &[("RSGI_CHECK_CONFIG", "1"), ("RSGI_ENV", "production")]).is_ok());
    let keyword = [("chdir", rsgi_config::Value::Str("/".to_owned()))];
    let error = rsgi_config::from_keywords(keyword).expect_err("refused");
    assert_eq!(error.to_string(), "chdir: only the command `rsgi` takes it");
}
