//! `/dashboard/messages`: messages for people. A number that is looked for comes in a form's body, and the whole
//! number of a message leaves only in the answer to a form.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::get;
use countersign_types::{MessageId, UnixMillis};

use super::{enter, fields, html, notice, see};
use crate::api::fields::PHONE_BYTES_MAX;
use crate::api::messages::no_such_phone;
use crate::api::path::Named;
use crate::api::problem::{Kind, Problem, Refused};
use crate::api::{Api, MessageSearch, Revealed, Routes, Runtime};
use crate::lookup;
use crate::page::messages::{self, Found, Typed};
use crate::page::shell::Place;
use crate::users::operator;

const MESSAGES: &str = "/dashboard/messages";
const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .route(MESSAGES, get(newest).post(search))
        .route("/dashboard/messages/{id}", get(story))
        .route("/dashboard/messages/{id}/reveal", get(masked).post(reveal))
}

async fn newest(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(refusal) = enter(&api, &headers).await {
        return refusal.into_page(&uri);
    }
    find(&api, &Typed::default()).await
}

async fn search(State(api): State<Arc<Api>>, request: Request) -> Response {
    let fields = match form(&api, request).await {
        Ok(fields) => fields,
        Err(refusal) => return refusal,
    };
    let mut typed = Typed::default();
    for (name, value) in fields {
        let value = value.trim();
        match &*name {
            "phone" => value.clone_into(&mut typed.phone),
            "id" => value.clone_into(&mut typed.id),
            "start" => value.clone_into(&mut typed.start),
            "end" => value.clone_into(&mut typed.end),
            "cursor" => value.clone_into(&mut typed.cursor),
            _ => {}
        }
    }
    if typed.id.is_empty() {
        return find(&api, &typed).await;
    }
    match typed.id.parse::<MessageId>() {
        Ok(id) => see(&format!("{MESSAGES}/{id}")),
        Err(_) => {
            let error = "An id of a message has 32 hexadecimal digits";
            refused(&typed, Refused::field("id", error))
        }
    }
}

/// The fields of a form of ours that somebody has sent who has logged in.
async fn form(api: &Api, request: Request) -> Result<Vec<(String, String)>, Response> {
    let (parts, unread) = request.into_parts();
    let fields = fields(api, &parts, unread).await;
    let fields = fields.map_err(|problem| notice(Place::Outside, problem))?;
    // What they have typed is gone with the login; a path of ours is not.
    let entered = enter(api, &parts.headers).await;
    entered.map_err(|refusal| refusal.into_page(&Uri::from_static(MESSAGES)))?;
    Ok(fields)
}

async fn find(api: &Api, typed: &Typed) -> Response {
    let Some(runtime) = api.runtime() else {
        return notice(Place::Messages, Problem::starting());
    };
    let search = match wanted(typed, &runtime) {
        Ok(search) => search,
        Err(error) => return refused(typed, error),
    };
    let operator = operator();
    let found = runtime.find_messages(&operator, &search, "page");
    match found.await {
        Ok(page) => html(messages::messages(typed, &Found::Messages(&page.into()))),
        Err(error) => notice(Place::Messages, error.into()),
    }
}

fn refused(typed: &Typed, Refused { error, field }: Refused) -> Response {
    let field = field.as_deref().unwrap_or("");
    let page = messages::messages(typed, &Found::Refused(field, &error));
    Problem::new(Kind::BadRequest, error.clone()).shown(page)
}

fn wanted(typed: &Typed, runtime: &Runtime) -> Result<MessageSearch, Refused> {
    if typed.phone.len() > PHONE_BYTES_MAX {
        return Err(Refused::field("phone", "That is no phone number"));
    }
    let phone = Some(typed.phone.as_str()).filter(|phone| !phone.is_empty());
    let number = phone.map(|phone| runtime.parse_phone(phone)).transpose();
    let cursor = Some(typed.cursor.as_str()).filter(|cursor| !cursor.is_empty());
    let after = cursor.map(str::parse).transpose();
    let from = day("start", &typed.start)?.unwrap_or(UnixMillis(0));
    let to = day("end", &typed.end)?.map_or(UnixMillis(u64::MAX), |day| day + DAY);
    if from >= to {
        return Err(Refused::field("end", "“To” must not be before “From”"));
    }
    Ok(MessageSearch {
        number: number.map_err(|error| no_such_phone("phone", error))?,
        from,
        to,
        after: after.map_err(|_| Refused::body("That is no page of this search"))?,
        limit: lookup::PAGE,
    })
}

/// The first instant of a day, where one was typed.
fn day(name: &str, text: &str) -> Result<Option<UnixMillis>, Refused> {
    if text.is_empty() {
        return Ok(None);
    }
    let day = format!("{text}T00:00:00Z").parse();
    let wrong = |_| Refused::field(name, "A day is written as 2026-01-31");
    day.map(Some).map_err(wrong)
}

async fn story(
    State(api): State<Arc<Api>>,
    Named(id): Named,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = enter(&api, &headers).await {
        return refusal.into_page(&uri);
    }
    tell(&api, &id, None).await
}

/// Who comes back to the address of a whole number sees the masked one.
async fn masked(Named(id): Named) -> Response {
    match id.parse::<MessageId>() {
        Ok(id) => see(&format!("{MESSAGES}/{id}")),
        Err(_) => see(MESSAGES),
    }
}

async fn reveal(State(api): State<Arc<Api>>, Named(id): Named, request: Request) -> Response {
    if let Err(refusal) = form(&api, request).await {
        return refusal;
    }
    let Some(runtime) = api.runtime() else {
        return notice(Place::Messages, Problem::starting());
    };
    let Ok(known) = id.parse::<MessageId>() else {
        return notice(Place::Messages, Problem::no_such_message());
    };
    let operator = operator();
    let call = async move { runtime.reveal_number(&operator, known, "page", None).await };
    match api.run_to_its_end(call).await {
        Ok(Ok((Revealed::Number(number), _))) => tell(&api, &id, Some(number.expose())).await,
        Ok(Ok((Revealed::Absent, _))) => notice(Place::Messages, Problem::no_such_message()),
        Ok(Err(error)) => notice(Place::Messages, error.into()),
        Err(problem) => notice(Place::Messages, problem),
    }
}

/// The story of a message, with its whole number where that was asked for.
async fn tell(api: &Api, id: &str, number: Option<&str>) -> Response {
    let Some(runtime) = api.runtime() else {
        return notice(Place::Messages, Problem::starting());
    };
    let found = match id.parse::<MessageId>() {
        Ok(id) => runtime.message(id).await,
        Err(_) => Ok(None),
    };
    match found {
        Ok(Some(view)) => html(messages::story(&view.into(), number)),
        Ok(None) => notice(Place::Messages, Problem::no_such_message()),
        Err(error) => notice(Place::Messages, error.into()),
    }
}
