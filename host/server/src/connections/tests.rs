use super::*;
use axum::Router;
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
