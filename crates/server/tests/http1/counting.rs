//! What the telemetry is told of traffic: every byte once, every request in one place.

use crate::support::{Stage, TestApp, get, post, until_idle};

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_as_they_pass() {
    for size in [5, 100_000] {
        let stage = Stage::new(TestApp::eager(move |call| call.answer("x".repeat(size))));
        let mut client = stage.connect();
        let sent = post("/", "some content");
        client.send(sent.clone() + "HEAD").await;
        let head = client.head().await;
        client.exactly(size).await;
        until_idle().await;
        let (read, written) = stage.bytes();
        assert_eq!(read, sent.len() + "HEAD".len());
        assert!((size + 20..size + 200).contains(&written), "{written} for {size}, {head:?}");
        drop(client);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_the_server_answers_by_itself_are_counted_apart() {
    let mut stage = Stage::played_with(|options| options.concurrency_limit = Some(1));
    let mut bad = stage.connect();
    bad.send("nonsense\r\n\r\n").await;
    assert_eq!(bad.response().await.status, 400);

    let (mut first, mut second) = (stage.connect(), stage.connect());
    first.send(get("/")).await;
    let call = stage.call().await;
    second.send(get("/")).await;
    assert_eq!(second.response().await.status, 503);
    call.answer("done");
    assert_eq!(first.response().await.status, 200);
    until_idle().await;
    assert_eq!((stage.refusals(), stage.statuses()), (vec![400, 503], vec![200]));
    drop((bad, first, second));
    stage.settle().await;
}

/// Its content turns out wrong when the application has it already: that is one request, not two.
#[tokio::test(start_paused = true)]
async fn a_request_refused_while_the_application_runs_is_counted_once() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let call = stage.call().await;
    client.send("nonsense\r\n").await;
    assert_eq!(client.response().await.status, 400);
    assert_eq!((stage.refusals(), stage.statuses()), (vec![], vec![400]));
    drop((client, call));
    stage.settle().await;
}
