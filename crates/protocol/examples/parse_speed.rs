//! Prints what reading a request head costs: `cargo run --release -p rsgi-protocol --example
//! parse_speed`. Five runs, the best counts; the noise is on the other side.

use std::hint::black_box;
use std::time::Instant;

use rsgi_protocol::http::{ChunkDecoder, HeadLimits, HeadScanner, parse_head};

const ROUNDS: u32 = 1_000_000;

const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

const TYPICAL: &[u8] = b"GET /items/42?verbose=1 HTTP/1.1\r\nHost: localhost:8000\r\n\
    User-Agent: python-httpx/0.28.1\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\
    Connection: keep-alive\r\n\r\n";

const BROWSER: &[u8] = b"POST /api/v1/items?page=2 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Content-Type: application/json\r\nContent-Length: 128\r\nOrigin: https://www.example.com\r\n\
    Connection: keep-alive\r\nReferer: https://www.example.com/items\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=yes\r\n\
    Sec-Fetch-Dest: empty\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-origin\r\n\r\n";

#[expect(
    clippy::print_stdout,
    reason = "a program to be run by hand, whose purpose is to measure and print"
)]
fn main() {
    let limits = HeadLimits::default();
    for (name, head) in [("1 field", SMALL), ("5 fields", TYPICAL), ("14 fields", BROWSER)] {
        let scan = best(|| HeadScanner::default().find_end(black_box(head), &limits));
        let parse = best(|| parse_head(black_box(head), &limits, |read| read.fields.len()));
        println!("{name:>9}: {:4} bytes, scan {scan:5.1} ns, parse {parse:5.1} ns", head.len());
    }
    let body = b"400\r\n".as_slice();
    let chunk = best(|| ChunkDecoder::default().decode(black_box(body)));
    println!("    chunk: size line {chunk:5.1} ns");
}

fn best<R>(mut work: impl FnMut() -> R) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            black_box(work());
        }
        best = best.min(start.elapsed().as_secs_f64());
    }
    best / f64::from(ROUNDS) * 1e9
}
