//! What a provider component can reach, and how the host judges when it fails.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use countersign_delivery::Sender;
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::{
    CallbackRequest, Limits, ProviderConfig, Runtime, RuntimeConfig, StartError,
};
use countersign_types::{
    Accepted, ErrorClass, Message, MessageId, Secret, SendError, SystemClock, SystemEntropy,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::bench::{Bench, Log, patient, short, short_wall};

pub(crate) const TOKEN: &str = "a-token-that-nobody-sees";

pub(crate) fn config(base: &str) -> ProviderConfig {
    ProviderConfig {
        component_name: "probe-provider".into(),
        name: "probe".into(),
        component: countersign_hostile::PROBE_PROVIDER.to_vec(),
        settings: vec![
            ("base-url".into(), base.into()),
            ("colour".into(), "blue".into()),
        ],
        credentials: vec![("token".into(), Secret::new(TOKEN.into()))],
        allow_hosts: None,
        terminal: false,
        unsigned: false,
        own: false,
    }
}

async fn send(address: SocketAddr, text: &str) -> Result<Accepted, SendError> {
    let config = config(&format!("http://{address}"));
    let otp = countersign_hostile::PROBE_OTP;
    let bench = Bench::with(short(), otp, vec![config]).await;
    bench.runtime.send("probe", &message(text)).await
}

pub(crate) fn message(text: &str) -> Message {
    Message {
        id: MessageId([1; 16]),
        channel: "sms".into(),
        to: "+12025550123".into(),
        country: "US".into(),
        text: text.into(),
        template: "verification".into(),
        variables: Vec::new(),
        code: None,
        locale: None,
        purpose: "verification".into(),
        validity: Duration::from_secs(600),
        status_callback: None,
    }
}

/// A provider that is the host's `own`, or a third party's, with these limits.
async fn bench(address: SocketAddr, own: bool, limits: Limits) -> Bench {
    let config = ProviderConfig {
        own,
        ..config(&format!("http://{address}"))
    };
    Bench::with(limits, countersign_hostile::PROBE_OTP, vec![config]).await
}

const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9));

/// Sends `texts` one after the other, each followed by the number of messages that its instance has
/// seen; what the instance said, or nothing where it failed.
async fn instances(bench: &Bench, texts: &[&str]) -> Vec<String> {
    let mut said = Vec::new();
    for text in texts {
        let sent = bench.runtime.send("probe", &message(text)).await;
        said.push(sent.map_or_else(|_| String::new(), |sent| sent.ids.join(" ")));
    }
    said
}

#[tokio::test]
async fn a_third_partys_message_is_handed_to_a_fresh_instance() {
    let bench = bench(NOWHERE, false, short()).await;
    let said = instances(&bench, &["sends", "fail", "sends"]).await;
    assert_eq!(said, ["1", "", "1"]);
}

#[tokio::test]
async fn an_own_component_is_used_again_until_it_has_served_its_calls() {
    let limits = Limits {
        instance_calls: 3,
        ..short()
    };
    let bench = bench(NOWHERE, true, limits).await;
    // A refusal is an answer like any other.
    let texts = ["sends", "fail", "sends", "sends", "sends"];
    assert_eq!(instances(&bench, &texts).await, ["1", "", "3", "1", "2"]);
}

#[tokio::test]
async fn where_no_instance_may_be_idle_each_message_has_a_fresh_one() {
    let limits = Limits {
        idle_instances: 0,
        ..short()
    };
    let bench = bench(NOWHERE, true, limits).await;
    assert_eq!(instances(&bench, &["sends", "sends"]).await, ["1", "1"]);
}

#[tokio::test]
async fn after_a_trap_or_a_time_out_an_own_component_begins_anew() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let bench = bench(address, true, short_wall()).await;
    for end in ["trap oops", "spin", &format!("post http://{address}/")] {
        let said = instances(&bench, &["sends", end, "sends"]).await;
        assert_eq!((said[1].as_str(), said[2].as_str()), ("", "1"), "{end}");
    }
}

