//! More requests than the application may have at once, and requests that make no progress.

use std::time::Duration;

use rsgi_protocol::http::cycle::More;
use rsgi_server::{HIGH_WATER, Received};
use tokio::time::{Instant, sleep};

use crate::support::{Stage, get, post, request, until_idle};

const QUEUE: Duration = Duration::from_secs(3);
const SILENCE: Duration = Duration::from_secs(7);
/// A client waits no longer than a second for a response.
const ALMOST: Duration = Duration::from_millis(6500);

/// One request at the application, `waiting` in the queue.
fn narrow(waiting: u32) -> Stage {
    Stage::played_with(|options| {
        options.concurrency_limit = Some(1);
        options.overload.queue_limit = waiting;
        options.overload.queue_timeout = QUEUE;
    })
}

fn impatient() -> Stage {
    Stage::played_with(|options| options.overload.request_timeout = Some(SILENCE))
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_are_answered_in_the_order_of_their_coming() {
    let mut stage = narrow(2);
    let mut clients = [stage.connect(), stage.connect(), stage.connect()];
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(post(&format!("/{number}"), "content")).await;
        until_idle().await;
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let call = stage.call().await;
        stage.is_not_called().await;
        assert_eq!((call.path.clone(), stage.requests_in_flight()), (format!("/{number}"), 1));
        assert_eq!(call.content().await.as_deref(), Some(&b"content"[..]));
        call.answer(number.to_string());
        drop(call);
        assert_eq!(client.response().await.text(), number.to_string());
    }
    drop(clients);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn who_finds_the_queue_full_is_refused_at_once_and_who_waits_too_long_later() {
    let mut stage = narrow(1);
    let mut clients = [stage.connect(), stage.connect(), stage.connect()];
    let start = Instant::now();
    for client in &mut clients {
        client.send(get("/")).await;
        until_idle().await;
    }
    let call = stage.call().await;
    let [first, second, third] = &mut clients;
    let refused = third.response().await;
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert!(start.elapsed() < QUEUE);
    sleep(Duration::from_millis(2500)).await;
    let late = second.response().await;
    assert_eq!((late.status, late.field("retry-after"), late.closes()), (503, Some("1"), true));
    assert!(start.elapsed() >= QUEUE && start.elapsed() < QUEUE + Duration::from_millis(100));
    stage.is_not_called().await;
    call.answer("first");
    assert_eq!(first.response().await.text(), "first");
    drop((clients, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_its_place_up() {
    let mut stage = narrow(2);
    let mut clients = [stage.connect(), stage.connect(), stage.connect()];
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{number}"))).await;
        until_idle().await;
    }
    let [mut first, second, mut third] = clients;
    let call = stage.call().await;
    drop(second);
    until_idle().await;
    assert_eq!(stage.open_connections(), 2);
    call.answer("first");
    drop(call);
    assert_eq!(first.response().await.text(), "first");
    let call = stage.call().await;
    assert_eq!(call.path, "/2");
    call.answer("third");
    drop(call);
    assert_eq!(third.response().await.text(), "third");
    drop((first, third));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_says_nothing_in_time_is_given_up_with_504() {
    let mut stage = impatient();
    let mut client = stage.connect();
    let start = Instant::now();
    client.send(get("/")).await;
    let call = stage.call().await;
    sleep(ALMOST).await;
    let response = client.response().await;
    assert_eq!((response.status, response.closes()), (504, true));
    assert_eq!(start.elapsed(), SILENCE);
    assert!(call.exchange.is_disconnected());
    client.is_closed().await;
    drop((client, call));
    assert_eq!(stage.statuses(), [504]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_goes_on_may_take_as_long_as_it_likes() {
    let mut stage = impatient();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    for _ in 0..5 {
        sleep(ALMOST).await;
        call.part("tick").expect("the client is there");
        until_idle().await;
    }
    call.last("end").expect("the client is there");
    drop(call);
    assert_eq!(client.response().await.text(), "tickticktickticktickend");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_response_that_stops_within_is_cut() {
    let mut stage = impatient();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("the client is there");
    let start = Instant::now();
    let rest = client.rest().await;
    assert!(rest.ends_with(b"4\r\npart\r\n"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(start.elapsed(), SILENCE);
    assert!(call.exchange.is_disconnected());
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_its_content_is_told_408_and_one_that_drips_is_not() {
    let mut stage = impatient();
    let mut client = stage.connect();
    client.send(request("POST", "/", &[("Content-Length", "9")])).await;
    let call = stage.call().await;
    for byte in ["a", "b", "c"] {
        sleep(ALMOST).await;
        client.send(byte).await;
        let data = byte.as_bytes().to_vec().into();
        assert_eq!(call.receive().await, Received::Body { data, more: More::Follows });
    }
    let start = Instant::now();
    let answered = async {
        sleep(ALMOST).await;
        client.response().await
    };
    let (received, response) = tokio::join!(call.receive(), answered);
    assert_eq!((received, response.status), (Received::Disconnect, 408));
    assert_eq!(start.elapsed(), SILENCE);
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_cut_although_the_application_goes_on() {
    let mut stage = impatient();
    let mut client = stage.connect_over(1024);
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part(vec![b'x'; 4 * HIGH_WATER]).expect("the client is there");
    sleep(ALMOST).await;
    client.take_what_is_there(512).await;
    sleep(ALMOST).await;
    assert!(!call.exchange.is_disconnected());
    sleep(Duration::from_secs(2)).await;
    assert!(call.exchange.is_disconnected());
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_that_comes_behind_a_response_has_its_own_time() {
    let mut stage = impatient();
    let mut client = stage.connect();
    client.send(request("POST", "/", &[("Content-Length", "9")])).await;
    stage.call().await.answer("early");
    assert_eq!(client.response().await.text(), "early");
    sleep(SILENCE + Duration::from_secs(1)).await;
    client.send("123456789").await;
    client.send(get("/next")).await;
    stage.call().await.answer("next");
    assert_eq!(client.response().await.text(), "next");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn the_time_is_every_requests_own() {
    let mut stage = impatient();
    let mut client = stage.connect();
    for _ in 0..3 {
        client.send(get("/")).await;
        let call = stage.call().await;
        sleep(Duration::from_secs(4)).await;
        call.answer("in time");
        drop(call);
        assert_eq!(client.response().await.text(), "in time");
    }
    drop(client);
    stage.settle().await;
}
