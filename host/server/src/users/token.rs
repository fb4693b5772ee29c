//! User tokens: what an application hands to its user's device, so that it can enrol or finish a login
//! here by itself.
//!
//! A token is everything that it stands for, sealed: nothing is kept of it until it has been used. Who
//! holds one learns nothing from it and can change nothing in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_runtime::{Caller, UserId};
use countersign_store::{Keyring, Unsealable};
use countersign_types::{Secret, UnixMillis};
use serde::{Deserialize, Serialize};

/// So that it is told from an API key, and found by who looks for leaked ones.
const PREFIX: &[u8] = b"cst_";
/// What it is sealed for. No row has this key.
const PLACE: &[u8] = b"user token 2";
/// Far above the longest.
const BYTES_MAX: usize = 1_024;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// To finish one login.
    Login,
    /// To add the first factor.
    Enroll,
}

impl Purpose {
    /// The purpose that a request calls so.
    pub(crate) fn of(word: &str) -> Option<Purpose> {
        let all = [Purpose::Login, Purpose::Enroll];
        all.into_iter().find(|purpose| purpose.word() == word)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Purpose::Login => "login",
            Purpose::Enroll => "enroll",
        }
    }
}

/// How long tokens are good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TokenSettings {
    pub(crate) login: Duration,
    pub(crate) enroll: Duration,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) purpose: Purpose,
    pub(crate) user: UserId,
    pub(crate) id: [u8; 16],
    pub(crate) ends: UnixMillis,
    /// Who asked for it. It is good for as long as they are.
    pub(crate) maker: Caller,
}

/// A token that was just made.
#[derive(Debug)]
pub(crate) struct NewToken {
    pub(crate) text: Secret<String>,
    pub(crate) ends: UnixMillis,
}

/// There is no key to seal a token with.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a token cannot be sealed")]
pub(crate) struct TokenError;

/// What is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    purpose: Purpose,
    user: String,
    id: [u8; 16],
    made: UnixMillis,
    ends: UnixMillis,
    maker: Caller,
}

/// Makes tokens and reads them.
pub(crate) struct Tokens {
    keyring: Arc<Keyring>,
    settings: TokenSettings,
    /// When the store was made from a backup: an earlier token may have been used since that.
    restored: UnixMillis,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens that are sealed with the newest key for rows of `keyring`. Those from before `restored` are
    /// void.
    pub(crate) fn new(
        keyring: Arc<Keyring>,
        settings: TokenSettings,
        restored: UnixMillis,
    ) -> Tokens {
        Tokens {
            keyring,
            settings,
            restored,
        }
    }

    /// A token that begins at `now`. The same arguments give the same text until the keys are rotated.
    ///
    /// # Errors
    ///
    /// When it cannot be sealed.
    pub(crate) fn make(
        &self,
        purpose: Purpose,
        user: &UserId,
        maker: &Caller,
        id: [u8; 16],
        now: UnixMillis,
    ) -> Result<NewToken, TokenError> {
        let time = match purpose {
            Purpose::Login => self.settings.login,
            Purpose::Enroll => self.settings.enroll,
        };
        let ends = now + time;
        let sealed = Sealed {
            purpose,
            user: user.as_str().to_owned(),
            id,
            made: now,
            ends,
            maker: maker.clone(),
        };
        let plain = postcard::to_allocvec(&sealed).map_err(|_| TokenError)?;
        let sealed = self.keyring.seal(PLACE, &plain);
        let sealed = sealed.map_err(|Unsealable| TokenError)?;
        let mut text = String::from_utf8_lossy(PREFIX).into_owned();
        URL_SAFE_NO_PAD.encode_string(sealed, &mut text);
        Ok(NewToken {
            text: Secret::new(text),
            ends,
        })
    }

    /// Whether `presented` means to be a token, good or not.
    pub(crate) fn is_one(presented: &[u8]) -> bool {
        presented.starts_with(PREFIX)
    }

