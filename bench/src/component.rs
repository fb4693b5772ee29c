//! What a call of a component costs, on one thread: instance, transaction and capabilities, without
//! HTTP and without a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::world::{
    Call, Service, World, link_otp, link_two_factor, otp_import, service as service_wit, two_factor,
};
use countersign_runtime::{
    CallContext, Caller, Limits, Runtime, RuntimeConfig, SendRequest, SendVerdict,
};
use countersign_store::{
    Commit, CommitError, Committed, Hold, Keyring, Row, Scanned, Store, StoreError,
};
use countersign_types::{SystemClock, SystemEntropy, UnixMillis};
use tokio::sync::RwLock;
use wasmtime::component::{InstancePre, Linker};

use crate::{Failure, server};

mod probe_wit {
    #![allow(
        missing_docs,
        unreachable_pub,
        reason = "the bindings are generated; the documents are in the WIT"
    )]

    wasmtime::component::bindgen!({
        path: ["../wit/service", "../tests/hostile/wit"],
        world: "countersign:probe/probe-service",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "countersign:service/storage": super::service_wit::countersign::service::storage,
            "countersign:service/codes": super::service_wit::countersign::service::codes,
            "countersign:service/queue": super::service_wit::countersign::service::queue,
            "countersign:service/events": super::service_wit::countersign::service::events,
            "countersign:service/phone": super::service_wit::countersign::service::phone,
            "countersign:service/settings": super::service_wit::countersign::service::settings,
            "countersign:service/log": super::service_wit::countersign::service::log,
            "countersign:service/types": super::service_wit::countersign::service::types,
            "countersign:service/otp-types": super::service_wit::countersign::service::otp_types,
            "countersign:service/otp": super::otp_import::countersign::service::otp,
            "countersign:service/totp": super::two_factor::countersign::service::totp,
            "countersign:service/backup": super::two_factor::countersign::service::backup,
            "countersign:service/audit": super::two_factor::countersign::service::audit,
        },
        require_store_data_send: true,
    });
}

use probe_wit::ProbeService as Probe;

#[async_trait]
impl World for Probe {
    type Pre = probe_wit::ProbeServicePre<Call>;
    const NAME: &'static str = "countersign:probe/probe-service";

    fn link(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
        link_otp(linker)?;
        link_two_factor(linker)
    }

    fn pre(pre: InstancePre<Call>) -> wasmtime::Result<Self::Pre> {
        probe_wit::ProbeServicePre::new(pre)
    }

    async fn instantiate(
        pre: &Self::Pre,
        store: &mut wasmtime::Store<Call>,
    ) -> wasmtime::Result<Self> {
        pre.instantiate_async(store).await
    }

    async fn describe(
        &self,
        store: &mut wasmtime::Store<Call>,
    ) -> wasmtime::Result<service_wit::countersign::service::types::Manifest> {
        self.call_describe(store).await
    }
}

/// A store that holds nothing and has committed everything at once: what is left of a call is its
/// component, its transaction and what the host does for it.
#[derive(Default)]
struct NoStore {
    gate: RwLock<()>,
    version: AtomicU64,
}

#[async_trait]
impl Store for NoStore {
    async fn get(&self, _: &[u8]) -> Result<Option<Row>, StoreError> {
        Ok(None)
    }

    async fn scan(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Scanned>, StoreError> {
        Ok(Vec::new())
    }

    async fn scan_back(&self, _: &[u8], _: &[u8], _: usize) -> Result<Vec<Scanned>, StoreError> {
        Ok(Vec::new())
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Committed {
            version: Some(version),
            first_event: (!commit.events.is_empty()).then_some(version),
        })
    }

    async fn hold(&self) -> Hold<'_> {
        self.gate.read().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn newest_instant(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn step_back(&self, _: UnixMillis) {}

    async fn await_events(&self, _: u64) {
        std::future::pending().await
    }

    async fn sweep(&self, _: UnixMillis) -> Result<bool, StoreError> {
        Ok(true)
    }
}

/// What a send does, in the probe's words: one row read, two written, an event, the time, randomness.
const STEPS: [&str; 6] = [
    "get a",
    "put a 0123456789",
    "put b 0123456789",
    "emit probe.ran",
    "now",
    "random",
];

/// How many jobs may wait: nobody delivers them.
const QUEUE_CAPACITY: usize = 1_000_000;

/// The cost of one kind of call, in microseconds: medians over batches.
#[derive(Clone, Debug)]
pub(crate) struct CallCost {
    /// What is called.
    pub(crate) name: &'static str,
    /// With a fresh instance each time.
    pub(crate) fresh_us: f64,
    /// With an instance that has served before.
    pub(crate) reused_us: f64,
}

/// Measures all kinds.
pub(crate) fn measure(quick: bool) -> Result<Vec<CallCost>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (batches, calls) = if quick { (5, 100) } else { (15, 1_000) };
    let effort = Effort { batches, calls };
    runtime.block_on(async {
        let fresh = costs(1, effort).await?;
        let reused = costs(Limits::default().instance_calls, effort).await?;
        let both = fresh.into_iter().zip(reused);
        Ok(both
            .map(|((name, fresh_us), (_, reused_us))| CallCost {
                name,
                fresh_us,
                reused_us,
            })
            .collect())
    })
}

