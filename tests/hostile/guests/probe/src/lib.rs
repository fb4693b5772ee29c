//! A service that does what its script says.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "the bindings are generated; the documents are in the WIT"
)]
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../../wit/service", "../../wit"],
        world: "countersign:probe/probe-service",
        generate_all,
    });
    use super::Probe;
    export!(Probe);
}

#[path = "../../script.rs"]
mod script;

use bindings::countersign::service::types::{Context, Manifest, MissLimit};
use bindings::countersign::service::{audit, backup, otp, totp};

struct Probe;

/// A script for a scripted otp, or a number that the real one sends a code to; `verify PHONE CODE`
/// checks one.
fn nested(context: &Context, text: &str) -> Result<String, String> {
    if let Some((phone, code)) = text
        .strip_prefix("verify ")
        .and_then(|rest| rest.split_once(' '))
    {
        let request = otp::VerifyRequest {
            phone: phone.to_owned(),
            code: code.to_owned(),
            purpose: None,
            user: None,
        };
        return match otp::verify(context, &request)? {
            otp::VerifyVerdict::Accepted(_) => Ok("accepted".to_owned()),
            otp::VerifyVerdict::Rejected(refusal) | otp::VerifyVerdict::Refused(refusal) => {
                Ok(refusal.text)
            }
        };
    }
    let request = otp::SendRequest {
        phone: text.replace('|', "\n"),
        purpose: None,
        locale: None,
        user: None,
    };
    match otp::send(context, &request)? {
        otp::SendVerdict::Sent(sent) => Ok(sent.message_id),
        otp::SendVerdict::Refused(refusal) => Ok(refusal.text),
    }
}

/// Five misses in a minute.
const CAP: [MissLimit; 1] = [MissLimit {
    misses: 5,
    window: 60_000,
}];
/// The least that a hash may cost.
const COST: backup::Cost = backup::Cost {
    memory: 1_024,
    passes: 1,
};

/// The steps for authenticator apps, backup codes and the audit trail.
fn own(step: &str, words: &[&str]) -> Option<String> {
    let word = |at: usize| words.get(at).copied().unwrap_or("");
    let number = |at: usize, otherwise: u64| word(at).parse().unwrap_or(otherwise);
    let cap = |at: usize| {
        [MissLimit {
            misses: number(at, 5) as u32,
            window: number(at + 1, 60_000),
        }]
    };
    let app = |verdict| match verdict {
        totp::Verdict::Accepted => "accepted".to_owned(),
        totp::Verdict::Wrong(left) => format!("wrong, {left} left"),
        totp::Verdict::Locked(_) => "locked".to_owned(),
    };
    Some(match step {
        "app-enroll" => totp::enroll(word(0), number(1, 600_000)).to_string(),
        "app-confirm" => app(totp::confirm(word(0), word(1), &CAP)),
        "app-check" => app(totp::check(word(0), word(1), &cap(2))),
        "app-adopt" => {
            totp::adopt(word(0), number(1, 0) as u32);
            "adopted".to_owned()
        }
        "app-status" => {
            let status = totp::status(word(0), &CAP);
            format!("{} {}", status.active, status.pending.is_some())
        }
        "app-unlock" => {
            totp::unlock(word(0));
            "unlocked".to_owned()
        }
        "app-remove" => {
            totp::remove(word(0));
            "removed".to_owned()
        }
        "backup-issue" => {
            let cost = backup::Cost {
                memory: number(2, 1_024) as u32,
                passes: number(3, 1) as u32,
            };
            backup::issue(word(0), number(1, 3) as u8, cost).to_string()
        }
        "backup-check" => match backup::check(word(0), word(1), COST, &CAP) {
            backup::Verdict::Accepted(left) => format!("accepted, {left} left"),
            backup::Verdict::Wrong(left) => format!("wrong, {left} left"),
            backup::Verdict::Used(left) => format!("used, {left} left"),
            backup::Verdict::Locked(_) => "locked".to_owned(),
        },
        "backup-adopt" => {
            backup::adopt(word(0), number(1, 0) as u32);
            "adopted".to_owned()
        }
        "backup-status" => format!("{:?}", backup::status(word(0), &CAP).left),
        "audit" => {
            audit::record(&audit::Entry {
                user: word(0).to_owned(),
                kind: word(1).to_owned(),
                attributes: vec![("n".to_owned(), word(2).to_owned())],
            });
            "recorded".to_owned()
        }
        _ => return None,
    })
}

impl bindings::Guest for Probe {
    fn describe() -> Manifest {
        Manifest {
            name: "probe".to_owned(),
            version: "1".to_owned(),
            state_writes: 1,
            state_reads: vec![1],
            read_only: vec!["read".to_owned()],
        }
    }
}

impl bindings::exports::countersign::probe::probe::Guest for Probe {
    fn run(context: Context, text: String) -> Result<String, String> {
        script::run(&context, &text, &|text| nested(&context, text), &own)
    }

    fn read(context: Context, text: String) -> Result<String, String> {
        Self::run(context, text)
    }
}
