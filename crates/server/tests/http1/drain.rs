//! Shutdown: idle connections close after a last request, busy ones finish, and in the end
//! everything is cut.

use rsgi_server::{DRAIN_PATIENCE, DrainPhase, Received, SendError};

use crate::support::{Client, Stage, TestApp, get, post, request, until_idle};
use std::time::Duration;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn idle_connections_close_after_a_moment() {
    let stage = Stage::new(TestApp::echo_path());
    let mut used = stage.connect();
    used.send(get("/")).await;
    assert_eq!(used.response().await.text(), "/");
    // Empty lines are no request.
    used.send("\r\n").await;
    until_idle().await;
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    used.is_closed().await;
    drop(used);
    stage.emptied().await;
    assert_eq!(start.elapsed().as_secs(), DRAIN_PATIENCE.as_secs());
    stage.settle().await;
}

/// The client cannot know of the drain: what it has sent by then, or sends soon, is not lost.
#[tokio::test(start_paused = true)]
async fn a_request_on_the_way_when_the_drain_begins_is_served_and_is_the_last_one() {
    let stage = Stage::new(TestApp::echo_path());
    let (mut new, mut used) = (stage.connect(), stage.connect());
    used.send(get("/first")).await;
    assert!(!used.response().await.closes());
    until_idle().await;
    stage.advance(DrainPhase::Draining);
    until_idle().await;
    tokio::time::advance(DRAIN_PATIENCE / 2).await;
    for client in [&mut new, &mut used] {
        client.send(get("/on-its-way") + &get("/too-late")).await;
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("/on-its-way", true));
        client.is_closed().await;
    }
    drop((new, used));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_does_not_outlive_its_own_timeout_in_a_drain() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    client.send(get("/")).await;
    client.response().await;
    let keep_alive = Duration::from_secs(5); // the stage's
    let start = Instant::now();
    tokio::time::advance(keep_alive.saturating_sub(DRAIN_PATIENCE / 4)).await;
    stage.advance(DrainPhase::Draining);
    client.is_closed().await;
    assert_eq!(start.elapsed().as_secs(), keep_alive.as_secs());
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_begins_during_a_drain_has_its_own_time() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    until_idle().await;
    stage.advance(DrainPhase::Draining);
    let message = get("/slow");
    let (before, behind) = message.split_at(10);
    client.send(before).await;
    until_idle().await;
    tokio::time::advance(DRAIN_PATIENCE * 3).await;
    client.send(behind).await;
    assert_eq!(client.response().await.text(), "/slow");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_is_finished_and_is_the_last_one() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    stage.advance(DrainPhase::Draining);
    client.hears_nothing().await;
    assert!(!call.exchange.is_disconnected(), "a drain is not a disconnect");
    call.answer("finished");
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("finished", true));
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_began_before_the_drain_is_finished() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("before").expect("started");
    assert!(!client.head().await.closes());
    assert_eq!(client.chunk().await, b"before");
    stage.advance(DrainPhase::Draining);
    until_idle().await;
    call.last("after").expect("the client is there");
    assert_eq!(client.chunk().await, b"after");
    assert_eq!(client.rest().await, b"0\r\n\r\n");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_has_begun_is_served() {
    let stage = Stage::new(TestApp::echo_content());
    let mut client = stage.connect();
    let message = post("/", "content");
    let (before, behind) = message.split_at(10);
    client.send(before).await;
    until_idle().await;
    stage.advance(DrainPhase::Draining);
    client.hears_nothing().await;
    client.send(behind).await;
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("content", true));
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipelined_request_behind_the_last_one_is_not_served() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/first") + &get("/second")).await;
    let call = stage.call().await;
    stage.advance(DrainPhase::Draining);
    call.answer("first");
    assert!(client.response().await.closes());
    client.is_closed().await;
    stage.is_not_called().await;
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_is_given_a_moment_for_its_first_request() {
    let stage = Stage::new(TestApp::echo_path());
    let (mut silent, mut asking, mut slow) = (stage.connect(), stage.connect(), stage.connect());
    until_idle().await;
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    let mut late = stage.connect();
    until_idle().await;
    asking.send(get("/under-way")).await;
    slow.send("GET /slow ").await;
    let response = asking.response().await;
    assert_eq!((response.text(), response.closes()), ("/under-way", true));
    silent.is_closed().await;
    late.is_closed().await;
    assert_eq!(start.elapsed().as_secs(), DRAIN_PATIENCE.as_secs());
    sleep(Duration::from_secs(5)).await;
    slow.send("HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(slow.response().await.text(), "/slow");
    stage.settle().await;
}

// --- before the listeners close ---

#[tokio::test(start_paused = true)]
async fn while_it_is_announced_every_response_is_the_last_of_its_connection() {
    let stage = Stage::new(TestApp::echo_path());
    let mut used = stage.connect();
    used.send(get("/before")).await;
    assert!(!used.response().await.closes());
    stage.advance(DrainPhase::Announcing);
    let mut new = stage.connect();
    for client in [&mut used, &mut new] {
        client.hears_nothing().await;
        client.send(get("/after")).await;
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("/after", true));
        client.is_closed().await;
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_stayed_idle_while_it_was_announced_closes_with_the_listeners() {
    let stage = Stage::new(TestApp::echo_path());
    let mut idle = stage.connect();
    idle.send(get("/")).await;
    idle.response().await;
    stage.advance(DrainPhase::Announcing);
    idle.hears_nothing().await;
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    idle.is_closed().await;
    assert_eq!(start.elapsed().as_secs(), DRAIN_PATIENCE.as_secs());
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_come_unnoticed_is_served() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    until_idle().await;
    // Nothing runs between the two, so the connection hears of both at once.
    client.send(get("/just-in-time")).await;
    stage.advance(DrainPhase::Draining);
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("/just-in-time", true));
    stage.settle().await;
}

// --- streams ---

#[tokio::test(start_paused = true)]
async fn a_stream_is_told_to_end_and_has_its_last_words() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, Received::Body { .. }), "the empty content");
    call.start(200, &[]).expect("first");
    call.part("before").expect("started");
    client.head().await;
    assert_eq!(client.chunk().await, b"before");
    stage.advance(DrainPhase::Draining);
    let told = async {
        client.hears_nothing().await;
        stage.advance(DrainPhase::EndingStreams);
    };
    let (received, ()) = tokio::join!(call.receive(), told);
    assert_eq!(received, Received::Disconnect);
    assert_eq!(call.receive().await, Received::Disconnect, "it stays so");
    assert!(!call.exchange.is_disconnected(), "the client is there");
    call.last("bye").expect("what is sent still leaves");
    assert_eq!(client.chunk().await, b"bye");
    assert_eq!(client.rest().await, b"0\r\n\r\n");
    assert_eq!(stage.statuses(), [200]);
    drop(call);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_whose_response_has_not_begun_is_not_told() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("POST", "/", &[("Content-Length", "4")])).await;
    let call = stage.call().await;
    stage.advance(DrainPhase::EndingStreams);
    client.hears_nothing().await;
    client.send("body").await;
    assert_eq!(call.content().await.as_deref(), Some(b"body".as_slice()));
    call.answer("finished");
    assert_eq!(client.response().await.text(), "finished");
    drop(call);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_begins_only_then_is_told_as_well() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, Received::Body { .. }), "the empty content");
    stage.advance(DrainPhase::EndingStreams);
    until_idle().await;
    call.start(200, &[]).expect("first");
    call.part("").expect("started");
    assert_eq!(call.receive().await, Received::Disconnect);
    call.last("at once").expect("the client is there");
    assert_eq!(client.response().await.text(), "at once");
    drop(call);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_client_does_not_read_is_told() {
    let mut stage = Stage::played();
    let mut client = stage.connect_over(1024);
    client.send(get("/")).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, Received::Body { .. }), "the empty content");
    call.start(200, &[]).expect("first");
    for _ in 0..2 {
        call.part(vec![b'x'; 200_000]).expect("started");
        until_idle().await;
    }
    stage.advance(DrainPhase::EndingStreams);
    assert_eq!(call.receive().await, Received::Disconnect);
    drop(call);
    client.rest().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_without_its_last_message_is_cut_where_it_is() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("before").expect("started");
    client.head().await;
    assert_eq!(client.chunk().await, b"before");
    stage.advance(DrainPhase::EndingStreams);
    until_idle().await;
    drop(call);
    assert_eq!(client.rest().await, b"", "no last chunk: the response is not whole");
    stage.settle().await;
}

