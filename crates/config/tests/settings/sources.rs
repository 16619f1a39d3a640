//! Which source wins, and under which names a setting is known.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use rsgi_config::{Config, Surroundings, WorkerCount, load};

use crate::{config, config_with, mistake, notices};

#[test]
fn flag_wins_over_own_variable_over_known_variable_over_default() {
    let own = ("RSGI_WORKERS", "3");
    let known = ("WEB_CONCURRENCY", "2");
    let workers = |line, variables: &[(&str, &str)]| config_with(line, variables).workers.workers;
    assert_eq!(workers("-w 4 m:a", &[own, known]), WorkerCount::Exactly(4));
    assert_eq!(workers("m:a", &[known, own]), WorkerCount::Exactly(3));
    assert_eq!(workers("m:a", &[known]), WorkerCount::Exactly(2));
    assert_eq!(workers("m:a", &[]), WorkerCount::Exactly(1));
}

#[test]
fn application_is_found_in_its_variables() {
    let target = |line, variables: &[(&str, &str)]| config_with(line, variables).app.target;
    let own = ("RSGI_APP", "own:a");
    let known = ("UVICORN_APP", "known:a");
    assert_eq!(target("m:a", &[own, known]).as_deref(), Some("m:a"));
    assert_eq!(target("", &[own, known]).as_deref(), Some("own:a"));
    assert_eq!(target("", &[known]).as_deref(), Some("known:a"));
}

#[test]
fn colors_follow_the_variables_other_programs_know() {
    type Variables = &'static [(&'static str, &'static str)];
    let table: [(&str, Variables, Option<bool>); 7] = [
        ("m:a", &[], None),
        ("m:a", &[("NO_COLOR", "1")], Some(false)),
        ("m:a", &[("NO_COLOR", "")], None),
        ("m:a", &[("FORCE_COLOR", "1")], Some(true)),
        ("m:a", &[("NO_COLOR", "1"), ("FORCE_COLOR", "1")], Some(false)),
        ("m:a", &[("NO_COLOR", "1"), ("RSGI_USE_COLORS", "auto")], None),
        ("--use-colors m:a", &[("NO_COLOR", "1")], Some(true)),
    ];
    for (line, variables, expected) in table {
        let config = config_with(line, variables);
        assert_eq!(config.log.use_colors, expected, "{line} {variables:?}");
    }
    assert_eq!(config("--no-use-colors m:a").log.use_colors, Some(false));
}

#[test]
fn empty_variables_are_not_set() {
    let variables =
        [("RSGI_PORT", ""), ("RSGI_WORKERS", ""), ("WEB_CONCURRENCY", "2"), ("PORT", "")];
    let config = config_with("m:a", &variables);
    assert_eq!(config.bind, Config::default().bind);
    assert_eq!(config.workers.workers, WorkerCount::Exactly(2));
}

#[test]
fn lists_in_variables_are_split() {
    let variables = [("RSGI_BIND", ":1, :2 :3"), ("RSGI_HEADER", "a: 1, 2\n b: 3\n")];
    let config = config_with("m:a", &variables);
    let ports: Vec<String> = config.bind.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3"]);
    let headers = [("a".to_owned(), "1, 2".to_owned()), ("b".to_owned(), "3".to_owned())];
    assert_eq!(config.http.headers, headers);
}

#[test]
fn flag_of_a_list_replaces_its_variable() {
    let config = config_with("--header a:1 m:a", &[("RSGI_HEADER", "b:2")]);
    assert_eq!(config.http.headers, [("a".to_owned(), "1".to_owned())]);
}

#[test]
fn variables_are_named_in_what_is_wrong_with_them() {
    let table = [
        ("RSGI_TIMEOUT_KEEP_ALIVE", "x", "seconds, or a number with ms, s, m or h"),
        ("WEB_CONCURRENCY", "many", "a whole number from 1 to 1024, or auto"),
        ("RSGI_ACCESS_LOG", "-", "true or false, no file: --access-logfile names one"),
    ];
    for (name, value, expected) in table {
        let message = format!("error: {name}: expected {expected}, got `{value}`");
        assert_eq!(mistake("m:a", &[(name, value)]), message);
    }
}

#[test]
fn a_variable_that_is_overridden_is_not_judged() {
    assert_eq!(
        config_with("-w 2 m:a", &[("RSGI_WORKERS", "bad")]).workers.workers,
        WorkerCount::Exactly(2)
    );
}

