//! Secrets that a provider names and never sees.

use std::collections::HashMap;

use countersign_types::Secret;

/// A provider's credentials by name.
pub(super) struct Credentials(HashMap<String, Secret<String>>);

impl Credentials {
    pub(super) fn new(credentials: &[(String, Secret<String>)]) -> Credentials {
        Credentials(credentials.iter().cloned().collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|secret| secret.expose().as_str())
    }

    /// `text` with every credential in it removed: what a provider echoes may hold one.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.0
            .values()
            .map(|secret| secret.expose().as_str())
            .filter(|secret| secret.len() >= 4)
            .fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }
}
