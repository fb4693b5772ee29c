//! Checks of signatures by credentials that the provider never sees.

use aws_lc_rs::{constant_time, digest, signature};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use countersign_types::Secret;
use data_encoding::HEXLOWER_PERMISSIVE;
use hmac::{KeyInit, Mac};
use md5::{Digest, Md5};

use super::Call;
use super::credentials::Credentials;
use super::words::{Hash, Key, KeyEncoding};

const CHECKS_MAX: u32 = 16;
const DATA_BYTES_MAX: usize = 1024 * 1024;

/// Before a key in Base64, as Standard Webhooks writes it.
const KEY_PREFIX: &str = "whsec_";

/// Base64 with padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The bytes of a key that a provider has named; `None` where there is no such credential, or it holds
/// none in that encoding. An empty one is none: anybody would know it.
pub(super) fn key(credentials: &Credentials, key: &Key) -> Option<Secret<Vec<u8>>> {
    let text = credentials.get(&key.credential)?;
    let bytes = match key.encoding {
        KeyEncoding::Text => text.as_bytes().to_vec(),
        KeyEncoding::Hex => HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok()?,
        KeyEncoding::Base64 => {
            let text = text.trim();
            BASE64
                .decode(text.strip_prefix(KEY_PREFIX).unwrap_or(text))
                .ok()?
        }
    };
    (!bytes.is_empty()).then(|| Secret::new(bytes))
}

/// The HMAC of `parts`, one behind the other.
pub(super) fn hmac(algorithm: Hash, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    use aws_lc_rs::hmac;

    let algorithm = match algorithm {
        Hash::Md5 => return hmac_md5(key, parts),
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let Ok(mut mac) = hmac::Hmac::<Md5>::new_from_slice(key) else {
        unreachable!("an HMAC takes keys of any length");
    };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// The hash of `data` with `key` behind it.
fn keyed_digest(algorithm: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    let algorithm = match algorithm {
        Hash::Md5 => {
            let digest = Md5::new().chain_update(data).chain_update(key);
            return digest.finalize().to_vec();
        }
        Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    let mut context = digest::Context::new(algorithm);
    context.update(data);
    context.update(key);
    context.finish().as_ref().to_vec()
}

impl Call {
    /// Checks `data` by `key`, and remembers that it held: a callback is believed by this, not by what
    /// the component says of it.
    fn check(
        &mut self,
        key: &Key,
        data: &[u8],
        holds: impl FnOnce(&[u8]) -> bool,
    ) -> wasmtime::Result<bool> {
        if data.len() > DATA_BYTES_MAX {
            wasmtime::bail!("a signature over more than {DATA_BYTES_MAX} bytes");
        }
        if self.one.signature_checks >= CHECKS_MAX {
            wasmtime::bail!("more than {CHECKS_MAX} signature checks in one call");
        }
        self.one.signature_checks += 1;
        let key = self::key(&self.grants.credentials, key);
        let holds = key.is_some_and(|key| holds(key.expose()));
        self.one.signature_held |= holds;
        Ok(holds)
    }
}

fn equal(right: &[u8], given: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(right, given).is_ok()
}

impl Call {
    /// Whether `given` is the HMAC of `data` under `key`.
    pub(super) fn holds_hmac(
        &mut self,
        algorithm: Hash,
        key: &Key,
        data: &[u8],
        given: &[u8],
    ) -> wasmtime::Result<bool> {
        self.check(key, data, |key| {
            equal(&hmac(algorithm, key, &[data]), given)
        })
    }

    /// Whether `given` is the hash of `data` with `key` behind it.
    pub(super) fn holds_digest(
        &mut self,
        algorithm: Hash,
        key: &Key,
        data: &[u8],
        given: &[u8],
    ) -> wasmtime::Result<bool> {
        self.check(key, data, |key| {
            equal(&keyed_digest(algorithm, key, data), given)
        })
    }

    /// Whether `given` is `key` itself.
    pub(super) fn holds_secret(&mut self, key: &Key, given: &[u8]) -> wasmtime::Result<bool> {
        self.check(key, given, |key| equal(key, given))
    }

    /// Whether `given` is the Ed25519 signature of `data` by the public `key`.
    pub(super) fn holds_ed25519(
        &mut self,
        key: &Key,
        data: &[u8],
        given: &[u8],
    ) -> wasmtime::Result<bool> {
        self.check(key, data, |key| {
            let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
            key.verify(data, given).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(text: &str) -> Credentials {
        Credentials::new(&[("key".to_owned(), Secret::new(text.to_owned()))])
    }

    #[track_caller]
    fn check_key(text: &str, encoding: KeyEncoding, want: Option<&[u8]>) {
        let credential = "key".to_owned();
        let named = Key {
            credential,
            encoding,
        };
        let found = key(&credentials(text), &named);
        let found = found.as_ref().map(|key| key.expose().as_slice());
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        check_key("s3cret", KeyEncoding::Text, Some(b"s3cret"));
        check_key("00fFa0", KeyEncoding::Hex, Some(b"\x00\xff\xa0"));
        check_key("00f", KeyEncoding::Hex, None);
        check_key("whsec_a2V5LTE=", KeyEncoding::Base64, Some(b"key-1"));
        check_key("a2V5LTE", KeyEncoding::Base64, Some(b"key-1"));
        check_key("not base64", KeyEncoding::Base64, None);
        check_key("whsec_", KeyEncoding::Base64, None);
        let named = Key {
            credential: "other".to_owned(),
            encoding: KeyEncoding::Text,
        };
        assert!(key(&credentials("s3cret"), &named).is_none());
    }

    /// Made with Vonage's own SDK, but for the last one.
    const SIGNED: &[u8] =
        b"&err-code=0&messageId=0A01&msisdn=447700900000&nonce=n1&status=delivered\
        &text=a_b_c&timestamp=1582650446&to=AcmeInc";

    #[test]
    fn codes_are_those_of_other_libraries() {
        let check = |algorithm, want: &str| {
            let code = hmac(algorithm, b"vonage-secret", &[&SIGNED[..9], &SIGNED[9..]]);
            assert_eq!(HEXLOWER_PERMISSIVE.encode(&code), want);
        };
        check(Hash::Md5, "3c875ae3215d0874d97514f60918ea40");
        check(Hash::Sha1, "10f56a6012fdaf42d6345eabd06054699d5fe028");
        check(
            Hash::Sha256,
            "2f387377f459a4b39bc23178d6bbc1eb6c5c97b32b3c4e26db67b2292ead5647",
        );
        let digest = keyed_digest(Hash::Md5, b"vonage-secret", SIGNED);
        assert_eq!(
            HEXLOWER_PERMISSIVE.encode(&digest),
            "93a081bd4f1949263f1cd28a9ea149b0"
        );
    }
}
