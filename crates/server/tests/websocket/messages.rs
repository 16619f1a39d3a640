//! Back-pressure in both directions, and what is refused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rsgi_protocol::websocket::Kind;
use rsgi_server::{Flow, HIGH_WATER, MessageReceived, Outgoing, SendError};

use crate::support::{
    BINARY, DEFLATE, HANDSHAKE, PING, PONG, Stage, TEXT, Turns, frame, large_when_decompressed,
};

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_receive_stops_the_reading() {
    let mut stage = Stage::with(|options| options.max_queue = 4);
    let (mut client, call) = stage.open_over(1000).await;
    let message = frame(TEXT, &[b'x'; 94]);
    assert_eq!(message.len(), 100);
    let flood = message.repeat(5000);
    let sent = client.send_what_is_taken(&flood).await;
    // What a stream holds, what is read at once, and nothing more.
    assert!(sent <= 1000 + 64 * 1024 + 400, "{sent}");
    assert_eq!(stage.messages(), 4, "messages that wait");
    for _ in 0..3 {
        call.receives(&"x".repeat(94)).await;
    }
    let more = client.send_what_is_taken(&flood[sent..]).await;
    assert!(more <= 1000 + 300, "{more}");
    assert_eq!(stage.messages(), 7);
    // And in the end, everything arrives.
    let total = sent + more;
    client.send_what_is_taken(&message[total % 100..]).await;
    for _ in 0..total.div_ceil(100) - 3 {
        call.receives(&"x".repeat(94)).await;
    }
    call.hears_nothing().await;
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn large_messages_wait_by_their_bytes() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open_over(1000).await;
    let message = frame(BINARY, &vec![0; HIGH_WATER]);
    let sent = client.send_what_is_taken(&message.repeat(4)).await;
    assert!(sent < 3 * message.len(), "{sent}");
    assert_eq!(stage.messages(), 1);
    for expected in 2..=4 {
        let MessageReceived::Message(Kind::Binary, data) = call.receive().await else {
            panic!("no message");
        };
        assert_eq!(data.len(), HIGH_WATER);
        let sent = sent + client.send_what_is_taken(&message.repeat(4)[sent..]).await;
        if sent == 4 * message.len() {
            break;
        }
        assert!(stage.messages() <= expected);
    }
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_makes_the_application_wait() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open_over(1000).await;
    let message = Bytes::from(vec![7; 20_000]);
    let mut sent = 0;
    loop {
        sent += 1;
        let flow = call.websocket.send(Kind::Binary, Outgoing::Shared(message.clone()));
        tokio::task::yield_now().await;
        if flow.expect("open") == Flow::Full {
            break;
        }
        assert!(sent < 20, "never full");
    }
    let waiting = tokio::spawn(async move {
        call.drained().await;
        call
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!waiting.is_finished(), "the client has not read enough");
    for _ in 0..sent {
        assert_eq!(client.reads().await, (BINARY, message.to_vec()));
    }
    let call = waiting.await.expect("no panic");
    call.send("on").expect("open");
    assert_eq!(client.reads().await, (TEXT, b"on".to_vec()));
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_the_waiting() {
    let mut stage = Stage::new();
    let (client, call) = stage.open_over(1000).await;
    let message = Bytes::from(vec![7; 200_000]);
    call.websocket.send(Kind::Binary, Outgoing::Shared(message.clone())).expect("open");
    call.websocket.send(Kind::Binary, Outgoing::Shared(message)).expect("open");
    drop(client);
    call.drained().await;
    assert_eq!(call.disconnect().await.0, 1006);
    assert!(matches!(call.send("x"), Err(SendError::Disconnected)));
    drop(call);
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn pings_are_answered_in_order_and_not_piled_up() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open_over(1000).await;
    client.frame(PING, b"a").await;
    assert_eq!(client.reads().await, (PONG, b"a".to_vec()));
    // Nobody reads the answers, so nobody takes the questions.
    let flood = frame(PING, &[b'p'; 100]).repeat(20_000);
    let sent = client.send_what_is_taken(&flood).await;
    assert!(sent < 5 * HIGH_WATER, "{sent}");
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_woken_application_sends_leaves_at_once() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    let websocket = Arc::clone(&call.websocket);
    let (told, flow) = tokio::sync::oneshot::channel();
    stage.when_woken(move || {
        let sent = websocket.send(Kind::Text, Outgoing::Slice(b"woken"));
        told.send(sent).expect("the test waits");
    });
    let long = "hello".repeat(1000);
    client.frame(TEXT, long.as_bytes()).await;
    assert_eq!(flow.await.expect("it is woken"), Ok(Flow::Open));
    assert_eq!(client.reads().await, (TEXT, b"woken".to_vec()));
    call.receives(&long).await;
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn messages_of_every_length_arrive_whole_one_after_the_other() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    let lengths = [0, 64, 65, 4080, 4090, 5000, 3, 65_536, 65_600, 10, 100_000, 300_000, 1];
    let texts: Vec<String> = lengths.iter().map(|&length| "x".repeat(length)).collect();
    let all: Vec<u8> = texts.iter().flat_map(|text| frame(TEXT, text.as_bytes())).collect();
    for piece in [all.len(), 70_000, 4096, 1000, 7] {
        let sending = async {
            for piece in all.chunks(piece) {
                client.send(piece).await;
            }
        };
        let receiving = async {
            for text in &texts {
                call.receives(text).await;
            }
        };
        tokio::join!(sending, receiving);
    }
    drop((client, call));
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_becomes_large_holds_nobody_up() {
    const SIZE: usize = 16 << 20;
    let mut stage = Stage::with(|options| options.max_size = SIZE);
    let mut client = stage.connect();
    let (name, value) = DEFLATE;
    client.send(HANDSHAKE.trim_end().to_owned() + &format!("\r\n{name}: {value}\r\n\r\n")).await;
    let call = stage.call().await;
    call.accept().await;
    assert!(client.head().await.contains("permessage-deflate"));
    let message = large_when_decompressed(SIZE);
    let turns = Turns::new();
    client.send(message).await;
    let MessageReceived::Message(Kind::Binary, data) = call.receive().await else {
        panic!("no message");
    };
    let turns = turns.end();
    assert!(turns >= 20, "{turns} turns");
    assert_eq!(data.len(), SIZE);
    drop((client, call));
    stage.settle(&[101]).await;
}
