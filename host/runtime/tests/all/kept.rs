//! What somebody has built for a frozen interface goes on working: `tests/kept/README.md`.

/// `countersign:provider@0.1.0`.
mod v0_1 {
    use std::net::SocketAddr;
    use std::time::Duration;

    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use aws_lc_rs::{digest, hmac};
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use countersign_delivery::{Sender as _, StatusSource as _};
    use countersign_runtime::{CallbackError, CallbackRequest, ProviderConfig, Runtime};
    use countersign_types::{
        Accepted, ErrorClass, Message, Price, Reply, Secret, SendError, Status, StatusUpdate,
        UnixMillis, Wish,
    };
    use data_encoding::HEXLOWER;

    use crate::bench::{Log, PUBLIC_URL};
    use crate::providers::{message, server, start_at};

    const KEPT: &[u8] = include_bytes!("../../../../tests/kept/provider-0.1.wasm");
    const API_KEY: &str = "an-api-key-that-nobody-sees";
    /// In hexadecimal and in Base64.
    const SIGNING_KEY: &str = "0123456789abcdef0123456789abcdef";

    fn ed25519() -> Ed25519KeyPair {
        let seed: [u8; 32] = std::array::from_fn(|n| u8::try_from(n).unwrap());
        Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
    }

    /// The kept provider with its company at `base`, and another that gives out tokens there.
    async fn start(base: SocketAddr, authorization: &str) -> (tempfile::TempDir, Runtime) {
        let public = BASE64_STANDARD.encode(ed25519().public_key());
        let settings = [
            ("base-url", format!("http://{base}")),
            ("authorization", authorization.to_owned()),
        ];
        let credentials = [
            ("api-key", API_KEY),
            ("signing-key", SIGNING_KEY),
            ("public-key", &public),
        ];
        let config = ProviderConfig {
            component_name: "kept".into(),
            name: "kept".into(),
            component: KEPT.to_vec(),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value))
                .to_vec(),
            credentials: credentials
                .map(|(name, secret)| (name.to_owned(), Secret::new(secret.to_owned())))
                .to_vec(),
            allow_hosts: None,
            terminal: false,
            unsigned: false,
            own: false,
        };
        let (folder, runtime) = start_at(Some(PUBLIC_URL), config).await;
        (folder, runtime.unwrap())
    }

    fn code() -> Message {
        Message {
            code: Some(Secret::new("123456".into())),
            variables: vec![("name".into(), "Ada".into())],
            locale: Some("de".into()),
            status_callback: Some(format!("{PUBLIC_URL}/webhooks/kept")),
            validity: Duration::from_secs(600),
            ..message("Your code: 123456")
        }
    }

    /// What becomes of a message that its company answers so, and what the company was asked.
    async fn send(
        authorization: &str,
        answer: &'static [u8],
    ) -> (Result<Accepted, SendError>, Vec<String>) {
        let (address, mut requests) = server(answer).await;
        let (_folder, runtime) = start(address, authorization).await;
        let sent = runtime.send("kept", &code()).await;
        let mut asked = Vec::new();
        while let Ok(request) = requests.try_recv() {
            asked.push(request);
        }
        (sent, asked)
    }

    const TAKEN: &[u8] =
        b"HTTP/1.1 201 Created\r\ncontent-length: 20\r\n\r\n2 0.0079-USD\nK-1\nK-2";

    #[tokio::test]
    async fn it_hands_a_message_over_with_all_that_there_is_to_say_of_it() {
        let (sent, asked) = send("none", TAKEN).await;
        let sent = sent.unwrap();
        assert_eq!(sent.ids, ["K-1", "K-2"]);
        assert_eq!(sent.segments, Some(2));
        let price = Price::new("0.0079".into(), "USD".into());
        assert_eq!(sent.price, price);
        let [request] = &asked[..] else {
            panic!("{asked:?}");
        };
        for told in [
            "POST /send HTTP/1.1\r\n",
            "accept: text/plain\r\n",
            "id=01010101010101010101010101010101&channel=sms&to=%2B12025550123&country=US",
            "&text=Your+code%3A+123456&template=verification&code=123456&locale=de",
            "&purpose=verification&sender=&validity=600000&callback=https%3A%2F%2F",
            "&name=Ada",
        ] {
            assert!(request.contains(told), "{told} in {request}");
        }
    }

    #[tokio::test]
    async fn its_requests_are_authorized_in_every_way() {
        let basic = BASE64_STANDARD.encode(format!("user:{API_KEY}"));
        for (way, want) in [
            ("basic", format!("authorization: Basic {basic}\r\n")),
            ("bearer", format!("authorization: Bearer {API_KEY}\r\n")),
            ("header", format!("x-api-key: App {API_KEY}\r\n")),
            ("sigv4", "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/".into()),
            ("fields", format!("&api_key={API_KEY}")),
        ] {
            let (sent, asked) = send(way, TAKEN).await;
            assert!(sent.is_ok(), "{way}: {sent:?}");
            assert!(asked[0].contains(&want), "{way}: {asked:?}");
        }
        for (way, key, with_body) in [
            (
                "signed",
                HEXLOWER.decode(SIGNING_KEY.as_bytes()).unwrap(),
                true,
            ),
            (
                "signed-before",
                BASE64_STANDARD.decode(SIGNING_KEY).unwrap(),
                false,
            ),
            ("signed-text", SIGNING_KEY.as_bytes().to_vec(), true),
        ] {
            let (sent, asked) = send(way, TAKEN).await;
            assert!(sent.is_ok(), "{way}: {sent:?}");
            let (_, body) = asked[0].split_once("\r\n\r\n").unwrap();
            let signed = format!("before.{}", if with_body { body } else { "" });
            let key = hmac::Key::new(hmac::HMAC_SHA512, &key);
            let mac = hmac::sign(&key, signed.as_bytes());
            let mac = match way {
                "signed" => HEXLOWER.encode(mac.as_ref()),
                _ => BASE64_STANDARD.encode(mac),
            };
            let want = format!("x-signature: v1={mac}\r\n");
            assert!(asked[0].contains(&want), "{way}: {asked:?}");
        }
        let lent = b"HTTP/1.1 200 OK\r\ncontent-length: 28\r\n\r\n{\"access_token\":\"lent-once\"}";
        let (_, asked) = send("client-credentials", lent).await;
        assert!(
            asked[0].starts_with("POST /token HTTP/1.1\r\n"),
            "{asked:?}"
        );
        assert!(
            asked[0].ends_with("grant_type=client_credentials&scope=sms&audience=example"),
            "{asked:?}"
        );
        assert!(
            asked[1].contains("authorization: Bearer lent-once\r\n"),
            "{asked:?}"
        );
    }

    #[tokio::test]
    async fn a_refusal_has_its_class_and_all_that_was_said_with_it() {
        let check = async |answer, class, failover| {
            let error = send("none", answer).await.0.unwrap_err();
            assert_eq!(
                (error.class, error.failover),
                (class, failover),
                "{error:?}"
            );
            error
        };
        let slow = b"HTTP/1.1 429 No\r\nretry-after: 7000\r\ncontent-length: 4\r\n\r\nslow";
        let error = check(slow, ErrorClass::Throttled, false).await;
        assert_eq!(error.retry_after_ms, Some(7_000));
        assert_eq!(error.provider_code.as_deref(), Some("429"));
        assert_eq!(error.text, "slow");
        let blocked = b"HTTP/1.1 403 No\r\nx-elsewhere: 1\r\ncontent-length: 0\r\n\r\n";
        check(blocked, ErrorClass::Blocked, true).await;
        for (answer, class) in [
            (
                &b"HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n"[..],
                ErrorClass::Permanent,
            ),
            (
                b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n",
                ErrorClass::Auth,
            ),
            (
                b"HTTP/1.1 302 No\r\ncontent-length: 0\r\n\r\n",
                ErrorClass::Retryable,
            ),
            (
                b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n",
                ErrorClass::UnknownOutcome,
            ),
            // No answer at all, after the first byte.
            (b"", ErrorClass::UnknownOutcome),
        ] {
            check(answer, class, false).await;
        }
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let (_folder, runtime) = start(nobody, "none").await;
        let error = runtime.send("kept", &code()).await.unwrap_err();
        assert_eq!(error.class, ErrorClass::Retryable);
    }

    #[tokio::test]
    async fn it_writes_to_the_log_at_every_level() {
        // Whether a line is wanted is remembered for the process when it comes for the first time, maybe from
        // a test beside this one that wants none, and is asked again when somebody begins to listen.
        let before = Log::default();
        let before_guard = before.keep();
        let _ = send("none", TAKEN).await;
        let log = Log::default();
        let guard = log.keep();
        let _ = send("none", TAKEN).await;
        drop(guard);
        drop(before_guard);
        for (level, word) in [
            ("ERROR", "error"),
            ("WARN", "warn"),
            ("INFO", "info"),
            ("DEBUG", "debug"),
        ] {
            let line = format!("kept {word}");
            let text = log.text();
            let line = text.lines().find(|found| found.contains(&line));
            assert!(line.is_some_and(|line| line.contains(level)), "{text}");
        }
    }

    /// A callback with `body`, signed in the way `kind`.
    fn signed(kind: &str, method: &str, body: &str) -> CallbackRequest {
        let data = format!("{PUBLIC_URL}/webhooks/kept?a=%20b\n{body}");
        let hmac = |algorithm| {
            let key = hmac::Key::new(algorithm, API_KEY.as_bytes());
            hmac::sign(&key, data.as_bytes()).as_ref().to_vec()
        };
        let given = match kind {
            "sha1" => hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            "sha256" => hmac(hmac::HMAC_SHA256),
            "sha384" => hmac(hmac::HMAC_SHA384),
            "sha512" => hmac(hmac::HMAC_SHA512),
            "digest" => digest::digest(&digest::SHA256, format!("{data}{API_KEY}").as_bytes())
                .as_ref()
                .to_vec(),
            "secret" => API_KEY.as_bytes().to_vec(),
            "ed25519" => ed25519().sign(data.as_bytes()).as_ref().to_vec(),
            _ => vec![0; 16],
        };
        CallbackRequest {
            method: method.into(),
            path: "/webhooks/kept".into(),
            query: Some("a=%20b".into()),
            headers: vec![(
                "x-signed".into(),
                format!("{kind} {}", HEXLOWER.encode(&given)),
            )],
            body: body.into(),
        }
    }

    const RECEIPT: &str = "update K-1 delivered 1767323045000 0.0079-USD 2";

    #[tokio::test]
    async fn a_receipt_counts_by_each_kind_of_signature_and_a_forged_one_does_not() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let (_folder, runtime) = start(nobody, "none").await;
        let want = StatusUpdate {
            id: "K-1".into(),
            status: Status::Delivered,
            error: None,
            at: Some(UnixMillis(1_767_323_045_000)),
            price: Price::new("0.0079".into(), "USD".into()),
            segments: Some(2),
        };
        for kind in [
            "sha1", "sha256", "sha384", "sha512", "digest", "secret", "ed25519",
        ] {
            let request = signed(kind, "POST", RECEIPT);
            let told = runtime.parse_callback("kept", request.clone()).await;
            let told = told.unwrap_or_else(|error| panic!("{kind}: {error}"));
            assert_eq!(told.updates, std::slice::from_ref(&want), "{kind}");
            assert_eq!(told.answer, None);
            if kind == "secret" {
                // It covers nothing.
                continue;
            }
            let forged = CallbackRequest {
                body: RECEIPT.replace("K-1", "K-2").into(),
                ..request
            };
            let told = runtime.parse_callback("kept", forged).await;
            assert!(
                matches!(told, Err(CallbackError::Unsigned)),
                "{kind}: {told:?}"
            );
        }
        let md5 = signed("md5", "POST", RECEIPT);
        let told = runtime.parse_callback("kept", md5).await;
        assert!(matches!(told, Err(CallbackError::Unsigned)), "{told:?}");
    }

    #[tokio::test]
    async fn statuses_replies_answers_and_refusals_arrive() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let (_folder, runtime) = start(nobody, "none").await;
        let tell = async |body: &str| {
            let request = signed("sha256", "POST", body);
            runtime.parse_callback("kept", request).await
        };
        for (word, status) in [
            ("queued", Status::Queued),
            ("sent", Status::Sent),
            ("undelivered", Status::Undelivered),
            ("failed", Status::Failed),
            ("read", Status::Read),
            ("unknown", Status::Unknown),
        ] {
            let told = tell(&format!("update K-1 {word} - - - E7")).await.unwrap();
            assert_eq!(told.updates[0].status, status);
            let error = told.updates[0].error.as_ref().unwrap();
            assert_eq!((error.class, &*error.text), (ErrorClass::Permanent, "E7"));
        }
        let body = "reply I-1 1767323045000 +12025550123 Example - Stop\n\
                    reply I-2 - +12025550123 Example start what else\n\
                    reply I-3 - +12025550123 Example - hello\n\
                    answer a challenge";
        let told = tell(body).await.unwrap();
        let reply = |id: &str, at, wish| Reply {
            phone: "+12025550123".into(),
            wish,
            id: Some(id.into()),
            at,
        };
        let want = [
            reply("I-1", Some(UnixMillis(1_767_323_045_000)), Wish::Stop),
            reply("I-2", None, Wish::Start),
        ];
        assert_eq!(told.replies, want);
        let answer = told.answer.unwrap();
        assert_eq!(
            (answer.media_type, &*answer.body),
            ("text/plain", &b"a challenge"[..])
        );
        let told = tell("what").await;
        assert!(matches!(told, Err(CallbackError::Malformed)), "{told:?}");
    }

    #[test]
    fn it_is_the_one_that_was_built_when_the_interface_was_frozen() {
        let found = HEXLOWER.encode(digest::digest(&digest::SHA256, KEPT).as_ref());
        assert_eq!(
            found, "c4dc9f5682d0fca798cadcccdd82e841e8bf894c8f834a26b73968b5ecec1be6",
            "a binary that is kept is not built again"
        );
    }

    #[tokio::test]
    async fn a_subscription_is_confirmed_by_a_request_of_its_own() {
        let (address, mut requests) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        let (_folder, runtime) = start(address, "none").await;
        let get = || signed("sha256", "GET", "");
        assert!(runtime.parse_callback("kept", get()).await.is_ok());
        let asked = requests.try_recv().unwrap();
        assert!(asked.starts_with("PUT /confirm HTTP/1.1\r\n"), "{asked}");
        let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
        let (_folder, runtime) = start(nobody, "none").await;
        let told = runtime.parse_callback("kept", get()).await;
        assert!(matches!(told, Err(CallbackError::Unavailable)), "{told:?}");
    }

    #[tokio::test]
    async fn it_is_asked_what_became_of_messages() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 48\r\n\r\n\
            K-1 delivered - 0.0079-USD 2\nK-2 unknown - - - E";
        let (address, mut requests) = server(answer).await;
        let (_folder, runtime) = start(address, "bearer").await;
        let ids = ["K-1".to_owned(), "K-2".to_owned()];
        let told = runtime.fetch_status("kept", &ids).await.unwrap();
        let told: Vec<_> = told.iter().map(|one| (&*one.id, one.status)).collect();
        assert_eq!(told, [("K-1", Status::Delivered), ("K-2", Status::Unknown)]);
        let asked = requests.try_recv().unwrap();
        assert!(
            asked.starts_with("GET /status?ids=K-1,K-2 HTTP/1.1\r\n"),
            "{asked}"
        );
    }
}
