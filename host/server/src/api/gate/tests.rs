//! Who gets through, and who does not.

use super::*;
use crate::testing::{store, users};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use countersign_types::{ManualClock, SystemEntropy};

const OPEN: Mode = Mode::Open {
    loopback_only: true,
};

#[track_caller]
fn check(key: bool, insists: bool, listen: &str, console_only: bool, want: Result<Mode, NeedsKey>) {
    let situation = Situation {
        key,
        insists,
        listen: listen.parse().expect("an address"),
        console_only,
    };
    assert_eq!(Mode::decide(situation), want, "{situation:?}");
}

#[test]
fn without_a_key_only_loopback_with_the_console_alone_is_open() {
    for listen in [
        "127.0.0.1:8080",
        "127.3.2.1:1",
        "[::1]:8080",
        "[::ffff:127.0.0.1]:1",
    ] {
        check(false, false, listen, true, Ok(OPEN));
        check(false, false, listen, false, Err(NeedsKey::Provider));
    }
    for listen in [
        "0.0.0.0:8080",
        "[::]:8080",
        "192.168.1.5:80",
        "[2001:db8::1]:80",
    ] {
        check(false, false, listen, true, Err(NeedsKey::Address));
        check(false, false, listen, false, Err(NeedsKey::Address));
    }
}

#[test]
fn a_key_allows_every_address_and_provider_and_ends_open_mode_even_for_who_insists() {
    for insists in [false, true] {
        for listen in ["127.0.0.1:8080", "0.0.0.0:8080"] {
            check(true, insists, listen, true, Ok(Mode::Keyed));
            check(true, insists, listen, false, Ok(Mode::Keyed));
        }
    }
}

#[test]
fn who_insists_is_open_anywhere() {
    let open = Mode::Open {
        loopback_only: false,
    };
    check(false, true, "0.0.0.0:8080", false, Ok(open));
}

#[test]
fn a_host_is_loopback_by_address_or_by_the_one_name() {
    for host in [
        "127.0.0.1",
        "127.0.0.1:80",
        "localhost:8080",
        "LOCALHOST",
        "[::1]:1",
        "[::1]",
    ] {
        check_host(host, true);
    }
    for host in [
        "example.com",
        "localhost.example.com",
        "127.0.0.1.example.com",
        "192.168.0.1",
        "0.0.0.0",
        "",
        "user@127.0.0.1@evil",
    ] {
        check_host(host, false);
    }
    assert!(!names_loopback(&Uri::from_static("/"), &HeaderMap::new()));
    let absolute = Uri::from_static("http://example.com/");
    assert!(!names_loopback(&absolute, &headers(HOST, "localhost")));
}

#[track_caller]
fn check_host(host: &str, want: bool) {
    let headers = headers(HOST, host);
    assert_eq!(
        names_loopback(&Uri::from_static("/"), &headers),
        want,
        "{host}"
    );
}

fn headers(name: axum::http::HeaderName, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_str(value).expect("a value"));
    headers
}

const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

fn gate(
    folder: &tempfile::TempDir,
    store: &Arc<dyn Store>,
    mode: Mode,
    api_key: Option<&Secret<String>>,
    admin_token: Option<&Secret<String>>,
) -> Gate {
    let clock = Arc::new(ManualClock::new(NOW));
    let users = users(folder.path());
    let store = store.clone();
    Gate::new(store, clock, users, mode, api_key, admin_token, None)
}

async fn ask(gate: &Gate, authorization: Option<&str>) -> Result<Caller, Kind> {
    match ask_for(gate, "/api/otp/send", authorization).await? {
        Asker::Application(caller) => Ok(caller),
        Asker::User(token) => panic!("{token:?}"),
    }
}

async fn ask_for(
    gate: &Gate,
    path: &'static str,
    authorization: Option<&str>,
) -> Result<Asker, Kind> {
    let mut headers = headers(HOST, "127.0.0.1:8080");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(value) = authorization {
        headers.insert(
            AUTHORIZATION,
            HeaderValue::from_str(value).expect("a value"),
        );
    }
    let uri = Uri::from_static(path);
    gate.asker(&Method::POST, &uri, &headers)
        .await
        .map_err(|problem| problem.kind())
}

#[tokio::test]
async fn the_first_key_ends_open_mode_at_once_and_revoking_it_does_not_reopen() {
    let (folder, store) = store();
    let gate = gate(&folder, &store, OPEN, None, None);
    assert_eq!(ask(&gate, None).await, Ok(Caller::Anonymous));
    let now = UnixMillis(1_000);
    let made = keys::create(&store, now, &SystemEntropy, None)
        .await
        .expect("made");
    assert_eq!(ask(&gate, None).await, Err(Kind::Unauthorized));
    let bearer = format!("bearer {}", made.key.expose());
    assert_eq!(
        ask(&gate, Some(&bearer)).await,
        Ok(Caller::Key(made.id.clone()))
    );
    keys::revoke(&store, now, &made.id).await.expect("revoked");
    assert_eq!(ask(&gate, Some(&bearer)).await, Err(Kind::WrongToken));
    assert_eq!(ask(&gate, None).await, Err(Kind::Unauthorized));
}

