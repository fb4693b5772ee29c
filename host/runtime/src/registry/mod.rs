//! The versions of the components: which there are, which is live, and how another one comes to be.
//!
//! - `inspect.rs` judges a component by its bytes, against what its world offers.
//! - `ready.rs` links a compiled one and puts it in the place of the present one; `scratch.rs` has the dry
//!   run before that.
//! - `record.rs` has what is kept, in the store.
//! - `states.rs` knows which formats of rows there are, and whether a version can read them.
//! - This file has the steps in their order. Everything before the last one leaves the running version
//!   as it is.

mod error;
mod inspect;
mod ready;
mod record;
mod scratch;
mod states;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use countersign_store::Store;
use countersign_types::{Clock, UnixMillis};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

pub use error::InstallError;
pub use inspect::{Inspection, WorldShape, inspect};
pub use record::{By, InstalledVersion, Record, Trial, Version, installed_versions};

use crate::component::Compiled;
use crate::{Once, Runtime, Sha256, aside};
use ready::{Ready, States};

/// How often it is looked whether a version on trial has proved itself.
const LOOK: Duration = Duration::from_secs(1);
/// How many versions are held in memory at once for installing: the one that is, and those that wait.
const BODIES_MAX: usize = 3;
/// How long an installation waits for the one before it.
const TURN: Duration = Duration::from_secs(30);

/// What the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct RegistrySettings {
    /// How many versions of a component are kept, those in use not counted.
    pub kept: usize,
    /// How long a new version is on trial; zero: not at all.
    pub trial: Duration,
    /// How many bytes a component may have.
    pub bytes_max: u64,
    /// How long compiling one may take.
    pub compile: Duration,
}

impl RegistrySettings {
    /// How long an installation takes at most, all but its first and its last moments.
    pub fn install_time(&self) -> Duration {
        TURN + self.compile
    }
}

impl Default for RegistrySettings {
    fn default() -> RegistrySettings {
        RegistrySettings {
            kept: 5,
            trial: Duration::from_secs(300),
            bytes_max: 64 * 1024 * 1024,
            compile: Duration::from_secs(60),
        }
    }
}

/// The version of a component that comes with every start.
#[derive(Clone, Debug)]
pub struct DefaultVersion {
    /// The component's name.
    pub component: String,
    /// Where it comes from.
    pub by: By,
    /// The version.
    pub bytes: Cow<'static, [u8]>,
}

/// What is done where an installed version is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing is started.
    Refuse,
    /// The version that comes with this program is used, for whoever is about to put it right.
    UseDefault,
}

/// A step of an installation that is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// A version that is live, or has its share of the calls.
#[derive(Clone, Debug)]
pub struct Installed {
    /// Which one.
    pub sha256: Sha256,
    /// The component's record now.
    pub record: Record,
    /// What was done, in order. Empty where it was live already.
    pub steps: Vec<Step>,
}

/// The versions of all components of a process.
pub struct Registry {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    settings: RegistrySettings,
    defaults: BTreeMap<String, DefaultVersion>,
    /// What a start begins with, by component.
    chosen: BTreeMap<String, Vec<u8>>,
    runtime: OnceLock<Runtime>,
    /// Changes come one after the other.
    turn: Mutex<()>,
    /// One that was given up for its time goes on compiling; then no other one begins.
    compiling: Arc<Semaphore>,
    /// For versions that are read, and not installed yet.
    bodies: Arc<Semaphore>,
}

/// What is to be done with a version that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who brings it.
    pub by: By,
    /// In how many of a hundred subjects' calls it is used, 1 to 99; `None`: in all.
    pub canary: Option<u8>,
}

/// The steps of one installation, as they are done.
struct Course<'a> {
    component: &'a str,
    sha256: Sha256,
    began: Instant,
    steps: Vec<Step>,
    told: &'a (dyn Fn(&Step) + Send + Sync),
}

