//! `/admin/queue`: what waits, what no provider could take, and sending that once more.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use countersign_queue::MessageView;
use countersign_runtime::ReplayCallError;
use countersign_types::{MessageId, UnixMillis};
use url::form_urlencoded;

use super::answer::{Answer, Judged};
use super::path::Named;
use super::problem::{Kind, Problem};
use super::{Api, Claim, Runtime};
use crate::queue::{self, Page, Status};
use crate::story::Story;

pub(super) async fn status(State(api): State<Arc<Api>>) -> Response {
    with(&api, async |runtime| {
        let status = Status::of(runtime.queue(), runtime.now());
        Ok(Answer::ok(&status))
    })
    .await
}

pub(super) async fn dead(State(api): State<Arc<Api>>, uri: Uri) -> Response {
    with(&api, async |runtime| {
        let (after, limit) = asked(uri.query().unwrap_or_default())?;
        let page = runtime.queue().dead_letters(after, limit, runtime.now());
        Ok(Answer::ok(&Page::from(page.await?)))
    })
    .await
}

/// Which page of dead letters is asked for: after which, and how many.
fn asked(query: &str) -> Result<(Option<MessageId>, usize), Problem> {
    let bad = |detail: &str| Problem::new(Kind::BadRequest, detail);
    let (mut after, mut limit) = (None, queue::PAGE);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "cursor" => {
                let id = value.parse();
                let id = id.map_err(|_| bad("`cursor` must be the `next` of an earlier page."))?;
                after = Some(id);
            }
            "limit" => {
                let number = value.parse().ok();
                let number = number.filter(|number| (1..=queue::PAGE_MAX).contains(number));
                limit = number.ok_or_else(|| bad("`limit` must be a number from 1 to 100."))?;
            }
            _ => return Err(bad("Only `cursor` and `limit` are known here.")),
        }
    }
    Ok((after, limit))
}

pub(super) async fn letter(State(api): State<Arc<Api>>, Named(id): Named) -> Response {
    with(&api, async |runtime| {
        let id = named(&id)?;
        let found = runtime.queue().dead_letter(id, runtime.now()).await?;
        let found = found.ok_or_else(Problem::no_such_message)?;
        Ok(Answer::ok(&Story::from(found)))
    })
    .await
}

pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    Named(id): Named,
    claim: Option<Extension<Claim>>,
) -> Response {
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let id = match named(&id) {
        Ok(id) => id,
        Err(problem) => return problem.into_response(),
    };
    let call = async move |once| {
        let replayed = runtime.replay(id, once).await?;
        tracing::info!(message = %id, "a dead message waits again");
        Ok::<_, ReplayCallError>(replayed)
    };
    api.answer(claim.map(|Extension(claim)| claim), replayed, call)
        .await
}

fn replayed(view: &MessageView, _: UnixMillis) -> Judged {
    Ok(Answer::accepted(&Story::from(view.clone())))
}

async fn with(api: &Api, work: impl AsyncFnOnce(&Runtime) -> Result<Answer, Problem>) -> Response {
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    match work(&runtime).await {
        Ok(answer) => answer.into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn named(id: &str) -> Result<MessageId, Problem> {
    id.parse().map_err(|_| Problem::no_such_message())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, want: Result<(Option<MessageId>, usize), ()>) {
        assert_eq!(asked(query).map_err(|_| ()), want, "{query}");
    }

    #[test]
    fn a_page_has_1_to_100_letters_after_a_cursor() {
        let id = MessageId([0xab; 16]);
        check("", Ok((None, 50)));
        check("limit=1", Ok((None, 1)));
        check(&format!("limit=100&cursor={id}"), Ok((Some(id), 100)));
        for wrong in ["limit=0", "limit=101", "limit=x", "cursor=1", "page=2"] {
            check(wrong, Err(()));
        }
    }
}
