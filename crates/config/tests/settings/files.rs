//! Settings in files.

use std::ffi::OsString;
use std::path::PathBuf;

use rsgi_config::{BindAddr, LoadError, load};

use crate::support::{Directory, count, mistakes_in};

fn tcp(host: &str, port: u16) -> BindAddr {
    BindAddr::Tcp { host: host.to_owned(), port }
}

#[test]
fn each_source_wins_over_the_ones_below_it() {
    let directory = Directory::new("precedence");
    let workers =
        |line, variables: &[(&str, &str)]| count(directory.config(line, variables).workers.workers);
    assert_eq!(workers("m:a", &[]), 1);
    directory.write("rsgi.toml", "workers = 2");
    assert_eq!(workers("m:a", &[]), 2);
    directory.write("pyproject.toml", "[tool.rsgi]\nworkers = 3");
    assert_eq!(workers("m:a", &[]), 3);
    let known = ("WEB_CONCURRENCY", "4");
    assert_eq!(workers("m:a", &[known]), 4);
    let own = ("RSGI_WORKERS", "5");
    assert_eq!(workers("m:a", &[known, own]), 5);
    assert_eq!(workers("-w 6 m:a", &[known, own]), 6);
}

#[test]
fn every_type_of_toml_is_read() {
    let directory = Directory::new("types");
    let text = r#"
app = "main:app"
factory = true
bind = [":1", "unix:/a"]
uds_permissions = 0o660
timeout_keep_alive = 2.5
timeout_graceful_shutdown = "1m"
limit_request_head_size = "16K"
access_log = false
max_requests = 1_000
header = "a: 1"
"#;
    directory.write("rsgi.toml", text);
    let config = directory.config("", &[]);
    let unix = BindAddr::Unix { path: PathBuf::from("/a"), permissions: 0o660 };
    assert_eq!(config.bind.addresses, [tcp("0.0.0.0", 1), unix]);
    assert_eq!(config.app.target.as_deref(), Some("main:app"));
    assert!(config.app.factory);
    assert!(!config.log.access_log);
    assert_eq!(config.http.timeout_keep_alive.as_millis(), 2500);
    assert_eq!(config.workers.timeout_graceful_shutdown.as_secs(), 60);
    assert_eq!(config.http.limit_request_head_size, 16384);
    assert_eq!(config.workers.limit_max_requests, Some(1000));
    assert_eq!(config.http.headers, [("a".to_owned(), "1".to_owned())]);
}

#[test]
fn problems_of_all_sources_are_reported_together_with_their_places() {
    let directory = Directory::new("problems");
    directory.write(
        "rsgi.toml",
        "# settings\nwokers = 2\nport = \"x\"\naccess_log = 3\ntimeout-keep-alive = 5\n\
         workers = [1]\nmax_requests = 1\nlimit_max_requests = 1\nconfig = 'x'\nlog_level = 1979-05-27\nfactory = 1.5",
    );
    directory.write("pyproject.toml", "[project]\nname = 'x'\n\n[tool.rsgi]\nlifespan = 'maybe'");
    directory.write("variables", "GOOD=1\nbad line\n");
    let line = "--env-file variables --hsot x --backlog 0 m:a";
    let mut mistakes = directory.mistakes(line, &[("RSGI_ROOT_PATH", "x")]);
    mistakes.sort_unstable();
    let expected = [
        "--backlog: expected a whole number from 1 to 65535, got `0`",
        "RSGI_ROOT_PATH: expected a path that starts with `/`, such as `/api`, got `x`",
        "pyproject.toml:5 lifespan: expected one of auto, on, off, got `maybe`",
        "rsgi.toml:10 log_level: expected text, a number or a list, got `datetime`",
        "rsgi.toml:11 factory: expected true or false, got `1.5`",
        "rsgi.toml:2: unknown setting `wokers`; did you mean workers?",
        "rsgi.toml:3 port: expected a port: a whole number from 0 to 65535, got `x`",
        "rsgi.toml:4 access_log: expected true or false, no file: --access-logfile names one, got `3`",
        "rsgi.toml:5: unknown setting `timeout-keep-alive`; did you mean timeout_keep_alive?",
        "rsgi.toml:6 workers: expected a list of texts, got `[integer]`",
        "rsgi.toml:8 limit_max_requests: already set by rsgi.toml:7 max_requests",
        "rsgi.toml:9: unknown setting `config`; did you mean log_config?",
        "unknown option `--hsot`; did you mean --host?",
        "variables:2: expected `NAME=value`, with quotes around a value that has spaces",
    ];
    assert_eq!(mistakes, expected);
}

