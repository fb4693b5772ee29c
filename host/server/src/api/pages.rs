//! `/dashboard`: pages for people, behind a login with the administrator's token.
//!
//! A browser has a cookie, a program the token itself, as for `/admin`. What changes something is a form,
//! and is taken from our own pages alone. `login` lets people in and out, `overview` are the figures,
//! `messages` is for who looks for one.

mod login;
mod messages;
mod overview;

use axum::body::Body;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::uri::{Authority, PathAndQuery};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use url::form_urlencoded;

use super::path::Named;
use super::problem::{Kind, Problem};
use super::requests::Routes;
use super::{Api, body};
use crate::page::Session;
use crate::page::asset::Asset;
use crate::page::shell::{self, Place};

const DASHBOARD: &str = "/dashboard";
const LOGIN: &str = "/dashboard/login";
/// A token and a path.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Nothing but what this server sends, no script or style inside a page, no frame around one.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
);
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// `routes`, and those of the pages.
pub(super) fn add(routes: Routes) -> Routes {
    messages::add(routes)
        .route(DASHBOARD, get(overview::page))
        .route("/dashboard/figures.json", get(overview::json))
        .route("/dashboard/{file}", get(overview::sheet))
        .route(LOGIN, get(login::form).post(login::login))
        .route("/dashboard/logout", post(login::logout))
        .route("/dashboard/assets/{name}", get(asset))
}

/// What every answer under `/dashboard` says to a browser.
pub(super) fn secure(headers: &mut HeaderMap) {
    let name = HeaderName::from_static;
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // With "no-referrer" our own forms would have no origin.
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (
            name("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        ),
        (
            name("cross-origin-resource-policy"),
            HeaderValue::from_static("same-origin"),
        ),
    ] {
        headers.insert(name, value);
    }
    // Assets say for themselves that they may be kept.
    let kept = headers.entry(CACHE_CONTROL);
    kept.or_insert(HeaderValue::from_static("no-store"));
}

async fn asset(Named(name): Named) -> Response {
    let Some(asset) = Asset::named(&name) else {
        let text = "There is no such file in this version.";
        return Problem::new(Kind::NotFound, text).into_response();
    };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(asset.media_type)),
        // Another content has another name.
        (
            CACHE_CONTROL,
            HeaderValue::from_static("public, max-age=31536000, immutable"),
        ),
    ];
    (headers, asset.content).into_response()
}

/// Why somebody is not let in.
enum Refusal {
    /// There is no token that anybody could have.
    Off,
    /// Nobody has logged in here.
    Nobody,
    Problem(Problem),
}

impl Refusal {
    /// For a browser that wants the page at `uri`.
    fn into_page(self, uri: &Uri) -> Response {
        match self {
            Refusal::Off => switched_off(),
            Refusal::Nobody => {
                let next = uri.path_and_query().map_or(DASHBOARD, PathAndQuery::as_str);
                let mut query = form_urlencoded::Serializer::new(String::new());
                query.append_pair("next", next);
                see(&format!("{LOGIN}?{}", query.finish()))
            }
            Refusal::Problem(problem) => problem.into_response(),
        }
    }

    /// For what is no page.
    fn into_program(self) -> Response {
        let problem = match self {
            Refusal::Off => Problem::admin_off(),
            Refusal::Nobody => Problem::new(
                Kind::Unauthorized,
                "Log in at /dashboard, or send the administrator's token: `Authorization: Bearer TOKEN`.",
            ),
            Refusal::Problem(problem) => problem,
        };
        problem.into_response()
    }
}

/// Lets in who has a session, or sends the token itself.
async fn enter(api: &Api, headers: &HeaderMap) -> Result<(), Refusal> {
    if !api.gate.has_admin() {
        return Err(Refusal::Off);
    }
    if headers.contains_key(AUTHORIZATION) {
        return api.gate.admin(headers).map_err(Refusal::Problem);
    }
    match session(api, headers).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(Refusal::Nobody),
        Err(problem) => Err(Refusal::Problem(problem)),
    }
}

async fn session(api: &Api, headers: &HeaderMap) -> Result<Option<Session>, Problem> {
    let found = api.pages.sessions.find(headers, api.gate.now()).await;
    found.map_err(Problem::from)
}

/// The fields of a form that one of our own pages has sent.
async fn fields(api: &Api, parts: &Parts, unread: Body) -> Result<Vec<(String, String)>, Problem> {
    if !is_our_own(&parts.uri, &parts.headers) {
        body::discard(parts.version, unread).await;
        let detail = "The form was sent by a page of another site; open /dashboard and try again.";
        return Err(Problem::new(Kind::ForeignForm, detail));
    }
    let read = body::read(parts, unread, FORM_BYTES_MAX, api.http.body_time);
    let bytes = read.await?;
    Ok(form_urlencoded::parse(&bytes).into_owned().collect())
}

/// Whether a form was sent by one of our own pages, or by no browser at all. Browsers say so themselves
/// (Fetch Metadata); those that do not, or over plain HTTP, name the page's origin.
fn is_our_own(uri: &Uri, headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get(SEC_FETCH_SITE) {
        return site == "same-origin" || site == "none";
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    let named = headers.get(HOST).and_then(|host| host.to_str().ok());
    let named = uri.authority().map(Authority::as_str).or(named);
    match (origin, named) {
        (Some((_, origin)), Some(named)) => origin.eq_ignore_ascii_case(named),
        _ => false,
    }
}

fn see(path: &str) -> Response {
    let location = HeaderValue::from_str(path).unwrap_or(HeaderValue::from_static(DASHBOARD));
    (StatusCode::SEE_OTHER, [(LOCATION, location)], Body::empty()).into_response()
}

fn html(page: String) -> Response {
    let media_type = HeaderValue::from_static("text/html; charset=utf-8");
    ([(CONTENT_TYPE, media_type)], page).into_response()
}

/// A problem as a page.
fn notice(place: Place, problem: Problem) -> Response {
    let shown = shell::notice(place, problem.title(), problem.detail());
    problem.shown(shown)
}

fn switched_off() -> Response {
    Problem::admin_off().shown(shell::switched_off())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_taken_from_our_own_pages_and_from_programs() {
        let ours = |given: &[(HeaderName, &'static str)]| {
            let given = given.iter().cloned();
            let headers = given.map(|(name, value)| (name, HeaderValue::from_static(value)));
            is_our_own(&Uri::from_static(LOGIN), &headers.collect())
        };
        let host = (HOST, "sms.example:8080");
        assert!(ours(std::slice::from_ref(&host)));
        for site in ["same-origin", "none"] {
            assert!(ours(&[host.clone(), (SEC_FETCH_SITE, site)]), "{site}");
        }
        for site in ["cross-site", "same-site", ""] {
            let origin = (ORIGIN, "http://sms.example:8080");
            assert!(
                !ours(&[host.clone(), origin, (SEC_FETCH_SITE, site)]),
                "{site}"
            );
        }
        assert!(ours(&[host.clone(), (ORIGIN, "https://SMS.example:8080")]));
        for origin in ["https://sms.example", "https://evil.example", "null", ""] {
            assert!(!ours(&[host.clone(), (ORIGIN, origin)]), "{origin}");
        }
        assert!(!ours(&[(ORIGIN, "https://sms.example:8080")]));
    }
}
