//! A runtime on a real store, with a clock that stands still and a store that can be meddled with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::world::{
    Call, Service, World, link_otp, link_two_factor, otp_import, service as service_wit, two_factor,
};
use countersign_runtime::{
    CallContext, CallError, Caller, Limits, ProviderConfig, Runtime, RuntimeConfig,
};
use countersign_store::{
    Commit, CommitError, Committed, Ending, Hold, Keyring, Row, Rulings, Scanned, Sealing, Section,
    SledStore, Store, StoreError, Transaction,
};
use countersign_types::{ManualClock, SystemEntropy, UnixMillis};
use wasmtime::component::{InstancePre, Linker};

/// What providers are told to call.
pub(crate) const PUBLIC_URL: &str = "https://sms.example.test";

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

mod probe_wit {
    wasmtime::component::bindgen!({
        path: ["../../wit/service", "../../tests/hostile/wit"],
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

pub(crate) use probe_wit::ProbeService as Probe;

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

/// What a test does when a certain key is read.
type Meddling = Box<dyn Fn(usize) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync>;

/// A key, what happens after it has been read, and how often it has been.
type Watched = (Vec<u8>, Arc<Meddling>, usize);

/// The real store, with a place to put one's foot in the door: after a chosen key has been read,
/// something else happens.
pub(crate) struct Meddled {
    pub(crate) inner: Arc<SledStore>,
    on_read: Mutex<Option<Watched>>,
    pub(crate) commits: Mutex<Vec<Commit>>,
}

impl Meddled {
    /// Runs `then` each time that the probe's row `key` has been read, with the number of the read from 1.
    pub(crate) fn after_read(
        &self,
        key: &str,
        then: impl Fn(usize) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        self.after_read_of([b"c/probe/", key.as_bytes()].concat(), then);
    }

    /// As [`after_read`](Meddled::after_read), for any row.
    pub(crate) fn after_read_of(
        &self,
        key: Vec<u8>,
        then: impl Fn(usize) -> futures_util::future::BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        *self.on_read.lock().unwrap() = Some((key, Arc::new(Box::new(then)), 0));
    }

    /// How many rows the last commit wrote, and how many events.
    pub(crate) fn last_commit(&self) -> (usize, usize) {
        let commits = self.commits.lock().unwrap();
        let last = commits.last().unwrap();
        (
            last.writes.len() + last.sums.len() + last.takes.len(),
            last.events.len(),
        )
    }
}

#[async_trait]
impl Store for Meddled {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let row = self.inner.get(key).await?;
        let then = match &mut *self.on_read.lock().unwrap() {
            Some((watched, then, reads)) if watched == key => {
                *reads += 1;
                Some((then.clone(), *reads))
            }
            _ => None,
        };
        if let Some((then, reads)) = then {
            then(reads).await;
        }
        Ok(row)
    }

    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        self.inner.scan(from, to, limit).await
    }

    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        self.inner.scan_back(from, to, limit).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, CommitError> {
        self.commits.lock().unwrap().push(commit.clone());
        self.inner.commit(commit).await
    }

    async fn hold(&self) -> Hold<'_> {
        self.inner.hold().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.inner.settle().await
    }

    fn newest_instant(&self) -> UnixMillis {
        self.inner.newest_instant()
    }

    fn step_back(&self, instant: UnixMillis) {
        self.inner.step_back(instant);
    }

    async fn await_events(&self, position: u64) {
        self.inner.await_events(position).await;
    }

    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError> {
        self.inner.sweep(now).await
    }
}

/// Writes `value` under the probe's key, as another caller would.
pub(crate) async fn write(store: &Arc<dyn Store>, key: &str, value: &str) {
    let mut run = Transaction::new(store.clone(), store.newest_instant(), Rulings::default());
    let key = [b"c/probe/", key.as_bytes()].concat();
    let section = Section {
        state: 1,
        expires: None,
        value: value.as_bytes().to_vec(),
    };
    run.set_service(&key, Some(section)).await.unwrap();
    store.commit(run.into_commit(Ending::Commit)).await.unwrap();
}

pub(crate) struct Bench {
    _folder: tempfile::TempDir,
    pub(crate) store: Arc<Meddled>,
    /// The same rows as the runtime sees them, for others to change.
    pub(crate) beside: Arc<dyn Store>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) queue: Queue,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) runtime: Runtime,
    pub(crate) probe: Arc<Service<Probe>>,
}

impl Bench {
    pub(crate) async fn new() -> Bench {
        Bench::with(patient(), countersign_hostile::PROBE_OTP, Vec::new()).await
    }

    pub(crate) async fn with(limits: Limits, otp: &[u8], providers: Vec<ProviderConfig>) -> Bench {
        Bench::with_capacity(limits, otp, providers, 100).await
    }

    /// With the built-in components and these settings.
    pub(crate) async fn with_settings(limits: Limits, settings: &[(&str, &str)]) -> Bench {
        let settings = settings
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let settings = settings.collect();
        Bench::of(limits, countersign_embedded::OTP, Vec::new(), 100, settings).await
    }

    pub(crate) async fn with_capacity(
        limits: Limits,
        otp: &[u8],
        providers: Vec<ProviderConfig>,
        capacity: usize,
    ) -> Bench {
        Bench::of(limits, otp, providers, capacity, Vec::new()).await
    }

