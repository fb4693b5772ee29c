//! Who may ask: API keys, the administrator's token, and open mode.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};
use countersign_store::{Store, StoreError};
use countersign_types::Secret;

use super::Caller;
use super::body::{self, Strictness};
use super::problem::{Kind, Problem};
use crate::keys::{self, Hash};

/// The id of the key that `COUNTERSIGN_API_KEY` gives.
const ENVIRONMENT_KEY: &str = "environment";

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

/// Judges every request for `/api` and `/admin`.
pub(crate) struct Gate {
    store: Arc<dyn Store>,
    environment_key: Option<Hash>,
    admin_token: Option<Hash>,
    /// Goes to `false` with the first key and never back.
    open: AtomicBool,
    loopback_only: bool,
}

impl Gate {
    /// A gate in the mode that was decided.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        mode: Mode,
        api_key: Option<&Secret<String>>,
        admin_token: Option<&Secret<String>>,
    ) -> Gate {
        let hash = |secret: &Secret<String>| Hash::of(secret.expose().as_bytes());
        Gate {
            store,
            environment_key: api_key.map(hash),
            admin_token: admin_token.map(hash),
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
    /// 401 without a good key; in open mode 403 for a foreign `Host` and 415 for anything that a
    /// web page may send without asking.
    pub(crate) async fn caller(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Caller, Problem> {
        if self.is_open().await? {
            if self.loopback_only && !names_loopback(uri, headers) {
                return Err(Problem::new(
                    Kind::HostNotLoopback,
                    "Without a key the API answers to 127.0.0.1, [::1] and localhost only; make one with `keys create`",
                ));
            }
            // What a page in a browser can send across origins by itself is never this type. A GET
            // changes nothing, and its answer is not shown to other origins.
            if !method.is_safe() {
                body::check_json(headers, Strictness::Exact)?;
            }
            return Ok(Caller::Anonymous);
        }
        let Some(presented) = bearer(headers) else {
            return Err(Problem::new(
                Kind::Unauthorized,
                "Send an API key: `Authorization: Bearer KEY`; make one with `keys create`",
            ));
        };
        let hash = Hash::of(presented);
        if self.environment_key.is_some_and(|key| key.is(&hash)) {
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

    /// Lets the administrator pass.
    ///
    /// # Errors
    ///
    /// 403 where no token is configured, 401 without the right one.
    pub(crate) fn admin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.admin_token else {
            let detail = "Set COUNTERSIGN_ADMIN_TOKEN and restart to switch it on.";
            return Err(Problem::new(Kind::AdminOff, detail));
        };
        let detail = "Send the token: `Authorization: Bearer TOKEN`.";
        match bearer(headers) {
            None => Err(Problem::new(Kind::Unauthorized, detail)),
            Some(presented) if token.is(&Hash::of(presented)) => Ok(()),
            Some(_) => Err(Problem::new(Kind::WrongToken, detail)),
        }
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
mod tests {
    use super::*;
    use crate::testing::store;
    use axum::http::HeaderValue;
    use axum::http::header::CONTENT_TYPE;
    use countersign_types::{SystemEntropy, UnixMillis};

    const OPEN: Mode = Mode::Open {
        loopback_only: true,
    };

    #[track_caller]
    fn check(
        key: bool,
        insists: bool,
        listen: &str,
        console_only: bool,
        want: Result<Mode, NeedsKey>,
    ) {
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

    async fn ask(gate: &Gate, authorization: Option<&str>) -> Result<Caller, Kind> {
        let mut headers = headers(HOST, "127.0.0.1:8080");
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(value) = authorization {
            headers.insert(
                AUTHORIZATION,
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        let uri = Uri::from_static("/api/otp/send");
        gate.caller(&Method::POST, &uri, &headers)
            .await
            .map_err(|problem| problem.kind())
    }

    #[tokio::test]
    async fn the_first_key_ends_open_mode_at_once_and_revoking_it_does_not_reopen() {
        let (_folder, store) = store();
        let gate = Gate::new(store.clone(), OPEN, None, None);
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
        let (_folder, store) = store();
        let key = Secret::new("0123456789 0123456789 0123456789".to_owned());
        let gate = Gate::new(store, Mode::Keyed, Some(&key), None);
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
        let (_folder, store) = store();
        let off = Gate::new(store.clone(), OPEN, None, None);
        let kind = |asked: Result<(), Problem>| asked.map_err(|problem| problem.kind());
        let good = headers(AUTHORIZATION, "Bearer swordfish");
        assert_eq!(kind(off.admin(&good)), Err(Kind::AdminOff));
        let token = Secret::new("swordfish".to_owned());
        let on = Gate::new(store, OPEN, None, Some(&token));
        assert_eq!(kind(on.admin(&good)), Ok(()));
        let wrong = headers(AUTHORIZATION, "Bearer swordfis");
        assert_eq!(kind(on.admin(&wrong)), Err(Kind::WrongToken));
        assert_eq!(kind(on.admin(&HeaderMap::new())), Err(Kind::Unauthorized));
    }
}
