//! How long a client may take. Paused time makes every deadline exact.

use std::time::Duration;

use rsgi_server::HIGH_WATER;
use tokio::time::{Instant, sleep};

use crate::support::{Stage, TestApp, get, request, until_idle};

const HEAD: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Time that a test lets pass by waiting on purpose.
const STEP: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_connection_that_stays_silent_is_closed_without_a_word() {
    let mut stage = Stage::played();
    let start = Instant::now();
    let mut client = stage.connect();
    client.is_closed().await;
    assert_eq!(start.elapsed(), HEAD);
    stage.is_not_called().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_not_whole_in_time_is_answered_408() {
    let stage = Stage::new(TestApp::echo_path());
    let start = Instant::now();
    let mut client = stage.connect();
    client.send("GET / HTTP/1.1\r\nHost:").await;
    let rest = client.rest().await;
    assert_eq!(start.elapsed(), HEAD);
    let text = String::from_utf8(rest).expect("text");
    assert!(text.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
    assert!(text.contains("\r\nconnection: close\r\n"), "{text}");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_gets_no_extra_time() {
    let stage = Stage::new(TestApp::echo_path());
    let start = Instant::now();
    let mut client = stage.connect();
    for byte in get("/").bytes().take(9) {
        client.send([byte]).await;
        sleep(STEP).await;
    }
    let rest = client.rest().await;
    assert!(rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(start.elapsed(), HEAD);
    drop(client);
    stage.settle().await;
}

/// `Options::head_timeout` includes the wait for the first byte.
#[tokio::test(start_paused = true)]
async fn the_wait_for_the_first_byte_counts() {
    let stage = Stage::new(TestApp::echo_path());
    let start = Instant::now();
    let mut client = stage.connect();
    sleep(HEAD.saturating_sub(STEP)).await;
    client.send("GET / ").await;
    let rest = client.rest().await;
    assert!(rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(start.elapsed(), HEAD);
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn empty_lines_are_no_request_and_get_no_extra_time() {
    let stage = Stage::new(TestApp::echo_path());
    let start = Instant::now();
    let mut client = stage.connect();
    for _ in 0..9 {
        client.send("\r\n").await;
        sleep(STEP).await;
    }
    client.is_closed().await;
    assert_eq!(start.elapsed(), HEAD);
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn empty_lines_between_requests_get_no_extra_time() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    client.send(get("/")).await;
    assert_eq!(client.response().await.text(), "/");
    let start = Instant::now();
    for _ in 0..4 {
        client.send("\r\n").await;
        sleep(STEP).await;
    }
    client.is_closed().await;
    assert_eq!(start.elapsed(), KEEP_ALIVE);
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_of_many_pieces_within_its_time_is_served() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    for byte in get("/slow").bytes() {
        client.send([byte]).await;
        sleep(HEAD / 100).await;
    }
    assert_eq!(client.response().await.text(), "/slow");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_when_its_time_is_up() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    for _ in 0..10 {
        client.send(get("/")).await;
        assert_eq!(client.response().await.text(), "/");
        sleep(KEEP_ALIVE.saturating_sub(STEP)).await;
    }
    client.send(get("/")).await;
    assert_eq!(client.response().await.text(), "/");
    let start = Instant::now();
    client.is_closed().await;
    assert_eq!(start.elapsed(), KEEP_ALIVE);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_head_gets_the_time_of_a_head() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    client.send(get("/")).await;
    assert_eq!(client.response().await.text(), "/");
    sleep(STEP).await;
    let start = Instant::now();
    client.send("GET ").await;
    let rest = client.rest().await;
    assert!(rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(start.elapsed(), HEAD);
    drop(client);
    stage.settle().await;
}

/// The keep-alive time is for idle connections: what has begun is a head, also where it began
/// early.
#[tokio::test(start_paused = true)]
async fn a_head_that_began_during_the_response_gets_the_time_of_a_head() {
    let stage = Stage::with(TestApp::echo_path(), |options| {
        options.keep_alive_timeout = Duration::ZERO;
    });
    let mut client = stage.connect();
    let start = Instant::now();
    client.send(get("/first") + "GET /sec").await;
    assert_eq!(client.response().await.text(), "/first");
    until_idle().await;
    client.send("ond HTTP/1.1\r\nHost: test\r\n").await;
    let rest = client.rest().await;
    assert!(rest.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(start.elapsed(), HEAD);
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_may_take_any_time() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    sleep(100 * HEAD).await;
    call.answer("at last");
    assert_eq!(client.response().await.text(), "at last");
    drop((client, call));
    stage.settle().await;
}

/// A large body in one message is complete for the application long before a slow client has it.
#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_gets_the_whole_response() {
    let length = 100 * HIGH_WATER;
    let stage = Stage::new(TestApp::eager(move |call| call.answer(vec![b'x'; length])));
    for fields in [&[][..], &[("Connection", "close")]] {
        let mut client = stage.connect_over(HIGH_WATER);
        client.send(request("GET", "/", fields)).await;
        assert_eq!(client.head().await.status, 200);
        let mut received = 0;
        while received < length {
            let part = client.take_what_is_there(HIGH_WATER).await.len();
            assert_ne!(part, 0, "cut off after {received} bytes");
            received += part;
            sleep(STEP).await;
        }
        drop(client);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_last_response_that_nobody_reads_is_given_up() {
    let stage = Stage::new(TestApp::eager(|call| call.answer(vec![b'x'; HIGH_WATER])));
    for fields in [&[][..], &[("Connection", "close")]] {
        let mut client = stage.connect_over(1024);
        client.send(request("GET", "/", fields)).await;
        let start = Instant::now();
        stage.emptied().await;
        assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
        drop(client);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_stop_sending_is_given_up() {
    let stage = Stage::new(TestApp::echo_path());
    // Too slow, and too much.
    let mut client = stage.connect();
    client.send("nonsense\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    let start = Instant::now();
    client.is_closed().await;
    stage.emptied().await;
    assert!(start.elapsed() <= Duration::from_secs(5), "{:?}", start.elapsed());

    let mut client = stage.connect();
    client.send("nonsense\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    let start = Instant::now();
    for _ in 0..64 {
        client.send_until_closed(&[b'x'; 16 * 1024]).await;
    }
    stage.emptied().await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    stage.settle().await;
}
