//! How WebSockets end, and who gets to know what.

use std::time::Duration;

use rsgi_server::SendError;
use tokio::time::Instant;

use crate::support::{BINARY, CLOSE, PING, Stage, TEXT};

#[tokio::test(start_paused = true)]
async fn the_clients_code_and_reason_reach_the_application() {
    let table: [(&[u8], u16, &str); 3] =
        [(b"\x0f\xa1bye", 4001, "bye"), (b"\x03\xe8", 1000, ""), (b"", 1005, "")];
    for (payload, code, reason) in table {
        let mut stage = Stage::new();
        let (mut client, call) = stage.open().await;
        client.frame(TEXT, b"last words").await;
        client.frame(CLOSE, payload).await;
        let (first, answer) = client.reads().await;
        assert_eq!((first, answer.as_slice()), (CLOSE, payload.get(..2).unwrap_or_default()));
        client.ends().await;
        call.receives("last words").await;
        assert_eq!(call.disconnect().await, (code, reason.to_owned()));
        assert_eq!(call.disconnect().await.0, code, "asked twice, told twice");
        assert!(matches!(call.send("x"), Err(SendError::Disconnected)));
        drop(call);
        stage.settle(&[101]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_application_closes_and_the_client_answers() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    call.send("before").expect("open");
    call.close(4000).expect("open");
    let error = call.send("after").expect_err("closed").to_string();
    assert!(error.contains("`websocket.send`") && error.contains("has closed"), "{error}");
    assert_eq!(client.reads().await.0, TEXT);
    assert_eq!(client.close_code().await, 4000);
    // What was under way is dropped.
    client.frame(TEXT, b"too late").await;
    client.frame(PING, b"too late").await;
    call.hears_nothing().await;
    client.frame(CLOSE, b"\x0f\xa0").await;
    client.ends().await;
    assert_eq!(call.disconnect().await.0, 4000);
    drop(call);
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_the_close_is_cut() {
    let mut stage = Stage::new();
    let (mut client, call) = stage.open().await;
    let start = Instant::now();
    call.close(1000).expect("open");
    client.is_closed(1000).await;
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    assert_eq!(call.disconnect().await.0, 1006);
    drop(call);
    stage.settle(&[101]).await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_ends_closes() {
    for (fails, code) in [(true, 1011), (false, 1000)] {
        let mut stage = Stage::new();
        let (mut client, call) = stage.open().await;
        call.send("last").expect("open");
        if fails {
            call.fail();
        } else {
            drop(call);
        }
        assert_eq!(client.reads().await.0, TEXT);
        assert_eq!(client.close_code().await, code);
        drop(client);
        stage.settle(&[101]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_the_rules_is_told_which() {
    let table: [(u8, &[u8], u16); 4] = [
        (0x83, b"", 1002),
        (TEXT, b"\xff", 1007),
        (BINARY, &[0; 2000], 1009),
        (CLOSE, b"\x03\xed", 1002),
    ];
    for (first, payload, code) in table {
        let mut stage = Stage::with(|options| options.max_size = 1000);
        let (mut client, call) = stage.open().await;
        client.frame(first, payload).await;
        // It may go on for a while: a reset would lose the close frame.
        client.send(vec![0; 10_000]).await;
        client.is_closed(code).await;
        let (told, reason) = call.disconnect().await;
        assert_eq!(told, code);
        assert!(!reason.is_empty());
        drop((client, call));
        stage.settle(&[101]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_without_a_close_is_1006() {
    let mut stage = Stage::new();
    let (client, call) = stage.open().await;
    drop(client);
    assert_eq!(call.disconnect().await, (1006, String::new()));
    assert!(matches!(call.send("x"), Err(SendError::Disconnected)));
    drop(call);
    stage.settle(&[101]).await;
}
