//! Files as responses.

use std::io::Write;
use std::time::Duration;

use rsgi_protocol::http::cycle::More;
use rsgi_server::{FileSource, send_file};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use crate::support::{Stage, get, until_idle};

const STALL: Duration = Duration::from_secs(30);
const ALMOST: Duration = Duration::from_secs(29);

/// A client that reads nothing of a file has the time that it has for any complete response; one that
/// reads a little has as much again.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_a_file_is_not_waited_for() {
    let path = std::env::temp_dir().join(format!("rsgi-files-{}", std::process::id()));
    std::fs::File::create(&path)
        .and_then(|mut file| file.write_all(&vec![b'x'; 4_000_000]))
        .expect("a file");
    let mut stage = Stage::played();
    let mut client = stage.connect_over(1024);
    client.send(get("/")).await;
    let call = stage.call().await;
    call.start(200, &[]).expect("first");
    let source = FileSource::Path(path.clone());
    let sending =
        send_file(&call.exchange, "message", source, More::Last, &Handle::current()).expect("next");
    let start = Instant::now();
    // What is read in a thread takes no time that is counted here.
    until_idle().await;
    sleep(ALMOST).await;
    assert!(!client.take_what_is_there(512).await.is_empty());
    sleep(ALMOST).await;
    assert!(!call.exchange.is_disconnected());
    let ended = sending.await.expect("no panic");
    assert!(ended.is_err() && call.exchange.is_disconnected());
    assert!(start.elapsed() < 3 * STALL);
    std::fs::remove_file(path).expect("it is there");
    drop((client, call));
    stage.settle().await;
}
