//! Connections that proxies open: the PROXY header before them, and who may send forwarded fields.

use std::sync::Arc;
use std::time::Duration;

use rsgi_protocol::forwarded::{ForwardedField, Forwarding, Peer, Trust};
use rsgi_protocol::proxy_header::Versions;
use rsgi_server::{DrainPhase, Opening, Options, ProxyProtocol};
use tokio::time::{Instant, sleep};

use crate::support::{Client, Stage, TestApp, get, request, until_idle};

const HEAD: Duration = Duration::from_secs(10);
const LINE: &str = "PROXY TCP4 198.51.100.7 203.0.113.1 5000 80\r\n";
const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "192.0.2.1";

fn peer(address: &str) -> Peer {
    Peer::Address(address.parse().expect("an address"))
}

fn trust() -> Trust {
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    Trust { networks, ..Trust::default() }
}

fn forwarding(options: &mut Options) {
    let fields = vec![ForwardedField::For, ForwardedField::Proto, ForwardedField::Host];
    options.forwarding = Some(Arc::new(Forwarding { trust: trust(), fields }));
}

/// Tells what the application gets to see.
fn teller() -> TestApp {
    TestApp::eager(|call| {
        let client = call.client.clone();
        let host = call.host.clone();
        call.answer(format!("{} {} {}", call.server.as_deref().unwrap_or("-"), client, host));
    })
}

fn stage() -> Stage {
    Stage::with(teller(), forwarding)
}

/// A connection from `address`, to a listener where proxies have to send a header.
fn connect(stage: &Stage, address: &str) -> Client {
    let proxy_protocol = Some(Arc::new(ProxyProtocol { versions: Versions::Both, trust: trust() }));
    stage.open(&Opening { proxy_protocol, tls: None }, peer(address))
}

#[tokio::test(start_paused = true)]
async fn the_client_is_the_one_in_the_header() {
    let stage = stage();
    let binary = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[198, 51, 100, 7, 203, 0, 113, 1, 0x13, 0x88, 0, 80],
    ];
    for header in [LINE.as_bytes().to_vec(), binary.concat()] {
        let mut client = connect(&stage, PROXY);
        // with a whole request behind it
        client.send([&header[..], get("/").as_bytes()].concat()).await;
        let text = "203.0.113.1:80 198.51.100.7:5000 test";
        assert_eq!(client.response().await.text(), text);
        // and the connection goes on
        client.send(get("/")).await;
        assert_eq!(client.response().await.text(), text);
        drop(client);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn header_and_request_may_come_in_any_pieces() {
    let stage = stage();
    let bytes = format!("{LINE}{}", get("/"));
    for cut in 1..bytes.len() {
        let mut client = connect(&stage, PROXY);
        let (first, second) = bytes.split_at(cut);
        client.send(first).await;
        until_idle().await;
        client.send(second).await;
        assert_eq!(client.response().await.status, 200, "{cut}");
        drop(client);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_proxy_without_its_header_is_refused_at_its_first_byte() {
    let stage = stage();
    for bytes in ["GET / HTTP/1.1\r\n", "G", "\x16\x03\x01", "PROXY TCP4 nonsense\r\n", "PRI *"] {
        let start = Instant::now();
        let mut client = connect(&stage, PROXY);
        client.send(bytes).await;
        client.is_closed().await;
        assert!(start.elapsed() < Duration::from_secs(1), "{bytes:?}");
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stranger_cannot_send_a_header() {
    let stage = stage();
    let mut client = connect(&stage, STRANGER);
    client.send(get("/")).await;
    assert_eq!(client.response().await.text(), "192.0.2.2:80 192.0.2.1:50000 test");
    client.send(format!("{LINE}{}", get("/"))).await;
    assert_eq!(client.response().await.status, 400);
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_header_has_the_time_of_a_head() {
    let stage = stage();
    for begin in ["", "PROXY TCP4"] {
        let start = Instant::now();
        let mut client = connect(&stage, PROXY);
        client.send(begin).await;
        for byte in " 198.51.100.7".bytes().take(if begin.is_empty() { 0 } else { 9 }) {
            sleep(Duration::from_secs(1)).await;
            client.send([byte]).await;
        }
        client.is_closed().await;
        assert_eq!(start.elapsed(), HEAD, "{begin:?}");
    }
    // The head behind it has its own.
    let mut client = connect(&stage, PROXY);
    client.send(LINE).await;
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_health_check_keeps_the_addresses_of_its_connection() {
    let stage = stage();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&local[..], b"PROXY UNKNOWN\r\n"] {
        let mut client = connect(&stage, PROXY);
        client.send([header, get("/").as_bytes()].concat()).await;
        assert_eq!(client.response().await.text(), "192.0.2.2:80 192.0.2.1:50000 test");
        drop(client);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn what_begins_behind_the_header_may_be_http_2() {
    let stage = stage();
    let mut client = connect(&stage, PROXY);
    client.send(LINE).await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    // SETTINGS
    let head = client.exactly(9).await;
    assert_eq!(head.get(3), Some(&4));
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_a_header() {
    let stage = stage();
    let mut silent = connect(&stage, PROXY);
    let mut begun = connect(&stage, PROXY);
    begun.send("PROXY").await;
    until_idle().await;
    stage.advance(DrainPhase::Draining);
    silent.is_closed().await;
    assert_eq!(stage.open_connections(), 1);
    stage.advance(DrainPhase::Cut);
    begun.is_closed().await;
    stage.emptied().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn forwarded_fields_are_believed_from_the_one_who_is_trusted() {
    let fields = [("X-Forwarded-For", "198.51.100.9"), ("X-Forwarded-Host", "a.org")];
    let told = request("GET", "/", &fields);
    let (believed, not) = ("198.51.100.9:0 a.org", "192.0.2.1:50000 test");
    // The last one is the client of a header, who is not the proxy that has sent it.
    let table = [
        (PROXY, "", believed),
        (STRANGER, "", not),
        (PROXY, "PROXY TCP4 10.0.0.2 203.0.113.1 5000 80\r\n", believed),
        (PROXY, LINE, "198.51.100.7:5000 test"),
        (PROXY, "PROXY UNKNOWN\r\n", not),
    ];
    let stage = stage();
    for (address, header, expected) in table {
        let mut client = if header.is_empty() {
            stage.open(&Opening::default(), peer(address))
        } else {
            connect(&stage, address)
        };
        client.send(format!("{header}{told}")).await;
        let response = client.response().await;
        let (_, seen) = response.text().split_once(' ').expect("three words");
        assert_eq!(seen, expected, "{address} {header}");
        drop(client);
    }
    stage.settle().await;
}
