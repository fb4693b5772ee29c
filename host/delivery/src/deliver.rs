//! The worker: claims jobs, hands them to providers, and acts on what they say.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use countersign_queue::{
    Attempt, Claim, Destination, Finish, Job, Lanes as _, Lease, Outcome, Queue, Stops,
};
use countersign_store::{Keyring, StoreError};
use countersign_types::{
    Accepted, Clock, Entropy, ErrorClass, Message, SendError, Status, UnixMillis,
};
use futures_util::FutureExt as _;
use tokio::sync::{Semaphore, watch};

use crate::after::{Failure, Next};
use crate::gate::{Pass, Places};
use crate::template::minutes_left;
use crate::{Routes, Segments, Template, codes};

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

/// How one provider is used.
#[derive(Clone, Debug)]
pub struct ProviderTerms {
    /// How many messages it is handed at once.
    pub concurrency: usize,
    /// How many messages a second it is handed at most; more than none. `None`: as many as come.
    pub rate: Option<f64>,
    /// Where it is to send its receipts; `None`: it is not asked for any.
    pub status_callback: Option<String>,
}

/// The settings of the worker.
#[derive(Clone, Debug)]
pub struct DeliveryConfig {
    /// The same that the queue has its lanes by.
    pub routes: Routes,
    /// By name. One that is not here is used without bounds and asked for no receipts.
    pub providers: HashMap<String, ProviderTerms>,
    /// How many messages are handed over at once, over all providers.
    pub in_hand: usize,
    /// Delay after the first failed try; doubles with each, times a random share.
    pub backoff_base: Duration,
    /// The longest delay.
    pub backoff_max: Duration,
}

/// How many messages whose time is over are ended at once. It costs only the store.
const ENDING_MAX: u32 = 64;

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
        Delivery {
            inner: Arc::new(Inner {
                queue,
                keyring,
                clock,
                entropy,
                sender,
                config,
            }),
        }
    }

    /// Works until `shutdown` becomes true, then finishes what is in hand.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn run(&self, mut shutdown: watch::Receiver<bool>) -> Result<(), StoreError> {
        let inner = &self.inner;
        let places = Places::new(
            inner.queue.clone(),
            inner.config.in_hand,
            &inner.config.providers,
        );
        let ending = Arc::new(Semaphore::new(ENDING_MAX as usize));
        let stop = async {
            // The sender gone means stop as well.
            let _ = shutdown.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stop);
        loop {
            let next = async {
                let taken = inner.queue.next(&places).await?;
                // What has no pass can only be ended. It does not wait for a place, so that a full
                // provider does not keep it.
                let end = match &taken.pass {
                    None => ending.clone().acquire_owned().await.ok(),
                    Some(_) => None,
                };
                Ok::<_, StoreError>((taken, end))
            };
            let (taken, end) = tokio::select! {
                // Without chance, so that a simulation replays; a stop goes first.
                biased;
                () = &mut stop => break,
                next = next => next?,
            };
            let inner = inner.clone();
            tokio::spawn(async move {
                // Its kilobytes stay where they are while the task is handed about.
                Box::pin(inner.deliver_and_survive(taken.claim, taken.pass)).await;
                drop(end);
            });
        }
        // All places back: nothing is in flight any more.
        places.empty().await;
        let _ = ending.acquire_many(ENDING_MAX).await;
        Ok(())
    }

    /// Delivers one claimed job: one try.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn deliver(&self, claim: Claim) -> Result<(), StoreError> {
        self.inner.deliver(claim, &mut None).await
    }
}

