//! The HTTP API: routes, who may use them, and what they answer.
//!
//! `door` turns crowds away, `gate` decides who may ask, `idempotency` whether it was asked before (by the runtime's ledger), `body` and `fields` read what is
//! sent, `admitted` has what requests have in common. `otp` and `two_factor` are the seed's routes,
//! `messages` those of other messages, `users` tokens of users and the keys that proofs are checked with,
//! `audit` what was done to users, `components` their versions, `webhooks` what providers call and `callbacks`
//! the room for it, `queue` and `lookup` what administrators see, `analytics` the figures, `erase` removes
//! what is kept of a number, `health` is for load balancers, `metrics` and `requests` for monitoring,
//! `openapi` describes them all, `pages` are for people.
//! `answer` and `problem` alone know statuses, and `causes` which error has which.

mod admitted;
mod analytics;
mod answer;
mod audit;
mod body;
mod callbacks;
mod causes;
mod client_address;
mod components;
mod door;
mod erase;
mod fields;
mod gate;
mod health;
mod idempotency;
mod lookup;
mod messages;
mod metrics;
mod openapi;
mod otp;
mod pages;
mod path;
mod problem;
mod providers;
mod queue;
mod requests;
mod stops;
mod two_factor;
mod users;
mod webhooks;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{self, HeaderValue, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::mpsc;
use tower_http::catch_panic::CatchPanicLayer;

// The runtime's door for this folder.
pub(crate) use countersign_runtime::{
    AuditCursor, Authority, BackupCodesVerdict, CallContext, CallError, CallbackError,
    CallbackRequest, Caller, ChangeRequest, Claim, Denial, DisableRequest, DisableVerdict,
    EnableRequest, EnableVerdict, Factor, FactorProof, HOST_CALLS, Ledger, LoginRequest,
    LoginSendRequest, LoginSendVerdict, LoginVerdict, MessageRequest, MessageSearch, Method,
    NO_ROUTE, Once, PhoneError, Refusal, Registry, Revealed, Runtime, STOPPED, SendRequest,
    SendVerdict, TotpVerdict, UserId, UserIdError, UserToken, VerifyFactorRequest,
    VerifyFactorVerdict, VerifyRequest, VerifyVerdict, figures,
};
use countersign_types::{Entropy, UnixMillis};

pub(crate) use door::App;
pub(crate) use fields::Fields;
pub(crate) use gate::{Asker, ENVIRONMENT_KEY, Gate, Mode, Situation};
pub(crate) use health::Health;

use crate::config::{Http, Templates};
use crate::metrics::{Labels, Page};
use crate::page::Pages;
use crate::providers::Configured;
use crate::services::Started;
use crate::users::Users;
use answer::{Answer, Judged};
use callbacks::Callbacks;
use door::Door;
pub(crate) use problem::Refused;
use problem::{Kind, Problem};
use requests::{Requests, Routes};

/// What an [`Api`] is made of.
pub(crate) struct ApiParts {
    pub(crate) http: Http,
    pub(crate) gate: Gate,
    pub(crate) health: Health,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) users: Arc<Users>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) templates: Templates,
    pub(crate) pages: Pages,
    pub(crate) providers: Vec<Configured>,
    pub(crate) routes: countersign_delivery::Routes,
}

/// What the routes share.
pub(crate) struct Api {
    pub(crate) http: Http,
    pub(crate) gate: Gate,
    pub(crate) health: Health,
    ledger: Arc<Ledger>,
    users: Arc<Users>,
    entropy: Arc<dyn Entropy>,
    templates: Templates,
    pages: Pages,
    providers: Vec<Configured>,
    /// Where messages go, and how those do whom they go to.
    routes: countersign_delivery::Routes,
    /// Empty while the components are compiled, as is the runtime.
    callbacks: OnceLock<Arc<Callbacks>>,
    started: OnceLock<Started>,
    /// Set with the routes.
    requests: OnceLock<Requests>,
    /// A clone is held by every call that is still running.
    running: mpsc::Sender<()>,
    door: Door,
}

/// Resolves when no call is running any more and the [`Api`] is gone.
pub(crate) struct Calls(mpsc::Receiver<()>);

impl Calls {
    /// Waits for the last call.
    pub(crate) async fn ended(mut self) {
        // Nothing is ever sent; the channel closes with its last sender.
        let _ = self.0.recv().await;
    }
}

impl Api {
    /// An API that answers 503 to calls until it has a runtime.
    pub(crate) fn new(parts: ApiParts) -> (Arc<Api>, Calls) {
        let (running, ended) = mpsc::channel(1);
        let api = Api {
            http: parts.http,
            gate: parts.gate,
            health: parts.health,
            ledger: parts.ledger,
            users: parts.users,
            entropy: parts.entropy,
            templates: parts.templates,
            pages: parts.pages,
            providers: parts.providers,
            routes: parts.routes,
            callbacks: OnceLock::new(),
            started: OnceLock::new(),
            requests: OnceLock::new(),
            running,
            door: Door::default(),
        };
        (Arc::new(api), Calls(ended))
    }

