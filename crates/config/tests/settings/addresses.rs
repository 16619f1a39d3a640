//! Where to listen.

use std::path::PathBuf;

use rsgi_config::{BindAddr, ParseError};

use crate::{config, config_with, load_with, mistake, notices};

fn tcp(host: &str, port: u16) -> BindAddr {
    BindAddr::Tcp { host: host.to_owned(), port }
}

fn tls(address: BindAddr) -> BindAddr {
    BindAddr::Tls(Box::new(address))
}

fn unix(path: &str, permissions: u32) -> BindAddr {
    BindAddr::Unix { path: PathBuf::from(path), permissions }
}

#[test]
fn every_form_of_an_address_is_read_and_written() {
    let table = [
        ("127.0.0.1:80", tcp("127.0.0.1", 80), "127.0.0.1:80"),
        ("localhost:0", tcp("localhost", 0), "localhost:0"),
        ("my_service", tcp("my_service", 8000), "my_service:8000"),
        ("example.org", tcp("example.org", 8000), "example.org:8000"),
        (":9000", tcp("0.0.0.0", 9000), "0.0.0.0:9000"),
        ("[::1]:80", tcp("::1", 80), "[::1]:80"),
        ("[::]", tcp("::", 8000), "[::]:8000"),
        ("[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
        ("unix:/run/x.sock", unix("/run/x.sock", 0o666), "unix:/run/x.sock"),
        ("unix:///run/x.sock", unix("/run/x.sock", 0o666), "unix:/run/x.sock"),
        ("unix:x.sock", unix("x.sock", 0o666), "unix:x.sock"),
        ("fd://3", BindAddr::Fd(3), "fd://3"),
        ("http://x:81", tcp("x", 81), "x:81"),
        ("http+unix:/run/x.sock", unix("/run/x.sock", 0o666), "unix:/run/x.sock"),
        ("https://[::1]:8443/", tls(tcp("::1", 8443)), "https://[::1]:8443"),
        ("https://x", tls(tcp("x", 443)), "https://x:443"),
        ("https+unix:x.sock", tls(unix("x.sock", 0o666)), "https+unix:x.sock"),
        ("https+fd://3", tls(BindAddr::Fd(3)), "https+fd://3"),
    ];
    for (text, expected, written) in table {
        let address: Result<BindAddr, ParseError> = text.parse();
        assert_eq!(address, Ok(expected.clone()), "{text}");
        assert_eq!(expected.to_string(), written);
        assert_eq!(written.parse(), Ok(expected), "{written}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_the_reason() {
    let forms = "expected `host:port`, `[v6]:port`, `unix:path` or `fd://N`";
    let port = "expected a port: a whole number from 0 to 65535";
    let host = "expected a host name or an IP address";
    let long = format!("unix:/{}", "x".repeat(107));
    let table = [
        ("", forms),
        (":", forms),
        ("[::1", forms),
        ("[::1]80", forms),
        ("[nonsense]:80", "expected an IPv6 address between the brackets"),
        ("[x%y]:80", host),
        ("::1", "expected an IPv6 address in brackets, such as `[::1]:8000`"),
        ("::1:80", "expected an IPv6 address in brackets, such as `[::1]:8000`"),
        ("ftp://x", port),
        ("http://x/y", host),
        ("https://", forms),
        ("https+x:1", host),
        ("x:65536", port),
        ("x:", port),
        ("x:-1", port),
        ("x:+1", port),
        ("a/b:80", host),
        ("a b:80", host),
        ("8000", "expected an address (did you mean `:8000`?)"),
        ("unix:", "expected the path of a socket"),
        (&long, "expected the path of a socket, at most 107 bytes long"),
        ("fd://", "expected the number of an open file descriptor"),
        ("fd://-1", "expected the number of an open file descriptor"),
    ];
    for (text, message) in table {
        let error = text.parse::<BindAddr>().expect_err(text);
        assert_eq!(error.to_string(), message, "{text}");
    }
}

#[test]
fn nothing_given_is_one_local_port() {
    assert_eq!(config("m:a").bind.addresses, [tcp("127.0.0.1", 8000)]);
}

#[test]
fn host_and_port_make_one_address() {
    let table = [
        ("--host ::1 m:a", tcp("::1", 8000)),
        ("--host [::1] m:a", tcp("::1", 8000)),
        ("--host 0.0.0.0 --port 80 m:a", tcp("0.0.0.0", 80)),
        ("--port 0 m:a", tcp("127.0.0.1", 0)),
    ];
    for (line, expected) in table {
        assert_eq!(config(line).bind.addresses, [expected], "{line}");
    }
}

#[test]
fn binds_add_up_in_their_order_with_the_socket_and_the_descriptor_last() {
    let line = "-b 0.0.0.0:80 --fd 4 --uds /a --bind [::]:80 m:a";
    let expected = [tcp("0.0.0.0", 80), tcp("::", 80), unix("/a", 0o666), BindAddr::Fd(4)];
    assert_eq!(config(line).bind.addresses, expected);
}

#[test]
fn permissions_hold_for_every_unix_socket() {
    let expected = [unix("/a", 0o660), unix("/b", 0o660)];
    for mode in ["660", "0660", "0o660"] {
        let line = format!("-b unix:/a --uds /b --uds-permissions {mode} m:a");
        assert_eq!(config(&line).bind.addresses, expected, "{mode}");
    }
}

#[test]
fn bind_excludes_host_and_port() {
    assert_eq!(
        mistake("-b :80 --host x --port 1 m:a", &[]),
        "error: 2 problems with the settings\n  \
         --host cannot be combined with --bind: write host:port in --bind\n  \
         --port cannot be combined with --bind: write host:port in --bind"
    );
}

#[test]
fn bind_excludes_host_also_beside_a_unix_socket() {
    assert_eq!(
        mistake("--uds /a -b :80 --host x m:a", &[]),
        "error: --host cannot be combined with --bind: write host:port in --bind"
    );
}

#[test]
fn host_beside_a_unix_socket_has_no_effect() {
    let line = "--uds /a --host 0.0.0.0 m:a";
    assert_eq!(config(line).bind.addresses, [unix("/a", 0o666)]);
    assert_eq!(notices(line, &[]), ["--host has no effect beside --uds"]);
}

#[test]
fn an_address_on_the_command_line_replaces_those_of_the_environment() {
    let table = [
        ("--port 9 m:a", ("RSGI_BIND", ":80"), tcp("127.0.0.1", 9)),
        ("-b :9 m:a", ("RSGI_HOST", "x"), tcp("0.0.0.0", 9)),
        ("-b :9 m:a", ("RSGI_UDS", "/a"), tcp("0.0.0.0", 9)),
        ("--uds /a m:a", ("RSGI_FD", "3"), unix("/a", 0o666)),
        ("--port 9 m:a", ("PORT", "1"), tcp("127.0.0.1", 9)),
        // two parts of one address
        ("--port 9 m:a", ("RSGI_HOST", "x"), tcp("x", 9)),
    ];
    for (line, variable, expected) in table {
        let config = config_with(line, &[variable]);
        assert_eq!(config.bind.addresses, [expected], "{line} {variable:?}");
        assert_eq!(notices(line, &[variable]), [""; 0], "{line} {variable:?}");
    }
}

#[test]
fn port_of_the_platform_binds_every_address() {
    let variables = [("PORT", "5000")];
    assert_eq!(config_with("m:a", &variables).bind.addresses, [tcp("0.0.0.0", 5000)]);
    let loaded = load_with("m:a", &variables).unwrap();
    assert_eq!(loaded.remark.as_deref(), Some("Listening on 0.0.0.0:5000 because PORT is set"));
    assert_eq!(loaded.notices, [""; 0], "it is as it should be");
}

#[test]
fn port_of_the_platform_is_not_asked_when_there_is_an_address() {
    let flags = ["--host x", "--port 1", "-b :1", "--uds /a", "--fd 3"];
    for flag in flags {
        assert_eq!(
            load_with(&format!("{flag} m:a"), &[("PORT", "bad")]).unwrap().remark,
            None,
            "{flag}"
        );
    }
    assert_eq!(load_with("m:a", &[("PORT", "bad"), ("RSGI_HOST", "x")]).unwrap().remark, None);
}

#[test]
fn port_of_the_platform_must_be_a_port() {
    assert_eq!(
        mistake("m:a", &[("PORT", "http")]),
        "error: PORT: expected a port: a whole number from 0 to 65535, got `http`"
    );
}

#[test]
fn service_link_of_kubernetes_is_not_our_port() {
    let variables = [("RSGI_PORT", "tcp://10.0.0.1:80")];
    assert_eq!(config_with("m:a", &variables).bind.addresses, [tcp("127.0.0.1", 8000)]);
    let notice = "RSGI_PORT has no effect: it is the link to a service";
    assert_eq!(notices("m:a", &variables), [notice]);
}
