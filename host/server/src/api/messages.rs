//! `/api/messages`: configured texts to one receiver, and what became of any message.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use countersign_delivery::{Segments, Template as Text, offered_origins};
use countersign_types::{MessageId, UnixMillis};
use serde_json::json;

use super::admitted::Admitted;
use super::answer::{Answer, Judged};
use super::fields::{Fields, PHONE_BYTES_MAX, locale};
use super::path::Named;
use super::problem::{Problem, Refused};
use super::{Api, Asker, Caller, MessageRequest, NO_ROUTE, PhoneError, Runtime};
use crate::config::{MessageKind, Template, Templates};
use crate::story::Story;

const TEMPLATE_BYTES_MAX: usize = 64;
const KIND_BYTES_MAX: usize = 16;
const TIME_BYTES_MAX: usize = 40;
/// As the WIT bounds a message's variables.
const VARIABLES_MAX: usize = 16;
const VALUE_BYTES_MAX: usize = 512;
/// What a text message can hold, as UTF-16 units: what every provider takes.
const TEXT_UNITS_MAX: usize = 1_600;
/// How far ahead a message's deadline may be: what waits longer serves nobody.
const AHEAD_MAX: Duration = Duration::from_secs(72 * 3600);
/// How long a message is of use where nothing is said.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn send(State(api): State<Arc<Api>>, request: Request) -> Response {
    let Admitted {
        context,
        claim,
        fields,
    } = match Admitted::read(&api, request).await {
        Ok(admitted) => admitted,
        Err(denied) => return denied.into_problem(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let (request, segments) = match read(fields, &api.templates, &runtime) {
        Ok(read) => read,
        Err(refused) => return Problem::from(refused).into_response(),
    };
    let accepted = move |id: &MessageId, _: UnixMillis| -> Judged {
        let id = id.to_string();
        let body = json!({"id": id, "status": "queued", "segments": segments});
        Ok(Answer::accepted(&body))
    };
    let call = async move |once| {
        let _place = runtime.host_place(&context.caller).await?;
        runtime.send_message(&context, &request, once).await
    };
    api.answer(claim, accepted, call).await
}

/// Any key may ask for any message: keys are those of one operator's applications.
pub(super) async fn story(
    State(api): State<Arc<Api>>,
    asker: Option<Extension<Asker>>,
    Named(id): Named,
) -> Response {
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let Ok(id) = id.parse::<MessageId>() else {
        return Problem::no_such_message().into_response();
    };
    // By the administrator's path there is none.
    let caller = asker.map_or(Caller::Operator, |Extension(asker)| asker.in_line());
    let _place = match runtime.host_place(&caller).await {
        Ok(place) => place,
        Err(busy) => return Problem::from(busy).into_response(),
    };
    match runtime.message(id).await {
        Ok(Some(view)) => Answer::ok(&Story::from(view)).into_response(),
        Ok(None) => Problem::no_such_message().into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The message, and how many SMS it is.
fn read(
    mut fields: Fields,
    templates: &Templates,
    runtime: &Runtime,
) -> Result<(MessageRequest, u32), Refused> {
    let to = fields.text("to", PHONE_BYTES_MAX)?;
    let to = runtime.parse_phone(&to);
    let to = to.map_err(|error| no_such_phone("to", error))?;
    if !to.kind.can_receive() {
        let error = "This kind of number cannot receive messages";
        return Err(Refused::field("to", error));
    }
    let name = fields.plain_text("template", TEMPLATE_BYTES_MAX)?;
    let locale = locale(&mut fields)?;
    let (template, text) = templates
        .find(&name, locale.as_deref())
        .ok_or_else(|| Refused::field("template", "No such template is configured"))?;
    let variables = fields.texts("variables", VARIABLES_MAX, VALUE_BYTES_MAX)?;
    let segments = check_text(template, text, &variables)?;
    let kind = kind(&mut fields, template.kind)?;
    if !runtime.has_route(&to, kind.priority()) {
        return Err(Refused::field("to", NO_ROUTE));
    }
    let (due, deadline) = times(&mut fields, runtime.now())?;
    let request = MessageRequest {
        to,
        template: template.name.clone(),
        text: text.to_owned(),
        variables,
        locale,
        purpose: kind.word().to_owned(),
        priority: kind.priority(),
        due,
        deadline,
    };
    Ok((request, segments))
}

/// A number that is none, in the field of that name.
pub(super) fn no_such_phone(field: &str, error: PhoneError) -> Refused {
    let text = match error {
        PhoneError::Extension => "Invalid phone number: it has an extension",
        PhoneError::NoCountry => "Invalid phone number: add the country code, for example +1",
        PhoneError::NotANumber
        | PhoneError::TooShort
        | PhoneError::TooLong
        | PhoneError::Invalid => "Invalid phone number",
    };
    Refused::field(field, text)
}

/// Whether the variables fill the text, all of it and nothing else, with one that can be sent: how many SMS
/// it is then.
fn check_text(
    template: &Template,
    unfilled: &str,
    variables: &[(String, String)],
) -> Result<u32, Refused> {
    let refused = |text: String| Err(Refused::field("variables", text));
    // It was read at the start.
    let Ok(text) = Text::parse(unfilled) else {
        return refused("The template cannot be read".to_owned());
    };
    let places: BTreeSet<&str> = text.places().collect();
    if let Some((name, _)) = variables.iter().find(|(name, _)| !places.contains(&**name)) {
        return refused(format!("The template has no placeholder `{name}`"));
    }
    let fill = |name: &str| {
        let found = variables.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.as_str())
    };
    let filled = match text.fill(fill) {
        Ok(filled) => filled,
        Err(error) => return refused(format!("{error}; it must be in `variables`")),
    };
    let units = filled.encode_utf16().count();
    let segments = Segments::of(&filled).count;
    let most = template.segments_max.unwrap_or(u32::MAX);
    if filled.trim().is_empty() {
        refused("With these values the text is empty".to_owned())
    } else if units > TEXT_UNITS_MAX {
        refused(format!(
            "With these values the text has {units} UTF-16 units; at most {TEXT_UNITS_MAX} can be sent"
        ))
    } else if segments > most {
        refused(format!(
            "With these values the text is {segments} SMS; its template allows {most}"
        ))
    } else if offers_anew(unfilled, &filled) {
        refused("With these values the text offers a code to a web page (`@host #code`)".to_owned())
    } else {
        Ok(segments)
    }
}

/// Whether values have made the text offer a code to pages that the template does not. Which those are is
/// for the operator to say: a name that somebody has typed into the application would offer a code of theirs
/// to the pages of somebody else.
fn offers_anew(unfilled: &str, filled: &str) -> bool {
    let offered = offered_origins(filled);
    !offered.is_empty() && offered != offered_origins(unfilled)
}

/// What the message is for: what its template is for, or less. Who goes first is the operator's to say,
/// and a caller's word would be `login` each time.
fn kind(fields: &mut Fields, most: MessageKind) -> Result<MessageKind, Refused> {
    let Some(word) = fields.optional_text("kind", KIND_BYTES_MAX)? else {
        return Ok(most);
    };
    let refused = |text: String| Err(Refused::field("kind", text));
    match MessageKind::of(&word) {
        None => refused("`kind` must be login, transactional or marketing".to_owned()),
        // The more urgent is the lesser.
        Some(kind) if kind < most => refused(format!(
            "`kind` must not go before the template's, which is {}",
            most.word()
        )),
        Some(kind) => Ok(kind),
    }
}

/// From when on and until when it may be sent.
fn times(fields: &mut Fields, now: UnixMillis) -> Result<(UnixMillis, UnixMillis), Refused> {
    let latest = now + AHEAD_MAX;
    let due = match fields.optional_text("notBefore", TIME_BYTES_MAX)? {
        None => now,
        Some(text) => match text.parse::<UnixMillis>() {
            Ok(due) if due < latest => due.max(now),
            Ok(_) => {
                let error = "`notBefore` must be less than 72 hours ahead";
                return Err(Refused::field("notBefore", error));
            }
            Err(_) => {
                let error = "`notBefore` must be a time such as 2026-01-31T12:00:00Z (RFC 3339)";
                return Err(Refused::field("notBefore", error));
            }
        },
    };
    let deadline = match fields.optional_whole("validitySeconds", 1..=AHEAD_MAX.as_secs())? {
        None => (due + VALIDITY).min(latest),
        Some(seconds) => due + Duration::from_secs(seconds),
    };
    if deadline > latest {
        let error =
            "`notBefore` and `validitySeconds` together must not reach more than 72 hours ahead";
        return Err(Refused::field("validitySeconds", error));
    }
    Ok((due, deadline))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    fn template(segments_max: Option<u32>) -> Template {
        Template {
            name: "t".to_owned(),
            kind: MessageKind::Transactional,
            segments_max,
        }
    }

    #[track_caller]
    fn check_filled(text: &str, variables: &[(&str, &str)], want: Result<(), &str>) {
        check_within(None, text, variables, want);
    }

    #[track_caller]
    fn check_within(
        most: Option<u32>,
        text: &str,
        variables: &[(&str, &str)],
        want: Result<(), &str>,
    ) {
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        match (check_text(&template(most), text, &variables), want) {
            (Ok(_), Ok(())) => {}
            (Err(refused), Err(words)) => {
                assert_eq!(refused.field.as_deref(), Some("variables"));
                assert!(refused.error.contains(words), "{}", refused.error);
            }
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }

    #[test]
    fn variables_fill_the_template_all_of_it_and_nothing_else() {
        check_filled("Hi {a}{b}", &[("a", "1"), ("b", "")], Ok(()));
        check_filled("Hi {a}", &[], Err("`{a}`"));
        check_filled("Hi", &[("a", "1")], Err("`a`"));
        check_filled("{a}", &[("a", " ")], Err("empty"));
    }

    #[test]
    fn a_text_is_sent_at_its_bound_in_utf_16_and_refused_one_past_it() {
        let many = |n: usize| "{a}".repeat(n);
        // Each smiley is two units and four bytes.
        let smileys = "😀".repeat(100);
        check_filled(&many(8), &[("a", &smileys)], Ok(()));
        let past = format!("{}!", many(8));
        check_filled(&past, &[("a", &smileys)], Err("1601 UTF-16 units"));
    }

    #[test]
    fn a_template_bounds_how_many_sms_its_values_make() {
        let (fits, past) = ("x".repeat(153), "x".repeat(154));
        let text = "Hello, {a}";
        check_within(Some(1), text, &[("a", &fits)], Ok(()));
        check_within(Some(1), text, &[("a", &past)], Err("2 SMS"));
        check_within(Some(2), text, &[("a", &past)], Ok(()));
        // One letter of another alphabet, and a message holds less than half.
        let emoji = format!("{}🔑", "x".repeat(62));
        check_within(Some(1), text, &[("a", &emoji)], Err("2 SMS"));
    }

    #[test]
    fn no_value_offers_a_code_to_a_page_that_the_template_does_not() {
        let bait = "@bank.example #123456";
        let words = Err("offers a code");
        check_filled("{a}", &[("a", bait)], words);
        check_filled("Hi\n{a}", &[("a", bait)], words);
        check_filled("{a}, your order is here", &[("a", bait)], words);
        check_filled("Hi {a}", &[("a", bait)], words);
        check_filled("{a}\nBye", &[("a", bait)], words);
        check_filled("Mail to ada{a}", &[("a", bait)], Ok(()));
        check_filled("Hi {a}", &[("a", "@ada")], Ok(()));
        // An application whose codes are its own binds them to pages that stand in the configuration.
        let own = "{a}\n@shop.example #{a}";
        check_filled(own, &[("a", "123456")], Ok(()));
        check_filled(own, &[("a", "1 %bank.example")], words);
        check_filled(own, &[("a", bait)], words);
    }

    #[track_caller]
    fn check_kind(body: &Value, most: MessageKind, want: Result<MessageKind, &str>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).expect("an object");
        match (kind(&mut fields, most), want) {
            (Ok(kind), Ok(want)) => assert_eq!(kind, want, "{body}"),
            (Err(refused), Err(words)) => {
                assert_eq!(refused.field.as_deref(), Some("kind"));
                assert!(refused.error.contains(words), "{}", refused.error);
            }
            (got, want) => panic!("{got:?}, not {want:?}"),
        }
    }

    #[test]
    fn a_request_may_say_that_its_message_can_wait_and_not_that_it_cannot() {
        use MessageKind::{Login, Marketing, Transactional};
        let words = ["login", "transactional", "marketing"];
        let kinds = [Login, Transactional, Marketing];
        for (most, template) in kinds.into_iter().enumerate() {
            check_kind(&json!({}), template, Ok(template));
            for (asked, word) in words.into_iter().enumerate() {
                let body = json!({ "kind": word });
                let want = if asked < most {
                    Err(words[most])
                } else {
                    Ok(kinds[asked])
                };
                check_kind(&body, template, want);
            }
        }
        check_kind(&json!({"kind": "urgent"}), Login, Err("must be login"));
    }

    #[track_caller]
    fn check_times(body: &Value, want: Result<(u64, u64), &str>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).expect("an object");
        let got = times(&mut fields, NOW);
        let got =
            got.map(|(due, deadline)| (due.since(NOW).as_secs(), deadline.since(NOW).as_secs()));
        let got = got.map_err(|refused| refused.field.expect("a field"));
        assert_eq!(got, want.map_err(str::to_owned), "{body}");
    }

    #[test]
    fn a_message_waits_and_ends_within_72_hours() {
        check_times(&json!({}), Ok((0, 86_400)));
        check_times(&json!({"validitySeconds": 1}), Ok((0, 1)));
        check_times(&json!({"validitySeconds": 259_200}), Ok((0, 259_200)));
        check_times(&json!({"validitySeconds": 259_201}), Err("validitySeconds"));
        check_times(&json!({"validitySeconds": 0}), Err("validitySeconds"));
        check_times(&json!({"validitySeconds": "1"}), Err("validitySeconds"));
        let at = |text: &str| json!({"notBefore": text});
        check_times(&at("2026-01-31T12:00:10Z"), Ok((10, 86_410)));
        check_times(&at("2026-01-30T12:00:10Z"), Ok((0, 86_400)));
        check_times(&at("2026-02-03T11:59:59Z"), Ok((259_199, 259_200)));
        check_times(&at("2026-02-03T12:00:00Z"), Err("notBefore"));
        check_times(&at("tomorrow"), Err("notBefore"));
        let both = json!({"notBefore": "2026-02-03T11:59:59Z", "validitySeconds": 2});
        check_times(&both, Err("validitySeconds"));
    }
}
