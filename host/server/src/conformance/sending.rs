//! Messages that are handed over: taken, refused, and cut off.

use countersign_runtime::{Limits, Observed, ProviderTrial, StartError};
use countersign_types::{Accepted, ErrorClass, Message, SendError};
use std::time::Duration;

use super::company::{Act, Answer, Request, nobody};
use super::description::{Carries, Success};
use super::{CODE, Kit, KitError, Outcome, PHONE, answer, component_failed, failed, ok, skipped};

/// How long an answer may take in the case of one that never comes.
const SLOW: Duration = Duration::from_secs(1);
const TEXT_UNITS_MAX: usize = 1_600;
const ID_BYTES_MAX: usize = 128;
/// Longer than the host takes.
const HUGE_BYTES: usize = 2 * 1024 * 1024;

/// What is said of an answer that does not say whether the message was taken.
const MAY_BE_SENT: &str =
    "the company may have the message: say `unknown-outcome`, which is sent again for codes only";
const RETRY_AFTER_SECONDS: u64 = 7;

/// What came of a message.
struct Sent {
    result: Result<Accepted, SendError>,
    observed: Observed,
    /// What the company was asked.
    requests: Vec<Request>,
}

impl Sent {
    /// What it was, in a line.
    fn came(&self) -> String {
        match (&self.observed.failed, &self.result) {
            (Some(reason), _) => format!("the component failed: {reason}"),
            (None, Ok(accepted)) => format!("accepted as {}", accepted.ids.join(", ")),
            (None, Err(error)) => match &error.provider_code {
                None => format!("`{}`: {}", error.class.word(), error.text),
                Some(code) => format!("`{}`, {code}: {}", error.class.word(), error.text),
            },
        }
    }

    /// Whether it was refused with `class`.
    fn is_refused(&self, class: ErrorClass, help: &str) -> Outcome {
        let expected = format!("`{}`", class.word());
        match (&self.observed.failed, &self.result) {
            (Some(reason), _) => component_failed(expected, reason),
            (None, Err(error)) if error.class == class => ok(self.came()),
            _ => failed(expected, self.came(), help),
        }
    }

    /// As [`is_refused`](Sent::is_refused) with `unknown-outcome`, after one request.
    fn may_be_sent(&self) -> Outcome {
        if self.requests.len() > 1 {
            return failed(
                "one request",
                format!("{} requests", self.requests.len()),
                "do not repeat what may have been taken: whether it is sent again is for the queue to say",
            );
        }
        self.is_refused(ErrorClass::UnknownOutcome, MAY_BE_SENT)
    }
}

/// Tries all of it.
///
/// # Errors
///
/// When a server on loopback cannot be had.
pub(super) async fn run(kit: &mut Kit<'_>, trial: &ProviderTrial) -> Result<(), KitError> {
    taken(kit, trial).await;
    refused(kit, trial).await;
    cut_off(kit, trial).await?;
    redirected(kit, trial).await?;
    misread(kit, trial).await;
    Ok(())
}

async fn send(
    kit: &mut Kit<'_>,
    trial: &ProviderTrial,
    case: &str,
    act: Act,
    message: &Message,
) -> Sent {
    kit.company.play(act);
    let (result, observed) = trial.send(message).await;
    kit.saw(case, &observed);
    Sent {
        result,
        observed,
        requests: kit.company.requests(),
    }
}

/// The company's answer when it takes `message`.
fn success(success: &Success, message: &Message) -> Answer {
    let body = success.body.replace("{id}", &message.id.to_string());
    answer(success.status, &success.headers, &body)
}

async fn taken(kit: &mut Kit<'_>, trial: &ProviderTrial) {
    let plain = kit.message();
    let unheard = Message {
        status_callback: None,
        locale: None,
        ..kit.message()
    };
    let unusual = Message {
        text: format!("Grüße 👋, \"{CODE}\" & 'a'=<b>+c%20\\n\n{{}} €"),
        ..kit.message()
    };
    let wave = "👋".encode_utf16().count();
    let longest = Message {
        text: format!("{}x", "👋".repeat(TEXT_UNITS_MAX / wave - 1)) + "y",
        ..kit.message()
    };
    for (name, message) in [
        ("success", plain),
        ("no callback address", unheard),
        ("unusual text", unusual),
        ("longest text", longest),
    ] {
        if kit.is_wanted(name) {
            let act = Act::Answer(success(&kit.description.success, &message));
            let sent = send(kit, trial, name, act, &message).await;
            let outcome = is_taken(&kit.description.success, &message, &sent);
            kit.push(name, outcome);
        }
    }
}

