//! The worker: claims jobs, hands them to providers, and acts on what they say.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_queue::{Attempt, Claim, Finish, Outcome, Queue, Status};
use countersign_store::{Keyring, StoreError};
use countersign_types::{Accepted, Clock, Entropy, ErrorClass, Message, SendError, UnixMillis};
use tokio::sync::{Semaphore, watch};

use crate::template::minutes_left;
use crate::{Template, codes, retry_delay};

/// Hands messages to providers by their configured names.
#[async_trait]
pub trait Sender: Send + Sync + 'static {
    /// Hands `message` to `provider`.
    ///
    /// # Errors
    ///
    /// With the class that says whether the provider may have it.
    async fn send(&self, provider: &str, message: &Message) -> Result<Accepted, SendError>;
}

/// Which providers may carry a message, in the order in which they are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// ISO 3166-1 alpha-2 of the receiver; `None` matches all.
    pub country: Option<String>,
    /// Configured names; never empty.
    pub providers: Vec<String>,
}

/// The settings of the worker.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// The first that matches is taken.
    pub routes: Vec<Route>,
    /// How many messages each provider is handed at once.
    pub concurrency: HashMap<String, usize>,
    /// How many messages are in hand at once, those included that wait for their provider.
    pub in_hand: usize,
    /// Delay after the first failed try; doubles with each, times a random share.
    pub backoff_base: Duration,
    /// The longest delay.
    pub backoff_max: Duration,
}

/// How often a code's message goes to a provider at most when nobody knows what became of it: no
/// provider here is idempotent, so each may be a second message.
const UNKNOWN_OUTCOMES_MAX: usize = 3;

/// The worker.
#[derive(Clone)]
pub struct Delivery {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    sender: Arc<dyn Sender>,
    config: DeliveryConfig,
    permits: HashMap<String, Semaphore>,
}

impl Delivery {
    /// A worker on `queue` that hands messages to `sender`.
    pub fn new(
        queue: Queue,
        keyring: Arc<Keyring>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        sender: Arc<dyn Sender>,
        config: DeliveryConfig,
    ) -> Delivery {
        let permits = config
            .concurrency
            .iter()
            .map(|(provider, at_once)| (provider.clone(), Semaphore::new((*at_once).max(1))))
            .collect();
        Delivery {
            inner: Arc::new(Inner {
                queue,
                keyring,
                clock,
                entropy,
                sender,
                config,
                permits,
            }),
        }
    }

    /// Works until `shutdown` becomes true, then finishes what is in hand.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let in_hand = u32::try_from(self.inner.config.in_hand.max(1)).unwrap_or(u32::MAX);
        let hands = Arc::new(Semaphore::new(in_hand as usize));
        let stop = async {
            // The sender gone means stop as well.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stop);
        loop {
            let next = async {
                let hand = hands.clone().acquire_owned().await;
                let claim = self.inner.queue.next(&*self.inner.clock).await?;
                Ok::<_, StoreError>((hand, claim))
            };
            let (hand, claim) = tokio::select! {
                () = &mut stop => break,
                next = next => next?,
            };
            let inner = self.inner.clone();
            tokio::spawn(async move {
                let (id, priority) = (claim.id, claim.job.priority);
                let delivered = tokio::spawn({
                    let inner = inner.clone();
                    async move { inner.deliver(claim).await }
                });
                match delivered.await {
                    Ok(Ok(())) => {}
                    // Neither may make the message wait for the next start.
                    failed => {
                        match failed {
                            Ok(Err(error)) => {
                                tracing::error!(message = %id, %error, "the outcome of a delivery could not be stored");
                            }
                            _ => tracing::error!(message = %id, "a delivery panicked"),
                        }
                        let due = inner.clock.now() + inner.config.backoff_max;
                        inner.queue.put_back(id, priority, due);
                    }
                }
                drop(hand);
            });
        }
        // All hands back: nothing is in flight any more.
        let _ = hands.acquire_many(in_hand).await;
        Ok(())
    }

    /// Delivers one claimed job: one try.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn deliver(&self, claim: Claim) -> Result<(), StoreError> {
        self.inner.deliver(claim).await
    }
}

/// What is to be done after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Again(UnixMillis),
    Over(Status),
}

