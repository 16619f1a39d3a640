//! A drain that somebody waits for: nobody is idle, and no stream is waited for.

use rsgi_server::{DrainPhase, HASTY_PATIENCE, SendError};
use tokio::time::Instant;

use crate::support::{Stage, TestApp, get, until_idle};

#[tokio::test(start_paused = true)]
async fn idle_connections_close_soon() {
    let stage = Stage::with(TestApp::echo_path(), |options| options.is_hasty = true);
    let (mut new, mut used) = (stage.connect(), stage.connect());
    used.send(get("/")).await;
    assert!(!used.response().await.closes());
    until_idle().await;
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    new.is_closed().await;
    used.is_closed().await;
    assert!(start.elapsed() < 2 * HASTY_PATIENCE);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_cut_and_a_request_without_a_response_is_not() {
    let mut stage = Stage::played_with(|options| options.is_hasty = true);
    let mut streaming = stage.connect();
    streaming.send(get("/stream")).await;
    let stream = stage.call().await;
    stream.start(200, &[]).expect("first");
    stream.part("before").expect("started");
    streaming.head().await;
    assert_eq!(streaming.chunk().await, b"before");
    let mut waiting = stage.connect();
    waiting.send(get("/slow")).await;
    let slow = stage.call().await;
    stage.advance(DrainPhase::Draining);
    stage.advance(DrainPhase::EndingStreams);
    streaming.is_closed().await;
    assert!(stream.exchange.is_disconnected());
    assert_eq!(stream.part("after"), Err(SendError::Disconnected));
    waiting.hears_nothing().await;
    slow.answer("finished");
    let response = waiting.response().await;
    assert_eq!((response.text(), response.closes()), ("finished", true));
    drop((stream, slow));
    stage.settle().await;
}
