//! Every kind of value: what is read, and what is refused with which words.

use std::time::Duration;

use rsgi_config::{
    Account, ByteSize, Config, Lifespan, LogFile, LogLevel, MemoryLimit, WebSocketOptions,
    WorkerCount, Ws,
};

use crate::{config, config_with, mistake};

#[test]
fn websocket_settings_are_uvicorns() {
    let line = "--ws none --ws-max-size 1MiB --ws-max-queue 7 --ws-ping-interval 0.5 \
                --ws-ping-timeout none --no-ws-per-message-deflate m:a";
    let expected = WebSocketOptions {
        ws: Ws::None,
        ws_max_size: 1 << 20,
        ws_max_queue: 7,
        ws_ping_interval: Some(Duration::from_millis(500)),
        ws_ping_timeout: None,
        ws_per_message_deflate: false,
    };
    assert_eq!(config(line).websocket, expected);
    assert_eq!(config("--ws-ping-interval 0 m:a").websocket.ws_ping_interval, None);
    for word in ["auto", "websockets", "wsproto", "websockets-sansio"] {
        assert_eq!(config(&format!("--ws {word} m:a")).websocket, WebSocketOptions::default());
    }
}

#[test]
fn durations_are_seconds_or_have_a_unit() {
    let table = [
        ("0", Duration::ZERO),
        ("5", Duration::from_secs(5)),
        ("0.5", Duration::from_millis(500)),
        ("500ms", Duration::from_millis(500)),
        ("1.5s", Duration::from_millis(1500)),
        ("2m", Duration::from_secs(120)),
        ("1h", Duration::from_secs(3600)),
        ("8784h", Duration::from_secs(366 * 24 * 3600)),
    ];
    for (text, expected) in table {
        let config = config(&format!("--timeout-keep-alive {text} m:a"));
        assert_eq!(config.http.timeout_keep_alive, expected, "{text}");
    }
}

#[test]
fn streams_have_a_third_of_the_grace_unless_it_is_said() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let table = [
        ("", seconds(10)),
        ("--timeout-graceful-shutdown 60", seconds(20)),
        ("--timeout-stream-shutdown auto --timeout-graceful-shutdown 60", seconds(20)),
        ("--timeout-stream-shutdown 5 --timeout-graceful-shutdown 60", seconds(5)),
        ("--timeout-stream-shutdown 0", seconds(0)),
        ("--timeout-stream-shutdown none", None),
    ];
    for (line, expected) in table {
        let config = config(&format!("{line} m:a"));
        assert_eq!(config.workers.timeout_stream_shutdown, expected, "{line}");
    }
}

#[test]
fn users_and_groups_are_names_or_numbers() {
    let workers = config("-u www-data -g 33 --pid run/app.pid m:a").workers;
    assert_eq!(workers.user, Some(Account::Name("www-data".to_owned())));
    assert_eq!(workers.group, Some(Account::Id(33)));
    assert_eq!(workers.pid, Some("run/app.pid".into()));
}

#[test]
fn sizes_are_bytes_or_have_a_binary_unit() {
    let table = [
        ("0", 0),
        ("10B", 10),
        ("1k", 1 << 10),
        ("1KiB", 1 << 10),
        ("3M", 3 << 20),
        ("3mib", 3 << 20),
        ("2G", 2 << 30),
        ("2GiB", 2 << 30),
        ("7kB", 7_000),
        ("512MB", 512_000_000),
        ("3gb", 3_000_000_000),
    ];
    for (text, expected) in table {
        let config = config(&format!("--limit-request-body {text} m:a"));
        assert_eq!(config.http.limit_request_body, Some(expected), "{text}");
        assert_eq!(text.parse(), Ok(ByteSize(expected)), "{text}");
    }
}

#[test]
fn a_memory_limit_is_a_size_or_a_part() {
    let table = [
        ("16MiB", Some(MemoryLimit::Bytes(16 << 20))),
        ("512MB", Some(MemoryLimit::Bytes(512_000_000))),
        ("1%", Some(MemoryLimit::Percent(1))),
        ("100%", Some(MemoryLimit::Percent(100))),
        ("none", None),
    ];
    for (text, expected) in table {
        let config = config(&format!("--workers-max-rss {text} m:a"));
        assert_eq!(config.workers.workers_max_rss, expected, "{text}");
    }
}

