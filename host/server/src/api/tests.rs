//! The routes as a client sees them, without a runtime: everything up to a call.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::admitted::Admitted;
use super::answer::Judged;
use super::*;
use crate::metrics::Metrics;
use crate::testing::{config, keyring, store, users};
use axum::http::Method;
use countersign_store::{Ending, Rulings, Store, Transaction};
use countersign_types::{Clock, ManualClock, Secret, SystemClock, SystemEntropy};
use serde_json::{Value, json};
use tower::ServiceExt;

const KEY: &str = "an-api-key-of-thirty-two-characters";
const ADMIN_TOKEN: &str = "swordfish";

/// An API without a runtime.
fn api(
    folder: &tempfile::TempDir,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    mode: Mode,
    key: Option<&Secret<String>>,
    token: Option<&str>,
) -> (Arc<Api>, Calls) {
    let token = token.map(|token| Secret::new(token.to_owned()));
    let config = config();
    let metrics = Metrics::new(Vec::new(), clock.now());
    let users = users(folder.path());
    let gate = Gate::new(
        store.clone(),
        clock.clone(),
        users.clone(),
        mode,
        key,
        token.as_ref(),
        None,
    );
    let keyring = keyring(folder.path());
    let pages = Pages::new(
        store.clone(),
        keyring.clone(),
        clock.clone(),
        token.as_ref(),
        false,
        Vec::new(),
    );
    let doing = countersign_delivery::Health::new(config.delivery.breaker, clock.clone());
    let ledger = Ledger::new(store, keyring, clock, config.idempotency);
    let templates = config.templates;
    let health = Health::of(None, metrics);
    let entropy = Arc::new(SystemEntropy);
    Api::new(ApiParts {
        http: config.http,
        gate,
        health,
        ledger,
        users,
        entropy,
        templates,
        pages,
        providers: Vec::new(),
        routes: countersign_delivery::Routes::new(Vec::new(), doing),
    })
}

struct Server {
    router: Router,
    _folder: tempfile::TempDir,
    _calls: Calls,
}

impl Server {
    fn new(mode: Mode) -> Server {
        Server::administered(mode, None)
    }

    fn administered(mode: Mode, token: Option<&str>) -> Server {
        let (folder, store) = store();
        let key = Secret::new(KEY.to_owned());
        let key = (mode == Mode::Keyed).then_some(&key);
        let (api, calls) = api(&folder, store, Arc::new(SystemClock), mode, key, token);
        Server {
            router: router(api),
            _folder: folder,
            _calls: calls,
        }
    }

    /// A server with a route of its own that issues secrets, each another one.
    fn issuing(clock: Arc<ManualClock>) -> Server {
        let (folder, store) = store();
        let key = Secret::new(KEY.to_owned());
        let clocks = clock.clone();
        let (api, calls) = api(
            &folder,
            store.clone(),
            clocks,
            Mode::Keyed,
            Some(&key),
            None,
        );
        let issued = Arc::new(AtomicU64::new(0));
        let issue = move |State(api): State<Arc<Api>>, request: Request| {
            let (store, issued, now) = (store.clone(), issued.clone(), clock.now());
            async move {
                let Ok(Admitted { claim, .. }) = Admitted::read(&api, request).await else {
                    panic!("it is not let in");
                };
                let call = async move |once| issue(store, &issued, once, now).await;
                api.answer(claim, secret, call).await
            }
        };
        let routes = Routes::new().route("/api/users/{id}/secrets", post(issue));
        Server {
            router: guarded(routes, api),
            _folder: folder,
            _calls: calls,
        }
    }

    async fn ask(&self, request: axum::http::request::Builder, body: impl Into<Body>) -> Response {
        let request = request.body(body.into()).expect("a request");
        self.router
            .clone()
            .oneshot(request)
            .await
            .expect("infallible")
    }
}

/// What a call of a component would do: a change, and the request's row with it.
async fn issue(
    store: Arc<dyn Store>,
    issued: &AtomicU64,
    once: Option<Once<'static, u64>>,
    now: UnixMillis,
) -> Result<(u64, UnixMillis), CallError> {
    let verdict = issued.fetch_add(1, Ordering::Relaxed) + 1;
    let mut run = Transaction::new(store.clone(), now, Rulings::default());
    if let Some(once) = &once {
        once.begin(&mut run).await?;
    }
    run.emit(b"issued".to_vec());
    if let Some(once) = &once {
        once.end(&mut run, &verdict).await?;
    }
    let committed = store.commit(run.into_commit(Ending::Commit)).await;
    committed.expect("nobody else is here");
    Ok((verdict, now))
}

