//! The baseline: what hyper alone makes of the same request, in a process of its own as the server is.

use std::convert::Infallible;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::load::{self, Load, Measured, Target};
use crate::process::{Process, READY};
use crate::{Failure, only_expected, server};

/// An answer of the size of the server's.
const ANSWER: &[u8] = br#"{"expiresAt":"2026-11-24T12:10:00Z","messageId":"0193a1b2c3d4e5f60718293a4b5c6d7e","success":true}"#;

/// Measures it.
pub(crate) async fn measure(program: &Path, load: &Load) -> Result<Measured, Failure> {
    let log = tempfile::NamedTempFile::new()?;
    let mut command = Command::new(program);
    command.arg("--serve-baseline");
    let process = Process::start(command, log.path())?;
    let target = Target {
        address: process.address,
        path: "/api/otp/send",
        key: None,
    };
    let bodies = Arc::new(|n| Some(server::send_body(n)));
    let expected = |status, body: &[u8]| status == 200 && body == ANSWER;
    let cpu_before = process.cpu();
    let mut measured = load::run(target, *load, bodies, expected).await?;
    measured.share_cpu(&cpu_before, process.cpu());
    only_expected("the baseline", measured)
}

/// Serves it, until standard input ends.
pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // Whoever started this is gone when its end of the pipe is.
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{READY}{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                // A connection that is cut is the other side's affair.
                let _ = http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // What cannot be read is answered all the same: the bench sees to it that all can.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}
