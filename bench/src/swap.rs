//! Components of a server are swapped while it sends: what that does to the requests meanwhile.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_hostile::{OTP_FAILING, variant};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Failure;
use crate::load::{Load, Measured};
use crate::server::{ADMIN_TOKEN, KEY, Server, digits};

/// Numbers that no load comes to.
const NUMBERS: u64 = 50_000_000;

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
    /// Resident memory of the server in KiB, before the swaps and after them.
    pub(crate) resident_kib: [u64; 2],
    /// From when an otp component that fails at each call was live, by its answer or its first failure,
    /// until it is noted durably that it was rolled back.
    pub(crate) rolled_back: Duration,
    /// How many sends it has failed.
    pub(crate) failed: usize,
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
    let before_kib = server.resident_kib();
    let over = Arc::new(AtomicBool::new(false));
    let swapping = tokio::spawn(swap(server.address(), swaps, over.clone()));
    let mut during = Measured::new()?;
    while !over.load(Ordering::SeqCst) {
        let sent = server.send(load).await?.measured;
        let elapsed = during.elapsed + sent.elapsed;
        during.merge(sent)?;
        during.elapsed = elapsed;
    }
    let install_us = swapping.await??;
    let resident_kib = [before_kib, server.resident_kib()];
    let (rolled_back, failed) = install_a_bad_one(server.address()).await?;
    Ok(Swapped {
        quiet,
        during,
        swaps,
        install_us,
        resident_kib,
        rolled_back,
        failed,
    })
}

type Sender = SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> Result<Sender, Failure> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (sender, connection) = http1::handshake(stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// Asks as `bearer`; returns the status and the body.
async fn ask(
    sender: &mut Sender,
    method: Method,
    path: &str,
    bearer: &str,
    (media_type, body): (&str, Vec<u8>),
) -> Result<(u16, Bytes), Failure> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1")
        .header("content-type", media_type)
        .header("authorization", format!("Bearer {bearer}"))
        .body(Full::new(Bytes::from(body)))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// Sends codes until `over`; returns how many sends failed and when the first of them did.
async fn send_until(
    address: SocketAddr,
    over: Arc<AtomicBool>,
) -> Result<(usize, Option<Instant>), Failure> {
    let mut sender = connect(address).await?;
    let (mut failed, mut first) = (0, None);
    for number in NUMBERS.. {
        if over.load(Ordering::SeqCst) {
            break;
        }
        let body = format!(r#"{{"phoneNumber":"+{}"}}"#, digits(number)).into_bytes();
        let body = ("application/json", body);
        let asked = ask(&mut sender, Method::POST, "/api/otp/send", KEY, body);
        match asked.await? {
            (200, _) => {}
            (500, _) => {
                failed += 1;
                first.get_or_insert_with(Instant::now);
            }
            (status, _) => return Err(format!("a send was answered with {status}").into()),
        }
    }
    Ok((failed, first))
}

/// How long a version that fails is used, and how many sends it fails.
async fn install_a_bad_one(address: SocketAddr) -> Result<(Duration, usize), Failure> {
    let over = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send_until(address, over.clone()));
    let mut sender = connect(address).await?;
    put(&mut sender, "otp", OTP_FAILING.to_vec()).await?;
    let answered = Instant::now();
    let path = "/admin/components/otp";
    loop {
        let nothing = ("application/json", Vec::new());
        let (_, body) = ask(&mut sender, Method::GET, path, ADMIN_TOKEN, nothing).await?;
        let shown: serde_json::Value = serde_json::from_slice(&body)?;
        if shown["versions"][0]["state"] == "rolled-back" {
            break;
        }
        if answered.elapsed() > Duration::from_secs(60) {
            return Err(format!("it was not rolled back: {shown}").into());
        }
    }
    let noted = Instant::now();
    over.store(true, Ordering::SeqCst);
    let (failed, first) = sending.await??;
    let live = first.map_or(answered, |first| first.min(answered));
    Ok((noted.saturating_duration_since(live), failed))
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
    let mut sender = connect(address).await?;
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

async fn put(sender: &mut Sender, name: &str, bytes: Vec<u8>) -> Result<Duration, Failure> {
    let path = format!("/admin/components/{name}");
    let body = ("application/wasm", bytes);
    let began = Instant::now();
    let (status, body) = ask(sender, Method::PUT, &path, ADMIN_TOKEN, body).await?;
    if status != 200 {
        let said = String::from_utf8_lossy(&body);
        return Err(format!("a swap of {name} was answered with {status}: {said}").into());
    }
    Ok(began.elapsed())
}