async fn is_cut_now(client: &mut Client, stage: &Stage) {
    let start = Instant::now();
    client.is_closed().await;
    stage.emptied().await;
    assert_eq!(start.elapsed().as_millis(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_a_waiting_application() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("POST", "/", &[("Content-Length", "5")])).await;
    let call = stage.call().await;
    let cuts = async {
        until_idle().await;
        stage.advance(DrainPhase::Draining);
        until_idle().await;
        assert_eq!(stage.open_connections(), 1);
        stage.advance(DrainPhase::Cut);
    };
    let (received, ()) = tokio::join!(call.receive(), cuts);
    assert_eq!(received, Received::Disconnect);
    assert_eq!(call.start(200, &[]), Err(SendError::Disconnected));
    is_cut_now(&mut client, &stage).await;
    assert_eq!(stage.abortive_closes(), 1);
    assert_eq!(stage.statuses(), [0]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_an_application_whose_client_does_not_read() {
    let mut stage = Stage::played();
    let mut client = stage.connect_over(1024);
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part(vec![b'x'; 200_000]).expect("started");
    until_idle().await;
    call.part(vec![b'x'; 200_000]).expect("started");
    let cuts = async {
        until_idle().await;
        stage.advance(DrainPhase::Cut);
    };
    tokio::join!(call.drained(), cuts);
    assert_eq!(call.part("more"), Err(SendError::Disconnected));
    stage.emptied().await;
    assert_eq!(stage.abortive_closes(), 1);
    let rest = client.rest().await;
    assert!(rest.len() <= 1024, "{} bytes", rest.len());
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_ends_idle_and_closing_connections() {
    let stage = Stage::new(TestApp::echo_path());
    let mut idle = stage.connect();
    let mut partial = stage.connect();
    let mut lingering = stage.connect();
    partial.send("GET ").await;
    lingering.send("nonsense\r\n\r\n").await;
    assert_eq!(lingering.response().await.status, 400);
    until_idle().await;
    assert_eq!(stage.open_connections(), 3);
    stage.advance(DrainPhase::Cut);
    for client in [&mut idle, &mut partial, &mut lingering] {
        is_cut_now(client, &stage).await;
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_never_goes_back() {
    let stage = Stage::new(TestApp::echo_path());
    // Let the patience of the drain pass: from then on every connection is closed at once.
    stage.advance(DrainPhase::Draining);
    stage.connect().is_closed().await;
    for (before, behind) in [
        (DrainPhase::Draining, DrainPhase::Announcing),
        (DrainPhase::Draining, DrainPhase::Serving),
        (DrainPhase::Cut, DrainPhase::Draining),
        (DrainPhase::Cut, DrainPhase::Serving),
    ] {
        stage.advance(before);
        stage.advance(behind);
        stage.connect().is_closed().await;
        stage.emptied().await;
    }
    stage.settle().await;
}