impl Course<'_> {
    fn done(&mut self, name: &'static str) {
        let before: Duration = self.steps.iter().map(|step| step.took).sum();
        let took = self.began.elapsed().saturating_sub(before);
        let step = Step { name, took };
        (self.told)(&step);
        self.steps.push(step);
    }

    fn log(&self, outcome: &Result<Record, InstallError>) {
        let steps: Vec<String> = self
            .steps
            .iter()
            .map(|step| format!("{} {:.1} ms", step.name, step.took.as_secs_f64() * 1e3))
            .collect();
        let (component, version) = (self.component, self.sha256.short());
        let steps = steps.join(", ");
        match outcome {
            Ok(_) => tracing::info!(component, version, steps, "a version was installed"),
            Err(error) => {
                tracing::warn!(component, version, steps, %error, "a version was refused");
            }
        }
    }
}

impl Registry {
    /// Reads which versions are live. The bytes to start with are [`Registry::bytes`].
    ///
    /// # Errors
    ///
    /// When the store fails, or an installed version is not whole.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        settings: RegistrySettings,
        defaults: Vec<DefaultVersion>,
        damage: Damage,
    ) -> Result<Arc<Registry>, InstallError> {
        let mut chosen = BTreeMap::new();
        for default in &defaults {
            let component = &default.component;
            let record = record::read(&store, component).await?;
            let installed = record.as_ref().filter(|record| record.is_installed());
            let live = installed.and_then(|record| record.version(record.live));
            if let Some(live) = live {
                let bytes = match record::bytes(&store, live).await {
                    Err(InstallError::Damaged { version }) if damage == Damage::UseDefault => {
                        tracing::error!(component, version, "an installed version is not whole");
                        continue;
                    }
                    bytes => bytes?,
                };
                tracing::info!(
                    component,
                    version = live.sha256.short(),
                    "an installed version is used"
                );
                chosen.insert(component.clone(), bytes);
            }
        }
        let defaults = defaults.into_iter();
        Ok(Arc::new(Registry {
            store,
            clock,
            settings,
            defaults: defaults.map(|one| (one.component.clone(), one)).collect(),
            chosen,
            runtime: OnceLock::new(),
            turn: Mutex::default(),
            compiling: Arc::new(Semaphore::new(1)),
            bodies: Arc::new(Semaphore::new(BODIES_MAX)),
        }))
    }

    /// The version of `component` to start with, and whether it is an installed one. Empty where there is
    /// none of that name.
    pub fn bytes(&self, component: &str) -> (&[u8], bool) {
        match (self.chosen.get(component), self.defaults.get(component)) {
            (Some(bytes), _) => (bytes, true),
            (None, Some(default)) => (&default.bytes, false),
            (None, None) => (&[], false),
        }
    }

    /// The runtime has been started with [`Registry::bytes`]: notes what is live now, and goes on with
    /// what was on trial.
    ///
    /// # Errors
    ///
    /// When a live version cannot read the rows that are there, or the store fails.
    pub async fn serve(self: &Arc<Self>, runtime: Runtime) -> Result<(), InstallError> {
        let _turn = self.turn.lock().await;
        let mut kept = Vec::new();
        for (component, default) in &self.defaults {
            let record = self.note(&runtime, component, default).await?;
            if let Some(trial) = &record.trial {
                self.go_on_with(&runtime, component, &record, trial).await;
            }
            kept.extend(record.versions.iter().map(|version| version.sha256));
        }
        record::sweep(&self.store, &kept).await?;
        // Only the first counts; there is one start.
        let _ = self.runtime.set(runtime);
        Ok(())
    }

    /// Notes the version that came with this start, and that what is live can read what there is.
    async fn note(
        &self,
        runtime: &Runtime,
        component: &str,
        default: &DefaultVersion,
    ) -> Result<Record, InstallError> {
        let live = States::of_live(&runtime.live.now(), component);
        let sha256 = Sha256::of(&default.bytes);
        let version = |states: &States| Version {
            sha256,
            bytes: default.bytes.len() as u64,
            installed_at: self.now(),
            by: default.by,
            rolled_back: false,
            state_writes: states.writes,
            state_reads: states.reads.clone(),
        };
        // Where an installed one is live nobody has asked this one; it is asked when it is needed.
        let installed = self.chosen.contains_key(component);
        let states = if installed {
            States::default()
        } else {
            live.clone()
        };
        let present = record::read(&self.store, component).await?;
        let readable = match &present {
            Some(record) => self.left(runtime, component, &record.states, &live).await?,
            None => live.reads.clone(),
        };
        record::change(&self.store, self.now(), component, None, |present| {
            let mut next = match present {
                Some(mut record) => {
                    record.follow(version(&states));
                    record
                }
                None => Record::new(version(&states)),
            };
            next.states = states::with(&readable, live.writes);
            Ok(next)
        })
        .await
    }

    /// A start in the middle of a trial: the other version is put at hand again, or gets its share.
    async fn go_on_with(&self, runtime: &Runtime, component: &str, record: &Record, trial: &Trial) {
        let canary = trial.percent < 100;
        let other = if canary { trial.sha256 } else { trial.before };
        let ready = async {
            let bytes = self.bytes_of(component, record, other).await?;
            self.ready(runtime, component, bytes).await
        };
        match ready.await {
            Ok(ready) if canary => ready.try_out(&runtime.live, trial.percent),
            Ok(ready) => ready.keep_at_hand(&runtime.live),
            Err(error) => tracing::error!(
                component,
                version = other.short(),
                %error,
                "a version on trial, or the one before it, cannot be used; all calls use the live one"
            ),
        }
    }

    /// Does what is left to do over and over: ends trials that are over, and notes those that have failed.
    /// Never returns.
    pub async fn watch(self: Arc<Self>) {
        loop {
            let told = self.runtime.get().map(|runtime| runtime.went_back.clone());
            match told {
                Some(told) => {
                    let _ = tokio::time::timeout(LOOK, told.notified()).await;
                }
                None => tokio::time::sleep(LOOK).await,
            }
            if let Err(error) = self.settle_trials().await {
                tracing::error!(%error, "the end of a trial could not be noted");
            }
        }
    }

    /// One round of [`Registry::watch`].
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn settle_trials(&self) -> Result<(), InstallError> {
        let Some(runtime) = self.runtime.get() else {
            return Ok(());
        };
        let _turn = self.turn.lock().await;
        for component in self.defaults.keys() {
            let Some(record) = record::read(&self.store, component).await? else {
                continue;
            };
            let Some(trial) = record.trial else { continue };
            let present = runtime.live.now();
            let in_use = present.slots(component).first().map(|slot| slot.in_use());
            // A provider that no entry uses is called by nobody, and so fails nobody.
            let used = in_use.is_none_or(|in_use| {
                in_use.live == trial.sha256 || in_use.canary == Some(trial.sha256)
            });
            if !used {
                self.change(component, |record| {
                    record.go_back(trial.sha256, trial.before)
                })
                .await?;
            } else if trial.percent == 100 && self.now() >= trial.until {
                self.change(component, |record| record.trial = None).await?;
                runtime.end_trial(component);
            }
        }
        Ok(())
    }

    async fn change(
        &self,
        component: &str,
        change: impl Fn(&mut Record),
    ) -> Result<Record, InstallError> {
        self.change_once(component, None, change).await
    }

    async fn change_once(
        &self,
        component: &str,
        once: Option<&Once<'_, Record>>,
        change: impl Fn(&mut Record),
    ) -> Result<Record, InstallError> {
        record::change(&self.store, self.now(), component, once, |present| {
            let mut next = present.ok_or(InstallError::Starting)?;
            change(&mut next);
            Ok(next)
        })
        .await
    }

    /// Room for reading a version that is to be installed, until it is dropped: each may have
    /// [`RegistrySettings::bytes_max`].
    ///
    /// # Errors
    ///
    /// [`InstallError::Busy`] when several are at it.
    pub fn room_to_read(&self) -> Result<OwnedSemaphorePermit, InstallError> {
        let room = self.bodies.clone().try_acquire_owned();
        room.map_err(|_| InstallError::Busy)
    }

    /// Installs a version of `component`: when this returns it is live, or has its share of the calls,
    /// also after a crash. `told` hears of each step when it is done.
    ///
    /// # Errors
    ///
    /// See [`InstallError`]: the running version is as it was.
    pub async fn install(
        &self,
        component: &str,
        bytes: Vec<u8>,
        plan: Plan,
        told: &(dyn Fn(&Step) + Send + Sync),
    ) -> Result<Installed, InstallError> {
        let runtime = self.runtime()?;
        self.known(component)?;
        let bytes_max = self.settings.bytes_max;
        if bytes.len() as u64 > bytes_max {
            let bytes = bytes.len() as u64;
            return Err(InstallError::TooLarge { bytes, bytes_max });
        }
        let turn = tokio::time::timeout(TURN, self.turn.lock()).await;
        let _turn = turn.map_err(|_| InstallError::Busy)?;
        let began = Instant::now();
        let mut course = Course {
            component,
            sha256: Sha256::of(&bytes),
            began,
            steps: Vec::new(),
            told,
        };
        course.done("hash");
        let present = self.record(component).await?;
        let has_canary = present
            .trial
            .as_ref()
            .is_some_and(|trial| trial.percent < 100);
        if present.live == course.sha256 && (plan.canary.is_some() || !has_canary) {
            if plan.by == By::Watch {
                self.change(component, |record| record.see(course.sha256))
                    .await?;
            }
            return Ok(Installed {
                sha256: course.sha256,
                record: present,
                steps: Vec::new(),
            });
        }
        let outcome = self
            .take_all_steps(runtime, &mut course, bytes, plan, present)
            .await;
        course.log(&outcome);
        let record = outcome?;
        Ok(Installed {
            sha256: course.sha256,
            record,
            steps: course.steps,
        })
    }

    async fn take_all_steps(
        &self,
        runtime: &Runtime,
        course: &mut Course<'_>,
        bytes: Vec<u8>,
        plan: Plan,
        present: Record,
    ) -> Result<Record, InstallError> {
        let component = course.component;
        let bytes = Arc::new(bytes);
        let looked = bytes.clone();
        let inspected = tokio::task::spawn_blocking(move || inspect(&looked)).await;
        let inspected = inspected.map_err(|_| InstallError::Malformed {
            reason: "it cannot be read".to_owned(),
        })??;
        course.done("validate");
        WorldShape::of(component).check(&inspected)?;
        course.done("types");
        let compiled = self.compile(runtime, component, bytes.clone()).await?;
        course.done("compile");
        let default = self.is_default(component, course.sha256);
        let ready = Ready::of(runtime, component, &compiled, default).await?;
        course.done("describe");
        let dry_run = scratch::dry_run(runtime, &ready).await;
        dry_run.map_err(|reason| InstallError::SelfTest { reason })?;
        course.done("self-test");
        let states = ready.states();
        let live = States::of_live(&runtime.live.now(), component);
        let way_back = live.can_read(states.writes);
        if plan.canary.is_some() && !way_back {
            return Err(InstallError::NoWayBack {
                writes: states.writes,
            });
        }
        let left = self
            .left(runtime, component, &present.states, &states)
            .await?;
        course.done("state");
        if !default {
            record::keep(&self.store, course.sha256, &bytes).await?;
        }
        let now = self.now();
        let is_live = present.live == course.sha256;
        let on_trial = way_back && !is_live && !self.settings.trial.is_zero();
        let trial = (on_trial || plan.canary.is_some()).then(|| Trial {
            sha256: course.sha256,
            percent: plan.canary.unwrap_or(100),
            before: present.live,
            until: now + self.settings.trial,
        });
        let version = Version {
            sha256: course.sha256,
            bytes: bytes.len() as u64,
            installed_at: now,
            by: plan.by,
            rolled_back: false,
            state_writes: states.writes,
            state_reads: states.reads.clone(),
        };
        let record = self
            .change(component, |record| {
                record.add(version.clone());
                record.states = states::with(&left, states.writes);
                match plan.canary {
                    Some(_) => record.trial = trial.clone(),
                    None => record.go_on_to(version.sha256, trial.clone()),
                }
                if plan.by == By::Watch {
                    record.see(version.sha256);
                }
                record.prune(self.settings.kept);
            })
            .await?;
        course.done("keep");
        match plan.canary {
            Some(percent) => ready.try_out(&runtime.live, percent),
            None => ready.put(&runtime.live, trial.is_some()),
        }
        course.done("swap");
        self.forget(&present, &record).await?;
        Ok(record)
    }

    /// Takes the newest version of `component` back: a canary, or else the live one. Asked again it goes a
    /// step further, so whoever may ask again after a lost answer needs `once`. To be awaited to its end even
    /// where the client has gone.
    ///
    /// # Errors
    ///
    /// See [`InstallError`]: the running version is as it was.
    pub async fn roll_back(
        &self,
        component: &str,
        once: Option<Once<'_, Record>>,
    ) -> Result<Record, InstallError> {
        let runtime = self.runtime()?;
        self.known(component)?;
        let turn = tokio::time::timeout(TURN, self.turn.lock()).await;
        let _turn = turn.map_err(|_| InstallError::Busy)?;
        let present = self.record(component).await?;
        if let Some(once) = &once {
            // After the record was read: where another process has answered the request since it was let
            // in here, there may be nothing left to go back to.
            record::check(&self.store, self.now(), once).await?;
        }
        if let Some(trial) = &present.trial
            && trial.percent < 100
        {
            let record = self
                .change_once(component, once.as_ref(), |record| {
                    record.go_back(trial.sha256, trial.before)
                })
                .await?;
            runtime.go_back(component, trial.sha256);
            tracing::info!(
                component,
                version = trial.sha256.short(),
                "a canary was taken back"
            );
            return Ok(record);
        }
        let Some(&before) = present.before.last() else {
            let name = component.to_owned();
            return Err(InstallError::NothingBefore { name });
        };
        let bytes = self.bytes_of(component, &present, before).await?;
        let ready = self.ready(runtime, component, bytes).await?;
        let states = ready.states();
        let left = self
            .left(runtime, component, &present.states, &states)
            .await?;
        let record = self
            .change_once(component, once.as_ref(), |record| {
                record.states = states::with(&left, states.writes);
                record.go_back(present.live, before);
            })
            .await?;
        ready.put(&runtime.live, false);
        tracing::info!(
            component,
            from = present.live.short(),
            to = before.short(),
            "rolled back"
        );
        Ok(record)
    }

    /// All components with their versions, by name.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn list(&self) -> Result<Vec<(String, Record)>, InstallError> {
        let mut all = Vec::new();
        for component in self.defaults.keys() {
            if let Some(record) = record::read(&self.store, component).await? {
                all.push((component.clone(), record));
            }
        }
        Ok(all)
    }

    /// The record of one component.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the store fails.
    pub async fn record(&self, component: &str) -> Result<Record, InstallError> {
        self.known(component)?;
        let record = record::read(&self.store, component).await?;
        record.ok_or(InstallError::Starting)
    }

    /// The bytes of the live version of `component`.
    ///
    /// # Errors
    ///
    /// When there is none of that name, or the store fails.
    pub async fn live_bytes(&self, component: &str) -> Result<Vec<u8>, InstallError> {
        let record = self.record(component).await?;
        self.bytes_of(component, &record, record.live).await
    }

    /// What a larger body than the largest component has at least.
    pub fn bytes_max(&self) -> u64 {
        self.settings.bytes_max
    }

    /// Whether the watched folder has brought this version before.
    ///
    /// # Errors
    ///
    /// See [`Registry::record`].
    pub async fn has_seen(&self, component: &str, version: Sha256) -> Result<bool, InstallError> {
        let record = self.record(component).await?;
        Ok(record.seen.contains(&version) || record.live == version)
    }

    fn runtime(&self) -> Result<&Runtime, InstallError> {
        self.runtime.get().ok_or(InstallError::Starting)
    }

    fn known(&self, component: &str) -> Result<(), InstallError> {
        if self.defaults.contains_key(component) {
            return Ok(());
        }
        Err(InstallError::Unknown {
            name: component.chars().take(64).collect(),
            known: self.defaults.keys().cloned().collect(),
        })
    }

    fn now(&self) -> UnixMillis {
        self.clock.now().max(self.store.newest_instant())
    }

    fn is_default(&self, component: &str, version: Sha256) -> bool {
        let default = self.defaults.get(component);
        default.is_some_and(|default| Sha256::of(&default.bytes) == version)
    }

    async fn bytes_of(
        &self,
        component: &str,
        record: &Record,
        version: Sha256,
    ) -> Result<Vec<u8>, InstallError> {
        if self.is_default(component, version)
            && let Some(default) = self.defaults.get(component)
        {
            return Ok(default.bytes.to_vec());
        }
        let damaged = || InstallError::Damaged {
            version: version.to_string(),
        };
        let known = record.version(version).ok_or_else(damaged)?;
        record::bytes(&self.store, known).await
    }

    /// Compiles and links a version that was judged before.
    async fn ready(
        &self,
        runtime: &Runtime,
        component: &str,
        bytes: Vec<u8>,
    ) -> Result<Ready, InstallError> {
        let default = self.is_default(component, Sha256::of(&bytes));
        let compiled = self.compile(runtime, component, Arc::new(bytes)).await?;
        Ready::of(runtime, component, &compiled, default).await
    }

    /// Compiles on a thread that gives way to calls.
    async fn compile(
        &self,
        runtime: &Runtime,
        component: &str,
        bytes: Arc<Vec<u8>>,
    ) -> Result<Compiled, InstallError> {
        let permit = self.compiling.clone().try_acquire_owned();
        let permit = permit.map_err(|_| InstallError::Busy)?;
        let (answer, compiled) = oneshot::channel();
        let (compiler, name) = (runtime.compiler.clone(), component.to_owned());
        aside::run("countersign-compile", move || {
            let compiled = compiler.compile(&name, &bytes);
            // Before the answer, so that whoever has it may begin with the next one.
            drop(permit);
            // Nobody may be waiting any more.
            let _ = answer.send(compiled);
        })
        .map_err(|_| InstallError::Busy)?;
        let span = self.settings.compile;
        match tokio::time::timeout(span, compiled).await {
            Ok(Ok(compiled)) => Ok(compiled?),
            // It has panicked, and said so in the log.
            Ok(Err(_)) => Err(InstallError::Malformed {
                reason: "the compiler fails at it".to_owned(),
            }),
            Err(_) => Err(InstallError::SlowToCompile { span }),
        }
    }

    /// Which state versions there are, of a version with `states` that is to be used from now on.
    async fn left(
        &self,
        runtime: &Runtime,
        component: &str,
        there: &[u32],
        states: &States,
    ) -> Result<Vec<u32>, InstallError> {
        states::left(&self.store, runtime, component, there, states, self.now()).await
    }

    /// Gives back the room of the versions that were there before and are not now.
    async fn forget(&self, before: &Record, now: &Record) -> Result<(), InstallError> {
        let all = self.list().await?;
        let known = |version: &Version| {
            let mut records = all.iter();
            records.any(|(_, record)| record.version(version.sha256).is_some())
        };
        for version in &before.versions {
            if now.version(version.sha256).is_none() && !known(version) {
                record::forget(&self.store, version).await?;
            }
        }
        Ok(())
    }
}

impl Runtime {
    /// The newest version of `component` has proved itself.
    pub(crate) fn end_trial(&self, component: &str) {
        self.live.change(|next| {
            let slots = next.slots_mut(component);
            slots.into_iter().for_each(|slot| slot.end_trial());
        });
    }

    /// The version is not used by any call from now on; says whether it was on trial.
    pub(crate) fn go_back(&self, component: &str, version: Sha256) -> bool {
        self.live.change(|next| {
            // Each entry of a provider has a slot of its own.
            let mut went_back = false;
            for slot in next.slots_mut(component) {
                went_back |= slot.go_back_from(version);
            }
            went_back
        })
    }
}
