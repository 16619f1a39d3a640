//! Mistakes in the form of the command line, and all mistakes together.

use rsgi_config::LoadError;

use crate::{load_with, mistake};

#[test]
fn each_mistake_has_its_message() {
    let table = [
        ("", "the application is missing: give `module:attribute`, such as `main:app`"),
        ("--hsot x m:a", "unknown option `--hsot`; did you mean --host?"),
        ("--wokers=4 m:a", "unknown option `--wokers`; did you mean --workers?"),
        ("--zzz m:a", "unknown option `--zzz`"),
        ("-q m:a", "unknown option `-q`"),
        ("-xyz m:a", "unknown option `-x`"),
        ("--host", "--host: a value is missing"),
        ("--host --port 1 m:a", "--host: a value is missing"),
        ("m:a -w", "--workers: a value is missing"),
        ("m:a --max-requests", "--limit-max-requests: a value is missing"),
        ("m:a --host a --host", "--host: a value is missing"),
        ("--no-access-log=1 m:a", "--no-access-log: it takes no value"),
        ("m:a n:b", "unexpected argument `n:b`: there is one application"),
        (
            "--threads 4 m:a",
            "--threads: there is one event loop per worker and no thread count; use --workers",
        ),
        ("--daemon m:a", "--daemon: rsgi stays in the foreground; use systemd or Docker"),
        ("-D m:a", "--daemon: rsgi stays in the foreground; use systemd or Docker"),
    ];
    for (line, message) in table {
        assert_eq!(mistake(line, &[]), format!("error: {message}"), "{line}");
    }
}

#[test]
fn what_is_only_refused_is_not_recommended() {
    assert_eq!(mistake("--thread 4 m:a", &[]), "error: unknown option `--thread`");
}

#[test]
fn an_option_that_is_part_of_another_value_is_not_taken_for_the_mistake() {
    assert_eq!(mistake("-kq -q m:a", &[]), "error: unknown option `-q`");
}

#[test]
fn a_file_for_the_access_log_gets_a_hint() {
    let lines = [
        "--access-log x.log main:app",
        "main:app --access-log x.log",
        "--access-log=x.log main:app",
    ];
    let hint = "--access-log: expected true or false, no file: --access-logfile names one";
    for line in lines {
        assert_eq!(mistake(line, &[]), format!("error: {hint}, got `x.log`"), "{line}");
    }
    let message = format!("error: {hint}, got `-`");
    assert_eq!(mistake("main:app --access-log -", &[]), message);
    assert_eq!(mistake("--access-log -", &[("RSGI_APP", "main:app")]), message);
}

#[test]
fn all_problems_of_all_sources_are_reported_together() {
    let line = "--hsot x --port 99999 --zzz --header nonsense --header bad main.py --uds";
    let variables =
        [("RSGI_LOG_LEVEL", "loud"), ("WEB_CONCURRENCY", "many"), ("RSGI_THREADS", "4")];
    let expected = "\
error: 9 problems with the settings
  --uds: a value is missing
  unknown option `--hsot`; did you mean --host?
  unknown option `--zzz`
  --port: expected a port: a whole number from 0 to 65535, got `99999`
  --header: expected `NAME:VALUE`, got `nonsense`
  --header: expected `NAME:VALUE`, got `bad`
  WEB_CONCURRENCY: expected a whole number from 1 to 1024, or auto, got `many`
  RSGI_LOG_LEVEL: expected one of critical, error, warning, info, debug, trace, got `loud`
  RSGI_THREADS: there is one event loop per worker and no thread count; use --workers";
    let mut expected: Vec<&str> = expected.lines().collect();
    let text = mistake(line, &variables);
    let mut lines: Vec<&str> = text.lines().collect();
    // in which order clap finds its own is not ours to promise
    expected.sort_unstable();
    lines.sort_unstable();
    assert_eq!(lines, expected);
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let status = |line| load_with(line, &[]).map_err(|error: LoadError| error.exit_status());
    assert_eq!(status("--port x m:a"), Err(2));
    assert_eq!(status("--help"), Err(0));
    assert_eq!(status("--version"), Err(0));
}
