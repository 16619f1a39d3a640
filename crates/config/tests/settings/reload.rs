//! `--reload` and what belongs to it, under the names of each server.

use std::path::PathBuf;
use std::time::Duration;

use rsgi_config::{ReloadOptions, Value, from_keywords};

use crate::{config, config_with, mistake, notices};

#[test]
fn nothing_is_watched_by_default() {
    assert_eq!(config("m:a").reload, ReloadOptions::default());
    assert!(!config("m:a --reload --no-reload").reload.is_on);
    assert!(config("m:a --reload").reload.is_on);
}

#[test]
fn the_names_of_every_server_mean_the_same() {
    let line = "m:a --reload --reload-dir src --reload-dir lib --reload-include *.html --reload-exclude data --reload-delay 0.5";
    let expected = ReloadOptions {
        is_on: true,
        directories: vec![PathBuf::from("src"), PathBuf::from("lib")],
        include: vec!["*.html".to_owned()],
        exclude: vec!["data".to_owned()],
        delay: Duration::from_millis(500),
        poll: None,
    };
    assert_eq!(config(line).reload, expected);
    let granian = "m:a --reload --reload-paths src --reload-paths lib --reload-include *.html --reload-ignore-dirs data --reload-delay 0.5";
    assert_eq!(config(granian).reload, expected);
    let gunicorn = "m:a --reload --reload-dir src --reload-dir lib --reload-extra-file *.html --reload-exclude data --reload-delay 0.5";
    assert_eq!(config(gunicorn).reload, expected);
    assert_eq!(notices(gunicorn, &[]), [""; 0]);
    let variables = [
        ("UVICORN_RELOAD", "true"),
        ("UVICORN_RELOAD_DIR", "src lib"),
        ("RSGI_RELOAD_INCLUDE", "*.html"),
        ("UVICORN_RELOAD_EXCLUDE", "data"),
        ("RSGI_RELOAD_DELAY", "500ms"),
    ];
    assert_eq!(config_with("m:a", &variables).reload, expected);
    let list = |values: &[&str]| Value::List(values.iter().map(ToString::to_string).collect());
    let keywords = [
        ("reload", Value::Bool(true)),
        ("reload_dirs", list(&["src", "lib"])),
        ("reload_includes", list(&["*.html"])),
        ("reload_excludes", Value::Str("data".to_owned())),
        ("reload_delay", Value::Float(0.5)),
    ];
    assert_eq!(from_keywords(keywords).unwrap().config.reload, expected);
}

#[test]
fn how_changes_are_noticed() {
    let poll = |line: &str, variables: &[(&str, &str)]| config_with(line, variables).reload.poll;
    assert_eq!(poll("m:a", &[]), None);
    assert_eq!(poll("m:a --reload-poll", &[]), Some(true));
    assert_eq!(poll("m:a --no-reload-poll", &[]), Some(false));
    assert_eq!(poll("m:a", &[("WATCHFILES_FORCE_POLLING", "true")]), Some(true));
    assert_eq!(poll("m:a", &[("WATCHFILES_FORCE_POLLING", "disable")]), Some(false));
    assert_eq!(poll("m:a", &[("RSGI_RELOAD_POLL", "auto")]), None);
    assert_eq!(poll("m:a --reload-engine poll", &[]), Some(true));
    assert_eq!(poll("m:a --reload-engine inotify", &[]), Some(false));
    assert_eq!(poll("m:a --reload-engine auto", &[]), None);
}

#[test]
fn what_means_something_else_is_said() {
    let expected = ["--reload-tick 50 has no effect: use --reload-delay, in seconds"];
    assert_eq!(notices("m:a --reload-tick 50", &[]), expected);
    let mistake = mistake("m:a --reload-delay 0 --reload-engine fast", &[]);
    assert!(mistake.contains("--reload-delay") && mistake.contains("--reload-engine"), "{mistake}");
}
