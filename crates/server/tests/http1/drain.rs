//! Shutdown: idle connections close after a last request, busy ones finish, and in the end
//! everything is cut.

use rsgi_server::{DRAIN_PATIENCE, DrainPhase, Received, SendError};

use crate::support::{Client, Stage, TestApp, get, post, request, until_idle};
use tokio::time::{Duration, Instant};

#[tokio::test(start_paused = true)]
async fn idle_connections_close_after_a_moment() {
    let stage = Stage::new(TestApp::echo_path());
    let (mut new, mut used) = (stage.connect(), stage.connect());
    used.send(get("/")).await;
    assert_eq!(used.response().await.text(), "/");
    // Empty lines are no request.
    used.send("\r\n").await;
    until_idle().await;
    assert_eq!(stage.open_connections(), 2);
    let start = Instant::now();
    stage.advance(DrainPhase::Draining);
    new.is_closed().await;
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
async fn a_connection_that_comes_during_the_drain_is_closed() {
    let stage = Stage::new(TestApp::echo_path());
    stage.advance(DrainPhase::Draining);
    let start = Instant::now();
    stage.connect().is_closed().await;
    assert_eq!(start.elapsed().as_secs(), DRAIN_PATIENCE.as_secs());
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
        (DrainPhase::Draining, DrainPhase::Serving),
        (DrainPhase::Cut, DrainPhase::Draining),
        (DrainPhase::Cut, DrainPhase::Serving),
    ] {
        stage.advance(before);
        stage.advance(behind);
        let mut client = stage.connect();
        is_cut_now(&mut client, &stage).await;
    }
    stage.settle().await;
}
