//! Provider components: each speaks to one SMS provider.
//!
//! A call gets a fresh instance, which sees its settings and may talk to its granted hosts, with
//! credentials that it names and the host puts in. `since_v0_1.rs` is the only file that knows the
//! released WIT.

mod callback;
mod credentials;
mod grant;
mod http;
mod log;
mod signatures;
mod since_v0_1;
mod spellings;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use countersign_types::{Accepted, Clock, Entropy, ErrorClass, Message, Secret, SendError};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub use self::callback::{CallbackError, CallbackRequest};
use self::credentials::Credentials;
use self::grant::Grant;
pub use self::grant::{GrantError, is_private};
use crate::component::{Compiler, LoadError, reason};
use crate::meter::{self, Meter};
use crate::{Limits, StartError, wasi};

/// One `[[provider]]` of the configuration.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Its name in routes, logs and reports.
    pub name: String,
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
}

/// The configured providers by name.
pub(crate) type Providers = HashMap<String, Provider>;

/// A loaded provider.
pub(crate) struct Provider {
    engine: Engine,
    limits: Limits,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    exports: since_v0_1::Pre,
    grants: Arc<Grants>,
    unsigned: bool,
    /// Whether its manifest says that it can be asked what became of messages.
    tells_status: bool,
}

/// What a provider has been given; the same for all its calls.
#[derive(Clone)]
pub(crate) struct Grants {
    name: String,
    settings: HashMap<String, String>,
    credentials: Credentials,
    hosts: Grant,
    client: reqwest::Client,
}

/// What the host has seen of a call's requests: it judges by this when the component cannot.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// A byte of a request may have been written.
    maybe_sent: AtomicBool,
    /// The last whole answer had a 2xx status.
    accepted: AtomicBool,
}

/// The data of one call's store.
pub(crate) struct Call {
    grants: Arc<Grants>,
    limits: Limits,
    seen: Arc<Seen>,
    meter: Arc<Meter>,
    requests: usize,
    signature_checks: u32,
    /// A check has found a signature to be right.
    signature_held: bool,
    /// It reads what anybody may have sent: nothing is believed before a signature has held.
    asked_by_anybody: bool,
    lines: usize,
    world: Arc<wasi::World>,
    wasi: WasiCtx,
    table: ResourceTable,
    store_limits: StoreLimits,
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
    /// is granted.
    pub(crate) async fn load(
        compiler: &Compiler,
        limits: &Limits,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<dyn Entropy>,
        config: ProviderConfig,
    ) -> Result<Provider, StartError> {
        let engine = &compiler.engine;
        let component = compiler.compile(&config.name, &config.component)?;
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
            .instantiate_pre(&component)
            .and_then(since_v0_1::Pre::new)
            .map_err(misfit)?;
        let hosts = config.allow_hosts.clone().unwrap_or_default();
        let mut provider = Provider {
            engine: engine.clone(),
            limits: limits.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            exports,
            grants: Arc::new(Grants::new(&config, &hosts, limits)?),
            unsigned: config.unsigned,
            tells_status: false,
        };
        let manifest = provider
            .describe()
            .await
            .map_err(|reason| LoadError::Describe {
                name: config.name.clone(),
                reason,
            })?;
        let hosts = match config.allow_hosts.clone() {
            Some(hosts) => hosts,
            None => grant::from_manifest(&config, manifest.hosts)?,
        };
        grant::check_needs(&config, &manifest.settings, &manifest.credentials)?;
        provider.tells_status = manifest.tells_status;
        provider.grants = Arc::new(Grants {
            hosts: Grant::new(&config, &hosts)?,
            ..Grants::clone(&provider.grants)
        });
        Ok(provider)
    }

    async fn describe(&self) -> Result<since_v0_1::Manifest, String> {
        let (mut store, meter, _) = self.store(self.limits.provider_time);
        let asked = meter.run(async {
            let exports = self.exports.instantiate(&mut store).await?;
            exports.describe(&mut store).await
        });
        match tokio::time::timeout(self.limits.provider_wall, asked).await {
            Ok(Ok(manifest)) => Ok(manifest),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err("it took too long".to_owned()),
        }
    }

    /// Whether it can be asked what became of messages.
    pub(crate) fn tells_status(&self) -> bool {
        self.tells_status
    }

    /// What one call runs in, whose own time is `time`.
    fn store(&self, time: Duration) -> (Store<Call>, Arc<Meter>, Arc<Seen>) {
        let limits = &self.limits;
        let seen = Arc::new(Seen::default());
        let meter = Meter::new(time);
        let world = wasi::World::new(limits.log_line_bytes * limits.log_lines);
        let mut seed = [0; 32];
        self.entropy.fill(&mut seed);
        world.set(None, seed);
        let call = Call {
            grants: self.grants.clone(),
            limits: limits.clone(),
            seen: seen.clone(),
            meter: meter.clone(),
            requests: 0,
            signature_checks: 0,
            signature_held: false,
            asked_by_anybody: false,
            lines: 0,
            wasi: wasi::context(&world, &self.clock, &*self.entropy),
            world,
            table: wasi::table(limits.handles),
            store_limits: limits.of_a_store(),
        };
        let mut store = Store::new(&self.engine, call);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store.limiter(|call| &mut call.store_limits);
        meter::watch(&mut store, |call: &Call| &call.meter);
        (store, meter, seen)
    }

    /// Hands a message over, in a fresh instance.
    pub(crate) async fn send(&self, message: &Message) -> Result<Accepted, SendError> {
        let (mut store, meter, seen) = self.store(self.limits.provider_time);
        let sent = meter.run(async {
            let exports = self.exports.instantiate(&mut store).await?;
            exports.send(&mut store, message).await
        });
        let ended = tokio::time::timeout(self.limits.provider_wall, sent).await;
        log::write_output(store.data());
        match ended {
            Ok(Ok(answer)) => answer.map_err(|error| SendError {
                text: self.clean(&error.text, message),
                ..self.clean_error(error)
            }),
            Ok(Err(error)) => self.judge(&seen, &self.clean(&reason(&error), message)),
            Err(_) => self.judge(&seen, "it took too long"),
        }
    }

    /// What a provider says of `message`, without credentials, codes and numbers.
    fn clean(&self, text: &str, message: &Message) -> String {
        let number = message.to.trim_start_matches('+');
        self.clean_text(&text.replace(number, "•"))
    }

    /// What became of a message whose component failed, by what the host saw of its requests.
    fn judge(&self, seen: &Seen, reason: &str) -> Result<Accepted, SendError> {
        tracing::error!(
            provider = self.grants.name,
            reason,
            "a provider component failed"
        );
        if seen.accepted.load(Ordering::Acquire) {
            return Ok(Accepted::default());
        }
        let class = if seen.maybe_sent.load(Ordering::Acquire) {
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

impl Grants {
    fn new(
        config: &ProviderConfig,
        hosts: &[String],
        limits: &Limits,
    ) -> Result<Grants, GrantError> {
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
        })
    }
}
