//! Callbacks as the company would sign them, and as somebody else would.

use ::hmac::{KeyInit, Mac};
use aws_lc_rs::error::KeyRejected;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_runtime::CallbackRequest;
use countersign_types::hex;
use md5::{Digest, Md5};

use super::description::{Callback, Encoding, Hash, Kind, Signature};

/// What stands for the kit's public key in a credential.
pub(super) const PUBLIC_KEY: &str = "{ed25519-public-key}";
const SIGNATURE: &str = "{signature}";
const SECONDS: &str = "{seconds}";

/// The seeds of the keys of the kit, and of somebody who has another one. They are nobody's: whoever used them
/// would sign for this kit alone.
const OURS: [u8; 32] = [7; 32];
const ANOTHERS: [u8; 32] = [8; 32];

/// Who signs a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    Company,
    Stranger,
}

/// The kit's public key, in Base64.
///
/// # Errors
///
/// When the library has no Ed25519.
pub(super) fn public_key() -> Result<String, KeyRejected> {
    let keys = Ed25519KeyPair::from_seed_unchecked(&OURS)?;
    Ok(BASE64_STANDARD.encode(keys.public_key()))
}

/// Makes callbacks to one address.
pub(super) struct Desk<'a> {
    pub(super) signature: &'a Signature,
    /// The text of the credential that holds the key.
    pub(super) credential: &'a str,
    /// Scheme and host, as the provider calls it.
    pub(super) public_url: &'a str,
    pub(super) path: &'a str,
    /// The time in seconds since 1970.
    pub(super) seconds: u64,
}

impl Desk<'_> {
    /// The callback as `signer` would send it.
    ///
    /// # Errors
    ///
    /// Why it cannot be signed.
    pub(super) fn signed(
        &self,
        callback: &Callback,
        signer: Signer,
    ) -> Result<CallbackRequest, String> {
        let signature = self.sign(callback, signer)?;
        Ok(self.request(callback, &signature, callback.headers.iter()))
    }

    /// The callback without its signature: headers that carry one are left out, and of anything else only what
    /// stands around it is there.
    pub(super) fn unsigned(&self, callback: &Callback) -> CallbackRequest {
        let headers = callback.headers.iter();
        let headers = headers.filter(|(_, value)| !value.contains(SIGNATURE));
        self.request(callback, "", headers)
    }

    /// Whether a signature is of its time.
    pub(super) fn has_time(&self, callback: &Callback) -> bool {
        self.over(callback).contains(SECONDS)
    }

    fn over<'c>(&'c self, callback: &'c Callback) -> &'c str {
        callback.over.as_deref().unwrap_or(&self.signature.over)
    }

    fn sign(&self, callback: &Callback, signer: Signer) -> Result<String, String> {
        let body = self.filled(&callback.body);
        let over = self.filled(self.over(callback)).replace("{body}", &body);
        let bytes = match self.signature.kind {
            Kind::None => return Ok(String::new()),
            Kind::Ed25519 => {
                let seed = match signer {
                    Signer::Company => &OURS,
                    Signer::Stranger => &ANOTHERS,
                };
                let keys = Ed25519KeyPair::from_seed_unchecked(seed);
                let keys = keys.map_err(|error| error.to_string())?;
                keys.sign(over.as_bytes()).as_ref().to_vec()
            }
            kind => {
                let mut key = self.key()?;
                if signer == Signer::Stranger {
                    // As long, and another in its last byte alone.
                    let last = key.last_mut().ok_or("the key is empty")?;
                    *last ^= 1;
                }
                match kind {
                    Kind::Secret => key,
                    Kind::Digest => keyed_digest(self.signature.hash, over.as_bytes(), &key),
                    _ => mac(self.signature.hash, &key, over.as_bytes()),
                }
            }
        };
        Ok(match self.signature.encoding {
            Encoding::Hex => hex(&bytes),
            Encoding::Base64 => BASE64_STANDARD.encode(&bytes),
            Encoding::Text => String::from_utf8(bytes)
                .map_err(|_| "`signature.encoding` must be hex or base64 here".to_owned())?,
        })
    }

    fn key(&self) -> Result<Vec<u8>, String> {
        let text = self.credential.trim();
        let wrong = |how: &str| {
            format!(
                "the credential `{}` holds no key in {how}",
                self.signature.credential
            )
        };
        match self.signature.key {
            Encoding::Text => Ok(self.credential.as_bytes().to_vec()),
            Encoding::Hex => unhex(text).ok_or_else(|| wrong("hexadecimal")),
            Encoding::Base64 => BASE64_STANDARD
                .decode(text.strip_prefix("whsec_").unwrap_or(text))
                .map_err(|_| wrong("Base64")),
        }
    }

    /// Without the placeholders that are about all of a callback.
    fn filled(&self, text: &str) -> String {
        text.replace(SECONDS, &self.seconds.to_string())
            .replace("{url}", &format!("{}{}", self.public_url, self.path))
    }

    fn request<'h>(
        &self,
        callback: &Callback,
        signature: &str,
        headers: impl Iterator<Item = (&'h String, &'h String)>,
    ) -> CallbackRequest {
        let written = |text: &str| self.filled(text).replace(SIGNATURE, signature);
        let query = written(&callback.query);
        CallbackRequest {
            method: callback.method.clone(),
            path: self.path.to_owned(),
            query: (!query.is_empty()).then_some(query),
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), written(value)))
                .collect(),
            body: written(&callback.body).into_bytes(),
        }
    }
}

