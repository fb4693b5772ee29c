//! Who may ask: API keys, tokens of users, the administrator's token, and open mode.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};
use countersign_store::{Store, StoreError};
use countersign_types::{Clock, Secret, UnixMillis};

use super::Caller;
use super::body::{self, Strictness};
use super::problem::{Kind, Problem};
use crate::keys::{self, Hash};
use crate::users::{Purpose, Token, Tokens, Users};

/// The id of the key that `COUNTERSIGN_API_KEY` gives.
pub(crate) const ENVIRONMENT_KEY: &str = "environment";

/// Whether the API asks for keys, as decided at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A key is needed.
    Keyed,
    /// Nobody has made a key yet: for trying things out.
    Open {
        /// Only requests that name a loopback host, so that no web page that a browser has been
        /// talked into sending here gets through (DNS rebinding).
        loopback_only: bool,
    },
}

/// Why a server without a key must not be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NeedsKey {
    /// Others than this machine could reach it.
    Address,
    /// Its messages cost money and reach people.
    Provider,
}

impl NeedsKey {
    /// For the operator, of a server that is to listen on `listen`.
    pub(crate) fn why(self, listen: SocketAddr) -> String {
        match self {
            NeedsKey::Address => format!("others than this machine could reach {listen}"),
            NeedsKey::Provider => "a provider is configured that sends real messages".to_owned(),
        }
    }
}

/// What the server's start depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation {
    /// A key was ever made, or the environment gives one.
    pub(crate) key: bool,
    /// The operator insists (`--open`).
    pub(crate) insists: bool,
    pub(crate) listen: SocketAddr,
    /// No provider but the console.
    pub(crate) console_only: bool,
}

impl Mode {
    /// Open only where no key was ever made, on loopback, with the console alone; or where the
    /// operator insists.
    ///
    /// # Errors
    ///
    /// What a key is needed for.
    pub(crate) fn decide(situation: Situation) -> Result<Mode, NeedsKey> {
        if situation.key {
            return Ok(Mode::Keyed);
        }
        if situation.insists {
            return Ok(Mode::Open {
                loopback_only: false,
            });
        }
        if !situation.listen.ip().to_canonical().is_loopback() {
            return Err(NeedsKey::Address);
        }
        if !situation.console_only {
            return Err(NeedsKey::Provider);
        }
        Ok(Mode::Open {
            loopback_only: true,
        })
    }
}

/// Who sends a request for `/api`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An application.
    Application(Caller),
    /// One of its users, whom it has given a token, on a route that the token is for.
    User(Token),
}

impl Asker {
    /// In whose line the call waits: of each application, and of all users together.
    pub(super) fn in_line(&self) -> Caller {
        match self {
            Asker::Application(caller) => caller.clone(),
            Asker::User(_) => Caller::Token(String::new()),
        }
    }
}

/// Judges every request for `/api`, `/admin` and `/metrics`; figures under `/api/analytics` are the
/// administrator's.
pub(crate) struct Gate {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    users: Arc<Users>,
    environment_key: Option<Hash>,
    admin_token: Option<Hash>,
    /// Opens the metrics and nothing else.
    metrics_token: Option<Hash>,
    /// Goes to `false` with the first key and never back.
    open: AtomicBool,
    loopback_only: bool,
}

