//! Proofs: signed statements that a user has shown a second factor just now.
//!
//! A proof is a JWT (RFC 7519) in the compact form of RFC 7515, signed with Ed25519 (RFC 8037), so that
//! any back end checks it with the keys of `/.well-known/jwks.json`. This server itself takes one in
//! place of a factor when something about a user's factors is to change.
//!
//! Only what this module has made is accepted here, to the letter: one algorithm, one type, no header
//! and no claim beside those that are written. Nothing in the token decides how it is checked (RFC 8725,
//! 3.1, 3.8, 3.11).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_runtime::{FactorProof, UserId};
use countersign_store::{Keyring, SIGNED_TIME_MAX, SigningKey};
use countersign_types::{UnixMillis, hex};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const ALGORITHM: &str = "EdDSA";
/// `application/countersign-proof+jwt`, as RFC 8725, 3.11 wants it: no other JWT that is signed with these
/// keys can be taken for a proof.
const TYPE: &str = "countersign-proof+jwt";
/// Far above the longest.
const BYTES_MAX: usize = 4 * 1024;

/// What proofs say beside whom they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProofSettings {
    /// `iss`: who says it.
    pub(crate) issuer: String,
    /// `aud`: whom it is said to.
    pub(crate) audience: String,
    /// How long it is good for, at most five minutes.
    pub(crate) time: Duration,
}

/// Makes proofs and checks them.
pub(crate) struct Proofs {
    keyring: Arc<Keyring>,
    settings: ProofSettings,
    /// When the store was made from a backup: an earlier proof may have been used since that.
    restored: UnixMillis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// In seconds since 1970 (RFC 7519, 2).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: u64,
    exp: u64,
    jti: String,
    /// RFC 8176.
    amr: Vec<String>,
}

impl Proofs {
    /// Proofs that are signed with the newest signing key of `keyring`. Those from before `restored` change
    /// nothing here.
    pub(crate) fn new(
        keyring: Arc<Keyring>,
        settings: ProofSettings,
        restored: UnixMillis,
    ) -> Proofs {
        let settings = ProofSettings {
            time: settings.time.min(SIGNED_TIME_MAX),
            ..settings
        };
        Proofs {
            keyring,
            settings,
            restored,
        }
    }

    /// How long one is good for.
    pub(crate) fn time(&self) -> Duration {
        self.settings.time
    }

    /// A proof that `user` has shown a factor at `at`, by `methods`. The same arguments give the same text
    /// until the keys are rotated. `None` where there is no key to sign with.
    pub(crate) fn issue(
        &self,
        user: &UserId,
        methods: &[&str],
        id: [u8; 16],
        at: UnixMillis,
    ) -> Option<String> {
        let key = self.keyring.signing_key()?;
        let header = Header {
            alg: ALGORITHM.to_owned(),
            kid: key.id().to_owned(),
            typ: TYPE.to_owned(),
        };
        let at = at.0 / 1_000;
        let claims = Claims {
            iss: self.settings.issuer.clone(),
            aud: self.settings.audience.clone(),
            sub: user.as_str().to_owned(),
            iat: at,
            exp: at.saturating_add(self.settings.time.as_secs()),
            jti: hex(&id),
            amr: methods.iter().map(|&method| method.to_owned()).collect(),
        };
        let text = format!("{}.{}", part(&header)?, part(&claims)?);
        let signature = URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()));
        Some(format!("{text}.{signature}"))
    }

    /// What `text` proves of `user` at `now`; `None` where it is no proof of this server's, not this user's,
    /// void, or over. Which of these it is helps only who has no business with it. Whether it was used before is
    /// for the call that uses it.
    pub(crate) fn check(&self, text: &str, user: &UserId, now: UnixMillis) -> Option<FactorProof> {
        if text.len() > BYTES_MAX {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = read(header)?;
        if header.alg != ALGORITHM || header.typ != TYPE {
            return None;
        }
        let keys = self.keyring.signing_keys(now);
        let key = keys.iter().find(|key| key.id() == header.kid)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !key.verify(signed.as_bytes(), &signature) {
            return None;
        }
        let claims: Claims = read(claims)?;
        // Whatever its `exp` says: the time may have been longer when it was signed.
        let ends = claims.iat.saturating_add(self.settings.time.as_secs());
        let ends = claims.exp.min(ends);
        let made = UnixMillis(claims.iat.saturating_mul(1_000));
        let now = now.0 / 1_000;
        // A proof tells whole seconds, and so does the time of a restore.
        let holds = claims.iat >= self.restored.0 / 1_000
            && claims.iss == self.settings.issuer
            && claims.aud == self.settings.audience
            && claims.sub == user.as_str()
            && (claims.iat..ends).contains(&now);
        holds.then(|| FactorProof {
            id: claims.jti,
            made,
            ends: UnixMillis(ends.saturating_mul(1_000)),
        })
    }

    /// The public keys as a JWK set (RFC 7517), the one that signs first.
    pub(crate) fn key_set(&self, now: UnixMillis) -> Value {
        let keys = self.keyring.signing_keys(now);
        let keys: Vec<Value> = keys.iter().rev().map(|key| public_key(key)).collect();
        json!({ "keys": keys })
    }
}

/// RFC 8037, 2.
fn public_key(key: &SigningKey) -> Value {
    json!({
        "kty": "OKP",
        "crv": "Ed25519",
        "x": URL_SAFE_NO_PAD.encode(key.public()),
        "kid": key.id(),
        "alg": ALGORITHM,
        "use": "sig",
    })
}

fn part(value: &impl Serialize) -> Option<String> {
    let json = serde_json::to_vec(value).ok()?;
    Some(URL_SAFE_NO_PAD.encode(json))
}

/// A part that is one JSON object with exactly the fields of `T`, each once.
fn read<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests;
