//! Whom `rsgi status` and `rsgi health` ask.

use std::ffi::OsString;
use std::time::Duration;

use rsgi_config::{BindAddr, HealthCheck, LoadError, Probe, load_health, load_status};

use crate::{config, config_with, mistake};

fn arguments(line: &str) -> impl Iterator<Item = OsString> {
    line.split_ascii_whitespace().map(OsString::from)
}

fn lookup<'a>(variables: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
    move |name| {
        let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
        Some(OsString::from(value))
    }
}

fn health(line: &str, variables: &[(&str, &str)]) -> Result<Probe<HealthCheck>, LoadError> {
    load_health(arguments(line), &lookup(variables))
}

/// Who is asked, in a word.
fn asked(line: &str, variables: &[(&str, &str)]) -> String {
    match health(line, variables).map(|probe| probe.target) {
        Ok(HealthCheck::Admin(address)) => format!("admin {address}"),
        Ok(HealthCheck::Server(address)) => format!("server {address}"),
        Ok(HealthCheck::Url { address, path }) => format!("url {address} {path}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_admin_address_is_a_port_or_a_path_and_off_by_default() {
    assert_eq!(config("main:app").bind.admin, None);
    for text in ["127.0.0.1:9000", "[::1]:9000", ":9000", "unix:/run/a.sock"] {
        let admin = config(&format!("--admin-bind {text} main:app")).bind.admin;
        let expected = text.strip_prefix(':').map_or(text.to_owned(), |p| format!("0.0.0.0:{p}"));
        assert_eq!(admin.map(|address| address.to_string()), Some(expected));
    }
    let from_environment = config_with("main:app", &[("RSGI_ADMIN_BIND", "unix:/a")]).bind.admin;
    let private = BindAddr::Unix { path: "/a".into(), permissions: 0o600 };
    assert_eq!(from_environment, Some(private));
    for text in ["fd://3", "127.0.0.1", "[::1]", "9000"] {
        let message = mistake(&format!("--admin-bind {text} main:app"), &[]);
        assert!(message.starts_with("error: --admin-bind: expected "), "{message}");
    }
}

#[test]
fn health_asks_the_admin_listener_where_one_is_known() {
    let set = [("RSGI_ADMIN_BIND", "127.0.0.1:9000"), ("PORT", "80")];
    assert_eq!(asked("", &set), "admin 127.0.0.1:9000");
    assert_eq!(asked("--admin 127.0.0.1:9001", &set), "admin 127.0.0.1:9001");
    assert_eq!(asked("--admin unix:/a", &[]), "admin unix:/a");
    // What is said on the spot is meant.
    assert_eq!(asked("--port 81", &set), "server 127.0.0.1:81");
    assert_eq!(asked("--url http://a/b", &set), "url a:80 /b");
}

#[test]
fn health_asks_where_a_server_with_this_environment_would_listen() {
    for (line, variables, expected) in [
        ("", &[][..], "server 127.0.0.1:8000"),
        ("", &[("PORT", "81")], "server 0.0.0.0:81"),
        ("", &[("RSGI_PORT", "82"), ("PORT", "81")], "server 127.0.0.1:82"),
        ("", &[("RSGI_BIND", "unix:/b 127.0.0.1:83")], "server unix:/b"),
        ("--uds /c", &[("PORT", "81")], "server unix:/c"),
        ("--bind [::1]:84", &[("RSGI_UDS", "/b")], "server [::1]:84"),
        ("--host ::1 --port 85", &[], "server [::1]:85"),
        ("", &[("RSGI_BIND", "https://a:86")], "server https://a:86"),
        // Kubernetes tells of a service named rsgi.
        ("", &[("RSGI_PORT", "tcp://10.0.0.1:80")], "server 127.0.0.1:8000"),
    ] {
        assert_eq!(asked(line, variables), expected, "{line} {variables:?}");
    }
}

#[test]
fn a_url_names_host_port_and_path() {
    for (url, expected) in [
        ("http://a", "url a:80 /"),
        ("http://a:81/b?c=d", "url a:81 /b?c=d"),
        ("http://[::1]/", "url [::1]:80 /"),
        ("http://a?b", "url a:80 /?b"),
    ] {
        assert_eq!(asked(&format!("--url {url}"), &[]), expected);
    }
    for url in
        ["a", "https://a/", "http://", "http:///b", "http://a/#b", "http://u@a/", "http://unix:/a"]
    {
        let message = asked(&format!("--url {url}"), &[]);
        assert!(message.starts_with("error: --url: expected `http://"), "{url}: {message}");
    }
}

#[test]
fn mistakes_end_with_the_commands_own_usage() {
    for line in ["--prot 1", "--port", "main:app", "--timeout 0", "--url http://a --admin :9"] {
        let message = asked(line, &[]);
        assert!(message.starts_with("error: "), "{message}");
        assert!(message.ends_with("\n\nusage: rsgi health [OPTIONS]\n"), "{message}");
    }
    let LoadError::Help(text) = health("--port x -h", &[]).unwrap_err() else {
        panic!("no help");
    };
    assert!(text.contains("Usage: rsgi health"));
}

#[test]
fn status_asks_the_admin_listener_only() {
    let status = |line, variables: &[(&str, &str)]| {
        let probe = load_status(arguments(line), &lookup(variables)).unwrap();
        (probe.target.map(|address| address.to_string()), probe.timeout)
    };
    let five = Duration::from_secs(5);
    assert_eq!(status("", &[("PORT", "nonsense")]), (None, five));
    let set = [("RSGI_ADMIN_BIND", ":9000")];
    assert_eq!(status("", &set), (Some("0.0.0.0:9000".to_owned()), five));
    let given = status("--admin unix:/a --timeout 100ms", &set);
    assert_eq!(given, (Some("unix:/a".to_owned()), Duration::from_millis(100)));
}
