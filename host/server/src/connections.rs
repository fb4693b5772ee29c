//! Accepts connections and keeps each within its bounds: how many, how long idle, how slow. `streams` bounds
//! the requests on all of them together.

mod streams;

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode, Version};
use axum::response::Response;
use countersign_types::{Counter, Level};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::config::Http;
use streams::{Place, Room, STREAMS_MAX, Share};

/// After an error of `accept`, most often that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that was told to end may take.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_TIME: Duration = Duration::from_secs(20);
/// hyper's smallest read buffer.
const BUFFER_BYTES_MIN: usize = 8 * 1024;
/// How many file descriptors are kept for what is not a connection of a client: the store, components'
/// requests, the control socket.
const DESCRIPTORS_KEPT: u64 = 512;

/// How many connections of clients this process can have: as many as are asked for, within what the
/// operating system grants once it has been asked for all. Otherwise clients that do nothing would
/// leave none for deliveries.
pub(crate) fn possible(asked: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let granted = if setrlimit(Resource::Nofile, all).is_ok() {
        limit.maximum
    } else {
        limit.current
    };
    let Some(granted) = granted else {
        return asked;
    };
    let kept = DESCRIPTORS_KEPT.min(granted / 2);
    let possible = usize::try_from(granted - kept).unwrap_or(usize::MAX);
    if possible < asked {
        tracing::warn!(
            asked,
            possible,
            "the limit of open files leaves room for fewer connections than http.connections-max; raise it with ulimit -n"
        );
    }
    asked.min(possible)
}

/// Where connections come from: a socket, or a test that lets no real time pass.
pub(crate) trait Accept: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next one. Nothing is lost where it is given up.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = TcpListener::accept(self).await?;
        // An answer is one small write: waiting for more to send only delays it.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// What answers requests.
pub(crate) trait App: Clone + Send + Sync + 'static {
    /// Answers one. Dropped where the client goes away.
    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Response> + Send;
}

/// What is counted of connections.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Those that are open.
    pub(crate) open: Level,
    /// Requests of HTTP/2 that were turned away, since too many were in progress.
    pub(crate) refused: Counter,
}

/// Serves `app` until `stop` turns true; then accepts nothing more, lets requests that have begun
/// end within `limits.stop_time`, and returns.
pub(crate) async fn serve(
    mut listener: impl Accept,
    app: impl App,
    limits: Http,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let builder = Arc::new(builder(&limits));
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let room = Room::new(limits.connections_max);
    loop {
        // A permit first: what finds none waits in the kernel's backlog.
        let accept = async {
            let permit = connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accept => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Ok(permit) = permit else { break };
        match accepted {
            Ok(stream) => {
                let connection = Connection {
                    builder: builder.clone(),
                    app: app.clone(),
                    share: Share::of(&room),
                    counts: counts.clone(),
                    idle_time: limits.idle_time,
                    stop: stop.clone(),
                };
                let counts = counts.clone();
                tokio::spawn(async move {
                    let _one = counts.open.rise();
                    connection.serve(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(app);
    // All permits are back when all connections have ended.
    let all = u32::try_from(limits.connections_max).unwrap_or(u32::MAX);
    let ended = connections.acquire_many(all);
    if tokio::time::timeout(limits.stop_time, ended).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
}

fn builder(limits: &Http) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // A client may close its side right after its request and still wait for the answer.
        .half_close(true)
        .header_read_timeout(limits.header_time)
        .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES_MIN));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_TIME)
        .keep_alive_timeout(CLOSE_TIME);
    builder
}

struct Connection<A> {
    builder: Arc<Builder<TokioExecutor>>,
    app: A,
    share: Share,
    counts: Arc<Counts>,
    idle_time: Duration,
    stop: watch::Receiver<bool>,
}

impl<A: App> Connection<A> {
    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let activity = Arc::new(Activity::new());
        let mut stop = self.stop.clone();
        let service = service_fn(|request: Request<Incoming>| {
            let busy = Busy::new(&activity);
            // Not later, in the task of the request: what is refused is gone before that has its turn.
            let answer = self.respond(request);
            async move {
                let response = match answer {
                    Some(answer) => answer.await,
                    None => no_room(),
                };
                drop(busy);
                Ok::<_, Infallible>(response)
            }
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let closing = loop {
            tokio::select! {
                // What ends a connection early (reset, time-out, not HTTP) is the peer's affair.
                _ = connection.as_mut() => return,
                _ = stop.wait_for(|stop| *stop) => break Closing::Stop,
                () = tokio::time::sleep_until(activity.idle_from() + self.idle_time) => {
                    if activity.is_idle_for(self.idle_time) {
                        break Closing::Idle;
                    }
                }
            }
        };
        connection.as_mut().graceful_shutdown();
        match closing {
            // `serve` bounds the time of all of them together.
            Closing::Stop => {
                let _ = connection.await;
            }
            Closing::Idle => {
                let _ = tokio::time::timeout(CLOSE_TIME, connection).await;
            }
        }
    }

    /// The answer to a request; `None` where there is no room for it.
    fn respond(
        &self,
        request: Request<Incoming>,
    ) -> Option<Pin<Box<impl Future<Output = Response> + use<A>>>> {
        let place = match request.version() {
            Version::HTTP_2 => self.share.place().map(Some),
            // One request at a time.
            _ => Some(None),
        };
        if place.is_none() {
            self.counts.refused.add_one();
        }
        let place = place?;
        // Its kilobytes would be part of every task otherwise, also of those that refuse.
        Some(Box::pin(respond(self.app.clone(), request, place)))
    }
}

enum Closing {
    Stop,
    Idle,
}

/// Answers a request, whose place lasts until the answer is read.
async fn respond(app: impl App, request: Request<Incoming>, place: Option<Place>) -> Response {
    let response = app.answer(request).await;
    match place {
        Some(place) => response.map(|body| place.until_read(body)),
        None => response,
    }
}

/// Without a body: HTTP/2 lets the client say when it takes one, and what it does not take would pile up.
fn no_room() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// When a connection was last busy.
struct Activity {
    start: Instant,
    requests: AtomicUsize,
    /// When the last request ended, in milliseconds from `start`.
    ended_ms: AtomicU64,
}

impl Activity {
    fn new() -> Activity {
        Activity {
            start: Instant::now(),
            requests: AtomicUsize::new(0),
            ended_ms: AtomicU64::new(0),
        }
    }

    /// From when on it has been idle; now, while a request is being answered.
    fn idle_from(&self) -> Instant {
        if self.requests.load(Ordering::Acquire) > 0 {
            return Instant::now();
        }
        self.start + Duration::from_millis(self.ended_ms.load(Ordering::Acquire))
    }

    fn is_idle_for(&self, span: Duration) -> bool {
        self.idle_from().elapsed() >= span
    }
}

/// A request that is being answered.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>) -> Busy {
        activity.requests.fetch_add(1, Ordering::AcqRel);
        Busy(activity.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let elapsed = self.0.start.elapsed().as_millis();
        let elapsed = u64::try_from(elapsed).unwrap_or(u64::MAX);
        self.0.ended_ms.fetch_max(elapsed, Ordering::AcqRel);
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
