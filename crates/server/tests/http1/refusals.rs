//! Requests that never reach the application: malformed ones, and more than may be in flight.

use crate::support::{Stage, TestApp, get, post, request};

#[tokio::test(start_paused = true)]
async fn a_bad_request_is_told_why_and_is_the_last_one() {
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(200));
    let large = request("GET", "/", &[("X", &"x".repeat(1000))]);
    let two_lengths = request("POST", "/", &[("Content-Length", "5"), ("Content-Length", "5")]);
    let smuggling =
        request("POST", "/", &[("Content-Length", "5"), ("Transfer-Encoding", "chunked")]);
    let coding = request("POST", "/", &[("Transfer-Encoding", "gzip, chunked")]);
    let expectation = request("POST", "/", &[("Content-Length", "1"), ("Expect", "a-cookie")]);
    for (bytes, status, reason) in [
        ("\u{16}\u{3}\u{1}", 400, "malformed method"),
        ("GET / HTTP/1.1\n", 400, "line feed without carriage return"),
        ("GET / HTTP/1.1\r\n\r\n", 400, "no host field"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "white space before the colon of a field"),
        (
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            505,
            "http version is not supported on this connection",
        ),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501, "method is not implemented"),
        (&long_target, 414, "request target is longer than allowed"),
        (&large, 431, "request head is larger than allowed"),
        (&two_lengths, 400, "more than one content-length"),
        (&smuggling, 400, "content-length together with transfer-encoding"),
        (&coding, 501, "unknown transfer coding, only chunked is supported"),
        (&expectation, 417, "unknown expectation, only 100-continue is supported"),
    ] {
        let mut stage = Stage::played_with(|options| {
            options.head.size = 500;
            options.head.target = 100;
        });
        let mut client = stage.connect();
        client.send(bytes.to_owned() + &get("/smuggled")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (status, reason), "{bytes:?}");
        assert!(response.closes(), "{bytes:?}");
        client.send(get("/later")).await;
        client.is_closed().await;
        stage.is_not_called().await;
        drop(client);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn responses_before_a_bad_request_are_not_lost() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/1") + &get("/2") + "nonsense\r\n\r\n" + &get("/never")).await;
    for text in ["first", "second"] {
        stage.call().await.answer(text);
        assert_eq!(client.response().await.text(), text);
    }
    assert_eq!(client.response().await.status, 400);
    client.is_closed().await;
    stage.is_not_called().await;
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_concurrency_limit_are_told_to_come_back() {
    let mut stage = Stage::played_with(|options| options.concurrency_limit = Some(2));
    let mut clients = [stage.connect(), stage.connect(), stage.connect()];
    let mut calls = Vec::new();
    for client in &mut clients[..2] {
        client.send(get("/")).await;
        calls.push(stage.call().await);
    }
    assert_eq!(stage.requests_in_flight(), 2);
    let [first, second, third] = &mut clients;
    third.send(post("/", "content") + &get("/next")).await;
    let response = third.response().await;
    assert_eq!((response.status, response.closes()), (503, true));
    assert_eq!(response.field("retry-after"), Some("1"));
    third.is_closed().await;
    stage.is_not_called().await;

    calls.pop().expect("two calls").answer("second");
    assert_eq!(second.response().await.text(), "second");
    let mut fourth = stage.connect();
    fourth.send(get("/")).await;
    stage.call().await.answer("fourth");
    assert_eq!(fourth.response().await.text(), "fourth");
    calls.pop().expect("one call").answer("first");
    assert_eq!(first.response().await.text(), "first");
    drop((clients, fourth));
    stage.settle().await;
}

/// RFC 9110, section 9.3.2: a server must not send content in the response to HEAD.
#[tokio::test(start_paused = true)]
async fn a_refused_head_request_gets_no_content() {
    let busy = Stage::with(TestApp::echo_path(), |options| options.concurrency_limit = Some(0));
    let mut client = busy.connect();
    client.send(request("HEAD", "/", &[])).await;
    assert_eq!(client.head().await.status, 503);
    client.is_closed().await;
    drop(client);
    busy.settle().await;

    let small = Stage::with(TestApp::echo_path(), |options| options.body_limit = Some(1));
    let mut client = small.connect();
    client.send(request("HEAD", "/", &[("Content-Length", "2")])).await;
    assert_eq!(client.head().await.status, 413);
    client.is_closed().await;
    drop(client);
    small.settle().await;
}
