//! Secrets that pass through a call without its component seeing them: it holds a number for each, and
//! whoever made the call finds them beside the verdict.

use countersign_types::Secret;

use crate::call::misuse;

/// How many secrets there may be in one call.
const SECRETS_MAX: usize = 16;

/// One secret.
#[derive(Clone, Debug)]
pub(crate) enum SecretValue {
    /// The key of an authenticator app.
    Totp(Secret<Vec<u8>>),
    /// Backup codes as they are shown, once.
    BackupCodes(Vec<Secret<String>>),
    /// Bcrypt hashes of backup codes that another system has made.
    MovedBackupCodes(Vec<String>),
}

impl SecretValue {
    pub(crate) fn totp(key: Vec<u8>) -> SecretValue {
        SecretValue::Totp(Secret::new(key))
    }
}

/// The secrets of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Vec<SecretValue>);

impl Secrets {
    /// Adds one and returns its handle.
    pub(crate) fn put(&mut self, value: SecretValue) -> wasmtime::Result<u32> {
        if self.0.len() >= SECRETS_MAX {
            return misuse(format!("more than {SECRETS_MAX} secrets in one call"));
        }
        self.0.push(value);
        // At most 16.
        Ok(self.0.len() as u32)
    }

    pub(crate) fn get(&self, handle: u32) -> Option<&SecretValue> {
        self.0.get((handle as usize).checked_sub(1)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}
