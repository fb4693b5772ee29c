//! `countersign:service/totp`: authenticator apps, whose secrets no component sees.
//!
//! What belongs to a user is the host's section of the component's row.

use std::sync::Arc;
use std::time::Duration;

use countersign_store::{Section, TransactionError};
use countersign_types::UnixMillis;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::misses::{Caps, Misses};
use super::{Access, View, bounded, count};
use crate::bindings::service::countersign::service::types::MissLimit;
use crate::bindings::two_factor::countersign::service::totp::{AppStatus, Host, Verdict};
use crate::call::misuse;
use crate::secrets::SecretValue;
use crate::totp::{SECRET_BYTES, last_by, matching_step};

const CHECKS_MAX: u32 = 16;
const CODE_BYTES_MAX: usize = 64;
const PENDING_MAX: Duration = Duration::from_secs(3_600);

/// The format of the host's section; codes and backup codes have others.
const STATE: u32 = 2;

/// What one row holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Apps {
    active: Option<Active>,
    pending: Option<Pending>,
    misses: Misses,
    /// Of all pending secrets.
    pending_misses: Misses,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Active {
    #[serde(with = "serde_bytes")]
    secret: Vec<u8>,
    /// The step of the code that was accepted last: neither it nor an earlier one counts again.
    last_step: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    #[serde(with = "serde_bytes")]
    secret: Vec<u8>,
    ends: UnixMillis,
}

/// Which of the two secrets a code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Active,
    Pending,
}

impl Apps {
    fn from_section(section: &Section) -> Result<Apps, TransactionError> {
        let unreadable = || {
            let text = "what the host keeps in this row is no authenticator app, or cannot be read";
            TransactionError::Misuse(text.to_owned())
        };
        if section.state != STATE {
            return Err(unreadable());
        }
        postcard::from_bytes(&section.value).map_err(|_| unreadable())
    }

    /// `None` where there is nothing to keep.
    fn to_section(&self) -> Option<Section> {
        if *self == Apps::default() {
            return None;
        }
        Some(Section {
            state: STATE,
            // Misses are looked at when they are counted: nothing else ends by itself but a pending secret,
            // which is not believed after its end.
            expires: None,
            // Serialising plain data into a `Vec` cannot fail.
            value: postcard::to_allocvec(self).unwrap_or_default(),
        })
    }

    fn misses(&mut self, which: Which) -> &mut Misses {
        match which {
            Which::Active => &mut self.misses,
            Which::Pending => &mut self.pending_misses,
        }
    }

    fn pending(&self, now: UnixMillis) -> Option<&Pending> {
        self.pending.as_ref().filter(|pending| now < pending.ends)
    }

    /// The step that `code` is of, with the same work where there is no secret. Codes of steps until the
    /// store was `restored` may have been accepted since the backup.
    fn matching_step(
        &self,
        which: Which,
        code: &str,
        now: UnixMillis,
        restored: UnixMillis,
    ) -> Option<u64> {
        let (secret, last) = match which {
            Which::Active => {
                let active = self.active.as_ref();
                let secret = active.map(|active| active.secret.as_slice());
                (secret, active.and_then(|active| active.last_step))
            }
            Which::Pending => {
                let pending = self.pending(now);
                (pending.map(|pending| pending.secret.as_slice()), None)
            }
        };
        let last = match restored {
            UnixMillis(0) => last,
            restored => last.max(Some(last_by(restored))),
        };
        let step = matching_step(secret.unwrap_or(&[0; SECRET_BYTES]), code, now, last);
        std::hint::black_box(step).filter(|_| secret.is_some())
    }

    /// `code` was accepted.
    fn accept(&mut self, which: Which, step: u64) {
        self.misses.clear();
        if which == Which::Pending {
            self.pending_misses.clear();
            let pending = self.pending.take();
            self.active = pending.map(|pending| Active {
                secret: pending.secret,
                last_step: None,
            });
        }
        if let Some(active) = &mut self.active {
            active.last_step = Some(step);
        }
    }
}