    async fn of(
        limits: Limits,
        otp: &[u8],
        providers: Vec<ProviderConfig>,
        capacity: usize,
        settings: Vec<(String, String)>,
    ) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Meddled {
            inner: SledStore::open(&folder.path().join("store")).unwrap(),
            on_read: Mutex::default(),
            commits: Mutex::default(),
        });
        let keys = folder.path().join("keys");
        let keyring = Arc::new(Keyring::load_or_create(&keys, true, &SystemEntropy).unwrap());
        let clock = Arc::new(ManualClock::new(NOW));
        let config = QueueConfig {
            capacity,
            lanes: Arc::new(vec![Arc::<str>::from("p")]),
            ..QueueConfig::default()
        };
        let queue = Queue::open(store.clone(), keyring.clone(), clock.clone(), config)
            .await
            .unwrap();
        let runtime = Runtime::start(RuntimeConfig {
            store: store.clone(),
            clock: clock.clone(),
            entropy: Arc::new(SystemEntropy),
            keyring: keyring.clone(),
            queue: queue.clone(),
            limits,
            default_region: None,
            cache: None,
            otp: otp.to_vec(),
            two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
            analytics: countersign_embedded::ANALYTICS.to_vec(),
            settings,
            texts: Arc::default(),
            analytics_settings: Vec::new(),
            audit_kept: Duration::from_secs(400 * 24 * 3600),
            providers,
            public_url: Some(PUBLIC_URL.to_owned()),
        })
        .await
        .unwrap();
        let probe = runtime
            .load("probe", countersign_hostile::PROBE)
            .await
            .unwrap();
        Bench {
            _folder: folder,
            beside: Arc::new(Sealing::new(store.inner.clone(), keyring.clone(), b"c/")),
            store,
            clock,
            queue,
            keyring,
            runtime,
            probe,
        }
    }

    /// The same components on a store of its own: nothing is compiled again.
    pub(crate) async fn afresh(&self) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Meddled {
            inner: SledStore::open(&folder.path().join("store")).unwrap(),
            on_read: Mutex::default(),
            commits: Mutex::default(),
        });
        let clock = Arc::new(ManualClock::new(NOW));
        let config = QueueConfig {
            lanes: Arc::new(vec![Arc::<str>::from("p")]),
            ..QueueConfig::default()
        };
        let keyring = self.keyring.clone();
        let queue = Queue::open(store.clone(), keyring.clone(), clock.clone(), config);
        let queue = queue.await.unwrap();
        let entropy = Arc::new(SystemEntropy);
        Bench {
            _folder: folder,
            beside: Arc::new(Sealing::new(store.inner.clone(), keyring.clone(), b"c/")),
            runtime: self
                .runtime
                .again(store.clone(), queue.clone(), clock.clone(), entropy),
            store,
            clock,
            queue,
            keyring,
            probe: self.probe.clone(),
        }
    }

    /// Runs a script about `subject`.
    pub(crate) async fn run_about(&self, subject: &str, script: &str) -> Result<String, CallError> {
        self.runtime
            .call(
                &self.probe,
                subject,
                &context(),
                "run",
                |probe, store, context| {
                    let script = script.to_owned();
                    Box::pin(async move {
                        let guest = probe.countersign_probe_probe();
                        guest.call_run(store, &context, &script).await
                    })
                },
            )
            .await
    }

    pub(crate) async fn run(&self, script: &str) -> Result<String, CallError> {
        self.run_about("somebody", script).await
    }

    /// Runs a script in the function that is declared read-only.
    pub(crate) async fn read(&self, script: &str) -> Result<String, CallError> {
        self.runtime
            .call(
                &self.probe,
                "somebody",
                &context(),
                "read",
                |probe, store, context| {
                    let script = script.to_owned();
                    Box::pin(async move {
                        let guest = probe.countersign_probe_probe();
                        guest.call_read(store, &context, &script).await
                    })
                },
            )
            .await
    }
}

pub(crate) fn context() -> CallContext {
    CallContext {
        service: "default".into(),
        caller: Caller::Key("k1".into()),
        client_address: None,
    }
}

/// The component and the reason of a failed call.
#[track_caller]
pub(crate) fn failure(result: Result<String, CallError>) -> (String, String) {
    match result {
        Err(CallError::Component {
            component, reason, ..
        }) => (component, reason),
        other => panic!("{other:?}"),
    }
}

/// The limits as they are, but for the time on a clock that others may need on a machine that is busy: no
/// test shall fail by that which is not about it.
pub(crate) fn patient() -> Limits {
    let long = Duration::from_secs(120);
    Limits {
        service_wall: long,
        service_wait: long,
        provider_wall: long,
        hold: long,
        http_request: long,
        ..Limits::default()
    }
}

/// Little time of one's own, so that what runs away is cut off soon.
pub(crate) fn short() -> Limits {
    Limits {
        service_time: Duration::from_millis(50),
        provider_time: Duration::from_millis(50),
        ..patient()
    }
}

/// Also little time from start to end, so that what waits is cut off soon. All else in such a test has to
/// end within it.
pub(crate) fn short_wall() -> Limits {
    let wall = Duration::from_secs(3);
    Limits {
        service_wall: wall,
        provider_wall: wall,
        ..short()
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Keeps all lines, of every level, until the guard is dropped.
    pub(crate) fn keep(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let lines = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .with_writer(move || log.clone())
            .finish();
        tracing::subscriber::set_default(lines)
    }

    /// The lines so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