fn secret(verdict: &u64, _: UnixMillis) -> Judged {
    Ok(Answer::ok(&json!({"secret": verdict})).secret())
}

fn post_send() -> axum::http::request::Builder {
    post_to("/api/otp/send")
}

fn post_to(path: &str) -> axum::http::request::Builder {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header("host", "127.0.0.1:8080")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {KEY}"))
}

#[track_caller]
fn check_problem(response: &Response, status: u16) {
    assert_eq!(response.status(), status);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
}

async fn json_of(response: Response) -> Value {
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await;
    serde_json::from_slice(&bytes.expect("read")).expect("JSON")
}

#[tokio::test]
async fn every_path_of_the_api_needs_a_key() {
    let server = Server::new(Mode::Keyed);
    for path in [
        "/api/otp/send",
        "/api/otp/verify",
        "/api/2fa",
        "/api/2fa/enable",
        "/api/2fa/verify-enable",
        "/api/2fa/disable",
        "/api/2fa/backup-codes",
        "/api/2fa/totp",
        "/api/2fa/totp/verify",
        "/api/login/2fa/send",
        "/api/login/2fa",
        "/api/users/u/tokens",
        "/api/audit",
        "/api/phones/erase",
        "/api/nothing",
        "/api",
    ] {
        let response = server.ask(Request::post(path), "{}").await;
        check_problem(&response, 401);
        assert_eq!(response.headers()["www-authenticate"], "Bearer", "{path}");
        assert_eq!(response.headers()["cache-control"], "no-store");
    }
    let wrong = Request::post("/api/otp/send").header("authorization", "Bearer x");
    check_problem(&server.ask(wrong, "{}").await, 401);
}

#[tokio::test]
async fn the_keys_that_proofs_are_checked_with_are_everybodys_and_may_be_kept() {
    let server = Server::new(Mode::Keyed);
    let response = server.ask(Request::get("/.well-known/jwks.json"), "").await;
    assert_eq!(response.status(), 200);
    let headers = response.headers();
    assert_eq!(headers["content-type"], "application/jwk-set+json");
    assert_eq!(headers["cache-control"], "public, max-age=300");
    assert_eq!(json_of(response).await["keys"][0]["kty"], "OKP");
}

