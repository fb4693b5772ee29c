//! What providers tell: status callbacks, and answers to being asked.

use aws_lc_rs::hmac;
use countersign_delivery::StatusSource;
use countersign_runtime::{CallbackError, CallbackRequest, ProviderConfig, Runtime};
use countersign_types::{ErrorClass, News, Price, Reply, Secret, Status, StatusUpdate, Wish};

use crate::bench::{Log, PUBLIC_URL};
use crate::providers::{TOKEN, config, server, start_at};

const FORM: &str = "application/x-www-form-urlencoded";
const SM: &str = "SM0123456789abcdef0123456789abcdef";
const V1: &str = "8hhowiu0yw2QF8tfZqRYfJGK9AU=";

/// The parameters that Twilio posts for a message that was delivered.
const P: [(&str, &str); 8] = [
    ("AccountSid", "AC0123456789abcdef0123456789abcdef"),
    ("ApiVersion", "2010-04-01"),
    ("From", "+15005550006"),
    ("MessageSid", SM),
    ("MessageStatus", "delivered"),
    ("SmsSid", SM),
    ("SmsStatus", "delivered"),
    ("To", "+4915123456789"),
];

fn twilio(base: &str) -> ProviderConfig {
    ProviderConfig {
        component_name: "provider-twilio".into(),
        name: "twilio-main".into(),
        component: countersign_embedded::PROVIDER_TWILIO.to_vec(),
        settings: vec![
            (
                "account-sid".into(),
                "AC0123456789abcdef0123456789abcdef".into(),
            ),
            ("from".into(), "+15005550006".into()),
            ("base-url".into(), base.into()),
        ],
        credentials: vec![(
            "auth-token".into(),
            Secret::new("countersign-test-token".into()),
        )],
        allow_hosts: None,
        terminal: false,
        unsigned: false,
        own: true,
    }
}

fn posted(path: &str, pairs: &[(&str, &str)], signature: &str) -> CallbackRequest {
    let mut body = url::form_urlencoded::Serializer::new(String::new());
    let body = body.extend_pairs(pairs).finish();
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (path, None),
    };
    CallbackRequest {
        method: "POST".into(),
        path: path.into(),
        query,
        headers: vec![
            // What a proxy or an attacker says of the host does not matter.
            ("host".into(), "elsewhere.example".into()),
            ("content-type".into(), FORM.into()),
            ("x-twilio-signature".into(), signature.into()),
        ],
        body: body.into(),
    }
}

async fn start(public_url: &str, config: ProviderConfig) -> (tempfile::TempDir, Runtime) {
    let (folder, runtime) = start_at(Some(public_url), config).await;
    (folder, runtime.unwrap())
}

