//! A side that does not keep up holds the other one back, and only on its own stream.

use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use rsgi_server::Flow;
use tokio::time::{Instant, sleep, timeout};

use crate::peer::{Peer, get, head, piece, request, reset_reason, room, whole};
use crate::support::{Call, Stage, TestApp, until_idle};

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Sends `piece` until it would have to wait; returns how much that was.
async fn fill(call: &Call, piece: &'static [u8]) -> usize {
    let mut sent = 0;
    loop {
        let flow = call.part(piece).expect("the client is there");
        sent += piece.len();
        until_idle().await;
        if flow == Flow::Full && call.exchange.poll_drained(&mut nobody()).is_pending() {
            return sent;
        }
        assert!(sent < 10_000_000, "nothing holds the application back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_window_is_closed_holds_its_application_back() {
    let mut stage = Stage::played();
    let mut peer = Peer::with(&stage, 1 << 20, |builder| {
        builder.initial_window_size(1000);
    })
    .await;
    let (response, _) = peer.send(get("/stuck"), false).await;
    let stuck = stage.call().await;
    stuck.start(200, &[]).expect("first");
    let sent = fill(&stuck, &[b'x'; 10_000]).await;
    assert!(sent <= 1000 + 4 * 65_536, "{sent} bytes wait");
    // Hours later, another stream of the same connection is as good as ever.
    sleep(Duration::from_secs(7200)).await;
    let (other, _) = peer.send(get("/other"), false).await;
    stage.call().await.answer("fine");
    assert_eq!(whole(other).await.expect("a response").text(), "fine");
    // And as the client reads, everything comes.
    let mut content = head(response).await.into_body();
    let mut read = 0;
    while read < sent {
        read += piece(&mut content).await.expect("more").expect("data").len();
    }
    stuck.drained().await;
    stuck.last("").expect("the client is there");
    drop((peer, stuck, content));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_read_closes_the_window_of_its_stream() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, mut stream) = peer.send(request("POST", "/", &[]), true).await;
    let call = stage.call().await;
    let mut sent = 0;
    loop {
        stream.reserve_capacity(10_000);
        until_idle().await;
        if stream.capacity() == 0 {
            break;
        }
        let size = stream.capacity().min(10_000);
        stream.send_data(Bytes::from(vec![b'x'; size]), false).expect("open");
        sent += size;
        assert!(sent < 10_000_000, "nothing holds the client back");
    }
    assert!((256 * 1024..512 * 1024).contains(&sent), "{sent} bytes were taken");
    // Others are not held back.
    let (other, mut quick) = peer.send(request("POST", "/", &[]), true).await;
    quick.send_data(Bytes::from_static(b"quick"), true).expect("open");
    let reader = stage.call().await;
    assert_eq!(reader.content().await.as_deref(), Some(b"quick".as_slice()));
    reader.answer("fine");
    assert_eq!(whole(other).await.expect("a response").text(), "fine");
    // The window opens as the application reads.
    let client = async {
        let mut left = 1_000_000;
        while left > 0 {
            let size = room(&mut stream, left).await.expect("open").min(left);
            stream.send_data(Bytes::from(vec![b'x'; size]), left == size).expect("open");
            left -= size;
        }
    };
    let (content, ()) = tokio::join!(call.content(), client);
    assert_eq!(content.expect("the client is there").len(), sent + 1_000_000);
    call.answer("all of it");
    assert_eq!(whole(response).await.expect("a response").text(), "all of it");
    drop((peer, call, reader, stream));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_in_tiny_pieces_waits_as_well() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, mut stream) = peer.send(request("POST", "/", &[]), true).await;
    let call = stage.call().await;
    for _ in 0..2000 {
        stream.send_data(Bytes::from_static(b"x"), false).expect("open");
        until_idle().await;
    }
    stream.send_data(Bytes::from_static(b"y"), true).expect("open");
    // Nothing runs in between, so these are the pieces that waited with the application.
    let mut waited = 0;
    while call.exchange.poll_receive(&mut nobody()).is_ready() {
        waited += 1;
    }
    assert_eq!(waited, 1024);
    assert_eq!(call.content().await.expect("the client is there").len(), 2001 - waited);
    call.answer("all of it");
    assert_eq!(whole(response).await.expect("a response").text(), "all of it");
    drop((peer, call));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn content_that_nobody_reads_gives_its_room_back() {
    let stage = Stage::new(TestApp::eager(|call| call.answer("no, thanks")));
    let mut peer = Peer::new(&stage).await;
    // Much more than the connection's window in all.
    for _ in 0..100 {
        let reply = peer.post(request("POST", "/", &[]), &vec![b'x'; 100_000]).await;
        assert_eq!(reply.text(), "no, thanks");
    }
    drop(peer);
    stage.settle().await;
}

// --- clients that never take a response that is complete ---

async fn is_cut_after_30_seconds(stage: Stage, mut peer: Peer, app_waits: Option<Call>) {
    let start = Instant::now();
    let (response, _) = peer.send(get("/"), false).await;
    let mut content = head(response).await.into_body();
    let error = loop {
        // What comes is not given back to the window.
        let piece = timeout(Duration::from_secs(600), content.data()).await.expect("an end");
        match piece.expect("no whole response") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(reset_reason(&error), Some(h2::Reason::CANCEL));
    assert_eq!(start.elapsed().as_secs(), 30);
    drop((peer, app_waits));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_response_that_is_not_taken_is_cut() {
    for app in [
        TestApp::eager(|call| call.answer(vec![b'x'; 100_000])),
        TestApp::spawned(async |call: Call| {
            tokio::task::yield_now().await;
            call.answer(vec![b'x'; 100_000]);
        }),
    ] {
        let stage = Stage::new(app);
        let peer = Peer::with(&stage, 1 << 20, |builder| {
            builder.initial_window_size(1000);
        })
        .await;
        is_cut_after_30_seconds(stage, peer, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_response_that_is_not_taken_ends_the_connection() {
    let stage = Stage::new(TestApp::eager(|call| call.answer(vec![b'x'; 10_000])));
    let mut peer = Peer::with(&stage, 1 << 20, |builder| {
        builder.initial_window_size(1000);
    })
    .await;
    let (response, _) = peer.send(get("/"), false).await;
    let start = Instant::now();
    let content = head(response).await.into_body();
    stage.emptied().await;
    assert_eq!(start.elapsed().as_secs(), 30);
    drop((peer, content));
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_response_slowly_is_served_to_the_end() {
    let stage = Stage::new(TestApp::eager(|call| {
        let length = call.path.trim_start_matches('/').parse().expect("a length");
        call.answer(vec![b'x'; length]);
    }));
    for length in [16_000, 100_000] {
        let mut peer = Peer::with(&stage, 1 << 20, |builder| {
            builder.initial_window_size(1000);
        })
        .await;
        let (response, _) = peer.send(get(&format!("/{length}")), false).await;
        let mut content = head(response).await.into_body();
        let mut read = 0;
        while read < length {
            read += piece(&mut content).await.expect("more").expect("data").len();
            sleep(Duration::from_secs(20)).await;
        }
        drop((peer, content));
    }
    stage.settle().await;
}

#[tokio::test(start_paused = true)]
async fn the_connection_waits_for_a_stream_whose_application_takes_its_time() {
    let mut stage = Stage::played();
    let mut peer = Peer::new(&stage).await;
    let (response, stream) = peer.send(request("POST", "/", &[]), true).await;
    let call = stage.call().await;
    sleep(Duration::from_secs(7200)).await;
    assert!(call.exchange.poll_receive(&mut nobody()).is_pending(), "the client is there");
    call.answer("at last");
    assert_eq!(whole(response).await.expect("a response").text(), "at last");
    drop((peer, call, stream));
    stage.settle().await;
}
