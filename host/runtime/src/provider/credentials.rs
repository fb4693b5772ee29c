//! Secrets that a provider names and never sees.

use std::collections::HashMap;

use base64::Engine as _;
use countersign_types::Secret;

/// A provider's credentials by name.
#[derive(Clone)]
pub(super) struct Credentials(HashMap<String, Secret<String>>);

impl Credentials {
    pub(super) fn new(credentials: &[(String, Secret<String>)]) -> Credentials {
        Credentials(credentials.iter().cloned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|secret| secret.expose().as_str())
    }

    /// `text` with every credential in it removed: what a provider echoes may hold one, in plain or
    /// as a part of the header that carried it.
    pub(super) fn scrub(&self, text: &str) -> String {
        let text = without_base64(text, |decoded| {
            let holds = |secret: &Secret<String>| decoded.contains(secret.expose().as_str());
            self.0.values().any(holds)
        });
        self.0
            .values()
            .map(|secret| secret.expose().as_str())
            .filter(|secret| secret.len() >= 4)
            .fold(text, |text, secret| text.replace(secret, "***"))
    }
}

/// `text` without the words that are base64 of something that is `secret`.
fn without_base64(text: &str, secret: impl Fn(&str) -> bool) -> String {
    let in_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(in_base64) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|c| !in_base64(c)).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        clean.push_str(before);
        let decoded = base64::prelude::BASE64_STANDARD.decode(word);
        let found = decoded.is_ok_and(|bytes| secret(&String::from_utf8_lossy(&bytes)));
        clean.push_str(if found { "***" } else { word });
        rest = after;
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_removed_in_plain_and_in_a_basic_header() {
        let token = (
            "auth-token".to_owned(),
            Secret::new("s3cret-token".to_owned()),
        );
        let credentials = Credentials::new(&[token]);
        let pair = base64::prelude::BASE64_STANDARD.encode("AC123:s3cret-token");
        let said = format!("bad token s3cret-token in \"Basic {pair}\", sorry");
        assert_eq!(
            credentials.scrub(&said),
            "bad token *** in \"Basic ***\", sorry"
        );
        assert_eq!(credentials.scrub("nothing here"), "nothing here");
    }
}
