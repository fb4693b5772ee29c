//! Who has logged in: a cookie that says until when, sealed.
//!
//! It holds nothing of the token, and is bound to it: with another token, or on another host's keys, it
//! is none. A login writes nothing, so that one can look at a server whose disk is full; a logout leaves
//! a row for as long as the cookie would have been good, so it ends in every process and for good.

use std::sync::Arc;
use std::time::Duration;

use axum::http::header::COOKIE;
use axum::http::{HeaderMap, HeaderValue};
use countersign_store::{
    Body, CommitError, Ending, Keyring, Rulings, Section, Store, StoreError, Transaction,
    TransactionError,
};
use countersign_types::{Secret, UnixMillis};
use serde::{Deserialize, Serialize};

use super::ticket::{Tickets, Unsealable};

/// How long a login lasts, whatever is done in it.
pub(crate) const SESSION_TIME: Duration = Duration::from_secs(12 * 3_600);
/// What it is sealed for. No row has this key.
const PURPOSE: &[u8] = b"dashboard session 1";
/// Rows of sessions that were ended before their time.
const PREFIX: &[u8] = b"s/";
const STATE: u32 = 1;
/// Cookies of our name that are looked at: a browser sends one.
const COOKIES_MAX: usize = 4;
const RUNS_MAX: usize = 8;

/// A login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Session {
    id: [u8; 16],
    ends: UnixMillis,
}

/// Why a session was not begun or ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Unsealable(#[from] Unsealable),
    #[error("the disk is nearly full")]
    Full,
    #[error("other changes came between again and again")]
    Busy,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TransactionError> for SessionError {
    fn from(error: TransactionError) -> SessionError {
        match error {
            TransactionError::Store(error) => SessionError::Store(error),
            _ => SessionError::Busy,
        }
    }
}

/// Begins sessions, knows them again, and ends them.
pub(crate) struct Sessions {
    store: Arc<dyn Store>,
    tickets: Tickets,
    secure: bool,
}

