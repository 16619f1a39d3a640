//! Requests that do not reach the application.

use bytes::Bytes;
use http::Request;

use crate::peer::{Peer, get, request, whole};
use crate::raw::{END_HEADERS, END_STREAM, HEADERS, Raw, frame};
use crate::support::{Call, Stage, TestApp};

fn stage() -> Stage {
    Stage::with(TestApp::echo_content(), |options| {
        options.body_limit = Some(10);
        options.head.fields = 10;
        options.head.size = 2000;
        options.head.target = 1000;
    })
}

#[tokio::test(start_paused = true)]
async fn what_http_1_refuses_is_refused_and_the_connection_goes_on() {
    let stage = stage();
    let mut peer = Peer::new(&stage).await;
    let many: Vec<(String, &str)> = (0..11).map(|number| (format!("x-{number}"), "")).collect();
    let many: Vec<(&str, &str)> =
        many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let long = "x".repeat(1500);
    let target = format!("/{long}");
    for (status, refused) in [
        (414, get(&target)),
        (431, request("GET", "/", &many)),
        (431, request("GET", "/", &[("x-a", &long), ("x-b", &long)])),
        (417, request("POST", "/", &[("expect", "luck")])),
        (413, request("POST", "/", &[("content-length", "11")])),
    ] {
        let what = format!("{} {:.20}", refused.method(), refused.uri().path());
        let has_content = refused.headers().contains_key("content-length");
        let (response, stream) = peer.send(refused, has_content).await;
        let reply = whole(response).await.expect("a response");
        assert_eq!(reply.status, status, "{what}");
        drop(stream);
        let reply = peer.post(request("POST", "/", &[]), b"fine").await;
        assert_eq!(reply.text(), "fine", "after {what}");
    }
    assert_eq!(stage.statuses(), [200; 5], "nothing else was with the application");
    // The stack itself answers a header list that is too long.
    assert_eq!(stage.refusals(), [414, 431, 417, 413]);
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_host_has_to_be_one() {
    let stage = stage();
    let mut peer = Peer::new(&stage).await;
    for authority in ["user@test", "[::1"] {
        let Ok(asked) = Request::get(format!("http://{authority}/")).body(()) else { continue };
        assert_eq!(peer.ask(asked).await.status, 400, "{authority}");
    }
    drop(peer);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_target_and_a_host_are_needed() {
    let stage = stage();
    for (what, block) in [
        ("GET *", b"\x82\x04\x01*\x86\x41\x01x".as_slice()),
        ("no host", b"\x82\x84\x86"),
        ("two hosts", b"\x82\x84\x86\x66\x01x\x66\x01y"),
    ] {
        let mut raw = Raw::new(&stage).await;
        assert!(raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, block)).await);
        let frames = raw.rest().await;
        let answer = frames.iter().find(|frame| frame.kind == HEADERS).expect(what);
        assert_eq!(answer.payload.first(), Some(&0x8c), ":status 400 for {what}");
    }
    assert!(stage.statuses().is_empty());
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_that_turns_out_too_long_is_refused() {
    let stage = stage();
    let mut peer = Peer::new(&stage).await;
    let reply = peer.post(request("POST", "/", &[]), b"ten bytes.").await;
    assert_eq!(reply.status, 200);
    let reply = peer.post(request("POST", "/", &[]), b"eleven byte").await;
    assert_eq!(reply.status, 413);
    drop(peer);
    assert_eq!(stage.statuses(), [200, 413]);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_that_turns_out_too_long_within_the_response_resets_the_stream() {
    let mut stage = Stage::played_with(|options| options.body_limit = Some(10));
    let mut peer = Peer::new(&stage).await;
    let (response, mut stream) = peer.send(request("POST", "/", &[]), true).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    call.part("part").expect("started");
    let read = tokio::spawn(whole(response));
    stream.send_data(Bytes::from_static(b"eleven byte"), false).expect("open");
    let error = read.await.expect("no panic").expect_err("a reset");
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert!(call.exchange.is_disconnected());
    drop((peer, call, stream));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn more_requests_than_the_limit_are_answered_503() {
    let mut stage = Stage::played_with(|options| options.concurrency_limit = Some(2));
    let mut peer = Peer::new(&stage).await;
    let (first, _) = peer.send(get("/"), false).await;
    let (second, _) = peer.send(get("/"), false).await;
    let calls: [Call; 2] = [stage.call().await, stage.call().await];
    let reply = peer.ask(get("/")).await;
    assert_eq!((reply.status, reply.field("retry-after")), (503, Some("1")));
    assert_eq!(stage.refusals(), [503]);
    for call in calls {
        call.answer("fine");
    }
    for response in [first, second] {
        assert_eq!(whole(response).await.expect("a response").text(), "fine");
    }
    drop(peer);
    stage.settle().await;
}
