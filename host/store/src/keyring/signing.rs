//! Keys that the host signs with: Ed25519 (RFC 8032), so that whoever has the public half checks a
//! signature without asking the host.
//!
//! The newest one signs. One that was followed by another counts for as long as what it signed may
//! live and a day more, for who has looked up the public keys before the rotation; then it is told to
//! nobody, though its file may still be there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use countersign_types::{UnixMillis, hex};

/// How long what is signed may live.
pub const SIGNED_TIME_MAX: Duration = Duration::from_secs(5 * 60);
/// For how long after its successor's first use a key still counts.
const RETIRES_AFTER: Duration = Duration::from_secs(24 * 3_600 + 5 * 60);

/// One key pair.
pub struct SigningKey {
    id: String,
    pair: Ed25519KeyPair,
    public: [u8; 32],
    parsed: ParsedPublicKey,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish()
    }
}

impl SigningKey {
    /// The pair that `seed` stands for.
    pub(super) fn new(seed: &[u8; 32]) -> Option<SigningKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let public: [u8; 32] = pair.public_key().as_ref().try_into().ok()?;
        let parsed = ParsedPublicKey::new(&ED25519, public).ok()?;
        Some(SigningKey {
            id: hex(&digest(&SHA256, &public).as_ref()[..16]),
            pair,
            public,
            parsed,
        })
    }

    /// What names the key: 32 hexadecimal digits, from the SHA-256 of its public half, so that another
    /// key never has the same name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public half.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The signature of `message`, 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    /// Whether `signature` is this key's of `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    /// What a store remembers it by.
    pub(super) fn fingerprint(&self) -> [u8; 8] {
        let mut print = [0; 8];
        print.copy_from_slice(&digest(&SHA256, &self.public).as_ref()[..8]);
        print
    }
}

/// A key, and since when it is the newest; `None` where no store has been asked yet.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) key: Arc<SigningKey>,
    pub(super) since: Option<UnixMillis>,
}

/// The keys that count at `now`, by their ids in ascending order.
pub(super) fn counting(signers: &BTreeMap<u32, Signer>, now: UnixMillis) -> Vec<Arc<SigningKey>> {
    let next = signers.values().skip(1).map(Some).chain([None]);
    signers
        .values()
        .zip(next)
        .filter(|(_, next)| {
            let followed = next.and_then(|next| next.since);
            followed.is_none_or(|since| now < since + RETIRES_AFTER)
        })
        .map(|(signer, _)| signer.key.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const SEED: [u8; 32] = [
        0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e,
        0x0f, 0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8,
        0xa6, 0xfb,
    ];

    #[test]
    fn a_signature_is_that_of_rfc_8032() {
        let key = SigningKey::new(&SEED).expect("a key");
        let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
        assert_eq!(hex(key.public()), public);
        let want = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(hex(&key.sign(&[0x72])), want);
    }

    #[test]
    fn only_the_keys_own_signature_of_the_very_message_holds() {
        let key = SigningKey::new(&SEED).expect("a key");
        let other = SigningKey::new(&[7; 32]).expect("a key");
        let signature = key.sign(b"message");
        assert!(key.verify(b"message", &signature));
        assert!(!key.verify(b"massage", &signature));
        assert!(!other.verify(b"message", &signature));
        assert_ne!(key.id(), other.id());
        for at in 0..signature.len() {
            let mut damaged = signature.clone();
            damaged[at] ^= 1;
            assert!(!key.verify(b"message", &damaged), "byte {at}");
        }
        for wrong in [&[][..], &signature[..63], &[0; 64], &[0; 65]] {
            assert!(!key.verify(b"message", wrong));
        }
    }

    #[test]
    fn a_key_does_not_print() {
        let key = SigningKey::new(&SEED).expect("a key");
        let want = format!("SigningKey {{ id: \"{}\" }}", key.id());
        assert_eq!(format!("{key:?}"), want);
    }

    #[test]
    fn a_key_counts_for_a_day_and_five_minutes_after_the_next_ones_first_use() {
        let signer = |seed: u8, since| Signer {
            key: Arc::new(SigningKey::new(&[seed; 32]).expect("a key")),
            since: Some(UnixMillis(since)),
        };
        let mut signers = BTreeMap::from([
            (1, signer(1, 0)),
            (2, signer(2, 1_000)),
            (3, signer(3, 90_000_000)),
        ]);
        let check = |signers: &BTreeMap<u32, Signer>, now, want: &[u32]| {
            let counting = counting(signers, UnixMillis(now));
            let counting: Vec<&str> = counting.iter().map(|key| key.id()).collect();
            let want: Vec<&str> = want.iter().map(|id| signers[id].key.id()).collect();
            assert_eq!(counting, want, "at {now}");
        };
        let span = 86_700_000;
        check(&signers, 1_000 + span - 1, &[1, 2, 3]);
        check(&signers, 1_000 + span, &[2, 3]);
        check(&signers, 90_000_000 + span - 1, &[2, 3]);
        check(&signers, 90_000_000 + span, &[3]);
        check(&signers, u64::MAX, &[3]);
        // Nobody knows yet since when it has been used.
        signers
            .insert(4, signer(4, 0))
            .is_none()
            .then_some(())
            .expect("new");
        signers.get_mut(&4).expect("there").since = None;
        check(&signers, u64::MAX, &[3, 4]);
        check(&BTreeMap::new(), 0, &[]);
    }
}
