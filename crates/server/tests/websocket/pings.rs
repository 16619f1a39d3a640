//! The keep-alive.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::{CLOSE, PING, PONG, Stage, TEXT};

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_stays() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    let start = Instant::now();
    let mut payloads = Vec::new();
    for _ in 0..5 {
        let (first, payload) = client.reads().await;
        assert_eq!(first, PING);
        sleep(Duration::from_secs(15)).await;
        client.frame(PONG, &payload).await;
        payloads.push(payload);
    }
    assert_eq!(start.elapsed().as_secs(), 5 * 20 + 15);
    payloads.dedup();
    assert_eq!(payloads.len(), 5, "no two pings are alike");
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_closed_with_1011() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    let start = Instant::now();
    assert_eq!(client.reads().await.0, PING);
    // Neither a message nor the answer to something else is an answer.
    client.frame(PONG, b"unasked").await;
    client.frame(TEXT, b"here").await;
    let (first, payload) = client.reads().await;
    assert_eq!((first, &payload[..]), (CLOSE, &b"\x03\xf3keepalive ping timeout"[..]));
    assert_eq!(start.elapsed().as_secs(), 40);
    call.receives("here").await;
    assert_eq!(call.disconnect().await.0, 1011);
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_the_application_is_not_blamed() {
    let mut stage = Stage::with(|options| options.max_queue = 1);
    let (mut client, call) = stage.open().await;
    client.frame(TEXT, b"one").await;
    client.frame(TEXT, b"two").await;
    let (_, payload) = client.reads().await;
    client.frame(PONG, &payload).await;
    sleep(Duration::from_secs(100)).await;
    call.receives("one").await;
    call.receives("two").await;
    call.hears_nothing().await;
    call.send("still here").expect("open");
    // The next ping was due long ago.
    assert_eq!(client.reads().await.0, PING);
    assert_eq!(client.reads().await.0, TEXT);
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn pings_can_be_switched_off() {
    let mut stage = Stage::with(|options| options.ping_interval = None);
    let (mut client, call) = stage.open().await;
    sleep(Duration::from_secs(1000)).await;
    client.hears_nothing().await;
    drop((client, call));

    let mut without_limit = Stage::with(|options| options.ping_timeout = None);
    let (mut client, call) = without_limit.open().await;
    for _ in 0..5 {
        assert_eq!(client.reads().await.0, PING);
    }
    drop((client, call));
    stage.settle(&[101]).await;
    without_limit.settle(&[101]).await;
}
