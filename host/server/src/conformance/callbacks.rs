//! Callbacks: signed, forged, changed, old, and what anybody may send.

use countersign_runtime::{CallbackError, CallbackRequest, Observed, ProviderTrial};
use countersign_types::{News, Wish};

use super::description::{self, Callback, Kind};
use super::signing::{Desk, Signer};
use super::{Kit, Outcome, PATH, PUBLIC_URL, component_failed, failed, millis, ok, skipped};

/// A callback of this age may be somebody's copy.
const OLD_SECONDS: u64 = 3_600;
/// As long as the operator lets a callback be.
const LONG_BYTES: usize = 64 * 1024;

const NEVER_ASKS: &str = "call a function of `signatures` before anything is told, and return `unsigned` where it is false";

/// What came of a callback.
struct Read {
    result: Result<News, CallbackError>,
    observed: Observed,
}

impl Read {
    fn came(&self) -> String {
        match &self.result {
            Err(error) => error.to_string(),
            Ok(news) => {
                let updates = news.updates.iter();
                let updates = updates.map(|one| format!("{} {}", one.id, one.status.word()));
                let replies = news.replies.iter().map(|one| format!("{:?}", one.wish));
                let all: Vec<_> = updates.chain(replies).collect();
                match &all[..] {
                    [] => "nothing".to_owned(),
                    all => all.join(", "),
                }
            }
        }
    }

    /// Whether it tells nothing, where that would be believed.
    fn tells_nothing(&self) -> Outcome {
        const EXPECTED: &str = "nothing is told";
        match (&self.observed.failed, &self.result) {
            (Some(reason), _) => component_failed(EXPECTED, reason),
            (None, Ok(news)) if !(news.updates.is_empty() && news.replies.is_empty()) => {
                failed(EXPECTED, self.came(), "tell only what the company has said")
            }
            _ => ok(self.came()),
        }
    }

    /// Whether nothing of it counts, and the component has asked.
    fn is_refused(&self, asks: bool, help: &str) -> Outcome {
        const EXPECTED: &str = "refused as unsigned";
        match (&self.observed.failed, &self.result) {
            (Some(reason), _) => component_failed(EXPECTED, reason),
            (None, Err(CallbackError::Unsigned)) if asks && self.observed.signature_checks == 0 => {
                failed(
                    "a signature is checked",
                    "it never asks the host",
                    NEVER_ASKS,
                )
            }
            (None, Err(CallbackError::Unsigned)) => ok("refused"),
            (None, _) => failed(EXPECTED, self.came(), help),
        }
    }
}

async fn read(
    kit: &mut Kit<'_>,
    trial: &ProviderTrial,
    case: &str,
    request: CallbackRequest,
) -> Read {
    let (result, observed) = trial.parse_callback(PUBLIC_URL, request).await;
    let used = &mut kit.report.used;
    used.callback_ms = used.callback_ms.max(millis(observed.running));
    kit.saw_beside_time(case, &observed);
    Read { result, observed }
}

pub(super) async fn run(kit: &mut Kit<'_>, trial: &ProviderTrial) {
    let description = kit.description;
    match &description.signature {
        Some(signature) if !description.callback.is_empty() => {
            let credentials = kit.credentials.clone();
            let holds = |(name, _): &&(String, String)| *name == signature.credential;
            let credential = credentials.iter().find(holds);
            let desk = Desk {
                signature,
                credential: credential.map_or("", |(_, text)| text),
                public_url: PUBLIC_URL,
                path: PATH,
                seconds: kit.clock.now().0 / 1_000,
            };
            for callback in &description.callback {
                each(kit, trial, &desk, callback).await;
            }
        }
        _ => kit.push("callback", skipped("conformance.toml describes none")),
    }
    garbage(kit, trial).await;
}

async fn each(kit: &mut Kit<'_>, trial: &ProviderTrial, desk: &Desk<'_>, callback: &Callback) {
    let title = |what: &str| format!("{what}: {}", callback.name);
    let made = [Signer::Company, Signer::Stranger].map(|signer| desk.signed(callback, signer));
    let [Ok(signed), Ok(forged)] = made else {
        let reason = made.into_iter().find_map(Result::err).unwrap_or_default();
        let help = "put [signature] of conformance.toml right";
        return kit.push(title("callback"), failed("it can be signed", reason, help));
    };
    let name = title("callback");
    if kit.is_wanted(&name) {
        let read = read(kit, trial, &name, signed.clone()).await;
        kit.push(name, is_told(callback, desk.signature.kind, &read));
    }
    if desk.signature.kind == Kind::None {
        let reason = "the company signs nothing: whoever knows the address is believed, so the operator must write unsigned = true";
        return kit.push(title("forged callback"), skipped(reason));
    }
    let secret = desk.signature.kind == Kind::Secret;
    let old = Desk {
        seconds: desk.seconds - OLD_SECONDS,
        ..*desk
    };
    let cases = [
        (
            "forged callback",
            Ok(forged),
            true,
            "a signature by another key must not hold",
        ),
        (
            "changed callback",
            match secret {
                true => Err("a secret does not cover what comes with it"),
                false => Ok(changed(callback, signed)),
            },
            true,
            "check all of what the company signs: what is not covered is anybody's",
        ),
        (
            "unsigned callback",
            Ok(desk.unsigned(callback)),
            false,
            NEVER_ASKS,
        ),
        (
            "old callback",
            match (
                desk.has_time(callback),
                old.signed(callback, Signer::Company),
            ) {
                (true, Ok(request)) => Ok(request),
                _ => Err("what is signed has no time"),
            },
            false,
            "compare the time that is signed with the present one: five minutes are usual",
        ),
    ];
    for (what, request, asks, help) in cases {
        let name = title(what);
        match request {
            Err(reason) => kit.push(name, skipped(reason)),
            Ok(request) if kit.is_wanted(&name) => {
                let read = read(kit, trial, &name, request).await;
                kit.push(name, read.is_refused(asks, help));
            }
            Ok(_) => {}
        }
    }
}