impl Inner {
    /// One try whose own trouble does not make the message wait for the end of its lease.
    async fn deliver_and_survive(self: Arc<Inner>, claim: Claim, mut pass: Option<Pass>) {
        let lease: Lease = claim.lease;
        // What it shares with others is behind locks that a panic does not leave half-way.
        let delivered = AssertUnwindSafe(self.deliver(claim, &mut pass)).catch_unwind();
        match delivered.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(message = %lease.id, %error, "the outcome of a delivery could not be stored");
            }
            Err(_) => tracing::error!(message = %lease.id, "a delivery panicked"),
        }
        self.queue.put_back(lease, self.config.backoff_max);
    }

    /// One try, with `pass` where it holds a place with a provider.
    async fn deliver(&self, mut claim: Claim, pass: &mut Option<Pass>) -> Result<(), StoreError> {
        // Before the time is looked at: nothing that is waited for may come between that and the send.
        let stops = self.queue.stops(&claim.job.to).await?;
        let at = self.clock.now();
        let carries_code = claim.job.challenge.is_some();
        // Begun before a crash and never finished: a message without a code may not go out twice.
        if claim.job.is_started() && !carries_code {
            return self.end(claim, Status::Unknown, None).await;
        }
        if at >= claim.job.deadline || self.queue.is_void(&claim.job) {
            return self.end(claim, Status::Expired, None).await;
        }
        let destination = claim.job.destination();
        let Some(provider) = self.config.routes.turn(&claim.job) else {
            let reason = no_route(destination);
            return self.give_up(claim, reason).await;
        };
        let stops = match stops {
            Some(stops) => stops,
            None if carries_code => Stops::default(),
            None => {
                let reason = "what its receiver has answered to senders cannot be read; \
                              `countersign doctor` counts such rows"
                    .to_owned();
                return self.give_up(claim, reason).await;
            }
        };
        let route = self.config.routes.providers(destination);
        let is_stopped = match carries_code {
            true => stops.has(&provider),
            false => stops.has_any(route),
        };
        if is_stopped {
            let error = stopped(carries_code && !stops.has_all(route));
            let failed = self.failed(claim, None, at, &provider, error).await;
            return failed.map(|_| ());
        }
        let message = match self.render(&claim, &provider, at) {
            Ok(message) => message,
            Err(reason) => {
                let reason = format!("it cannot be rendered: {reason}");
                return self.give_up(claim, reason).await;
            }
        };
        // Last of all, since a probe is used up by it. Since the message began to wait, and since it was
        // looked at, a provider may have failed or come back.
        if let Some(pass) = pass
            && !pass.leads_to(&provider, self.clock.monotonic())
        {
            self.queue.move_to(claim.lease, provider);
            return Ok(());
        }
        if let Some(admitted) = self.config.routes.admit(&claim.job)
            && admitted != provider
        {
            self.queue.move_to(claim.lease, admitted);
            return Ok(());
        }
        // What follows from a failure goes by the tries before this one.
        let mut before = None;
        if !carries_code {
            let job = claim.job.clone();
            if !self.queue.begin(&mut claim, at, &provider).await? {
                return Ok(());
            }
            // The note may have taken its time. Nothing was handed over, so it was no try.
            if self.clock.now() >= claim.job.deadline {
                claim.job = job;
                return self.end(claim, Status::Expired, None).await;
            }
            before = Some(job);
        }
        if let Some(pass) = pass {
            pass.is_used();
        }
        let ended = self.sender.send(&provider, &message).await;
        self.config.routes.health().learn(&provider, &ended);
        let held = match ended {
            Ok(accepted) => {
                tracing::debug!(message = %claim.id, provider = &*provider, "sent");
                let sent = Finish::Sent {
                    at,
                    provider: provider.to_string(),
                    accepted,
                    receipt_asked: message.status_callback.is_some(),
                    counted: counted(&message),
                };
                self.queue.finish(claim, sent, self.clock.now()).await?
            }
            Err(error) => {
                self.failed(claim, before.as_ref(), at, &provider, error)
                    .await?
            }
        };
        if !held {
            tracing::warn!(message = %message.id, "a claim was void when its delivery ended");
        }
        Ok(())
    }

    /// Acts on a refusal; `before` is the job without this try, where its row has a note of it.
    async fn failed(
        &self,
        claim: Claim,
        before: Option<&Job>,
        at: UnixMillis,
        provider: &str,
        error: SendError,
    ) -> Result<bool, StoreError> {
        tracing::warn!(
            message = %claim.id,
            provider,
            class = error.class.word(),
            code = error.provider_code,
            reason = error.text,
            "a provider did not take a message"
        );
        let now = self.clock.now();
        let job = before.unwrap_or(&claim.job);
        let routes = &self.config.routes;
        let next = Failure {
            job,
            route: routes.providers(job.destination()),
            next: routes.after(job, provider).as_deref(),
            error: &error,
            now,
            jitter: self.jitter(),
            backoff_base: self.config.backoff_base,
            backoff_max: self.config.backoff_max,
        }
        .next();
        let provider = provider.to_owned();
        let finish = match next {
            Next::Again(due) => Finish::Retry {
                at,
                provider,
                error,
                due,
            },
            Next::Over(status) => {
                tracing::warn!(message = %claim.id, status = status.word(), "a message was given up");
                let attempt = Some(Attempt {
                    at,
                    ended: now,
                    provider,
                    outcome: Outcome::Failed(error),
                });
                Finish::Over {
                    status,
                    attempt,
                    reason: None,
                }
            }
        };
        self.queue.finish(claim, finish, now).await
    }

    /// Ends a message that cannot be handed over at all. What is wrong is the operator's to put right,
    /// and then it can be replayed.
    async fn give_up(&self, claim: Claim, reason: String) -> Result<(), StoreError> {
        tracing::error!(message = %claim.id, reason, "a message cannot be handed over");
        self.end(claim, Status::Failed, Some(reason)).await
    }

    /// Ends a message without another try.
    async fn end(
        &self,
        claim: Claim,
        status: Status,
        reason: Option<String>,
    ) -> Result<(), StoreError> {
        tracing::warn!(message = %claim.id, status = status.word(), "a message was given up");
        let over = Finish::Over {
            status,
            attempt: None,
            reason,
        };
        let finished = self.queue.finish(claim, over, self.clock.now());
        finished.await.map(|_| ())
    }

    /// The message as the receiver reads it: the only place where a code becomes text.
    fn render(&self, claim: &Claim, provider: &str, now: UnixMillis) -> Result<Message, String> {
        let terms = self.config.providers.get(provider);
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
            code,
            locale: job.locale.clone(),
            purpose: job.purpose.clone(),
            validity: job.deadline.since(now),
            status_callback: terms.and_then(|terms| terms.status_callback.clone()),
        })
    }

    /// A random share in `[0, 1)`.
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        self.entropy.fill(&mut bytes);
        f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
    }
}

/// What stands in place of a provider's answer where the receiver has answered STOP to it, which nobody
/// gets round by another sender; but a code has been asked for, so it goes on where `others` may carry it:
/// also back to one that has only stumbled.
fn stopped(others: bool) -> SendError {
    SendError {
        class: match others {
            true => ErrorClass::Retryable,
            false => ErrorClass::Blocked,
        },
        retry_after_ms: None,
        provider_code: None,
        text: "the receiver has answered STOP to a sender of this route; nobody was asked"
            .to_owned(),
        failover: others,
    }
}

/// Why there is nobody to hand a message to: all that routes are chosen by.
fn no_route(destination: Destination<'_>) -> String {
    format!(
        "no route leads to {}, {}, for {} messages",
        destination.country,
        destination.line.word(),
        destination.priority.word()
    )
}

/// How many SMS it is, where it is one.
fn counted(message: &Message) -> Option<u32> {
    (message.channel == "sms").then(|| Segments::of(&message.text).count)
}

#[cfg(test)]
mod tests;
