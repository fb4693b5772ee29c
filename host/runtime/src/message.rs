//! Messages that no component decides about: configured texts that an application asks for.

use countersign_queue::{AcceptError, Counts, Destination, Job, MessageView, ReplayError};
use countersign_store::{CommitError, Ending, Need, Rulings, StoreError, Transaction};
use countersign_types::{MessageId, PhoneNumber, Priority, UnixMillis};

use crate::Runtime;
use crate::call::{CallContext, CallError, busy, queue_full, store_full};
use crate::once::Once;
use crate::phone::{self, PhoneError};

/// A message to one receiver. Its text must be filled by its variables alone.
#[derive(Clone, Debug)]
pub struct MessageRequest {
    /// The receiver.
    pub to: PhoneNumber,
    /// The template's name.
    pub template: String,
    /// The template's text.
    pub text: String,
    /// What fills its placeholders.
    pub variables: Vec<(String, String)>,
    /// BCP 47.
    pub locale: Option<String>,
    /// What it is for: routes and reports go by it.
    pub purpose: String,
    /// Who goes first.
    pub priority: Priority,
    /// Not to be tried before.
    pub due: UnixMillis,
    /// Not to be tried at or after; later than `due`.
    pub deadline: UnixMillis,
}

/// Why a message was not replayed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayCallError {
    /// The message or the queue does not allow it.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The request has happened before, or must not happen now.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Runtime {
    /// Reads a number as a person typed it; one without `+` is one of the default region.
    ///
    /// # Errors
    ///
    /// See [`PhoneError`].
    pub fn parse_phone(&self, text: &str) -> Result<PhoneNumber, PhoneError> {
        phone::parse(text, self.host().default_region.as_deref())
    }

    /// Whether any provider takes messages of `priority` to `number`. Where none does the log says so,
    /// since only the operator can change that: once a minute for each country, since anybody may ask.
    pub fn has_route(&self, number: &PhoneNumber, priority: Priority) -> bool {
        let destination = Destination {
            country: &number.country,
            line: number.kind,
            priority,
        };
        let host = self.host();
        if host.queue.has_route(destination) {
            return true;
        }
        let what = (number.country.clone(), priority);
        if let Some(more) = host.no_route.tell(what, host.clock.monotonic()) {
            tracing::warn!(
                country = destination.country,
                line = ?destination.line,
                priority = priority.word(),
                more,
                "a message was refused: no route leads there"
            );
        }
        false
    }

    /// What is known of a message, wherever it is. Returns when that is durable, so that no status that was
    /// told is taken back by a crash.
    ///
    /// # Errors
    ///
    /// When the store fails or the message's row cannot be read.
    pub async fn message(&self, id: MessageId) -> Result<Option<MessageView>, StoreError> {
        let host = self.host();
        let view = host.queue.message(id, host.instants.now()).await?;
        host.store.settle().await?;
        Ok(view)
    }

    /// Puts a message into the queue; returns its name when it is durable, and the instant of its
    /// acceptance. To be awaited to its end even where the client has gone.
    ///
    /// # Errors
    ///
    /// See [`CallError`]; no component is asked, so none can fail.
    pub async fn send_message(
        &self,
        context: &CallContext,
        request: &MessageRequest,
        once: Option<Once<'_, MessageId>>,
    ) -> Result<(MessageId, UnixMillis), CallError> {
        let host = self.host();
        let mut rulings = Rulings::default();
        for _ in 0..host.limits.runs {
            let instant = host.instants.now();
            let id = MessageId::new(instant, &*host.entropy);
            let mut transaction = Transaction::new(host.store.clone(), instant, rulings.clone());
            if let Some(once) = &once {
                once.begin(&mut transaction).await?;
                once.record(&mut transaction, &id).await?;
            }
            let mut commit = transaction.into_commit(Ending::Commit);
            commit.need = Need::NewWork;
            let job = job(context, request, instant);
            match host.queue.accept(id, &job, commit).await {
                Ok(()) => return Ok((id, instant)),
                Err(AcceptError::TurnedAway(reason)) => return Err(queue_full(reason)),
                Err(AcceptError::Stopped) => return Err(CallError::Stopped),
                Err(AcceptError::Store(error)) => return Err(error.into()),
                Err(AcceptError::Refused(CommitError::NoRoom { take, until })) => {
                    rulings.add(take, until);
                }
                Err(AcceptError::Refused(CommitError::Full)) => return Err(store_full()),
                // The same request was answered meanwhile, which the next run will see.
                Err(AcceptError::Refused(_)) => {}
            }
        }
        Err(busy())
    }

    /// Lets a dead message wait again; returns what is known of it, and the instant. To be awaited to
    /// its end even where the client has gone.
    ///
    /// # Errors
    ///
    /// See [`ReplayCallError`].
    pub async fn replay(
        &self,
        id: MessageId,
        once: Option<Once<'_, MessageView>>,
    ) -> Result<(MessageView, UnixMillis), ReplayCallError> {
        let host = self.host();
        let mut rulings = Rulings::default();
        for _ in 0..host.limits.runs {
            let instant = host.instants.now();
            let mut transaction = Transaction::new(host.store.clone(), instant, rulings.clone());
            // Before the message is looked for: where the request has happened, it is no longer dead.
            if let Some(once) = &once {
                once.begin(&mut transaction).await?;
            }
            let replay = host.queue.prepare_replay(id, instant).await?;
            if let Some(once) = &once {
                let recorded = once.record(&mut transaction, replay.view()).await;
                recorded.map_err(CallError::from)?;
            }
            let commit = transaction.into_commit(Ending::Commit);
            match host.queue.commit_replay(replay, commit).await {
                Ok(view) => return Ok((view, instant)),
                Err(CommitError::NoRoom { take, until }) => rulings.add(take, until),
                Err(CommitError::Store(error)) => return Err(ReplayError::Store(error).into()),
                // Somebody else has replayed it, or answered the same request: the next run sees it.
                Err(_) => {}
            }
        }
        Err(ReplayError::Busy.into())
    }
}

fn job(context: &CallContext, request: &MessageRequest, now: UnixMillis) -> Job {
    Job {
        channel: "sms".to_owned(),
        to: request.to.e164.clone(),
        country: request.to.country.clone(),
        line: request.to.kind,
        template: request.template.clone(),
        text: request.text.clone(),
        variables: request.variables.clone(),
        locale: request.locale.clone(),
        service: context.service.clone(),
        purpose: request.purpose.clone(),
        caller: context.caller.in_queue().to_owned(),
        challenge: None,
        accepted: now,
        due: request.due.max(now),
        deadline: request.deadline,
        priority: request.priority,
        attempts: Vec::new(),
        counts: Counts::default(),
    }
}