    /// What the token says; `None` where it is none of this server's, void, or over at `now`.
    pub(crate) fn open(&self, presented: &[u8], now: UnixMillis) -> Option<Token> {
        if presented.len() > BYTES_MAX {
            return None;
        }
        let sealed = presented.strip_prefix(PREFIX)?;
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let plain = self.keyring.unseal(PLACE, &sealed).ok()?;
        let sealed: Sealed = postcard::from_bytes(&plain).ok()?;
        if now >= sealed.ends || sealed.made < self.restored {
            return None;
        }
        Some(Token {
            purpose: sealed.purpose,
            user: sealed.user.parse().ok()?,
            id: sealed.id,
            ends: sealed.ends,
            maker: sealed.maker,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::keyring;
    use countersign_types::SystemEntropy;

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    fn tokens(folder: &tempfile::TempDir) -> Tokens {
        let settings = TokenSettings {
            login: Duration::from_secs(600),
            enroll: Duration::from_secs(1_800),
        };
        Tokens::new(keyring(folder.path()), settings, UnixMillis(0))
    }

    fn make(tokens: &Tokens, purpose: Purpose) -> NewToken {
        let user = "user-1".parse().expect("an id");
        let maker = Caller::Key("AbCdEf1234".to_owned());
        let made = tokens.make(purpose, &user, &maker, [3; 16], NOW);
        made.expect("made")
    }

    #[test]
    fn a_token_is_good_for_its_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = tokens(&folder);
        for (purpose, seconds) in [(Purpose::Login, 600), (Purpose::Enroll, 1_800)] {
            let made = make(&tokens, purpose);
            let ends = NOW + Duration::from_secs(seconds);
            assert_eq!(made.ends, ends);
            let text = made.text.expose().as_bytes();
            let token = tokens.open(text, UnixMillis(ends.0 - 1)).expect("good");
            let want = Token {
                purpose,
                user: "user-1".parse().expect("an id"),
                id: [3; 16],
                ends,
                maker: Caller::Key("AbCdEf1234".to_owned()),
            };
            assert_eq!(token, want);
            assert_eq!(tokens.open(text, ends), None);
        }
    }

    #[test]
    fn a_token_is_opaque_and_belongs_into_a_header() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = tokens(&folder);
        let made = make(&tokens, Purpose::Login);
        let text = made.text.expose();
        let sealed = text.strip_prefix("cst_").expect("begins as tokens do");
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        assert!(sealed.bytes().all(plain), "{text}");
        let bytes = URL_SAFE_NO_PAD.decode(sealed).expect("base64url");
        assert!(
            !bytes
                .windows(4)
                .any(|part| part == b"user" || part == b"AbCd")
        );
        assert!(Tokens::is_one(text.as_bytes()) && !Tokens::is_one(sealed.as_bytes()));
    }

    #[test]
    fn a_token_that_was_changed_or_made_elsewhere_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = tokens(&folder);
        let made = make(&tokens, Purpose::Login);
        let text = made.text.expose().as_bytes();
        assert!(tokens.open(text, NOW).is_some());
        for at in 0..text.len() {
            let mut changed = text.to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(tokens.open(&changed, NOW), None, "byte {at}");
            assert_eq!(tokens.open(&text[..at], NOW), None, "cut at {at}");
        }
        let long = [text, &[b'A'; BYTES_MAX]].concat();
        for wrong in [b"".as_slice(), b"cst_", b"cst_AAAA", &long] {
            assert_eq!(tokens.open(wrong, NOW), None);
        }
        let other = tempfile::tempdir().expect("a folder");
        let elsewhere = Tokens::new(keyring(other.path()), tokens.settings, UnixMillis(0));
        assert_eq!(elsewhere.open(text, NOW), None);
    }

    #[test]
    fn what_is_sealed_for_a_row_is_no_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = tokens(&folder);
        let made = make(&tokens, Purpose::Login);
        let sealed = URL_SAFE_NO_PAD
            .decode(&made.text.expose()[4..])
            .expect("base64url");
        let plain = tokens.keyring.unseal(PLACE, &sealed).expect("a token");
        for place in [b"".as_slice(), b"j/1", b"c/two-factor/user", b"user token"] {
            let row = tokens.keyring.seal(place, &plain).expect("sealed");
            let text = format!("cst_{}", URL_SAFE_NO_PAD.encode(row));
            assert_eq!(tokens.open(text.as_bytes(), NOW), None);
        }
    }

    #[tokio::test]
    async fn a_rotation_of_the_keys_ends_no_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = tokens(&folder);
        let made = make(&tokens, Purpose::Enroll);
        let (_store_folder, store) = crate::testing::store();
        let rotated = tokens.keyring.rotate_in_use(&store, &SystemEntropy).await;
        rotated.expect("rotated");
        assert!(tokens.open(made.text.expose().as_bytes(), NOW).is_some());
    }

    #[test]
    fn a_token_from_before_a_restore_is_void() {
        let folder = tempfile::tempdir().expect("a folder");
        let tokens = tokens(&folder);
        let made = make(&tokens, Purpose::Login);
        let text = made.text.expose().as_bytes();
        let restored_at = |restored| Tokens {
            keyring: tokens.keyring.clone(),
            settings: tokens.settings,
            restored,
        };
        assert!(restored_at(NOW).open(text, NOW).is_some());
        let later = NOW + Duration::from_millis(1);
        assert_eq!(restored_at(later).open(text, later), None);
    }

    #[test]
    fn a_purpose_is_one_of_two_words() {
        assert_eq!(Purpose::of("login"), Some(Purpose::Login));
        assert_eq!(Purpose::of("enroll"), Some(Purpose::Enroll));
        for word in ["", "Login", "enrol", "admin"] {
            assert_eq!(Purpose::of(word), None, "{word}");
        }
    }
}
