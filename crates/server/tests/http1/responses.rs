//! Responses on their way to the client: framing, streaming, trailers, hints (RFC 9112, sections 6
//! to 9; RFC 8297).

use rsgi_protocol::http::cycle::MessageError;
use rsgi_protocol::http::head::Version;
use rsgi_server::{Flow, HIGH_WATER, Residence, SendError};

use crate::support::{Client, Stage, TestApp, get, request, until_idle};

/// What `head` says, and whatever else is there.
async fn raw(client: &mut Client) -> String {
    String::from_utf8(client.take_what_is_there(usize::MAX).await).expect("text")
}

#[tokio::test(start_paused = true)]
async fn a_body_in_one_piece_has_a_known_length() {
    let stage = Stage::with(TestApp::echo_path(), |options| {
        options.server_field = b"server: rsgi\r\n".to_vec();
        options.extra_fields = b"x-extra: 1\r\n".to_vec();
    });
    let mut client = stage.connect();
    client.send(get("/four")).await;
    assert_eq!(
        raw(&mut client).await,
        "HTTP/1.1 200 OK\r\nserver: rsgi\r\nx-extra: 1\r\ncontent-length: 5\r\n\r\n/four"
    );
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_date_is_added_where_the_application_gives_none() {
    let stage = Stage::with(TestApp::echo_path(), |options| options.date = true);
    let mut client = stage.connect();
    client.send(get("/")).await;
    let response = client.response().await;
    let date = response.field("date").expect("a date");
    assert!(date.ends_with(" GMT"), "{date}");
    drop(client);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_in_another_thread_leaves_writing_to_the_connection() {
    for (residence, writes) in [(Residence::SameThread, true), (Residence::OtherThread, false)] {
        let mut stage = Stage::played_with(|options| options.application = residence);
        let mut client = stage.connect();
        client.send(get("/")).await;
        let call = stage.call().await;
        until_idle().await;
        call.start(200, &[]).expect("nothing has been sent");
        call.part("part").expect("started");
        // No task has run since.
        assert_eq!(stage.bytes().1 > 0, writes, "{residence:?}");
        client.head().await;
        assert_eq!(client.chunk().await, b"part", "{residence:?}");
        call.last("").expect("open");
        assert_eq!(raw(&mut client).await, "0\r\n\r\n", "{residence:?}");
        drop(client);
        drop(call);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_chunk_of_a_stream_leaves_at_once() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    assert_eq!(call.start(200, &[]), Ok(Flow::Open));
    client.hears_nothing().await;
    for chunk in ["first", "second", "third"] {
        assert_ne!(call.part(chunk).expect("started"), Flow::Full);
        if chunk == "first" {
            assert_eq!(client.head().await.field("transfer-encoding"), Some("chunked"));
        }
        assert_eq!(client.chunk().await, chunk.as_bytes());
        client.hears_nothing().await;
    }
    assert_eq!(call.last(""), Ok(Flow::Open));
    assert_eq!(raw(&mut client).await, "0\r\n\r\n");
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_stream_leaves_with_an_empty_first_message() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[("content-type", "text/event-stream")]).expect("first");
    call.part("").expect("started");
    assert_eq!(client.head().await.field("content-type"), Some("text/event-stream"));
    client.hears_nothing().await;
    call.part("data: 1\n\n").expect("started");
    assert_eq!(client.chunk().await, b"data: 1\n\n");
    // An empty message in between would be the last chunk.
    call.part("").expect("started");
    client.hears_nothing().await;
    call.last("end").expect("started");
    assert_eq!(raw(&mut client).await, "3\r\nend\r\n0\r\n\r\n");
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_declared_length_is_kept_for_a_stream() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[("Content-Length", "6")]).expect("first");
    call.part("abc").expect("started");
    let head = client.head().await;
    assert_eq!(head.field("content-length"), Some("6"));
    assert_eq!(head.field("transfer-encoding"), None);
    assert_eq!(client.exactly(3).await, b"abc");
    call.last("def").expect("started");
    assert_eq!(client.exactly(3).await, b"def");
    client.send(get("/next")).await;
    stage.call().await.answer("next");
    assert_eq!(client.response().await.text(), "next");
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn responses_without_content_have_none() {
    for (method, status, length, told) in [
        ("HEAD", 200, None, None),
        ("HEAD", 200, Some("5"), Some("5")),
        ("GET", 204, None, None),
        ("GET", 204, Some("5"), None),
        ("GET", 304, None, None),
        ("GET", 304, Some("5"), Some("5")),
    ] {
        let case = format!("{method} {status} {length:?}");
        let mut stage = Stage::played();
        let mut client = stage.connect();
        for is_stream in [false, true] {
            client.send(request(method, "/", &[])).await;
            let call = stage.call().await;
            let fields: Vec<_> =
                length.map(|length| ("Content-Length", length)).into_iter().collect();
            call.start(status, &fields).expect("first");
            if is_stream {
                call.part("drop").expect("what is dropped is not counted");
            }
            call.last("ped").expect("what is dropped is not counted");
            let head = client.head().await;
            assert_eq!(head.status, status, "{case}");
            assert_eq!(head.field("content-length"), told, "{case}");
            assert_eq!(head.field("transfer-encoding"), None, "{case}");
            assert!(!head.closes(), "{case}");
            client.hears_nothing().await;
        }
        drop(client);
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_http_1_0_client_is_kept_where_it_asks_and_the_length_is_known() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let call = stage.call().await;
        assert_eq!(call.version, Version::Http10);
        call.answer("kept");
        let response = client.response().await;
        assert_eq!(response.text(), "kept");
        assert_eq!(response.field("connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    stage.call().await.answer("closed");
    let response = client.response().await;
    assert_eq!((response.text(), response.closes()), ("closed", true));
    client.is_closed().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_to_an_http_1_0_client_ends_with_the_connection() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    let call = stage.call().await;
    call.early_hint(&[("link", "</style.css>; rel=preload")]).expect("before the start");
    call.start_with_trailers().expect("first");
    call.part("first ").expect("started");
    let head = client.head().await;
    assert_eq!((head.status, head.closes()), (200, true), "no hint, and no reuse");
    assert_eq!(head.field("transfer-encoding"), None);
    assert_eq!(client.exactly(6).await, b"first ");
    call.last("second").expect("started");
    call.trailers(&[("x", "1")]).expect("announced");
    assert_eq!(client.rest().await, b"second");
    assert_eq!(stage.abortive_closes(), 0);
    drop(call);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn trailers_go_to_clients_that_want_them() {
    for (fields, wanted) in [(&[("TE", "trailers")][..], true), (&[], false)] {
        let mut stage = Stage::played();
        let mut client = stage.connect();
        client.send(request("GET", "/", fields)).await;
        let call = stage.call().await;
        assert_eq!(call.accepts_trailers, wanted);
        call.start_with_trailers().expect("first");
        call.part("content").expect("started");
        call.last("").expect("started");
        assert!(!call.exchange.is_complete(), "the trailers are still to come");
        call.trailers(&[("x-sum", "42"), ("y", "z")]).expect("announced");
        let response = client.response().await;
        assert_eq!(response.text(), "content");
        let sent = response.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let expected: &[_] = if wanted { &[("x-sum", "42"), ("y", "z")] } else { &[] };
        assert_eq!(sent.collect::<Vec<_>>(), expected);
        client.send(get("/next")).await;
        stage.call().await.answer("next");
        assert_eq!(client.response().await.text(), "next");
        drop((client, call));
        stage.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn early_hints_leave_before_the_response() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    for hint in ["</style.css>; rel=preload", "</script.js>; rel=preload"] {
        assert_eq!(call.early_hint(&[("link", hint)]), Ok(Flow::Yield));
        let interim = client.head().await;
        assert_eq!((interim.status, interim.field("link")), (103, Some(hint)));
        client.hears_nothing().await;
    }
    call.answer("done");
    assert_eq!(client.response().await.text(), "done");
    let late = call.early_hint(&[("link", "</late.css>; rel=preload")]);
    assert!(matches!(late, Err(SendError::Message(_))), "{late:?}");
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn more_content_than_declared_is_the_applications_error_and_cuts_the_response() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[("Content-Length", "5")]).expect("first");
    call.part("abc").expect("started");
    let too_long = SendError::Message(MessageError::BodyTooLong { declared: 5 });
    assert_eq!(call.part("def"), Err(too_long));
    call.fail();
    assert_eq!(client.head().await.field("content-length"), Some("5"));
    assert_eq!(client.rest().await, b"abc");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn less_content_than_declared_is_the_applications_error_and_cuts_the_response() {
    let mut stage = Stage::played();
    let mut client = stage.connect();
    client.send(get("/") + &get("/next")).await;
    let call = stage.call().await;
    call.start(200, &[("Content-Length", "5")]).expect("first");
    call.part("abc").expect("started");
    let too_short = SendError::Message(MessageError::BodyTooShort { declared: 5, missing: 1 });
    assert_eq!(call.last("d"), Err(too_short));
    call.fail();
    assert_eq!(client.head().await.field("content-length"), Some("5"));
    assert_eq!(client.rest().await, b"abc");
    stage.is_not_called().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_slowly_makes_the_application_wait() {
    let mut stage = Stage::played();
    let capacity = 4096;
    let mut client = stage.connect_over(capacity);
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    let mut sent = 0;
    let mut chunk = 0;
    // Sends as long as it may; a part that fills the exchange may still be taken over by the
    // connection.
    loop {
        chunk += 1;
        sent += 1000;
        if call.part(vec![b'x'; 1000]).expect("the client is there") == Flow::Full {
            let waited = tokio::time::timeout(std::time::Duration::from_secs(60), call.drained());
            if waited.await.is_err() {
                break;
            }
        }
        if chunk % 10 == 0 {
            until_idle().await;
        }
    }
    assert!(sent <= 2 * HIGH_WATER + capacity + 20_000, "{sent} bytes taken");
    // The client reads: the application may go on.
    client.head().await;
    let mut received = 0;
    let reads = async {
        while received < 2 * HIGH_WATER {
            received += client.chunk().await.len();
        }
    };
    tokio::join!(reads, call.drained());
    call.last("").expect("the client is there");
    while received < sent {
        received += client.chunk().await.len();
    }
    assert_eq!(received, sent);
    assert!(client.chunk().await.is_empty());
    drop((client, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn large_parts_of_a_stream_arrive_in_order() {
    let stage = Stage::new(TestApp::spawned(async |call| {
        call.start(200, &[]).expect("first");
        for round in 0..50_u8 {
            call.part(vec![round; 30_000]).expect("the client is there");
            call.drained().await;
        }
        call.last("end").expect("the client is there");
    }));
    for capacity in [100, 64 * 1024] {
        let mut client = stage.connect_over(capacity);
        client.send(get("/")).await;
        let content = client.response().await.content;
        let mut expected: Vec<u8> = (0..50).flat_map(|round| vec![round; 30_000]).collect();
        expected.extend_from_slice(b"end");
        assert!(content == expected, "over {capacity}");
    }
    stage.settle().await;
}
