//! An otp that passes its self-test and fails at everything else: it traps, but at a number that ends
//! with 77 it never comes to an end, and at one with 78 it cannot decide.
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

fn spin() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
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
        match request.phone.get(request.phone.len().saturating_sub(2)..) {
            _ if request.phone == SELF_TEST => {}
            Some("77") => spin(),
            Some("78") => return Err("it cannot decide".to_owned()),
            _ => panic!("this one fails"),
        }
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