#[tokio::test]
async fn a_call_in_a_used_instance_has_limits_and_a_judgement_of_its_own() {
    let (address, _requests) = server(OK).await;
    let limits = Limits {
        http_requests: 2,
        ..short()
    };
    let bench = bench(address, true, limits).await;
    let post = format!("post http://{address}/");
    let twice = format!("sends\n{post}\n{post}");
    let said = instances(&bench, &[&twice, &twice]).await;
    assert_eq!(said, ["1 201 201", "2 201 201"]);
    // What the host has seen of the calls before says nothing of this one.
    let error = bench.runtime.send("probe", &message("trap oops")).await;
    assert_eq!(error.unwrap_err().class, ErrorClass::Retryable);
    let three = format!("{twice}\n{post}");
    let said = instances(&bench, &[&twice, &twice, &three, "sends"]).await;
    assert_eq!(said, ["1 201 201", "2 201 201", "", "1"]);
    // Checks of signatures, too: sixteen in a call.
    let checks = format!("sends{}", "\nhmac".repeat(8));
    for n in 2..6 {
        let said = instances(&bench, &[&checks]).await;
        assert!(said[0].starts_with(&format!("{n} false")), "{said:?}");
    }
}

#[tokio::test]
async fn what_strangers_send_is_read_by_an_instance_that_has_seen_no_message() {
    let config = ProviderConfig {
        own: true,
        unsigned: true,
        ..config("http://127.0.0.1:9")
    };
    let bench = Bench::with(short(), countersign_hostile::PROBE_OTP, vec![config]).await;
    assert_eq!(instances(&bench, &["sends", "sends"]).await, ["1", "2"]);
    for _ in 0..2 {
        let request = CallbackRequest {
            method: "POST".into(),
            path: "/webhooks/probe".into(),
            query: None,
            headers: Vec::new(),
            body: b"sends\n".to_vec(),
        };
        let told = bench
            .runtime
            .parse_callback("probe", request)
            .await
            .unwrap();
        assert_eq!(told.updates[0].id, "0");
    }
    assert_eq!(instances(&bench, &["sends"]).await, ["3"]);
}

/// Answers each connection with `answer`, and hands back what was asked.
pub(crate) async fn server(
    answer: &'static [u8],
) -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = connection.read(&mut request).await.unwrap_or(0);
            let _ = asked.send(String::from_utf8_lossy(&request[..n]).into_owned());
            let _ = connection.write_all(answer).await;
            let _ = connection.shutdown().await;
        }
    });
    (address, requests)
}

const OK: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn credentials_are_put_in_by_the_host() {
    let (address, mut requests) = server(OK).await;
    let sent = send(
        address,
        &format!("post http://{address}/x\nsetting colour\nsetting token"),
    )
    .await;
    assert_eq!(sent.unwrap().ids, ["201", "blue", "-"]);
    let request = requests.recv().await.unwrap();
    assert!(
        request.contains(&format!("authorization: Bearer {TOKEN}")),
        "{request}"
    );
}

