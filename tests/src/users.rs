//! A user of an application: asked about by the application's back end, or by the user's own device.

use aws_lc_rs::hmac;
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Answer, Client, FakeTwilio};

/// How long a code of an authenticator app is shown (RFC 6238).
const STEP_SECONDS: u64 = 30;

/// A user, and how they are asked about.
#[derive(Clone, Debug)]
pub struct User {
    client: Client,
    headers: Vec<(String, String)>,
}

/// What an enrolment has brought.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// The ten backup codes.
    pub backup_codes: Vec<String>,
    /// A proof of the phone.
    pub proof: String,
}

impl Client {
    /// The user `id`, as the application whose key this client shows asks about them.
    pub fn user(&self, id: &str) -> User {
        User {
            client: self.clone(),
            headers: vec![("x-countersign-user".to_owned(), id.to_owned())],
        }
    }

    /// The device of a user who was handed `token`.
    pub fn device(&self, token: &str) -> User {
        User {
            client: self.with_key(token),
            headers: Vec::new(),
        }
    }

    /// A token of the user `id`.
    pub async fn token(&self, id: &str, purpose: &str) -> String {
        let path = format!("/api/users/{id}/tokens");
        let made = self.post(&path, &json!({ "purpose": purpose })).await;
        let made = made.expect_status(201).json();
        made["token"].as_str().unwrap().to_owned()
    }
}

impl User {
    /// The same user, with one header more on every request.
    #[must_use]
    pub fn header(&self, name: &str, value: &str) -> Self {
        let mut user = self.clone();
        user.headers.push((name.to_owned(), value.to_owned()));
        user
    }

    /// The same user with a proof.
    #[must_use]
    pub fn proving(&self, proof: &str) -> Self {
        self.header("x-countersign-proof", proof)
    }

    /// A `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = serde_json::to_vec(body).unwrap();
        self.request(Method::POST, path, body).await
    }

    /// A `POST` without a body.
    pub async fn post_nothing(&self, path: &str) -> Answer {
        self.request(Method::POST, path, Vec::new()).await
    }

    async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        let own = self.headers.iter();
        headers.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
        let answer = self.client.request(method, path, &headers, body).await;
        answer.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// `GET /api/2fa`.
    pub async fn status(&self) -> Answer {
        self.request(Method::GET, "/api/2fa", Vec::new()).await
    }

    /// `POST /api/2fa/enable`.
    pub async fn enable(&self, phone: &str) -> Answer {
        let body = json!({ "phoneNumber": phone });
        self.post("/api/2fa/enable", &body).await
    }

    /// `POST /api/2fa/verify-enable`.
    pub async fn verify_enable(&self, code: &str) -> Answer {
        let body = json!({ "code": code });
        self.post("/api/2fa/verify-enable", &body).await
    }

    /// `POST /api/2fa/disable`.
    pub async fn disable(&self) -> Answer {
        self.post("/api/2fa/disable", &json!({})).await
    }

    /// `POST /api/2fa/backup-codes`.
    pub async fn new_backup_codes(&self) -> Answer {
        self.post("/api/2fa/backup-codes", &json!({})).await
    }

    /// `POST /api/2fa/totp`.
    pub async fn totp(&self) -> Answer {
        self.post("/api/2fa/totp", &json!({})).await
    }

    /// `POST /api/2fa/totp/verify`.
    pub async fn totp_verify(&self, code: &str) -> Answer {
        let body = json!({ "code": code });
        self.post("/api/2fa/totp/verify", &body).await
    }

    /// `POST /api/login/2fa/send`.
    pub async fn login_send(&self) -> Answer {
        self.post("/api/login/2fa/send", &json!({})).await
    }

    /// `POST /api/login/2fa`.
    pub async fn login(&self, code: &str) -> Answer {
        let body = json!({ "code": code });
        self.post("/api/login/2fa", &body).await
    }

    /// Enrols a phone that has had no message yet.
    pub async fn enrol(&self, twilio: &FakeTwilio, phone: &str) -> Enrolled {
        self.enable(phone).await.expect_success();
        let code = twilio.nth_code(phone, 1).await;
        let enabled = self.verify_enable(&code).await.expect_success().json();
        Enrolled {
            backup_codes: texts(&enabled["backupCodes"]),
            proof: text(&enabled["proof"]),
        }
    }

    /// A proof that nobody has used yet: logs in with `code`.
    pub async fn prove(&self, code: &str) -> String {
        let login = self.login(code).await.expect_success().json();
        text(&login["proof"])
    }

    /// Enrols an authenticator app of a user who has no factor, and returns its secret. Its code of the
    /// present step and those before are used then.
    pub async fn enrol_totp(&self) -> String {
        let pending = self.totp().await.expect_success().json();
        let secret = text(&pending["secret"]);
        let code = totp(&secret, 0);
        self.totp_verify(&code).await.expect_success();
        secret
    }
}

#[track_caller]
fn text(value: &Value) -> String {
    let text = value.as_str();
    text.unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

#[track_caller]
fn texts(value: &Value) -> Vec<String> {
    let list = value.as_array();
    let list = list.unwrap_or_else(|| panic!("no list: {value}"));
    list.iter().map(text).collect()
}

/// The code that an authenticator app shows now, or so many steps from now (RFC 6238: SHA-1, 6 digits).
pub fn totp(secret: &str, steps: i64) -> String {
    totp_at(secret, Timestamp::now(), steps)
}

/// The code that an authenticator app shows at `time`, or so many steps from it.
///
/// # Panics
/// When that is before 1970.
pub fn totp_at(secret: &str, time: Timestamp, steps: i64) -> String {
    let step = u64::try_from(time.as_second()).unwrap() / STEP_SECONDS;
    of_step(&base32(secret), step.checked_add_signed(steps).unwrap())
}

/// RFC 4226, 5.3.
fn of_step(key: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes(tag[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

/// The bytes of a secret (RFC 4648, 6, without padding).
///
/// # Panics
/// When it is no Base32.
pub fn base32(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'2'..=b'7' => letter - b'2' + 26,
            other => panic!("{other} is no letter of Base32"),
        };
        bits = (bits << 5) | u32::from(value);
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).unwrap());
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the last six digits.
        const BASE32: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert_eq!(base32(BASE32), b"12345678901234567890");
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            let (secret, time) = (BASE32, Timestamp::from_second(seconds).unwrap());
            assert_eq!(totp_at(secret, time, 0), code);
        }
    }
}
