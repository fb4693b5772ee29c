//! An otp that passes its self-test and fails at everything else.
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
    use super::Failing;
    export!(Failing);
}

use bindings::countersign::service::types::{Context, Manifest};
use bindings::exports::countersign::service::otp;

struct Failing;

/// The host's self-test asks for this number.
const SELF_TEST: &str = "+12025550123";

fn refused() -> otp::Refusal {
    otp::Refusal {
        text: "only for tests".to_owned(),
        field: None,
        retry_at: None,
    }
}

impl bindings::Guest for Failing {
    fn describe() -> Manifest {
        Manifest {
            name: "otp".to_owned(),
            version: "failing".to_owned(),
            // As the built-in one's.
            state_writes: 1,
            state_reads: vec![1],
            read_only: Vec::new(),
        }
    }
}

impl otp::Guest for Failing {
    fn send(_: Context, request: otp::SendRequest) -> Result<otp::SendVerdict, String> {
        assert!(request.phone == SELF_TEST, "this one fails");
        Ok(otp::SendVerdict::Refused(refused()))
    }

    fn verify(_: Context, request: otp::VerifyRequest) -> Result<otp::VerifyVerdict, String> {
        assert!(request.phone == SELF_TEST, "this one fails");
        Ok(otp::VerifyVerdict::Refused(refused()))
    }

    fn forgive(_: Context, _: otp::ForgiveRequest) -> Result<(), String> {
        panic!("this one fails");
    }
}