#[test]
fn text_that_is_not_toml_is_told_with_its_line() {
    let directory = Directory::new("not_toml");
    directory.write("rsgi.toml", "workers = 2\nport = = 3\n");
    let mistakes = directory.mistakes("m:a", &[]);
    assert!(mistakes[0].starts_with("rsgi.toml:2: not TOML: "), "{mistakes:?}");
    directory.write("rsgi.toml", b"port = \xff");
    assert_eq!(directory.mistakes("m:a", &[]), ["rsgi.toml: expected UTF-8"]);
}

#[test]
fn a_named_file_is_read_instead_of_those_in_the_directory() {
    let directory = Directory::new("named");
    directory.write("rsgi.toml", "workers = 2\nbacklog = 9");
    directory.write("other.toml", "workers = 3");
    directory.write("pyproject.toml", "[tool.rsgi]\nworkers = 4");
    let loaded = |line, variables: &[(&str, &str)]| {
        let config = directory.config(line, variables);
        (count(config.workers.workers), config.bind.backlog)
    };
    assert_eq!(loaded("-c other.toml m:a", &[]), (3, 2048));
    assert_eq!(loaded("--config file:other.toml m:a", &[]), (3, 2048));
    assert_eq!(loaded("m:a", &[("RSGI_CONFIG", "other.toml")]), (3, 2048));
    assert_eq!(loaded("-c pyproject.toml m:a", &[]), (4, 2048));
    assert_eq!(loaded("m:a", &[]), (4, 9));
    let message = "--config: cannot read `none.toml`: No such file or directory (os error 2)";
    assert_eq!(directory.mistakes("-c none.toml m:a", &[]), [message]);
}

#[test]
fn other_tables_of_a_project_are_not_ours() {
    let directory = Directory::new("project");
    directory.write("pyproject.toml", "[tool.ruff]\nline-length = 100\n[project]\nworkers = 7");
    assert_eq!(directory.config("m:a", &[]), crate::config("m:a"));
    directory.write("pyproject.toml", "[tool]\nrsgi = 3");
    assert_eq!(directory.mistakes("m:a", &[]), ["pyproject.toml:2 tool.rsgi: expected a table"]);
}

#[test]
fn addresses_of_a_higher_source_replace_those_of_a_file() {
    let directory = Directory::new("addresses");
    let addresses =
        |line, variables: &[(&str, &str)]| directory.config(line, variables).bind.addresses;
    directory.write("rsgi.toml", "bind = ':1'");
    assert_eq!(addresses("m:a", &[]), [tcp("0.0.0.0", 1)]);
    assert_eq!(addresses("--port 2 m:a", &[]), [tcp("127.0.0.1", 2)]);
    assert_eq!(addresses("m:a", &[("PORT", "3")]), [tcp("0.0.0.0", 3)]);
    directory.write("rsgi.toml", "host = '127.0.0.2'\nport = 1");
    assert_eq!(addresses("m:a", &[("PORT", "3")]), [tcp("127.0.0.2", 3)]);
    assert_eq!(addresses("--port 4 m:a", &[]), [tcp("127.0.0.2", 4)]);
    directory.write("pyproject.toml", "[tool.rsgi]\nuds = '/a'");
    assert!(matches!(addresses("m:a", &[])[..], [BindAddr::Unix { .. }]));
}

#[test]
fn variables_of_a_file_are_for_workers_and_settings_and_do_not_replace_any() {
    let directory = Directory::new("env_file");
    directory.write(
        ".env",
        "# ours\nexport RSGI_WORKERS=3\nSET=file\nNEW='a b'\nTWICE=1\nTWICE=2\nRSGI_HOST=\n",
    );
    directory.write("second", "NEW=second\nMORE=1");
    let variables = [("SET", "already"), ("WEB_CONCURRENCY", "9")];
    let expected = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect::<Vec<_>>()
    };
    let mut first =
        expected(&[("RSGI_WORKERS", "3"), ("NEW", "a b"), ("TWICE", "2"), ("RSGI_HOST", "")]);
    let load = |line, variables: &[(&str, &str)]| {
        let loaded = directory.load(line, variables).expect("right");
        let mut environment = loaded.launch.environment;
        environment.sort();
        (count(loaded.config.workers.workers), environment)
    };
    first.sort();
    let mut both = expected(&[("MORE", "1")]);
    both.extend(first.clone());
    both.sort();
    assert_eq!(load("--env-file .env m:a", &variables), (3, first.clone()));
    assert_eq!(load("--env-file .env --env-file second m:a", &variables), (3, both));
    let by_variable = [("SET", "x"), ("UVICORN_ENV_FILE", ".env")];
    assert_eq!(load("m:a", &by_variable), (3, first.clone()));
    directory.write("rsgi.toml", "env_file = '.env'");
    assert_eq!(load("m:a", &variables), (3, first));
}

