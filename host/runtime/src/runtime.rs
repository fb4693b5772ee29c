//! What the server talks to.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_delivery::{Sender, StatusSource, Texts};
use countersign_queue::Queue;
use countersign_store::{Keyring, Sealing, Store};
use countersign_types::{
    Accepted, Clock, Entropy, ErrorClass, Message, News, Seldom, SendError, StatusUpdate,
    UnixMillis,
};
use tokio::sync::{Notify, Semaphore};

use crate::bindings::service::countersign::service::types;
use crate::cache::Cache;
use crate::call::{ANALYTICS, CallError, Caller, Host, busy};
use crate::call_figures::{Figures, RuntimeOverview};
use crate::component::Compiler;
use crate::generation::{Generation, Live, Slot, Versioned, Versions};
use crate::hashing::Hashing;
use crate::instant::Instants;
use crate::lookup::ERASINGS_MAX;
use crate::meter::Turns;
use crate::once::Once;
use crate::phone::{self, Parsed};
use crate::places::{AllPlaces, Full, HOST_CALLS, Place};
use crate::provider::{CallbackError, CallbackRequest, GrantError, Provider, ProviderConfig};
use crate::runs::{self, CallRequest};
use crate::secrets::Secrets;
use crate::service::{AnalyticsComponent, Call, Export, Service, World};
use crate::subject::Subjects;
use crate::version::{Fate, Sha256};
use crate::{CallContext, Limits, LoadError, engine};

/// All that a runtime is made of.
pub struct RuntimeConfig {
    /// Where calls commit to.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The host's keys.
    pub keyring: Arc<Keyring>,
    /// Where messages wait.
    pub queue: Queue,
    /// What components may use.
    pub limits: Limits,
    /// ISO 3166-1 alpha-2 of numbers without `+`.
    pub default_region: Option<String>,
    /// Where compiled components are kept for the next start; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// The otp component.
    pub otp: Vec<u8>,
    /// The two-factor component.
    pub two_factor: Vec<u8>,
    /// The analytics component.
    pub analytics: Vec<u8>,
    /// The settings of otp and two-factor, as far as they differ from the components' own defaults.
    pub settings: Vec<(String, String)>,
    /// The operator's texts of messages, in several languages.
    pub texts: Arc<Texts>,
    /// Those of analytics.
    pub analytics_settings: Vec<(String, String)>,
    /// How long records of the audit trail are kept.
    pub audit_kept: Duration,
    /// The providers.
    pub providers: Vec<ProviderConfig>,
    /// The address by which providers reach the server, without a slash at its end, as it stands
    /// before the path of what they sign. `None`: they are not asked to call.
    pub public_url: Option<String>,
}

/// Why the runtime did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine cannot be had on this machine.
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    /// A component cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A provider asks for what it cannot be given.
    #[error(transparent)]
    Grant(#[from] GrantError),
}

/// Whom a call is about, and what comes with it: the numbers that were parsed to find that out, and
/// secrets that its component may name.
#[derive(Default)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) phones: Parsed,
    pub(crate) secrets: Secrets,
}

/// How many instances of a provider's component wait for their next call: over all that are used again,
/// so that many do not use up the places of instances.
pub(crate) fn idle_max(limits: &Limits, providers: &[ProviderConfig]) -> usize {
    let own = providers.iter().filter(|provider| provider.own);
    limits.idle_instances.div_ceil(own.count().max(1))
}

/// Rows of components rest sealed.
fn sealing(store: Arc<dyn Store>, keyring: &Arc<Keyring>) -> Arc<dyn Store> {
    Arc::new(Sealing::new(store, keyring.clone(), b"c/"))
}

/// The components of a process, ready to be called.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) compiler: Arc<Compiler>,
    pub(crate) host: Arc<Host>,
    pub(crate) live: Arc<Live>,
    /// What their components are given, whichever version.
    pub(crate) providers: Arc<Vec<ProviderConfig>>,
    /// Rung when a version on trial was found worse than the one before, which is live again.
    pub(crate) went_back: Arc<Notify>,
    public_url: Option<Arc<str>>,
}

