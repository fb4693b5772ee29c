//! `/api/otp/send` and `/api/otp/verify`: the seed's routes, bodies and answers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use countersign_types::UnixMillis;
use serde_json::json;

use super::admitted::Admitted;
use super::answer::{Answer, Judged};
use super::fields::{Fields, PHONE_BYTES_MAX, locale};
use super::problem::{Problem, Refused};
use super::{Api, Refusal, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict};

pub(super) const CODE_BYTES_MAX: usize = 64;
const PURPOSE_BYTES_MAX: usize = 64;

pub(super) async fn send(State(api): State<Arc<Api>>, request: Request) -> Response {
    let Admitted {
        context,
        claim,
        fields,
    } = match Admitted::read(&api, request).await {
        Ok(admitted) => admitted,
        Err(denied) => return denied.into_response(),
    };
    let request = match parse_send(fields) {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let call = async move |once| runtime.otp_send(&context, request, once).await;
    api.answer(claim, answer_send, call).await
}

pub(super) async fn verify(State(api): State<Arc<Api>>, request: Request) -> Response {
    let Admitted {
        context,
        claim,
        fields,
    } = match Admitted::read(&api, request).await {
        Ok(admitted) => admitted,
        Err(denied) => return denied.into_response(),
    };
    let request = match parse_verify(fields) {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    let call = async move |once| runtime.otp_verify(&context, request, once).await;
    api.answer(claim, answer_verify, call).await
}

fn parse_send(mut fields: Fields) -> Result<SendRequest, Refused> {
    Ok(SendRequest {
        phone: fields.text("phoneNumber", PHONE_BYTES_MAX)?,
        purpose: fields.optional_text("purpose", PURPOSE_BYTES_MAX)?,
        locale: locale(&mut fields)?,
    })
}

fn parse_verify(mut fields: Fields) -> Result<VerifyRequest, Refused> {
    Ok(VerifyRequest {
        phone: fields.text("phoneNumber", PHONE_BYTES_MAX)?,
        code: fields.text("code", CODE_BYTES_MAX)?,
        purpose: fields.optional_text("purpose", PURPOSE_BYTES_MAX)?,
    })
}

fn answer_send(verdict: &SendVerdict, now: UnixMillis) -> Judged {
    Ok(match verdict {
        SendVerdict::Sent {
            message_id,
            expires,
        } => Answer::ok(&json!({
            "success": true,
            "expiresAt": expires.to_string(),
            "messageId": message_id,
        })),
        SendVerdict::Refused(refused) => refuse(refused, now),
    })
}

fn answer_verify(verdict: &VerifyVerdict, now: UnixMillis) -> Judged {
    Ok(match verdict {
        VerifyVerdict::Accepted { .. } => Answer::ok(&json!({"success": true})),
        VerifyVerdict::Rejected(rejected) => reject(rejected, now),
        VerifyVerdict::Refused(refused) => refuse(refused, now),
    })
}

/// A code that was not accepted, in the seed's form.
pub(super) fn reject(rejected: &Refusal, now: UnixMillis) -> Answer {
    let body = json!({"valid": false, "reason": rejected.text});
    Answer::refusal(&body, rejected.retry_at, now)
}

/// A request that was refused, in the seed's form.
pub(super) fn refuse(refused: &Refusal, now: UnixMillis) -> Answer {
    let body = Refused {
        error: refused.text.clone(),
        field: refused.field.clone(),
    };
    Answer::refusal(&body, refused.retry_at, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    fn fields(body: &Value) -> Fields {
        Fields::parse(body.to_string().as_bytes()).expect("an object")
    }

    #[test]
    fn a_send_needs_a_number_and_takes_a_purpose_and_a_language() {
        let body =
            json!({"phoneNumber": "+12025550123", "purpose": "sign-up", "locale": "pt-BR", "x": 1});
        let request = parse_send(fields(&body)).expect("good");
        assert_eq!(request.phone, "+12025550123");
        assert_eq!(request.purpose.as_deref(), Some("sign-up"));
        assert_eq!(request.locale.as_deref(), Some("pt-BR"));
        for (body, field) in [
            (json!({}), "phoneNumber"),
            (json!({"phoneNumber": 12}), "phoneNumber"),
            (json!({"phoneNumber": "1", "purpose": 1}), "purpose"),
            (json!({"phoneNumber": "1", "locale": "a b"}), "locale"),
            (
                json!({"phoneNumber": "1", "locale": "a".repeat(36)}),
                "locale",
            ),
        ] {
            let Err(refused) = parse_send(fields(&body)) else {
                panic!("taken: {body}")
            };
            assert_eq!(refused.field.as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn a_verification_needs_number_and_code_as_text() {
        let good = json!({"phoneNumber": "+12025550123", "code": "012345"});
        assert_eq!(parse_verify(fields(&good)).expect("good").code, "012345");
        for (body, field) in [
            (json!({"code": "1"}), "phoneNumber"),
            (json!({"phoneNumber": "1"}), "code"),
            (json!({"phoneNumber": "1", "code": 123456}), "code"),
        ] {
            let Err(refused) = parse_verify(fields(&body)) else {
                panic!("taken: {body}")
            };
            assert_eq!(refused.field.as_deref(), Some(field), "{body}");
        }
    }

    async fn check(judged: Judged, status: u16, retry_after: Option<&str>, want: Value) {
        let response = judged.expect("an answer").into_response();
        assert_eq!(response.status(), status);
        let header = response.headers().get("retry-after");
        assert_eq!(
            header.map(|value| value.to_str().expect("text")),
            retry_after
        );
        assert_eq!(response.headers()["content-type"], "application/json");
        let bytes = axum::body::to_bytes(response.into_body(), 10_000)
            .await
            .expect("read");
        assert_eq!(serde_json::from_slice::<Value>(&bytes).expect("JSON"), want);
    }

    fn refused(text: &str, field: Option<&str>, wait_ms: Option<u64>) -> Refusal {
        Refusal {
            text: text.to_owned(),
            field: field.map(str::to_owned),
            retry_at: wait_ms.map(|wait| UnixMillis(NOW.0 + wait)),
        }
    }

    #[tokio::test]
    async fn answers_to_a_send_are_the_seeds() {
        let sent = SendVerdict::Sent {
            message_id: "m1".to_owned(),
            expires: NOW,
        };
        let want = json!({"success": true, "expiresAt": "2026-01-31T12:00:00Z", "messageId": "m1"});
        check(answer_send(&sent, NOW), 200, None, want).await;
        let wait = "Too many attempts. Please wait 1 minute.";
        let limited = SendVerdict::Refused(refused(wait, None, Some(59_001)));
        check(
            answer_send(&limited, NOW),
            400,
            Some("60"),
            json!({"error": wait}),
        )
        .await;
        let invalid =
            SendVerdict::Refused(refused("Invalid phone number", Some("phoneNumber"), None));
        let want = json!({"error": "Invalid phone number", "field": "phoneNumber"});
        check(answer_send(&invalid, NOW), 400, None, want).await;
    }

    #[tokio::test]
    async fn answers_to_a_verification_are_the_seeds() {
        let accepted = VerifyVerdict::Accepted {
            phone: "+12025550123".to_owned(),
            country: "US".to_owned(),
        };
        check(
            answer_verify(&accepted, NOW),
            200,
            None,
            json!({"success": true}),
        )
        .await;
        let wrong = VerifyVerdict::Rejected(refused("Invalid or expired code", None, None));
        let want = json!({"valid": false, "reason": "Invalid or expired code"});
        check(answer_verify(&wrong, NOW), 400, None, want).await;
        let locked = VerifyVerdict::Rejected(refused("Too many attempts", None, Some(0)));
        let want = json!({"valid": false, "reason": "Too many attempts"});
        check(answer_verify(&locked, NOW), 400, Some("1"), want).await;
        let refused = VerifyVerdict::Refused(refused("Unknown purpose", Some("purpose"), None));
        let want = json!({"error": "Unknown purpose", "field": "purpose"});
        check(answer_verify(&refused, NOW), 400, None, want).await;
    }
}
