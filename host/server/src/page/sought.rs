//! What is looked for, in an address: so that a page of results can be reloaded, and come back to, and no
//! address has a number in it that anybody could read.

use std::sync::Arc;

use countersign_store::Keyring;
use countersign_types::{Secret, UnixMillis};
use serde::{Deserialize, Serialize};

use super::session::SESSION_TIME;
use super::ticket::{Tickets, Unsealable};

/// What it is sealed for. No row has this key.
const PURPOSE: &[u8] = b"dashboard search 1";

/// What was typed into the form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Typed {
    pub(crate) phone: String,
    /// Dates, the last one included.
    pub(crate) start: String,
    pub(crate) end: String,
}

/// A page of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sought {
    pub(crate) typed: Typed,
    /// After which message it begins; `None`: with the newest.
    pub(crate) after: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    sought: Sought,
    /// So that equal searches look different.
    salt: [u8; 16],
    ends: UnixMillis,
}

/// Searches in addresses.
pub(crate) struct Searches(Tickets);

impl Searches {
    /// Searches of the administrator who has `admin_token`.
    pub(super) fn new(keyring: Arc<Keyring>, admin_token: Option<&Secret<String>>) -> Searches {
        Searches(Tickets::new(keyring, PURPOSE, admin_token))
    }

    /// A search as part of an address, good for as long as a login; `salt` is random.
    ///
    /// # Errors
    ///
    /// When it cannot be sealed.
    pub(crate) fn seal(
        &self,
        sought: &Sought,
        salt: [u8; 16],
        now: UnixMillis,
    ) -> Result<String, Unsealable> {
        let (sought, ends) = (sought.clone(), now + SESSION_TIME);
        self.0.seal(&Kept { sought, salt, ends })
    }

    /// The search of an address, where it is one of ours and not over.
    pub(crate) fn open(&self, text: &str, now: UnixMillis) -> Option<Sought> {
        let kept: Kept = self.0.open(text)?;
        (now < kept.ends).then_some(kept.sought)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keyring, store};

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    #[test]
    fn a_search_is_good_until_its_end_and_tells_no_number_nor_that_it_is_the_same() {
        let (folder, _store) = store();
        let token = Secret::new("swordfish".to_owned());
        let searches = Searches::new(keyring(folder.path()), Some(&token));
        let sought = Sought {
            typed: Typed {
                // As much as a form may say.
                phone: "+12025550126".repeat(5),
                start: "2026-01-31".to_owned(),
                end: "2026-01-31".to_owned(),
            },
            after: Some("ab".repeat(16)),
        };
        let text = searches.seal(&sought, [1; 16], NOW).expect("sealed");
        assert!(!text.contains("2025550126"));
        assert_ne!(text, searches.seal(&sought, [2; 16], NOW).expect("sealed"));
        let ends = NOW + SESSION_TIME;
        assert_eq!(searches.open(&text, UnixMillis(ends.0 - 1)), Some(sought));
        assert_eq!(searches.open(&text, ends), None);
    }
}
