//! `countersign:service/codes`: one-time codes whose digits no component sees.
//!
//! A challenge is the host's section of the component's row: ids, counters and times. The digits are
//! derived when they are needed, by [`countersign_delivery::codes`].

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time;
use countersign_delivery::codes::digits;
use countersign_queue::ChallengeRef;
use countersign_store::{Section, TransactionError};
use countersign_types::{UnixMillis, hex};
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{Access, View, bounded, count};
use crate::bindings::service::countersign::service::codes::{
    Challenge, ChallengeStatus, Host, State, Verdict,
};
use crate::call::{Run, misuse};

const VALID_MAX: Duration = Duration::from_secs(600);
const TRIES_MAX: u8 = 5;
const CHECKS_MAX: u32 = 16;
const CODE_BYTES_MAX: usize = 64;
/// How many challenges of a row can be answered at once: the newest and the one it replaced.
const LIVE_MAX: usize = 2;

/// The format of the host's section.
const STATE: u32 = 1;

/// The challenges of one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenges {
    purpose: String,
    subject: String,
    tries: u8,
    tried: u8,
    used: bool,
    /// Oldest first; never empty.
    live: Vec<Live>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Live {
    id: [u8; 16],
    key_id: u32,
    digits: u8,
    opened: UnixMillis,
    expires: UnixMillis,
}

impl Challenges {
    fn from_section(section: &Section) -> Result<Challenges, TransactionError> {
        let unreadable = || TransactionError::Misuse("a challenge cannot be read".to_owned());
        if section.state != STATE {
            return Err(unreadable());
        }
        postcard::from_bytes(&section.value).map_err(|_| unreadable())
    }

    fn to_section(&self) -> Section {
        Section {
            state: STATE,
            expires: self.live.iter().map(|live| live.expires).max(),
            // Serialising plain data into a `Vec` cannot fail.
            value: postcard::to_allocvec(self).unwrap_or_default(),
        }
    }

    /// A section with one more try, where one of its codes is among those that were `compared`.
    fn tried(section: &Section, compared: &[[u8; 16]]) -> Option<Section> {
        let mut challenges = Challenges::from_section(section).ok()?;
        let same = |live: &Live| compared.contains(&live.id);
        if !challenges.live.iter().any(same) {
            return None;
        }
        challenges.tried = challenges.tried.saturating_add(1);
        Some(challenges.to_section())
    }

    fn locked(&self) -> bool {
        self.tried >= self.tries
    }

    /// Without those of before the store was made from a backup: they may have been used since that.
    fn without_void(mut self, restored: UnixMillis) -> Challenges {
        self.live.retain(|live| live.opened >= restored);
        self
    }

    /// Those that have not ended at `now`. A stored validity beyond the allowed one is not believed.
    fn alive(&self, now: UnixMillis) -> impl Iterator<Item = &Live> {
        self.live
            .iter()
            .filter(move |live| now < live.expires && now < live.opened + VALID_MAX)
    }

    fn reference(&self, service: &str, live: &Live) -> ChallengeRef {
        ChallengeRef {
            id: live.id,
            key_id: live.key_id,
            service: service.to_owned(),
            purpose: self.purpose.clone(),
            subject: self.subject.clone(),
            digits: live.digits,
            expires: live.expires,
        }
    }
}

/// The challenges of the row `key`, as far as they have not ended and are not void.
async fn load(run: &mut Run, key: &[u8]) -> Result<Option<Challenges>, TransactionError> {
    let section = run.transaction.host(key).await?;
    let challenges = section
        .map(|section| Challenges::from_section(&section))
        .transpose()?;
    let now = run.transaction.instant();
    let restored = run.host.queue.restored_at();
    let challenges = challenges.map(|challenges| challenges.without_void(restored));
    Ok(challenges.filter(|challenges| challenges.alive(now).next().is_some()))
}

/// What a message needs to carry the newest code of the row `key`; `None` where it has none that can
/// still be used.
pub(crate) async fn newest(
    run: &mut Run,
    key: &[u8],
) -> Result<Option<ChallengeRef>, TransactionError> {
    let service = run.context.service.clone();
    let challenges = load(run, key).await?;
    Ok(challenges
        .filter(|challenges| !challenges.used && !challenges.locked())
        .and_then(|challenges| {
            let newest = challenges.live.last()?;
            Some(challenges.reference(&service, newest))
        }))
}

impl View<'_> {
    async fn challenges(&mut self, key: &[u8]) -> wasmtime::Result<Option<Challenges>> {
        match load(self.run, key).await {
            Ok(challenges) => Ok(challenges),
            Err(error) => Err(self.run.failed(error)),
        }
    }

    /// Compares with every live code, always all of them, in constant time.
    fn matches(&self, challenges: &Challenges, code: &str) -> Option<[u8; 16]> {
        let now = self.run.transaction.instant();
        let service = &self.run.context.service;
        let mut found = None;
        for live in challenges.alive(now) {
            let reference = challenges.reference(service, live);
            let right = digits(&self.run.host.keyring, &reference);
            let equal = right.is_some_and(|right| {
                constant_time::verify_slices_are_equal(right.expose().as_bytes(), code.as_bytes())
                    .is_ok()
            });
            if equal {
                found = Some(live.id);
            }
        }
        found
    }

    /// The work of a comparison, where there is nothing to compare with.
    fn compare_with_nothing(&self, code: &str) {
        let reference = ChallengeRef {
            id: [0; 16],
            key_id: self.run.host.keyring.current(),
            service: self.run.context.service.clone(),
            purpose: String::new(),
            subject: String::new(),
            digits: 6,
            expires: UnixMillis(0),
        };
        let wrong = digits(&self.run.host.keyring, &reference);
        let compared = wrong.map(|wrong| {
            constant_time::verify_slices_are_equal(wrong.expose().as_bytes(), code.as_bytes())
        });
        std::hint::black_box(compared.is_some());
    }
}

