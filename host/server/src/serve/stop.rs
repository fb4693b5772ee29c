//! How a server ends: for which reasons, and in which order it lets go.

use std::time::Duration;

use countersign_store::SledStore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::ServeError;
use super::front::Front;
use super::signals::{Signals, second_signal};
use super::workers::{Worker, Workers};
use crate::api::Calls;

/// Waits for a reason to end; an error where it ends by itself.
pub(super) async fn wait(
    signals: &mut Signals,
    store: &SledStore,
    delivery: &mut Worker,
    accepting: &mut JoinHandle<()>,
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
        // It would live on and serve nobody.
        _ = accepting => Err(ServeError::AcceptEnded),
    }
}

/// Lets requests that have begun and messages on their way end within `time`, unless a second signal
/// comes.
///
/// # Errors
///
/// When the store fails.
pub(super) async fn stop(
    front: Front,
    workers: Workers,
    time: Duration,
    signals: &mut Signals,
    store: &SledStore,
) -> Result<(), ServeError> {
    front.api.health.stopping();
    // One span for all of it: a supervisor waits no longer for the last than for the first.
    let deadline = Instant::now() + time;
    tokio::select! {
        () = let_end(front, workers, deadline) => {
            tracing::info!("stopped");
            Ok(())
        }
        () = second_signal(async || signals.next().await) => {
            tracing::warn!("stopped at once, at a second signal");
            Ok(())
        }
        reason = store.failure() => Err(ServeError::StoreFailed { reason }),
    }
}

/// Requests first, then what they put into the queue and is on its way.
async fn let_end(front: Front, workers: Workers, deadline: Instant) {
    // Calls have ended when nobody could make one any more.
    drop(front.api);
    front.stop.send_replace(true);
    let _ = front.accepting.await;
    end_calls(front.calls, deadline).await;
    workers.stop.send_replace(true);
    let delivered = tokio::time::timeout_at(deadline, workers.delivery).await;
    if delivered.is_err() {
        tracing::warn!("some deliveries did not end in time; they go out after the next start");
    }
    // It only notes where it is; without that it asks again for a few minutes' messages.
    let _ = tokio::time::timeout_at(deadline, workers.follower).await;
    // What is not counted yet is counted after the next start.
    let _ = tokio::time::timeout_at(deadline, workers.counting).await;
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use axum::Router;
    use tokio::io::DuplexStream;
    use tokio::sync::watch;

    use super::*;
    use crate::connections::{self, Accept};
    use crate::testing::{config, embedded_store};

    /// Brings no connections.
    struct Listener {
        panics: bool,
    }

    impl Accept for Listener {
        type Stream = DuplexStream;

        async fn accept(&mut self) -> io::Result<DuplexStream> {
            assert!(!self.panics, "the accept loop panics, as the test wants it");
            std::future::pending().await
        }
    }

    /// How a server with this listener ends; `None` while it does not. Without `keep_stop` nobody could tell
    /// the loop to stop, which ends it.
    async fn ends(listener: Listener, keep_stop: bool) -> Option<Result<(), ServeError>> {
        let (_folder, store) = embedded_store();
        let (stop, stopped) = watch::channel(false);
        let (app, http) = (Router::new(), config().http);
        let serving = connections::serve(listener, app, http, Arc::default(), stopped);
        let mut accepting = tokio::spawn(serving);
        let mut delivery: Worker = tokio::spawn(std::future::pending());
        let _stop = keep_stop.then_some(stop);
        let mut signals = Signals::listen().expect("signals");
        let ended = wait(&mut signals, &store, &mut delivery, &mut accepting);
        // Time passes only when there is nothing left to be done.
        let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
        ended.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_accepts_no_connections_any_more_ends_and_says_so() {
        let serving = ends(Listener { panics: false }, true).await;
        assert!(serving.is_none(), "{serving:?}");
        for (panics, keep_stop) in [(true, true), (false, false)] {
            let ended = ends(Listener { panics }, keep_stop).await;
            let Some(Err(error)) = ended else {
                panic!("{ended:?}");
            };
            assert!(matches!(error, ServeError::AcceptEnded), "{error:?}");
            let said = error.to_string();
            assert_eq!(said, "the task that accepts connections has ended");
        }
    }
}
