//! `/dashboard/messages`: messages for people. A number that is looked for comes in a form's body and stands in
//! addresses sealed; the whole number of a message leaves only in the answer to a form.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use axum::routing::get;
use countersign_types::{MessageId, UnixMillis};
use url::form_urlencoded;

use super::{enter, fields, html, notice, see};
use crate::api::fields::PHONE_BYTES_MAX;
use crate::api::messages::no_such_phone;
use crate::api::path::Named;
use crate::api::problem::{Kind, Problem, Refused};
use crate::api::{Api, MessageSearch, Revealed, Routes, Runtime};
use crate::lookup;
use crate::page::shell::Place;
use crate::page::{Sought, Typed, messages};
use crate::users::operator;

const MESSAGES: &str = "/dashboard/messages";
const DAY: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn add(routes: Routes) -> Routes {
    routes
        .route(MESSAGES, get(found).post(search))
        .route("/dashboard/messages/{id}", get(story))
        .route("/dashboard/messages/{id}/reveal", get(masked).post(reveal))
}

async fn found(State(api): State<Arc<Api>>, uri: Uri, headers: HeaderMap) -> Response {
    if let Err(refusal) = enter(&api, &headers).await {
        return refusal.into_page(&uri);
    }
    let query = form_urlencoded::parse(uri.query().unwrap_or("").as_bytes());
    let mut searches = query.filter(|(name, _)| name == "search");
    let Some((_, sealed)) = searches.next() else {
        return find(&api, &Sought::default()).await;
    };
    match api.pages.searches.open(&sealed, api.gate.now()) {
        Some(sought) => find(&api, &sought).await,
        None => {
            let error = "This search is over. Type it again.";
            refused(&Typed::default(), "", Refused::body(error))
        }
    }
}

/// What was typed is sealed into an address, so that the page of what is found is one to come back to.
async fn search(State(api): State<Arc<Api>>, request: Request) -> Response {
    let fields = match form(&api, request).await {
        Ok(fields) => fields,
        Err(refusal) => return refusal,
    };
    let (mut typed, mut id) = (Typed::default(), String::new());
    for (name, value) in fields {
        let value = value.trim();
        match &*name {
            "phone" => value.clone_into(&mut typed.phone),
            "id" => value.clone_into(&mut id),
            "start" => value.clone_into(&mut typed.start),
            "end" => value.clone_into(&mut typed.end),
            _ => {}
        }
    }
    if !id.is_empty() {
        return match id.parse::<MessageId>() {
            Ok(id) => see(&format!("{MESSAGES}/{id}")),
            Err(_) => {
                let error = "An id of a message has 32 hexadecimal digits";
                refused(&typed, &id, Refused::field("id", error))
            }
        };
    }
    let Some(runtime) = api.runtime() else {
        return notice(Place::Messages, Problem::starting());
    };
    let sought = Sought { typed, after: None };
    if let Err(error) = wanted(&sought, &runtime) {
        return refused(&sought.typed, "", error);
    }
    if sought == Sought::default() {
        return see(MESSAGES);
    }
    match address(&api, &sought) {
        Ok(address) => see(&address),
        Err(problem) => notice(Place::Messages, problem),
    }
}

/// The address of what is found by a search.
fn address(api: &Api, sought: &Sought) -> Result<String, Problem> {
    let searches = &api.pages.searches;
    let sealed = searches.seal(sought, api.random_id(), api.gate.now())?;
    Ok(format!("{MESSAGES}?search={sealed}"))
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

async fn find(api: &Api, sought: &Sought) -> Response {
    let Some(runtime) = api.runtime() else {
        return notice(Place::Messages, Problem::starting());
    };
    let search = match wanted(sought, &runtime) {
        Ok(search) => search,
        Err(error) => return refused(&sought.typed, "", error),
    };
    let operator = operator();
    let found = runtime.find_messages(&operator, &search, "page");
    let page: lookup::Page = match found.await {
        Ok(page) => page.into(),
        Err(error) => return notice(Place::Messages, error.into()),
    };
    let older = page.next.clone().map(|after| {
        let (typed, after) = (sought.typed.clone(), Some(after));
        address(api, &Sought { typed, after })
    });
    match older.transpose() {
        Ok(older) => html(messages::found(sought, &page, older.as_deref())),
        Err(problem) => notice(Place::Messages, problem),
    }
}

fn refused(typed: &Typed, id: &str, Refused { error, field }: Refused) -> Response {
    let field = field.as_deref().unwrap_or("");
    let page = messages::refused(typed, id, (field, &error));
    Problem::new(Kind::BadRequest, error.clone()).shown(page)
}

fn wanted(sought: &Sought, runtime: &Runtime) -> Result<MessageSearch, Refused> {
    let Sought { typed, after } = sought;
    if typed.phone.len() > PHONE_BYTES_MAX {
        return Err(Refused::field("phone", "That is no phone number"));
    }
    let phone = Some(typed.phone.as_str()).filter(|phone| !phone.is_empty());
    let number = phone.map(|phone| runtime.parse_phone(phone)).transpose();
    let after = after.as_deref().map(str::parse).transpose();
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
