//! More requests than the application may have at once, and requests that make no progress.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tokio::time::{Instant, sleep};

use crate::peer::{Peer, get, request, whole};
use crate::support::{Stage, until_idle};

const SILENCE: Duration = Duration::from_secs(7);
const ALMOST: Duration = Duration::from_secs(6);
const QUEUE: Duration = Duration::from_secs(3);

#[tokio::test(start_paused = true)]
async fn streams_wait_for_their_turn_and_leave_the_queue() {
    let mut stage = Stage::played_with(|options| {
        options.concurrency_limit = Some(1);
        options.overload.queue_limit = 2;
        options.overload.queue_timeout = QUEUE;
    });
    let mut peer = Peer::new(&stage).await;
    let (first, _) = peer.send(get("/0"), false).await;
    let (second, mut stream) = peer.send(request("POST", "/1", &[]), true).await;
    let (third, _) = peer.send(get("/2"), false).await;
    let refused = peer.ask(get("/3")).await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    let call = stage.call().await;
    stage.is_not_called().await;
    // A stream that is reset makes room in the queue.
    stream.send_reset(Reason::CANCEL);
    drop(second);
    until_idle().await;
    let (fourth, _) = peer.send(get("/4"), false).await;
    until_idle().await;
    call.answer("0");
    drop(call);
    let call = stage.call().await;
    assert_eq!(call.path, "/2");
    call.answer("2");
    assert_eq!(whole(first).await.expect("a response").text(), "0");
    assert_eq!(whole(third).await.expect("a response").text(), "2");
    drop(call);
    stage.call().await.answer("4");
    assert_eq!(whole(fourth).await.expect("a response").text(), "4");
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_too_long_is_refused() {
    let mut stage = Stage::played_with(|options| {
        options.concurrency_limit = Some(1);
        options.overload.queue_limit = 1;
        options.overload.queue_timeout = QUEUE;
    });
    let mut peer = Peer::new(&stage).await;
    let (first, _) = peer.send(get("/0"), false).await;
    let call = stage.call().await;
    let start = Instant::now();
    let late = peer.ask(get("/1")).await;
    assert_eq!((late.status, late.field("retry-after")), (503, Some("1")));
    assert!(start.elapsed() >= QUEUE);
    call.answer("0");
    assert_eq!(whole(first).await.expect("a response").text(), "0");
    drop((peer, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_progress_is_given_up_and_the_others_go_on() {
    let mut stage = Stage::played_with(|options| options.overload.request_timeout = Some(SILENCE));
    let mut peer = Peer::new(&stage).await;
    let (silent, _) = peer.send(get("/silent"), false).await;
    let silent_call = stage.call().await;
    let (begun, _) = peer.send(get("/begun"), false).await;
    let begun_call = stage.call().await;
    begun_call.start(200, &[]).expect("first");
    begun_call.part("part").expect("started");
    let (lively, _) = peer.send(get("/lively"), false).await;
    let lively_call = stage.call().await;
    lively_call.start(200, &[]).expect("first");
    let (kept, stream) = peer.send(request("POST", "/kept", &[]), true).await;
    let kept_call = stage.call().await;
    let receiving = tokio::spawn(async move { kept_call.receive().await });
    let replies =
        tokio::spawn(async move { tokio::join!(whole(silent), whole(begun), whole(kept)) });
    for _ in 0..3 {
        sleep(ALMOST).await;
        lively_call.part("tick").expect("the client is there");
    }
    lively_call.last(Bytes::new()).expect("the client is there");
    drop(lively_call);
    assert_eq!(whole(lively).await.expect("a response").text(), "tickticktick");
    let (silent, begun, kept) = replies.await.expect("no panic");
    assert_eq!(silent.expect("a response").status, 504);
    assert_eq!(begun.expect_err("a reset").reason(), Some(Reason::INTERNAL_ERROR));
    assert_eq!(kept.expect("a response").status, 408);
    receiving.await.expect("no panic");
    assert!(silent_call.exchange.is_disconnected() && begun_call.exchange.is_disconnected());
    drop((peer, stream, silent_call, begun_call));
    stage.settle().await;
}
