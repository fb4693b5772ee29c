//! A scripted service in the place of otp.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::allow_attributes_without_reason,
    reason = "the bindings are generated; the documents are in the WIT"
)]
#![cfg(target_family = "wasm")]

mod bindings {
    wit_bindgen::generate!({
        path: "../../../../wit/service",
        world: "countersign:service/otp-service",
    });
    use super::Probe;
    export!(Probe);
}

#[path = "../../script.rs"]
mod script;

use bindings::countersign::service::types::{Context, Manifest};
use bindings::exports::countersign::service::otp;

struct Probe;

impl bindings::Guest for Probe {
    fn describe() -> Manifest {
        Manifest {
            name: "otp".to_owned(),
            version: "1".to_owned(),
            // One more than the other probe's, so that it cannot read what this one wrote.
            state_writes: 2,
            state_reads: vec![2],
            read_only: Vec::new(),
        }
    }
}

impl otp::Guest for Probe {
    fn send(context: Context, request: otp::SendRequest) -> Result<otp::SendVerdict, String> {
        let no_more = |_: &str| Err("otp calls nobody".to_owned());
        let text = script::run(&context, &request.phone, &no_more, &|_, _| None)?;
        Ok(otp::SendVerdict::Refused(otp::Refusal {
            text,
            field: None,
            retry_at: None,
        }))
    }

    fn verify(_: Context, _: otp::VerifyRequest) -> Result<otp::VerifyVerdict, String> {
        Err("this one only sends".to_owned())
    }

    fn forgive(_: Context, _: otp::ForgiveRequest) -> Result<(), String> {
        Err("this one only sends".to_owned())
    }
}