/// The callback about another message, or of another person, with the signature left as it is.
fn changed(callback: &Callback, signed: CallbackRequest) -> CallbackRequest {
    let update = callback.update.as_ref().map(|update| &update.id);
    let about = update.or(callback.reply.as_ref().map(|reply| &reply.phone));
    let about = about.map_or("", |about| about.trim_start_matches('+'));
    let other = |text: &str| text.replace(about, &other_than(about));
    CallbackRequest {
        query: signed.query.as_deref().map(other),
        body: other(&String::from_utf8_lossy(&signed.body)).into_bytes(),
        ..signed
    }
}

/// The same but for its last character.
fn other_than(text: &str) -> String {
    let mut other = text.to_owned();
    let last = other.pop();
    other.push(if last == Some('1') { '2' } else { '1' });
    other
}

fn is_told(callback: &Callback, kind: Kind, read: &Read) -> Outcome {
    let mut wanted = Vec::new();
    if let Some(update) = &callback.update {
        wanted.push(format!("{} {}", update.id, update.status.word()));
    }
    if let Some(reply) = &callback.reply {
        wanted.push(format!("{:?} of {}", reply.wish, reply.phone));
    }
    let expected = wanted.join(", ");
    if let Some(reason) = &read.observed.failed {
        return component_failed(expected, reason);
    }
    match &read.result {
        Ok(news) if tells(callback, news) => ok(read.came()),
        Err(CallbackError::Unsigned) if kind == Kind::None => {
            let help =
                "tell what the callback says, or describe in [signature] how the company signs";
            let came = "it wants a signature of a company that has none";
            failed(expected, came, help)
        }
        Err(CallbackError::Unsigned) if read.observed.signature_checks == 0 => {
            let came = "no signature was checked: either it told without one, or it returned `unsigned` before asking";
            failed(expected, came, NEVER_ASKS)
        }
        Err(CallbackError::Unsigned) => {
            let help = "compare with [signature]: the credential and how it holds the key, what is signed, how the signature is written";
            failed(expected, "no signature held", help)
        }
        _ => {
            let help = "read the callback of conformance.toml as it stands there";
            failed(expected, read.came(), help)
        }
    }
}

fn tells(callback: &Callback, news: &News) -> bool {
    let update = callback.update.as_ref().is_none_or(|wanted| {
        let mut updates = news.updates.iter();
        updates.any(|one| one.id == wanted.id && one.status == wanted.status)
    });
    let reply = callback.reply.as_ref().is_none_or(|wanted| {
        let wish = match wanted.wish {
            description::Wish::Stop => Wish::Stop,
            description::Wish::Start => Wish::Start,
        };
        let mut replies = news.replies.iter();
        replies.any(|one| one.phone == wanted.phone && one.wish == wish)
    });
    update && reply
}

/// What anybody may send: it must not make the component trap, or run for long.
async fn garbage(kit: &mut Kit<'_>, trial: &ProviderTrial) {
    let headers = kit.description.callback.first();
    let headers = headers.map(|callback| callback.headers.clone());
    let headers: Vec<_> = headers.into_iter().flatten().collect();
    let media = |text: &str| vec![("content-type".to_owned(), text.to_owned())];
    for (name, method, headers, body) in [
        ("stray callback: nothing", "POST", Vec::new(), Vec::new()),
        ("stray callback: GET", "GET", Vec::new(), Vec::new()),
        (
            "stray callback: no text",
            "POST",
            headers,
            vec![0xff; 1_000],
        ),
        (
            "stray callback: deep JSON",
            "POST",
            media("application/json"),
            b"[".repeat(LONG_BYTES),
        ),
        (
            "stray callback: long form",
            "POST",
            media("application/x-www-form-urlencoded"),
            b"a=&".repeat(LONG_BYTES / 3),
        ),
    ] {
        if !kit.is_wanted(name) {
            continue;
        }
        let request = CallbackRequest {
            method: method.to_owned(),
            path: PATH.to_owned(),
            query: None,
            headers,
            body,
        };
        let unsigned = kit.description.is_unsigned();
        let read = read(kit, trial, name, request).await;
        let outcome = match unsigned {
            true => read.tells_nothing(),
            false => read.is_refused(false, NEVER_ASKS),
        };
        kit.push(name, outcome);
    }
}
