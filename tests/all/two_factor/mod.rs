//! Two-factor authentication: enrolment, login, changes, tokens, proofs, support, moving in.

mod attacks;
mod changes;
mod flow;
mod import;
mod many;
mod proofs;
mod rules;
mod support;
mod tokens;

use countersign_tests::{Answer, FakeTwilio, Server, User, phone};
use serde_json::{Value, json};

use crate::start;

/// The reason for a code that is not accepted at a login (*contract*).
pub(crate) const INVALID_CODE: &str = "Invalid code";

/// A user with the first phone, and the code that was just sent there for a login.
async fn asked_for_a_code(server: &Server, twilio: &FakeTwilio) -> (User, String) {
    let user = server.user("user-1");
    user.enrol(twilio, &phone(1)).await;
    user.login_send().await.expect_success();
    (user, twilio.nth_code(&phone(1), 2).await)
}

/// What a rejected code is answered with.
fn rejected(reason: &str) -> Value {
    json!({ "valid": false, "reason": reason })
}

/// What is answered where the user has no factor (*contract*).
fn not_enabled() -> Value {
    json!({ "error": "2FA not enabled" })
}

#[track_caller]
fn expect_proof_required(answer: Answer) {
    let problem = answer.expect_problem(403);
    let kind = problem.json()["type"].clone();
    assert_eq!(kind, "urn:countersign:error:proof-required");
    let challenge = problem.header("www-authenticate").unwrap_or_default();
    assert!(
        challenge.contains("insufficient_user_authentication"),
        "{challenge}"
    );
}

#[track_caller]
fn expect_code(answer: Answer, status: u16, code: &str) {
    let problem = answer.expect_problem(status).json();
    let want = format!("urn:countersign:error:{code}");
    assert_eq!(problem["type"], want, "{problem}");
}
