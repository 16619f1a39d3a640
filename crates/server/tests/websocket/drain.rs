//! Shutdown: the application is told, has its say, and then the client is.

use std::time::Duration;

use rsgi_server::{DrainPhase, SendError};
use tokio::time::Instant;

use crate::support::{CLOSE, Stage, TEXT};

#[tokio::test(start_paused = true)]
async fn an_application_says_goodbye_and_ends() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    client.frame(TEXT, b"before").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    stage.advance(DrainPhase::Draining);
    call.receives("before").await;
    assert_eq!(call.disconnect().await.0, 1012);
    call.send("goodbye").expect("there is still time");
    assert_eq!(client.reads().await, (TEXT, b"goodbye".to_vec()));
    drop(call);
    assert_eq!(client.close_code().await, 1012);
    client.frame(CLOSE, b"\x03\xf4").await;
    client.ends().await;
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_chooses_its_own_code() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    stage.advance(DrainPhase::Draining);
    assert_eq!(call.disconnect().await.0, 1012);
    call.close(4004).expect("there is still time");
    assert_eq!(client.close_code().await, 4004);
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_listen_has_its_time() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    assert_eq!(client.close_code().await, 1012);
    assert_eq!(start.elapsed(), Duration::from_secs(3));
    assert!(matches!(call.send("x"), Err(SendError::Disconnected)));
    assert_eq!(call.disconnect().await.0, 1012);
    client.frame(CLOSE, b"\x03\xf4").await;
    client.ends().await;
    drop(call);
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_websocket_that_is_accepted_during_a_drain_is_told_at_once() {
    let mut stage = Stage::new();
    let mut client = stage.connect();
    client.send(crate::support::HANDSHAKE).await;
    let call = stage.call().await;
    stage.advance(DrainPhase::Draining);
    call.accept().await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(call.disconnect().await.0, 1012);
    drop(call);
    assert_eq!(client.close_code().await, 1012);
    drop(client);
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_tells_the_client_if_it_can() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    stage.advance(DrainPhase::Cut);
    client.is_closed(1012).await;
    assert_eq!(call.disconnect().await.0, 1012);
    drop(call);
    stage.settle(&[101]).await;
}
