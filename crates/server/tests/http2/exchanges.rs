//! Requests and their responses.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::StatusCode;
use rsgi_protocol::http::head::Version;
use rsgi_server::Received;
use tokio::time::timeout;

use crate::peer::{Peer, get, head, piece, request, whole};
use crate::support::{Call, Stage, TestApp, until_idle};

#[tokio::test(start_paused = true)]
async fn requests_are_answered_one_by_one_and_all_at_once() {
    let stage = Stage::with(TestApp::echo_path(), |options| {
        options.server_field = b"server: rsgi\r\n".to_vec();
    });
    let mut peer = Peer::new(&stage).await;
    let reply = peer.ask(get("/first")).await;
    assert_eq!((reply.status, reply.text()), (200, "/first"));
    assert_eq!(reply.field("content-length"), Some("6"));
    assert_eq!(reply.field("server"), Some("rsgi"));
    assert_eq!(reply.field("connection"), None);
    let mut responses = Vec::new();
    for number in 0..100 {
        responses.push(peer.send(get(&format!("/{number}")), false).await.0);
    }
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(whole(response).await.expect("a response").text(), format!("/{number}"));
    }
    assert_eq!(stage.open_connections(), 1);
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_application_says_of_date_and_server_stands_for_its_own_response() {
    let own = [("date", "Sun, 06 Nov 1994 08:49:37 GMT"), ("server", "mine")];
    let app = TestApp::eager(move |call| {
        let fields = if call.path == "/own" { own.as_slice() } else { &[] };
        call.start(200, fields).expect("first");
        call.last("").expect("the client is there");
    });
    let stage = Stage::with(app, |options| {
        options.date = true;
        options.server_field = b"server: rsgi\r\n".to_vec();
    });
    let mut peer = Peer::new(&stage).await;
    for path in ["/", "/own", "/"] {
        let reply = peer.ask(get(path)).await;
        for (name, value) in own {
            let values: Vec<_> = reply.fields.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{path}: {name}");
            assert_eq!(values[0] == value, path == "/own", "{path}: {name}");
        }
    }
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_sees_http_2() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, _) = peer.send(get("/a%20b?c=d"), false).await;
    let call = stage.call().await;
    assert_eq!((call.path.as_str(), call.version), ("/a%20b", Version::Http2));
    assert!(call.accepts_trailers);
    assert_eq!(call.content().await.as_deref(), Some(b"".as_slice()));
    call.answer("done");
    assert_eq!(call.receive().await, Received::Disconnect);
    assert_eq!(whole(response).await.expect("a response").text(), "done");
    drop((peer, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_response_to_head_has_a_length_and_no_content() {
    let stage = Stage::new(TestApp::eager(|call| {
        call.start(200, &[("content-length", "5")]).expect("first");
        call.last("five!").expect("the client is there");
    }));
    let mut peer = Peer::new(&stage).await;
    let reply = peer.ask(request("HEAD", "/", &[])).await;
    assert_eq!((reply.status, reply.text()), (200, ""));
    assert_eq!(reply.field("content-length"), Some("5"));
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn statuses_without_content_have_none() {
    let stage = Stage::new(TestApp::eager(|call| {
        let status = call.path.trim_start_matches('/').parse().expect("a status");
        call.start(status, &[]).expect("first");
        call.last("").expect("the client is there");
    }));
    let mut peer = Peer::new(&stage).await;
    for (path, length) in [("/204", None), ("/304", None), ("/205", Some("0"))] {
        let reply = peer.ask(get(path)).await;
        assert_eq!((reply.text(), reply.field("content-length")), ("", length), "{path}");
    }
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_goes_in_and_comes_out_whole() {
    let stage = Stage::new(TestApp::echo_content());
    let mut peer = Peer::with(&stage, 4096, |builder| {
        builder.initial_window_size(70_000);
    })
    .await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
    for length in [0, 1, 1023, 1024, 16_384, 65_536, 300_000, 3_000_000] {
        let reply = peer.post(request("POST", "/", &[]), &content[..length]).await;
        assert!(reply.content == content[..length], "{length} bytes");
    }
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn pieces_leave_as_they_are_sent() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, _) = peer.send(get("/"), false).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("one").expect("started");
    let (response, mut content) = head(response).await.into_parts();
    assert_eq!(response.headers.get("content-length"), None);
    assert_eq!(piece(&mut content).await.expect("a piece").expect("data"), "one");
    // Several pieces at a time, whose room the client has granted in one go.
    for size in [10_000, 20_000, 30_000] {
        call.part(vec![b'x'; size]).expect("started");
    }
    let mut read = 0;
    while read < 60_000 {
        read += piece(&mut content).await.expect("a piece").expect("data").len();
    }
    call.last("").expect("started");
    assert!(piece(&mut content).await.is_none_or(|piece| piece.expect("an end").is_empty()));
    assert!(content.is_end_stream());
    drop((peer, call, content));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn trailers_come_behind_the_content() {
    let stage = Stage::new(TestApp::eager(|call| {
        call.start_with_trailers().expect("first");
        if call.path == "/content" {
            call.last("content").expect("started");
        } else {
            call.last("").expect("started");
        }
        call.trailers(&[("X-Sum", "7")]).expect("announced");
    }));
    let mut peer = Peer::new(&stage).await;
    for (path, content) in [("/content", "content"), ("/none", "")] {
        let reply = peer.ask(get(path)).await;
        assert_eq!(reply.text(), content);
        assert_eq!(reply.trailers.expect("trailers")["x-sum"], "7");
    }
    drop(peer);
    stage.settle().await;
}

async fn interim(response: &mut ResponseFuture) -> StatusCode {
    let interim = poll_fn(|cx| response.poll_informational(cx));
    let interim = timeout(Duration::from_secs(600), interim).await.expect("something");
    interim.expect("an interim response").expect("no error").status()
}

#[tokio::test(start_paused = true)]
async fn early_hints_come_early() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (mut response, _) = peer.send(get("/"), false).await;
    let call = stage.call().await;
    call.early_hint(&[("link", "</a>; rel=preload")]).expect("nothing sent");
    assert_eq!(interim(&mut response).await, StatusCode::EARLY_HINTS);
    call.answer("later");
    assert_eq!(whole(response).await.expect("a response").text(), "later");
    drop((peer, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_is_told_to_go_on_once_its_content_is_wanted() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let expecting = request("POST", "/", &[("expect", "100-continue")]);
    let (mut response, mut stream) = peer.send(expecting, true).await;
    let call = stage.call().await;
    let client = async {
        until_idle().await;
        assert_eq!(interim(&mut response).await, StatusCode::CONTINUE);
        stream.send_data(Bytes::from_static(b"content"), true).expect("open");
    };
    let (content, ()) = tokio::join!(call.content(), client);
    assert_eq!(content.as_deref(), Some(b"content".as_slice()));
    call.answer("thanks");
    assert_eq!(whole(response).await.expect("a response").text(), "thanks");
    drop((peer, call, stream));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_that_nobody_asked_for_is_not_told_to_come() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let expecting = request("POST", "/", &[("expect", "100-continue")]);
    let (mut response, stream) = peer.send(expecting, true).await;
    let call: Call = stage.call().await;
    until_idle().await;
    call.answer("no, thanks");
    until_idle().await;
    let interim = poll_fn(|cx| response.poll_informational(cx)).await;
    assert!(interim.is_none(), "{interim:?}");
    assert_eq!(whole(response).await.expect("a response").text(), "no, thanks");
    drop((peer, call, stream));
    stage.settle().await;
}
