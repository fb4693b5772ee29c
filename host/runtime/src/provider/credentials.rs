//! Secrets that a provider names and never sees.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use countersign_types::Secret;

use super::spellings::Spellings;

/// A provider's credentials by name.
#[derive(Clone)]
pub(super) struct Credentials {
    by_name: HashMap<String, Secret<String>>,
    spellings: Arc<Spellings>,
}

impl Credentials {
    pub(super) fn new(credentials: &[(String, Secret<String>)]) -> Credentials {
        let secrets = credentials.iter().map(|(_, secret)| secret.expose());
        Credentials {
            by_name: credentials.iter().cloned().collect(),
            spellings: Arc::new(Spellings::of(secrets.map(String::as_str))),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let secret = self.by_name.get(name);
        secret.map(|secret| secret.expose().as_str())
    }

    /// `text` with every credential in it removed, in plain, in Base64 or escaped. To be done before
    /// the text is cut, since less than half of a credential is not known again.
    pub(super) fn scrub(&self, text: &str) -> String {
        let clean = self.spellings.remove(text.as_bytes());
        String::from_utf8_lossy(&clean).into_owned()
    }

    /// As [`scrub`](Credentials::scrub), for what need not be text.
    pub(super) fn scrub_bytes(&self, bytes: Vec<u8>) -> Vec<u8> {
        match self.spellings.remove(&bytes) {
            Cow::Borrowed(_) => bytes,
            Cow::Owned(clean) => clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;

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
        let binary = [b"\xff s3cret-token ", &[0xfe][..]].concat();
        assert_eq!(credentials.scrub_bytes(binary), b"\xff *** \xfe");
    }
}