fn mac(hash: Hash, key: &[u8], data: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Md5 => return mac_md5(key, data),
        Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => hmac::HMAC_SHA256,
        Hash::Sha384 => hmac::HMAC_SHA384,
        Hash::Sha512 => hmac::HMAC_SHA512,
    };
    let code = hmac::sign(&hmac::Key::new(algorithm, key), data);
    code.as_ref().to_vec()
}

fn mac_md5(key: &[u8], data: &[u8]) -> Vec<u8> {
    let Ok(mac) = ::hmac::Hmac::<Md5>::new_from_slice(key) else {
        unreachable!("an HMAC takes keys of any length");
    };
    mac.chain_update(data).finalize().into_bytes().to_vec()
}

fn keyed_digest(hash: Hash, data: &[u8], key: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Md5 => {
            let digest = Md5::new().chain_update(data).chain_update(key);
            return digest.finalize().to_vec();
        }
        Hash::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        Hash::Sha256 => &digest::SHA256,
        Hash::Sha384 => &digest::SHA384,
        Hash::Sha512 => &digest::SHA512,
    };
    let digest = digest::digest(algorithm, &[data, key].concat());
    digest.as_ref().to_vec()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    match rest {
        [] => pairs.iter().map(byte).collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::description::Description;
    use super::*;

    const WEBHOOK: &str = include_str!("../../../../components/provider-webhook/conformance.toml");

    /// The vector of `provider-webhook`'s own tests.
    #[test]
    fn a_standard_webhook_is_signed_as_others_sign_it() {
        let description = Description::parse("c.toml", WEBHOOK).expect("good");
        let desk = Desk {
            signature: description.signature.as_ref().expect("signed"),
            credential: "whsec_Y291bnRlcnNpZ24tZ2VuZXJpYy13ZWJob29rLWtleS0wMQ==",
            public_url: "https://sms.example.test",
            path: "/webhooks/own",
            seconds: 1_700_000_000,
        };
        let body = r#"{"id":"msg_1","status":"delivered","at":"2026-01-02T03:04:05Z"}"#;
        let callback = Callback {
            body: body.to_owned(),
            ..description.callback[0].clone()
        };
        let find = |request: &CallbackRequest| {
            let mut headers = request.headers.iter();
            let found = headers.find(|(name, _)| name == "webhook-signature");
            found.map(|(_, value)| value.clone())
        };
        let right = "v1,Ui5ID5z1YTmatvlJ4FV8krkSss6ZLeaz/QoB8G5cMWo=";
        let signed = desk.signed(&callback, Signer::Company).expect("signed");
        assert_eq!(find(&signed).as_deref(), Some(right));
        assert_eq!(signed.body, body.as_bytes());
        let forged = desk.signed(&callback, Signer::Stranger).expect("signed");
        assert!(find(&forged).is_some_and(|forged| forged.len() == right.len() && forged != right));
        assert_eq!(find(&desk.unsigned(&callback)), None);
        assert!(desk.has_time(&callback));
    }

    /// Vonage's vector of `contracts/sms-providers.md`, by each of its algorithms.
    #[test]
    fn each_hash_signs_as_others_sign_by_it() {
        let text = b"&err-code=0&messageId=0A01&msisdn=447700900000&nonce=n1&status=delivered&text=a_b_c&timestamp=1582650446&to=AcmeInc";
        let key = b"vonage-secret";
        for (hash, want) in [
            (Hash::Md5, "3c875ae3215d0874d97514f60918ea40"),
            (Hash::Sha1, "10f56a6012fdaf42d6345eabd06054699d5fe028"),
            (
                Hash::Sha256,
                "2f387377f459a4b39bc23178d6bbc1eb6c5c97b32b3c4e26db67b2292ead5647",
            ),
        ] {
            assert_eq!(hex(&mac(hash, key, text)), want, "{hash:?}");
        }
        let digest = keyed_digest(Hash::Md5, text, key);
        assert_eq!(hex(&digest), "93a081bd4f1949263f1cd28a9ea149b0");
        let lengths = [Hash::Sha384, Hash::Sha512].map(|hash| {
            (
                mac(hash, key, text).len(),
                keyed_digest(hash, text, key).len(),
            )
        });
        assert_eq!(lengths, [(48, 48), (64, 64)]);
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        assert_eq!(unhex("00fF"), Some(vec![0, 255]));
        assert_eq!((unhex("0"), unhex("0g")), (None, None));
    }
}