    /// From now on calls are served.
    pub(crate) fn start(&self, started: Started) {
        let providers = started.runtime.callback_providers();
        let clock = started.runtime.clock();
        let callbacks = Callbacks::new(&providers, self.http.callbacks_max, clock);
        // Only the first counts; there is one start.
        let _ = self.callbacks.set(Arc::new(callbacks));
        let _ = self.started.set(started);
    }

    /// Turns a call away before anything is done for it where it would find no room to wait: refusing
    /// must cost a small part of what is refused, or a crowd takes the server's time by that. From then
    /// on the door does it.
    fn has_room(&self, request: &Request, asker: &Asker) -> Result<(), Problem> {
        let Some(runtime) = self.serving() else {
            return Ok(());
        };
        let Some(places) = places_of(request.uri()) else {
            return Ok(());
        };
        let caller = asker.in_line();
        let room = runtime.room_for(places, &caller);
        if room.is_err() {
            self.door.remember(request.headers(), places, &caller);
        }
        Ok(room?)
    }

    /// 128 bits that nobody can guess.
    fn random_id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        self.entropy.fill(&mut id);
        id
    }

    /// The runtime, once calls are served.
    fn serving(&self) -> Option<&Runtime> {
        self.started.get().map(|started| &started.runtime)
    }

    fn runtime(&self) -> Option<Runtime> {
        self.serving().cloned()
    }

    fn registry(&self) -> Option<Arc<Registry>> {
        self.started.get().map(|started| started.registry.clone())
    }

    /// Runs a call in a task of its own, so that it ends by itself and not with the connection: a
    /// client that hangs up must not be able to undo a counted try.
    async fn run_to_its_end<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let running = self.running.clone();
        let task = tokio::spawn(async move {
            let outcome = call.await;
            drop(running);
            outcome
        });
        // A panic is in the log already.
        task.await.map_err(|_| Problem::internal())
    }

    /// Runs a call to its end and answers its verdict as `judge` says: once, where the request has an
    /// idempotency key. `judge` says the same of the same verdict each time.
    async fn answer<T, E, F>(
        &self,
        claim: Option<Claim>,
        judge: impl Fn(&T, UnixMillis) -> Judged + Clone + Send + Sync + 'static,
        call: impl FnOnce(Option<Once<'static, T>>) -> F,
    ) -> Response
    where
        T: Send + 'static,
        E: Into<NoVerdict> + Send + 'static,
        F: Future<Output = Result<(T, UnixMillis), E>> + Send + 'static,
    {
        let kept = judge.clone();
        let once = claim.as_ref().map(|claim| {
            claim.once(move |verdict: &T, instant| {
                let answer = kept(verdict, instant).ok();
                let answer = answer.as_ref().filter(|answer| answer.is_kept());
                answer.map(Answer::to_kept)
            })
        });
        // Its kilobytes would be copied a dozen times on their way into a task.
        let call = Box::pin(call(once));
        let ended = match self.run_to_its_end(call).await {
            Ok(Ok((verdict, instant))) => match judge(&verdict, instant) {
                Ok(answer) => return answer.into_response(),
                Err(problem) => NoVerdict::Problem(problem),
            },
            Ok(Err(error)) => error.into(),
            Err(problem) => NoVerdict::Problem(problem),
        };
        match ended {
            NoVerdict::Happened => happened(claim).await,
            NoVerdict::Problem(problem) => problem.into_response(),
        }
    }
}

/// How a call ends that has nothing to answer.
enum NoVerdict {
    /// The same request was carried out by somebody else meanwhile.
    Happened,
    /// Something else.
    Problem(Problem),
}

/// The answer that another process has given to the same request.
async fn happened(claim: Option<Claim>) -> Response {
    let found = match claim {
        Some(claim) => claim.find().await.map_err(Problem::from),
        None => Ok(None),
    };
    match found {
        Ok(Some(found)) => idempotency::replay(found),
        // It was there a moment ago, and a day was over.
        Ok(None) => Problem::in_flight().into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// All routes.
fn router(api: Arc<Api>) -> Router {
    // Pages are for people and no part of the API that is described.
    guarded(pages::add(routes()), api)
}

fn routes() -> Routes {
    Routes::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::description))
        .route("/api/otp/send", post(otp::send))
        .route("/api/otp/verify", post(otp::verify))
        .route("/api/messages", post(messages::send))
        .route("/api/messages/{id}", get(messages::story))
        .route("/api/2fa", get(two_factor::status))
        .route("/api/2fa/enable", post(two_factor::enable))
        .route("/api/2fa/verify-enable", post(two_factor::verify_enable))
        .route("/api/2fa/disable", post(two_factor::disable))
        .route("/api/2fa/backup-codes", post(two_factor::backup_codes))
        .route("/api/2fa/totp", post(two_factor::totp))
        .route("/api/2fa/totp/verify", post(two_factor::totp_verify))
        .route("/api/login/2fa/send", post(two_factor::login_send))
        .route("/api/login/2fa", post(two_factor::login))
        .route("/api/users/{id}/tokens", post(users::make_token))
        .route("/api/audit", get(audit::trail))
        .route("/api/phones/erase", post(erase::erase))
        .route("/.well-known/jwks.json", get(users::key_set))
        .route(
            "/webhooks/{provider}",
            get(webhooks::receive).post(webhooks::receive),
        )
        .route("/api/analytics/dashboard", get(analytics::dashboard))
        .route("/admin/audit", get(lookup::trail))
        .route("/admin/messages/search", post(lookup::search))
        .route("/admin/messages/{id}", get(messages::story))
        .route("/admin/messages/{id}/reveal", post(lookup::reveal))
        .route("/admin/stops/search", post(stops::search))
        .route("/admin/stops/clear", post(stops::clear))
        .route("/admin/providers", get(providers::list))
        .route("/admin/queue", get(queue::status))
        .route("/admin/queue/dead", get(queue::dead))
        .route("/admin/queue/dead/{id}", get(queue::letter))
        .route("/admin/queue/dead/{id}/replay", post(queue::replay))
        .route("/admin/components", get(components::list))
        .route(
            "/admin/components/{name}",
            get(components::show).put(components::install),
        )
        .route(
            "/admin/components/{name}/rollback",
            post(components::roll_back),
        )
}

