//! Clients that leave, applications that end early, connections that are idle.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use rsgi_server::{Received, SendError};
use tokio::time::{Instant, timeout};

use crate::peer::{Peer, get, head, piece, request, reset_reason, whole};
use crate::raw::{GOAWAY, Raw};
use crate::support::{Call, Stage, TestApp, until_idle};

#[tokio::test(start_paused = true)]
async fn a_reset_is_a_disconnect_for_its_application_alone() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (_kept, _) = peer.send(get("/other"), false).await;
    let other = stage.call().await;
    // Before the response, within it, and while content is expected.
    for (method, has_content) in [("GET", false), ("POST", true)] {
        for has_started in [false, true] {
            let (response, mut stream) = peer.send(request(method, "/", &[]), has_content).await;
            let call = stage.call().await;
            if !has_content {
                assert!(matches!(call.receive().await, Received::Body { .. }));
            }
            if has_started {
                call.start(200, &[]).expect("first");
                call.part("part").expect("started");
            }
            let leaves = async {
                until_idle().await;
                stream.send_reset(Reason::CANCEL);
            };
            let (received, ()) = tokio::join!(call.receive(), leaves);
            assert_eq!(received, Received::Disconnect, "{method} {has_started}");
            let sent = if has_started { call.part("more") } else { call.start(200, &[]) };
            assert_eq!(sent, Err(SendError::Disconnected));
            drop(response);
        }
    }
    assert!(!other.exchange.is_disconnected());
    assert_eq!(stage.requests_in_flight(), 1);
    assert_eq!(stage.statuses(), [0, 200, 0, 200]);
    other.answer("fine");
    until_idle().await;
    drop((peer, other));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_a_disconnect_for_all() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        drop(peer.send(request("POST", "/", &[]), true).await);
        let (_response, _stream) = peer.send(request("POST", "/", &[]), true).await;
        calls.push(stage.call().await);
        calls.push(stage.call().await);
    }
    let vanishes = async {
        until_idle().await;
        peer.vanish();
    };
    let (received, ()) = tokio::join!(calls[5].receive(), vanishes);
    assert_eq!(received, Received::Disconnect);
    until_idle().await;
    assert!(calls.iter().all(|call| call.exchange.is_disconnected()));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_without_a_start_is_a_500() {
    let ways: [fn(Call); 2] = [drop, Call::fail];
    for end in ways {
        let apps = [
            TestApp::eager(end),
            TestApp::spawned(move |call| async move {
                tokio::task::yield_now().await;
                end(call);
            }),
        ];
        for app in apps {
            let stage = Stage::new(app);
            let mut peer = Peer::new(&stage).await;
            for _ in 0..2 {
                let reply = peer.ask(get("/")).await;
                assert_eq!((reply.status, reply.text()), (500, "Internal Server Error"));
                assert_eq!(reply.field("content-length"), Some("21"));
            }
            let reply = peer.ask(request("HEAD", "/", &[])).await;
            assert_eq!((reply.status, reply.text()), (500, ""));
            drop(peer);
            assert_eq!(stage.statuses(), [500; 3]);
            stage.settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_within_its_response_resets_the_stream() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, _) = peer.send(get("/"), false).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    let mut content = head(response).await.into_body();
    assert_eq!(piece(&mut content).await.expect("a piece").expect("data"), "part");
    drop(call);
    let error = piece(&mut content).await.expect("no end").expect_err("a reset");
    assert_eq!(reset_reason(&error), Some(Reason::INTERNAL_ERROR));
    // The connection is as good as before.
    let (response, _) = peer.send(get("/"), false).await;
    stage.call().await.answer("fine");
    assert_eq!(whole(response).await.expect("a response").text(), "fine");
    drop((peer, content));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_takes_only_its_own_connection() {
    let stage = Stage::new(TestApp::eager(|call| {
        assert_ne!(call.path, "/panic", "this panic is wanted");
        call.answer("fine");
    }));
    let mut peer = Peer::new(&stage).await;
    let mut other = Peer::new(&stage).await;
    peer.try_ask(get("/panic")).await.expect_err("the connection is gone");
    assert_eq!(other.ask(get("/")).await.text(), "fine");
    assert_eq!(stage.open_connections(), 1);
    drop(other);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_response_does_not_wait_for_content_that_nobody_wants() {
    let stage = Stage::new(TestApp::eager(|call| call.answer("early")));
    let mut peer = Peer::new(&stage).await;
    let (response, mut stream) = peer.send(request("POST", "/", &[]), true).await;
    assert_eq!(whole(response).await.expect("a response").text(), "early");
    let reset = poll_fn(|cx| stream.poll_reset(cx));
    let reason = timeout(Duration::from_secs(600), reset).await.expect("an end");
    assert_eq!(reason.expect("a reset"), Reason::NO_ERROR);
    assert_eq!(stage.requests_in_flight(), 0);
    drop((peer, stream));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_ended_in_order() {
    let stage = Stage::new(TestApp::echo_path());
    let mut peer = Peer::new(&stage).await;
    let start = Instant::now();
    assert_eq!(peer.ask(get("/")).await.text(), "/");
    let ended = peer.ended();
    ended.await.expect("GOAWAY without an error");
    assert_eq!(start.elapsed().as_secs(), 5);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_goaway_is_closed_after_a_moment() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::new(&stage).await;
    let start = Instant::now();
    let frames = raw.rest().await;
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY), "{frames:?}");
    assert_eq!(start.elapsed().as_secs(), 6);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_preface_that_does_not_end_is_given_the_time_of_a_head() {
    let stage = Stage::new(TestApp::echo_path());
    for begun in ["PRI * HTTP/2.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
        let mut raw = Raw::silent(&stage);
        let start = Instant::now();
        assert!(raw.send(begun.as_bytes()).await);
        raw.rest().await;
        assert_eq!(start.elapsed().as_secs(), 10, "{begun:?}");
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_stops_where_the_client_resets() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (_response, mut stream) = peer.send(request("POST", "/", &[]), true).await;
    let call = stage.call().await;
    stream.send_data(Bytes::from_static(b"half"), false).expect("open");
    until_idle().await;
    stream.send_reset(Reason::CANCEL);
    until_idle().await;
    assert_eq!(call.content().await, None);
    drop((peer, call));
    stage.settle().await;
}
