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

use bindings::countersign::service::otp;
use bindings::countersign::service::types::{Context, Manifest};

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
        script::run(&context, &text, &|text| nested(&context, text))
    }

    fn read(context: Context, text: String) -> Result<String, String> {
        Self::run(context, text)
    }
}
