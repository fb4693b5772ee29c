//! Bearer tokens for client credentials (RFC 6749 section 4.4), each kept until shortly before its end.

use std::collections::HashMap;
use std::time::Duration;

use countersign_types::{MonotonicMillis, Secret};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::{Url, form_urlencoded};

use super::authorization::{basic, credential, text};
use super::http::{describe, not_sent, read};
use super::since_v0_1::wit::http::{ClientCredentials, Failure};
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

/// What is asked for: where, for whom, and what for.
type Place = (String, String, Option<String>);

/// The tokens of one provider.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Place, Token>>);

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
        let mut known = grants.tokens.0.lock().await;
        let now = grants.clock.monotonic();
        if let Some(token) = known.get(&place).filter(|token| now < token.until) {
            return Ok(Ok(token.text.clone()));
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
                if known.len() >= TOKENS_MAX {
                    known.clear();
                }
                known.insert(place, token);
                Ok(text)
            }
            Err(error) => Err(error),
        })
    }
}

/// Forgets the token for `asked`, which was refused.
pub(super) async fn forget(grants: &Grants, asked: &ClientCredentials) {
    if let Ok(place) = place(grants, asked) {
        grants.tokens.0.lock().await.remove(&place);
    }
}

fn place(grants: &Grants, asked: &ClientCredentials) -> Result<Place, Failure> {
    let client = text(grants, &asked.client_id)?;
    Ok((asked.token_url.clone(), client, asked.scope.clone()))
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
