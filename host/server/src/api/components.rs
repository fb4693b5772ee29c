//! `/admin/components`: which versions there are, and installing another one.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use countersign_runtime::{By, InstallError, Plan, Record, Registry};
use countersign_types::UnixMillis;
use serde_json::json;
use url::form_urlencoded;

use super::answer::{Answer, Judged};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::{Api, Claim, body};
use crate::components::{ComponentShown, InstalledShown};

pub(super) async fn list(State(api): State<Arc<Api>>) -> Response {
    with(&api, async |registry| {
        let all = ComponentShown::all(&registry.list().await?);
        Ok(Answer::ok(&json!({ "components": all })))
    })
    .await
}

pub(super) async fn show(State(api): State<Arc<Api>>, Named(name): Named) -> Response {
    with(&api, async |registry| {
        let record = registry.record(&name).await?;
        Ok(Answer::ok(&ComponentShown::of(&name, &record)))
    })
    .await
}

/// The body is the component. It is installed to its end, also when the client has gone.
pub(super) async fn install(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    request: Request,
) -> Response {
    let (parts, unread) = request.into_parts();
    let asked = async {
        let registry = api.registry().ok_or_else(Problem::starting)?;
        check_wasm(&parts.headers)?;
        let canary = canary(&parts.uri)?;
        let room = registry.room_to_read()?;
        Ok::<_, Problem>((registry, canary, room))
    };
    let (registry, canary, room) = match asked.await {
        Ok(asked) => asked,
        Err(problem) => return body::refuse(&parts, unread, problem).await,
    };
    // A larger one is told by the registry, in its own words.
    let bytes_max = usize::try_from(registry.bytes_max()).unwrap_or(usize::MAX);
    let read = body::read(&parts, unread, bytes_max, api.http.request_time);
    let bytes = match read.await {
        Ok(bytes) => bytes,
        Err(problem) => return problem.into_response(),
    };
    let plan = Plan {
        by: By::Administrator,
        canary,
    };
    let installing = async move {
        let installed = registry.install(&name, bytes.into(), plan, &|_| {}).await;
        drop(room);
        installed.map(|installed| InstalledShown::of(&name, &installed))
    };
    match api.run_to_its_end(installing).await {
        Ok(Ok(shown)) => Answer::ok(&shown).into_response(),
        Ok(Err(error)) => Problem::from(error).into_response(),
        Err(problem) => problem.into_response(),
    }
}

pub(super) async fn roll_back(
    State(api): State<Arc<Api>>,
    Named(name): Named,
    claim: Option<Extension<Claim>>,
) -> Response {
    let (Some(registry), Some(runtime)) = (api.registry(), api.runtime()) else {
        return Problem::starting().into_response();
    };
    let component = name.clone();
    let judge = move |record: &Record, _: UnixMillis| -> Judged {
        Ok(Answer::ok(&ComponentShown::of(&component, record)))
    };
    let call = async move |once| {
        let record = registry.roll_back(&name, once).await?;
        Ok::<_, InstallError>((record, runtime.now()))
    };
    api.answer(claim.map(|Extension(claim)| claim), judge, call)
        .await
}

fn check_wasm(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = value.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/wasm") {
        return Ok(());
    }
    let detail = "Send the component's bytes, with the header `Content-Type: application/wasm`.";
    Err(Problem::new(Kind::NotWasm, detail))
}

/// The share that the version is to have.
fn canary(uri: &Uri) -> Result<Option<u8>, Problem> {
    let bad = |detail| Problem::new(Kind::BadRequest, detail);
    let mut canary = None;
    for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
        if name != "canary" {
            return Err(bad("Only `canary` is known here."));
        }
        let percent = value
            .parse()
            .ok()
            .filter(|percent| (1..=99).contains(percent));
        canary = Some(percent.ok_or_else(|| bad("`canary` must be a number from 1 to 99."))?);
    }
    Ok(canary)
}

async fn with(
    api: &Api,
    work: impl AsyncFnOnce(&Registry) -> Result<Answer, InstallError>,
) -> Response {
    let Some(registry) = api.registry() else {
        return Problem::starting().into_response();
    };
    match work(&registry).await {
        Ok(answer) => answer.into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_share_is_1_to_99_percent() {
        let check = |query: &str, want: Result<Option<u8>, Kind>| {
            let uri = format!("/admin/components/otp{query}")
                .parse()
                .expect("a URI");
            let found = canary(&uri).map_err(|problem| problem.kind());
            assert_eq!(found, want, "{query}");
        };
        check("", Ok(None));
        check("?canary=1", Ok(Some(1)));
        check("?canary=99", Ok(Some(99)));
        for wrong in ["?canary=0", "?canary=100", "?canary=x", "?share=1"] {
            check(wrong, Err(Kind::BadRequest));
        }
    }

    #[test]
    fn only_wasm_is_taken() {
        let check = |value: &'static str, want: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(check_wasm(&headers).is_ok(), want, "{value}");
        };
        check("application/wasm", true);
        check("Application/WASM; x=y", true);
        check("application/octet-stream", false);
        check("application/json", false);
        assert!(check_wasm(&HeaderMap::new()).is_err());
    }
}
