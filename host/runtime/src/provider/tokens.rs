//! Bearer tokens for client credentials (RFC 6749 section 4.4), each kept until shortly before its end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_types::{MonotonicMillis, Secret};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::authorization::{basic, credential, text};
use super::http::{describe, not_sent, read};
use super::words::{ClientCredentials, Failure};
use super::{Call, Grants};

/// A token is not used in its last minute: it would end on its way.
const BEFORE_ITS_END: Duration = Duration::from_secs(60);
/// How long one is kept that does not say when it ends.
const UNSAID: u64 = 300;
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const TOKEN_BYTES_MAX: usize = 4_096;
/// How many tokens are kept; beyond that all are asked for anew. A provider has one account, so two or
/// three.
const TOKENS_MAX: usize = 16;
/// As the WIT bounds them.
const PARAMETERS_MAX: usize = 8;
const PARAMETERS_BYTES_MAX: usize = 4 * 1024;
/// What the host asks with itself.
const OWN_PARAMETERS: [&str; 4] = ["grant_type", "scope", "client_id", "client_secret"];

/// What is asked for: where, for whom, and what for.
#[derive(PartialEq, Eq, Hash)]
struct Place {
    url: String,
    client: String,
    scope: Option<String>,
    parameters: Vec<(String, String)>,
}

/// The tokens of one provider.
#[derive(Default)]
pub(super) struct Tokens {
    kept: Mutex<HashMap<Place, Token>>,
    /// One asks, and who comes meanwhile waits for that one. Nothing else waits for it: what is known of
    /// a message must not hang on somebody else's question.
    asking: tokio::sync::Mutex<()>,
}

impl Tokens {
    fn kept(&self) -> MutexGuard<'_, HashMap<Place, Token>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, place: &Place, now: MonotonicMillis) -> Option<Secret<String>> {
        let kept = self.kept();
        let token = kept.get(place).filter(|token| now < token.until)?;
        Some(token.text.clone())
    }
}

struct Token {
    text: Secret<String>,
    until: MonotonicMillis,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// Why there is no token.
pub(super) enum NoToken {
    /// The request cannot be made, or got no answer of use. Nothing of the message was sent.
    Failed(Failure),
    /// The credentials were refused.
    Refused,
}

impl From<Failure> for NoToken {
    fn from(failure: Failure) -> NoToken {
        NoToken::Failed(failure)
    }
}

impl Call {
    /// The token for `asked`: the one that is kept, or a new one, which costs the call a request. Who
    /// comes meanwhile waits for that one.
    pub(super) async fn token(
        &mut self,
        asked: &ClientCredentials,
    ) -> wasmtime::Result<Result<Secret<String>, NoToken>> {
        let grants = self.grants.clone();
        let place = match place(&grants, asked) {
            Ok(place) => place,
            Err(failure) => return Ok(Err(failure.into())),
        };
        if let Some(token) = grants.tokens.get(&place, grants.clock.monotonic()) {
            return Ok(Ok(token));
        }
        let _turn = grants.tokens.asking.lock().await;
        let now = grants.clock.monotonic();
        if let Some(token) = grants.tokens.get(&place, now) {
            return Ok(Ok(token));
        }
        self.count_request()?;
        let limit = self.limits.http_request;
        Ok(match ask(&grants, asked, limit).await {
            Ok(answer) => {
                let left = Duration::from_secs(answer.expires_in.unwrap_or(UNSAID));
                let token = Token {
                    text: Secret::new(answer.access_token),
                    until: now + left.saturating_sub(BEFORE_ITS_END),
                };
                let text = token.text.clone();
                let mut kept = grants.tokens.kept();
                if kept.len() >= TOKENS_MAX {
                    kept.clear();
                }
                kept.insert(place, token);
                Ok(text)
            }
            Err(error) => Err(error),
        })
    }
}

/// Forgets `token`, which was given out for `asked` and has been refused; a newer one stays.
pub(super) fn forget(grants: &Grants, asked: &ClientCredentials, token: &str) {
    if let Ok(place) = place(grants, asked) {
        let mut kept = grants.tokens.kept();
        if kept
            .get(&place)
            .is_some_and(|kept| kept.text.expose() == token)
        {
            kept.remove(&place);
        }
    }
}

fn place(grants: &Grants, asked: &ClientCredentials) -> Result<Place, Failure> {
    let client = text(grants, &asked.client_id)?;
    let parameters = &asked.parameters;
    let lengths = parameters
        .iter()
        .map(|(name, value)| name.len() + value.len());
    if parameters.len() > PARAMETERS_MAX || lengths.sum::<usize>() > PARAMETERS_BYTES_MAX {
        return Err(not_sent("too much is asked with for a token"));
    }
    let mut names = parameters.iter().map(|(name, _)| &**name);
    if let Some(name) = names.find(|name| OWN_PARAMETERS.contains(name)) {
        return Err(not_sent(format!("the parameter `{name}` is the host's")));
    }
    Ok(Place {
        url: asked.token_url.clone(),
        client,
        scope: asked.scope.clone(),
        parameters: parameters.clone(),
    })
}

async fn ask(
    grants: &Grants,
    asked: &ClientCredentials,
    limit: Duration,
) -> Result<Answer, NoToken> {
    let request = request(grants, asked, limit)?;
    let failed = |text: &str| NoToken::Failed(not_sent(format!("no token was given out: {text}")));
    let answer = grants.client.execute(request).await;
    let answer = answer.map_err(|error| failed(&describe(&error)))?;
    let status = answer.status();
    if matches!(status.as_u16(), 400 | 401 | 403) {
        return Err(NoToken::Refused);
    }
    if !status.is_success() {
        return Err(failed(&format!("HTTP {status}")));
    }
    let answer = read(answer, ANSWER_BYTES_MAX).await;
    let answer = answer.map_err(|text| failed(&text))?;
    let answer = serde_json::from_slice::<Answer>(&answer.body).ok();
    answer
        .filter(|answer| (1..=TOKEN_BYTES_MAX).contains(&answer.access_token.len()))
        .ok_or_else(|| failed("the answer cannot be read"))
}

fn request(
    grants: &Grants,
    asked: &ClientCredentials,
    limit: Duration,
) -> Result<Request, Failure> {
    let url = Url::parse(&asked.token_url);
    let url = url.map_err(|error| not_sent(format!("the token's URL: {error}")))?;
    grants.hosts.check(&url).map_err(not_sent)?;
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &asked.scope {
        form.append_pair("scope", scope);
    }
    form.extend_pairs(&asked.parameters);
    let secret = credential(grants, &asked.client_secret)?;
    let (name, value) = basic(&text(grants, &asked.client_id)?, secret)?;
    let fixed = HeaderValue::from_static;
    grants
        .client
        .request(Method::POST, url)
        .header(name, value)
        .header(ACCEPT, fixed("application/json"))
        .header(CONTENT_TYPE, fixed("application/x-www-form-urlencoded"))
        .body(form.finish())
        .timeout(limit)
        .build()
        .map_err(|error| not_sent(describe(&error)))
}