/// Answers each connection with what it was asked, in several spellings: what a server does that shows
/// requests.
async fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = connection.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..n]).into_owned();
            let line = request
                .lines()
                .find(|line| line.starts_with("authorization"));
            let line = line.unwrap_or_default();
            let (basic, line64) = (
                STANDARD.encode(format!("user:{TOKEN}")),
                STANDARD_NO_PAD.encode(line),
            );
            let escaped = line.replace('-', "%2D");
            let body = format!("{request}\n{basic} {line64}\n{escaped}\nthe end");
            let answer = format!(
                "HTTP/1.1 200 OK\r\nx-shown: {line}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = connection.write_all(answer.as_bytes()).await;
            let _ = connection.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn no_answer_shows_a_credential_to_the_component() {
    let address = mirror().await;
    let pair = STANDARD.encode(format!("user:{TOKEN}"));
    let line = STANDARD_NO_PAD.encode(format!("authorization: Bearer {TOKEN}"));
    let escaped = TOKEN.replace('-', "%2D");
    for needle in [TOKEN, &TOKEN[..12], &TOKEN[12..], &pair, &line, &escaped] {
        let sent = send(address, &format!("shows {needle} http://{address}/")).await;
        assert_eq!(sent.unwrap().ids, ["false"], "{needle}");
    }
    // All else is shown.
    let sent = send(address, &format!("shows end http://{address}/")).await;
    assert_eq!(sent.unwrap().ids, ["true"]);
}

#[tokio::test]
async fn an_answer_that_hides_behind_an_encoding_is_refused() {
    let (address, mut requests) =
        server(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok").await;
    let error = send(address, &format!("post http://{address}/"))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::UnknownOutcome, "{error:?}");
    assert!(error.text.contains("encoded"), "{error:?}");
    let request = requests.recv().await.unwrap();
    assert!(
        request.contains("accept-encoding: identity\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn only_headers_that_are_meant_for_it_carry_a_credential() {
    let (address, mut requests) = server(OK).await;
    for name in [
        "Authorization",
        "X-Api-Key",
        "Api-Key",
        "apikey",
        "X-Vendor",
        "Ocp-Apim-Subscription-Key",
        "Access-Token",
    ] {
        let sent = send(address, &format!("carry {name} http://{address}/")).await;
        assert_eq!(sent.unwrap().ids, ["201"], "{name}");
        let request = requests.recv().await.unwrap();
        let header = format!("{}: App {TOKEN}\r\n", name.to_lowercase());
        assert!(request.contains(&header), "{request}");
    }
    let long = format!("x-{}", "x".repeat(63));
    for name in [
        "Host",
        "Cookie",
        "Content-Length",
        "Content-Type",
        "Connection",
        "Transfer-Encoding",
        "Proxy-Authorization",
        "User-Agent",
        "Referer",
        "Idempotency-Key",
        "Sec-WebSocket-Key",
        "X-Forwarded-For",
        "X-Request-Id",
        "Forwarded",
        &long,
    ] {
        let sent = send(address, &format!("carry {name} http://{address}/")).await;
        let text = &sent.unwrap().ids[0];
        assert!(text.contains("header"), "{name}: {text}");
    }
    assert!(requests.try_recv().is_err(), "nobody was called");
}

#[tokio::test]
async fn what_a_provider_says_is_cleaned_before_it_is_cut() {
    let (address, _requests) = server(OK).await;
    // Cut first, the last digits of these would be three or four, and of the token's letters a few.
    for (secret, start) in [("481234", "481"), (TOKEN, &TOKEN[..6])] {
        let text = format!("{}{secret}", "x".repeat(512 - start.len()));
        let error = send(address, &format!("fail {text}")).await.unwrap_err();
        assert!(error.text.len() <= 512, "{error:?}");
        assert!(!error.text.contains(start), "{error:?}");
    }
}

#[tokio::test]
async fn only_what_was_granted_is_reached() {
    let (address, mut requests) = server(OK).await;
    for url in [
        "https://api.twilio.com/".to_owned(),
        format!("http://localhost:{}/", address.port()),
        format!("http://127.0.0.1:{}/", address.port() ^ 1),
        "file:///etc/passwd".to_owned(),
        "nonsense".to_owned(),
    ] {
        let error = send(address, &format!("post {url}")).await.unwrap_err();
        assert_eq!(
            error.class,
            ErrorClass::Retryable,
            "{url}: nothing was sent"
        );
    }
    assert_eq!(
        send(address, "socket 127.0.0.1:80").await.unwrap().ids,
        ["false"]
    );
    for header in ["Host", "Accept-Encoding", "Range"] {
        let script = format!("header {header} http://{address}/");
        let refused = send(address, &script).await.unwrap();
        let name = header.to_lowercase();
        assert!(refused.ids[0].contains(&name), "{refused:?}");
    }
    assert!(requests.try_recv().is_err(), "nobody was called");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, mut reached) = server(OK).await;
    let answer =
        format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let (address, _requests) = server(answer.leak().as_bytes()).await;
    let sent = send(address, &format!("post http://{address}/")).await;
    assert_eq!(sent.unwrap().ids, ["302"]);
    assert!(reached.try_recv().is_err());
}

#[tokio::test]
async fn a_failure_before_the_first_byte_is_told_from_one_after_it() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let error = send(closed, &format!("post http://{closed}/"))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::Retryable, "{error:?}");
    let (address, _requests) = server(b"").await;
    let error = send(address, &format!("post http://{address}/"))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::UnknownOutcome, "{error:?}");
}

