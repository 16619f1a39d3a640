//! Request content on its way to the application (RFC 9112, sections 6 and 7).

use rsgi_protocol::http::cycle::More;
use rsgi_server::{HIGH_WATER, Received, SendError};

use crate::support::{Stage, TestApp, chunked, get, post, request, until_idle};

const CHUNKED: &[(&str, &str)] = &[("Transfer-Encoding", "chunked")];

/// What one read takes at most, and what the buffer behind it may have grown to.
const READ_BUFFER: usize = 128 * 1024;

fn chunked_post(content: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = request("POST", "/", CHUNKED).into_bytes();
    bytes.extend_from_slice(&chunked(content, size));
    bytes
}

#[tokio::test(start_paused = true)]
async fn where_content_is_cut_makes_no_difference() {
    let stage = Stage::new(TestApp::echo_content());
    let sized = post("/", "0123456789").into_bytes();
    for message in [sized, chunked_post(b"0123456789", 4)] {
        for at in 1..message.len() {
            let (before, behind) = message.split_at(at);
            let mut client = stage.connect();
            client.send(before).await;
            until_idle().await;
            client.send(behind).await;
            assert_eq!(client.response().await.text(), "0123456789", "cut at {at}");
            client.send(&message).await;
            assert_eq!(client.response().await.text(), "0123456789", "kept, cut at {at}");
        }
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn large_content_arrives_whole() {
    let stage = Stage::new(TestApp::echo_content());
    let content: Vec<u8> = (0..=250).cycle().take(1024 * 1024 + 3).collect();
    for capacity in [1000, 64 * 1024, 4 * 1024 * 1024] {
        let mut client = stage.connect_over(capacity);
        let length = content.len().to_string();
        client.send(request("POST", "/", &[("Content-Length", &length)])).await;
        client.send(&content).await;
        assert!(client.response().await.content == content, "sized, over {capacity}");
        client.send(chunked_post(&content, 70_000)).await;
        assert!(client.response().await.content == content, "chunked, over {capacity}");
        drop(client);
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_reaches_the_application_as_it_comes() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("POST", "/", &[("Content-Length", "6")])).await;
    let call = stage.call().await;
    let body = |data: &'static str, more| Received::Body { data: data.into(), more };
    client.send("abc").await;
    assert_eq!(call.receive().await, body("abc", More::Follows));
    client.send("def").await;
    assert_eq!(call.receive().await, body("def", More::Last));
    call.answer("");
    assert_eq!(call.receive().await, Received::Disconnect, "a complete response ends receiving");
    assert_eq!(client.response().await.status, 200);
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_without_content_is_one_empty_message() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    for head in [get("/"), post("/", ""), request("POST", "/", &[])] {
        client.send(head).await;
        let call = stage.call().await;
        let empty = Received::Body { data: "".into(), more: More::Last };
        assert_eq!(call.receive().await, empty);
        call.answer("");
        assert_eq!(client.response().await.status, 200);
    }
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_read_holds_the_client_back() {
    let content = vec![b'x'; 2 * 1024 * 1024];
    let sized = request("POST", "/", &[("Content-Length", &content.len().to_string())]);
    let sized = [sized.as_bytes(), &content].concat();
    for message in [sized, chunked_post(&content, 5000)] {
        let mut stage = Stage::played();
        let capacity = 4096;
        let mut client = stage.connect_over(capacity);
        let mut sent = client.send_what_is_taken(&message).await;
        let call = stage.call().await;
        assert!(sent >= HIGH_WATER, "{sent} bytes are too few");
        assert!(sent <= HIGH_WATER + READ_BUFFER + capacity, "{sent} bytes are too many");

        let mut received = 0;
        loop {
            let Received::Body { data, more } = call.receive().await else {
                panic!("the client is there");
            };
            received += data.len();
            sent += client.send_what_is_taken(&message[sent..]).await;
            let waiting = sent.saturating_sub(received);
            assert!(waiting <= HIGH_WATER + 2 * READ_BUFFER + capacity, "{waiting} bytes wait");
            if more == More::Last {
                break;
            }
        }
        assert_eq!(received, content.len());
        call.answer("read");
        assert_eq!(client.response().await.text(), "read");
        drop((client, call));
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_little_unread_content_is_dropped_and_the_connection_kept() {
    let stage = Stage::new(TestApp::echo_path());
    let content = "x".repeat(60_000);
    let mut client = stage.connect();
    for _ in 0..3 {
        // At once, and after the response.
        client.send(post("/at-once", &content)).await;
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("/at-once", false));
        client.send(request("POST", "/later", &[("Content-Length", "60000")])).await;
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("/later", false));
        client.send(&content).await;
    }
    client.send(get("/next")).await;
    assert_eq!(client.response().await.text(), "/next");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn much_unread_content_ends_the_connection_but_not_the_response() {
    let megabytes = "x".repeat(3 * 1024 * 1024);
    for fields in [&[("Content-Length", "3145728")], CHUNKED] {
        let stage = Stage::new(TestApp::echo_path());
        let mut client = stage.connect_over(4096);
        client.send(request("POST", "/", fields)).await;
        let response = client.response().await;
        assert_eq!((response.text(), response.closes()), ("/", true));
        client.is_closed().await;
        // The server goes on reading for a while, so that the response is not lost in a reset.
        assert_eq!(stage.open_connections(), 1);
        let taken = client.send_what_is_taken(&megabytes.as_bytes()[..400_000]).await;
        assert_eq!(taken, 400_000);
        drop(client);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn content_beyond_the_limit_never_reaches_the_application() {
    let mut stage = Stage::played_with(|options| options.body_limit = Some(10));
    let mut client = stage.connect();
    client.send(post("/", "0123456789a") + &get("/smuggled")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.closes()), (413, true));
    stage.is_not_called().await;
    client.is_closed().await;
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_of_exactly_the_limit_is_taken() {
    let stage = Stage::with(TestApp::echo_content(), |options| options.body_limit = Some(10));
    let mut client = stage.connect();
    client.send(post("/", "0123456789")).await;
    assert_eq!(client.response().await.text(), "0123456789");
    client.send(chunked_post(b"0123456789", 3)).await;
    assert_eq!(client.response().await.text(), "0123456789");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn chunked_content_is_refused_where_it_passes_the_limit() {
    let mut stage = Stage::played_with(|options| options.body_limit = Some(10));
    let mut client = stage.connect();
    client.send(request("POST", "/", CHUNKED)).await;
    let call = stage.call().await;
    client.send("8\r\n01234567\r\n").await;
    let first = Received::Body { data: "01234567".into(), more: More::Follows };
    assert_eq!(call.receive().await, first);
    client.send("8\r\n01234567\r\n0\r\n\r\n").await;
    assert_eq!(call.receive().await, Received::Disconnect);
    assert_eq!(call.start(200, &[]), Err(SendError::Disconnected));
    let response = client.response().await;
    assert_eq!((response.status, response.closes()), (413, true));
    client.is_closed().await;
    drop((client, call));
    assert_eq!(stage.statuses(), [413]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_chunk_is_a_bad_request_while_nothing_has_been_sent() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("POST", "/", CHUNKED)).await;
    let call = stage.call().await;
    // What came before the fault is still delivered; a start alone is nothing sent.
    call.start(200, &[]).expect("first");
    client.send("3\r\nabc\r\nxyz\r\n".to_owned() + &get("/smuggled")).await;
    let response = client.response().await;
    assert_eq!((response.status, response.closes()), (400, true));
    assert_eq!(response.text(), "malformed chunk size");
    assert_eq!(call.receive().await, Received::Body { data: "abc".into(), more: More::Follows });
    assert_eq!(call.receive().await, Received::Disconnect);
    assert_eq!(call.last("late"), Err(SendError::Disconnected));
    stage.is_not_called().await;
    client.is_closed().await;
    drop((client, call));
    assert_eq!(stage.statuses(), [400]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_chunk_behind_the_start_of_the_response_cuts_it() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(request("POST", "/", CHUNKED)).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    assert_eq!(client.head().await.status, 200);
    assert_eq!(client.chunk().await, b"part");
    client.send("xyz\r\n").await;
    assert_eq!(call.receive().await, Received::Disconnect);
    assert_eq!(call.part("late"), Err(SendError::Disconnected));
    client.is_closed().await;
    drop((client, call));
    assert_eq!(stage.statuses(), [200]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_within_its_content_is_a_disconnect() {
    for fields in [&[("Content-Length", "10")], CHUNKED] {
        let mut stage = Stage::played();
        let mut client = stage.connect();
        client.send(request("POST", "/", fields)).await;
        let call = stage.call().await;
        client.send("5\r\n").await;
        until_idle().await;
        drop(client);
        let end = async { while call.receive().await != Received::Disconnect {} };
        end.await;
        assert_eq!(call.start(200, &[]), Err(SendError::Disconnected));
        drop(call);
        stage.settle().await;
    }
}

/// A response that is complete leaves nobody who could give up on the rest of the content.
#[tokio::test(start_paused = true)]
async fn a_client_that_keeps_dropped_content_to_itself_is_given_up() {
    let stage = Stage::with(TestApp::echo_path(), |options| options.concurrency_limit = Some(1));
    let mut client = stage.connect();
    client.send(request("POST", "/", &[("Content-Length", "10")])).await;
    assert_eq!(client.response().await.text(), "/");
    client.is_closed().await;
    drop(client);
    stage.settle().await;
}

/// Small pieces are bounded in number, too, and the application's reading lets more of them in.
#[tokio::test(start_paused = true)]
async fn many_small_pieces_all_arrive() {
    let mut stage = Stage::played();
    let mut client = stage.connect_over(1 << 20);
    let content = vec![b'x'; 5000];
    client.send(chunked_post(&content, 1)).await;
    let call = stage.call().await;
    until_idle().await;
    assert_eq!(call.content().await, Some(content));
    call.answer("");
    client.response().await;
    drop(client);
    stage.settle().await;
}
