//! Which versions of the components calls use.
//!
//! All of them are one value, a [`Generation`], that is replaced as a whole. A call asks for it once, at
//! its start, and keeps what it was given: its runs and nested calls end on the versions that it began
//! with. A version that was replaced goes with the last call that has it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use crate::call::ANALYTICS;
use crate::provider::Provider;
use crate::service::{
    AnalyticsComponent, Identity, OtpComponent, Service, TwoFactorComponent, World,
};
use crate::version::{Sha256, Tally};

/// What can be replaced.
pub(crate) trait Versioned {
    /// Which version it is.
    fn sha256(&self) -> Sha256;
    /// How its calls have ended.
    fn tally(&self) -> &Tally;
    /// Nothing is kept for further calls from now on.
    fn retire(&self);
}

/// The versions of one component.
pub(crate) struct Slot<T> {
    live: Arc<T>,
    /// A newer one, and in how many of a hundred subjects' calls it is used.
    canary: Option<(Arc<T>, u8)>,
    /// While the newest is on trial: what calls go back to when it fails.
    before: Option<Arc<T>>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Slot<T> {
        Slot {
            live: self.live.clone(),
            canary: self.canary.clone(),
            before: self.before.clone(),
        }
    }
}

impl<T: Versioned> Slot<T> {
    /// With one version for all calls.
    pub(crate) fn new(live: Arc<T>) -> Slot<T> {
        Slot {
            live,
            canary: None,
            before: None,
        }
    }

    /// The version that calls about `subject` use: always the same, as long as there is no other.
    pub(crate) fn of(&self, subject: &str) -> &Arc<T> {
        match &self.canary {
            Some((canary, percent)) if share(subject) < *percent => canary,
            _ => &self.live,
        }
    }

    /// The version that all calls use, or most.
    pub(crate) fn live(&self) -> &Arc<T> {
        &self.live
    }

    /// From now on all calls use `next`. With `trial` the present version is kept at hand.
    pub(crate) fn replace(&mut self, next: Arc<T>, trial: bool) {
        if let Some((canary, _)) = self.canary.take()
            && !Arc::ptr_eq(&canary, &next)
        {
            canary.retire();
        }
        self.end_trial();
        let before = std::mem::replace(&mut self.live, next);
        if trial {
            self.before = Some(before);
        } else {
            before.retire();
        }
    }

    /// From now on `percent` of a hundred subjects' calls use `next`.
    pub(crate) fn try_out(&mut self, next: Arc<T>, percent: u8) {
        self.end_trial();
        if let Some((canary, _)) = self.canary.replace((next, percent)) {
            canary.retire();
        }
    }

    /// The live version is on trial; `before` is what calls go back to.
    pub(crate) fn keep_at_hand(&mut self, before: Arc<T>) {
        self.before = Some(before);
    }
}

/// Which versions of a component calls use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    pub(crate) live: Sha256,
    /// One that has a share of the calls.
    pub(crate) canary: Option<Sha256>,
}

/// What is asked of a slot whatever the world of its component.
pub(crate) trait AnySlot {
    /// The versions that calls use.
    fn in_use(&self) -> InUse;
    /// The newest version has proved itself.
    fn end_trial(&mut self);
    /// Goes back from `worse`, where it is the newest and on trial; says whether it was.
    fn go_back_from(&mut self, worse: Sha256) -> bool;
    /// Whether `version` is on trial and worse than what it is to replace.
    fn is_worse(&self, version: Sha256) -> bool;
}

impl<T: Versioned> AnySlot for Slot<T> {
    fn in_use(&self) -> InUse {
        InUse {
            live: self.live.sha256(),
            canary: self.canary.as_ref().map(|(canary, _)| canary.sha256()),
        }
    }

    fn end_trial(&mut self) {
        if let Some(before) = self.before.take() {
            before.retire();
        }
    }

