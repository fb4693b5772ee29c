//! Provider components: each speaks to one SMS provider.
//!
//! A call gets an instance, which sees its settings and may talk to its granted hosts, with credentials
//! that it names and the host puts in. A third party's component gets a fresh one for each call; the
//! host's own are used again, as services are ([`ProviderConfig::own`]). `since_v0_1` alone knows a WIT:
//! it converts between that and the host's own words (`words.rs`).

mod authorization;
mod callback;
mod credentials;
mod grant;
mod http;
mod log;
mod replies;
mod signatures;
mod sigv4;
mod since_v0_1;
mod spellings;
mod tokens;
mod words;
mod workbench;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_types::{Accepted, Clock, Entropy, ErrorClass, Message, Secret, SendError};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub use self::callback::{CallbackError, CallbackRequest};
use self::credentials::Credentials;
use self::grant::Grant;
pub use self::grant::{GrantError, ProviderNeed, is_private};
use self::tokens::Tokens;
pub use self::words::ProviderManifest;
use self::workbench::{Growth, Witness};
pub use self::workbench::{Observed, ProviderTrial, Workbench};
use crate::call_figures::{ProviderFigures, ProviderOverview};
use crate::component::{Compiled, Compiler, LoadError, reason};
use crate::generation::Versioned;
use crate::meter::{self, Meter, TimeOver};
use crate::version::{Fate, Sha256, Tally};
use crate::{Limits, StartError, wasi};

/// One `[[provider]]` of the configuration.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Its name in routes, logs and reports.
    pub name: String,
    /// The component's name: several entries may use one.
    pub component_name: String,
    /// The component.
    pub component: Vec<u8>,
    /// What it may read.
    pub settings: Vec<(String, String)>,
    /// What it may name.
    pub credentials: Vec<(String, Secret<String>)>,
    /// The hosts that it may call, `name` or `name:port`; `None`: those of its manifest. The host and
    /// port of a `base-url` setting are granted with them.
    pub allow_hosts: Option<Vec<String>>,
    /// Whether it may print to standard output: the built-in console provider alone.
    pub terminal: bool,
    /// Whether its callbacks are believed without a signature.
    pub unsigned: bool,
    /// Whether the component is the host's own, and so trusted to keep nothing of one message that
    /// would show in the next: its instances may then hand over one message after the other. What
    /// strangers send to the callback address is read by an instance that has seen no message.
    pub own: bool,
}

impl ProviderConfig {
    /// For looking at a component that no entry uses: it is given nothing.
    pub(crate) fn bare(component: &str) -> ProviderConfig {
        ProviderConfig {
            name: component.to_owned(),
            component_name: component.to_owned(),
            component: Vec::new(),
            settings: Vec::new(),
            credentials: Vec::new(),
            allow_hosts: None,
            // Whether it may be imported; nothing is printed while it describes itself.
            terminal: component == "provider-console",
            unsigned: false,
            own: false,
        }
    }
}

/// A loaded provider.
pub(crate) struct Provider {
    engine: Engine,
    limits: Limits,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    component: String,
    sha256: Sha256,
    tally: Tally,
    exports: since_v0_1::Pre,
    grants: Arc<Grants>,
    unsigned: bool,
    /// Whether its manifest says that it can be asked what became of messages.
    tells_status: bool,
    figures: ProviderFigures,
    /// Instances for the next calls; `None`: each call has one of its own.
    idle: Mutex<Option<Vec<Instance>>>,
    idle_max: usize,
}

impl Versioned for Provider {
    fn sha256(&self) -> Sha256 {
        self.sha256
    }

    fn tally(&self) -> &Tally {
        &self.tally
    }

    fn retire(&self) {
        let idle = self.idle.lock();
        let instances = idle.unwrap_or_else(PoisonError::into_inner).take();
        crate::aside::drop_there(instances);
    }
}

/// One instance, made when its first call needs it, and how many calls it has served.
struct Instance {
    store: Store<Call>,
    exports: Option<since_v0_1::Exports>,
    calls: u32,
}

