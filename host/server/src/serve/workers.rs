//! What works through the queue: who sends messages, who asks what became of them, and who counts.

use std::sync::Arc;
use std::time::Duration;

use countersign_delivery::{
    Delivery, DeliveryConfig, Follower, ProviderTerms, Routes, Sender, StatusSource,
};
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::{Damage, Runtime};
use countersign_store::{Store, StoreError};
use countersign_types::Clock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ServeError;
use super::before::Prepared;
use crate::api::ENVIRONMENT_KEY;
use crate::config::Config;
use crate::metrics::MeasuredSender;
use crate::services::{self, Parts};
use crate::{keys, providers};

/// How long the commit after a provider's call may take before its message counts as lost by whoever
/// had it in hand.
const COMMIT_TIME: Duration = Duration::from_secs(60);

/// The worker that delivers. It ends when it is told to, or when the store fails.
pub(super) type Worker = JoinHandle<Result<(), StoreError>>;

/// They are at work.
pub(super) struct Workers {
    pub(super) delivery: Worker,
    pub(super) follower: JoinHandle<()>,
    pub(super) counting: JoinHandle<()>,
    /// Tells all of them to stop.
    pub(super) stop: watch::Sender<bool>,
}

/// They have what they need, and have not begun.
pub(super) struct Ready {
    delivery: Delivery,
    follower: Follower,
    runtime: Runtime,
}

impl Ready {
    /// Gives them `queue`, and the components of `runtime` to send with.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub(super) async fn new(
        prepared: &Prepared,
        queue: Queue,
        runtime: Runtime,
        config: DeliveryConfig,
    ) -> Result<Ready, ServeError> {
        let sender = MeasuredSender::new(Arc::new(runtime.clone()), prepared.metrics.clone());
        let sender: Arc<dyn Sender> = Arc::new(sender);
        let source: Arc<dyn StatusSource> = Arc::new(runtime.clone());
        let clock = &prepared.clock;
        let follower = Follower::start(queue.clone(), clock.clone(), source).await?;
        let delivery = Delivery::new(
            queue,
            prepared.data.keyring.clone(),
            clock.clone(),
            prepared.entropy.clone(),
            sender,
            config,
        );
        Ok(Ready {
            delivery,
            follower,
            runtime,
        })
    }

    /// Lets them begin: who has to do with providers on `back`, who counts on `aside`.
    pub(super) fn begin(self, back: &Handle, aside: &Handle) -> Workers {
        let Ready {
            delivery,
            follower,
            runtime,
        } = self;
        let (stop, stopped) = watch::channel(false);
        let follower = back.spawn(follower.run(stopped.clone()));
        let counting_stopped = stopped.clone();
        let counting = aside.spawn(async move { runtime.fold_all(counting_stopped).await });
        let delivery = back.spawn(async move { delivery.run(stopped).await });
        Workers {
            delivery,
            follower,
            counting,
            stop,
        }
    }
}

/// Opens the queue; the services start with it.
///
/// # Errors
///
/// When the store cannot be read.
pub(super) async fn open_queue(
    config: &Config,
    prepared: &Prepared,
    routes: &Routes,
) -> Result<Parts, ServeError> {
    let callers = callers(config, &prepared.store).await;
    let queue = Queue::open(
        prepared.store.clone(),
        prepared.data.keyring.clone(),
        prepared.clock.clone(),
        queue_config(config, routes, callers),
    )
    .await?;
    Ok(Parts {
        store: prepared.store.clone(),
        keyring: prepared.data.keyring.clone(),
        clock: prepared.clock.clone(),
        entropy: prepared.entropy.clone(),
        queue,
        cache: prepared.data.cache.clone(),
        damage: Damage::Refuse,
    })
}

/// What is to be known of providers and routes to deliver.
pub(super) fn delivery_config(config: &Config, clock: Arc<dyn Clock>) -> DeliveryConfig {
    let health = countersign_delivery::Health::new(config.delivery.breaker, clock);
    let providers = config.providers.iter().map(|provider| {
        let terms = ProviderTerms {
            concurrency: provider.concurrency,
            rate: provider.rate,
            status_callback: providers::callbacks(config, provider),
        };
        (provider.name.clone(), terms)
    });
    DeliveryConfig {
        routes: Routes::new(config.routes.clone(), health),
        providers: providers.collect(),
        in_hand: config.delivery.in_hand,
        backoff_base: config.delivery.backoff_base,
        backoff_max: config.delivery.backoff_max,
    }
}

fn queue_config(config: &Config, routes: &Routes, callers: Vec<String>) -> QueueConfig {
    let call = services::limits(config.services.limits).provider_wall;
    QueueConfig {
        callers,
        lease: call + COMMIT_TIME,
        lanes: Arc::new(routes.clone()),
        ..config.queue.into()
    }
}

/// Whoever may send messages: they share the queue, also before they first do.
async fn callers(config: &Config, store: &Arc<dyn Store>) -> Vec<String> {
    let keys = keys::list(store).await.unwrap_or_else(|error| {
        // Whoever has one is there from its first message on.
        tracing::error!(%error, "the API keys cannot be read");
        Vec::new()
    });
    let valid = keys.into_iter().filter(|key| key.revoked.is_none());
    let environment = config.api_key.as_ref();
    let environment = environment.map(|_| ENVIRONMENT_KEY.to_owned());
    valid.map(|key| key.id).chain(environment).collect()
}