const TWILIO: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn every_signature_of_twilios_own_validators_holds_through_the_component() {
    let path = "/webhooks/twilio-main";
    let short = [("MessageSid", "SM1"), ("MessageStatus", "sent")];
    let query = "/webhooks/twilio-main?tenant=a%20b&x=1";
    let mut undelivered = P.to_vec();
    for (name, value) in &mut undelivered {
        if name.ends_with("Status") {
            *value = "undelivered";
        }
    }
    undelivered.extend([("ErrorCode", "30003"), ("Empty", "")]);
    let get = CallbackRequest {
        method: "GET".into(),
        body: Vec::new(),
        ..posted(
            "/webhooks/twilio-main?MessageSid=SM1&MessageStatus=sent",
            &[],
            "08QYgEAlrhhVBSve7LlFDASybds=",
        )
    };
    let json = CallbackRequest {
        headers: vec![
            ("content-type".into(), "application/json".into()),
            (
                "x-twilio-signature".into(),
                "VX0EnytDGznwCg7Z8r2V63fApS0=".into(),
            ),
        ],
        body: br#"{"status":"delivered","id":"SM1"}"#.to_vec(),
        ..posted(
            "/json?a=1&bodySHA256=54479b297b2f32d9740c86b9a251b753ae26f35cd719e5969da8c7779f2f46ba",
            &[],
            "",
        )
    };
    let (_folder, runtime) = start(PUBLIC_URL, twilio(TWILIO)).await;
    for (request, id, status) in [
        (posted(path, &P, V1), SM, Status::Delivered),
        (
            posted(path, &P, "96HWFQQ3P9EUqibS2cTwwoqRNOY="),
            SM,
            Status::Delivered,
        ),
        (
            posted(query, &short, "OR9rdqItRVkJHeFZqBmaHV+IWYo="),
            "SM1",
            Status::Sent,
        ),
        (
            posted(path, &undelivered, "H+GjTaenXpVyez4cVbs2fCsiGqk="),
            SM,
            Status::Undelivered,
        ),
        (get, "SM1", Status::Sent),
        (json, "SM1", Status::Delivered),
    ] {
        let updates = runtime.parse_callback("twilio-main", request.clone()).await;
        let news = updates.unwrap_or_else(|error| panic!("{error}: {request:?}"));
        let updates = news.updates;
        assert_eq!((updates[0].id.as_str(), updates[0].status), (id, status));
    }
    // Signed, but no receipts.
    let more = [("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")];
    let more = [&more[..], &[("Sid", "CA1"), ("SidAccount", "AC1")]].concat();
    for request in [
        posted(
            "/in",
            &[("Body", "Grüße 👋"), ("From", "+15005550006")],
            "/H69LgWYLHGR8WZeQ1UBeZJY89Q=",
        ),
        posted(
            "/in",
            &[("b", "2"), ("B", "1"), ("a", "3")],
            "3K4iT/LDVvpHYHki4vyTVFD7uhE=",
        ),
        posted("/in", &more, "yrXXT/UvaDLtT+r2q+59IFLq0lw="),
    ] {
        let answer = runtime.parse_callback("twilio-main", request.clone()).await;
        assert!(
            matches!(answer, Err(CallbackError::Malformed)),
            "{answer:?}: {request:?}"
        );
    }

    let (_folder, runtime) = start("http://127.0.0.1:8080", twilio(TWILIO)).await;
    let request = posted(path, &short, "R8TT2wm6eX2Pxgc829o0aoDXlZA=");
    assert!(runtime.parse_callback("twilio-main", request).await.is_ok());
}

#[tokio::test]
async fn a_forged_callback_tells_nothing() {
    let (_folder, runtime) = start(PUBLIC_URL, twilio(TWILIO)).await;
    let path = "/webhooks/twilio-main";
    let mut changed = P;
    changed[7].1 = "+4915123456780";
    let added = [&P[..], &[("More", "1")]].concat();
    let right = posted(path, &P, V1);
    let mut missing = right.clone();
    missing
        .headers
        .retain(|(name, _)| name != "x-twilio-signature");
    let mut unreadable = right.clone();
    unreadable.body = b"no form at all".to_vec();
    for (why, request) in [
        ("a changed parameter", posted(path, &changed, V1)),
        ("one more", posted(path, &added, V1)),
        ("another path", posted("/webhooks/twilio-main/", &P, V1)),
        ("an empty signature", posted(path, &P, "")),
        ("no signature", missing),
        ("a body that is none", unreadable),
        ("a cut signature", posted(path, &P, &V1[..27])),
    ] {
        let answer = runtime.parse_callback("twilio-main", request).await;
        assert!(
            matches!(answer, Err(CallbackError::Unsigned)),
            "{why}: {answer:?}"
        );
    }
    assert!(runtime.parse_callback("twilio-main", right).await.is_ok());
}

/// A callback of the probe that does `step`, with the signature of `signed`.
fn probe(step: &str, signed: &[u8]) -> CallbackRequest {
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN.as_bytes());
    let tag = hmac::sign(&key, signed);
    CallbackRequest {
        method: "POST".into(),
        path: "/webhooks/probe".into(),
        query: Some("a=%20b".into()),
        headers: Vec::new(),
        body: [step.as_bytes(), b"\n", tag.as_ref()].concat(),
    }
}