impl Host for Access<'_> {
    async fn status(&mut self, key: String) -> wasmtime::Result<Option<ChallengeStatus>> {
        let mut view = self.view()?;
        let physical = view.key(&key)?;
        let challenges = view.challenges(&physical).await?;
        Ok(challenges.and_then(|challenges| {
            let newest = challenges.live.last()?;
            Some(ChallengeStatus {
                id: hex(&newest.id),
                state: match () {
                    () if challenges.used => State::Used,
                    () if challenges.locked() => State::Locked,
                    () => State::Live,
                },
                tried: challenges.tried,
                opened: newest.opened.0,
                expires: newest.expires.0,
            })
        }))
    }

    async fn open(&mut self, key: String, spec: Challenge) -> wasmtime::Result<String> {
        let mut view = self.view()?;
        view.may_write()?;
        let physical = view.key(&key)?;
        bounded("a challenge's purpose", &spec.purpose, 1, 64)?;
        bounded("a challenge's subject", &spec.subject, 1, 192)?;
        let valid = Duration::from_millis(spec.valid);
        if !(6..=10).contains(&spec.digits) {
            return misuse(format!(
                "a code of {} digits; 6 to 10 are allowed",
                spec.digits
            ));
        }
        if valid < Duration::from_secs(1) || valid > VALID_MAX {
            return misuse("a code must be valid for 1 s to 10 minutes");
        }
        if !(1..=TRIES_MAX).contains(&spec.tries) {
            return misuse(format!(
                "{} tries; 1 to {TRIES_MAX} are allowed",
                spec.tries
            ));
        }
        let now = view.run.transaction.instant();
        let mut id = [0; 16];
        view.run.random.fill_bytes(&mut id);
        let newest = Live {
            id,
            key_id: view.run.host.keyring.current(),
            digits: spec.digits,
            opened: now,
            expires: now + valid,
        };
        let before = view.challenges(&physical).await?.filter(|before| {
            let same = before.purpose == spec.purpose && before.subject == spec.subject;
            spec.replaces && same && !before.used && !before.locked()
        });
        let challenges = match before {
            Some(mut before) => {
                before.live = before.alive(now).cloned().collect();
                before.live.push(newest);
                let too_many = before.live.len().saturating_sub(LIVE_MAX);
                before.live.drain(..too_many);
                Challenges {
                    tries: spec.tries,
                    ..before
                }
            }
            None => Challenges {
                purpose: spec.purpose,
                subject: spec.subject,
                tries: spec.tries,
                tried: 0,
                used: false,
                live: vec![newest],
            },
        };
        let section = challenges.to_section();
        match view
            .run
            .transaction
            .set_host(&physical, Some(section))
            .await
        {
            Ok(()) => Ok(hex(&id)),
            Err(error) => Err(view.run.failed(error)),
        }
    }

    async fn check(&mut self, key: String, code: String) -> wasmtime::Result<Verdict> {
        let mut view = self.view()?;
        view.may_write()?;
        let physical = view.key(&key)?;
        bounded("a code", &code, 0, CODE_BYTES_MAX)?;
        count("checks", &mut view.run.used.checks, CHECKS_MAX)?;
        let challenges = view.challenges(&physical).await?;
        let Some(mut challenges) = challenges.filter(|challenges| !challenges.used) else {
            view.compare_with_nothing(&code);
            return Ok(Verdict::Absent);
        };
        if challenges.locked() {
            view.compare_with_nothing(&code);
            let end = challenges.live.iter().map(|live| live.expires).max();
            return Ok(Verdict::Locked(end.unwrap_or_default().0));
        }
        // First the try is counted, so that nothing that follows can undo it.
        let compared: Vec<[u8; 16]> = challenges.live.iter().map(|live| live.id).collect();
        let recount = Arc::new(move |section: &Section| Challenges::tried(section, &compared));
        if let Err(error) = view.run.transaction.count(&physical, recount).await {
            return Err(view.run.failed(error));
        }
        challenges.tried += 1;
        let Some(id) = view.matches(&challenges, &code) else {
            return Ok(Verdict::Wrong(
                challenges.tries.saturating_sub(challenges.tried),
            ));
        };
        challenges.used = true;
        let used = challenges.to_section();
        match view.run.transaction.set_host(&physical, Some(used)).await {
            Ok(()) => Ok(Verdict::Accepted(hex(&id))),
            Err(error) => Err(view.run.failed(error)),
        }
    }
}