/// `routes` with all that a request passes before it comes to its own.
fn guarded(routes: Routes, api: Arc<Api>) -> Router {
    // Only the first counts; there is one router.
    let _ = api.requests.set(Requests::new(&routes));
    routes
        .router
        .route_layer(from_fn_with_state(api.clone(), idempotency::claim))
        .fallback(not_found)
        .layer(from_fn_with_state(api.clone(), admit))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(from_fn_with_state(api.clone(), observe))
        .with_state(api)
}

async fn not_found(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let problem = Problem::new(
        Kind::NotFound,
        "There is nothing at this path; the README lists the routes.",
    );
    body::refuse(&parts, body, problem).await
}

/// Lets a request in by the part of the API that its path lies in, and bounds its time.
async fn admit(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let part = Part::of(request.uri());
    let method = request.method().clone();
    let answer = async {
        let admitted = match part {
            // Pages ask for a login themselves.
            Part::Public | Part::Page => Ok(()),
            Part::Admin => api.gate.admin(request.headers()),
            Part::Metrics => api.gate.metrics(request.uri(), request.headers()).await,
            Part::Api => {
                let (method, uri) = (request.method(), request.uri());
                let asker = api.gate.asker(method, uri, request.headers()).await;
                let asker = asker.and_then(|asker| {
                    api.has_room(&request, &asker)?;
                    Ok(asker)
                });
                asker.map(|asker| {
                    request.extensions_mut().insert(asker);
                })
            }
        };
        match admitted {
            Ok(()) => problem::explain(next.run(request).await),
            Err(problem) => {
                let (parts, body) = request.into_parts();
                body::refuse(&parts, body, problem).await
            }
        }
    };
    // Compiling a large component takes longer than any call.
    let time = match part {
        Part::Admin if method == http::Method::PUT => api.http.request_time + api.http.install_time,
        _ => api.http.request_time,
    };
    let mut response = match tokio::time::timeout(time, answer).await {
        Ok(response) => response,
        Err(_) => Problem::took_too_long().into_response(),
    };
    finish(&mut response, part);
    response
}

/// The headers that each answer has.
fn finish(response: &mut Response, part: Part) {
    let headers = response.headers_mut();
    match part {
        Part::Public => {}
        Part::Page => pages::secure(headers),
        Part::Api | Part::Admin | Part::Metrics => {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// Whom a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Public,
    Api,
    Admin,
    Metrics,
    /// People with a browser.
    Page,
}

impl Part {
    fn of(uri: &Uri) -> Part {
        let inside = |folder: &str| {
            let rest = uri.path().strip_prefix(folder);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // Figures are the operator's, wherever they lie.
        if inside("/admin") || inside("/api/analytics") {
            Part::Admin
        } else if inside("/api") {
            Part::Api
        } else if inside("/dashboard") {
            Part::Page
        } else if inside("/metrics") {
            Part::Metrics
        } else {
            Part::Public
        }
    }
}

/// In whose places the calls to a path run: a service component's, or those for the host's own.
fn places_of(uri: &Uri) -> Option<&'static str> {
    let folder = uri.path().strip_prefix("/api/")?.split('/').next()?;
    match folder {
        "otp" => Some("otp"),
        "2fa" | "login" => Some("two-factor"),
        "messages" | "audit" | "users" | "phones" => Some(HOST_CALLS),
        _ => None,
    }
}

/// Counts the request, and writes one line, at debug: never the path as it came, which anybody can fill
/// with anything.
async fn observe(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response<Body> {
    let Some(requests) = api.requests.get() else {
        return next.run(request).await;
    };
    let _in_flight = requests.in_flight.rise();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let start = tokio::time::Instant::now();
    let response = next.run(request).await;
    let took = start.elapsed();
    requests.answered(route, &method, &response, took);
    tracing::debug!(
        target: "countersign::access",
        %method,
        route = route.unwrap_or("none"),
        status = response.status().as_u16(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "answered"
    );
    response
}

#[cfg(test)]
mod tests;
