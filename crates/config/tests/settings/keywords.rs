//! Settings as keyword arguments of `rsgi.run()`.

use std::time::Duration;

use crate::support::Directory;
use rsgi_config::{
    BindAddr, Config, LoadError, LogLevel, Value, WorkerCount, from_keywords, from_keywords_of_run,
};

fn text(value: &str) -> Value {
    Value::Str(value.to_owned())
}

fn list(values: &[&str]) -> Value {
    Value::List(values.iter().map(|value| (*value).to_owned()).collect())
}

fn config(keywords: &[(&str, Value)]) -> Config {
    match from_keywords(keywords.iter().cloned()) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("{keywords:?}: {error}"),
    }
}

fn mistake(keywords: &[(&str, Value)]) -> String {
    match from_keywords(keywords.iter().cloned()) {
        Err(LoadError::Usage(text)) => text,
        other => panic!("{keywords:?}: {other:?}"),
    }
}

#[test]
fn nothing_is_the_default_and_the_application_may_be_missing() {
    assert_eq!(config(&[]), Config::default());
}

#[test]
fn every_python_type_is_read() {
    let config = config(&[
        ("app", text("main:app")),
        ("host", text("::")),
        ("port", Value::Int(9000)),
        ("workers", text("3")),
        ("access_log", Value::Bool(false)),
        ("factory", Value::Bool(true)),
        ("use_colors", Value::Bool(true)),
        ("log_level", Value::Int(10)),
        ("timeout_keep_alive", Value::Float(2.5)),
        ("graceful_timeout", Value::Int(7)),
        ("headers", list(&["a:1", "b:2"])),
        ("limit_request_head_size", text("16K")),
        ("limit_concurrency", Value::None),
        ("ws_ping_interval", Value::None),
    ]);
    assert_eq!(config.app.target.as_deref(), Some("main:app"));
    let address = BindAddr::Tcp { host: "::".to_owned(), port: 9000 };
    assert_eq!(config.bind.addresses, [address]);
    assert_eq!(config.workers.workers, WorkerCount::Exactly(3));
    assert!(!config.log.access_log);
    assert!(config.app.factory);
    assert_eq!(config.log.use_colors, Some(true));
    assert_eq!(config.log.level, LogLevel::Debug);
    assert_eq!(config.http.timeout_keep_alive, Duration::from_millis(2500));
    assert_eq!(config.workers.timeout_graceful_shutdown, Duration::from_secs(7));
    assert_eq!(config.http.headers.len(), 2);
    assert_eq!(config.http.limit_request_head_size, 16384);
    assert_eq!(config.http.limit_concurrency, None);
    assert_eq!(config.websocket.ws_ping_interval, None);
}

#[test]
fn permissions_as_a_number_are_the_bits_themselves() {
    for value in [Value::Int(0o660), text("660"), text("0o660")] {
        let config = config(&[("uds", text("/a")), ("uds_permissions", value)]);
        let [BindAddr::Unix { permissions, .. }] = config.bind.addresses.as_slice() else {
            panic!("{:?}", config.bind.addresses);
        };
        assert_eq!(*permissions, 0o660);
    }
}

#[test]
fn one_text_is_a_list_of_one() {
    assert_eq!(config(&[("bind", text(":1"))]), config(&[("bind", list(&[":1"]))]));
}