/// What a provider has been given; the same for all its calls.
#[derive(Clone)]
pub(crate) struct Grants {
    name: String,
    settings: HashMap<String, String>,
    credentials: Credentials,
    hosts: Grant,
    client: reqwest::Client,
    clock: Arc<dyn Clock>,
    tokens: Arc<Tokens>,
    /// Who watches what the component does; in a server nobody.
    witness: Option<Arc<Witness>>,
}

/// The data of an instance's store.
pub(crate) struct Call {
    grants: Arc<Grants>,
    limits: Limits,
    /// All that is one call's alone.
    one: One,
    world: Arc<wasi::World>,
    wasi: WasiCtx,
    table: ResourceTable,
    growth: Growth,
}

/// What a call has used, and what the host has seen of it. The next call begins with a new one.
struct One {
    meter: Arc<Meter>,
    requests: usize,
    signature_checks: u32,
    /// A check has found a signature to be right.
    signature_held: bool,
    /// It reads a callback, which anybody may have sent: before a signature has held it sends no request, and
    /// what it says is no more than `debug`.
    reads_callback: bool,
    lines: usize,
    seen: Seen,
}

impl One {
    fn new(limits: &Limits) -> One {
        One {
            meter: Meter::new(limits.provider_time),
            requests: 0,
            signature_checks: 0,
            signature_held: false,
            reads_callback: false,
            lines: 0,
            seen: Seen::default(),
        }
    }
}

/// What the host has seen of a call's requests: it judges by this when the component cannot.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// A byte of a request may have been written.
    maybe_sent: bool,
    /// The last whole answer had a 2xx status.
    accepted: bool,
}

impl WasiView for Call {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl Provider {
    /// Compiles a provider, checks that it fits its world, asks it what it is, and works out what it
    /// is granted. At most `idle_max` of its instances wait for their next call.
    pub(crate) async fn load(
        compiler: &Compiler,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        config: &ProviderConfig,
        idle_max: usize,
    ) -> Result<Provider, StartError> {
        let compiled = compiler.compile(&config.name, &config.component)?;
        let engine = &compiler.engine;
        let linked = Provider::link(engine, limits, clock, entropy, config, &compiled, idle_max)?;
        linked.ask(config).await
    }

    /// Checks that a component fits its world and gives it what does not depend on its manifest. It has
    /// not said yet what it is.
    pub(crate) fn link(
        engine: &Engine,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        config: &ProviderConfig,
        compiled: &Compiled,
        idle_max: usize,
    ) -> Result<Provider, StartError> {
        let misfit = |error: wasmtime::Error| LoadError::DoesNotFit {
            name: config.name.clone(),
            world: since_v0_1::WORLD,
            reason: reason(&error),
        };
        let mut linker = Linker::new(engine);
        since_v0_1::link(&mut linker, config.terminal)
            .and_then(|()| wasi::link(&mut linker))
            .and_then(|()| wasi::link_refusing_sockets(&mut linker))
            .map_err(misfit)?;
        let exports = linker
            .instantiate_pre(&compiled.component)
            .and_then(since_v0_1::Pre::new)
            .map_err(misfit)?;
        let hosts = config.allow_hosts.clone().unwrap_or_default();
        Ok(Provider {
            engine: engine.clone(),
            limits: limits.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            component: config.component_name.clone(),
            sha256: compiled.sha256,
            tally: Tally::default(),
            exports,
            grants: Arc::new(Grants::new(config, &hosts, limits, clock)?),
            unsigned: config.unsigned,
            tells_status: false,
            figures: ProviderFigures::default(),
            idle: Mutex::new(config.own.then(Vec::new)),
            idle_max,
        })
    }

    /// Asks the component what it is, and works out what it is granted.
    pub(crate) async fn ask(mut self, config: &ProviderConfig) -> Result<Provider, StartError> {
        let manifest = self.manifest(config).await?;
        let hosts = match config.allow_hosts.clone() {
            Some(hosts) => hosts,
            None => grant::from_manifest(config, manifest.hosts)?,
        };
        grant::check_needs(config, &manifest.settings, &manifest.credentials)?;
        self.tells_status = manifest.tells_status;
        self.grants = Arc::new(Grants {
            hosts: Grant::new(config, &hosts)?,
            ..Grants::clone(&self.grants)
        });
        Ok(self)
    }

