//! Tickets: what a browser carries for us, in a cookie or in an address, and can neither read nor make.
//!
//! A ticket is sealed like a row, for a purpose and for the administrator's token: with another token, or
//! on another host's keys, it is none. It holds nothing of the token.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_store::Keyring;
use countersign_types::Secret;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Far above the longest.
const CHARS_MAX: usize = 512;

/// There is no key to seal it with.
#[derive(Debug, thiserror::Error)]
#[error("there is no key to seal it with")]
pub(crate) struct Unsealable;

/// Tickets of one purpose.
pub(super) struct Tickets {
    keyring: Arc<Keyring>,
    place: Vec<u8>,
}

impl Tickets {
    /// Tickets for `purpose`, which no row's key begins with, of who has `admin_token`.
    pub(super) fn new(
        keyring: Arc<Keyring>,
        purpose: &[u8],
        admin_token: Option<&Secret<String>>,
    ) -> Tickets {
        let token = admin_token.map_or(b"".as_slice(), |token| token.expose().as_bytes());
        Tickets {
            keyring,
            place: [purpose, digest(&SHA256, token).as_ref()].concat(),
        }
    }

    /// What is plain data, as text for a cookie or an address. Equal data is equal text.
    ///
    /// # Errors
    ///
    /// When it cannot be sealed.
    pub(super) fn seal<T: Serialize>(&self, plain: &T) -> Result<String, Unsealable> {
        // Plain data always becomes bytes.
        let plain = postcard::to_allocvec(plain).unwrap_or_default();
        let sealed = self.keyring.seal(&self.place, &plain);
        Ok(URL_SAFE_NO_PAD.encode(sealed.map_err(|_| Unsealable)?))
    }

    /// What is in a ticket, where it is one of these.
    pub(super) fn open<T: DeserializeOwned>(&self, text: &str) -> Option<T> {
        if text.len() > CHARS_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let plain = self.keyring.unseal(&self.place, &sealed).ok()?;
        postcard::from_bytes(&plain).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{keyring, store};

    #[test]
    fn a_ticket_that_was_changed_or_is_of_another_token_or_purpose_is_none() {
        let (folder, _store) = store();
        let token = |text: &str| Secret::new(text.to_owned());
        let tickets = |purpose: &[u8], admin: Option<Secret<String>>| {
            Tickets::new(keyring(folder.path()), purpose, admin.as_ref())
        };
        let own = tickets(b"test", Some(token("swordfish")));
        let text = own.seal(&"canary").expect("sealed");
        assert!(!text.contains("canary") && !text.contains("swordfish"));
        assert_eq!(own.open::<String>(&text).as_deref(), Some("canary"));
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("text");
            assert_eq!(own.open::<String>(&changed), None, "byte {at}");
            assert_eq!(own.open::<String>(&text[..at]), None, "cut at {at}");
        }
        assert_eq!(own.open::<String>(&"A".repeat(100_000)), None);
        for other in [
            tickets(b"test", Some(token("swordfisH"))),
            tickets(b"test", None),
            tickets(b"tesT", Some(token("swordfish"))),
        ] {
            assert_eq!(other.open::<String>(&text), None);
        }
    }
}