impl Runtime {
    /// Compiles all components, checks that they fit, and asks each what it is.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(config: RuntimeConfig) -> Result<Runtime, StartError> {
        let limits = config.limits;
        tokio::task::spawn_blocking(phone::load_table);
        let engine =
            engine::start(&limits).map_err(|error| StartError::Engine(format!("{error:#}")))?;
        let cache = config.cache.and_then(|folder| {
            Cache::open(&folder, &config.keyring.cache_key())
                .inspect_err(|error| {
                    tracing::warn!(%error, folder = %folder.display(), "compiled code cannot be kept");
                })
                .ok()
        });
        let compiler = Compiler::new(engine, cache);
        let host = Arc::new(Host {
            instants: Instants::new(config.clock.clone(), config.store.clone()),
            store: sealing(config.store, &config.keyring),
            clock: config.clock.clone(),
            entropy: config.entropy.clone(),
            keyring: config.keyring,
            queue: config.queue,
            default_region: config.default_region,
            settings: config.settings,
            texts: config.texts,
            analytics_settings: config.analytics_settings,
            subjects: Subjects::new(limits.subject_waiting),
            places: AllPlaces::new(&limits),
            turns: Turns::new(limits.epoch),
            hashing: Hashing::new(limits.hashes, limits.hashes_waiting),
            no_route: Seldom::default(),
            erasings: Semaphore::new(ERASINGS_MAX),
            figures: Figures::default(),
            audit_kept: config.audit_kept,
            limits: limits.clone(),
        });
        let services = [
            ("otp", &config.otp),
            ("two-factor", &config.two_factor),
            (ANALYTICS, &config.analytics),
        ];
        let providers = config.providers.iter();
        let providers = providers.map(|provider| (provider.name.as_str(), &provider.component));
        let all = services.into_iter().chain(providers);
        compiler.prepare(all.map(|(name, bytes)| (name, bytes.as_slice())));
        let otp = Service::load(&compiler, &host, "otp", &config.otp).await?;
        let two_factor = Service::load(&compiler, &host, "two-factor", &config.two_factor).await?;
        let analytics = Service::load(&compiler, &host, ANALYTICS, &config.analytics).await?;
        let mut providers = HashMap::new();
        let idle_max = idle_max(&limits, &config.providers);
        for provider in &config.providers {
            let (clock, entropy) = (&config.clock, &config.entropy);
            let loaded = Provider::load(&compiler, &limits, clock, entropy, provider, idle_max);
            let slot = Slot::new(Arc::new(loaded.await?));
            providers.insert(provider.name.clone(), slot);
        }
        let mut entries = config.providers;
        for entry in &mut entries {
            // What is given to another version stays; this one's bytes are not needed any more.
            entry.component = Vec::new();
        }
        compiler.forget_prepared();
        Ok(Runtime {
            compiler: Arc::new(compiler),
            host,
            live: Live::new(Generation {
                otp: Slot::new(otp),
                two_factor: Slot::new(two_factor),
                analytics: Slot::new(analytics),
                providers,
            }),
            providers: Arc::new(entries),
            went_back: Arc::default(),
            public_url: config.public_url.map(Into::into),
        })
    }

    /// What would keep [`start`](Runtime::start) from using `providers`: an error for each that cannot be
    /// compiled, does not fit its world, or is not configured as its manifest asks for. Nothing is kept.
    pub async fn check(
        limits: Limits,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        providers: Vec<ProviderConfig>,
    ) -> Vec<StartError> {
        let engine = match engine::start(&limits) {
            Ok(engine) => engine,
            Err(error) => return vec![StartError::Engine(format!("{error:#}"))],
        };
        let compiler = Compiler::new(engine, None);
        let mut errors = Vec::new();
        for provider in providers {
            let loaded = Provider::load(&compiler, &limits, &clock, &entropy, &provider, 0);
            errors.extend(loaded.await.err());
        }
        errors
    }

    /// A place for a call that no component decides about, by `caller`, to be kept to its end; it waits for
    /// one as a component's call does.
    ///
    /// # Errors
    ///
    /// [`CallError::Busy`] where there is none in time.
    pub async fn host_place(&self, caller: &Caller) -> Result<Place, CallError> {
        let places = self.host.places.of(HOST_CALLS);
        let place = places.take(&caller.in_line()).await;
        place.map_err(|Full| busy())
    }

    /// Turns a call of `component` (or of [`HOST_CALLS`]) by `caller` away before it is even read, where so many of theirs are
    /// waiting that it would find no room. Costs a look at a table.
    ///
    /// # Errors
    ///
    /// [`CallError::Busy`] then.
    pub fn room_for(&self, component: &str, caller: &Caller) -> Result<(), CallError> {
        let places = self.host.places.find(component);
        match places.is_some_and(|places| places.turn_away(&caller.in_line())) {
            true => Err(busy()),
            false => Ok(()),
        }
    }

    /// The same runtime as another process would have it, without compiling anything: over `store`
    /// and `queue`, with a clock and randomness of its own. Keys, limits, settings and providers are
    /// this one's; password hashes are worked out on the calling thread. A simulation starts and crashes
    /// thousands of processes so.
    pub fn again(
        &self,
        store: Arc<dyn Store>,
        queue: Queue,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Runtime {
        let host = Arc::new(Host {
            instants: Instants::new(clock.clone(), store.clone()),
            store: sealing(store, &self.host.keyring),
            clock,
            entropy,
            keyring: self.host.keyring.clone(),
            queue,
            default_region: self.host.default_region.clone(),
            settings: self.host.settings.clone(),
            texts: self.host.texts.clone(),
            analytics_settings: self.host.analytics_settings.clone(),
            subjects: Subjects::new(self.host.limits.subject_waiting),
            places: AllPlaces::new(&self.host.limits),
            turns: self.host.turns.clone(),
            hashing: Hashing::here(self.host.limits.hashes, self.host.limits.hashes_waiting),
            no_route: Seldom::default(),
            erasings: Semaphore::new(ERASINGS_MAX),
            figures: Figures::default(),
            audit_kept: self.host.audit_kept,
            limits: self.host.limits.clone(),
        });
        let present = self.live.now();
        let live = Live::new(Generation {
            otp: Slot::new(present.otp.live().again(&host)),
            two_factor: Slot::new(present.two_factor.live().again(&host)),
            analytics: Slot::new(present.analytics.live().again(&host)),
            providers: present.providers.clone(),
        });
        Runtime {
            live,
            host,
            went_back: Arc::default(),
            ..self.clone()
        }
    }

    /// A service that another runtime of the same engine has loaded, for calls of this one: see
    /// [`Runtime::again`].
    pub fn share<W: World>(&self, service: &Service<W>) -> Arc<Service<W>> {
        service.again(&self.host)
    }

    /// Loads a service component of any world. It can be called with [`Runtime::call`], and may call
    /// the services that its world links.
    ///
    /// # Errors
    ///
    /// See [`LoadError`].
    pub async fn load<W: World>(
        &self,
        name: &str,
        bytes: &[u8],
    ) -> Result<Arc<Service<W>>, LoadError> {
        Service::load(&self.compiler, &self.host, name, bytes).await
    }

    /// Calls `function` of a service about `subject`, as a transaction. `export` makes the typed call
    /// and may be run several times.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn call<W: World, R>(
        &self,
        service: &Arc<Service<W>>,
        subject: &str,
        context: &CallContext,
        function: &str,
        export: impl for<'a> Fn(&'a W, &'a mut wasmtime::Store<Call>, types::Context) -> Export<'a, R>
        + Send
        + Sync,
    ) -> Result<R, CallError> {
        let about = Subject {
            name: subject.to_owned(),
            ..Subject::default()
        };
        let versions = self.versions(&about);
        let verdict = self.call_about(&versions, service, about, context, function, None, export);
        verdict.await.map(|(verdict, _)| verdict)
    }

    /// The versions of all components that a call about `subject` uses, from its start to its end.
    pub(crate) fn versions(&self, subject: &Subject) -> Versions {
        self.live.now().of(&subject.name)
    }

    /// As [`call`](Runtime::call), with what naming the subject has found out already, and for requests
    /// that happen once. Returns the instant of the run that counted, too.
    #[expect(
        clippy::too_many_arguments,
        reason = "what a call is made of; each differs from the others by its type"
    )]
    pub(crate) async fn call_about<W: World, R>(
        &self,
        versions: &Versions,
        service: &Arc<Service<W>>,
        subject: Subject,
        context: &CallContext,
        function: &str,
        once: Option<Once<'_, R>>,
        export: impl for<'a> Fn(&'a W, &'a mut wasmtime::Store<Call>, types::Context) -> Export<'a, R>
        + Send
        + Sync,
    ) -> Result<(R, UnixMillis), CallError> {
        let request = CallRequest {
            subject: &subject.name,
            context,
            read_only: service.read_only(function),
            component: service.name(),
            figures: service.figures(),
            places: service.places(),
            versions: versions.clone(),
            phones: subject.phones,
            secrets: subject.secrets,
            once,
        };
        let run = |run, wall| service.run(run, wall, &export);
        let ended = runs::call(&self.host, request, run, |instance| service.keep(instance)).await;
        match &ended {
            Ok(_) => service.tally().count(Fate::Well),
            Err(CallError::Component { component, .. }) => {
                self.blame(component, versions, service.as_ref());
            }
            // Nobody's fault, or the host's own.
            Err(_) => {}
        }
        ended
    }

    /// A call has failed by `component`, in a call of `outer`.
    fn blame<W: World>(&self, component: &str, versions: &Versions, outer: &Service<W>) {
        let blamed: &dyn Versioned = match component {
            "otp" => &*versions.otp,
            "two-factor" => &*versions.two_factor,
            // The others are called by nobody else.
            _ => outer,
        };
        blamed.tally().count(Fate::Failed);
        self.go_back_if_worse(component, blamed.sha256());
    }

    /// A version of `component` has failed, or refused a message: where it is on trial and worse than the
    /// one before it, calls go back to that one from now on.
    fn go_back_if_worse(&self, component: &str, version: Sha256) {
        let present = self.live.now();
        let mut slots = present.slots(component).into_iter();
        if slots.any(|slot| slot.is_worse(version)) && self.go_back(component, version) {
            tracing::error!(
                component,
                version = version.short(),
                "a new version failed and was rolled back"
            );
            self.went_back.notify_one();
        }
    }

    /// What a request to the callback address of `provider` tells of its messages. The address that
    /// the provider has signed is made of the public URL and the request's path and query, never of
    /// its headers.
    ///
    /// # Errors
    ///
    /// See [`CallbackError`].
    pub async fn parse_callback(
        &self,
        provider: &str,
        request: CallbackRequest,
    ) -> Result<News, CallbackError> {
        let present = self.live.now();
        let found = present.providers.get(provider);
        let slot = found.ok_or_else(|| CallbackError::NoProvider(provider.to_owned()))?;
        let public_url = self.public_url.as_deref();
        let public_url = public_url.ok_or(CallbackError::NoPublicUrl)?;
        slot.live().parse_callback(public_url, request).await
    }

    /// The names of the providers whose callbacks can be read: all of them, or none where there is no
    /// public URL that they could have signed.
    pub fn callback_providers(&self) -> Vec<String> {
        match self.public_url {
            Some(_) => self.live.now().providers.keys().cloned().collect(),
            None => Vec::new(),
        }
    }

    /// The clock of this runtime.
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.host.clock.clone()
    }

    /// Where messages wait.
    pub fn queue(&self) -> &Queue {
        &self.host.queue
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// The analytics component for calls about `subject`.
    pub(crate) fn analytics(&self, subject: &str) -> Arc<Service<AnalyticsComponent>> {
        self.live.now().analytics.of(subject).clone()
    }

    /// Who the user has an account with, as an authenticator app shows it: the setting `issuer`.
    pub(crate) fn issuer(&self) -> String {
        let set = self.host.settings.iter().find(|(name, _)| name == "issuer");
        set.map_or("countersign", |(_, value)| value).to_owned()
    }

    /// What goes on, and what has happened since the process began.
    pub fn overview(&self) -> RuntimeOverview {
        let host = &self.host;
        let present = self.live.now();
        let live = present.providers.values().map(Slot::live);
        let mut providers: Vec<_> = live.map(|provider| provider.overview()).collect();
        providers.sort_by(|one, other| one.provider.cmp(&other.provider));
        let pool = self.compiler.engine.pooling_allocator_metrics();
        RuntimeOverview {
            services: host.figures.overview(),
            providers,
            places: host.places.overview(),
            instances_max: host.limits.instances,
            instances: pool.map_or(0, |pool| pool.component_instances()),
            hashes: host.hashing.done(),
            reported: host.figures.reported(),
        }
    }

    /// How many password hashes have been worked out since the start.
    pub fn hashes(&self) -> u64 {
        self.host.hashing.done()
    }

    /// The instant that a call would get now: what `Retry-After` counts from.
    pub fn now(&self) -> UnixMillis {
        self.host.instants.now()
    }

    /// Whether the machine's clock was set back and has not caught up yet.
    pub fn clock_stepped_back(&self) -> bool {
        self.host.instants.stepped_back()
    }
}

#[async_trait]
impl Sender for Runtime {
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError> {
        let slot = self.live.now().providers.get(provider).cloned();
        match slot {
            Some(slot) => {
                // A number is always handed over by the same version.
                let provider = slot.of(&message.to);
                let sent = provider.send(message).await;
                if sent.is_err() {
                    self.go_back_if_worse(provider.component(), provider.sha256());
                }
                sent
            }
            // Routes are checked at start; another version's job may name what is gone.
            None => Err(SendError {
                class: ErrorClass::Retryable,
                retry_after_ms: None,
                provider_code: None,
                text: "no such provider is configured".to_owned(),
                failover: false,
            }),
        }
    }
}

#[async_trait]
impl StatusSource for Runtime {
    fn tells_status(&self, provider: &str) -> bool {
        let present = self.live.now();
        let slot = present.providers.get(provider);
        slot.is_some_and(|slot| slot.live().tells_status())
    }

    async fn fetch_status(
        &self,
        provider: &str,
        ids: &[String],
    ) -> Result<Vec<StatusUpdate>, SendError> {
        let slot = self.live.now().providers.get(provider).cloned();
        match slot {
            Some(slot) => slot.live().fetch_status(ids).await,
            None => Ok(Vec::new()),
        }
    }
}
