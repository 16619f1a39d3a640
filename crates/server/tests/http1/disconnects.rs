//! Clients that leave, and tasks that end: the application hears of it, and nothing stays open.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use rsgi_protocol::http::cycle::More;
use rsgi_server::{HIGH_WATER, Received, SendError};
use tokio::time::{Instant, timeout};

use crate::support::{Stage, TestApp, get, until_idle};

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_a_disconnect_for_a_waiting_application() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    let empty = Received::Body { data: "".into(), more: More::Last };
    assert_eq!(call.receive().await, empty);
    let leaves = async {
        until_idle().await;
        drop(client);
    };
    let start = Instant::now();
    let (received, ()) = tokio::join!(call.receive(), leaves);
    assert_eq!(received, Received::Disconnect);
    assert!(start.elapsed() <= Duration::from_millis(1));
    assert_eq!(call.receive().await, Received::Disconnect, "and stays one");
    assert_eq!(call.start(200, &[]), Err(SendError::Disconnected));
    call.drained().await;
    until_idle().await;
    assert_eq!(stage.statuses(), [0]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn every_task_that_receives_hears_of_a_disconnect() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.receive().await;
    let receivers: Vec<_> = (0..3)
        .map(|_| {
            let exchange = Arc::clone(&call.exchange);
            tokio::spawn(poll_fn(move |cx| exchange.poll_receive(cx)))
        })
        .collect();
    until_idle().await;
    drop(client);
    for receiver in receivers {
        let received = timeout(Duration::from_secs(1), receiver).await;
        assert_eq!(received.expect("it hears").expect("no panic"), Received::Disconnect);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_within_a_stream_ends_it() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    assert_eq!(client.head().await.status, 200);
    drop(client);
    until_idle().await;
    // Only writing shows whether a client that sends no more still reads.
    call.part("tried").expect("not known to be gone");
    until_idle().await;
    assert_eq!(call.part("more"), Err(SendError::Disconnected));
    assert_eq!(stage.statuses(), [200]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_a_sender_that_waits_for_it() {
    let mut stage = Stage::played();
    let mut client = stage.connect_over(1024);
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part(vec![b'x'; 2 * HIGH_WATER]).expect("started");
    until_idle().await;
    call.part(vec![b'x'; 2 * HIGH_WATER]).expect("started");
    let leaves = async {
        until_idle().await;
        drop(client);
    };
    let start = Instant::now();
    tokio::join!(call.drained(), leaves);
    assert!(start.elapsed() <= Duration::from_millis(1));
    assert_eq!(call.part("more"), Err(SendError::Disconnected));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_a_whole_head_never_was() {
    let mut stage = Stage::played();
    for bytes in ["", "\r\n", "GET / HTTP/1.1\r\nHost: test\r\n"] {
        let mut client = stage.connect();
        client.send(bytes).await;
        until_idle().await;
        client.finish_sending().await;
        client.is_closed().await;
    }
    stage.is_not_called().await;
    assert_eq!(stage.statuses(), Vec::<u16>::new());
    stage.settle().await;
}

/// What was answered before the client's end of sending is seen still reaches it, however slowly it
/// reads.
#[tokio::test(start_paused = true)]
async fn a_complete_response_reaches_a_client_that_has_finished_sending() {
    for length in [10, HIGH_WATER / 2, 10 * HIGH_WATER] {
        let stage = Stage::new(TestApp::eager(move |call| call.answer(vec![b'x'; length])));
        let mut client = stage.connect_over(1024);
        client.send(get("/")).await;
        client.finish_sending().await;
        assert_eq!(client.response().await.content.len(), length);
        client.is_closed().await;
        stage.settle().await;
    }
}

/// The client may have gone or only have finished: an application that does not ask goes on to the
/// end of its response, and so does what has been pipelined behind it.
#[tokio::test(start_paused = true)]
async fn a_client_that_has_finished_sending_gets_what_is_not_yet_answered() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/first") + &get("/second")).await;
    client.finish_sending().await;
    let call = stage.call().await;
    until_idle().await;
    assert!(!call.exchange.is_disconnected());
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    until_idle().await;
    call.last("end").expect("started");
    assert_eq!(client.response().await.text(), "partend");
    stage.call().await.answer("second");
    assert_eq!(client.response().await.text(), "second");
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_asks_hears_of_a_client_that_has_finished_sending() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    client.finish_sending().await;
    let call = stage.call().await;
    until_idle().await;
    let empty = Received::Body { data: "".into(), more: More::Last };
    assert_eq!(call.receive().await, empty, "the request comes first");
    assert_eq!(call.receive().await, Received::Disconnect);
    assert_eq!(call.start(200, &[]), Err(SendError::Disconnected));
    client.is_closed().await;
    assert_eq!(stage.statuses(), [0]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_takes_only_its_own_connection() {
    let stage = Stage::new(TestApp::eager(|call| {
        assert_ne!(call.path, "/panic", "this panic is wanted");
        call.answer("well");
    }));
    let mut other = stage.connect();
    other.send(get("/")).await;
    assert_eq!(other.response().await.text(), "well");
    let mut client = stage.connect();
    client.send(get("/panic") + &get("/next")).await;
    client.is_closed().await;
    assert_eq!(stage.open_connections(), 1);
    other.send(get("/")).await;
    assert_eq!(other.response().await.text(), "well");
    assert_eq!(stage.requests_in_flight(), 0);
    drop(other);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_applications_own_task_is_a_500() {
    let stage = Stage::new(TestApp::spawned(async |call| {
        assert_ne!(call.path, "/panic", "this panic is wanted");
    }));
    let mut client = stage.connect();
    client.send(get("/panic")).await;
    assert_eq!(client.response().await.status, 500);
    client.is_closed().await;
    stage.settle().await;
}
