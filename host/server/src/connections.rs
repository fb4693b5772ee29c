//! Accepts connections and keeps each within its bounds: how many, how long idle, how slow.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::response::Response;
use countersign_types::Level;
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

/// After an error of `accept`, most often that file descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection that was told to end may take.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 200;
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

/// Serves `app` until `stop` turns true; then accepts nothing more, lets requests that have begun
/// end within `limits.stop_time`, and returns. `open` counts the connections.
pub(crate) async fn serve(
    mut listener: impl Accept,
    app: impl App,
    limits: Http,
    open: Arc<Level>,
    mut stop: watch::Receiver<bool>,
) {
    let builder = Arc::new(builder(&limits));
    let room = Arc::new(Semaphore::new(limits.connections_max));
    loop {
        // Room first: what finds none waits in the kernel's backlog.
        let accept = async {
            let permit = room.clone().acquire_owned().await;
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
                    idle_time: limits.idle_time,
                    stop: stop.clone(),
                };
                let open = open.clone();
                tokio::spawn(async move {
                    let _one = open.rise();
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
    let ended = room.acquire_many(all);
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
    idle_time: Duration,
    stop: watch::Receiver<bool>,
}

impl<A: App> Connection<A> {
    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let activity = Arc::new(Activity::new());
        let service = service_fn(|request: Request<Incoming>| {
            let busy = Busy::new(&activity);
            respond(self.app.clone(), request, busy)
        });
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let closing = loop {
            tokio::select! {
                // What ends a connection early (reset, time-out, not HTTP) is the peer's affair.
                _ = connection.as_mut() => return,
                _ = self.stop.wait_for(|stop| *stop) => break Closing::Stop,
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
}

enum Closing {
    Stop,
    Idle,
}

async fn respond(
    app: impl App,
    request: Request<Incoming>,
    busy: Busy,
) -> Result<Response, Infallible> {
    let response = app.answer(request).await;
    drop(busy);
    Ok(response)
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
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;
    use tower::ServiceExt;

    impl App for Router {
        async fn answer(&self, request: Request<Incoming>) -> Response {
            let answered = self.clone().oneshot(request.map(Body::new)).await;
            answered.unwrap_or_else(|never| match never {})
        }
    }

    const MOMENT: Duration = Duration::from_millis(200);

    impl Accept for mpsc::UnboundedReceiver<DuplexStream> {
        type Stream = DuplexStream;

        async fn accept(&mut self) -> io::Result<DuplexStream> {
            match self.recv().await {
                Some(stream) => Ok(stream),
                None => std::future::pending().await,
            }
        }
    }

    struct Server {
        clients: mpsc::UnboundedSender<DuplexStream>,
        stop: watch::Sender<bool>,
        task: JoinHandle<()>,
    }

    fn start(connections_max: usize, idle_time: Duration) -> Server {
        let second = Duration::from_secs(1);
        let limits = Http {
            connections_max,
            header_time: second,
            header_bytes_max: BUFFER_BYTES_MIN,
            body_time: second,
            body_bytes_max: 1024,
            request_time: 5 * second,
            install_time: second,
            callbacks_max: 1,
            callback_bytes_max: 1024,
            idle_time,
            stop_time: 5 * second,
        };
        let slow = async || {
            tokio::time::sleep(2 * MOMENT).await;
            "slow"
        };
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/slow", get(slow));
        let (clients, accepted) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(accepted, router, limits, Arc::default(), stopped));
        Server {
            clients,
            stop,
            task,
        }
    }

    fn connect(server: &Server) -> DuplexStream {
        let (own, others) = tokio::io::duplex(64 * 1024);
        server.clients.send(others).expect("it accepts");
        own
    }

    async fn say(server: &Server, text: &str) -> DuplexStream {
        let mut stream = connect(server);
        stream.write_all(text.as_bytes()).await.expect("written");
        stream
    }

    async fn rest(mut stream: DuplexStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_is_closed() {
        let server = start(10, MOMENT);
        for text in ["", "PRI", "GET / HT"] {
            let stream = say(&server, text).await;
            let closed = tokio::time::timeout(Duration::from_secs(8), rest(stream)).await;
            assert!(closed.is_ok(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_takes_longer_than_idle_time_is_not_cut_off() {
        let server = start(10, MOMENT);
        let stream = say(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(rest(stream).await.ends_with("slow"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_past_the_limit_waits_until_one_ends() {
        let server = start(1, Duration::from_secs(60));
        let first = connect(&server);
        let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let second = say(&server, request).await;
        let mut answer = tokio::spawn(rest(second));
        // Time passes only when there is nothing left to be done.
        assert!(tokio::time::timeout(MOMENT, &mut answer).await.is_err());
        drop(first);
        assert!(answer.await.expect("answered").ends_with("hello"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_lets_requests_end_and_closes_what_is_idle() {
        let server = start(10, Duration::from_secs(60));
        let idle = connect(&server);
        let slow = say(&server, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
        // By then both have been accepted, and the request has begun.
        tokio::time::sleep(MOMENT).await;
        server.stop.send_replace(true);
        assert!(rest(slow).await.ends_with("slow"));
        assert_eq!(rest(idle).await, "");
        server.task.await.expect("ended");
        assert!(server.clients.is_closed());
    }

    /// hyper answers these by itself, before there is a request that the API could answer.
    #[tokio::test(start_paused = true)]
    async fn a_head_that_is_none_or_too_large_is_refused_without_a_body_and_the_connection_ends() {
        let server = start(10, Duration::from_secs(60));
        let long = "x".repeat(20_000);
        for (head, status) in [
            ("nonsense\r\n\r\n".to_owned(), "400"),
            ("GET / HTTP/1.1\r\nno header\r\n\r\n".to_owned(), "400"),
            (
                format!("GET / HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
                "431",
            ),
        ] {
            let answer = rest(say(&server, &head).await).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("content-length: 0\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
}
