//! The load of the WebSocket benchmarks: every connection sends a message, waits for it to come back, and sends it again.
//!
//! wrk speaks no WebSocket, and a client in Python would be slower than the servers. Prints what `benches/harness` reads
//! from wrk: one line of JSON on standard error.

use std::cell::RefCell;
use std::error::Error;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const HANDSHAKE: &str = "GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[derive(Default)]
struct Found {
    latencies_us: Vec<f64>,
    errors: usize,
}

/// The header of a binary message; a client's has the mask behind the length.
fn header(size: usize, masked: bool) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut header = vec![0x82];
    match size {
        0..=125 => header.push(bit | size as u8),
        126..=0xffff => {
            header.push(bit | 126);
            header.extend((size as u16).to_be_bytes());
        }
        _ => {
            header.push(bit | 127);
            header.extend((size as u64).to_be_bytes());
        }
    }
    if masked {
        header.extend(MASK);
    }
    header
}

async fn open(port: u16) -> Result<TcpStream, Box<dyn Error>> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(HANDSHAKE.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    Ok(stream)
}

async fn talk(
    port: u16,
    size: usize,
    end: Instant,
    found: &RefCell<Found>,
) -> Result<(), Box<dyn Error>> {
    let mut stream = open(port).await?;
    let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    let mut sent = header(size, true);
    sent.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    let mut expected = header(size, false);
    expected.extend(payload);
    let mut got = vec![0; expected.len()];
    while Instant::now() < end {
        let start = Instant::now();
        stream.write_all(&sent).await?;
        stream.read_exact(&mut got).await?;
        if got != expected {
            return Err("something else came back".into());
        }
        found.borrow_mut().latencies_us.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let mut next = || {
        arguments
            .next()
            .ok_or("usage: rsgi-bench-websocket PORT SIZE CONNECTIONS SECONDS")?
            .map_err(Box::<dyn Error>::from)
    };
    let (port, size, connections, seconds) =
        (u16::try_from(next()?)?, next()?, next()?, next()? as u64);
    let found = Rc::new(RefCell::new(Found::default()));
    let start = Instant::now();
    let end = start + Duration::from_secs(seconds);
    let tasks = LocalSet::new();
    for _ in 0..connections {
        let found = Rc::clone(&found);
        tasks.spawn_local(async move {
            if let Err(error) = talk(port, size, end, &found).await {
                eprintln!("{error}");
                found.borrow_mut().errors += 1;
            }
        });
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(tasks);
    let mut found = found.take();
    found.latencies_us.sort_unstable_by(f64::total_cmp);
    let count = found.latencies_us.len();
    let percentile = |share: f64| {
        found.latencies_us.get((count as f64 * share) as usize).copied().unwrap_or(0.0)
    };
    eprintln!(
        r#"{{"requests": {count}, "seconds": {}, "p50_us": {}, "p99_us": {}, "errors": {}}}"#,
        start.elapsed().as_secs_f64(),
        percentile(0.5),
        percentile(0.99),
        found.errors,
    );
    Ok(())
}
