//! `Expect: 100-continue` (RFC 9110, section 10.1.1): asked for by the application, never by the
//! server.

use std::task::{Context, Waker};

use rsgi_protocol::http::cycle::More;
use rsgi_server::Received;

use crate::support::{Call, Stage, TestApp, get, request, until_idle};

const EXPECTING: &[(&str, &str)] = &[("Content-Length", "5"), ("Expect", "100-continue")];
const EXPECTING_CHUNKED: &[(&str, &str)] =
    &[("Transfer-Encoding", "chunked"), ("Expect", "100-continue")];
const CONTENTS: [(&[(&str, &str)], &str); 2] =
    [(EXPECTING, "hello"), (EXPECTING_CHUNKED, "5\r\nhello\r\n0\r\n\r\n")];

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_when_the_application_asks() {
    for (fields, content) in CONTENTS {
        let mut stage = Stage::played();
        let mut client = stage.connect();
        client.send(request("POST", "/", fields)).await;
        let call = stage.call().await;
        client.hears_nothing().await;
        let played = async {
            let content = call.content().await.expect("the client is there");
            call.answer(content);
        };
        let asked = async {
            let interim = client.head().await;
            assert_eq!((interim.status, interim.fields), (100, Vec::new()));
            client.send(content).await;
            assert_eq!(client.response().await.text(), "hello");
        };
        tokio::join!(played, asked);
        // Once is enough, and the connection goes on.
        client.hears_nothing().await;
        client.send(get("/next")).await;
        stage.call().await.answer("next");
        assert_eq!(client.response().await.text(), "next");
        drop((client, call));
        stage.settle().await;
    }
}

/// Asks for the content within the call, and echoes it later.
fn asking_at_once() -> TestApp {
    TestApp::eager(|call: Call| {
        let mut receiving = Box::pin(async move {
            let content = call.content().await.expect("the client is there");
            call.answer(content);
        });
        let mut cx = Context::from_waker(Waker::noop());
        if receiving.as_mut().poll(&mut cx).is_pending() {
            drop(tokio::spawn(receiving));
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_client_is_told_to_go_on_when_the_application_asks_within_the_call() {
    let stage = Stage::new(asking_at_once());
    let mut client = stage.connect();
    client.send(request("POST", "/", EXPECTING)).await;
    assert_eq!(client.head().await.status, 100);
    client.send("hello").await;
    assert_eq!(client.response().await.text(), "hello");
    drop(client);
    stage.settle().await;
}

/// The server may leave the 100 out then (RFC 9110, section 10.1.1), and a client has no use for
/// it.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_wait_is_not_told_to_go_on() {
    for app in [TestApp::echo_content, asking_at_once] {
        for (fields, content) in CONTENTS {
            for at in 1..=content.len() {
                let stage = Stage::new(app());
                let mut client = stage.connect();
                let (with_the_head, later) = content.split_at(at);
                client.send(request("POST", "/", fields) + with_the_head).await;
                until_idle().await;
                client.send(later).await;
                let response = client.response().await;
                assert_eq!((response.status, response.text()), (200, "hello"), "{at} bytes");
                drop(client);
                stage.settle().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_started_takes_the_place_of_the_100() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("POST", "/", EXPECTING)).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("early").expect("started");
    let head = client.head().await;
    assert_eq!(head.status, 200);
    assert!(head.closes(), "the content may or may not come");
    assert_eq!(client.chunk().await, b"early");
    let asks = async {
        let received = call.receive().await;
        assert_eq!(received, Received::Body { data: "hello".into(), more: More::Last });
    };
    let stays_silent = async {
        client.hears_nothing().await;
        client.send("hello").await;
    };
    tokio::join!(asks, stays_silent);
    call.last("late").expect("started");
    assert_eq!(client.chunk().await, b"late");
    assert_eq!(client.rest().await, b"0\r\n\r\n");
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_without_reading_ends_the_connection() {
    let stage = Stage::new(TestApp::eager(|call| {
        call.start(403, &[]).expect("first");
        call.last("no").expect("started");
    }));
    for fields in [EXPECTING, EXPECTING_CHUNKED] {
        let mut client = stage.connect();
        client.send(request("POST", "/", fields)).await;
        let response = client.response().await;
        assert_eq!((response.status, response.closes()), (403, true));
        client.is_closed().await;
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_http_1_0_client_is_never_told_to_go_on() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send("POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n").await;
    let call = stage.call().await;
    let asks = call.content();
    let waits = async {
        client.hears_nothing().await;
        client.send("hello").await;
    };
    let (content, ()) = tokio::join!(asks, waits);
    assert_eq!(content.as_deref(), Some(&b"hello"[..]));
    call.answer("done");
    assert_eq!(client.response().await.text(), "done");
    drop((client, call));
    stage.settle().await;
}