impl Sessions {
    /// Sessions of who has `admin_token`. Where browsers come by `https`, cookies are for that alone.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        admin_token: Option<&Secret<String>>,
        secure: bool,
    ) -> Sessions {
        Sessions {
            store,
            tickets: Tickets::new(keyring, PURPOSE, admin_token),
            secure,
        }
    }

    /// The cookie of a session `id` that begins at `now`.
    ///
    /// # Errors
    ///
    /// When it cannot be sealed.
    pub(crate) fn begin(&self, id: [u8; 16], now: UnixMillis) -> Result<HeaderValue, SessionError> {
        let ends = now + SESSION_TIME;
        let sealed = self.tickets.seal(&Session { id, ends })?;
        Ok(self.cookie(&sealed, SESSION_TIME))
    }

    /// The session of a request, where it has one that is not over.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(crate) async fn find(
        &self,
        headers: &HeaderMap,
        now: UnixMillis,
    ) -> Result<Option<Session>, StoreError> {
        let cookies = headers.get_all(COOKIE).into_iter();
        let cookies = cookies.filter_map(|header| header.to_str().ok());
        let pairs = cookies.flat_map(|header| header.split(';'));
        let ours = pairs.filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == self.name()).then_some(value)
        });
        for value in ours.take(COOKIES_MAX) {
            let session: Option<Session> = self.tickets.open(value);
            let Some(session) = session.filter(|session| now < session.ends) else {
                continue;
            };
            if !self.was_ended(&session, now).await? {
                return Ok(Some(session));
            }
        }
        Ok(None)
    }

    /// Ends a session for good, and returns what makes the browser forget its cookie.
    ///
    /// # Errors
    ///
    /// When it cannot be written down: the session goes on.
    pub(crate) async fn end(
        &self,
        session: &Session,
        now: UnixMillis,
    ) -> Result<HeaderValue, SessionError> {
        for _ in 0..RUNS_MAX {
            let mut run = Transaction::new(self.store.clone(), now, Rulings::default());
            let ended = Section {
                state: STATE,
                expires: Some(session.ends),
                value: Vec::new(),
            };
            run.set_host(&row_key(session), Some(ended)).await?;
            match self.store.commit(run.into_commit(Ending::Commit)).await {
                Ok(_) => return Ok(self.cookie("", Duration::ZERO)),
                Err(CommitError::Stale) => {}
                Err(CommitError::Full) => return Err(SessionError::Full),
                Err(CommitError::Store(error)) => return Err(error.into()),
                Err(_) => break,
            }
        }
        Err(SessionError::Busy)
    }

    async fn was_ended(&self, session: &Session, now: UnixMillis) -> Result<bool, StoreError> {
        let row = self.store.get(&row_key(session)).await?;
        Ok(row.is_some_and(|row| match row.body {
            Body::Sections(sections) => sections.host.is_some_and(|host| host.live(now)),
            _ => false,
        }))
    }

    /// With the prefix a browser takes it from this host by `https` only (RFC 6265bis, 4.1.3).
    fn name(&self) -> &'static str {
        if self.secure {
            "__Host-countersign"
        } else {
            "countersign"
        }
    }

    fn cookie(&self, value: &str, time: Duration) -> HeaderValue {
        let (name, seconds) = (self.name(), time.as_secs());
        let secure = if self.secure { "; Secure" } else { "" };
        let text =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        // Base64 and numbers are always a header's value.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

fn row_key(session: &Session) -> Vec<u8> {
    [PREFIX, &session.id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keyring, store};

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    fn token(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn sessions(folder: &tempfile::TempDir, store: &Arc<dyn Store>, secure: bool) -> Sessions {
        let keyring = keyring(folder.path());
        Sessions::new(store.clone(), keyring, Some(&token("swordfish")), secure)
    }

    /// What a browser sends back.
    fn sent(cookie: &HeaderValue) -> HeaderMap {
        let text = cookie.to_str().expect("text");
        let pair = text.split(';').next().expect("a pair");
        let value = HeaderValue::from_str(&format!("theme=dark; {pair}")).expect("a header");
        HeaderMap::from_iter([(COOKIE, value)])
    }

    #[tokio::test]
    async fn a_session_is_known_again_until_its_end() {
        let (folder, store) = store();
        let sessions = sessions(&folder, &store, false);
        let cookie = sessions.begin([7; 16], NOW).expect("sealed");
        let headers = sent(&cookie);
        let ends = NOW + SESSION_TIME;
        let session = Session { id: [7; 16], ends };
        let last = UnixMillis(ends.0 - 1);
        assert_eq!(
            sessions.find(&headers, last).await.expect("read"),
            Some(session)
        );
        assert_eq!(sessions.find(&headers, ends).await.expect("read"), None);
        let none = HeaderMap::new();
        assert_eq!(sessions.find(&none, NOW).await.expect("read"), None);
    }

    #[tokio::test]
    async fn an_ended_session_is_none_in_any_process() {
        let (folder, store) = store();
        let sessions = sessions(&folder, &store, false);
        let (one, other) = ([1; 16], [2; 16]);
        let [one, other] = [one, other].map(|id| sent(&sessions.begin(id, NOW).expect("sealed")));
        let session = sessions.find(&one, NOW).await.expect("read");
        let gone = sessions
            .end(&session.expect("one"), NOW)
            .await
            .expect("ended");
        assert!(
            gone.to_str()
                .expect("text")
                .contains("countersign=; Path=/; Max-Age=0;")
        );
        let second = self::sessions(&folder, &store, false);
        for sessions in [&sessions, &second] {
            assert_eq!(sessions.find(&one, NOW).await.expect("read"), None);
            assert!(sessions.find(&other, NOW).await.expect("read").is_some());
        }
    }

    #[tokio::test]
    async fn a_cookie_of_another_token_is_none() {
        let (folder, store) = store();
        let cookie = sessions(&folder, &store, false).begin([7; 16], NOW);
        let headers = sent(&cookie.expect("sealed"));
        for (admin, is_known) in [
            (Some(token("swordfish")), true),
            (Some(token("swordfisH")), false),
            (None, false),
        ] {
            let keyring = keyring(folder.path());
            let sessions = Sessions::new(store.clone(), keyring, admin.as_ref(), false);
            let found = sessions.find(&headers, NOW).await.expect("read");
            assert_eq!(found.is_some(), is_known, "{admin:?}");
        }
    }

    #[test]
    fn a_cookie_is_for_no_script_and_no_other_site_and_behind_https_for_that_alone() {
        let (folder, store) = store();
        for (secure, name, end) in [
            (false, "countersign=", "; HttpOnly; SameSite=Strict"),
            (
                true,
                "__Host-countersign=",
                "; HttpOnly; SameSite=Strict; Secure",
            ),
        ] {
            let cookie = sessions(&folder, &store, secure).begin([7; 16], NOW);
            let cookie = cookie.expect("sealed");
            let text = cookie.to_str().expect("text");
            assert!(text.starts_with(name) && text.ends_with(end), "{text}");
            assert!(text.contains("; Path=/; Max-Age=43200"), "{text}");
        }
    }
}