    fn go_back_from(&mut self, worse: Sha256) -> bool {
        let is_worse = |version: &Arc<T>| version.sha256() == worse;
        if self
            .canary
            .as_ref()
            .is_some_and(|(canary, _)| is_worse(canary))
        {
            if let Some((canary, _)) = self.canary.take() {
                canary.retire();
            }
            return true;
        }
        if is_worse(&self.live)
            && let Some(before) = self.before.take()
        {
            std::mem::replace(&mut self.live, before).retire();
            return true;
        }
        false
    }

    fn is_worse(&self, version: Sha256) -> bool {
        let canary = self.canary.as_ref().map(|(canary, _)| (canary, &self.live));
        let live = self.before.as_ref().map(|before| (&self.live, before));
        canary
            .into_iter()
            .chain(live)
            .any(|(new, old)| new.sha256() == version && new.tally().is_worse_than(old.tally()))
    }
}

/// A number below 100 that is always the same for a subject, and evenly spread.
fn share(subject: &str) -> u8 {
    let Sha256(hash) = Sha256::of(subject.as_bytes());
    let number = hash[..8]
        .iter()
        .fold(0, |number: u64, byte| (number << 8) | u64::from(*byte));
    u8::try_from(number % 100).unwrap_or_default()
}

/// The versions of all components.
#[derive(Clone)]
pub(crate) struct Generation {
    pub(crate) otp: Slot<Service<OtpComponent>>,
    pub(crate) two_factor: Slot<Service<TwoFactorComponent>>,
    pub(crate) analytics: Slot<Service<AnalyticsComponent>>,
    /// By the names of the `[[provider]]` entries, of which several may use one component.
    pub(crate) providers: HashMap<String, Slot<Provider>>,
}

/// The components of one call: chosen once, re-runs and nested calls included.
#[derive(Clone)]
pub(crate) struct Versions {
    pub(crate) otp: Arc<Service<OtpComponent>>,
    pub(crate) two_factor: Arc<Service<TwoFactorComponent>>,
}

impl Generation {
    /// What a call about `subject` uses.
    pub(crate) fn of(&self, subject: &str) -> Versions {
        Versions {
            otp: self.otp.of(subject).clone(),
            two_factor: self.two_factor.of(subject).clone(),
        }
    }

    /// All versions of services that a call may be in.
    fn services(&self) -> Vec<Arc<Identity>> {
        fn of<W: World>(slot: &Slot<Service<W>>) -> impl Iterator<Item = Arc<Identity>> {
            let canary = slot.canary.as_ref().map(|(canary, _)| canary);
            let all = [Some(&slot.live), canary, slot.before.as_ref()];
            let all = all.map(|service| service.map(|service| service.identity().clone()));
            all.into_iter().flatten()
        }
        let first = of(&self.otp).chain(of(&self.two_factor));
        first.chain(of(&self.analytics)).collect()
    }

    /// The slots of `component`: of a provider's one for each entry that uses it.
    pub(crate) fn slots(&self, component: &str) -> Vec<&dyn AnySlot> {
        match component {
            "otp" => vec![&self.otp],
            "two-factor" => vec![&self.two_factor],
            ANALYTICS => vec![&self.analytics],
            _ => {
                let of_it = self.providers.values();
                of_it
                    .filter(|slot| slot.live.component() == component)
                    .map(|slot| slot as &dyn AnySlot)
                    .collect()
            }
        }
    }

    /// As [`slots`](Generation::slots), to change them.
    pub(crate) fn slots_mut(&mut self, component: &str) -> Vec<&mut dyn AnySlot> {
        match component {
            "otp" => vec![&mut self.otp],
            "two-factor" => vec![&mut self.two_factor],
            ANALYTICS => vec![&mut self.analytics],
            _ => {
                let of_it = self.providers.values_mut();
                of_it
                    .filter(|slot| slot.live.component() == component)
                    .map(|slot| slot as &mut dyn AnySlot)
                    .collect()
            }
        }
    }
}

