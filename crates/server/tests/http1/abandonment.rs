//! Applications that end without a whole response: a 500 while nothing has been sent, a cut
//! connection after that.

use rsgi_server::{Received, SendError};

use crate::support::{Call, Stage, TestApp, get, request, until_idle};

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_without_a_start_is_a_500() {
    let ways: [fn(Call); 2] = [drop, Call::fail];
    for end in ways {
        let apps = [
            TestApp::eager(end),
            TestApp::spawned(move |call| async move {
                tokio::task::yield_now().await;
                end(call);
            }),
        ];
        for app in apps {
            let stage = Stage::new(app);
            let mut client = stage.connect();
            client.send(get("/") + &get("/next")).await;
            let response = client.response().await;
            assert_eq!((response.status, response.closes()), (500, true));
            assert_eq!(response.text(), "Internal Server Error");
            client.is_closed().await;
            drop(client);
            assert_eq!(stage.statuses(), [500]);
            stage.settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_alone_is_nothing_sent() {
    let stage = Stage::new(TestApp::eager(|call| {
        call.start(200, &[]).expect("first");
    }));
    let mut client = stage.connect();
    client.send(get("/")).await;
    assert_eq!(client.response().await.status, 500);
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_500_to_a_head_request_has_no_content() {
    let stage = Stage::new(TestApp::eager(drop));
    let mut client = stage.connect();
    client.send(request("HEAD", "/", &[])).await;
    assert_eq!(client.head().await.status, 500);
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_an_end_is_cut() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    drop(call);
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.rest().await, b"4\r\npart\r\n", "no last chunk");
    assert_eq!(stage.statuses(), [200]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_end_is_the_connections_end_is_reset() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    assert!(client.head().await.closes());
    call.fail();
    assert_eq!(client.rest().await, b"part");
    assert_eq!(stage.abortive_closes(), 1);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn announced_trailers_that_never_come_cut_the_response() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("GET", "/", &[("TE", "trailers")])).await;
    let call = stage.call().await;
    call.start_with_trailers().expect("first");
    call.last("content").expect("started");
    drop(call);
    assert_eq!(client.head().await.field("transfer-encoding"), Some("chunked"));
    assert_eq!(client.rest().await, b"7\r\ncontent\r\n");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_after_the_end_of_the_call_is_refused() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    let exchange = std::sync::Arc::clone(&call.exchange);
    drop(call);
    assert_eq!(client.response().await.status, 500);
    assert!(exchange.is_disconnected());
    assert_eq!(exchange.debug(), Err(SendError::Disconnected));
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_may_go_on_after_its_response() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let background = stage.call().await;
    background.answer("response");
    assert_eq!(client.response().await.text(), "response");
    until_idle().await;
    assert_eq!(stage.requests_in_flight(), 0);
    // The connection does not wait for the call's end.
    client.send(get("/next")).await;
    stage.call().await.answer("next");
    assert_eq!(client.response().await.text(), "next");
    assert_eq!(background.receive().await, Received::Disconnect);
    let late = background.part("late");
    assert!(matches!(late, Err(SendError::Message(_))), "{late:?}");
    background.fail();
    client.hears_nothing().await;
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_500_with_unread_content_is_not_lost() {
    let stage = Stage::new(TestApp::eager(drop));
    let mut client = stage.connect_over(4096);
    client.send(request("POST", "/", &[("Content-Length", "100000")])).await;
    assert_eq!(client.response().await.status, 500);
    client.is_closed().await;
    assert_eq!(client.send_what_is_taken(&vec![b'x'; 100_000]).await, 100_000);
    drop(client);
    stage.settle().await;
}
