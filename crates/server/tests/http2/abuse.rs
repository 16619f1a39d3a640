//! Clients that do not mean well: what they cost is bounded, and others are served.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rsgi_server::Received;

use crate::peer::{Peer, get};
use crate::raw::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GET, GOAWAY, HEADERS, PING, PREFACE,
    RST_STREAM, Raw, SETTINGS, frame,
};
use crate::support::{Stage, TestApp, until_idle};

const PROTOCOL_ERROR: Option<u32> = Some(1);
const ENHANCE_YOUR_CALM: Option<u32> = Some(11);
const CANCEL: &[u8] = &[0, 0, 0, 8];

fn ask(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

#[tokio::test(start_paused = true)]
async fn a_preface_that_is_wrong_behind_its_first_line_ends_the_connection() {
    let stage = Stage::new(TestApp::echo_path());
    for wrong in ["PRI * HTTP/2.0\r\n\r\nSM\r\nXX", "PRI * HTTP/2.0\r\n\r\nGET / HTTP/1.1\r\n\r\n"]
    {
        let mut raw = Raw::silent(&stage);
        assert!(raw.send(wrong.as_bytes()).await);
        raw.rest().await;
    }
    for no_preface in ["PRI * HTTP/2.0\r\nHost: x\r\n\r\n", "PRI / HTTP/2.0\r\n\r\n"] {
        let mut client = stage.connect();
        client.send(no_preface).await;
        assert!(matches!(client.response().await.status, 400 | 505), "{no_preface}");
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn prior_knowledge_is_of_the_first_request_only() {
    let stage = Stage::new(TestApp::echo_path());
    let mut client = stage.connect();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    client.send(PREFACE).await;
    assert!(matches!(client.response().await.status, 400 | 505));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_preface_may_come_in_pieces() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::silent(&stage);
    for byte in PREFACE {
        assert!(raw.send(&[*byte]).await);
        until_idle().await;
    }
    assert!(raw.send(&[frame(SETTINGS, 0, 0, &[]), ask(1)].concat()).await);
    let frames = raw.rest().await;
    assert!(frames.iter().any(|frame| (frame.kind, frame.payload.as_slice()) == (DATA, b"/")));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::new(&stage).await;
    let flood: Vec<u8> = (0..1000)
        .flat_map(|number| [ask(2 * number + 1), frame(RST_STREAM, 0, 2 * number + 1, CANCEL)])
        .flatten()
        .collect();
    raw.send(&flood).await;
    assert_eq!(raw.last_words().await, ENHANCE_YOUR_CALM);
    assert!(stage.statuses().len() <= 20, "{} calls", stage.statuses().len());
    assert_eq!(Peer::new(&stage).await.ask(get("/")).await.text(), "/");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_makes_no_room_for_another_application() {
    let mut stage = Stage::played();
    let mut raw = Raw::new(&stage).await;
    let mut calls = Vec::new();
    for number in 0..128 {
        assert!(raw.send(&ask(2 * number + 1)).await);
        calls.push(stage.call().await);
        assert!(raw.send(&frame(RST_STREAM, 0, 2 * number + 1, CANCEL)).await);
        until_idle().await;
    }
    assert!(calls.iter().all(|call| call.exchange.is_disconnected()));
    assert!(raw.send(&ask(1001)).await);
    stage.is_not_called().await;
    // As soon as one of them has ended, there is room.
    drop(calls.pop());
    assert!(raw.send(&ask(1003)).await);
    stage.call().await.answer("fine");
    let refused = |frame: &&Frame| frame.kind == RST_STREAM && frame.stream == 1001;
    let frames = raw.rest().await;
    assert_eq!(frames.iter().find(refused).expect("refused").payload, [0, 0, 0, 7]);
    assert!(frames.iter().any(|frame| frame.stream == 1003 && frame.payload == b"fine"));
    drop(calls);
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn not_even_a_reset_that_comes_with_its_request_does() {
    let (kept, calls) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (keep, count) = (Arc::clone(&kept), Arc::clone(&calls));
    // It begins its response at once, and never ends.
    let stage = Stage::new(TestApp::eager(move |call| {
        count.fetch_add(1, Ordering::Relaxed);
        call.start(200, &[]).expect("first");
        call.part("part").expect("started");
        keep.lock().expect("no panic").push(call);
    }));
    let mut raw = Raw::new(&stage).await;
    for number in 0..200 {
        let (stream, both) = (2 * number + 1, [ask, |id| frame(RST_STREAM, 0, id, CANCEL)]);
        assert!(raw.send(&both.map(|message| message(stream)).concat()).await);
        until_idle().await;
    }
    assert_eq!(calls.load(Ordering::Relaxed), 128);
    kept.lock().expect("no panic").clear();
    raw.rest().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_without_an_end_ends_the_connection() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::new(&stage).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, GET)).await;
    // Literal fields that are not indexed, each 1000 bytes long.
    let field = [b"\x00\x01a\x7f\xe9\x06".as_slice(), &[b'x'; 1000]].concat();
    for _ in 0..1000 {
        if !raw.send(&frame(CONTINUATION, 0, 1, &field)).await {
            break;
        }
    }
    let code = raw.last_words().await;
    assert!(code == ENHANCE_YOUR_CALM || code == PROTOCOL_ERROR, "{code:?}");
    assert!(stage.statuses().is_empty());
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_stops_within_is_idle() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::new(&stage).await;
    raw.send(&frame(HEADERS, END_STREAM, 1, GET)).await;
    raw.rest().await;
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_reads_do_not_pile_up() {
    let stage = Stage::new(TestApp::echo_path());
    for flood in [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])] {
        let mut raw = Raw::new(&stage).await;
        let flood = flood.repeat(1000);
        let mut taken = 0;
        while taken < 4_000_000 && raw.send(&flood).await {
            taken += flood.len();
        }
        // What is not read fills the wire, and then the server reads no more.
        assert!(taken < 1_000_000, "{taken} bytes");
        drop(raw);
    }
    assert_eq!(Peer::new(&stage).await.ask(get("/")).await.text(), "/");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn pings_do_not_keep_a_connection() {
    let stage = Stage::new(TestApp::echo_path());
    let mut raw = Raw::new(&stage).await;
    let mut seconds = 0;
    while raw.send(&frame(PING, 0, 0, &[0; 8])).await {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        seconds += 1;
        assert!(seconds < 60, "still open");
    }
    assert!((5..8).contains(&seconds), "{seconds} s");
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn more_streams_than_allowed_are_refused() {
    let mut stage = Stage::played();
    let mut raw = Raw::new(&stage).await;
    let flood: Vec<u8> = (0..200).flat_map(|number| ask(2 * number + 1)).collect();
    assert!(raw.send(&flood).await);
    let mut calls = Vec::new();
    for _ in 0..128 {
        calls.push(stage.call().await);
    }
    stage.is_not_called().await;
    for call in &calls {
        call.answer("fine");
    }
    let frames = raw.rest().await;
    let refused = frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert_eq!(refused, 72);
    drop(calls);
    stage.settle().await;
}

/// The clock is the real one: it is computing that takes time here.
#[tokio::test]
async fn many_requests_at_once_leave_other_connections_their_turn() {
    let paths = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&paths);
    let stage = Stage::new(TestApp::eager(move |call| {
        noted.lock().expect("no panic").push(call.path.clone());
        let until = std::time::Instant::now() + Duration::from_millis(1);
        while std::time::Instant::now() < until {}
        call.answer("fine");
    }));
    let (mut greedy, mut other) = (Raw::new(&stage).await, Raw::new(&stage).await);
    until_idle().await;
    // Nothing runs between the two.
    let flood: Vec<u8> = (0..100).flat_map(|number| ask(2 * number + 1)).collect();
    assert!(greedy.send(&flood).await);
    let index = [b"\x82\x85".as_slice(), &GET[2..]].concat();
    assert!(other.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &index)).await);
    let all = async {
        while paths.lock().expect("no panic").len() < 101 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.expect("all are called");
    let paths = paths.lock().expect("no panic").clone();
    let place = paths.iter().position(|path| path == "/index.html").expect("it was called");
    assert!(place <= 10, "{place} requests of another connection came first");
    drop((greedy, other));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn broken_frames_end_the_connection() {
    let stage = Stage::new(TestApp::echo_path());
    for (what, broken) in [
        ("data for no stream", frame(DATA, 0, 1, b"x")),
        ("settings for a stream", frame(SETTINGS, 0, 1, &[])),
        ("an even stream", ask(2)),
        ("HPACK that cannot be", frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 20])),
        ("a frame that is too long", frame(DATA, 0, 1, &vec![0; 20_000])),
    ] {
        let mut raw = Raw::new(&stage).await;
        raw.send(&broken).await;
        assert!(raw.last_words().await.is_some_and(|code| code != 0), "{what}");
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_never_reach_the_application() {
    let mut stage = Stage::played();
    let field = |name: &str, value: &str| {
        let lengths = [name.len(), value.len()].map(|length| u8::try_from(length).expect("short"));
        [&[0, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat()
    };
    for (what, block) in [
        ("a field of the connection", [GET, &field("connection", "close")].concat()),
        ("a name in capitals", [GET, &field("Upper", "case")].concat()),
        ("two paths", [GET, &field(":path", "/")].concat()),
        ("a late method", [b"\x84\x86", &field("x", "1")[..], b"\x82"].concat()),
        ("a transfer coding", [GET, &field("transfer-encoding", "chunked")].concat()),
        ("content that is not there", [GET, &field("content-length", "1")].concat()),
        ("a line end in a value", [GET, &field("x", "a\r\nb: c")].concat()),
        ("no path", b"\x82\x86\x41\x01x".to_vec()),
    ] {
        let mut raw = Raw::new(&stage).await;
        raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await;
        stage.is_not_called().await;
        let is_refusal = |frame: &Frame| match frame.kind {
            RST_STREAM => frame.payload == [0, 0, 0, 1],
            GOAWAY => frame.payload.get(4..8) == Some(&[0, 0, 0, 1]),
            _ => false,
        };
        assert!(raw.rest().await.iter().any(is_refusal), "{what}");
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_is_as_long_as_it_was_declared() {
    let mut stage = Stage::played();
    let mut raw = Raw::new(&stage).await;
    let block = [GET, b"\x00\x0econtent-length\x014"].concat();
    raw.send(&frame(HEADERS, END_HEADERS, 1, &block)).await;
    let call = stage.call().await;
    raw.send(&frame(DATA, END_STREAM, 1, b"five!")).await;
    assert_eq!(call.receive().await, Received::Disconnect);
    raw.rest().await;
    drop(call);
    stage.settle().await;
}
