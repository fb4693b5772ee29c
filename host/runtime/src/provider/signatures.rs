//! `countersign:provider/signatures`: checks by credentials that the provider never sees.

use aws_lc_rs::{hmac, signature};
use base64::Engine as _;

use super::Call;
use super::since_v0_1::wit::signatures::{Hash, Host};

const CHECKS_MAX: u32 = 16;
const DATA_BYTES_MAX: usize = 1024 * 1024;

impl Call {
    fn count_check(&mut self, data: &[u8]) -> wasmtime::Result<()> {
        if data.len() > DATA_BYTES_MAX {
            wasmtime::bail!("a signature over more than {DATA_BYTES_MAX} bytes");
        }
        if self.one.signature_checks >= CHECKS_MAX {
            wasmtime::bail!("more than {CHECKS_MAX} signature checks in one call");
        }
        self.one.signature_checks += 1;
        Ok(())
    }

    /// Remembers that a signature held: a callback is believed by this, not by what the component
    /// says of it.
    fn note(&mut self, holds: bool) -> bool {
        self.one.signature_held |= holds;
        holds
    }
}

impl Host for Call {
    fn verify_hmac(
        &mut self,
        algorithm: Hash,
        credential: String,
        data: Vec<u8>,
        given: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        self.count_check(&data)?;
        let algorithm = match algorithm {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha384 => hmac::HMAC_SHA384,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        let Some(secret) = self.grants.credentials.get(&credential) else {
            return Ok(false);
        };
        let key = hmac::Key::new(algorithm, secret.as_bytes());
        Ok(self.note(hmac::verify(&key, &data, &given).is_ok()))
    }

    fn verify_ed25519(
        &mut self,
        credential: String,
        data: Vec<u8>,
        given: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        self.count_check(&data)?;
        let public = self
            .grants
            .credentials
            .get(&credential)
            .and_then(|text| base64::prelude::BASE64_STANDARD.decode(text.trim()).ok());
        let Some(public) = public else {
            return Ok(false);
        };
        let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
        Ok(self.note(key.verify(&data, &given).is_ok()))
    }
}