impl Inner {
    async fn deliver(&self, mut claim: Claim) -> Result<(), StoreError> {
        let now = self.clock.now();
        let carries_code = claim.job.challenge.is_some();
        // Begun before a crash and never finished: a message without a code may not go out twice.
        let begun = claim
            .job
            .attempts
            .last()
            .is_some_and(|last| last.outcome == Outcome::Started);
        if begun && !carries_code {
            return self.over(claim, Status::Unknown, None).await;
        }
        if now >= claim.job.deadline {
            return self.over(claim, Status::Expired, None).await;
        }
        let Some(provider) = self.provider(&claim) else {
            tracing::error!(message = %claim.id, country = claim.job.country, "no route matches a message");
            return self.over(claim, Status::Failed, None).await;
        };
        let permit = match self.permits.get(&provider) {
            // It is never closed.
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        // The wait for the provider may have been long.
        let at = self.clock.now();
        if at >= claim.job.deadline {
            return self.over(claim, Status::Expired, None).await;
        }
        let message = match self.render(&claim, at) {
            Ok(message) => message,
            Err(reason) => {
                tracing::error!(message = %claim.id, reason, "a message cannot be rendered");
                return self.over(claim, Status::Failed, None).await;
            }
        };
        if !carries_code && !self.queue.begin(&mut claim, at, &provider).await? {
            self.queue.forget(claim.id);
            return Ok(());
        }
        let outcome = self.sender.send(&provider, &message).await;
        drop(permit);
        let now = self.clock.now();
        let held = match outcome {
            Ok(accepted) => {
                tracing::debug!(message = %claim.id, provider, "sent");
                let sent = Finish::Sent {
                    at,
                    provider,
                    accepted,
                };
                self.queue.finish(claim, sent, now).await?
            }
            Err(error) => {
                tracing::warn!(
                    message = %claim.id,
                    provider,
                    class = error.class.word(),
                    code = error.provider_code,
                    reason = error.text,
                    "a provider did not take a message"
                );
                match self.after(&claim, &error, now) {
                    Next::Again(due) => {
                        let retry = Finish::Retry {
                            at,
                            provider,
                            error,
                            due,
                        };
                        self.queue.finish(claim, retry, now).await?
                    }
                    Next::Over(status) => {
                        let attempt = Attempt {
                            at,
                            provider,
                            outcome: Outcome::Failed(error),
                        };
                        return self.over(claim, status, Some(attempt)).await;
                    }
                }
            }
        };
        if !held {
            tracing::warn!("a claim was void when its delivery ended");
        }
        Ok(())
    }

    async fn over(
        &self,
        claim: Claim,
        status: Status,
        attempt: Option<Attempt>,
    ) -> Result<(), StoreError> {
        tracing::warn!(message = %claim.id, status = status.word(), "a message was given up");
        let over = Finish::Over { status, attempt };
        self.queue
            .finish(claim, over, self.clock.now())
            .await
            .map(|_| ())
    }

    /// The message as the receiver reads it: the only place where a code becomes text.
    fn render(&self, claim: &Claim, now: UnixMillis) -> Result<Message, String> {
        let job = &claim.job;
        let code = match &job.challenge {
            None => None,
            Some(challenge) => Some(
                codes::digits(&self.keyring, challenge)
                    .ok_or("the key of its code is not in the key folder")?,
            ),
        };
        let minutes = job
            .challenge
            .as_ref()
            .map(|challenge| minutes_left(now, challenge.expires).to_string());
        let fill = |name: &str| match name {
            "code" => code.as_ref().map(|code| code.expose().as_str()),
            "minutes" => minutes.as_deref(),
            _ => job
                .variables
                .iter()
                .find(|(variable, _)| variable == name)
                .map(|(_, value)| value.as_str()),
        };
        let text = Template::parse(&job.text)
            .and_then(|template| template.fill(fill))
            .map_err(|error| error.to_string())?;
        Ok(Message {
            id: claim.id,
            channel: job.channel.clone(),
            to: job.to.clone(),
            country: job.country.clone(),
            text,
            template: job.template.clone(),
            variables: job.variables.clone(),
            locale: job.locale.clone(),
            purpose: job.purpose.clone(),
            validity: job.deadline.since(now),
        })
    }

    fn providers(&self, claim: &Claim) -> Option<&[String]> {
        self.config
            .routes
            .iter()
            .find(|route| {
                route
                    .country
                    .as_ref()
                    .is_none_or(|country| *country == claim.job.country)
            })
            .map(|route| route.providers.as_slice())
    }

    /// Whose turn it is: the first of the route, and after a failure the one after the last tried.
    fn provider(&self, claim: &Claim) -> Option<String> {
        let providers = self.providers(claim)?;
        let last = claim.job.attempts.last();
        let turn = last
            .and_then(|last| providers.iter().position(|name| *name == last.provider))
            .map_or(0, |at| (at + 1) % providers.len());
        providers.get(turn).cloned()
    }

    /// What follows from an error.
    fn after(&self, claim: &Claim, error: &SendError, now: UnixMillis) -> Next {
        let job = &claim.job;
        let tried = u32::try_from(job.attempts.len()).unwrap_or(u32::MAX) + 1;
        let time_left = job.deadline.since(now);
        let asked = Duration::from_millis(error.retry_after_ms.unwrap_or(0));
        let another = self.providers(claim).is_some_and(|providers| {
            // Somebody in this round has not been asked yet.
            !(tried as usize).is_multiple_of(providers.len().max(1))
        });
        let backoff = |least: Duration| {
            let config = &self.config;
            let jitter = self.jitter();
            let delay = retry_delay(
                tried,
                jitter,
                config.backoff_base,
                config.backoff_max,
                time_left,
            );
            match delay.map(|delay| delay.max(least)) {
                Some(delay) if delay < time_left => Next::Again(now + delay),
                _ => Next::Over(Status::Expired),
            }
        };
        match error.class {
            ErrorClass::Permanent | ErrorClass::Blocked if error.failover && another => {
                Next::Again(now)
            }
            ErrorClass::Permanent | ErrorClass::Blocked => Next::Over(Status::Failed),
            ErrorClass::UnknownOutcome => {
                let unknown = job.unknown_outcomes() + 1;
                if job.challenge.is_none() || unknown >= UNKNOWN_OUTCOMES_MAX {
                    return Next::Over(Status::Unknown);
                }
                // After about 1 s and 2 s, without waiting for a receipt: somebody waits for a code.
                let delay = Duration::from_secs(unknown as u64).mul_f64(0.8 + 0.4 * self.jitter());
                if delay < time_left {
                    Next::Again(now + delay)
                } else {
                    Next::Over(Status::Unknown)
                }
            }
            ErrorClass::Retryable | ErrorClass::Throttled | ErrorClass::Auth if another => {
                Next::Again(now)
            }
            ErrorClass::Retryable | ErrorClass::Throttled | ErrorClass::Auth => backoff(asked),
        }
    }

    /// A random share in `[0, 1)`.
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests;