async fn ask(
    unsigned: bool,
    step: &str,
    signed: &[u8],
) -> Result<Vec<StatusUpdate>, CallbackError> {
    let news = ask_all(unsigned, step, signed).await;
    news.map(|news| news.updates)
}

async fn ask_all(unsigned: bool, step: &str, signed: &[u8]) -> Result<News, CallbackError> {
    let config = ProviderConfig {
        unsigned,
        ..config(TWILIO)
    };
    let (_folder, runtime) = start(PUBLIC_URL, config).await;
    runtime.parse_callback("probe", probe(step, signed)).await
}

#[tokio::test]
async fn updates_count_only_when_a_signature_has_held_whatever_the_component_says() {
    for (step, signed) in [("check", b"y"), ("ignore", b"x"), ("malformed", b"y")] {
        let answer = ask(false, step, signed).await;
        assert!(
            matches!(answer, Err(CallbackError::Unsigned)),
            "{step}: {answer:?}"
        );
    }
    assert_eq!(ask(false, "check", b"x").await.unwrap()[0].id, "SM1");
    let answer = ask(false, "malformed", b"x").await;
    assert!(
        matches!(answer, Err(CallbackError::Malformed)),
        "{answer:?}"
    );
    // The operator has said so.
    assert_eq!(ask(true, "ignore", b"y").await.unwrap().len(), 1);
}

/// Whoever could forge a STOP could keep codes from anybody.
#[tokio::test]
async fn a_reply_counts_only_with_a_signature_whatever_the_operator_believes() {
    let stop = Reply {
        phone: "+12025550123".into(),
        wish: Wish::Stop,
        id: None,
        at: None,
    };
    let replies = async |unsigned, step, signed: &'static [u8]| {
        let news = ask_all(unsigned, step, signed).await;
        news.map(|news| news.replies)
    };
    for unsigned in [false, true] {
        let told = replies(unsigned, "reply", b"x").await.unwrap();
        assert_eq!(told, std::slice::from_ref(&stop));
    }
    for (step, signed) in [("reply", &b"y"[..]), ("ignore reply", &b"x"[..])] {
        assert!(replies(true, step, signed).await.unwrap().is_empty());
        let refused = replies(false, step, signed).await;
        assert!(
            matches!(refused, Err(CallbackError::Unsigned)),
            "{refused:?}"
        );
    }
}

