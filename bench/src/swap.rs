//! Components of a server are swapped while it sends: what that does to the requests meanwhile.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_hostile::variant;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Failure;
use crate::load::{Load, Measured};
use crate::server::{ADMIN_TOKEN, Server};

/// The services and the provider that the load goes through.
const COMPONENTS: [(&str, &[u8]); 3] = [
    ("otp", countersign_embedded::OTP),
    ("two-factor", countersign_embedded::TWO_FACTOR),
    ("provider-twilio", countersign_embedded::PROVIDER_TWILIO),
];

/// What was found. None of the sends failed, or there would be none of it.
#[derive(Clone, Debug)]
pub(crate) struct Swapped {
    /// Sends without a swap.
    pub(crate) quiet: Measured,
    /// Sends during the swaps.
    pub(crate) during: Measured,
    /// How many swaps of each component.
    pub(crate) swaps: usize,
    /// From an otp component's request to its answer, when it is live; in microseconds.
    pub(crate) install_us: Histogram<u64>,
}

/// Swaps each component `swaps` times under the whole load.
pub(crate) async fn measure(
    binary: &Path,
    folder: &Path,
    load: &Load,
    swaps: usize,
) -> Result<Swapped, Failure> {
    let folder = folder.join("swap");
    std::fs::create_dir(&folder)?;
    let mut server = Server::start(Command::new(binary), &folder).await?;
    let quiet = server.send(load).await?.measured;
    let over = Arc::new(AtomicBool::new(false));
    let swapping = tokio::spawn(swap(server.address(), swaps, over.clone()));
    let mut during = Measured::new()?;
    while !over.load(Ordering::SeqCst) {
        let sent = server.send(load).await?.measured;
        let elapsed = during.elapsed + sent.elapsed;
        during.merge(sent)?;
        during.elapsed = elapsed;
    }
    Ok(Swapped {
        quiet,
        during,
        swaps,
        install_us: swapping.await??,
    })
}

async fn swap(
    address: SocketAddr,
    swaps: usize,
    over: Arc<AtomicBool>,
) -> Result<Histogram<u64>, Failure> {
    let done = swap_all(address, swaps).await;
    over.store(true, Ordering::SeqCst);
    done
}

async fn swap_all(address: SocketAddr, swaps: usize) -> Result<Histogram<u64>, Failure> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);
    let mut install_us = Histogram::new(3)?;
    for number in 0..swaps {
        for (name, bytes) in COMPONENTS {
            let took = put(&mut sender, name, variant(bytes, &number.to_string())).await?;
            if name == "otp" {
                install_us.record(u64::try_from(took.as_micros())?)?;
            }
        }
    }
    Ok(install_us)
}

async fn put(
    sender: &mut SendRequest<Full<Bytes>>,
    name: &str,
    bytes: Vec<u8>,
) -> Result<Duration, Failure> {
    let request = Request::builder()
        .method(Method::PUT)
        .uri(format!("/admin/components/{name}"))
        .header("host", "127.0.0.1")
        .header("content-type", "application/wasm")
        .header("authorization", format!("Bearer {ADMIN_TOKEN}"))
        .body(Full::new(Bytes::from(bytes)))?;
    let began = Instant::now();
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != 200 {
        let said = String::from_utf8_lossy(&body);
        return Err(format!("a swap of {name} was answered with {status}: {said}").into());
    }
    Ok(began.elapsed())
}
