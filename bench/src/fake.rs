//! What the fakes of companies have in common: a server in a thread of its own, so that the load generator does not
//! starve it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::Failure;

/// What a fake answers.
pub(crate) type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Serves `answer` in a thread called `name`, until the sender of `ends` goes; returns where.
pub(crate) fn serve<S, F>(
    name: &str,
    service: S,
    mut ends: watch::Receiver<bool>,
    answer: fn(S, Request<Incoming>) -> F,
) -> Result<SocketAddr, Failure>
where
    S: Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let gone = async { while ends.changed().await.is_ok() {} };
                tokio::select! {
                    () = accept(listener, service, answer) => {}
                    () = gone => {}
                }
            });
        })?;
    Ok(address)
}

async fn accept<S, F>(
    listener: std::net::TcpListener,
    service: S,
    answer: fn(S, Request<Incoming>) -> F,
) where
    S: Clone + Send + 'static,
    F: Future<Output = Answer> + Send + 'static,
{
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    // A connection that could not be had is missed by whoever wanted it.
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(service.clone(), request));
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}