#[test]
fn values_of_the_wrong_type_are_refused() {
    let table = [
        ("workers", Value::Bool(true), "expected a number or text, got `True`"),
        (
            "workers",
            Value::Float(2.0),
            "expected a whole number from 1 to 1024, or auto, got `2.0`",
        ),
        ("workers", Value::Int(0), "expected a whole number from 1 to 1024, or auto, got `0`"),
        ("port", list(&["1", "2"]), "expected a number or text, got `[1, 2]`"),
        ("host", Value::Int(5), "expected text, got `5`"),
        ("app", Value::Bool(false), "expected text, got `False`"),
        ("access_log", Value::Float(1.0), "expected True or False, got `1.0`"),
        (
            "access_log",
            Value::Int(2),
            "expected true or false, no file: --access-logfile names one, got `2`",
        ),
        ("bind", Value::Int(80), "expected text or a list of texts, got `80`"),
        (
            "uds_permissions",
            Value::Bool(true),
            "expected permission bits, such as 0o660, got `True`",
        ),
        ("uds_permissions", Value::Int(660), "expected an octal mode from 0 to 777, got `1224`"),
        ("uds_permissions", Value::Int(-1), "expected permission bits, such as 0o660, got `-1`"),
        (
            "timeout_keep_alive",
            Value::Float(f64::NAN),
            "expected seconds, or a number with ms, s, m or h, got `NaN`",
        ),
        (
            "timeout_keep_alive",
            Value::Float(-1.0),
            "expected seconds, or a number with ms, s, m or h, got `-1.0`",
        ),
        (
            "threads",
            Value::Int(4),
            "there is one event loop per worker and no thread count; use --workers",
        ),
    ];
    for (name, value, message) in table {
        assert_eq!(mistake(&[(name, value)]), format!("{name}: {message}"));
    }
}

#[test]
fn unknown_names_get_the_nearest_known_one() {
    let table = [
        ("wokers", "unknown setting `wokers`; did you mean workers?"),
        (
            "timeout-keep-alive",
            "unknown setting `timeout-keep-alive`; did you mean timeout_keep_alive?",
        ),
        ("zzz", "unknown setting `zzz`"),
    ];
    for (name, message) in table {
        assert_eq!(mistake(&[(name, Value::None)]), message);
    }
}

#[test]
fn all_problems_are_reported_together() {
    let keywords = [("wokers", Value::Int(1)), ("port", text("x")), ("host", Value::Int(1))];
    assert!(mistake(&keywords).starts_with("3 problems with the settings\n  "));
}

#[test]
fn bind_excludes_host_whatever_comes_first() {
    let message = "host cannot be combined with bind: write host:port in bind";
    assert_eq!(mistake(&[("host", text("x")), ("bind", text(":1"))]), message);
    let keywords = [("uds", text("/a")), ("host", text("x")), ("bind", text(":1"))];
    assert_eq!(mistake(&keywords), message);
}

#[test]
fn settings_of_other_servers_are_accepted_with_a_notice() {
    let loaded = from_keywords([("loop", text("uvloop"))]).expect("accepted");
    let notice = "loop=uvloop has no effect: workers run rsgi's own event loop";
    assert_eq!(loaded.notices, [notice]);
}

#[test]
fn a_file_of_variables_has_the_number_of_processes_too() {
    let directory = Directory::new("concurrency");
    let file = "WEB_CONCURRENCY=3\nFORWARDED_ALLOW_IPS=10.0.0.1\n";
    directory.write("variables", file);
    let path = directory.path().join("variables");
    let path = path.to_str().expect("UTF-8");
    let app = ("app", text("main:app"));
    let env_file = ("env_file", text(path));
    let workers = |keywords: &[(&str, Value)]| {
        let loaded = from_keywords_of_run(keywords.iter().cloned()).expect("right");
        assert_eq!(loaded.config.proxy.allow_from.len(), 1);
        loaded.config.workers.workers
    };
    let one = WorkerCount::Exactly(1);
    assert_eq!(workers(&[app.clone(), env_file.clone()]), WorkerCount::Exactly(3));
    assert_eq!(
        workers(&[app.clone(), env_file.clone(), ("workers", Value::None)]),
        WorkerCount::Exactly(3)
    );
    assert_eq!(workers(&[app.clone(), env_file.clone(), ("workers", Value::Int(1))]), one);
    assert_eq!(
        workers(std::slice::from_ref(&env_file)),
        one,
        "an object cannot be in several processes"
    );
    let server = config(&[app, env_file]);
    assert_eq!(server.workers.workers, one, "a server of the program's own is one");
}
