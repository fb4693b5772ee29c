//! `countersign serve`: wires everything together, waits, and takes it apart in order.

mod before;
mod components;
mod error;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign_delivery::{
    Delivery, DeliveryConfig, Follower, ProviderTerms, Routes, Sender, StatusSource,
};
use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::Damage;
use countersign_store::{SledStore, Store, StoreError, restored_at};
use countersign_types::{Clock, Entropy, SystemClock, SystemEntropy};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use before::{decide_mode, miss_no_key, open_data};
pub(crate) use components::check_components;
use components::start_runtime;
pub(crate) use error::ServeError;

use crate::api::{self, Api, ApiParts, Calls, ENVIRONMENT_KEY, Gate, Health, Ledger, Mode};
use crate::config::{Config, PublicUrl};
use crate::control::{self, Door, Office, Served};
use crate::metrics::{MeasuredSender, Metrics};
use crate::page::Pages;
use crate::providers::{self, Configured};
use crate::recount::Recounts;
use crate::services::{self, Parts, Started};
use crate::users::Users;
use crate::{connections, keys, telemetry, watched};

/// How much the thread that delivers gives way to the others of this process (nice(2)).
const DELIVERY_NICENESS: i32 = 10;
/// How much the thread that counts gives way to others of this machine (nice(2)).
const COUNTING_NICENESS: i32 = 10;

/// Signals this close together are one: `timeout` signals a process and then its group. No two by hand
/// are.
const SIGNALS_TOGETHER: Duration = Duration::from_millis(20);

/// Expired rows are removed in steps of so long, so that calls get in between.
const SWEEP_STEP: Duration = Duration::from_millis(100);
/// Pause between two passes over all rows.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);
/// How long the commit after a provider's call may take before its message counts as lost by whoever
/// had it in hand.
const COMMIT_TIME: Duration = Duration::from_secs(60);
/// How long tasks that are left over may take to go.
const LEFTOVER_TIME: Duration = Duration::from_secs(2);

/// Serves until a signal comes or the store fails.
///
/// # Errors
///
/// See [`ServeError`].
pub(crate) fn serve(config: Config) -> Result<(), ServeError> {
    telemetry::start(config.log.clone());
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let front = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("countersign")
        .build()
        .map_err(ServeError::System)?;
    // Deliveries have a thread of their own, so that neither side can starve the other. Where there is
    // not enough for both, acceptance goes first: what was accepted has minutes.
    let back = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("countersign-delivery")
        .on_thread_start(|| {
            // Where the operating system does not let it, both get the same.
            let _ = rustix::process::nice(DELIVERY_NICENESS);
        })
        .build()
        .map_err(ServeError::System)?;
    // Counting has one that goes last where not all can go at once.
    let aside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("countersign-analytics")
        .on_thread_start(|| {
            // It counts all the same where the operating system does not let it.
            let _ = rustix::process::nice(COUNTING_NICENESS);
        })
        .build()
        .map_err(ServeError::System)?;
    let outcome = front.block_on(run(config, back.handle(), aside.handle()));
    if outcome.is_err() {
        // Nothing can be saved by waiting: what was acknowledged is durable.
        front.shutdown_background();
        back.shutdown_background();
        aside.shutdown_background();
    } else {
        front.shutdown_timeout(LEFTOVER_TIME);
        back.shutdown_timeout(LEFTOVER_TIME);
        aside.shutdown_timeout(LEFTOVER_TIME);
    }
    outcome
}