#[test]
fn a_log_file_is_a_path_and_a_dash_the_standard_stream() {
    let log = config("--access-logfile a.log --error-logfile /var/e.log m:a").log;
    assert_eq!(log.access_logfile, Some(LogFile("a.log".into())));
    assert_eq!(log.error_logfile, Some(LogFile("/var/e.log".into())));
    assert_eq!(config("--access-logfile - --log-file - m:a").log, Config::default().log);
}

#[test]
fn the_jitter_of_max_requests_is_left_to_the_server_or_given() {
    for (text, expected) in [("auto", None), ("0", Some(0)), ("7", Some(7))] {
        let config = config(&format!("--max-requests-jitter {text} m:a"));
        assert_eq!(config.workers.limit_max_requests_jitter, expected, "{text}");
    }
}

#[test]
fn sizes_are_written_in_the_largest_unit_that_is_exact() {
    let table = [(0, "0"), (1000, "1000"), (1536, "1536"), (65536, "64KiB"), (3 << 20, "3MiB")];
    for (bytes, expected) in table {
        assert_eq!(ByteSize(bytes).to_string(), expected);
        assert_eq!(expected.parse(), Ok(ByteSize(bytes)));
    }
}

#[test]
fn switches_are_words_in_variables() {
    for (text, expected) in [("true", true), ("YES", true), ("on", true), ("1", true)]
        .into_iter()
        .chain([("false", false), ("No", false), ("off", false), ("0", false)])
    {
        let config = config_with("m:a", &[("RSGI_DATE_HEADER", text), ("RSGI_FACTORY", text)]);
        assert_eq!(config.http.date_header, expected, "{text}");
        assert_eq!(config.app.factory, expected, "{text}");
    }
}

#[test]
fn the_last_of_a_switch_and_its_opposite_counts() {
    assert!(!config("--access-log --no-access-log m:a").log.access_log);
    assert!(config("--no-access-log --access-log m:a").log.access_log);
    assert!(!config("--no-access-log --no-access-log m:a").log.access_log);
    assert!(!config("--access-log=false m:a").log.access_log);
    assert!(config("--access-log m:a").log.access_log);
}

#[test]
fn workers_can_be_left_to_the_server() {
    assert_eq!(config("--workers auto m:a").workers.workers, WorkerCount::Auto);
    assert_eq!(
        config_with("m:a", &[("WEB_CONCURRENCY", "Auto")]).workers.workers,
        WorkerCount::Auto
    );
}

#[test]
fn the_last_of_a_repeated_option_counts() {
    assert_eq!(config("-w 2 --workers 3 m:a").workers.workers, WorkerCount::Exactly(3));
}

#[test]
fn words_are_read_in_any_case() {
    let levels = ["critical", "ERROR", "Warning", "info", "debug", "TRACE"];
    for (text, expected) in levels.into_iter().zip(LogLevel::ALL) {
        assert_eq!(config(&format!("--log-level {text} m:a")).log.level, expected);
        assert_eq!(expected.python_number().to_string().parse(), Ok(expected));
        assert_eq!(expected.to_string().parse(), Ok(expected));
    }
    for (text, expected) in [("auto", Lifespan::Auto), ("ON", Lifespan::On), ("Off", Lifespan::Off)]
    {
        assert_eq!(config(&format!("--lifespan {text} m:a")).app.lifespan, expected);
        assert_eq!(expected.to_string().parse(), Ok(expected));
    }
}

#[test]
fn limits_can_be_lifted_with_none() {
    let line = "--limit-request-body none --limit-concurrency None --limit-max-requests none m:a";
    let variables = [
        ("RSGI_LIMIT_REQUEST_BODY", "1"),
        ("RSGI_LIMIT_CONCURRENCY", "1"),
        ("RSGI_LIMIT_MAX_REQUESTS", "1"),
    ];
    assert_eq!(config_with(line, &variables).http, Config::default().http);
    assert_eq!(config_with(line, &variables).workers, Config::default().workers);
}