#[test]
fn aliases_are_the_same_setting() {
    let table = [
        ("--url-path-prefix /x", "--root-path /x"),
        ("--graceful-timeout 7", "--timeout-graceful-shutdown 7"),
        ("--workers-kill-timeout 7", "--timeout-graceful-shutdown 7"),
        ("--max-requests 7", "--limit-max-requests 7"),
        ("--max-requests-jitter 7", "--limit-max-requests-jitter 7"),
        ("--keep-alive 7", "--timeout-keep-alive 7"),
        ("--h11-max-incomplete-event-size 9999", "--limit-request-head-size 9999"),
        ("--http1-buffer-size 9999", "--limit-request-head-size 9999"),
        ("--headers a:b", "--header a:b"),
        ("--http-protocols h1", "--http 1"),
        ("--http-protocols h2", "--http 2"),
        ("-b :7", "--bind :7"),
        ("-w 7", "--workers 7"),
        ("-w7", "--workers=7"),
    ];
    for (alias, canonical) in table {
        let expected = config(&format!("{canonical} m:a"));
        assert_ne!(expected, config("m:a"), "{canonical}");
        assert_eq!(config(&format!("{alias} m:a")), expected, "{alias}");
    }
}

#[test]
fn settings_of_other_servers_are_accepted_with_a_notice() {
    let table = [
        ("-k gthread", "--worker-class gthread has no effect: there is one kind of worker"),
        ("--loop uvloop", "--loop uvloop has no effect: workers run rsgi's own event loop"),
        ("--http h11", "--http h11 has no effect: there is one HTTP implementation"),
        ("--ws wsproto", "--ws wsproto has no effect: there is one WebSocket implementation"),
    ];
    for (flag, notice) in table {
        assert_eq!(notices(&format!("{flag} m:a"), &[]), [notice]);
    }
    let notice = "RSGI_LOOP=uvloop has no effect: workers run rsgi's own event loop";
    assert_eq!(notices("m:a", &[("RSGI_LOOP", "uvloop")]), [notice]);
}

#[test]
fn settings_of_other_servers_that_ask_for_nothing_get_no_notice() {
    let line = "--loop auto --http auto --http 1 --http 2 --ws auto --interface auto m:a";
    assert_eq!(notices(line, &[]), [""; 0]);
}

#[test]
fn the_application_may_stand_anywhere() {
    for line in
        ["m:a -w 2 --factory", "-w 2 m:a --factory", "-w 2 --factory m:a", "-w 2 --factory -- m:a"]
    {
        let config = config(line);
        assert_eq!(config.app.target.as_deref(), Some("m:a"), "{line}");
        assert!(config.app.factory, "{line}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let bad = || OsString::from_vec(b"\xff".to_vec());
    let arguments = ["--app-dir".into(), bad(), "m:a".into()];
    let surroundings = Surroundings {
        variables: [("RSGI_HOST".into(), bad()), ("RSGI_ENV_FILE".into(), bad())].into(),
        directory: "/no/such/directory".into(),
        python: Vec::new(),
    };
    let error = load(arguments, &surroundings).expect_err("not UTF-8");
    let expected = "error: 3 problems with the settings\n  \
                    --app-dir: expected UTF-8, got `\u{fffd}`\n  \
                    RSGI_ENV_FILE: expected UTF-8\n  RSGI_HOST: expected UTF-8\n";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn a_variable_with_a_slip_is_told_and_one_of_somebody_else_is_not() {
    let table = [
        ("RSGI_POTR", Some("RSGI_POTR has no effect; did you mean RSGI_PORT?")),
        ("RSGI_WORKES", Some("RSGI_WORKES has no effect; did you mean RSGI_WORKERS?")),
        ("RSGI_PORT_8000_TCP", None),
        ("RSGI_SERVICE_HOST", None),
        ("RSGI_SERVICE_PORT", None),
        ("RSGI_WORKER_INDEX", None),
        ("RSGI_TEST_DOCKER_FULL", None),
        ("RSGI_ABC", None),
        ("OTHER_POTR", None),
    ];
    for (name, expected) in table {
        let told = notices("m:a", &[(name, "1")]);
        assert_eq!(told, Vec::from_iter(expected.map(str::to_owned)), "{name}");
    }
}