async fn run(
    mut config: Config,
    back: &tokio::runtime::Handle,
    aside: &tokio::runtime::Handle,
) -> Result<(), ServeError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let mut signals = Signals::listen().map_err(ServeError::System)?;

    let data = open_data(&config.folders, &*entropy)?;
    data.store.set_reserve(config.reserve_bytes);
    let metrics = Metrics::new(places(&config), clock.now());
    let store = metrics.watch(data.store.clone());
    data.keyring.bind(&store).await?;
    miss_no_key(&data.keyring, &store, &config.without_keys, clock.now()).await?;
    let mode = decide_mode(&config, &store).await?;

    // The port is taken before the components are compiled: a port in use is told at once, and a
    // load balancer sees `/readyz` say why.
    let listener = listen(config.listen).await?;
    let address = listener.local_addr().map_err(ServeError::System)?;
    let restored = restored_at(&store).await?;
    let users = Users::new(&data.keyring, config.two_factor.clone(), restored);
    let gate = Gate::new(
        store.clone(),
        clock.clone(),
        users.clone(),
        mode,
        config.api_key.as_ref(),
        config.admin_token.as_ref(),
        config.metrics_token.as_ref(),
    );
    config.http.connections_max = connections::possible(config.http.connections_max);
    let ledger = Ledger::new(
        store.clone(),
        data.keyring.clone(),
        clock.clone(),
        config.idempotency,
    );
    let templates = std::mem::take(&mut config.templates);
    let pages = Pages::new(
        store.clone(),
        data.keyring.clone(),
        clock.clone(),
        config.admin_token.as_ref(),
        config.public_url.as_ref().is_some_and(PublicUrl::is_secure),
        config
            .providers
            .iter()
            .map(|provider| provider.name.clone())
            .collect(),
    );
    let delivery_config = delivery_config(&config, clock.clone());
    let health = Health::of(Some(data.store.clone()), metrics.clone());
    let (api, calls) = Api::new(ApiParts {
        http: config.http,
        gate,
        health,
        ledger,
        users,
        entropy: entropy.clone(),
        templates,
        pages,
        providers: Configured::all(&config),
        routes: delivery_config.routes.clone(),
    });
    let (stop, stopped) = watch::channel(false);
    let front = tokio::spawn(connections::serve(
        listener,
        api::App::new(api.clone()),
        config.http,
        metrics.connections.clone(),
        stopped.clone(),
    ));

    let (data_folder, stop_time) = (config.folders.data.clone(), config.http.stop_time);
    let without_keys = config.without_keys.clone();
    let callers = callers(&config, &store).await;
    let queue_config = queue_config(&config, &delivery_config.routes, callers);
    let queue = Queue::open(
        store.clone(),
        data.keyring.clone(),
        clock.clone(),
        queue_config,
    )
    .await?;
    let parts = Parts {
        store: store.clone(),
        keyring: data.keyring.clone(),
        clock: clock.clone(),
        entropy: entropy.clone(),
        queue: queue.clone(),
        cache: data.cache.clone(),
        damage: Damage::Refuse,
    };
    let watch_folder = config.watch.clone();
    let started = tokio::select! {
        started = start_runtime(config, parts) => started?,
        // Nothing has been promised to anybody yet.
        () = signals.next() => return Ok(()),
    };

    let Started { runtime, registry } = started.clone();
    let sender = MeasuredSender::new(Arc::new(runtime.clone()), metrics);
    let sender: Arc<dyn Sender> = Arc::new(sender);
    let source: Arc<dyn StatusSource> = Arc::new(runtime.clone());
    let follower = Follower::start(queue.clone(), clock.clone(), source).await?;
    let delivery = Delivery::new(
        queue,
        data.keyring.clone(),
        clock.clone(),
        entropy.clone(),
        sender,
        delivery_config,
    );
    let office = Office {
        store: data.store.clone(),
        keyring: data.keyring.clone(),
        without_keys,
        clock: clock.clone(),
        entropy,
        door: Door::Served(started.clone()),
        recounts: Recounts::default(),
        server: Some(Served {
            address,
            stopping: stopped,
        }),
    };
    let control = tokio::spawn(control::serve(control::bind(&data_folder)?, office));
    let sweeper = tokio::spawn(sweep(store.clone(), clock));
    let trials = tokio::spawn(registry.clone().watch());
    let watcher = watch_folder.map(|folder| tokio::spawn(watched::watch(folder, registry.clone())));

    let counting = runtime.clone();
    api.start(started);
    announce(address, mode);
    tracing::info!(%address, "serving");
    // After the line that says where calls are served: the console provider prints as well, and
    // whoever waits for that line reads the first.
    let (stop_delivery, delivery_stopped) = watch::channel(false);
    let follower = back.spawn(follower.run(delivery_stopped.clone()));
    let counting_stopped = delivery_stopped.clone();
    let counting = aside.spawn(async move { counting.fold_all(counting_stopped).await });
    let mut delivery = back.spawn(async move { delivery.run(delivery_stopped).await });

    let ended = wait(&mut signals, &data.store, &mut delivery).await;
    sweeper.abort();
    trials.abort();
    if let Some(watcher) = &watcher {
        watcher.abort();
    }
    if let Err(error) = ended {
        control.abort();
        control::remove(&data_folder);
        api.health.store_failed();
        return Err(error);
    }
    api.health.stopping();
    drop(api);
    // One span for all of it: a supervisor waits no longer for the last than for the first.
    let deadline = Instant::now() + stop_time;
    let stopping = async {
        stop.send_replace(true);
        // Requests first, then what they put into the queue and is on its way.
        let _ = front.await;
        end_calls(calls, deadline).await;
        stop_delivery.send_replace(true);
        if tokio::time::timeout_at(deadline, delivery).await.is_err() {
            tracing::warn!("some deliveries did not end in time; they go out after the next start");
        }
        // It only notes where it is; without that it asks again for a few minutes' messages.
        let _ = tokio::time::timeout_at(deadline, follower).await;
        // What is not counted yet is counted after the next start.
        let _ = tokio::time::timeout_at(deadline, counting).await;
    };
    let outcome = tokio::select! {
        () = stopping => {
            tracing::info!("stopped");
            Ok(())
        }
        () = second_signal(async || signals.next().await) => {
            tracing::warn!("stopped at once, at a second signal");
            Ok(())
        }
        reason = data.store.failure() => Err(ServeError::StoreFailed { reason }),
    };
    // Until now it says who has the data folder.
    control.abort();
    control::remove(&data_folder);
    outcome
}

