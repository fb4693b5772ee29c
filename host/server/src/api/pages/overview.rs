//! Figures: the page, and the same as files.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};

use super::{enter, html, notice};
use crate::api::answer::Answer;
use crate::api::figures::{Query, Report};
use crate::api::path::Named;
use crate::api::problem::{Kind, Problem, Refused};
use crate::api::{Api, analytics};
use crate::dashboard::{Dashboard, Range};
use crate::page::shell::Place;
use crate::page::{Overview, Sheet, Shown, View, fitting};

pub(super) async fn page(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(refusal) = enter(&api, &headers).await {
        return refusal.into_page(&uri);
    }
    let view = View::of(uri.query().unwrap_or(""));
    let show = |shown| {
        let (now, providers) = (api.gate.now(), api.pages.providers.as_slice());
        Overview {
            view: &view,
            providers,
            now,
            shown,
        }
        .page()
    };
    match look(&api, &view).await {
        Ok((range, report)) => html(show(Shown::Figures(&range, &report))),
        Err(Failed::Refused(Refused { error, field })) => {
            let shown = show(Shown::Refused(field.as_deref().unwrap_or(""), &error));
            Problem::new(Kind::BadRequest, error).shown(shown)
        }
        Err(Failed::Problem(problem)) => notice(Place::Dashboard, problem),
    }
}

pub(super) async fn json(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(refusal) = enter(&api, &headers).await {
        return refusal.into_program();
    }
    match look(&api, &View::of(uri.query().unwrap_or(""))).await {
        Ok((range, report)) => {
            let response = Answer::ok(&Dashboard::new(&range, report)).into_response();
            as_file("countersign.json", response)
        }
        Err(failed) => failed.into_response(),
    }
}

pub(super) async fn sheet(
    State(api): State<Arc<Api>>,
    Named(file): Named,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let name = file.strip_suffix(".csv");
    let Some((name, make)) = name.and_then(|name| Some((name, Sheet::named(name)?))) else {
        let text = "There is no page here.";
        return notice(Place::Outside, Problem::new(Kind::NotFound, text));
    };
    if let Err(refusal) = enter(&api, &headers).await {
        return refusal.into_program();
    }
    match look(&api, &View::of(uri.query().unwrap_or(""))).await {
        Ok((range, report)) => {
            let text = make(&report, range.interval).csv();
            let media_type = HeaderValue::from_static("text/csv; charset=utf-8; header=present");
            let response = ([(CONTENT_TYPE, media_type)], text).into_response();
            as_file(&format!("countersign-{name}.csv"), response)
        }
        Err(failed) => failed.into_response(),
    }
}

/// An answer that a browser keeps in a file.
fn as_file(name: &str, mut response: Response) -> Response {
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    response
}

/// Why there are no figures.
enum Failed {
    /// What was asked for cannot be.
    Refused(Refused),
    Problem(Problem),
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        match self {
            Failed::Refused(refused) => Problem::of_field(refused).into_response(),
            Failed::Problem(problem) => problem.into_response(),
        }
    }
}

/// The figures that an address asks for.
async fn look(api: &Api, view: &View) -> Result<(Range, Report), Failed> {
    let (range, query) = asked(view, api).map_err(Failed::Refused)?;
    let runtime = api.runtime();
    let runtime = runtime.ok_or_else(|| Failed::Problem(Problem::starting()))?;
    let report = runtime.dashboard(&query).await;
    let report = report.map_err(|error| Failed::Problem(error.into()))?;
    Ok((range, report))
}

fn asked(view: &View, api: &Api) -> Result<(Range, Query), Refused> {
    let (mut range, mut query) = analytics::read(&view.question(api.gate.now()))?;
    if view.is_automatic() {
        range.interval = fitting(range.start, range.end);
        query.interval = range.interval;
    }
    Ok((range, query))
}
