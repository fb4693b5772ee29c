//! A provider by itself, without a server around it: for whoever writes one. The calls are those of a
//! server; beside their outcome they tell what the host has seen of the component.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_types::{Accepted, Clock, Entropy, Message, News, SendError, StatusUpdate};
use wasmtime::{ResourceLimiter, StoreLimits};

use super::{Call, CallbackError, CallbackRequest, Provider, ProviderConfig, ProviderManifest};
use crate::component::Compiler;
use crate::{Limits, StartError, engine};

/// What the host has seen of one call of a provider's component.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Why the component failed: it trapped, took too long, or broke a bound of the WIT.
    pub failed: Option<String>,
    /// How many requests it has made.
    pub requests: usize,
    /// How many signatures it had checked.
    pub signature_checks: u32,
    /// Whether one of them held.
    pub signature_held: bool,
    /// The lines of log that it wrote, as it wrote them: nothing was taken out of them.
    pub lines: Vec<String>,
    /// The names of settings that it asked for.
    pub settings: Vec<String>,
    /// How long its own code has had a processor, the start of its instance included.
    pub running: Duration,
    /// Linear memory of its instance at the end.
    pub memory_bytes: usize,
}

/// Remembers what is seen of the present call. In a server there is none.
#[derive(Debug, Default)]
pub(super) struct Witness(Mutex<Observed>);

impl Witness {
    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line of log, before anything was taken out of it.
    pub(super) fn line(&self, text: &str) {
        self.observed().lines.push(text.to_owned());
    }

    /// The name of a setting that was asked for.
    pub(super) fn setting(&self, name: &str) {
        self.observed().settings.push(name.to_owned());
    }

    /// The component has failed.
    pub(super) fn failed(&self, reason: &str) {
        self.observed().failed = Some(reason.to_owned());
    }

    /// The call is over.
    pub(super) fn ended(&self, call: &Call) {
        let mut observed = self.observed();
        observed.requests = call.one.requests;
        observed.signature_checks = call.one.signature_checks;
        observed.signature_held = call.one.signature_held;
        observed.running = call.one.meter.spent();
        observed.memory_bytes = call.growth.memory_bytes;
    }

    fn take(&self) -> Observed {
        std::mem::take(&mut *self.observed())
    }
}

/// What an instance may grow to, and how far it has.
pub(super) struct Growth {
    limits: StoreLimits,
    memory_bytes: usize,
}

impl Growth {
    pub(super) fn new(limits: StoreLimits) -> Growth {
        Growth {
            limits,
            memory_bytes: 0,
        }
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let may = self.limits.memory_growing(current, desired, maximum)?;
        if may {
            self.memory_bytes += desired.saturating_sub(current);
        }
        Ok(may)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.limits.memory_grow_failed(error)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.limits.table_growing(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.limits.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}

/// One provider component, compiled once, to be tried out in several configurations.
pub struct Workbench {
    compiler: Compiler,
    limits: Limits,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    component: Vec<u8>,
}

impl Workbench {
    /// Compiles `component`.
    ///
    /// # Errors
    ///
    /// When there is no engine on this machine. What is wrong with the component is told by
    /// [`describe`](Workbench::describe) and [`load`](Workbench::load).
    pub fn new(
        limits: Limits,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        component: Vec<u8>,
    ) -> Result<Workbench, StartError> {
        let engine =
            engine::start(&limits).map_err(|error| StartError::Engine(format!("{error:#}")))?;
        let compiler = Compiler::new(engine, None);
        compiler.prepare([("component", component.as_slice())]);
        Ok(Workbench {
            compiler,
            limits,
            clock,
            entropy,
            component,
        })
    }

    /// What the component says of itself, and what was seen while it did. `name` is what it is called in
    /// errors.
    ///
    /// # Errors
    ///
    /// When it does not fit its world, or cannot say what it is.
    pub async fn describe(&self, name: &str) -> Result<(ProviderManifest, Observed), StartError> {
        let config = ProviderConfig::bare(name);
        let (provider, witness) = self.link(&self.limits, &config)?;
        let manifest = provider.manifest(&config).await?;
        Ok((manifest, witness.take()))
    }

    /// The component as `config` configures it, whose `component` is not looked at. `limits` are the
    /// workbench's, but for how long things may take.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn load(
        &self,
        limits: &Limits,
        config: &ProviderConfig,
    ) -> Result<ProviderTrial, StartError> {
        let (provider, witness) = self.link(limits, config)?;
        let provider = provider.ask(config).await?;
        // Of what it said of itself.
        witness.take();
        Ok(ProviderTrial { provider, witness })
    }

    fn link(
        &self,
        limits: &Limits,
        config: &ProviderConfig,
    ) -> Result<(Provider, Arc<Witness>), StartError> {
        let compiled = self.compiler.compile(&config.name, &self.component)?;
        let (clock, entropy) = (&self.clock, &self.entropy);
        let engine = &self.compiler.engine;
        let mut linked =
            Provider::link(engine, limits, clock, entropy, config, &compiled, IDLE_MAX)?;
        let witness = Arc::<Witness>::default();
        linked.watch(&witness);
        Ok((linked, witness))
    }
}

/// One call after the other needs one instance.
const IDLE_MAX: usize = 1;

/// A provider that is tried out. Its calls come one after the other.
pub struct ProviderTrial {
    provider: Provider,
    witness: Arc<Witness>,
}

impl ProviderTrial {
    /// Hands a message over, as the delivery would.
    pub async fn send(&self, message: &Message) -> (Result<Accepted, SendError>, Observed) {
        let sent = self.provider.send(message).await;
        (sent, self.witness.take())
    }

    /// Has a callback to the address `public_url` read, as the route would.
    pub async fn parse_callback(
        &self,
        public_url: &str,
        request: CallbackRequest,
    ) -> (Result<News, CallbackError>, Observed) {
        let parsed = self.provider.parse_callback(public_url, request).await;
        (parsed, self.witness.take())
    }

    /// Asks what became of messages, as the follower would.
    pub async fn fetch_status(
        &self,
        ids: &[String],
    ) -> (Result<Vec<StatusUpdate>, SendError>, Observed) {
        let asked = self.provider.fetch_status(ids).await;
        (asked, self.witness.take())
    }
}
