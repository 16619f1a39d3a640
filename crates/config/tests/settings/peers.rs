//! Every option of the servers that users come from. The lists are what the servers themselves say.

use crate::support::count;
use crate::{load_with, mistake};

const LISTS: [(&str, &str); 4] = [
    ("uvicorn", include_str!("peers/uvicorn.txt")),
    ("gunicorn", include_str!("peers/gunicorn.txt")),
    ("granian", include_str!("peers/granian.txt")),
    ("hypercorn", include_str!("peers/hypercorn.txt")),
];

/// What two of them mean two things by: it is not guessed.
const AMBIGUOUS: &str = "-p";

fn options(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn every_option_of_every_peer_is_known() {
    let mut unknown = Vec::new();
    for (server, list) in LISTS {
        for option in options(list) {
            let line = option.replace("VALUE", "1");
            if line.starts_with(AMBIGUOUS) {
                let message = mistake(&format!("{line} m:a"), &[]);
                assert!(message.contains("`-p`; did you mean --pid or --port?"), "{message}");
                continue;
            }
            if let Err(error) = load_with(&format!("{line} m:a"), &[]) {
                let error = error.to_string();
                // its value may be wrong, its form must not
                let wrong = ["unknown option", "unexpected argument", "a value is missing"];
                if wrong.iter().any(|wrong| error.contains(wrong)) {
                    unknown.push(format!("{server} {line}: {error}"));
                }
            }
        }
    }
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn a_variable_of_uvicorn_sets_what_its_option_sets() {
    let values = ["1", "auto", "m:a", "/a", "127.0.0.1", "info", "off", "a:1", "65536", "17"];
    let mut checked = 0;
    for option in options(LISTS[0].1) {
        let (flag, takes_value) = match option.split_once(' ') {
            Some((flag, _)) => (flag, true),
            None => (option, false),
        };
        if flag == "--version" || flag.starts_with("--no-") {
            continue;
        }
        // there is no such file, and both must say so
        if flag == "--env-file" {
            assert_eq!(
                mistake("m:a", &[("UVICORN_ENV_FILE", "/no/such/file")])
                    .replace("UVICORN_ENV_FILE", flag),
                mistake("--env-file /no/such/file m:a", &[])
            );
            continue;
        }
        let name = format!("UVICORN_{}", flag.trim_start_matches("--").replace('-', "_"));
        let name = name.to_ascii_uppercase();
        // what others do not go without
        let beside = match flag {
            "--ssl-certfile" | "--ssl-ca-certs" => "",
            _ if flag.starts_with("--ssl-") => "--ssl-certfile=/c --ssl-ca-certs=/a ",
            _ => "",
        };
        let values: &[&str] = if takes_value { &values } else { &["true"] };
        let (value, by_flag) = values
            .iter()
            .find_map(|value| {
                let line = if takes_value { format!("{flag}={value}") } else { flag.to_owned() };
                Some((value, load_with(&format!("{beside}{line} m:a"), &[]).ok()?))
            })
            .unwrap_or_else(|| panic!("no value for {flag}"));
        let by_variable = load_with(&format!("{beside}m:a"), &[(&name, value)])
            .unwrap_or_else(|error| panic!("{name}={value}: {error}"));
        assert_eq!(by_variable.config, by_flag.config, "{name}={value}");
        assert_eq!(by_variable.notices.len(), by_flag.notices.len(), "{name}={value}");
        checked += 1;
    }
    assert!(checked > 30, "{checked}");
}

#[test]
fn a_variable_of_uvicorn_yields_to_one_of_ours_and_wins_over_a_well_known_one() {
    let uvicorn = ("UVICORN_WORKERS", "3");
    let workers = |variables: &[(&str, &str)]| {
        count(load_with("m:a", variables).expect("right").config.workers.workers)
    };
    assert_eq!(workers(&[uvicorn, ("RSGI_WORKERS", "2")]), 2);
    assert_eq!(workers(&[uvicorn, ("WEB_CONCURRENCY", "4")]), 3);
}

#[test]
fn a_variable_that_uvicorn_does_not_read_is_not_read_after_it() {
    let variables = [("UVICORN_THREADS", "4"), ("UVICORN_CONFIG", "/no/such/file")];
    let loaded = load_with("m:a", &variables).expect("they are somebody's own");
    assert_eq!(loaded, load_with("m:a", &[]).expect("right"));
}

#[test]
fn headers_in_a_variable_of_uvicorn_are_split_at_spaces() {
    let config = load_with("m:a", &[("UVICORN_HEADER", "a:1 b:2")]).expect("right").config;
    let expected =
        [("a", "1"), ("b", "2")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(config.http.headers, expected);
}

#[test]
fn a_switch_may_have_its_value_behind_it() {
    let deflate =
        |line: &str| load_with(line, &[]).expect("right").config.websocket.ws_per_message_deflate;
    assert!(!deflate("--ws-per-message-deflate false m:a"));
    assert!(!deflate("m:a --ws-per-message-deflate off"));
    assert!(deflate("--ws-per-message-deflate m:a"));
    let loaded = load_with("--ws-per-message-deflate t", &[]).expect("a module of one letter");
    assert_eq!(loaded.config.app.target.as_deref(), Some("t"));
}

#[test]
fn thread_counts_are_refused_unless_they_are_what_there_is() {
    for flag in
        ["--threads", "--blocking-threads", "--runtime-threads", "--runtime-blocking-threads"]
    {
        let reason = "there is one event loop per worker and no thread count; use --workers";
        assert_eq!(mistake(&format!("{flag} 2 m:a"), &[]), format!("error: {flag}: {reason}"));
        let loaded = load_with(&format!("{flag} 1 m:a"), &[]).expect("harmless");
        assert_eq!(loaded.notices, [format!("{flag} 1 has no effect: {reason}")]);
    }
}

#[test]
fn what_is_refused_can_be_off() {
    for variable in [("RSGI_DAEMON", "false"), ("RSGI_PROXY_PROTOCOL", "off")] {
        let loaded = load_with("m:a", &[variable]).expect("it asks for nothing");
        assert_eq!(loaded.notices, [""; 0], "{variable:?}");
    }
}

#[test]
fn commands_that_people_use_start_as_they_stand() {
    for line in [
        "--bind 0.0.0.0 -w 4 --access-logfile - --error-logfile - --timeout 600 app:app",
        "--workers 3 --worker-class uvicorn.workers.UvicornWorker --timeout 600 app:app",
        "app:app --host 0.0.0.0 --workers 5",
        "app:app --proxy-headers --forwarded-allow-ips=* --log-config log.ini --http h11",
        "-k uvicorn_worker.UvicornWorker -w 2 -t 120 -n name --worker-tmp-dir /dev/shm app:app",
        "--interface asgi --runtime-mode st --runtime-threads 1 --backpressure 100 app:app",
    ] {
        if let Err(error) = load_with(line, &[]) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn flags_of_gunicorn_in_its_own_variable_are_missed_aloud() {
    let notices = load_with("m:a", &[("GUNICORN_CMD_ARGS", "-w 4")]).expect("right").notices;
    assert_eq!(notices, ["GUNICORN_CMD_ARGS is not read: give its flags to the command"]);
}