/// What a component wants said to whoever calls is said where a signature has held, and is no page.
#[tokio::test]
async fn a_company_reads_the_answer_that_it_wants() {
    let told = ask_all(false, "challenge", b"x").await.unwrap();
    let answer = told.answer.expect("an answer");
    assert_eq!(
        (answer.media_type, answer.body.len()),
        ("text/plain", 4_096)
    );
    assert_eq!(ask_all(false, "check", b"x").await.unwrap().answer, None);
    for (step, signed) in [("challenge", &b"y"[..]), ("ignore challenge", b"x")] {
        let refused = ask_all(false, step, signed).await;
        assert!(
            matches!(refused, Err(CallbackError::Unsigned)),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_checked_now_is_asked_for_again() {
    let answer = ask(false, "ignore unavailable", b"y").await;
    assert!(
        matches!(answer, Err(CallbackError::Unavailable)),
        "{answer:?}"
    );
}

/// Else anybody could have this server call others.
#[tokio::test]
async fn a_callback_sends_no_request_before_a_signature_has_held() {
    let (address, mut requests) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let config = ProviderConfig {
        unsigned: true,
        ..config(&format!("http://{address}"))
    };
    let (_folder, runtime) = start(PUBLIC_URL, config).await;
    for (step, signed, want) in [
        ("ignore call", &b"x"[..], "refused"),
        ("call", b"y", "refused"),
        ("call", b"x", "called"),
    ] {
        let told = runtime.parse_callback("probe", probe(step, signed)).await;
        assert_eq!(told.unwrap().updates[0].id, want, "{step}");
        assert_eq!(requests.try_recv().is_ok(), want == "called", "{step}");
    }
}

#[tokio::test]
async fn a_signature_that_held_in_one_call_says_nothing_about_the_next() {
    let (_folder, runtime) = start(PUBLIC_URL, config(TWILIO)).await;
    runtime
        .parse_callback("probe", probe("check", b"x"))
        .await
        .unwrap();
    let next = runtime.parse_callback("probe", probe("ignore", b"x")).await;
    assert!(matches!(next, Err(CallbackError::Unsigned)), "{next:?}");
}

#[tokio::test]
async fn the_address_is_the_public_one_with_path_and_query_as_they_came() {
    let updates = ask(false, "url", b"x").await.unwrap();
    assert_eq!(
        updates[0].id,
        "https://sms.example.test/webhooks/probe?a=%20b"
    );
}

#[tokio::test]
async fn what_breaks_a_bound_of_the_interface_tells_nothing() {
    assert_eq!(ask(false, "most", b"x").await.unwrap().len(), 1_000);
    assert_eq!(ask(false, "replies", b"x").await.unwrap().len(), 0);
    assert_eq!(ask(false, "attributes", b"x").await.unwrap().len(), 1);
    let broken = [
        "many",
        "many attributes",
        "long attribute",
        "nameless attribute",
        "long challenge",
        "page",
        "long",
        "nameless",
        "trap",
        "many replies",
        "long reply",
    ];
    for step in broken {
        let answer = ask(false, step, b"x").await;
        assert!(
            matches!(answer, Err(CallbackError::Failed { .. })),
            "{step}: {answer:?}"
        );
    }
    let (_folder, runtime) = start(PUBLIC_URL, config(TWILIO)).await;
    let mut large = probe("check", b"x");
    large.body.resize(1024 * 1024 + 1, b'x');
    let answer = runtime.parse_callback("probe", large).await;
    assert!(
        matches!(answer, Err(CallbackError::Malformed)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn reading_a_callback_has_a_short_time_of_its_own() {
    let answer = ask(false, "spin", b"x").await;
    let Err(CallbackError::Failed { reason }) = answer else {
        panic!("{answer:?}");
    };
    // A send may take 2 s.
    assert!(reason.contains("ran longer than 50ms"), "{reason}");
}

#[tokio::test]
async fn what_a_component_says_of_a_strangers_callback_is_told_at_debug_alone() {
    let said = async |signed: &'static [u8]| {
        let log = Log::default();
        let guard = log.keep();
        let answer = ask(false, "talk", signed).await;
        drop(guard);
        let text = log.text();
        let lines = text.lines().filter(|line| line.contains("a stranger"));
        let debug = lines.clone().filter(|line| line.contains("DEBUG")).count();
        (answer.is_ok(), debug, lines.count())
    };
    assert_eq!(said(b"y").await, (false, 2, 2));
    assert_eq!(said(b"x").await, (true, 0, 2));
}

#[tokio::test]
async fn what_a_receipt_says_is_freed_of_credentials_and_numbers() {
    let updates = ask(false, "chat", b"x").await.unwrap();
    let error = updates[0].error.as_ref().unwrap();
    assert_eq!(error.class, ErrorClass::Permanent);
    assert!(
        !error.text.contains(TOKEN) && !error.text.contains("2025550123"),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_no_price_is_left_out() {
    let updates = ask(false, "prices", b"x").await.unwrap();
    let amounts: Vec<_> = updates.iter().map(|update| &update.price).collect();
    let right = Price {
        amount: "0.01".into(),
        currency: "USD".into(),
    };
    assert_eq!(amounts, [&Some(right), &None, &None]);
}

#[tokio::test]
async fn nobody_is_asked_who_is_not_configured_and_nothing_is_checked_without_an_address() {
    let (_folder, runtime) = start(PUBLIC_URL, config(TWILIO)).await;
    let answer = runtime.parse_callback("other", probe("check", b"x")).await;
    assert!(
        matches!(answer, Err(CallbackError::NoProvider(_))),
        "{answer:?}"
    );
    let (_folder, runtime) = start_at(None, config(TWILIO)).await;
    let answer = runtime
        .unwrap()
        .parse_callback("probe", probe("check", b"x"))
        .await;
    assert!(
        matches!(answer, Err(CallbackError::NoPublicUrl)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_late_price_is_asked_for_and_is_positive() {
    let body = format!(
        r#"{{"sid":"{SM}","status":"delivered","price":"-0.00790","price_unit":"USD","num_segments":"2"}}"#
    );
    let length = body.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
    let (address, mut requests) = server(answer.leak().as_bytes()).await;
    let (_folder, runtime) = start(PUBLIC_URL, twilio(&format!("http://{address}"))).await;
    assert!(runtime.tells_status("twilio-main") && !runtime.tells_status("other"));
    let updates = runtime
        .fetch_status("twilio-main", &[SM.to_owned()])
        .await
        .unwrap();
    let [update] = &updates[..] else {
        panic!("one update: {updates:?}");
    };
    assert_eq!(
        (update.status, update.segments),
        (Status::Delivered, Some(2))
    );
    let price = update.price.as_ref().unwrap();
    assert_eq!(
        (price.amount.as_str(), price.currency.as_str()),
        ("0.00790", "USD")
    );
    let request = requests.recv().await.unwrap();
    let account = "/2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef";
    assert!(
        request.starts_with(&format!("GET {account}/Messages/{SM}.json ")),
        "{request}"
    );
    assert!(
        request.to_lowercase().contains("authorization: basic "),
        "{request}"
    );
}

#[tokio::test]
async fn a_provider_that_refuses_to_tell_is_an_error_with_its_class() {
    let answer = b"HTTP/1.1 429 No\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let (address, _requests) = server(answer).await;
    let (_folder, runtime) = start(PUBLIC_URL, twilio(&format!("http://{address}"))).await;
    let error = runtime
        .fetch_status("twilio-main", &[SM.to_owned()])
        .await
        .unwrap_err();
    assert_eq!(
        (error.class, error.retry_after_ms),
        (ErrorClass::Throttled, Some(7_000))
    );
}

/// They are answered as any other, so the log alone can say it.
#[tokio::test]
async fn receipts_that_find_no_room_are_told_of_once_and_without_their_ids() {
    let log = Log::default();
    let _kept = log.keep();
    let (_folder, runtime) = start(PUBLIC_URL, config(TWILIO)).await;
    let now = runtime.now();
    let receive = async |numbers: std::ops::Range<usize>| {
        let updates: Vec<_> = numbers
            .map(|number| unknown(&format!("of-others-{number}")))
            .collect();
        let received = runtime.queue().receive("probe", &updates, now).await;
        received.unwrap()
    };
    for thousand in 0..10 {
        let received = receive(thousand * 1_000..(thousand + 1) * 1_000).await;
        assert_eq!((received.early, received.dropped), (1_000, 0));
    }
    assert!(!log.text().contains("receipts were dropped"));
    for _ in 0..2 {
        let received = receive(10_000..10_003).await;
        assert_eq!((received.early, received.dropped), (0, 3));
    }
    let lines = log.text();
    let mut told = lines
        .lines()
        .filter(|line| line.contains("receipts were dropped"));
    let line = told.next().unwrap();
    assert!(
        line.contains("WARN") && line.contains("provider=\"probe\" dropped=3"),
        "{line}"
    );
    assert_eq!(told.next(), None);
    assert!(!lines.contains("of-others"));
}

/// What is told of a message that nobody here has sent.
fn unknown(id: &str) -> StatusUpdate {
    StatusUpdate {
        id: id.to_owned(),
        status: Status::Delivered,
        error: None,
        at: None,
        price: None,
        segments: None,
    }
}