#[test]
fn files_are_read_again_by_another_call() {
    let directory = Directory::new("again");
    let surroundings = directory.surroundings(&[]);
    let workers = || {
        let line = ["--env-file", ".env", "m:a"].map(OsString::from);
        count(load(line, &surroundings).expect("right").config.workers.workers)
    };
    directory.write(".env", "RSGI_WORKERS=2");
    assert_eq!(workers(), 2);
    directory.write(".env", "RSGI_WORKERS=3");
    assert_eq!(workers(), 3);
}

#[test]
fn a_line_of_a_file_with_variables_is_never_shown() {
    let directory = Directory::new("secret_line");
    directory.write(".env", "PASSWORD=hunter 2\n");
    let mistakes = directory.mistakes("--env-file .env m:a", &[]);
    assert!(mistakes[0].starts_with(".env:1: expected"), "{mistakes:?}");
    assert!(!mistakes[0].contains("hunter"), "{mistakes:?}");
}

#[test]
fn variables_and_paths_for_the_workers_are_absolute_and_in_order() {
    let directory = Directory::new("launch");
    directory.write(".env", "A=file\nB=file\n");
    let line = "--env-file .env -e A=flag --chdir sub --pythonpath lib,/x m:a";
    let launch = directory.load(line, &[("PYTHONPATH", "/old")]).expect("right").launch;
    assert_eq!(launch.directory, Some(directory.path().join("sub")));
    let mut environment = std::collections::BTreeMap::new();
    environment.extend(launch.environment);
    let variable =
        |name: &str| environment[&OsString::from(name)].to_str().expect("UTF-8").to_owned();
    assert_eq!(variable("A"), "flag");
    assert_eq!(variable("B"), "file");
    let path = directory.path().display();
    assert_eq!(variable("PYTHONPATH"), format!("{path}/lib:/x:/old"));
}

#[test]
fn gunicorns_names_are_read_and_the_rest_is_told_in_one_line() {
    let directory = Directory::new("gunicorn");
    let answer = r#"{"settings": {
        "workers": [5, 3], "bind": ["0.0.0.0:1,[::]:2", 4], "keepalive": [75, 5], "loglevel": ["debug", 6],
        "worker_class": ["x.Y", 7], "threads": [4, 8], "post_fork": [{"type": "function"}, 9],
        "reload": [false, 10], "pidfile": [null, 11], "dirty_apps": [[], 12], "umask": [0, 16],
        "host": ["::1", 13], "port": ["x", 14], "cores": [2, 15]
    }}"#;
    let loaded = directory.load_answer(answer).expect("right");
    assert_eq!(count(loaded.config.workers.workers), 5);
    assert_eq!(loaded.config.bind.addresses, [tcp("0.0.0.0", 1), tcp("::", 2)]);
    assert_eq!(loaded.config.http.timeout_keep_alive.as_secs(), 75);
    assert_eq!(loaded.config.log.level, rsgi_config::LogLevel::Debug);
    assert_eq!(loaded.notices, ["conf.py: no effect here: post_fork, threads, worker_class"]);
}

#[test]
fn problems_in_a_python_file_have_their_places() {
    let directory = Directory::new("gunicorn_problems");
    let mistakes = |answer| match directory.load_answer(answer) {
        Err(LoadError::Usage(text)) => mistakes_in(&text),
        other => panic!("{answer}: {other:?}"),
    };
    let table = [
        (
            r#"{"settings": {"workers": ["many", 3], "keepalive": [{"type": "function"}, 4]}}"#,
            &[
                "conf.py:4 keepalive: expected text, a number or a list, got `function`",
                "conf.py:3 workers: expected a whole number from 1 to 1024, or auto, got `many`",
            ][..],
        ),
        (r#"{"error": "reading it failed"}"#, &["conf.py: reading it failed"]),
        ("", &["conf.py: reading it ended with exit status: 0"]),
    ];
    for (answer, expected) in table {
        assert_eq!(mistakes(answer), expected, "{answer}");
    }
    let message = "x.py: a Python file can only be read by the command `rsgi`";
    assert_eq!(directory.mistakes("-c x.py m:a", &[]), [message]);
}