impl Gate {
    /// A gate in the mode that was decided.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        users: Arc<Users>,
        mode: Mode,
        api_key: Option<&Secret<String>>,
        admin_token: Option<&Secret<String>>,
        metrics_token: Option<&Secret<String>>,
    ) -> Gate {
        let hash = |secret: &Secret<String>| Hash::of(secret.expose().as_bytes());
        Gate {
            store,
            clock,
            users,
            environment_key: api_key.map(hash),
            admin_token: admin_token.map(hash),
            metrics_token: metrics_token.map(hash),
            open: AtomicBool::new(mode != Mode::Keyed),
            loopback_only: mode
                == Mode::Open {
                    loopback_only: true,
                },
        }
    }

    /// Who sends the request.
    ///
    /// # Errors
    ///
    /// 401 without a good key or token, 403 for a token on a route that it is not for; in open mode 403
    /// for a foreign `Host` and 415 for anything that a web page may send without asking.
    pub(crate) async fn asker(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Asker, Problem> {
        let open = self.is_open().await?;
        if open {
            self.check_host(uri, headers)?;
            // What a page in a browser can send across origins by itself is never this type. A GET
            // changes nothing, and its answer is not shown to other origins; for any other method the
            // browser asks first, and is told no (Fetch standard, "CORS-safelisted method").
            if method == Method::POST {
                body::check_json(headers, Strictness::Exact)?;
            }
        }
        let presented = bearer(headers);
        if let Some(presented) = presented
            && Tokens::is_one(presented)
            && !self.is_environment_key(presented)
        {
            let token = self.user_token(presented, open).await?;
            return if opens(token.purpose, method, uri.path()) {
                Ok(Asker::User(token))
            } else {
                let detail =
                    "A user's token opens what it was made for and nothing else; send an API key.";
                Err(Problem::new(Kind::TokenScope, detail))
            };
        }
        let caller = if open {
            Caller::Anonymous
        } else {
            self.key(presented).await?
        };
        Ok(Asker::Application(caller))
    }

    /// Whose key it is.
    async fn key(&self, presented: Option<&[u8]>) -> Result<Caller, Problem> {
        let Some(presented) = presented else {
            return Err(Problem::new(
                Kind::Unauthorized,
                "Send an API key: `Authorization: Bearer KEY`; make one with `keys create`",
            ));
        };
        if self.is_environment_key(presented) {
            return Ok(Caller::Key(ENVIRONMENT_KEY.to_owned()));
        }
        match keys::find(&self.store, presented).await? {
            Some(id) => Ok(Caller::Key(id)),
            None => Err(Problem::new(
                Kind::WrongToken,
                "The API key is not known here, or it was revoked.",
            )),
        }
    }

    fn is_environment_key(&self, presented: &[u8]) -> bool {
        let hash = Hash::of(presented);
        self.environment_key.is_some_and(|key| key.is(&hash))
    }

    /// What a token says, where it is a good one of somebody who could still make it.
    async fn user_token(&self, presented: &[u8], open: bool) -> Result<Token, Problem> {
        if let Some(token) = self.users.tokens.open(presented, self.now()) {
            let good = match &token.maker {
                Caller::Anonymous => open,
                Caller::Key(id) if id == ENVIRONMENT_KEY => self.environment_key.is_some(),
                Caller::Key(id) => keys::is_good(&self.store, id).await?,
                // Neither can ask for one.
                Caller::Token(_) | Caller::Operator => false,
            };
            if good {
                return Ok(token);
            }
        }
        let detail = "The token is over, or was not made here; ask the application for a new one.";
        Err(Problem::new(Kind::WrongToken, detail))
    }

    /// The instant that a call would get now.
    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now().max(self.store.newest_instant())
    }

    /// Lets the administrator pass.
    ///
    /// # Errors
    ///
    /// 403 where no token is configured, 401 without the right one.
    pub(crate) fn admin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.admin_token else {
            return Err(Problem::admin_off());
        };
        match bearer(headers) {
            None => Err(Problem::new(
                Kind::Unauthorized,
                "Send the administrator's token, the text of COUNTERSIGN_ADMIN_TOKEN: `Authorization: Bearer TOKEN`.",
            )),
            Some(presented) if token.is(&Hash::of(presented)) => Ok(()),
            Some(_) => Err(Problem::new(
                Kind::WrongToken,
                "This is not the administrator's token, the text of COUNTERSIGN_ADMIN_TOKEN; an API key opens neither /admin nor /api/analytics.",
            )),
        }
    }

    /// Whether there is an administrator's token at all.
    pub(crate) fn has_admin(&self) -> bool {
        self.admin_token.is_some()
    }

    /// Whether that is the administrator's token, in a time that does not tell how much of it is right.
    pub(crate) fn is_admin(&self, presented: &[u8]) -> bool {
        let hash = Hash::of(presented);
        self.admin_token.is_some_and(|token| token.is(&hash))
    }

    /// Lets monitoring pass: with its own token or the administrator's; in open mode, where there is
    /// neither, whoever may call the API.
    ///
    /// # Errors
    ///
    /// 403 where no token is configured and the API asks for keys, or in open mode for a foreign `Host`;
    /// 401 without the right token.
    pub(crate) async fn metrics(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        let tokens = [&self.metrics_token, &self.admin_token];
        let mut tokens = tokens.into_iter().flatten().peekable();
        if tokens.peek().is_none() {
            if self.is_open().await? {
                return self.check_host(uri, headers);
            }
            let detail = "Set COUNTERSIGN_METRICS_TOKEN and restart to switch them on.";
            return Err(Problem::new(Kind::MetricsOff, detail));
        }
        let Some(presented) = bearer(headers) else {
            return Err(Problem::new(
                Kind::Unauthorized,
                "Send the token of the metrics, the text of COUNTERSIGN_METRICS_TOKEN, or the administrator's: `Authorization: Bearer TOKEN`.",
            ));
        };
        let presented = Hash::of(presented);
        // Both are compared, whatever the first says.
        match tokens.fold(false, |good, token| good | token.is(&presented)) {
            true => Ok(()),
            false => Err(Problem::new(
                Kind::WrongToken,
                "This is not the token of the metrics, the text of COUNTERSIGN_METRICS_TOKEN; an API key does not open them.",
            )),
        }
    }

    /// In open mode on loopback a request must name a loopback host.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        if self.loopback_only && !names_loopback(uri, headers) {
            return Err(Problem::new(
                Kind::HostNotLoopback,
                "Without a key the API answers to 127.0.0.1, [::1] and localhost only; make one with `keys create`",
            ));
        }
        Ok(())
    }

    /// Looked up at each request until the first key is there, since any process may make it.
    async fn is_open(&self) -> Result<bool, StoreError> {
        if !self.open.load(Ordering::Acquire) {
            return Ok(false);
        }
        if !keys::any(&self.store).await? {
            return Ok(true);
        }
        if self.open.swap(false, Ordering::AcqRel) {
            tracing::info!("the first API key was made: from now on every call needs one");
        }
        Ok(false)
    }
}