    /// What the component says of itself.
    async fn manifest(&self, config: &ProviderConfig) -> Result<ProviderManifest, LoadError> {
        let described = self.describe().await;
        described.map_err(|reason| LoadError::Describe {
            name: config.name.clone(),
            reason,
        })
    }

    /// Lets `witness` see what the component does from now on.
    fn watch(&mut self, witness: &Arc<Witness>) {
        self.grants = Arc::new(Grants {
            witness: Some(witness.clone()),
            ..Grants::clone(&self.grants)
        });
    }

    /// The name of its component.
    pub(crate) fn component(&self) -> &str {
        &self.component
    }

    /// Whether the component can say what it is.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) async fn answers(&self) -> Result<(), String> {
        self.describe().await.map(|_| ())
    }

    async fn describe(&self) -> Result<ProviderManifest, String> {
        // With what is granted before the manifest is known, so it is not used again.
        let mut instance = self.fresh();
        let asked = instance.meter().run(async {
            let (exports, store) = instance.ready(&self.exports).await?;
            exports.describe(store).await
        });
        let described = tokio::time::timeout(self.limits.provider_wall, asked).await;
        instance.end();
        match described {
            Ok(Ok(manifest)) => Ok(manifest),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err("it took too long".to_owned()),
        }
    }

    /// How its component has failed since the process began.
    pub(crate) fn overview(&self) -> ProviderOverview {
        ProviderOverview {
            provider: self.grants.name.clone(),
            failed: self.figures.failed.value(),
            timed_out: self.figures.timed_out.value(),
        }
    }

    /// Whether it can be asked what became of messages.
    pub(crate) fn tells_status(&self) -> bool {
        self.tells_status
    }

    /// An instance that has served nobody yet.
    fn fresh(&self) -> Instance {
        let limits = &self.limits;
        let world = wasi::World::new(limits.log_line_bytes * limits.log_lines);
        let call = Call {
            grants: self.grants.clone(),
            limits: limits.clone(),
            one: One::new(limits),
            wasi: wasi::context(&world, &self.clock, &*self.entropy),
            world,
            table: wasi::table(limits.handles),
            growth: Growth::new(limits.of_a_store()),
        };
        let mut store = Store::new(&self.engine, call);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store.limiter(|call| &mut call.growth);
        meter::watch(&mut store, |call: &Call| &call.one.meter);
        let mut instance = Instance {
            store,
            exports: None,
            calls: 0,
        };
        instance.begin(&*self.entropy);
        instance
    }