fn is_taken(success: &Success, message: &Message, sent: &Sent) -> Outcome {
    let ids = success.ids.iter();
    let ids: Vec<_> = ids
        .map(|id| id.replace("{id}", &message.id.to_string()))
        .collect();
    let expected = format!("accepted as {}", ids.join(", "));
    match (&sent.observed.failed, &sent.result) {
        (Some(reason), _) => return component_failed(expected, reason),
        (None, Ok(accepted)) if accepted.ids == ids => {}
        _ => {
            let help = "read the answer of [success] and return its ids, as callbacks name them";
            return failed(expected, sent.came(), help);
        }
    }
    let [request] = &sent.requests[..] else {
        let came = format!("{} requests", sent.requests.len());
        let help =
            "hand the message over in one request; what else is asked belongs into [[other]]";
        return failed("one request", came, help);
    };
    let texts = request.texts();
    let (expected, wanted, help) = match success.carries {
        Carries::Text => (
            "the whole text",
            message.text.as_str(),
            "send `text` as it is, encoded as the request's media type says, and never cut",
        ),
        Carries::Code => ("the code", CODE, "send `code`, as [success] says"),
    };
    if !texts.iter().any(|text| text.contains(wanted)) {
        return failed(expected, "no field of the request holds it", help);
    }
    if !texts.iter().any(|text| text.contains(&PHONE[1..])) {
        let came = "no field of the request holds it";
        return failed(
            "the receiver's number",
            came,
            "send `to`, with `+` or without",
        );
    }
    ok(sent.came())
}

async fn refused(kit: &mut Kit<'_>, trial: &ProviderTrial) {
    let description = kit.description;
    for refusal in &description.refusal {
        let name = format!("refusal: {}", refusal.name);
        if kit.is_wanted(&name) {
            let act = Act::Answer(answer(refusal.status, &refusal.headers, &refusal.body));
            let message = kit.message();
            let sent = send(kit, trial, &name, act, &message).await;
            let help = "choose the class by what the company's answer says of this message";
            let outcome = sent.is_refused(refusal.class, help);
            kit.push(name, with_wait(outcome, refusal.retry_after, &sent));
        }
    }
    for class in [ErrorClass::Permanent, ErrorClass::Blocked] {
        if !description
            .refusal
            .iter()
            .any(|refusal| refusal.class == class)
        {
            let reason = "no [[refusal]] of conformance.toml is of this class";
            kit.push(format!("refusal: {}", class.word()), skipped(reason));
        }
    }
    let wait = RETRY_AFTER_SECONDS;
    for (status, class, help) in [
        (
            401,
            ErrorClass::Auth,
            "the operator's key is refused: say `auth`, so that another provider takes over",
        ),
        (
            429,
            ErrorClass::Throttled,
            "say `throttled`, and how long to wait",
        ),
        (500, ErrorClass::UnknownOutcome, MAY_BE_SENT),
        (503, ErrorClass::UnknownOutcome, MAY_BE_SENT),
    ] {
        let name = format!("HTTP {status}");
        let described = description.refusal.iter();
        let described = described.filter(|refusal| refusal.status == status).count() > 0;
        if described || !kit.is_wanted(&name) {
            continue;
        }
        let headers = match class {
            ErrorClass::Throttled => vec![("retry-after".to_owned(), wait.to_string())],
            _ => Vec::new(),
        };
        let waits = (class == ErrorClass::Throttled).then_some(wait);
        let act = Act::Answer(Answer {
            status,
            headers,
            body: Vec::new(),
        });
        let message = kit.message();
        let sent = send(kit, trial, &name, act, &message).await;
        let outcome = match class {
            ErrorClass::UnknownOutcome => sent.may_be_sent(),
            class => sent.is_refused(class, help),
        };
        kit.push(name, with_wait(outcome, waits, &sent));
    }
}

/// `outcome`, and whether the provider passes on how long to wait.
fn with_wait(outcome: Outcome, seconds: Option<u64>, sent: &Sent) -> Outcome {
    let (Outcome::Ok { .. }, Some(seconds), Err(error)) = (&outcome, seconds, &sent.result) else {
        return outcome;
    };
    if error.retry_after_ms == Some(seconds * 1_000) {
        return ok(format!("{}, again after {seconds} s", sent.came()));
    }
    let came = match error.retry_after_ms {
        None => "no `retry-after`".to_owned(),
        Some(ms) => format!("`retry-after` of {ms} ms"),
    };
    let help = "return what the company says, its Retry-After for example, in milliseconds";
    failed(
        format!("`retry-after` of {} ms", seconds * 1_000),
        came,
        help,
    )
}

async fn cut_off(kit: &mut Kit<'_>, trial: &ProviderTrial) -> Result<(), KitError> {
    let message = kit.message();
    let whole = success(&kit.description.success, &message);
    let name = "connection refused";
    if kit.is_wanted(name) {
        let (_held, authority) = nobody()?;
        let limits = kit.subject.limits.clone();
        let outcome = match kit.trial(&limits, &authority).await {
            Ok(trial) => {
                let sent = send(kit, &trial, name, Act::Silence, &message).await;
                let help = "not a byte was written (`maybe-sent` is false): say `retryable`, so that it is sent at once";
                sent.is_refused(ErrorClass::Retryable, help)
            }
            Err(error) => failed("it loads", error.to_string(), "see `configuration`"),
        };
        kit.push(name, outcome);
    }
    for (name, act) in [
        ("hang-up before the answer", Act::HangUp),
        ("hang-up in the answer", Act::Cut(whole)),
    ] {
        if kit.is_wanted(name) {
            let sent = send(kit, trial, name, act, &message).await;
            kit.push(name, sent.may_be_sent());
        }
    }
    let name = "no answer in time";
    if kit.is_wanted(name) {
        let outcome = match impatient(kit).await {
            Ok(trial) => send(kit, &trial, name, Act::Silence, &message)
                .await
                .may_be_sent(),
            Err(error) => failed("it loads", error.to_string(), "see `configuration`"),
        };
        kit.push(name, outcome);
    }
    Ok(())
}