#[tokio::test]
async fn the_key_of_the_environment_opens_and_a_part_of_it_does_not() {
    let (folder, store) = store();
    let key = Secret::new("0123456789 0123456789 0123456789".to_owned());
    let gate = gate(&folder, &store, Mode::Keyed, Some(&key), None);
    let good = format!("Bearer {}", key.expose());
    let want = Ok(Caller::Key("environment".to_owned()));
    assert_eq!(ask(&gate, Some(&good)).await, want);
    for wrong in [&good[..20], "Bearer x", "Bearer"] {
        assert!(ask(&gate, Some(wrong)).await.is_err(), "{wrong}");
    }
    assert_eq!(
        ask(&gate, Some("Basic eDp5")).await,
        Err(Kind::Unauthorized)
    );
}

#[tokio::test]
async fn administration_is_off_without_a_token_and_closed_without_the_right_one() {
    let (folder, store) = store();
    let off = gate(&folder, &store, OPEN, None, None);
    let kind = |asked: Result<(), Problem>| asked.map_err(|problem| problem.kind());
    let good = headers(AUTHORIZATION, "Bearer swordfish");
    assert_eq!(kind(off.admin(&good)), Err(Kind::AdminOff));
    let token = Secret::new("swordfish".to_owned());
    let on = gate(&folder, &store, OPEN, None, Some(&token));
    assert_eq!(kind(on.admin(&good)), Ok(()));
    let wrong = headers(AUTHORIZATION, "Bearer swordfis");
    assert_eq!(kind(on.admin(&wrong)), Err(Kind::WrongToken));
    assert_eq!(kind(on.admin(&HeaderMap::new())), Err(Kind::Unauthorized));
}

const LOGIN: [&str; 2] = ["/api/login/2fa/send", "/api/login/2fa"];
const ENROLMENT: [&str; 4] = [
    "/api/2fa/enable",
    "/api/2fa/verify-enable",
    "/api/2fa/totp",
    "/api/2fa/totp/verify",
];
const NO_TOKENS: [&str; 11] = [
    "/api/2fa",
    "/api/2fa/disable",
    "/api/2fa/backup-codes",
    "/api/users/u1/tokens",
    "/api/audit",
    "/api/otp/send",
    "/api/messages",
    "/api",
    "/api/login/2fa/",
    "/api/login/2f%61",
    "/api/2fa/enable/x",
];

fn bearer_of(gate: &Gate, purpose: Purpose, maker: Caller) -> String {
    let user = "u1".parse().expect("an id");
    let made = gate.users.tokens.make(purpose, &user, &maker, [1; 16], NOW);
    format!("Bearer {}", made.expect("made").text.expose())
}

#[tokio::test]
async fn r21_a_users_token_opens_what_it_was_made_for_and_nothing_else() {
    let (folder, store) = store();
    let key = Secret::new("0123456789 0123456789 0123456789".to_owned());
    let gate = gate(&folder, &store, Mode::Keyed, Some(&key), None);
    let maker = Caller::Key(ENVIRONMENT_KEY.to_owned());
    for (purpose, opened, closed) in [
        (Purpose::Login, LOGIN.as_slice(), ENROLMENT.as_slice()),
        (Purpose::Enroll, &ENROLMENT, &LOGIN),
    ] {
        let bearer = bearer_of(&gate, purpose, maker.clone());
        for path in opened {
            let asked = ask_for(&gate, path, Some(&bearer)).await;
            let Ok(Asker::User(token)) = asked else {
                panic!("{path}: {asked:?}");
            };
            assert_eq!((token.purpose, token.user.as_str()), (purpose, "u1"));
        }
        for path in closed.iter().chain(&NO_TOKENS) {
            let asked = ask_for(&gate, path, Some(&bearer)).await;
            assert_eq!(asked, Err(Kind::TokenScope), "{path}");
        }
        // A bad one is told nothing of what it would open.
        for path in opened.iter().chain(closed).chain(&NO_TOKENS) {
            let asked = ask_for(&gate, path, Some(&format!("{bearer}A"))).await;
            assert_eq!(asked, Err(Kind::WrongToken), "{path}");
        }
    }
}

