//! How fast the queue empties when providers cost nothing: claiming, the provider component in its
//! fresh instance, and the durable commit of how it ended; no HTTP.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_delivery::{
    BreakerTerms, Delivery, DeliveryConfig, Health, ProviderTerms, Route, Routes,
};
use countersign_queue::{ANONYMOUS, Counts, Job, Queue, QueueConfig, job_row};
use countersign_runtime::{Limits, ProviderConfig, Runtime, RuntimeConfig};
use countersign_store::{Body, Commit, Keyring, Sections, SledStore, Store, Write};
use countersign_types::{
    Clock, MessageId, NumberKind, Priority, Secret, SystemClock, SystemEntropy,
};
use tokio::sync::watch;

use crate::{Failure, server};

/// The provider's name.
const NAME: &str = "noop";
/// Jobs of one commit while the queue is filled.
const JOBS_OF_A_COMMIT: usize = 64;
/// How long emptying may take.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Fills a queue with `jobs`, empties it with the server's own settings, and returns how many were
/// over a second, each durably.
pub(crate) async fn measure(folder: &Path, jobs: usize) -> Result<f64, Failure> {
    let store: Arc<dyn Store> = SledStore::open(&folder.join("drain"))?;
    let keyring = Keyring::load_or_create(&folder.join("drain-keys"), true, &SystemEntropy)?;
    let keyring = Arc::new(keyring);
    fill(&store, &keyring, jobs).await?;
    let route = Route {
        providers: vec![NAME.to_owned()],
        ..Route::default()
    };
    let health = Health::new(BreakerTerms::default(), Arc::new(SystemClock));
    let routes = Routes::new(vec![route], health);
    let config = QueueConfig {
        capacity: jobs,
        lanes: Arc::new(routes.clone()),
        ..QueueConfig::default()
    };
    let queue = Queue::open(
        store.clone(),
        keyring.clone(),
        Arc::new(SystemClock),
        config,
    )
    .await?;
    let runtime = Runtime::start(RuntimeConfig {
        store,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        keyring: keyring.clone(),
        queue: queue.clone(),
        limits: Limits::default(),
        default_region: None,
        cache: None,
        otp: countersign_embedded::OTP.to_vec(),
        two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
        analytics: countersign_embedded::ANALYTICS.to_vec(),
        settings: Vec::new(),
        texts: Arc::default(),
        analytics_settings: Vec::new(),
        audit_kept: Duration::from_secs(400 * 24 * 3600),
        providers: vec![ProviderConfig {
            component_name: "probe-provider".into(),
            name: NAME.to_owned(),
            component: countersign_hostile::PROBE_PROVIDER.to_vec(),
            settings: Vec::new(),
            credentials: vec![("token".to_owned(), Secret::new("none".to_owned()))],
            allow_hosts: Some(Vec::new()),
            terminal: false,
            unsigned: false,
            own: true,
        }],
        public_url: None,
    })
    .await?;
    // The server's defaults.
    let config = DeliveryConfig {
        routes,
        providers: HashMap::from([(
            NAME.to_owned(),
            ProviderTerms {
                concurrency: 64,
                rate: None,
                status_callback: None,
            },
        )]),
        in_hand: 1_024,
        backoff_base: Duration::from_secs(1),
        backoff_max: Duration::from_secs(30),
    };
    let delivery = Delivery::new(
        queue.clone(),
        keyring,
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
        Arc::new(runtime),
        config,
    );
    // One thread, as in the server.
    let back = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("bench-delivery")
        .build()?;
    let (stop, stopped) = watch::channel(false);
    let begun = Instant::now();
    let worker = back.spawn(async move { delivery.run(stopped).await });
    while queue.depth() > 0 {
        if begun.elapsed() > TIME_MAX || worker.is_finished() {
            return Err(format!("{} of {jobs} jobs are still waiting", queue.depth()).into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let elapsed = begun.elapsed();
    stop.send_replace(true);
    worker.await??;
    back.shutdown_background();
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    Ok(jobs as f64 / elapsed.as_secs_f64())
}

async fn fill(store: &Arc<dyn Store>, keyring: &Keyring, jobs: usize) -> Result<(), Failure> {
    let now = SystemClock.now();
    let row = |n: usize| {
        let job = Job {
            channel: "sms".to_owned(),
            to: format!("+{}", server::digits(n as u64)),
            country: "US".to_owned(),
            line: NumberKind::FixedLineOrMobile,
            template: "verification".to_owned(),
            // The cheapest thing that the probe does.
            text: "setting colour".to_owned(),
            variables: Vec::new(),
            locale: None,
            service: "default".to_owned(),
            purpose: "verification".to_owned(),
            caller: ANONYMOUS.to_owned(),
            challenge: None,
            accepted: now,
            due: now,
            deadline: now + Duration::from_secs(3_600),
            priority: Priority::Normal,
            attempts: Vec::new(),
            counts: Counts::default(),
        };
        let (key, host) = job_row(keyring, MessageId::new(now, &SystemEntropy), &job)?;
        Ok::<_, Failure>(Write {
            key,
            body: Some(Body::Sections(Sections {
                service: None,
                host: Some(host),
            })),
        })
    };
    let rows: Vec<Write> = (0..jobs).map(row).collect::<Result<_, _>>()?;
    for writes in rows.chunks(JOBS_OF_A_COMMIT) {
        let commit = Commit {
            instant: now,
            writes: writes.to_vec(),
            ..Commit::default()
        };
        store.commit(commit).await?;
    }
    Ok(())
}
