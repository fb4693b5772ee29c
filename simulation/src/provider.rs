//! The providers: they take, refuse by class, hang, answer late, or lose the connection half-way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_delivery::Sender;
use countersign_types::{Accepted, ErrorClass, Message, SendError};

use crate::oracle::Oracle;
use crate::world::World;

pub(crate) const NAMES: [&str; 2] = ["first", "second"];

/// As long as the host lets a provider's call last.
const WALL: Duration = Duration::from_secs(20);

/// All providers of one life.
pub(crate) struct SimulatedProviders {
    pub(crate) world: Arc<World>,
    pub(crate) oracle: Arc<Oracle>,
    /// While it lasts nothing is taken.
    pub(crate) outage_until: countersign_types::UnixMillis,
}

#[async_trait]
impl Sender for SimulatedProviders {
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError> {
        let world = &*self.world;
        world.alive().await;
        world.step(format_args!("{provider} is handed {}", message.id));
        self.oracle.handed(message);
        world.pass(format!("{provider} thinks")).await;
        let (result, maybe_sent) = self.answer().await;
        world.alive().await;
        let unknown = matches!(&result, Err(error) if error.class == ErrorClass::UnknownOutcome);
        if unknown {
            world.mark("an unknown outcome");
        }
        match &result {
            Ok(_) => world.step(format_args!("{provider} takes {}", message.id)),
            Err(error) => {
                let class = error.class.word();
                world.step(format_args!("{provider} on {}: {class}", message.id));
            }
        }
        self.oracle
            .outcome(message, maybe_sent, result.is_ok(), unknown);
        result
    }
}

impl SimulatedProviders {
    /// What the host gets to know, and whether somebody may have the message.
    async fn answer(&self) -> (Result<Accepted, SendError>, bool) {
        use countersign_types::Clock;
        let world = &*self.world;
        let taken = || (Ok(Accepted::default()), true);
        if world.now() < self.outage_until {
            world.mark("an outage");
            return (Err(refusal(ErrorClass::Retryable, None, false)), false);
        }
        if !world.fault_once_in(2) {
            return taken();
        }
        match world.below(16) {
            0..3 => (Err(refusal(ErrorClass::Retryable, None, false)), false),
            3 => {
                let wait = world.below(90_000);
                (
                    Err(refusal(ErrorClass::Throttled, Some(wait), false)),
                    false,
                )
            }
            4 => (Err(refusal(ErrorClass::Auth, None, false)), false),
            5 => {
                let failover = world.once_in(2);
                (Err(refusal(ErrorClass::Permanent, None, failover)), false)
            }
            6 => (Err(refusal(ErrorClass::Blocked, None, false)), false),
            7..10 => {
                // Cut off after the first byte: the message may have gone out all the same.
                let sent = world.once_in(2);
                (Err(refusal(ErrorClass::UnknownOutcome, None, false)), sent)
            }
            10 => {
                tokio::time::sleep(WALL).await;
                let sent = world.once_in(2);
                (Err(refusal(ErrorClass::UnknownOutcome, None, false)), sent)
            }
            11 => {
                tokio::time::sleep(WALL).await;
                (Err(refusal(ErrorClass::Retryable, None, false)), false)
            }
            12 => {
                let late = world.below(WALL.as_millis() as u64);
                tokio::time::sleep(Duration::from_millis(late)).await;
                taken()
            }
            _ => taken(),
        }
    }
}

fn refusal(class: ErrorClass, retry_after_ms: Option<u64>, failover: bool) -> SendError {
    SendError {
        class,
        retry_after_ms,
        provider_code: None,
        text: "simulated".to_owned(),
        failover,
    }
}