#[derive(Clone, Copy)]
struct Effort {
    batches: usize,
    calls: u32,
}

/// Each kind of call with instances that serve `instance_calls` calls.
async fn costs(instance_calls: u32, effort: Effort) -> Result<Vec<(&'static str, f64)>, Failure> {
    let scripted = Bench::start(instance_calls, countersign_hostile::PROBE_OTP).await?;
    let steps = STEPS.join("\n");
    let nested_nothing = "nested now".to_owned();
    let nested_steps = format!("nested {}", STEPS.join("|"));
    let mut costs = Vec::new();
    for (name, script) in [
        ("a component that does nothing", ""),
        ("one with the steps of a send", steps.as_str()),
        (
            "one that calls otp, which does nothing",
            nested_nothing.as_str(),
        ),
        (
            "one that calls otp with the steps of a send",
            nested_steps.as_str(),
        ),
    ] {
        let call = async |_| scripted.run(script).await;
        costs.push((name, median_us(effort, call).await?));
    }
    let real = Bench::start(instance_calls, countersign_embedded::OTP).await?;
    let call = async |n| real.send(n).await;
    costs.push((
        "otp.send of the product, with phone parsing",
        median_us(effort, call).await?,
    ));
    Ok(costs)
}

/// The median over batches of the mean time of a call. The first batch warms up.
async fn median_us(
    effort: Effort,
    call: impl AsyncFn(u64) -> Result<(), Failure>,
) -> Result<f64, Failure> {
    let mut means = Vec::new();
    let mut n = 0;
    for _ in 0..=effort.batches {
        let begun = Instant::now();
        for _ in 0..effort.calls {
            call(n).await?;
            n += 1;
        }
        means.push(begun.elapsed() / effort.calls);
    }
    let measured = &mut means[1..];
    measured.sort_unstable();
    let median: Duration = measured[measured.len() / 2];
    Ok(median.as_secs_f64() * 1e6)
}

/// A runtime on some store, or on none.
pub(crate) struct Bench {
    _keys: tempfile::TempDir,
    runtime: Runtime,
    probe: Arc<Service<Probe>>,
    context: CallContext,
}

impl Bench {
    async fn start(instance_calls: u32, otp: &[u8]) -> Result<Bench, Failure> {
        let limits = Limits {
            instance_calls,
            ..Limits::default()
        };
        Bench::over(Arc::new(NoStore::default()), limits, otp).await
    }

    pub(crate) async fn over(
        store: Arc<dyn Store>,
        limits: Limits,
        otp: &[u8],
    ) -> Result<Bench, Failure> {
        let keys = tempfile::tempdir()?;
        let keyring = Keyring::load_or_create(&keys.path().join("keys"), true, &SystemEntropy)?;
        let keyring = Arc::new(keyring);
        let queue_config = QueueConfig {
            capacity: QUEUE_CAPACITY,
            lanes: Arc::new(vec![Arc::<str>::from("none")]),
            ..QueueConfig::default()
        };
        let runtime = Runtime::start(RuntimeConfig {
            store: store.clone(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            queue: Queue::open(store, keyring.clone(), Arc::new(SystemClock), queue_config).await?,
            keyring,
            limits,
            default_region: None,
            cache: None,
            otp: otp.to_vec(),
            two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
            analytics: countersign_embedded::ANALYTICS.to_vec(),
            settings: Vec::new(),
            texts: Arc::default(),
            analytics_settings: Vec::new(),
            audit_kept: Duration::from_secs(400 * 24 * 3600),
            providers: Vec::new(),
            public_url: None,
        })
        .await?;
        let probe = runtime.load("probe", countersign_hostile::PROBE).await?;
        Ok(Bench {
            _keys: keys,
            runtime,
            probe,
            context: CallContext {
                service: "default".to_owned(),
                caller: Caller::Key("bench".to_owned()),
                client_address: None,
            },
        })
    }

    /// Calls the scripted component.
    pub(crate) async fn run(&self, script: &str) -> Result<(), Failure> {
        self.run_about("somebody", script).await
    }

    /// The same about a subject.
    pub(crate) async fn run_about(&self, subject: &str, script: &str) -> Result<(), Failure> {
        let answer = self
            .runtime
            .call(
                &self.probe,
                subject,
                &self.context,
                "run",
                |probe, store, context| {
                    let script = script.to_owned();
                    Box::pin(async move {
                        let guest = probe.countersign_probe_probe();
                        guest.call_run(store, &context, &script).await
                    })
                },
            )
            .await?;
        match answer.strip_prefix("err ") {
            Some(text) => Err(text.to_owned().into()),
            None => Ok(()),
        }
    }

    /// Sends a code to the `n`th number.
    pub(crate) async fn send(&self, n: u64) -> Result<(), Failure> {
        let request = SendRequest {
            phone: format!("+{}", server::digits(n)),
            ..SendRequest::default()
        };
        let (verdict, _) = self.runtime.otp_send(&self.context, request, None).await?;
        match verdict {
            SendVerdict::Sent { .. } => Ok(()),
            SendVerdict::Refused(refusal) => Err(refusal.text.into()),
        }
    }
}
