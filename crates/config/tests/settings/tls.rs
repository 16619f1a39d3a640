//! TLS: which addresses are encrypted, what its values may be, and which of them need each other.

use std::path::PathBuf;

use rsgi_config::{
    BindAddr, ClientCertificates, Config, LoadError, TlsVersion, Value, from_keywords,
};

use super::{config, config_with, mistake};

fn addresses(line: &str) -> Vec<String> {
    config(line).bind.addresses.iter().map(BindAddr::to_string).collect()
}

#[test]
fn a_certificate_encrypts_every_address_that_does_not_say_otherwise() {
    let table = [
        ("", &["https://127.0.0.1:8000"] as &[&str]),
        ("--port 8443", &["https://127.0.0.1:8443"]),
        ("--uds /s", &["https+unix:/s"]),
        ("--fd 3", &["https+fd://3"]),
        (
            "-b :443 -b http://:80 -b unix:/a -b http+unix:/b -b http+fd://4",
            &["https://0.0.0.0:443", "0.0.0.0:80", "https+unix:/a", "unix:/b", "fd://4"],
        ),
    ];
    for (flags, expected) in table {
        assert_eq!(addresses(&format!("a:b --ssl-certfile c {flags}")), expected, "{flags}");
    }
}

#[test]
fn without_a_certificate_nothing_is_encrypted() {
    assert_eq!(addresses("a:b --bind http://:80"), ["0.0.0.0:80"]);
    assert_eq!(
        mistake("a:b --bind https://:443", &[]),
        "error: an https address needs ssl_certfile"
    );
}

#[test]
fn an_encrypted_unix_socket_has_its_permissions() {
    let config = config("a:b --ssl-certfile c --uds /s --uds-permissions 600");
    let inner = BindAddr::Unix { path: PathBuf::from("/s"), permissions: 0o600 };
    assert_eq!(config.bind.addresses, [BindAddr::Tls(Box::new(inner))]);
}

#[test]
fn names_of_other_servers_are_known() {
    let lines = [
        "--certfile c --keyfile k --ca-certs a --cert-reqs 2 --ciphers X",
        "--ssl-certificate c --ssl-keyfile k --ssl-ca a --ssl-client-verify --ssl-ciphers X",
        "--ssl-certfile c --ssl-keyfile k --ssl-ca-certs a --verify-mode CERT_REQUIRED --ciphers X",
    ];
    for line in lines {
        let tls = config(&format!("a:b {line}")).tls;
        assert_eq!(tls.certificates, [PathBuf::from("c")], "{line}");
        assert_eq!(tls.keys, [PathBuf::from("k")], "{line}");
        assert_eq!(tls.authorities, Some(PathBuf::from("a")), "{line}");
        assert_eq!(tls.client_certificates, ClientCertificates::Required, "{line}");
        assert_eq!(tls.ciphers, ["X"], "{line}");
    }
}

#[test]
fn versions_are_names_or_numbers_of_python() {
    let table = [
        ("17", TlsVersion::Tls12),
        ("2", TlsVersion::Tls12),
        ("5", TlsVersion::Tls12),
        ("771", TlsVersion::Tls12),
        ("TLSv1.2", TlsVersion::Tls12),
        ("TLSv1_2", TlsVersion::Tls12),
        ("TLS_SERVER", TlsVersion::Tls12),
        ("PROTOCOL_TLS_SERVER", TlsVersion::Tls12),
        ("TLS", TlsVersion::Tls12),
        ("772", TlsVersion::Tls13),
        ("TLSv1.3", TlsVersion::Tls13),
        ("tls1.3", TlsVersion::Tls13),
        ("1.3", TlsVersion::Tls13),
    ];
    for (text, expected) in table {
        let line = format!("a:b --ssl-certfile c --ssl-version {text}");
        assert_eq!(config(&line).tls.min_version, expected, "{text}");
    }
    for text in ["TLSv1", "TLSv1_1", "SSLv3", "3", "4", "server", "1.4"] {
        let expected = "--ssl-version: expected TLSv1.2 or TLSv1.3; older versions are not safe";
        let message = mistake("a:b --ssl-certfile c", &[("RSGI_SSL_VERSION", text)]);
        let message = message.replace("RSGI_SSL_VERSION", "--ssl-version");
        assert_eq!(message, format!("error: {expected}, got `{text}`"));
    }
}

#[test]
fn what_needs_something_else_says_so() {
    let table = [
        ("--ssl-keyfile k", "ssl_keyfile needs ssl_certfile"),
        ("--ssl-cert-reqs 1 --ssl-ca-certs a", "ssl_cert_reqs needs ssl_certfile"),
        ("--redirect-https", "redirect_https needs ssl_certfile"),
        ("--ssl-certfile c --ssl-cert-reqs 2", "ssl_cert_reqs needs ssl_ca_certs"),
        ("--ssl-certfile c --ssl-crl r", "ssl_crl needs ssl_cert_reqs"),
    ];
    for (line, expected) in table {
        assert_eq!(mistake(&format!("a:b {line}"), &[]), format!("error: {expected}"), "{line}");
    }
    let message = mistake("a:b --ssl-certfile c --ssl-certfile d --ssl-keyfile k", &[]);
    assert!(message.ends_with("1 of 2"), "{message}");
    let message = mistake("a:b --ssl-certfile c --redirect-https", &[]);
    assert!(message.contains("redirect_https needs a plain address"), "{message}");
}

#[test]
fn several_certificates_come_in_order() {
    let tls = config("a:b --ssl-certfile c --ssl-certfile d --ssl-keyfile k --ssl-keyfile l").tls;
    assert_eq!(tls.certificates, ["c", "d"].map(PathBuf::from));
    assert_eq!(tls.keys, ["k", "l"].map(PathBuf::from));
    let tls = config_with("a:b", &[("RSGI_SSL_CERTFILE", "/c,/d")]).tls;
    assert_eq!(tls.certificates, ["/c", "/d"].map(PathBuf::from));
}

#[test]
fn a_password_is_not_shown() {
    let config = config("a:b --ssl-certfile c --ssl-keyfile-password hunter2");
    assert_eq!(config.tls.password.as_ref().map(rsgi_config::Secret::reveal), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    let wrong = [("app", Value::Str("a:b".into())), ("ssl_keyfile_password", Value::Int(471_123))];
    let Err(LoadError::Usage(message)) = from_keywords(wrong) else {
        panic!("a number is no text")
    };
    assert_eq!(message, "ssl_keyfile_password: expected text, got `***`");
}

#[test]
fn settings_reach_a_worker_as_they_are() {
    let line = "a:b --ssl-certfile c --ssl-keyfile-password hunter2 -b https+unix:/s -b http://:80";
    let config = config(line);
    let text = serde_json::to_string(&config).expect("settings can be written");
    let read: Config = serde_json::from_str(&text).expect("settings can be read");
    assert_eq!(read, config);
}