/// The present generation. What is replaced is one pointer.
pub(crate) struct Live {
    present: RwLock<Arc<Generation>>,
    /// Services that were replaced, as long as a call may be in them.
    replaced: Mutex<Vec<Weak<Identity>>>,
}

impl Live {
    pub(crate) fn new(first: Generation) -> Arc<Live> {
        Arc::new(Live {
            present: RwLock::new(Arc::new(first)),
            replaced: Mutex::default(),
        })
    }

    /// What calls use that begin now.
    pub(crate) fn now(&self) -> Arc<Generation> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.clone()
    }

    /// Puts another generation in the place of the present one: as `change` makes it of that.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Generation) -> R) -> R {
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Generation::clone(&present);
        let result = change(&mut next);
        let before = std::mem::replace(&mut *present, Arc::new(next));
        // Under the same lock, so that nobody sees the one without the other.
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        replaced.retain(|identity| identity.strong_count() > 0);
        for identity in before.services() {
            let identity = Arc::downgrade(&identity);
            if !replaced.iter().any(|known| known.ptr_eq(&identity)) {
                replaced.push(identity);
            }
        }
        drop(replaced);
        drop(present);
        // Where it was the last to hold a version, that takes a while.
        crate::aside::drop_there(before);
        result
    }

    /// The state versions that services of the name `component` may still be writing, those included
    /// whose place another one has taken: calls end on the version that they began with.
    pub(crate) fn still_written(&self, component: &str) -> Vec<u32> {
        let replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = replaced.iter().filter_map(Weak::upgrade);
        alive
            .filter(|identity| identity.name == component)
            .map(|identity| identity.manifest.state_writes)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Fate;

    struct Version(Sha256, Tally);

    impl Versioned for Version {
        fn sha256(&self) -> Sha256 {
            self.0
        }

        fn tally(&self) -> &Tally {
            &self.1
        }

        fn retire(&self) {}
    }

    fn version(name: &str) -> Arc<Version> {
        Arc::new(Version(Sha256::of(name.as_bytes()), Tally::default()))
    }

    #[test]
    fn a_canary_has_its_share_of_the_subjects_and_always_the_same_ones() {
        let (old, new) = (version("old"), version("new"));
        let mut slot = Slot::new(old.clone());
        for percent in [1u8, 10, 50, 99] {
            slot.try_out(new.clone(), percent);
            let subjects = (0..10_000).map(|n| format!("subject {n}"));
            let of_new: Vec<String> = subjects
                .filter(|subject| Arc::ptr_eq(slot.of(subject), &new))
                .collect();
            let want = usize::from(percent) * 100;
            assert!(
                of_new.len().abs_diff(want) < 300,
                "{percent}: {}",
                of_new.len()
            );
            assert!(
                of_new
                    .iter()
                    .all(|subject| Arc::ptr_eq(slot.of(subject), &new))
            );
        }
        slot.replace(new.clone(), false);
        assert!((0..100).all(|n| Arc::ptr_eq(slot.of(&n.to_string()), &new)));
    }

    #[test]
    fn what_is_on_trial_and_worse_goes_back_and_nothing_else_does() {
        let (old, new) = (version("old"), version("new"));
        let mut slot = Slot::new(old.clone());
        new.tally().count(Fate::Failed);
        slot.replace(new.clone(), true);
        assert!(slot.is_worse(new.sha256()) && !slot.is_worse(old.sha256()));
        assert!(!slot.go_back_from(old.sha256()));
        assert!(slot.go_back_from(new.sha256()));
        assert!(Arc::ptr_eq(slot.live(), &old));
        slot.replace(new.clone(), true);
        slot.end_trial();
        assert!(!slot.is_worse(new.sha256()) && !slot.go_back_from(new.sha256()));
        assert!(Arc::ptr_eq(slot.live(), &new));
    }
}
