//! Until it is accepted, a WebSocket is an HTTP exchange like any other.

use bytes::Bytes;
use rsgi_protocol::http::cycle::More;
use rsgi_protocol::http::response::ResponseHead;
use rsgi_server::{MessageReceived, SendError};

use crate::support::{HANDSHAKE, Stage, TEXT, frame};

#[tokio::test(start_paused = true)]
async fn an_accepted_websocket_carries_messages_both_ways() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    assert_eq!(stage.requests_in_flight(), 0, "the handshake is over");
    client.frame(TEXT, b"ping").await;
    call.receives("ping").await;
    call.send("pong").expect("open");
    assert_eq!(client.reads().await, (TEXT, b"pong".to_vec()));
    assert_eq!(stage.messages(), 1);
    drop(call);
    assert_eq!(client.close_code().await, 1000);
    drop(client);
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn messages_may_come_with_the_handshake() {
    let mut stage = Stage::new();
    let mut client = stage.connect();
    client.send([HANDSHAKE.as_bytes(), &frame(TEXT, b"early")].concat()).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, MessageReceived::Connect));
    call.hears_nothing().await;
    call.websocket
        .accept(rsgi_protocol::websocket::handshake::Acceptance::default())
        .expect("connecting");
    // Sent before the client has its answer, and behind it on the wire.
    call.send("first").expect("open");
    call.receives("early").await;
    client.head().await;
    assert_eq!(client.reads().await, (TEXT, b"first".to_vec()));
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_close_before_the_accept_is_a_403() {
    let mut stage = Stage::new();
    let mut client = stage.connect();
    client.send(HANDSHAKE).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, MessageReceived::Connect));
    call.close(1000).expect("connecting");
    assert!(client.head().await.starts_with("HTTP/1.1 403 "));
    assert_eq!(call.disconnect().await.0, 1006);
    drop((client, call));
    stage.settle(&[403]).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_denies() {
    let mut stage = Stage::new();
    let mut client = stage.connect();
    client.send(HANDSHAKE).await;
    let call = stage.call().await;
    let head = ResponseHead::new(401).expect("a status");
    call.websocket.response_start(head).expect("connecting");
    call.websocket.response_body(Bytes::from_static(b"no"), More::Follows).expect("started");
    call.websocket.response_body(Bytes::from_static(b"pe"), More::Last).expect("started");
    let head = client.head().await;
    assert!(
        head.starts_with("HTTP/1.1 401 ") && head.contains("transfer-encoding: chunked"),
        "{head}"
    );
    drop((client, call));
    stage.settle(&[401]).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_without_an_answer_is_a_500() {
    let mut stage = Stage::new();
    for fails in [true, false] {
        let mut client = stage.connect();
        client.send(HANDSHAKE).await;
        let call = stage.call().await;
        if fails {
            call.fail();
        } else {
            drop(call);
        }
        assert!(client.head().await.starts_with("HTTP/1.1 500 "));
    }
    stage.settle(&[500, 500]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_the_answer_is_a_disconnect() {
    let mut stage = Stage::new();
    let mut client = stage.connect();
    client.send(HANDSHAKE).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, MessageReceived::Connect));
    drop(client);
    assert_eq!(call.disconnect().await.0, 1006);
    let accepted =
        call.websocket.accept(rsgi_protocol::websocket::handshake::Acceptance::default());
    assert!(matches!(accepted, Err(SendError::Disconnected)), "{accepted:?}");
    drop(call);
    stage.settle(&[0]).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_handshakes_do_not_reach_the_application() {
    let stage = Stage::new();
    let table = [
        (HANDSHAKE.replace(": 13", ": 7"), "HTTP/1.1 426 ", "sec-websocket-version: 13\r\n"),
        (HANDSHAKE.replace("dGhl", ""), "HTTP/1.1 400 ", ""),
        (HANDSHAKE.replace("GET", "POST"), "HTTP/1.1 400 ", ""),
    ];
    for (head, status, field) in table {
        let mut client = stage.connect();
        client.send(head).await;
        let answer = client.head().await;
        assert!(answer.starts_with(status) && answer.contains(field), "{answer}");
    }
    stage.settle(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn switched_off_it_is_an_http_request() {
    let stage = Stage::without();
    let mut client = stage.connect();
    client.send(HANDSHAKE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    drop(client);
    stage.settle(&[200]).await;
}