#[test]
fn no_requests_at_all_is_no_limit_as_in_gunicorn() {
    assert_eq!(config("--max-requests 0 m:a").workers.limit_max_requests, None);
    assert_eq!(config("--max-requests 1 m:a").workers.limit_max_requests, Some(1));
}

#[test]
fn root_path_loses_its_last_slash() {
    for (text, expected) in [("/api", "/api"), ("/api/v1/", "/api/v1"), ("/", "")] {
        assert_eq!(config(&format!("--root-path {text} m:a")).app.root_path, expected);
    }
}

#[test]
fn headers_are_split_at_the_first_colon_and_trimmed() {
    let config = config("--header X-A:b:c --header=x-frame-options:DENY --header X-Empty: m:a");
    let expected = [("x-a", "b:c"), ("x-frame-options", "DENY"), ("x-empty", "")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(config.http.headers, expected);
}

#[test]
fn applications_are_dotted_names() {
    let good = ["m", "m:a", "p.m:a", "p.m:o.a", "m:make()", "_m1:größe", "m:a.b()"];
    for target in good {
        assert_eq!(config(target).app.target.as_deref(), Some(target));
    }
}

#[test]
fn what_is_no_application_is_refused_and_a_path_is_understood() {
    let table = [
        ("main.py", "`module:attribute` (did you mean `main:app`?)"),
        ("main.py:api", "`module:attribute` (did you mean `main:api`?)"),
        ("./main", "`module:attribute` (did you mean `main:app`?)"),
        ("./main.py:api", "`module:attribute` (did you mean `main:api`?)"),
        ("src/main.py", "`module:attribute` (did you mean `src.main:app`?)"),
        ("/srv/main.py", "`module:attribute` (did you mean `--app-dir /srv main:app`?)"),
        ("/main.py", "`module:attribute` (did you mean `--app-dir / main:app`?)"),
        ("../x/main:api", "`module:attribute` (did you mean `--app-dir ../x main:api`?)"),
        ("main:", "`module:attribute`, such as `main:app`"),
        (":app", "`module:attribute`, such as `main:app`"),
        ("main..x:app", "`module:attribute`, such as `main:app`"),
        ("my-app:app", "`module:attribute`, such as `main:app`"),
        ("main:a:b", "`module:attribute`, such as `main:app`"),
        ("main:make(1)", "`module:attribute`, such as `main:app`"),
        ("1main:app", "`module:attribute`, such as `main:app`"),
    ];
    for (target, expected) in table {
        let message = format!("error: APP: expected {expected}, got `{target}`");
        assert_eq!(mistake(target, &[]), message);
    }
}

#[test]
fn every_setting_says_what_it_allows() {
    let duration = "seconds, or a number with ms, s, m or h";
    let size = "a number of bytes, or one with KiB, MiB or GiB";
    let table: &[(&str, &[&str], &str)] = &[
        ("--timeout-keep-alive", &["x", "5d", "-1", "1.2.3", ".", "nan", "inf"], duration),
        ("--timeout-keep-alive", &["8785h", "999999999999999999999"], "a time of at most 366 days"),
        ("--timeout-graceful-shutdown", &["x"], duration),
        ("--pid", &["run/"], "the path of a file"),
        ("--user", &["4294967295", "12x", "a:b"], "a name or a number"),
        ("--group", &["1x"], "a name or a number"),
        (
            "--timeout-stream-shutdown",
            &["x"],
            "seconds, or a number with ms, s, m or h, or none, or auto",
        ),
        ("--timeout-request-header", &["x"], duration),
        ("--timeout-request-header", &["0", "0ms"], "more than 0 seconds"),
        ("--timeout-worker-startup", &["x"], duration),
        ("--timeout-worker-startup", &["0"], "more than 0 seconds"),
        ("--limit-request-head-size", &["x", "5X", "-1", "1.5K"], size),
        ("--limit-request-head-size", &["1023", "1G"], "a size from 1KiB to 16MiB"),
        ("--limit-request-head-size", &["99999999999G"], "a size below 16 EiB"),
        ("--limit-request-body", &["x"], "a number of bytes, or one with KiB, MiB or GiB, or none"),
        ("--limit-request-fields", &["0", "1025", "x"], "a whole number from 1 to 1024"),
        ("--on-start", &["m", "m:f()"], "`module:function`, such as `main:migrate`"),
        ("--on-start", &["m:", ":f"], "`module:attribute`, such as `main:app`"),
        ("--limit-concurrency", &["0", "-1"], "a whole number from 1 to 4294967295, or none"),
        ("--limit-max-requests", &["-1", "x"], "a whole number, at least 0, or none"),
        (
            "--workers",
            &["0", "-4", "+4", "1025", "2.0", "x"],
            "a whole number from 1 to 1024, or auto",
        ),
        ("--limit-max-requests-jitter", &["-1", "x"], "a whole number, at least 0, or auto"),
        (
            "--workers-max-rss",
            &["1", "15MiB", "0%", "101%", "%", "1.5%", "x"],
            "a size of at least 16MiB, such as 512MiB, or 1% to 100%, or none",
        ),
        ("--workers-lifetime", &["0", "0.9", "999ms"], "a time of at least 1 second, or none"),
        ("--backlog", &["0", "65536"], "a whole number from 1 to 65535"),
        ("--port", &["65536", "-1", "x"], "a port: a whole number from 0 to 65535"),
        ("--fd", &["-1", "x"], "the number of an open file descriptor"),
        ("--host", &["a/b", "x:80", "http://x"], "a host name or an IP address"),
        ("--uds-permissions", &["8", "1000", "x", "+7"], "an octal mode from 0 to 777"),
        ("--log-level", &["loud"], "one of critical, error, warning, info, debug, trace"),
        ("--lifespan", &["yes"], "one of auto, on, off"),
        ("--root-path", &["api", "/a?b"], "a path that starts with `/`, such as `/api`"),
        ("--header", &["x"], "`NAME:VALUE`"),
        ("--header", &[":x"], "a header name of letters, digits and `-` before the `:`"),
        ("--header", &["a:ü", "a:\u{7f}"], "a header value of printable ASCII characters"),
        (
            "--header",
            &["Content-Length:1"],
            "a header that the server does not write itself, unlike content-length",
        ),
        ("--loop", &["trio"], "one of auto, asyncio, uvloop, zuvloop, rloop, winloop"),
        ("--http", &["3", "h2"], "one of auto, 1, 2, h11, httptools, zttp"),
        ("--http-protocols", &["h3", "h1,"], "h1, h2 or both with a `,` between them"),
        ("--interface", &["asginl"], "one of auto, asgi3, asgi2, wsgi, asgi"),
        ("--wsgi-threads", &["0", "1001", "many"], "a whole number from 1 to 1000"),
        ("--ws", &["off"], "one of auto, none, websockets, websockets-sansio, wsproto"),
        ("--ws-max-size", &["0", "2GiB"], "a size from 125 to 1GiB"),
        ("--ws-max-queue", &["0", "65536"], "a whole number from 1 to 65535"),
        ("--ws-ping-interval", &["x"], "seconds, or a number with ms, s, m or h, or none"),
    ];
    for (flag, values, expected) in table {
        for value in *values {
            // a control character is not shown as it is
            let shown = value.replace('\u{7f}', "\u{fffd}");
            let message = format!("error: {flag}: expected {expected}, got `{shown}`");
            assert_eq!(mistake(&format!("{flag} {value} m:a"), &[]), message);
        }
    }
}

#[test]
fn switches_say_what_they_allow() {
    let table = [
        ("--factory", "true or false"),
        ("--server-header", "true or false"),
        ("--date-header", "true or false"),
        ("--access-log", "true or false, no file: --access-logfile names one"),
        ("--use-colors", "true, false or auto"),
    ];
    for (flag, expected) in table {
        let message = format!("error: {flag}: expected {expected}, got `maybe`");
        assert_eq!(mistake(&format!("{flag}=maybe m:a"), &[]), message);
    }
}

#[test]
fn configuration_survives_serialization() {
    let line = "-b unix:/a -b [::1]:1 --fd 3 --header a:b --timeout-keep-alive 1.5 -w 3 \
                --log-level trace --use-colors --limit-request-body 1G --lifespan on --factory m:a";
    let config = config(line);
    let text = serde_json::to_string(&config).expect("plain data");
    assert_eq!(serde_json::from_str::<Config>(&text).expect("what was written"), config);
}