/// The provider where answers must come soon.
async fn impatient(kit: &Kit<'_>) -> Result<ProviderTrial, StartError> {
    let limits = Limits {
        http_request: SLOW,
        ..kit.subject.limits.clone()
    };
    kit.trial(&limits, &kit.company.authority()).await
}

async fn redirected(kit: &mut Kit<'_>, trial: &ProviderTrial) -> Result<(), KitError> {
    let message = kit.message();
    let elsewhere = super::Company::start(Vec::new()).await?;
    elsewhere.play(Act::Answer(success(&kit.description.success, &message)));
    let here = kit.company.authority();
    for (name, status, to) in [
        ("redirect to a private address", 302, elsewhere.authority()),
        ("redirect to another path", 307, format!("{here}/elsewhere")),
    ] {
        if !kit.is_wanted(name) {
            continue;
        }
        let act = Act::Answer(Answer {
            status,
            headers: vec![("location".to_owned(), format!("http://{to}"))],
            body: Vec::new(),
        });
        let sent = send(kit, trial, name, act, &message).await;
        let followed = elsewhere.requests().len() + sent.requests.len().saturating_sub(1);
        let expected = "an error, and nobody else is asked";
        let outcome = match (&sent.observed.failed, &sent.result) {
            (Some(reason), _) => component_failed(expected, reason),
            (None, Err(_)) if followed == 0 => ok(sent.came()),
            _ if followed > 0 => {
                let came = format!("{} requests", 1 + followed);
                failed(
                    expected,
                    came,
                    "do not follow a redirect: whoever gives it out would get the message",
                )
            }
            _ => failed(expected, sent.came(), "a 3xx is no success"),
        };
        kit.push(name, outcome);
    }
    Ok(())
}

/// Answers that are not as the company's are.
async fn misread(kit: &mut Kit<'_>, trial: &ProviderTrial) {
    let message = kit.message();
    let whole = success(&kit.description.success, &message);
    let with = |body: Vec<u8>| {
        Act::Answer(Answer {
            body,
            ..whole.clone()
        })
    };
    let mut huge = whole.body.clone();
    huge.resize(HUGE_BYTES, b' ');
    let is_json = serde_json::from_slice::<serde_json::Value>(&whole.body).is_ok();
    let cut = whole.body[..whole.body.len() / 2].to_vec();
    for (name, act, reads) in [
        ("huge answer", with(huge), true),
        ("malformed answer: cut off", with(cut), is_json),
        (
            "malformed answer: HTML",
            with(b"<html>busy</html>".to_vec()),
            is_json,
        ),
        (
            "malformed answer: other JSON",
            with(b"[null, 1]".to_vec()),
            is_json,
        ),
    ] {
        if !reads {
            kit.push(name, skipped("the answer of [success] is no JSON"));
        } else if kit.is_wanted(name) {
            let sent = send(kit, trial, name, act, &message).await;
            kit.push(name, sent.may_be_sent());
        }
    }
    for (name, id) in [
        ("long id", "x".repeat(ID_BYTES_MAX + 1)),
        ("empty id", String::new()),
    ] {
        let first = kit.description.success.ids[0].replace("{id}", &message.id.to_string());
        let body = String::from_utf8_lossy(&whole.body).into_owned();
        if !body.contains(&first) {
            kit.push(
                name,
                skipped("the answer of [success] does not hold the id"),
            );
        } else if kit.is_wanted(name) {
            let act = with(body.replace(&first, &id).into_bytes());
            let sent = send(kit, trial, name, act, &message).await;
            let outcome = match &sent.observed.failed {
                Some(reason) => component_failed("no such id is returned", reason),
                None => ok(sent.came()),
            };
            kit.push(name, outcome);
        }
    }
    let name = "refusal that repeats the request";
    if kit.is_wanted(name) {
        let sent = echoed(kit, trial, name, &message).await;
        let expected = "an error";
        let outcome = match (&sent.observed.failed, &sent.result) {
            (Some(reason), _) => component_failed(expected, reason),
            (None, Err(_)) => ok(sent.came()),
            (None, Ok(_)) => failed(expected, sent.came(), "a 400 is no success"),
        };
        kit.push(name, outcome);
    }
}

/// A page of an error that shows the whole message, as some do.
async fn echoed(kit: &mut Kit<'_>, trial: &ProviderTrial, name: &str, message: &Message) -> Sent {
    let page = format!("<html>cannot send {} to {}", message.text, message.to);
    let act = Act::Answer(Answer {
        status: 400,
        body: page.into_bytes(),
        ..Answer::default()
    });
    send(kit, trial, name, act, message).await
}
