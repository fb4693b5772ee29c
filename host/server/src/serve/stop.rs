//! How a server ends: for which reasons, and in which order it lets go.

use std::time::Duration;

use countersign_store::SledStore;
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
