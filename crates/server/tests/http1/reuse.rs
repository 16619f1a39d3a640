//! One connection, many requests: keep-alive and pipelining (RFC 9112, section 9.3).

use std::sync::{Arc, Mutex};

use rsgi_server::{DrainPhase, HIGH_WATER};

use crate::support::{Call, Stage, TestApp, get, post, until_idle};

/// Answers with the path once another task has had its turn.
fn waiting_echo() -> TestApp {
    TestApp::spawned(async |call: Call| {
        tokio::task::yield_now().await;
        call.answer(call.path.clone());
    })
}

#[tokio::test(start_paused = true)]
async fn one_connection_carries_requests_one_after_the_other() {
    for app in [TestApp::echo_path(), waiting_echo()] {
        let stage = Stage::new(app);
        let mut client = stage.connect();
        for number in 0..20 {
            client.send(get(&format!("/{number}"))).await;
            let response = client.response().await;
            assert_eq!((response.status, response.text()), (200, &*format!("/{number}")));
            assert_eq!(response.field("connection"), None, "kept alive without saying so");
            client.hears_nothing().await;
        }
        drop(client);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_in_one_write_are_answered_in_order() {
    for app in [TestApp::echo_path(), waiting_echo()] {
        let stage = Stage::new(app);
        let mut client = stage.connect();
        let requests: String = (0..100).map(|number| get(&format!("/{number}"))).collect();
        client.send(requests).await;
        for number in 0..100 {
            assert_eq!(client.response().await.text(), format!("/{number}"));
        }
        client.hears_nothing().await;
        drop(client);
        stage.settle().await;
    }
}

/// The responses fill the write queue, and a client with room takes all of them at once: what has
/// been read behind them must not wait for more bytes.
#[tokio::test(start_paused = true)]
async fn pipelined_requests_go_on_behind_large_responses() {
    let large = "x".repeat(HIGH_WATER);
    for size in [1024, HIGH_WATER] {
        let content = large[..size].to_owned();
        let stage = Stage::new(TestApp::eager(move |call| call.answer(content.clone())));
        let mut client = stage.connect_over(4 * 1024 * 1024);
        client.send(get("/").repeat(100)).await;
        for number in 0..100 {
            let response = client.response().await;
            assert_eq!((response.status, response.content.len()), (200, size), "{number}");
        }
        drop(client);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_with_content_keep_their_content_apart() {
    let stage = Stage::new(TestApp::echo_content());
    let mut client = stage.connect();
    let mut requests = post("/", "first") + &get("/") + &post("/", "");
    requests += "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    requests += "3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n";
    requests += &post("/", "third");
    client.send(requests).await;
    for content in ["first", "", "", "second", "third"] {
        assert_eq!(client.response().await.text(), content);
    }
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn where_a_head_is_cut_makes_no_difference() {
    let requests = get("/a") + "\r\n" + &get("/b");
    for app in [TestApp::echo_path, waiting_echo] {
        let stage = Stage::new(app());
        for at in 1..requests.len() {
            let (before, behind) = requests.split_at(at);
            let mut client = stage.connect();
            client.send(before).await;
            until_idle().await;
            client.send(behind).await;
            assert_eq!(client.response().await.text(), "/a", "cut at {at}");
            assert_eq!(client.response().await.text(), "/b", "cut at {at}");
        }
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_byte_by_byte_is_answered() {
    let stage = Stage::new(TestApp::echo_content());
    let mut client = stage.connect();
    for byte in (post("/", "content") + &get("/")).bytes() {
        client.send([byte]).await;
        until_idle().await;
    }
    assert_eq!(client.response().await.text(), "content");
    assert_eq!(client.response().await.text(), "");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pipelines_and_does_not_read_is_held_back() {
    let content = "x".repeat(1000);
    let stage = Stage::new(TestApp::eager(move |call| call.answer(content.clone())));
    let capacity = 4096;
    let mut client = stage.connect_over(capacity);
    let requests = get("/").repeat(10_000).into_bytes();

    let sent = client.send_what_is_taken(&requests).await;
    let answered = stage.statuses().len();
    // The write queue, one response over its limit, and what the stream itself holds.
    assert!(answered <= (HIGH_WATER + 2 * capacity) / 1000, "{answered} answered");
    assert!(sent <= 3 * HIGH_WATER, "{sent} bytes taken in");

    let mut read = 0;
    let mut next = sent;
    while read < 10_000 {
        next += client.send_what_is_taken(&requests[next..]).await;
        let answered = stage.statuses().len();
        while read < answered {
            assert_eq!(client.response().await.content.len(), 1000);
            read += 1;
        }
    }
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pipelines_behind_a_slow_application_is_held_back() {
    let mut stage = Stage::played();
    let mut client = stage.connect_over(4096);
    let requests = get("/").repeat(20_000).into_bytes();
    let sent = client.send_what_is_taken(&requests).await;
    assert!(sent <= 3 * HIGH_WATER, "{sent} bytes taken in");
    stage.call().await.answer("first");
    assert_eq!(client.response().await.text(), "first");
    stage.call().await.answer("second");
    assert_eq!(client.response().await.text(), "second");
    // A connection that takes nothing in cannot see its client leave.
    stage.advance(DrainPhase::Cut);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_says_close_is_the_last_one() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    let last = "GET /last HTTP/1.1\r\nHost: test\r\nConnection: Close\r\n\r\n";
    client.send(get("/first") + last + &get("/never")).await;
    assert!(!client.response().await.closes());
    let response = client.response().await;
    assert_eq!(response.text(), "/last");
    assert!(response.closes());
    client.is_closed().await;
    assert_eq!(stage.statuses(), [200, 200]);
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_says_close_ends_the_connection() {
    let stage = Stage::new(TestApp::eager(|call| {
        call.start(200, &[("Connection", "close")]).expect("first");
        call.last("bye").expect("started");
    }));
    let mut client = stage.connect();
    client.send(get("/")).await;
    let response = client.response().await;
    assert_eq!(response.text(), "bye");
    assert!(response.closes());
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn connections_do_not_wait_for_each_other() {
    let mut stage = Stage::played();
    let (mut slow, mut quick) = (stage.connect(), stage.connect());
    slow.send(get("/slow")).await;
    let slow_call = stage.call().await;
    quick.send(get("/quick")).await;
    stage.call().await.answer("quick");
    assert_eq!(quick.response().await.text(), "quick");
    slow_call.answer("slow");
    assert_eq!(slow.response().await.text(), "slow");
    drop((slow, quick, slow_call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_pipelines_leaves_others_their_turn() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let stage = Stage::new(TestApp::eager(move |call| {
        seen.lock().unwrap().push(call.path.clone());
        call.answer("");
    }));
    let (mut greedy, mut modest) = (stage.connect_over(1024 * 1024), stage.connect());
    greedy.send(get("/greedy").repeat(200)).await;
    modest.send(get("/modest")).await;
    modest.response().await;
    let before = order.lock().unwrap().iter().take_while(|path| *path == "/greedy").count();
    assert!(before < 50, "{before} of 200 requests were answered first");
    for _ in 0..200 {
        greedy.response().await;
    }
    drop((greedy, modest));
    stage.settle().await;
}
