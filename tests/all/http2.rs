//! HTTP/2, where one connection has many requests: what can be piled up by that, and who is served meanwhile.

use std::convert::Infallible;

use bytes::Bytes;
use countersign_tests::{Client, FakeTwilio, PATIENCE, Server, TEST_KEY, eventually, phone};
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::metrics::{TOKEN, page, value};

/// Connections of those who take all they can.
const CROWD: usize = 200;
/// Requests at a time on one connection, as the server allows them.
const STREAMS: usize = 100;
/// `http.connections-max` in these tests.
const CONNECTIONS_MAX: usize = 1_000;

type Body = BoxBody<Bytes, Infallible>;
type Answering = BoxFuture<'static, hyper::Result<Response<Incoming>>>;

fn body(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// A body that begins and does not end.
fn endless() -> Body {
    let frames = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    StreamBody::new(frames).boxed()
}

/// One connection.
struct Connection {
    requests: SendRequest<Body>,
    address: String,
    key: Option<&'static str>,
}

impl Connection {
    /// Of a client that takes `window` bytes of each answer before it says that it wants more.
    async fn open(server: &Client, key: Option<&'static str>, window: u32) -> Connection {
        let stream = TokioIo::new(server.connect().await);
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window);
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(async move {
            // It ends with its requests.
            let _ = connection.await;
        });
        Connection {
            requests,
            address: server.address().to_string(),
            key,
        }
    }

    /// Asks at once; the answer may be waited for, or not.
    fn ask(&self, method: Method, path: &str, body: Body) -> Answering {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header(CONTENT_TYPE, "application/json");
        if let Some(key) = self.key {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(body).unwrap();
        self.requests.clone().send_request(request).boxed()
    }

    async fn send(&self, phone: &str) -> StatusCode {
        let wish = json!({ "phoneNumber": phone }).to_string();
        let answer = self.ask(Method::POST, "/api/otp/send", body(wish));
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        answer.expect("in time").expect("an answer").status()
    }
}

const WINDOW: u32 = 64 * 1024;

/// None of its requests is over because of the time that it takes.
async fn start(twilio: &FakeTwilio) -> Server {
    let seconds = "3600";
    Server::builder()
        .twilio(twilio)
        .env("COUNTERSIGN_METRICS_TOKEN", TOKEN)
        .env(
            "COUNTERSIGN_ADMIN_TOKEN",
            "token-of-the-administrator-8Zq3Lw7Rt",
        )
        .env(
            "COUNTERSIGN_HTTP_CONNECTIONS_MAX",
            &CONNECTIONS_MAX.to_string(),
        )
        .env("COUNTERSIGN_HTTP_BODY_SECONDS", seconds)
        .env("COUNTERSIGN_HTTP_REQUEST_SECONDS", seconds)
        .env("COUNTERSIGN_HTTP_IDLE_SECONDS", seconds)
        .start()
        .await
}

async fn crowd(server: &Server, key: Option<&'static str>, window: u32) -> Vec<Connection> {
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(Connection::open(server, key, window).await);
    }
    crowd
}

/// Requests that are being answered besides the one that asks, and those that were refused until now.
async fn figures(server: &Server) -> (usize, usize) {
    let page = page(server).await;
    let value = |sample| value(&page, sample) as usize;
    let in_flight = value("countersign_http_requests_in_flight");
    (
        in_flight - 1,
        value("countersign_http_streams_refused_total"),
    )
}