#[tokio::test]
async fn a_token_opens_by_post_only() {
    let (folder, store) = store();
    let gate = gate(&folder, &store, OPEN, None, None);
    let bearer = bearer_of(&gate, Purpose::Login, Caller::Anonymous);
    let mut headers = headers(HOST, "localhost");
    let value = HeaderValue::from_str(&bearer).expect("a value");
    headers.insert(AUTHORIZATION, value);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let uri = Uri::from_static("/api/login/2fa");
    for (method, want) in [
        (Method::POST, true),
        (Method::GET, false),
        (Method::PUT, false),
        (Method::DELETE, false),
    ] {
        let asked = gate.asker(&method, &uri, &headers).await;
        assert_eq!(asked.is_ok(), want, "{method}");
    }
}

#[tokio::test]
async fn a_token_is_as_good_as_who_made_it() {
    let (folder, store) = store();
    let gate = gate(&folder, &store, OPEN, None, None);
    let of_nobody = bearer_of(&gate, Purpose::Login, Caller::Anonymous);
    assert!(ask_for(&gate, LOGIN[0], Some(&of_nobody)).await.is_ok());
    let made = keys::create(&store, NOW, &SystemEntropy, None).await;
    let id = made.expect("made").id;
    let asked = ask_for(&gate, LOGIN[0], Some(&of_nobody)).await;
    assert_eq!(asked, Err(Kind::WrongToken), "open mode has ended");
    let of_key = bearer_of(&gate, Purpose::Login, Caller::Key(id.clone()));
    assert!(ask_for(&gate, LOGIN[0], Some(&of_key)).await.is_ok());
    keys::revoke(&store, NOW, &id).await.expect("revoked");
    for gone in [id, "AAAAAAAAAA".to_owned(), ENVIRONMENT_KEY.to_owned()] {
        let bearer = bearer_of(&gate, Purpose::Login, Caller::Key(gone.clone()));
        let asked = ask_for(&gate, LOGIN[0], Some(&bearer)).await;
        assert_eq!(asked, Err(Kind::WrongToken), "{gone}");
    }
}

#[tokio::test]
async fn a_key_of_the_environment_that_looks_like_a_token_is_a_key() {
    let (folder, store) = store();
    let key = Secret::new(format!("cst_{}", "k".repeat(40)));
    let gate = gate(&folder, &store, Mode::Keyed, Some(&key), None);
    let good = format!("Bearer {}", key.expose());
    let want = Ok(Caller::Key(ENVIRONMENT_KEY.to_owned()));
    assert_eq!(ask(&gate, Some(&good)).await, want);
}

/// What is told to who asks for the metrics at `host` with a token.
async fn ask_metrics(gate: &Gate, host: &str, token: Option<&str>) -> Result<(), Kind> {
    let mut headers = headers(HOST, host);
    if let Some(token) = token {
        let value = format!("Bearer {token}");
        headers.insert(AUTHORIZATION, value.parse().expect("a value"));
    }
    let asked = gate.metrics(&Uri::from_static("/metrics"), &headers).await;
    asked.map_err(|problem| problem.kind())
}

#[tokio::test]
async fn metrics_are_for_their_own_token_and_the_administrators() {
    let (folder, store) = store();
    let secret = |text: &str| Secret::new(text.to_owned());
    let (key, admin, own) = (secret(&"k".repeat(32)), secret("admin"), secret("own"));
    for (admin, own, opens) in [
        (None, None, &[][..]),
        (Some(&admin), None, &["admin"]),
        (None, Some(&own), &["own"]),
        (Some(&admin), Some(&own), &["admin", "own"]),
    ] {
        let clock = Arc::new(ManualClock::new(NOW));
        let users = users(folder.path());
        let (mode, key) = (Mode::Keyed, Some(&key));
        let gate = Gate::new(store.clone(), clock, users, mode, key, admin, own);
        let off = opens.is_empty();
        for token in ["admin", "own", key.expect("one").expose(), ""] {
            let want = match opens.contains(&token) {
                true => Ok(()),
                false if off => Err(Kind::MetricsOff),
                false if token.is_empty() => Err(Kind::Unauthorized),
                false => Err(Kind::WrongToken),
            };
            let asked = ask_metrics(&gate, "example.com", Some(token)).await;
            assert_eq!(asked, want, "{opens:?} {token}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer own"));
        assert!(gate.admin(&headers).is_err(), "it opens nothing else");
    }
}

#[tokio::test]
async fn metrics_are_open_in_open_mode_to_loopback_names_until_the_first_key() {
    let (folder, store) = store();
    let gate = gate(&folder, &store, OPEN, None, None);
    assert_eq!(ask_metrics(&gate, "localhost:8080", None).await, Ok(()));
    let foreign = ask_metrics(&gate, "example.com", None).await;
    assert_eq!(foreign, Err(Kind::HostNotLoopback));
    let made = keys::create(&store, NOW, &SystemEntropy, None).await;
    made.expect("made");
    let closed = ask_metrics(&gate, "localhost:8080", None).await;
    assert_eq!(closed, Err(Kind::MetricsOff));
}
