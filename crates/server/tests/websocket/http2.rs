//! Over HTTP/2 (RFC 8441), a WebSocket is the same; what carries it is not.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use rsgi_protocol::http::cycle::More;
use rsgi_protocol::http::response::ResponseHead;
use rsgi_protocol::websocket::Kind;
use rsgi_protocol::websocket::handshake::Acceptance;
use rsgi_server::{DrainPhase, Flow, MessageReceived, SendError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::support::{
    CLOSE, Call, Client, DEFLATE, PING, PONG, Stage, TEXT, Turns, frame, large_when_decompressed,
};

/// Time is paused; no deadline of the server's is longer.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A client's connection.
struct Peer {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Peer {
    async fn new(stage: &Stage) -> Self {
        let (requests, connection) =
            h2::client::handshake(stage.wire()).await.expect("a duplex stream");
        let connection = tokio::spawn(connection);
        let peer = Self { requests, connection };
        // The server's settings have to be there.
        sleep(Duration::from_millis(1)).await;
        peer
    }

    async fn send(&mut self, request: Request<()>) -> (ResponseFuture, SendStream<Bytes>) {
        let ready = timeout(PATIENCE, poll_fn(|cx| self.requests.poll_ready(cx))).await;
        ready.expect("there is room for a stream").expect("the connection is open");
        self.requests.send_request(request, false).expect("the connection is open")
    }

    /// Asks for a WebSocket; the application is to accept it.
    async fn open(&mut self, stage: &mut Stage) -> (SendStream<Bytes>, RecvStream, Call) {
        let (response, send) = self.send(handshake(&[])).await;
        let call = stage.call().await;
        call.accept().await;
        let response = answer(response).await;
        assert_eq!(response.status(), 200);
        (send, response.into_body(), call)
    }

    /// The same, with a stream that looks like a connection.
    async fn connect(&mut self, stage: &mut Stage) -> (Client, Call) {
        let (mut send, mut content, call) = self.open(stage).await;
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let (mut from, mut to) = tokio::io::split(theirs);
        tokio::spawn(async move {
            let mut space = vec![0; 4096];
            while let Ok(count @ 1..) = from.read(&mut space).await {
                let mut rest = Bytes::copy_from_slice(&space[..count]);
                while !rest.is_empty() {
                    let Some(room) = room(&mut send, rest.len()).await else { return };
                    let piece = rest.split_to(room.min(rest.len()));
                    if send.send_data(piece, false).is_err() {
                        return;
                    }
                }
            }
            let _ = send.send_data(Bytes::new(), true);
        });
        tokio::spawn(async move {
            while let Some(Ok(piece)) = content.data().await {
                let _ = content.flow_control().release_capacity(piece.len());
                if to.write_all(&piece).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
        (Client::over(ours), call)
    }

    async fn ended(self) {
        let ended = timeout(PATIENCE, self.connection).await;
        ended.expect("the server closes").expect("no panic").expect("in an orderly way");
    }
}

fn request(method: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri("https://test/ws?a=b");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.version(http::Version::HTTP_2).body(()).expect("tests use valid requests")
}

fn asking(protocol: &'static str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = request("CONNECT", fields);
    request.extensions_mut().insert(Protocol::from_static(protocol));
    request
}

fn handshake(fields: &[(&str, &str)]) -> Request<()> {
    asking("websocket", &[&[("sec-websocket-version", "13")], fields].concat())
}

async fn answer(response: ResponseFuture) -> Response<RecvStream> {
    timeout(PATIENCE, response).await.expect("the server answers").expect("with a response")
}

/// How much the server lets the client send now; none once it has closed the stream.
async fn room(stream: &mut SendStream<Bytes>, wanted: usize) -> Option<usize> {
    if stream.capacity() == 0 {
        stream.reserve_capacity(wanted);
        poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
    }
    Some(stream.capacity())
}

/// What comes until the end of the stream, whose room in the window is given back.
async fn rest(content: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut read = Vec::new();
    loop {
        match timeout(PATIENCE, content.data()).await.expect("the server goes on") {
            Some(piece) => {
                let piece = piece?;
                content.flow_control().release_capacity(piece.len())?;
                read.extend_from_slice(&piece);
            }
            None => return Ok(read),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_accepted_with_a_200_and_carries_messages_both_ways() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    assert!(peer.requests.is_extended_connect_protocol_enabled());
    let fields = [
        ("sec-websocket-protocol", "a, b"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
    ];
    let (response, mut send) = peer.send(handshake(&fields)).await;
    let call = stage.call().await;
    assert!(matches!(call.receive().await, MessageReceived::Connect));
    assert_eq!(stage.requests_in_flight(), 1);
    let mut acceptance = Acceptance::default();
    acceptance.subprotocol(b"b").expect("a token");
    acceptance.push(b"x-a", b"1").expect("a field");
    call.websocket.accept(acceptance).expect("connecting");
    let response = answer(response).await;
    assert_eq!(stage.requests_in_flight(), 0, "the handshake is over");
    let field = |name| response.headers().get(name).map(|value| value.to_str().expect("text"));
    assert_eq!(response.status(), 200);
    assert_eq!(field("sec-websocket-protocol"), Some("b"));
    assert_eq!(field("x-a"), Some("1"));
    assert!(field("sec-websocket-extensions").is_some_and(|it| it.starts_with("permessage-")));
    assert_eq!(field("sec-websocket-accept"), None);
    assert_eq!(field("upgrade"), None);
    // A message in pieces, and two in one.
    let messages = [frame(TEXT, b"one"), frame(TEXT, b"two"), frame(TEXT, b"three")].concat();
    let (first, second) = messages.split_at(4);
    send.send_data(Bytes::copy_from_slice(first), false).expect("open");
    call.hears_nothing().await;
    send.send_data(Bytes::copy_from_slice(second), false).expect("open");
    for text in ["one", "two", "three"] {
        call.receives(text).await;
    }
    call.send("pong").expect("open");
    call.close(4000).expect("open");
    let mut content = response.into_body();
    let close = frame(CLOSE, b"\x0f\xa0");
    send.send_data(Bytes::copy_from_slice(&close), true).expect("open");
    assert_eq!(rest(&mut content).await.expect("no reset"), b"\x81\x04pong\x88\x02\x0f\xa0");
    assert_eq!(call.disconnect().await.0, 4000);
    assert_eq!(stage.messages(), 3);
    drop((call, peer, send, content));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn the_client_closes_and_the_stream_ends_in_an_orderly_way() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (mut client, call) = peer.connect(&mut stage).await;
    client.frame(PING, b"?").await;
    assert_eq!(client.reads().await, (PONG, b"?".to_vec()));
    client.frame(CLOSE, b"\x03\xe9bye").await;
    client.is_closed(1001).await;
    assert_eq!(call.disconnect().await, (1001, "bye".to_owned()));
    drop((client, call, peer));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_a_response_and_the_connection_goes_on() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (response, _send) = peer.send(handshake(&[])).await;
    let call = stage.call().await;
    call.close(1000).expect("connecting");
    assert_eq!(answer(response).await.status(), 403);
    assert!(matches!(call.receive().await, MessageReceived::Connect));
    assert_eq!(call.disconnect().await.0, 1006);
    drop(call);
    let (response, _send) = peer.send(handshake(&[])).await;
    let call = stage.call().await;
    call.websocket.response_start(ResponseHead::new(418).expect("a status")).expect("connecting");
    call.websocket.response_body(Bytes::from_static(b"no"), More::Last).expect("started");
    let mut response = answer(response).await;
    assert_eq!(response.status(), 418);
    assert_eq!(rest(response.body_mut()).await.expect("a body"), b"no");
    drop(call);
    let (response, _send) = peer.send(handshake(&[])).await;
    stage.call().await.fail();
    assert_eq!(answer(response).await.status(), 500);
    drop(peer);
    stage.settle(&[403, 418, 500]).await;
}

#[tokio::test(start_paused = true)]
async fn wrong_handshakes_do_not_reach_the_application() {
    let stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let table = [
        (asking("websocket", &[]), 400),
        (asking("websocket", &[("sec-websocket-version", "8")]), 426),
        (handshake(&[("sec-websocket-protocol", "a b")]), 400),
        (asking("connect-udp", &[("sec-websocket-version", "13")]), 501),
    ];
    for (request, status) in table {
        let shown = format!("{request:?}");
        let (response, _send) = peer.send(request).await;
        let response = answer(response).await;
        assert_eq!(response.status(), status, "{shown}");
        let version = response.headers().get("sec-websocket-version");
        assert_eq!(version.is_some(), status == 426, "{shown}");
    }
    drop(peer);
    stage.settle(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn where_websockets_are_off_the_client_is_told() {
    let stage = Stage::without();
    let mut peer = Peer::new(&stage).await;
    assert!(!peer.requests.is_extended_connect_protocol_enabled());
    let (response, _send) = peer.send(request("GET", &[])).await;
    assert_eq!(answer(response).await.status(), 200);
    drop(peer);
    stage.settle(&[200]).await;
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_an_abnormal_end_for_one_websocket_alone() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (mut send, _content, call) = peer.open(&mut stage).await;
    let (mut client, other) = peer.connect(&mut stage).await;
    send.send_reset(Reason::CANCEL);
    assert_eq!(call.disconnect().await.0, 1006);
    assert!(matches!(call.send("x"), Err(SendError::Disconnected)));
    client.frame(TEXT, b"still here").await;
    other.receives("still here").await;
    // Before it is accepted, too.
    let (_response, mut send) = peer.send(handshake(&[])).await;
    let asked = stage.call().await;
    assert!(matches!(asked.receive().await, MessageReceived::Connect));
    send.send_reset(Reason::CANCEL);
    assert_eq!(asked.disconnect().await.0, 1006);
    assert!(asked.websocket.accept(Acceptance::default()).is_err());
    peer.connection.abort();
    assert_eq!(other.disconnect().await.0, 1006);
    drop((call, other, asked, client));
    stage.settle(&[101, 101, 0]).await;
}

#[tokio::test(start_paused = true)]
async fn an_end_without_a_close_frame_is_one_too_behind_what_came_before() {
    let mut stage = Stage::with(|options| options.max_queue = 1);
    let mut peer = Peer::new(&stage).await;
    let (mut send, mut content, call) = peer.open(&mut stage).await;
    let messages = frame(TEXT, b"last").repeat(3);
    send.send_data(Bytes::from(messages), true).expect("open");
    sleep(Duration::from_millis(1)).await;
    for _ in 0..3 {
        call.receives("last").await;
    }
    assert_eq!(call.disconnect().await.0, 1006);
    assert_eq!(rest(&mut content).await.expect("no reset"), b"");
    drop((call, peer, send, content));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_receive_keeps_the_window_closed() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (mut send, _content, call) = peer.open(&mut stage).await;
    // Small ones, each in a frame of its own.
    let message = Bytes::from(frame(TEXT, &[b'x'; 94]));
    let mut sent = 0_u32;
    while sent < 100_000 {
        let wanted = room(&mut send, message.len());
        let Ok(room) = timeout(Duration::from_millis(1), wanted).await else { break };
        if room.expect("the stream is open") < message.len() {
            send.reserve_capacity(message.len());
            let more = poll_fn(|cx| send.poll_capacity(cx));
            if timeout(Duration::from_millis(1), more).await.is_err() {
                break;
            }
            continue;
        }
        send.send_data(message.clone(), false).expect("the stream is open");
        sent += 1;
    }
    assert!((2600..2800).contains(&sent), "{sent} messages of 100 bytes for a window of 256 KiB");
    assert_eq!(stage.messages(), 32, "messages that wait");
    for _ in 0..sent {
        call.receives(&"x".repeat(94)).await;
    }
    call.hears_nothing().await;
    assert!(room(&mut send, 1000).await.is_some_and(|room| room >= 100), "it is open again");
    drop((call, peer, send));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_makes_the_application_wait() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (send, mut content, call) = peer.open(&mut stage).await;
    let message = "x".repeat(10_000);
    let mut sent = 0;
    loop {
        let flow = call.send(&message).expect("open");
        sent += 1;
        if flow == Flow::Full {
            let drained = timeout(Duration::from_secs(1), call.drained()).await;
            if drained.is_err() {
                break;
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(sent * 10_000 < 65_535 + 4 * 64 * 1024, "{sent}");
    let read = tokio::spawn(async move { rest(&mut content).await });
    call.drained().await;
    drop(call);
    sleep(Duration::from_secs(1)).await;
    // The client does not answer the close.
    let read = read.await.expect("no panic").expect("no reset");
    assert_eq!(read.len(), sent * 10_004 + 4);
    drop((peer, send));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_pings_is_closed() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (mut client, call) = peer.connect(&mut stage).await;
    assert_eq!(client.reads().await.0, PING);
    assert_eq!(call.disconnect().await.0, 1011);
    client.is_closed(1011).await;
    drop((client, call, peer));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_the_application_its_say() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (mut client, call) = peer.connect(&mut stage).await;
    let (mut silent, never) = peer.connect(&mut stage).await;
    stage.advance(DrainPhase::Draining);
    assert_eq!(call.disconnect().await.0, 1012);
    call.send("goodbye").expect("there is still time");
    drop(call);
    assert_eq!(client.reads().await, (TEXT, b"goodbye".to_vec()));
    assert_eq!(client.close_code().await, 1012);
    client.frame(CLOSE, b"\x03\xf4").await;
    client.ends().await;
    // Whoever does not listen has its time.
    assert_eq!(silent.close_code().await, 1012);
    silent.frame(CLOSE, b"\x03\xf4").await;
    silent.ends().await;
    drop((client, silent, never));
    peer.ended().await;
    stage.settle(&[101, 101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_tells_the_client_if_it_can() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let (mut client, call) = peer.connect(&mut stage).await;
    stage.advance(DrainPhase::Cut);
    assert_eq!(client.close_code().await, 1012);
    assert_eq!(call.disconnect().await.0, 1012);
    drop((client, call, peer));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_make_no_room_for_more_applications() {
    let mut stage = Stage::new();
    let mut peer = Peer::new(&stage).await;
    let mut calls = Vec::new();
    for _ in 0..128 {
        let (mut send, content, call) = peer.open(&mut stage).await;
        send.send_reset(Reason::CANCEL);
        drop(content);
        assert_eq!(call.disconnect().await.0, 1006);
        calls.push(call);
    }
    let (response, _send) = peer.send(handshake(&[])).await;
    let refused = timeout(PATIENCE, response).await.expect("an answer").expect_err("no room");
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
    // As soon as one of them has ended, there is room.
    drop(calls.pop());
    let (_send, content, call) = peer.open(&mut stage).await;
    drop((content, call, calls, peer));
    stage.settle(&[101; 129]).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_becomes_large_holds_nobody_up() {
    const SIZE: usize = 16 << 20;
    let mut stage = Stage::with(|options| options.max_size = SIZE);
    let mut peer = Peer::new(&stage).await;
    let (response, mut send) = peer.send(handshake(&[DEFLATE])).await;
    let call = stage.call().await;
    call.accept().await;
    let content = answer(response).await.into_body();
    // It fits into the client's window.
    let message = Bytes::from(large_when_decompressed(SIZE));
    let room = room(&mut send, message.len()).await.expect("the stream is open");
    assert!(room >= message.len(), "{room}");
    let turns = Turns::new();
    send.send_data(message, false).expect("the stream is open");
    let MessageReceived::Message(Kind::Binary, data) = call.receive().await else {
        panic!("no message");
    };
    let turns = turns.end();
    // A stream has up to three of its own before its connection gives way.
    assert!(turns >= 20, "{turns} turns");
    assert_eq!(data.len(), SIZE);
    drop((call, peer, send, content));
    stage.settle(&[101]).await;
}
