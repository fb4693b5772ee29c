//! Twilio's status callbacks, signed as Twilio signs them.
//!
//! Source: `twilio/twilio-python` `twilio/request_validator.py`.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use url::form_urlencoded;

use crate::messages_api::{ACCOUNT_SID, AUTH_TOKEN, Message, PHONE_NUMBER};
use crate::{Answer, Client};

/// The address under which servers of these tests say that they can be called.
pub const PUBLIC_URL: &str = "https://sms.example.test";

/// A status callback.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The address that it goes to, as it was asked for.
    pub url: String,
    /// The form's fields; for a GET those of the query.
    pub fields: BTreeMap<String, String>,
    /// What the signature is made with.
    pub token: String,
}

impl Receipt {
    /// News of `message`, to the address that was asked for.
    #[track_caller]
    pub fn of(message: &Message, status: &str) -> Self {
        let url = message.status_callback.as_deref();
        let url = url.expect("no status callback was asked for");
        Self::about(url, &message.sid, &message.to, status)
    }

    /// News of whatever is called `sid`, to `url`.
    pub fn about(url: &str, sid: &str, to: &str, status: &str) -> Self {
        let fields = [
            ("AccountSid", ACCOUNT_SID),
            ("ApiVersion", "2010-04-01"),
            ("From", PHONE_NUMBER),
            ("MessageSid", sid),
            ("MessageStatus", status),
            ("SmsSid", sid),
            ("SmsStatus", status),
            ("To", to),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            url: url.to_owned(),
            fields: BTreeMap::from(fields),
            token: AUTH_TOKEN.to_owned(),
        }
    }

    /// The same with a field set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same, signed with another token.
    #[must_use]
    pub fn forged(mut self) -> Self {
        "not-the-token".clone_into(&mut self.token);
        self
    }

    fn form(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.fields)
            .finish()
    }

    /// The signature of a POST of the fields.
    pub fn signature(&self) -> String {
        let fields = self.fields.iter();
        let text: String = fields
            .map(|(name, value)| format!("{name}{value}"))
            .collect();
        sign(&self.token, &format!("{}{text}", self.url))
    }

    /// Sends it to the server behind `client`, at the path of its address.
    pub async fn post(&self, client: &Client) -> Answer {
        let headers = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-twilio-signature", &self.signature()),
        ];
        let path = self.url.strip_prefix(PUBLIC_URL).unwrap();
        let client = client.without_key();
        let sent = client.request(Method::POST, path, &headers, self.form());
        sent.await.unwrap()
    }

    /// Sends it as a GET, where the address alone is signed.
    pub async fn get(&self, client: &Client) -> Answer {
        let url = format!("{}?{}", self.url, self.form());
        let headers = [("x-twilio-signature", &*sign(&self.token, &url))];
        let path = url.strip_prefix(PUBLIC_URL).unwrap();
        let client = client.without_key();
        client
            .request(Method::GET, path, &headers, "")
            .await
            .unwrap()
    }
}

fn sign(token: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_twilios_own_validators() {
        let fields = [
            ("CallSid", "CA1234567890ABCDE"),
            ("Caller", "+14158675309"),
            ("Digits", "1234"),
            ("From", "+14158675309"),
            ("To", "+18005551212"),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let upstream = Receipt {
            url: "https://mycompany.com/myapp.php?foo=1&bar=2".to_owned(),
            fields: BTreeMap::from(fields),
            token: "12345".to_owned(),
        };
        assert_eq!(upstream.signature(), "RSOYDt4T1cUTdK1PDd93/VVr8B8=");
        let url = format!("{PUBLIC_URL}/webhooks/twilio-main");
        let sid = "SM0123456789abcdef0123456789abcdef";
        let ours = Receipt {
            token: "countersign-test-token".to_owned(),
            ..Receipt::about(&url, sid, "+4915123456789", "delivered")
        };
        assert_eq!(ours.signature(), "8hhowiu0yw2QF8tfZqRYfJGK9AU=");
    }
}