/// Waits for somebody who has lost patience, by the signals that `next` waits for.
async fn second_signal(mut next: impl AsyncFnMut()) {
    tokio::time::sleep(SIGNALS_TOGETHER).await;
    while tokio::time::timeout(Duration::ZERO, next()).await.is_ok() {}
    next().await;
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// Says on standard output where calls are served, and how to try it where somebody is looking.
fn announce(address: SocketAddr, mode: Mode) {
    let mut out = std::io::stdout().lock();
    let mut text = format!("listening on http://{address}\n");
    if mode != Mode::Keyed && out.is_terminal() {
        text.push_str(&try_it(address));
    }
    // Nobody may be reading; that is no reason not to serve.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn try_it(address: SocketAddr) -> String {
    let line = |route: &str, body: &str| {
        format!(
            "  curl http://{address}/api/otp/{route} -H 'Content-Type: application/json' -d '{body}'\n"
        )
    };
    [
        "\nTo try it, in another terminal:\n".to_owned(),
        line("send", r#"{"phoneNumber":"+12025550123"}"#),
        line(
            "verify",
            r#"{"phoneNumber":"+12025550123","code":"THE CODE"}"#,
        ),
        "\n".to_owned(),
    ]
    .concat()
}

/// The worker that delivers. It ends when it is told to, or when the store fails.
type Worker = JoinHandle<Result<(), StoreError>>;

async fn wait(
    signals: &mut Signals,
    store: &SledStore,
    delivery: &mut Worker,
) -> Result<(), ServeError> {
    tokio::select! {
        () = signals.next() => {
            tracing::info!("stopping: no new connections, requests and deliveries that have begun may end");
            Ok(())
        }
        reason = store.failure() => {
            tracing::error!(reason, "the store failed; ending, so that a restart can recover it");
            Err(ServeError::StoreFailed { reason })
        }
        // A server that takes messages and sends none is worse than one that is restarted.
        ended = delivery => Err(match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) | Err(_) => ServeError::DeliveryEnded,
        }),
    }
}

fn delivery_config(config: &Config, clock: Arc<dyn Clock>) -> DeliveryConfig {
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

/// The providers, each with how many messages it is handed at once.
fn places(config: &Config) -> Vec<(String, usize)> {
    let providers = config.providers.iter();
    providers
        .map(|provider| (provider.name.clone(), provider.concurrency))
        .collect()
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

/// Waits for calls whose clients have gone.
async fn end_calls(calls: Calls, deadline: Instant) {
    if tokio::time::timeout_at(deadline, calls.ended())
        .await
        .is_err()
    {
        tracing::warn!("some calls did not end in time and were cut off");
    }
}

/// Gives back the room of expired rows, little by little.
async fn sweep(store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    loop {
        match store.sweep(clock.now()).await {
            Ok(true) => tokio::time::sleep(SWEEP_PAUSE).await,
            Ok(false) => tokio::time::sleep(SWEEP_STEP).await,
            // The server ends by itself when the store has failed for good.
            Err(error) => {
                tracing::error!(%error, "expired rows could not be removed");
                tokio::time::sleep(SWEEP_PAUSE).await;
            }
        }
    }
}

/// The signals that ask a server to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    /// How long after the first signal the server gives up waiting, when others come after `ms`.
    async fn ends_after(ms: &[u64]) -> Duration {
        let (send, mut signals) = mpsc::unbounded_channel();
        let began = Instant::now();
        let times = ms.iter().map(|ms| Duration::from_millis(*ms));
        let sending = async {
            for time in times {
                tokio::time::sleep_until(began + time).await;
                let _ = send.send(());
            }
            std::future::pending::<()>().await;
        };
        let second = second_signal(async || {
            signals.recv().await;
        });
        tokio::select! {
            () = second => began.elapsed(),
            () = sending => Duration::MAX,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_at_once_and_what_comes_with_the_first_is_the_first() {
        for (signals, want) in [
            (&[21][..], 21),
            (&[100], 100),
            (&[0, 100], 100),
            (&[1, 19, 500], 500),
        ] {
            let ended = ends_after(signals).await;
            assert_eq!(ended, Duration::from_millis(want), "{signals:?}");
        }
    }
}