#[tokio::test]
async fn a_request_about_a_user_needs_the_user_and_only_then_a_good_body() {
    let server = Server::new(Mode::Keyed);
    let post = |path: &str| post_send().uri(path.to_owned());
    // In the seed's form, and as a problem where the route is not the seed's.
    for path in ["/api/2fa/enable", "/api/login/2fa"] {
        let response = server.ask(post(path), "{}").await;
        assert_eq!(response.status(), 400);
        let error = json_of(response).await["error"].clone();
        assert_eq!(error, "Name the user in the header X-Countersign-User");
    }
    for path in ["/api/2fa/disable", "/api/2fa/totp/verify"] {
        check_problem(&server.ask(post(path), "{}").await, 400);
    }
    let named = |path: &str| post(path).header("x-countersign-user", "u1");
    let missing = server.ask(named("/api/2fa/enable"), "{}").await;
    assert_eq!(json_of(missing).await["field"], "phoneNumber");
    let missing = server.ask(named("/api/2fa/totp/verify"), "{}").await;
    check_problem(&missing, 400);
    assert_eq!(json_of(missing).await["field"], "code");
    // Where no field is needed, no body is.
    for path in [
        "/api/2fa/disable",
        "/api/2fa/backup-codes",
        "/api/2fa/totp",
        "/api/login/2fa/send",
    ] {
        check_problem(&server.ask(named(path), "").await, 503);
    }
    for path in [
        "/api/2fa/enable",
        "/api/2fa/verify-enable",
        "/api/login/2fa",
    ] {
        let response = server.ask(named(path), "").await;
        assert_eq!(response.status(), 400, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_that_names_the_right_one() {
    let server = Server::new(Mode::Keyed);
    check_problem(&server.ask(Request::get("/nothing"), "").await, 404);
    let unknown = Request::get("/api/nothing").header("authorization", format!("Bearer {KEY}"));
    check_problem(&server.ask(unknown, "").await, 404);
    let response = server.ask(post_send().method(Method::GET), "").await;
    check_problem(&response, 405);
    assert_eq!(response.headers()["allow"], "POST");
    let response = server.ask(Request::post("/healthz"), "").await;
    check_problem(&response, 405);
    assert_eq!(response.headers()["allow"], "GET,HEAD");
}

#[tokio::test]
async fn a_body_that_is_too_large_or_no_json_has_its_status() {
    let server = Server::new(Mode::Keyed);
    check_problem(&server.ask(post_send(), vec![b'x'; 5_000_000]).await, 413);
    let text = Request::post("/api/otp/send")
        .header("content-type", "text/plain")
        .header("authorization", format!("Bearer {KEY}"));
    check_problem(&server.ask(text, "{}").await, 415);
}

#[tokio::test]
async fn a_wrong_field_is_400_in_the_seeds_form() {
    let server = Server::new(Mode::Keyed);
    let response = server.ask(post_send(), r#"{"phoneNumber": 5}"#).await;
    assert_eq!(response.status(), 400);
    let body = json_of(response).await;
    assert_eq!(body["field"], "phoneNumber");
    assert_eq!(
        body["error"],
        "`phoneNumber` must be a string, not a number"
    );
    let address = post_send().header("x-countersign-client-address", "nowhere");
    for response in [
        server.ask(post_send(), "").await,
        server.ask(address, "{}").await,
    ] {
        assert_eq!(response.status(), 400);
        assert!(json_of(response).await.get("field").is_none());
    }
}

#[tokio::test]
async fn an_idempotency_key_that_is_none_is_a_400_problem() {
    let server = Server::new(Mode::Keyed);
    for key in ["", "\"\"", "a b", "\"a\"; b"] {
        let request = post_send().header("idempotency-key", key);
        check_problem(&server.ask(request, "{}").await, 400);
    }
    let twice = post_send().header("idempotency-key", "a");
    let twice = twice.header("idempotency-key", "a");
    check_problem(&server.ask(twice, "{}").await, 400);
}

#[tokio::test]
async fn what_has_no_verdict_leaves_its_key_free() {
    let server = Server::new(Mode::Keyed);
    let request = || post_send().header("idempotency-key", "k");
    // Malformed, then a problem of the server's own: each is answered for itself.
    let malformed = server.ask(request(), "no JSON").await;
    assert_eq!(malformed.status(), 400);
    check_problem(&server.ask(request(), vec![b'x'; 5_000_000]).await, 413);
    for _ in 0..2 {
        let starting = server.ask(request(), r#"{"phoneNumber": "+12025550123"}"#);
        check_problem(&starting.await, 503);
    }
}

#[tokio::test]
async fn a_secret_is_answered_again_for_10_minutes_and_never_issued_again() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let clock = Arc::new(ManualClock::new(UnixMillis(1_769_860_800_000)));
    let server = Server::issuing(clock.clone());
    let ask = async |body: &'static str| {
        let request = post_to("/api/users/ann/secrets").header("idempotency-key", "k");
        server.ask(request, body).await
    };
    let first = ask("{}").await;
    assert!(!first.headers().contains_key("idempotency-replayed"));
    assert_eq!(json_of(first).await, json!({"secret": 1}));
    clock.advance(minutes(10) - Duration::from_millis(1));
    let again = ask("{}").await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    assert_eq!(again.headers()["cache-control"], "no-store");
    assert_eq!(json_of(again).await, json!({"secret": 1}));
    clock.advance(Duration::from_millis(1));
    let late = ask("{}").await;
    check_problem(&late, 409);
    let kind = json_of(late).await["type"].clone();
    assert_eq!(kind, "urn:countersign:error:already-done");
    check_problem(&ask(r#"{"another": "body"}"#).await, 422);
    clock.advance(minutes(24 * 60 - 10));
    assert_eq!(json_of(ask("{}").await).await, json!({"secret": 2}));
}

#[tokio::test]
async fn a_key_belongs_to_the_whole_path_and_the_query_to_the_request() {
    let clock = Arc::new(ManualClock::new(UnixMillis(1_769_860_800_000)));
    let server = Server::issuing(clock);
    let ask = async |path: &str| {
        let request = post_to(path).header("idempotency-key", "k");
        server.ask(request, "{}").await
    };
    for (path, want) in [
        ("/api/users/ann/secrets", 1),
        ("/api/users/bob/secrets", 2),
        ("/api/users/ann/secrets", 1),
        ("/api/users/bob/secrets", 2),
    ] {
        assert_eq!(json_of(ask(path).await).await, json!({"secret": want}));
    }
    check_problem(&ask("/api/users/ann/secrets?for=bob").await, 422);
}

#[tokio::test]
async fn a_server_that_is_starting_says_so() {
    let server = Server::new(Mode::Keyed);
    let response = server
        .ask(post_send(), r#"{"phoneNumber": "+12025550123"}"#)
        .await;
    check_problem(&response, 503);
    assert_eq!(response.headers()["retry-after"], "1");
    assert_eq!(server.ask(Request::get("/healthz"), "").await.status(), 200);
    let response = server.ask(Request::get("/readyz"), "").await;
    assert_eq!(response.status(), 503);
    assert_eq!(json_of(response).await["reasons"][0], "starting");
}

#[tokio::test]
async fn open_mode_answers_to_loopback_and_exact_json_only() {
    let server = Server::new(Mode::Open {
        loopback_only: true,
    });
    let request = |host: &str, media_type: &str| {
        Request::post("/api/otp/send")
            .header("host", host)
            .header("content-type", media_type)
    };
    let good = server
        .ask(request("localhost:8080", "application/json"), "{}")
        .await;
    assert_eq!(good.status(), 400);
    let foreign = server
        .ask(request("evil.example", "application/json"), "{}")
        .await;
    check_problem(&foreign, 403);
    for media_type in ["text/plain", "application/x+json"] {
        check_problem(
            &server.ask(request("localhost", media_type), "{}").await,
            415,
        );
        // A page cannot send these without asking first, so the method is what is wrong.
        for method in [Method::PUT, Method::DELETE, Method::PATCH] {
            let request = request("localhost", media_type).method(method);
            check_problem(&server.ask(request, "{}").await, 405);
        }
    }
}

#[tokio::test]
async fn administration_without_a_token_is_403() {
    let server = Server::new(Mode::Keyed);
    for path in ["/admin", "/admin/components", "/admin/"] {
        check_problem(&server.ask(Request::get(path), "").await, 403);
    }
}

#[tokio::test]
async fn who_has_no_token_for_administration_is_told_which() {
    let server = Server::administered(Mode::Keyed, Some(ADMIN_TOKEN));
    let ask = async |bearer: Option<&str>| {
        let mut request = Request::get("/admin/queue");
        if let Some(token) = bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        server.ask(request, "").await
    };
    for bearer in [None, Some(KEY)] {
        let response = ask(bearer).await;
        check_problem(&response, 401);
        let detail = json_of(response).await["detail"].to_string();
        assert!(detail.contains("COUNTERSIGN_ADMIN_TOKEN"), "{detail}");
    }
    // Calls are not served yet.
    check_problem(&ask(Some(ADMIN_TOKEN)).await, 503);
}

/// Every route, and what lies beside them.
const PATHS: [&str; 29] = [
    "/",
    "/healthz",
    "/readyz",
    "/api/otp/send",
    "/api/otp/verify",
    "/api/messages",
    "/api/messages/x",
    "/api/messages/%ff",
    "/webhooks/twilio",
    "/webhooks/%ff",
    "/api/phones/erase",
    "/admin/audit",
    "/admin/messages/search",
    "/admin/messages/x",
    "/admin/messages/x/reveal",
    "/admin/stops/search",
    "/admin/stops/clear",
    "/admin/providers",
    "/admin/queue",
    "/admin/queue/dead",
    "/admin/queue/dead/x",
    "/admin/queue/dead/%ff",
    "/admin/queue/dead/x/replay",
    "/admin/queue/dead/%ff/replay",
    "/nothing/%ff",
    "/api/nothing",
    "/admin/nothing",
    "*",
    "example.com:443",
];

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW",
];

/// Which problem an answer is, by its status; 0 where it is none.
async fn problem_of(response: Response) -> u16 {
    let is_problem = response.headers()["content-type"] == "application/problem+json";
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 10_000).await;
    let body: Value = serde_json::from_slice(&bytes.expect("read")).unwrap_or_default();
    // What answers a HEAD has no body.
    let told = body.get("status").is_none_or(|told| *told == status);
    if is_problem && told { status } else { 0 }
}

#[tokio::test]
async fn every_error_of_every_route_is_a_problem_or_has_its_routes_own_form() {
    let server = Server::administered(Mode::Keyed, Some(ADMIN_TOKEN));
    for (path, method) in PATHS
        .iter()
        .flat_map(|path| METHODS.map(|method| (path, method)))
    {
        for (token, media_type) in [
            (Some(KEY), "application/json"),
            (Some(ADMIN_TOKEN), "text/plain"),
            (None, "text/plain"),
        ] {
            let mut request = Request::builder()
                .method(method)
                .uri(*path)
                .header("content-type", media_type);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = server.ask(request, "{}").await;
            let status = response.status().as_u16();
            let own = match *path {
                "/readyz" => status == 503,
                "/api/otp/send" | "/api/otp/verify" => status == 400,
                _ => false,
            };
            if status < 400 || own {
                assert_eq!(response.headers()["content-type"], "application/json");
            } else {
                assert_eq!(
                    problem_of(response).await,
                    status,
                    "{method} {path} {token:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_path_that_cannot_be_decoded_is_a_problem() {
    let server = Server::administered(Mode::Keyed, Some(ADMIN_TOKEN));
    for (path, token) in [
        ("/api/messages/%ff", KEY),
        ("/webhooks/%ff", KEY),
        ("/admin/queue/dead/%ff", ADMIN_TOKEN),
    ] {
        let request = Request::get(path).header("authorization", format!("Bearer {token}"));
        let response = server.ask(request, "").await;
        check_problem(&response, 400);
        let detail = json_of(response).await["detail"].to_string();
        assert!(detail.contains("percent-encoding"), "{detail}");
    }
}

#[tokio::test]
async fn a_panic_is_a_500_for_that_request_alone() {
    let router = Router::new()
        .route("/", get(async || -> &'static str { panic!("canary") }))
        .layer(CatchPanicLayer::custom(problem::panicked));
    let request = Request::get("/").body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("infallible");
    assert_eq!(response.status(), 500);
    assert!(!json_of(response).await.to_string().contains("canary"));
}

#[test]
fn the_gate_judges_by_whole_parts_of_the_path() {
    for (path, want) in [
        ("/api", Part::Api),
        ("/api/", Part::Api),
        ("/api/x", Part::Api),
        ("/apix", Part::Public),
        ("/admin", Part::Admin),
        ("/admin/x", Part::Admin),
        ("/metrics", Part::Metrics),
        ("/metrics/", Part::Metrics),
        ("/metricsx", Part::Public),
        ("/dashboard", Part::Page),
        ("/dashboard/login", Part::Page),
        ("/dashboards", Part::Public),
        ("/", Part::Public),
        ("/healthz", Part::Public),
    ] {
        assert_eq!(Part::of(&Uri::from_static(path)), want, "{path}");
    }
}

#[tokio::test]
async fn a_call_runs_to_its_end_when_its_client_has_gone() {
    use std::future::Future;
    use std::task::{Context, Waker};

    let (folder, store) = store();
    let clock = Arc::new(SystemClock);
    let (api, _calls) = api(&folder, store, clock, Mode::Keyed, None, None);
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let (done, ended) = tokio::sync::oneshot::channel();
    let call = async move {
        gone.await.expect("told to go on");
        done.send(()).expect("somebody waits");
    };
    {
        let mut client = std::pin::pin!(api.run_to_its_end(call));
        let mut context = Context::from_waker(Waker::noop());
        assert!(client.as_mut().poll(&mut context).is_pending());
        // Here the connection ends, and with it what was waiting for the answer.
    }
    go.send(()).expect("the call is still there");
    ended.await.expect("it ran to its end");
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else_is() {
    let server = Server::administered(Mode::Keyed, Some(ADMIN_TOKEN));
    let described: Value = serde_json::from_str(openapi::DESCRIPTION).expect("JSON");
    assert_eq!(described["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = described["paths"].as_object().expect("paths");
    let mut templates = routes().templates;
    templates.sort_unstable();
    let names: std::collections::BTreeSet<_> = paths.keys().map(String::as_str).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), templates);
    for template in templates {
        let path = template.replace(['{', '}'], "");
        for method in ["get", "post", "put", "patch", "delete"] {
            let token = match Part::of(&path.parse().expect("a path")) == Part::Api {
                true => KEY,
                false => ADMIN_TOKEN,
            };
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(&path)
                .header("authorization", format!("Bearer {token}"));
            let answered = server.ask(request, "").await.status() != 405;
            let told = paths[template].get(method).is_some();
            assert_eq!(answered, told, "{method} {template}");
        }
    }
}
