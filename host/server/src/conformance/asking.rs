//! Asking what became of messages.

use countersign_runtime::{Observed, ProviderManifest, ProviderTrial};
use countersign_types::{SendError, StatusUpdate};

use super::company::{Act, Answer};
use super::{Kit, Outcome, answer, component_failed, failed, ok, skipped};

const NAME: &str = "status";

/// What came of a question.
struct Asked {
    result: Result<Vec<StatusUpdate>, SendError>,
    observed: Observed,
}

impl Asked {
    fn came(&self) -> String {
        match &self.result {
            Ok(updates) if updates.is_empty() => "nothing".to_owned(),
            Ok(updates) => {
                let updates = updates.iter();
                let updates = updates.map(|one| format!("{} {}", one.id, one.status.word()));
                updates.collect::<Vec<_>>().join(", ")
            }
            Err(error) => format!("`{}`: {}", error.class.word(), error.text),
        }
    }
}

pub(super) async fn run(kit: &mut Kit<'_>, trial: &ProviderTrial, manifest: &ProviderManifest) {
    if !kit.is_wanted(NAME) {
        return;
    }
    let description = kit.description;
    let status = match (&description.status, manifest.tells_status) {
        (Some(status), true) => status,
        (None, false) => {
            return kit.push(
                NAME,
                skipped("the company cannot be asked: the manifest has no `fetch-status`"),
            );
        }
        (None, true) => {
            let help = "write a [status] into conformance.toml, or leave the attribute out";
            let came = "no answer to that";
            return kit.push(NAME, failed("the manifest says `fetch-status`", came, help));
        }
        (Some(_), false) => {
            let help = "say `fetch-status` = `supported` in the attributes of the manifest";
            let came = "the host never asks";
            return kit.push(NAME, failed("[status] is asked for", came, help));
        }
    };
    let ids = [status.update.id.clone()];
    let whole = answer(status.status, &status.headers, &status.body);
    let asked = ask(kit, trial, NAME, Act::Answer(whole.clone()), &ids).await;
    let expected = format!("{} {}", status.update.id, status.update.status.word());
    let told = asked.result.as_ref().is_ok_and(|updates| {
        let mut updates = updates.iter();
        updates.any(|one| one.id == status.update.id && one.status == status.update.status)
    });
    let outcome = match &asked.observed.failed {
        Some(reason) => component_failed(expected, reason),
        None if told => ok(asked.came()),
        None => failed(expected, asked.came(), "read the answer of [status]"),
    };
    kit.push(NAME, outcome);
    let broken = |status| {
        Act::Answer(Answer {
            status,
            body: b"<html>".to_vec(),
            ..Answer::default()
        })
    };
    for (name, act) in [
        ("status: HTTP 404", broken(404)),
        ("status: HTTP 500", broken(500)),
        ("status: malformed answer", broken(status.status)),
        ("status: hang-up", Act::Cut(whole)),
    ] {
        if kit.is_wanted(name) {
            let asked = ask(kit, trial, name, act, &ids).await;
            kit.push(name, tells_nothing(&asked));
        }
    }
}

async fn ask(
    kit: &mut Kit<'_>,
    trial: &ProviderTrial,
    case: &str,
    act: Act,
    ids: &[String],
) -> Asked {
    kit.company.play(act);
    let (result, observed) = trial.fetch_status(ids).await;
    kit.saw(case, &observed);
    Asked { result, observed }
}

fn tells_nothing(asked: &Asked) -> Outcome {
    const EXPECTED: &str = "nothing, or an error";
    match (&asked.observed.failed, &asked.result) {
        (Some(reason), _) => component_failed(EXPECTED, reason),
        (None, Ok(updates)) if !updates.is_empty() => failed(
            EXPECTED,
            asked.came(),
            "tell only what the company has said",
        ),
        _ => ok(asked.came()),
    }
}
