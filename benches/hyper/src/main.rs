//! Bare hyper: what a request costs when nobody calls Python.
//!
//! Owns the lower limit of `benches/run.py`: one tokio `current_thread` runtime, HTTP/1.1 (or, with `2` behind the port,
//! HTTP/2), one answer of the same size as rsgi's for the application in `benches/apps/bare.py`. Must not know rsgi's crates: they are what it is compared with.

use std::convert::Infallible;
use std::error::Error;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"Hello world!")));
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("rsgi"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

async fn serve(port: u16, is_http2: bool) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        tokio::spawn(async move {
            // A client that goes away in the middle of a request is no concern of a benchmark.
            if is_http2 {
                let _ = http2::Builder::new(TokioExecutor::new())
                    .timer(TokioTimer::new())
                    .serve_connection(io, service_fn(hello))
                    .await;
            } else {
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(io, service_fn(hello))
                    .await;
            }
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().ok_or("usage: rsgi-bench-hyper PORT [2]")?.parse()?;
    let is_http2 = arguments.next().as_deref() == Some("2");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(port, is_http2))
}
