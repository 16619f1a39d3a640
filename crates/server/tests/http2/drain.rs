//! Shutdown: GOAWAY, streams in flight finish or are asked to end, and at last everything is cut.

use rsgi_server::{DrainPhase, Received, SendError};
use tokio::time::Instant;

use crate::peer::{Peer, get, head, piece, reset_reason, whole};
use crate::raw::{END_HEADERS, END_STREAM, GET, GOAWAY, HEADERS, RST_STREAM, Raw, frame};
use crate::support::{Stage, TestApp, until_idle};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn idle_connections_close_at_once() {
    let stage = Stage::new(TestApp::echo_path());
    let mut used = Peer::new(&stage).await;
    used.ask(get("/")).await;
    let new = Peer::new(&stage).await;
    until_idle().await;
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    used.ended().await.expect("GOAWAY without an error");
    new.ended().await.expect("GOAWAY without an error");
    stage.emptied().await;
    assert_eq!(start.elapsed().as_millis(), 0);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn while_it_is_announced_everything_goes_on() {
    let stage = Stage::new(TestApp::echo_path());
    let mut peer = Peer::new(&stage).await;
    peer.ask(get("/")).await;
    stage.advance(DrainPhase::Announcing);
    until_idle().await;
    assert_eq!(peer.ask(get("/after")).await.text(), "/after");
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn streams_in_flight_finish_and_new_ones_are_refused() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, _) = peer.send(get("/"), false).await;
    let call = stage.call().await;
    stage.advance(DrainPhase::Draining);
    until_idle().await;
    assert!(!call.exchange.is_disconnected(), "a drain is not a disconnect");
    peer.try_ask(get("/late")).await.expect_err("GOAWAY was sent");
    stage.is_not_called().await;
    sleep(Duration::from_secs(60)).await;
    call.answer("finished");
    assert_eq!(whole(response).await.expect("a response").text(), "finished");
    drop(call);
    peer.ended().await.expect("GOAWAY without an error");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_come_unnoticed_is_served() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::new(&stage).await;
    until_idle().await;
    // Nothing runs between the two, so the connection hears of both at once.
    assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, GET)).await);
    stage.advance(DrainPhase::Draining);
    let frames = raw.rest().await;
    assert!(frames.iter().any(|frame| frame.stream == 1 && frame.payload == b"/"), "{frames:?}");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_regardless_is_refused_after_a_moment() {
    let mut stage = Stage::played();
    let mut raw = Raw::new(&stage).await;
    let get = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, GET);
    assert!(raw.send(&get(1)).await);
    let call = stage.call().await;
    stage.advance(DrainPhase::Draining);
    sleep(Duration::from_secs(2)).await;
    // It has not acknowledged anything.
    assert!(raw.send(&get(3)).await);
    stage.is_not_called().await;
    call.answer("finished");
    drop(call);
    let frames = raw.rest().await;
    let refused = frames.iter().find(|frame| frame.kind == RST_STREAM).expect("refused");
    assert_eq!((refused.stream, refused.payload.as_slice()), (3, &[0, 0, 0, 7][..]));
    assert!(frames.iter().any(|frame| frame.kind == GOAWAY));
    assert!(frames.iter().any(|frame| frame.stream == 1 && frame.payload == b"finished"));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_told_to_end_and_has_its_last_words() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, _) = peer.send(get("/"), false).await;
    let (waiting, _) = peer.send(get("/"), false).await;
    let call = stage.call().await;
    let not_begun = stage.call().await;
    assert!(matches!(call.receive().await, Received::Body { .. }), "the empty content");
    assert!(matches!(not_begun.receive().await, Received::Body { .. }), "the empty content");
    call.start(200, &[]).expect("first");
    call.part("before").expect("started");
    let mut content = head(response).await.into_body();
    assert_eq!(piece(&mut content).await.expect("a piece").expect("data"), "before");
    let told = async {
        stage.advance(DrainPhase::Draining);
        until_idle().await;
        stage.advance(DrainPhase::EndingStreams);
    };
    let (received, ()) = tokio::join!(call.receive(), told);
    assert_eq!(received, Received::Disconnect);
    assert!(!call.exchange.is_disconnected(), "the client is there");
    call.last("bye").expect("what is sent still leaves");
    assert_eq!(piece(&mut content).await.expect("a piece").expect("data"), "bye");
    // One that begins only now is told as well.
    not_begun.start(200, &[]).expect("first");
    not_begun.part("begun").expect("started");
    assert_eq!(not_begun.receive().await, Received::Disconnect);
    drop(not_begun);
    let error = whole(waiting).await.expect_err("its response was not whole");
    assert_eq!(reset_reason(&error), Some(h2::Reason::INTERNAL_ERROR));
    drop((call, content));
    peer.ended().await.expect("GOAWAY without an error");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_everything() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, _) = peer.send(get("/"), false).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, Received::Body { .. }), "the empty content");
    let mut silent = Raw::silent(&stage);
    assert!(silent.send(b"PRI * HTTP/2.0\r\n\r\n").await);
    let cuts = async {
        stage.advance(DrainPhase::Draining);
        until_idle().await;
        stage.advance(DrainPhase::Cut);
    };
    let (received, ()) = tokio::join!(call.receive(), cuts);
    assert_eq!(received, Received::Disconnect);
    assert_eq!(call.start(200, &[]), Err(SendError::Disconnected));
    whole(response).await.expect_err("cut");
    stage.emptied().await;
    assert_eq!(stage.statuses(), [0]);
    drop(peer);
    stage.settle().await;
}
