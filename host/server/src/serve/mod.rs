//! `countersign serve`: wires everything together, waits, and takes it apart in order.

mod attendants;
mod before;
mod components;
mod error;
mod front;
mod signals;
mod stop;
mod workers;

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Handle;

use attendants::Attendants;
use before::Prepared;
pub(crate) use components::check_components;
use components::start_runtime;
pub(crate) use error::ServeError;
use front::Front;
use signals::Signals;
use stop::{stop, wait};
use workers::{Ready, delivery_config, open_queue};

use crate::api::Mode;
use crate::config::Config;
use crate::telemetry;

/// How much the thread that delivers gives way to the others of this process (nice(2)).
const DELIVERY_NICENESS: i32 = 10;
/// How much the thread that counts gives way to others of this machine (nice(2)).
const COUNTING_NICENESS: i32 = 10;
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

async fn run(mut config: Config, back: &Handle, aside: &Handle) -> Result<(), ServeError> {
    let mut signals = Signals::listen().map_err(ServeError::System)?;
    let prepared = Prepared::new(&config).await?;
    let delivery = delivery_config(&config, prepared.clock.clone());
    let mut front = Front::open(&mut config, &prepared, &delivery.routes).await?;
    let parts = open_queue(&config, &prepared, &delivery.routes).await?;
    let queue = parts.queue.clone();
    let started = tokio::select! {
        started = start_runtime(config.providers, config.services, config.public_url, parts) => started?,
        _ = &mut front.accepting => return Err(ServeError::AcceptEnded),
        // Nothing has been promised to anybody yet.
        () = signals.next() => return Ok(()),
    };

    let ready = Ready::new(&prepared, queue, started.runtime.clone(), delivery).await?;
    let attendants = Attendants::start(
        &prepared,
        &front,
        &started,
        config.folders.data,
        config.without_keys,
        config.watch,
    )?;
    front.api.start(started.clone());
    announce(front.address, prepared.mode);
    tracing::info!(address = %front.address, "serving");
    // After the line that says where calls are served: the console provider prints as well, and
    // whoever waits for that line reads the first.
    let mut workers = ready.begin(back, aside);

    let store = &prepared.data.store;
    let ended = wait(
        &mut signals,
        store,
        &mut workers.delivery,
        &mut front.accepting,
    )
    .await;
    attendants.end_others();
    let outcome = match ended {
        Ok(()) => stop(front, workers, config.http.stop_time, &mut signals, store).await,
        Err(error) => {
            front.api.health.store_failed();
            Err(error)
        }
    };
    attendants.end_control();
    outcome
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
