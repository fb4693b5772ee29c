//! The signals that ask a server to stop: the first lets what has begun end, a second does not.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Signals this close together are one: `timeout` signals a process and then its group. No two by hand
/// are.
const SIGNALS_TOGETHER: Duration = Duration::from_millis(20);

/// The signals that ask a server to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Waits for somebody who has lost patience, by the signals that `next` waits for.
pub(super) async fn second_signal(mut next: impl AsyncFnMut()) {
    tokio::time::sleep(SIGNALS_TOGETHER).await;
    while tokio::time::timeout(Duration::ZERO, next()).await.is_ok() {}
    next().await;
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

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
