//! Deliveries, as the worker sees them: how many are on their way, how they end, and how long each
//! takes.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_delivery::Sender;
use countersign_types::{Accepted, Counter, ErrorClass, Histogram, Level, Message, SendError};
use tokio::time::Instant;

use super::{Metrics, Page, label};

/// Microseconds.
const TIMES: &[u64] = &[
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 20_000_000,
];

/// How a try ends: taken, or the class of the refusal.
const OUTCOMES: usize = 7;

const CLASSES: [ErrorClass; OUTCOMES - 1] = [
    ErrorClass::Permanent,
    ErrorClass::Retryable,
    ErrorClass::Throttled,
    ErrorClass::Auth,
    ErrorClass::Blocked,
    ErrorClass::UnknownOutcome,
];

fn outcome(ended: &Result<Accepted, SendError>) -> usize {
    let Err(error) = ended else { return 0 };
    match error.class {
        ErrorClass::Permanent => 1,
        ErrorClass::Retryable => 2,
        ErrorClass::Throttled => 3,
        ErrorClass::Auth => 4,
        ErrorClass::Blocked => 5,
        ErrorClass::UnknownOutcome => 6,
    }
}

fn word(outcome: usize) -> &'static str {
    let class = outcome.checked_sub(1).and_then(|at| CLASSES.get(at));
    class.map_or("accepted", |class| class.word())
}

#[derive(Debug)]
struct ProviderCounts {
    name: String,
    places: usize,
    in_hand: Level,
    outcomes: [Counter; OUTCOMES],
    times: Histogram,
}

#[derive(Debug)]
pub(super) struct Deliveries(Vec<ProviderCounts>);

impl Deliveries {
    pub(super) fn new(providers: Vec<(String, usize)>) -> Deliveries {
        let of_one = |(name, places)| ProviderCounts {
            name,
            places,
            in_hand: Level::default(),
            outcomes: Default::default(),
            times: Histogram::new(TIMES),
        };
        Deliveries(providers.into_iter().map(of_one).collect())
    }

    pub(super) fn add_to(&self, page: &mut Page) {
        let all = &self.0;
        let provider = |one: &ProviderCounts| label("provider", &one.name);
        page.counter(
            "countersign_deliveries",
            "Tries to hand a message to a provider, by how they ended.",
            all.iter().flat_map(|one| {
                one.outcomes.iter().enumerate().map(move |(at, count)| {
                    let labels = vec![provider(one), label("outcome", word(at))];
                    (labels, count.value())
                })
            }),
        );
        page.seconds_histogram(
            "countersign_delivery_duration",
            "How long a provider took to take or refuse a message.",
            all.iter()
                .map(|one| (vec![provider(one)], one.times.spread())),
        );
        page.gauge(
            "countersign_deliveries_in_hand",
            "Messages that are being handed to a provider.",
            all.iter()
                .map(|one| (vec![provider(one)], one.in_hand.value() as f64)),
        );
        page.gauge(
            "countersign_provider_places",
            "How many messages a provider is handed at once.",
            all.iter()
                .map(|one| (vec![provider(one)], one.places as f64)),
        );
    }
}

/// Counts what is handed over through it.
pub(crate) struct Measured {
    inner: Arc<dyn Sender>,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub(crate) fn new(inner: Arc<dyn Sender>, metrics: Arc<Metrics>) -> Measured {
        Measured { inner, metrics }
    }
}

#[async_trait]
impl Sender for Measured {
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError> {
        let all = &self.metrics.deliveries.0;
        // Few are configured. One that no longer is has nobody to hand the message to.
        let Some(counts) = all.iter().find(|one| one.name == provider) else {
            return self.inner.send(provider, message).await;
        };
        let _in_hand = counts.in_hand.rise();
        let began = Instant::now();
        let ended = self.inner.send(provider, message).await;
        counts.times.record_time(began.elapsed());
        counts.outcomes[outcome(&ended)].add_one();
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_word_of_its_own() {
        let refused = |class| {
            Err(SendError {
                class,
                retry_after_ms: None,
                provider_code: None,
                text: String::new(),
                failover: false,
            })
        };
        assert_eq!(word(outcome(&Ok(Accepted::default()))), "accepted");
        for class in CLASSES {
            assert_eq!(word(outcome(&refused(class))), class.word());
        }
    }
}