#[tokio::test]
async fn after_a_trap_the_host_judges_by_what_it_saw() {
    let (address, _requests) = server(OK).await;
    for end in ["trap oops", "spin"] {
        let error = send(address, end).await.unwrap_err();
        assert_eq!(
            error.class,
            ErrorClass::Retryable,
            "{end}: nothing was written"
        );
        let sent = send(address, &format!("post http://{address}/\n{end}")).await;
        assert_eq!(sent, Ok(Accepted::default()), "{end}: a 2xx was received");
    }
    let (failing, _requests) = server(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
    let error = send(failing, &format!("post http://{failing}/\ntrap oops"))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::UnknownOutcome);
}

#[tokio::test]
async fn a_call_that_is_cut_off_in_a_request_has_an_unknown_outcome() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let bench = bench(address, false, short_wall()).await;
    let message = message(&format!("post http://{address}/"));
    let error = bench.runtime.send("probe", &message).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::UnknownOutcome, "{error:?}");
}

#[tokio::test]
async fn too_long_an_answer_is_a_failure_after_the_first_byte() {
    let mut answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n".to_vec();
    answer.resize(answer.len() + 1_048_577, b'x');
    let (address, _requests) = server(answer.leak()).await;
    let error = send(address, &format!("post http://{address}/"))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::UnknownOutcome, "{error:?}");
}

#[tokio::test]
async fn too_many_headers_are_a_failure_after_the_first_byte() {
    let answer = |bytes: usize| {
        let header = "x".repeat(bytes - "x-long".len() - "content-length0".len());
        format!("HTTP/1.1 200 OK\r\nx-long: {header}\r\ncontent-length: 0\r\n\r\n")
    };
    let most = 64 * 1024;
    let (address, _requests) = server(answer(most).leak().as_bytes()).await;
    let sent = send(address, &format!("post http://{address}/")).await;
    assert_eq!(sent.unwrap().ids, ["200"]);
    let (address, _requests) = server(answer(most + 1).leak().as_bytes()).await;
    let error = send(address, &format!("post http://{address}/"))
        .await
        .unwrap_err();
    assert_eq!(error.class, ErrorClass::UnknownOutcome, "{error:?}");
    assert!(error.text.contains("headers"), "{error:?}");
}

#[tokio::test]
async fn a_granted_name_leads_to_no_address_of_the_own_network() {
    let (address, mut requests) = server(OK).await;
    let config = ProviderConfig {
        allow_hosts: Some(vec!["localhost".to_owned()]),
        ..config(&format!("http://{NOWHERE}"))
    };
    let bench = Bench::with(short(), countersign_hostile::PROBE_OTP, vec![config]).await;
    let text = format!("post https://localhost:{}/", address.port());
    let error = bench.runtime.send("probe", &message(&text)).await;
    let error = error.unwrap_err();
    assert_eq!(error.class, ErrorClass::Retryable, "{error:?}");
    assert!(
        error.text.contains("no address on the Internet"),
        "{error:?}"
    );
    assert!(requests.try_recv().is_err(), "nobody was called");
}