/// Who has one request at a time is served, whatever others do.
async fn expect_others_served(server: &Server) {
    for n in 0..10 {
        server.send(&phone(n)).await.expect_success();
    }
    let other = Connection::open(server, Some(TEST_KEY), WINDOW).await;
    for n in 10..20 {
        assert_eq!(other.send(&phone(n)).await, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_never_end_take_bounded_memory_and_nobody_elses_turn() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let before = server.resident_kib();
    let crowd = crowd(&server, Some(TEST_KEY), WINDOW).await;
    let ask = |one: &Connection| {
        let ask = |_| one.ask(Method::POST, "/api/otp/send", endless());
        (0..STREAMS).map(ask).collect::<Vec<_>>()
    };
    let asked: Vec<_> = crowd.iter().flat_map(ask).collect();
    let (in_flight, _) = eventually("all have come", async || {
        let (in_flight, refused) = figures(&server).await;
        (in_flight + refused == asked.len()).then_some((in_flight, refused))
    })
    .await;
    assert!(in_flight <= CONNECTIONS_MAX + CROWD, "{in_flight}");
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB for {in_flight} requests");
    expect_others_served(&server).await;
    drop(asked);
    drop(crowd);
    let (_, refused) = eventually("all places are free", async || {
        let figures = figures(&server).await;
        (figures.0 == 0).then_some(figures)
    })
    .await;
    let one = Connection::open(&server, Some(TEST_KEY), WINDOW).await;
    let _asked = ask(&one);
    eventually("one has all of its streams", async || {
        (figures(&server).await == (STREAMS, refused)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_are_bounded_too() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let before = server.resident_kib();
    let crowd = crowd(&server, None, 0).await;
    let ask = |one: &Connection| {
        let ask = |_| one.ask(Method::GET, "/dashboard/login", body(""));
        (0..STREAMS).map(ask).collect::<Vec<_>>()
    };
    let heads = join_all(crowd.iter().flat_map(ask));
    let heads = tokio::time::timeout(PATIENCE, heads)
        .await
        .expect("in time");
    let heads: Vec<_> = heads.into_iter().map(Result::unwrap).collect();
    let (served, refused): (Vec<_>, Vec<_>) = heads
        .iter()
        .partition(|head| head.status() == StatusCode::OK);
    assert!(served.len() <= CONNECTIONS_MAX + CROWD, "{}", served.len());
    for refused in refused {
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key(RETRY_AFTER));
    }
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 48 * 1024, "{grown} KiB for {} pages", served.len());
    expect_others_served(&server).await;
}

/// One after the other: each that was waited for would take seconds.
#[tokio::test]
async fn a_stranger_is_refused_without_a_wait_for_the_body_and_may_ask_again() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    let stranger = Connection::open(&server, None, WINDOW).await;
    let all = async {
        for _ in 0..2 * STREAMS {
            let answer = stranger.ask(Method::POST, "/api/otp/send", endless());
            let answer = answer.await.expect("an answer, and no reset stream");
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            let body = answer.into_body().collect().await.expect("all of it");
            assert!(!body.to_bytes().is_empty());
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("in time");
    server.expect_healthy().await;
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A connection's bytes on which each request is taken back at once: what no library sends.
fn taken_back(requests: u32) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/api/otp/send"),
        (":authority", "127.0.0.1"),
    ];
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    let literal = |(name, value)| [vec![0], text(name), text(value)].concat();
    let block = fields.map(literal).concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, b""));
    for n in 0..requests {
        let stream = 2 * n + 1;
        bytes.extend(frame(1, 4, stream, &block));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    bytes
}

#[tokio::test]
async fn strangers_who_break_the_rules_do_not_fill_the_log() {
    let twilio = FakeTwilio::start().await;
    let server = start(&twilio).await;
    for _ in 0..50 {
        let mut stream = server.connect().await;
        stream.write_all(&taken_back(40)).await.expect("written");
        // It ends the connection.
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {PATIENCE:?}");
    }
    let page = page(&server).await;
    let warnings = value(&page, r#"countersign_log_lines_total{level="warn"}"#);
    let log = server.stderr().text();
    let lines = log.lines().filter(|line| line.contains(" h2::")).count();
    assert!((1..=5).contains(&lines), "{log}");
    assert!(warnings < 10.0, "{log}");
    server.expect_healthy().await;
}
