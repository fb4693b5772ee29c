//! The providers: they take, refuse by class, hang, answer late, or lose the connection half-way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_delivery::Sender;
use countersign_types::{Accepted, Clock, ErrorClass, Message, SendError, UnixMillis};

use crate::carrier::Carrier;
use crate::oracle::Oracle;
use crate::world::World;

pub(crate) const NAMES: [&str; 2] = ["first", "second"];
/// The one that is asked for receipts.
pub(crate) const RECEIPTS_FROM: &str = NAMES[0];

/// As long as the host lets a provider's call last.
const WALL: Duration = Duration::from_secs(20);

/// All providers of one life.
pub(crate) struct SimulatedProviders {
    pub(crate) world: Arc<World>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) carrier: Arc<Carrier>,
    /// While it lasts nothing is taken.
    pub(crate) outage_until: UnixMillis,
}

/// What comes of a message that a provider is handed.
struct Fate {
    /// What the host gets to know.
    result: Result<(), SendError>,
    /// Whether somebody may have the message.
    maybe_sent: bool,
    /// How long the answer takes.
    wait: Duration,
}

#[async_trait]
impl Sender for SimulatedProviders {
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError> {
        let world = &*self.world;
        world.alive().await;
        world.step(format_args!("{provider} is handed {}", message.id));
        self.oracle.handed(message);
        world.pass(format!("{provider} thinks")).await;
        let fate = self.fate();
        // Its receipts may be faster than its answer.
        let accepted = fate.maybe_sent.then(|| self.carrier.take(provider));
        tokio::time::sleep(fate.wait).await;
        world.alive().await;
        let result = fate.result.map(|()| accepted.unwrap_or_default());
        let unknown = matches!(&result, Err(error) if error.class == ErrorClass::UnknownOutcome);
        if unknown {
            world.mark("an unknown outcome");
        }
        match &result {
            Ok(accepted) => {
                let ids = accepted.ids.join(" ");
                world.step(format_args!("{provider} takes {} as {ids}", message.id));
            }
            Err(error) => {
                let class = error.class.word();
                world.step(format_args!("{provider} on {}: {class}", message.id));
            }
        }
        let accepted = result.as_ref().ok();
        self.oracle
            .outcome(provider, message, fate.maybe_sent, accepted, unknown);
        result
    }
}

impl SimulatedProviders {
    fn fate(&self) -> Fate {
        let world = &*self.world;
        let taken = |wait| Fate {
            result: Ok(()),
            maybe_sent: true,
            wait,
        };
        let refused = |class, wait| Fate {
            result: Err(refusal(class, None, false)),
            maybe_sent: false,
            wait,
        };
        if world.now() < self.outage_until {
            world.mark("an outage");
            return refused(ErrorClass::Retryable, Duration::ZERO);
        }
        if !world.fault_once_in(2) {
            return taken(Duration::ZERO);
        }
        match world.below(16) {
            0..3 => refused(ErrorClass::Retryable, Duration::ZERO),
            3 => {
                let wait = world.below(90_000);
                Fate {
                    result: Err(refusal(ErrorClass::Throttled, Some(wait), false)),
                    ..refused(ErrorClass::Throttled, Duration::ZERO)
                }
            }
            4 => refused(ErrorClass::Auth, Duration::ZERO),
            5 => {
                let failover = world.once_in(2);
                Fate {
                    result: Err(refusal(ErrorClass::Permanent, None, failover)),
                    ..refused(ErrorClass::Permanent, Duration::ZERO)
                }
            }
            6 => refused(ErrorClass::Blocked, Duration::ZERO),
            // Cut off after the first byte: the message may have gone out all the same.
            at @ 7..11 => Fate {
                maybe_sent: world.once_in(2),
                ..refused(
                    ErrorClass::UnknownOutcome,
                    if at == 10 { WALL } else { Duration::ZERO },
                )
            },
            11 => refused(ErrorClass::Retryable, WALL),
            12 => taken(Duration::from_millis(world.below(WALL.as_millis() as u64))),
            _ => taken(Duration::ZERO),
        }
    }
}

pub(crate) fn refusal(class: ErrorClass, retry_after_ms: Option<u64>, failover: bool) -> SendError {
    SendError {
        class,
        retry_after_ms,
        provider_code: None,
        text: "simulated".to_owned(),
        failover,
    }
}