impl View<'_> {
    async fn apps(&mut self, key: &[u8]) -> wasmtime::Result<Apps> {
        let section = match self.run.transaction.host(key).await {
            Ok(section) => section,
            Err(error) => return Err(self.run.failed(error)),
        };
        match section.as_ref().map(Apps::from_section).transpose() {
            Ok(apps) => Ok(apps.unwrap_or_default()),
            Err(error) => Err(self.run.failed(error)),
        }
    }

    async fn keep_apps(&mut self, key: &[u8], apps: &Apps) -> wasmtime::Result<()> {
        let section = apps.to_section();
        match self.run.transaction.set_host(key, section).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.run.failed(error)),
        }
    }

    async fn check_app(
        &mut self,
        which: Which,
        key: &str,
        code: &str,
        limits: &[MissLimit],
    ) -> wasmtime::Result<Verdict> {
        self.may_write()?;
        let key = self.key(key)?;
        bounded("a code", code, 0, CODE_BYTES_MAX)?;
        let caps = Caps::new(limits)?;
        count("checks", &mut self.run.used.app_checks, CHECKS_MAX)?;
        let now = self.run.transaction.instant();
        let restored = self.run.host.queue.restored_at();
        let mut apps = self.apps(&key).await?;
        if let Some(until) = apps.misses(which).locked(&caps, now) {
            // Its time does not tell that it was locked, nor whether there is anything behind the lock.
            apps.matching_step(which, code, now, restored);
            return Ok(Verdict::Locked(until.0));
        }
        // First the miss is counted, so that nothing that follows can undo it.
        apps.misses(which).add(&caps, now);
        let recount = {
            let caps = caps.clone();
            Arc::new(move |section: &Section| {
                let mut apps = Apps::from_section(section).ok()?;
                apps.misses(which).add(&caps, now);
                apps.to_section()
            })
        };
        let counted = match self.run.transaction.host(&key).await {
            Ok(Some(_)) => self.run.transaction.count(&key, recount).await,
            // There is nothing that somebody could find by guessing; it is counted so that nobody finds
            // that out.
            Ok(None) => self.run.transaction.set_host(&key, apps.to_section()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = counted {
            return Err(self.run.failed(error));
        }
        let Some(step) = apps.matching_step(which, code, now, restored) else {
            return Ok(Verdict::Wrong(apps.misses(which).left(&caps, now)));
        };
        apps.accept(which, step);
        self.keep_apps(&key, &apps).await?;
        Ok(Verdict::Accepted)
    }
}

impl Host for Access<'_> {
    async fn status(&mut self, key: String, limits: Vec<MissLimit>) -> wasmtime::Result<AppStatus> {
        let mut view = self.view()?;
        let key = view.key(&key)?;
        let caps = Caps::new(&limits)?;
        let now = view.run.transaction.instant();
        let apps = view.apps(&key).await?;
        Ok(AppStatus {
            active: apps.active.is_some(),
            pending: apps.pending(now).map(|pending| pending.ends.0),
            locked: apps.misses.locked(&caps, now).map(|until| until.0),
        })
    }

    async fn enroll(&mut self, key: String, valid: u64) -> wasmtime::Result<u32> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        let valid = Duration::from_millis(valid);
        if valid < Duration::from_secs(1) || valid > PENDING_MAX {
            return misuse("a pending secret must be valid for 1 s to 1 h");
        }
        let mut apps = view.apps(&key).await?;
        let mut secret = vec![0; SECRET_BYTES];
        view.run.random.fill_bytes(&mut secret);
        apps.pending = Some(Pending {
            secret: secret.clone(),
            ends: view.run.transaction.instant() + valid,
        });
        view.keep_apps(&key, &apps).await?;
        view.run.secrets.put(SecretValue::totp(secret))
    }

    async fn confirm(
        &mut self,
        key: String,
        code: String,
        limits: Vec<MissLimit>,
    ) -> wasmtime::Result<Verdict> {
        let mut view = self.view()?;
        view.check_app(Which::Pending, &key, &code, &limits).await
    }

    async fn check(
        &mut self,
        key: String,
        code: String,
        limits: Vec<MissLimit>,
    ) -> wasmtime::Result<Verdict> {
        let mut view = self.view()?;
        view.check_app(Which::Active, &key, &code, &limits).await
    }

    async fn adopt(&mut self, key: String, secret: u32) -> wasmtime::Result<()> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        let Some(SecretValue::Totp(secret)) = view.run.secrets.get(secret) else {
            return misuse("no secret of an authenticator app has this handle");
        };
        let active = Active {
            secret: secret.expose().clone(),
            last_step: None,
        };
        let mut apps = view.apps(&key).await?;
        apps.active = Some(active);
        view.keep_apps(&key, &apps).await
    }

    async fn unlock(&mut self, key: String) -> wasmtime::Result<()> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        let mut apps = view.apps(&key).await?;
        apps.misses.clear();
        apps.pending_misses.clear();
        view.keep_apps(&key, &apps).await
    }

    async fn remove(&mut self, key: String) -> wasmtime::Result<()> {
        let mut view = self.view()?;
        view.may_write()?;
        let key = view.key(&key)?;
        view.apps(&key).await?;
        view.keep_apps(&key, &Apps::default()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of RFC 6238, appendix B: 081804 is the code from 1111111080 to 1111111109.
    fn matches(which: Which, restored: UnixMillis) -> bool {
        let secret = b"12345678901234567890".to_vec();
        let now = UnixMillis(1_111_111_109_000);
        let apps = Apps {
            active: Some(Active {
                secret: secret.clone(),
                last_step: None,
            }),
            pending: Some(Pending {
                secret,
                ends: now + PENDING_MAX,
            }),
            ..Apps::default()
        };
        apps.matching_step(which, "081804", now, restored).is_some()
    }

    #[test]
    fn r27_a_step_that_may_have_been_used_before_a_restore_is_not_accepted() {
        for which in [Which::Active, Which::Pending] {
            assert!(matches(which, UnixMillis(0)), "never restored");
            // It was accepted from a step before it on.
            assert!(matches(which, UnixMillis(1_111_111_049_999)));
            assert!(!matches(which, UnixMillis(1_111_111_050_000)));
            assert!(!matches(which, UnixMillis(1_111_111_100_000)));
        }
    }
}
