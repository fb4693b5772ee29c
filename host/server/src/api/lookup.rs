//! `/admin/messages`: messages by number and time, one of them, and the whole number of one; and
//! `/admin/audit`: who has looked for a number, looked at a whole one, and erased one.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use countersign_types::{MessageId, UnixMillis};
use url::form_urlencoded;

use super::admitted::Administered;
use super::answer::{Answer, Judged};
use super::fields::{Fields, PHONE_BYTES_MAX};
use super::messages::no_such_phone;
use super::path::Named;
use super::problem::{Kind, Problem, Refused};
use super::{Api, AuditCursor, Claim, MessageSearch, Revealed, Runtime};
use crate::lookup::{self, Page, WithNumber};
use crate::users::{Trail, operator};

const TIME_BYTES_MAX: usize = 40;
const CURSOR_BYTES_MAX: usize = 32;
/// Entries of the trail on a page where nothing is said.
const TRAIL_PAGE: usize = 50;
/// And at most.
const TRAIL_PAGE_MAX: usize = 200;

/// Changes nothing but the trail, where it is by a number, so an idempotency key stays free.
pub(super) async fn search(State(api): State<Arc<Api>>, request: Request) -> Response {
    let fields = match Administered::read(&api, request).await {
        Ok(Administered { fields }) => fields,
        Err(denied) => return denied.into_problem(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let search = match read(fields, &runtime) {
        Ok(search) => search,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    let operator = operator();
    let found = runtime.find_messages(&operator, &search, "http");
    match found.await {
        Ok(page) => Answer::ok(&Page::from(page)).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

fn read(mut fields: Fields, runtime: &Runtime) -> Result<MessageSearch, Refused> {
    let phone = fields.optional_text("phoneNumber", PHONE_BYTES_MAX)?;
    let number = phone.map(|phone| runtime.parse_phone(&phone)).transpose();
    let (from, to) = span(&mut fields)?;
    let search = MessageSearch {
        number: number.map_err(|error| no_such_phone("phoneNumber", error))?,
        from,
        to,
        after: cursor(&mut fields)?,
        limit: limit(&mut fields)?,
    };
    // A field that is spelt wrongly would find everything.
    fields.nothing_else()?;
    Ok(search)
}

/// From when on and until when messages were accepted.
fn span(fields: &mut Fields) -> Result<(UnixMillis, UnixMillis), Refused> {
    let mut time = |name: &str| {
        let text = fields.optional_text(name, TIME_BYTES_MAX)?;
        let time = text.map(|text| text.parse::<UnixMillis>()).transpose();
        time.map_err(|_| {
            let error = format!("`{name}` must be a time such as 2026-01-31T12:00:00Z (RFC 3339)");
            Refused::field(name, error)
        })
    };
    let from = time("start")?.unwrap_or(UnixMillis(0));
    let to = time("end")?.unwrap_or(UnixMillis(u64::MAX));
    if from >= to {
        let error = "`end` must be after `start`; messages accepted before it are found";
        return Err(Refused::field("end", error));
    }
    Ok((from, to))
}

fn cursor(fields: &mut Fields) -> Result<Option<MessageId>, Refused> {
    let text = fields.optional_text("cursor", CURSOR_BYTES_MAX)?;
    let id = text.map(|text| text.parse()).transpose();
    id.map_err(|_| Refused::field("cursor", "`cursor` must be the `next` of an earlier page"))
}

fn limit(fields: &mut Fields) -> Result<usize, Refused> {
    let limit = fields.optional_whole("limit", 1..=lookup::PAGE_MAX as u64)?;
    Ok(limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(lookup::PAGE))
}

pub(super) async fn reveal(
    State(api): State<Arc<Api>>,
    Named(id): Named,
    claim: Option<Extension<Claim>>,
) -> Response {
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let Ok(id) = id.parse::<MessageId>() else {
        return Problem::no_such_message().into_response();
    };
    let judge = move |revealed: &Revealed, _: UnixMillis| revealed_as(id, revealed);
    let call = async move |once| runtime.reveal_number(&operator(), id, "http", once).await;
    api.answer(claim.map(|Extension(claim)| claim), judge, call)
        .await
}

fn revealed_as(id: MessageId, revealed: &Revealed) -> Judged {
    match revealed {
        Revealed::Number(number) => Ok(Answer::ok(&WithNumber {
            id: id.to_string(),
            phone_number: number.expose().clone(),
        })
        .secret()),
        Revealed::Absent => Err(Problem::no_such_message()),
    }
}

pub(super) async fn trail(State(api): State<Arc<Api>>, uri: Uri) -> Response {
    let (after, limit) = match asked(uri.query().unwrap_or_default()) {
        Ok(asked) => asked,
        Err(problem) => return problem.into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    match runtime.messages_trail(after, limit).await {
        Ok(page) => Answer::ok(&Trail::from(page)).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Which page of the trail: after which entry, and how many.
fn asked(query: &str) -> Result<(Option<AuditCursor>, usize), Problem> {
    let bad = |detail: &str| Problem::new(Kind::BadRequest, detail);
    let (mut after, mut limit) = (None, TRAIL_PAGE);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "cursor" => {
                let cursor = value.parse();
                let cursor =
                    cursor.map_err(|_| bad("`cursor` must be the `next` of an earlier page."))?;
                after = Some(cursor);
            }
            "limit" => {
                let number = value.parse().ok();
                let number = number.filter(|number| (1..=TRAIL_PAGE_MAX).contains(number));
                limit = number.ok_or_else(|| bad("`limit` must be a number from 1 to 200."))?;
            }
            _ => return Err(bad("Only `cursor` and `limit` are known here.")),
        }
    }
    Ok((after, limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(body: Value) -> Fields {
        Fields::parse(body.to_string().as_bytes()).expect("an object")
    }

    #[track_caller]
    fn check_span(body: Value, want: Result<(u64, u64), &str>) {
        let got = span(&mut fields(body.clone()));
        let got = got.map_err(|refused| refused.field.unwrap_or_default());
        let want = want.map(|(from, to)| (UnixMillis(from), UnixMillis(to)));
        assert_eq!(got, want.map_err(str::to_owned), "{body}");
    }

    #[test]
    fn a_span_is_half_open_and_whatever_is_left_out_is_no_bound() {
        check_span(json!({}), Ok((0, u64::MAX)));
        let start = "2026-01-31T12:00:00Z";
        let from = 1_769_860_800_000;
        check_span(json!({"start": start}), Ok((from, u64::MAX)));
        check_span(
            json!({"end": "2026-01-31T12:00:01Z", "start": start}),
            Ok((from, from + 1_000)),
        );
        check_span(json!({"end": start, "start": start}), Err("end"));
        check_span(json!({"start": "yesterday"}), Err("start"));
        check_span(json!({"end": 5}), Err("end"));
    }

    #[test]
    fn a_page_has_1_to_100_messages_after_a_cursor() {
        let id = MessageId([0xab; 16]);
        assert_eq!(limit(&mut fields(json!({}))), Ok(50));
        assert_eq!(limit(&mut fields(json!({"limit": 100}))), Ok(100));
        assert_eq!(
            cursor(&mut fields(json!({"cursor": id.to_string()}))),
            Ok(Some(id))
        );
        for wrong in [json!(0), json!(101), json!("1")] {
            assert!(limit(&mut fields(json!({"limit": wrong}))).is_err());
        }
        for wrong in [json!("x"), json!(1), json!(id.to_string().to_uppercase())] {
            assert!(cursor(&mut fields(json!({"cursor": wrong}))).is_err());
        }
    }

    #[test]
    fn a_page_of_the_trail_has_1_to_200_entries() {
        let asked = |query| asked(query).map_err(|_| ());
        assert_eq!(asked(""), Ok((None, 50)));
        assert_eq!(asked("limit=200"), Ok((None, 200)));
        let cursor = "0".repeat(20);
        let query = format!("cursor={cursor}");
        let (after, _) = asked(&query).expect("a cursor");
        assert_eq!(after.map(|after| after.to_string()), Some(cursor));
        for wrong in ["limit=0", "limit=201", "cursor=x", "user=u1"] {
            assert_eq!(asked(wrong), Err(()), "{wrong}");
        }
    }
}