const LENT: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 53\r\n\r\n\
    {\"access_token\":\"lent-for-an-hour\",\"expires_in\":3600}";

/// Posts twice with a token that `tokens` gives out, to `api`; what came of both.
async fn lent(tokens: SocketAddr, api: SocketAddr) -> Vec<String> {
    let config = ProviderConfig {
        allow_hosts: Some(vec![tokens.to_string()]),
        ..config(&format!("http://{api}"))
    };
    let bench = Bench::with(short(), countersign_hostile::PROBE_OTP, vec![config]).await;
    let step = format!("oauth http://{tokens}/token http://{api}/");
    let text = format!("{step}\n{step}");
    let sent = bench.runtime.send("probe", &message(&text)).await;
    sent.unwrap().ids
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_put_in_by_the_host() {
    let (tokens, mut asked) = server(LENT).await;
    let (api, mut requests) = server(OK).await;
    assert_eq!(lent(tokens, api).await, ["201", "201"]);
    let request = asked.recv().await.unwrap();
    let basic = STANDARD.encode(format!("client:{TOKEN}"));
    assert!(
        request.contains(&format!("authorization: Basic {basic}")),
        "{request}"
    );
    assert!(request.contains("&audience=sms"), "{request}");
    assert!(asked.try_recv().is_err(), "the token is kept");
    for _ in 0..2 {
        let request = requests.recv().await.unwrap();
        assert!(
            request.contains("authorization: Bearer lent-for-an-hour"),
            "{request}"
        );
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_asked_for_anew_and_a_refused_client_sends_nothing() {
    let (tokens, mut asked) = server(LENT).await;
    let (api, _requests) = server(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(lent(tokens, api).await, ["401", "401"]);
    assert!(asked.try_recv().is_ok() && asked.try_recv().is_ok());
    let (tokens, _asked) = server(b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n").await;
    let (api, mut requests) = server(OK).await;
    assert_eq!(lent(tokens, api).await, ["401", "401"]);
    assert!(requests.try_recv().is_err());
    let (tokens, _asked) = server(OK).await;
    let failed = lent(tokens, api).await;
    assert!(failed[0].contains("no token was given out"), "{failed:?}");
    assert!(requests.try_recv().is_err());
}

/// A refusal is known when it comes, whatever somebody else is waiting for meanwhile.
#[tokio::test]
async fn a_refused_token_waits_for_nobody_who_asks_for_one() {
    let (tokens, _asked) = server(LENT).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    let api = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api_at = api.local_addr().unwrap();
    let config = ProviderConfig {
        allow_hosts: Some(vec![tokens.to_string(), silent_at.to_string()]),
        ..config(&format!("http://{api_at}"))
    };
    let bench = Bench::with(short_wall(), countersign_hostile::PROBE_OTP, vec![config]).await;
    let send = async |tokens: SocketAddr| {
        let text = format!("oauth http://{tokens}/token http://{api_at}/");
        bench.runtime.send("probe", &message(&text)).await
    };
    let (came, comes) = tokio::sync::oneshot::channel();
    let refused = async {
        let (mut connection, _) = api.accept().await.unwrap();
        came.send(()).unwrap();
        // Only when the other one is asking, and gets no answer.
        let _asking = silent.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = connection.read(&mut request).await;
        let answer = b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n";
        let _ = connection.write_all(answer).await;
        std::future::pending::<()>().await;
    };
    let first = send(tokens);
    let second = async {
        // The first one has its token.
        comes.await.unwrap();
        let _ = send(silent_at).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        sent = first => assert_eq!(sent.unwrap().ids, ["401"]),
        () = second => {}
        () = refused => {}
    }
}

/// Who could read a signature could show it as the company's own.
#[tokio::test]
async fn no_answer_shows_a_signature_to_the_component() {
    let address = mirror().await;
    let sent = send(address, &format!("signed http://{address}/")).await;
    assert_eq!(sent.unwrap().ids, ["***"]);
}

#[tokio::test]
async fn a_providers_log_is_bounded_and_cleaned() {
    let log = Log::default();
    let kept = log.keep();
    let said = format!("log number +12025550123, code 123456, token {TOKEN}\n");
    let long = "x".repeat(2_000);
    let sent = send(NOWHERE, &format!("{}log {long}\nsends", said.repeat(20))).await;
    let more = send(NOWHERE, &format!("{}sends", "log again\n".repeat(40))).await;
    drop(kept);
    assert!(sent.is_ok() && more.is_ok(), "{sent:?} {more:?}");
    let text = log.text();
    for secret in ["2025550123", "code 123456", TOKEN] {
        assert!(!text.contains(secret), "{text}");
    }
    assert!(text.contains(&"x".repeat(1_024)) && !text.contains(&"x".repeat(1_025)));
    assert_eq!(text.matches("again").count(), 32);
}

#[tokio::test]
async fn what_a_provider_says_is_freed_of_numbers_and_codes() {
    let (address, _requests) = server(OK).await;
    let error = send(address, "fail no such number +12025550123, code 123456")
        .await
        .unwrap_err();
    assert!(
        !error.text.contains("2025550123") && !error.text.contains("123456"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_missing_credential_is_named_at_start() {
    let mut config = config("http://127.0.0.1:9");
    config.credentials.clear();
    let error = start(config).await;
    assert!(error.to_string().contains("credential `token`"), "{error}");
}

#[tokio::test]
async fn a_credential_too_short_to_be_kept_out_of_logs_is_named_at_start() {
    let mut config = config("http://127.0.0.1:9");
    config.credentials[0].1 = Secret::new("t0k".into());
    let error = start(config).await.to_string();
    assert!(error.contains("credential `token`"), "{error}");
    assert!(!error.contains("t0k"), "{error}");
}

#[tokio::test]
async fn a_setting_that_the_component_does_not_know_is_named_at_start() {
    let mut config = config("http://127.0.0.1:9");
    config.settings.push(("color".into(), "red".into()));
    let error = start(config).await;
    assert!(
        error.to_string().contains("`color`") && error.to_string().contains("`colour`"),
        "{error}"
    );
}

#[tokio::test]
async fn what_a_provider_echoes_of_its_credential_is_removed() {
    let (address, _requests) = server(OK).await;
    let error = send(address, &format!("fail your token {TOKEN} is wrong"))
        .await
        .unwrap_err();
    assert!(!error.text.contains(TOKEN), "{error:?}");
}

#[tokio::test]
async fn the_terminal_is_for_the_console_provider_alone() {
    let mut config = config("http://127.0.0.1:9");
    config.component = countersign_embedded::PROVIDER_CONSOLE.to_vec();
    config.settings.clear();
    let error = start(config).await;
    assert!(error.to_string().contains("terminal"), "{error}");
}

async fn start(config: ProviderConfig) -> StartError {
    start_at(None, config).await.1.err().unwrap()
}

/// A runtime with one provider, which is told to call `public_url`; and its folder.
pub(crate) async fn start_at(
    public_url: Option<&str>,
    config: ProviderConfig,
) -> (tempfile::TempDir, Result<Runtime, StartError>) {
    let folder = tempfile::tempdir().unwrap();
    let store = countersign_store::SledStore::open(&folder.path().join("store")).unwrap();
    let keys = folder.path().join("keys");
    let keyring = countersign_store::Keyring::load_or_create(&keys, true, &SystemEntropy).unwrap();
    let keyring = Arc::new(keyring);
    let queue = Queue::open(
        store.clone(),
        keyring.clone(),
        Arc::new(SystemClock),
        QueueConfig::default(),
    );
    let runtime = Runtime::start(RuntimeConfig {
        store,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        keyring,
        queue: queue.await.unwrap(),
        limits: patient(),
        default_region: None,
        cache: None,
        otp: countersign_embedded::OTP.to_vec(),
        two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
        analytics: countersign_embedded::ANALYTICS.to_vec(),
        settings: Vec::new(),
        texts: Arc::default(),
        analytics_settings: Vec::new(),
        audit_kept: Duration::from_secs(3_600),
        providers: vec![config],
        public_url: public_url.map(str::to_owned),
    });
    (folder, runtime.await)
}
