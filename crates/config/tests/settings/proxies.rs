//! Whom to believe, and what: how lists of proxies are written, and what replaces what.

use rsgi_config::{ForwardedField, ProxyOptions, ProxyProtocol, TrustedPeer, Value, from_keywords};

use crate::{config, config_with, mistake};

/// A list as it would be written.
fn shown(peers: &[TrustedPeer]) -> Vec<String> {
    peers.iter().map(TrustedPeer::to_string).collect()
}

fn trusted(list: &str) -> Vec<String> {
    shown(&config(&format!("--forwarded-allow-ips={list} m:a")).proxy.allow_from)
}

#[test]
fn this_machine_is_trusted_unless_it_is_said() {
    let proxy = config("m:a").proxy;
    assert_eq!(shown(&proxy.allow_from), ["127.0.0.1/32", "::1/128", "unix:"]);
    assert_eq!(proxy.protocol_allow_from, proxy.allow_from);
    assert_eq!(proxy.fields, [ForwardedField::For, ForwardedField::Proto]);
    assert!(proxy.headers);
    assert!(!config("--no-proxy-headers m:a").proxy.headers);
}

#[test]
fn lists_are_of_addresses_networks_and_names() {
    let table: [(&str, &[&str]); 12] = [
        ("*", &["*"]),
        ("unix:", &["unix:"]),
        ("10.0.0.1", &["10.0.0.1/32"]),
        ("10.0.0.1,10.1.0.0/16", &["10.0.0.1/32", "10.1.0.0/16"]),
        ("10.1.2.3/16", &["10.1.0.0/16"]),
        ("2001:db8::1,[::2]", &["2001:db8::1/128", "::2/128"]),
        ("fd00::/8", &["fd00::/8"]),
        ("::ffff:10.0.0.1", &["10.0.0.1/32"]),
        ("edge-1.example,_edge", &["edge-1.example", "_edge"]),
        ("loopback", &["127.0.0.0/8", "::1/128", "unix:"]),
        ("none", &[]),
        ("", &[]),
    ];
    for (list, expected) in table {
        assert_eq!(trusted(list), expected, "{list}");
    }
    let private = trusted("private");
    for network in ["127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "unix:"] {
        assert!(private.iter().any(|one| one == network), "{network}");
    }
}

#[test]
fn what_looks_like_an_address_has_to_be_one() {
    for list in [
        "10.0.0.0/33",
        "10.0.0.256",
        "10.0.0",
        "10.0.0.*",
        "10.0.0.1:80",
        "[::1",
        "fe80::1%eth0",
        "unix:/run/app",
        "a/b",
        "127.0.0.1;10.0.0.1",
    ] {
        let text = mistake(&format!("--forwarded-allow-ips={list} m:a"), &[]);
        assert!(text.starts_with("error: --forwarded-allow-ips: expected an IP address"), "{text}");
        let text = mistake(&format!("--proxy-allow-from={list} m:a"), &[]);
        assert!(text.starts_with("error: --proxy-allow-from: expected an IP address"), "{text}");
    }
}

#[test]
fn a_list_replaces_the_default_and_its_parts_add_up() {
    let line = "--forwarded-allow-ips 10.0.0.1 --forwarded-allow-ips 10.0.0.2 \
                --forwarded-headers forwarded --forwarded-headers X-Forwarded-Prefix m:a";
    let proxy = config(line).proxy;
    assert_eq!(shown(&proxy.allow_from), ["10.0.0.1/32", "10.0.0.2/32"]);
    assert_eq!(proxy.fields, [ForwardedField::Standard, ForwardedField::Prefix]);
    assert_eq!(
        mistake("--forwarded-headers x-real-ip m:a", &[]),
        "error: --forwarded-headers: expected one of x-forwarded-for, x-forwarded-proto, \
         x-forwarded-host, x-forwarded-prefix, forwarded, got `x-real-ip`"
    );
}

#[test]
fn a_variable_that_others_read_is_read() {
    for variable in
        ["FORWARDED_ALLOW_IPS", "UVICORN_FORWARDED_ALLOW_IPS", "RSGI_FORWARDED_ALLOW_IPS"]
    {
        let proxy = config_with("m:a", &[(variable, "10.0.0.1,10.0.0.2")]).proxy;
        assert_eq!(shown(&proxy.allow_from), ["10.0.0.1/32", "10.0.0.2/32"], "{variable}");
    }
    let variables = [("FORWARDED_ALLOW_IPS", "*"), ("RSGI_FORWARDED_ALLOW_IPS", "::1")];
    assert_eq!(shown(&config_with("m:a", &variables).proxy.allow_from), ["::1/128"]);
}

#[test]
fn an_empty_list_in_a_program_is_nobody() {
    let keywords = [
        ("forwarded_allow_ips".to_owned(), Value::List(Vec::new())),
        ("proxy_protocol".to_owned(), Value::Bool(true)),
    ];
    let proxy = from_keywords(keywords).expect("right").config.proxy;
    let expected = ProxyOptions {
        allow_from: Vec::new(),
        protocol: ProxyProtocol::Auto,
        ..ProxyOptions::default()
    };
    assert_eq!(proxy, expected);
}

#[test]
fn the_proxy_protocol_is_a_word_or_gunicorns_switch() {
    let table = [
        ("", ProxyProtocol::Off),
        ("--proxy-protocol off", ProxyProtocol::Off),
        ("--proxy-protocol v1", ProxyProtocol::V1),
        ("--proxy-protocol=V2", ProxyProtocol::V2),
        ("--proxy-protocol auto", ProxyProtocol::Auto),
        ("--proxy-protocol", ProxyProtocol::Auto),
        ("--proxy-protocol --port 1", ProxyProtocol::Auto),
        ("--proxy_protocol true", ProxyProtocol::Auto),
    ];
    for (flags, expected) in table {
        assert_eq!(config(&format!("{flags} m:a")).proxy.protocol, expected, "{flags}");
        assert_eq!(config(&format!("m:a {flags}")).proxy.protocol, expected, "{flags}");
    }
    assert_eq!(
        mistake("--proxy-protocol=v3 m:a", &[]),
        "error: --proxy-protocol: expected one of off, v1, v2, auto, got `v3`"
    );
}