    /// An instance for a call about messages that were accepted here.
    fn instance(&self) -> Instance {
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.as_mut().and_then(Vec::pop)
        };
        match idle {
            Some(mut instance) => {
                instance.begin(&*self.entropy);
                instance
            }
            None => self.fresh(),
        }
    }

    /// Keeps an instance whose call has come to its own end, where it may be used again.
    fn keep(&self, mut instance: Instance) {
        instance.calls += 1;
        if instance.calls >= self.limits.instance_calls {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(idle) = idle.as_mut()
            && idle.len() < self.idle_max
        {
            idle.push(instance);
        }
    }

    /// Hands a message over.
    pub(crate) async fn send(&self, message: &Message) -> Result<Accepted, SendError> {
        let mut instance = self.instance();
        let sent = instance.meter().run(async {
            let (exports, store) = instance.ready(&self.exports).await?;
            exports.send(store, message).await
        });
        let ended = tokio::time::timeout(self.limits.provider_wall, sent).await;
        let seen = instance.end();
        match ended {
            Ok(Ok(answer)) => {
                self.keep(instance);
                self.tally.count(match answer {
                    Ok(_) => Fate::Well,
                    Err(_) => Fate::Refused,
                });
                answer.map_err(|error| SendError {
                    text: self.clean(&error.text, message),
                    ..self.clean_error(error)
                })
            }
            Ok(Err(error)) => {
                let reason = self.failed(&error);
                self.judge(seen, &self.clean(&reason, message))
            }
            Err(_) => self.judge(seen, self.timed_out()),
        }
    }

    /// Counts a call that the component failed at, and says why.
    fn failed(&self, error: &wasmtime::Error) -> String {
        let cause = match error.downcast_ref::<TimeOver>() {
            Some(_) => &self.figures.timed_out,
            None => &self.figures.failed,
        };
        cause.add_one();
        reason(error)
    }

    /// Counts a call that was cut off by the clock on the wall, and says so.
    fn timed_out(&self) -> &'static str {
        self.figures.timed_out.add_one();
        "it took too long"
    }

    /// What a provider says of `message`, without credentials, codes and numbers.
    fn clean(&self, text: &str, message: &Message) -> String {
        let number = message.to.trim_start_matches('+');
        self.clean_text(&text.replace(number, "•"))
    }

    /// What became of a message whose component failed, by what the host saw of its requests.
    fn judge(&self, seen: Seen, reason: &str) -> Result<Accepted, SendError> {
        self.tally.count(Fate::Failed);
        if let Some(witness) = &self.grants.witness {
            witness.failed(reason);
        }
        tracing::error!(
            provider = self.grants.name,
            reason,
            "a provider component failed"
        );
        if seen.accepted {
            return Ok(Accepted::default());
        }
        let class = if seen.maybe_sent {
            ErrorClass::UnknownOutcome
        } else {
            ErrorClass::Retryable
        };
        Err(SendError {
            class,
            retry_after_ms: None,
            provider_code: None,
            text: format!("the component failed: {reason}"),
            failover: false,
        })
    }
}

impl Instance {
    /// Lets a call begin, with nothing of the one before.
    fn begin(&mut self, entropy: &dyn Entropy) {
        let mut seed = [0; 32];
        entropy.fill(&mut seed);
        let call = self.store.data_mut();
        call.one = One::new(&call.limits);
        call.world.set(None, seed);
        self.store.set_epoch_deadline(1);
    }

    /// The call that has begun reads what somebody has sent, in `time`.
    fn serve_anybody(&mut self, time: Duration) {
        let one = &mut self.store.data_mut().one;
        one.meter = Meter::new(time);
        one.reads_callback = true;
    }

    fn meter(&self) -> Arc<Meter> {
        self.store.data().one.meter.clone()
    }

    /// The exports and their store. A component's own start code runs here.
    async fn ready(
        &mut self,
        pre: &since_v0_1::Pre,
    ) -> wasmtime::Result<(&since_v0_1::Exports, &mut Store<Call>)> {
        if self.exports.is_none() {
            self.exports = Some(pre.instantiate(&mut self.store).await?);
        }
        match &self.exports {
            Some(exports) => Ok((exports, &mut self.store)),
            None => wasmtime::bail!("an instance without exports"),
        }
    }

    /// Logs what the guest has written; returns what the host has seen of the call.
    fn end(&self) -> Seen {
        let call = self.store.data();
        log::write_output(call);
        if let Some(witness) = &call.grants.witness {
            witness.ended(call);
        }
        call.one.seen
    }
}

impl Grants {
    fn new(
        config: &ProviderConfig,
        hosts: &[String],
        limits: &Limits,
        clock: &Arc<dyn Clock>,
    ) -> Result<Grants, GrantError> {
        grant::check_credentials(config)?;
        let hosts = Grant::new(config, hosts)?;
        let client = http::client(limits).map_err(|error| GrantError::Client {
            provider: config.name.clone(),
            reason: format!("{error:#}"),
        })?;
        Ok(Grants {
            name: config.name.clone(),
            settings: config.settings.iter().cloned().collect(),
            credentials: Credentials::new(&config.credentials),
            hosts,
            client,
            clock: clock.clone(),
            tokens: Arc::default(),
            witness: None,
        })
    }
}
