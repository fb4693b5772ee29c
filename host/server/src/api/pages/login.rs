//! In and out.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::Response;
use url::form_urlencoded;

use super::{DASHBOARD, LOGIN, Refusal, enter, fields, html, notice, see, session, switched_off};
use crate::api::problem::{Kind, Problem};
use crate::api::{Api, body};
use crate::page::shell::{self, Place};

const NEXT_BYTES_MAX: usize = 2_000;

/// The form of the login.
pub(super) async fn form(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap) -> Response {
    let next = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
    let next = next.into_owned().find(|(name, _)| name == "next");
    let next = next.map_or_else(String::new, |(_, next)| next);
    match enter(&api, &headers).await {
        Ok(()) => see(inside(&next)),
        Err(Refusal::Nobody) => html(shell::login(inside(&next), None)),
        Err(refusal) => refusal.into_page(&uri),
    }
}

pub(super) async fn login(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, unread) = request.into_parts();
    if !api.gate.has_admin() {
        body::discard(parts.version, unread).await;
        return switched_off();
    }
    let fields = match fields(&api, &parts, unread).await {
        Ok(fields) => fields,
        Err(problem) => return notice(Place::Outside, problem),
    };
    let field = |name: &str| {
        let found = fields.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let (token, next) = (field("token"), inside(field("next")));
    if let Err(wait) = api.pages.tries.begin() {
        return too_many(next, wait);
    }
    if !api.gate.is_admin(token.trim().as_bytes()) {
        tracing::warn!("a wrong token was typed into the login form of the dashboard");
        let text = "This is not the administrator’s token. An API key is another thing.";
        let problem = Problem::new(Kind::WrongToken, text);
        return problem.shown(shell::login(next, Some(text)));
    }
    api.pages.tries.was_right();
    match api.pages.sessions.begin(api.random_id(), api.gate.now()) {
        Ok(cookie) => {
            tracing::info!("somebody has logged in to the dashboard");
            with_cookie(see(next), cookie)
        }
        Err(error) => notice(Place::Outside, error.into()),
    }
}

fn too_many(next: &str, wait: Duration) -> Response {
    let problem = Problem::too_many_logins(wait);
    let shown = shell::login(next, Some(problem.detail()));
    problem.shown(shown)
}

pub(super) async fn logout(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, unread) = request.into_parts();
    if let Err(problem) = fields(&api, &parts, unread).await {
        return notice(Place::Outside, problem);
    }
    let session = match session(&api, &parts.headers).await {
        Ok(Some(session)) => session,
        Ok(None) => return see(LOGIN),
        Err(problem) => return notice(Place::Outside, problem),
    };
    match api.pages.sessions.end(&session, api.gate.now()).await {
        Ok(cookie) => with_cookie(see(LOGIN), cookie),
        Err(error) => notice(Place::Outside, error.into()),
    }
}

fn with_cookie(mut response: Response, cookie: HeaderValue) -> Response {
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// Where a login may lead: to our own pages, whatever the form says.
fn inside(next: &str) -> &str {
    let rest = next.strip_prefix(DASHBOARD);
    let is_ours = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let is_plain = next
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_ours && is_plain && next.len() <= NEXT_BYTES_MAX {
        next
    } else {
        DASHBOARD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_our_own_pages_only() {
        let long = format!("/dashboard?{}", "x".repeat(NEXT_BYTES_MAX));
        for (next, want) in [
            ("/dashboard?start=2026-01-01", "/dashboard?start=2026-01-01"),
            ("/dashboard/messages", "/dashboard/messages"),
            ("", DASHBOARD),
            ("/dashboardx", DASHBOARD),
            ("//evil.example/dashboard", DASHBOARD),
            ("https://evil.example/dashboard", DASHBOARD),
            ("/dashboard/\\evil.example", DASHBOARD),
            ("/dashboard\r\nSet-Cookie: x=y", DASHBOARD),
            (long.as_str(), DASHBOARD),
        ] {
            assert_eq!(inside(next), want, "{next}");
        }
    }
}