/// Whether a token for `purpose` may ask for this. A login token is for the login that has begun; one
/// for an enrolment adds factors, which the call allows to a user without one only.
fn opens(purpose: Purpose, method: &Method, path: &str) -> bool {
    let paths: &[&str] = match purpose {
        Purpose::Login => &["/api/login/2fa/send", "/api/login/2fa"],
        Purpose::Enroll => &[
            "/api/2fa/enable",
            "/api/2fa/verify-enable",
            "/api/2fa/totp",
            "/api/2fa/totp/verify",
        ],
    };
    *method == Method::POST && paths.contains(&path)
}

/// What stands after `Bearer` (RFC 6750; the scheme's case does not matter).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    // Of two, a proxy in front might have judged the other one.
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_at_checked(b"bearer ".len())?;
    let token = token.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// Whether every name that the request gives its server is one of this very machine's own.
fn names_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut named = false;
    if let Some(authority) = uri.authority() {
        if !is_loopback_name(authority.host()) {
            return false;
        }
        named = true;
    }
    for host in headers.get_all(HOST) {
        let authority = host
            .to_str()
            .ok()
            .filter(|text| !text.contains('@'))
            .and_then(|text| text.parse::<Authority>().ok());
        if !authority.is_some_and(|authority| is_loopback_name(authority.host())) {
            return false;
        }
        named = true;
    }
    named
}

fn is_loopback_name(host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let address = bare.unwrap_or(host).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests;
