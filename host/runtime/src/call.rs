//! A call of a service component, run as a transaction.
//!
//! This is the heart of the host. A run gets one instant and one seed, works on a [`Transaction`],
//! and whatever it returns (`ok`, `err`, a trap, a time-out) is believed only if the committer finds
//! that nothing it has read has changed. Otherwise it is thrown away, with its instances, and the
//! call runs again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign_delivery::scrub;
use countersign_queue::{Queue, Reservation};
use countersign_store::{
    CommitError, Ending, Keyring, Need, Rulings, Savepoint, Store, StoreError, Transaction,
    TransactionError, settle_counts,
};
use countersign_types::{Clock, Entropy, MessageId, UnixMillis};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::Limits;
use crate::bindings::service::countersign::service::types;
use crate::component::reason;
use crate::instant::Instants;
use crate::meter::{Meter, TimeOver};
use crate::once::Once;
use crate::phone::Parsed;
use crate::places::Places;
use crate::service::{OtpComponent, Service};
use crate::subject::Subjects;

/// What the API knows about a call.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The namespace of settings and limits.
    pub service: String,
    /// Who calls.
    pub caller: Caller,
    /// The end user's address in canonical text, IPv6 cut to its /64 network. Components are handed
    /// its index, so that it is in no row.
    pub client_address: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Open mode.
    Anonymous,
    /// An API key, by its public id.
    Key(String),
}

/// Why a call gave no verdict. Nothing was written, except counted tries.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Too many calls about the same subject, too many calls at all, or too many conflicts.
    #[error("too many calls at once")]
    Busy {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The queue of messages is full.
    #[error("too many messages are waiting to be sent")]
    QueueFull {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    StoreFull {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The component failed: it trapped, ran too long, broke a limit, or could not decide.
    #[error("the component `{component}` failed: {reason}")]
    Component {
        /// Whose fault it is; in a nested call that of the called one.
        component: String,
        /// What happened. For the log, not for the client.
        reason: String,
        /// Whether it was cut off for its time.
        timed_out: bool,
    },
    /// The request has happened before; see [`Once`].
    #[error("the request has happened before")]
    Happened,
    /// The caller has made too many requests that happen once.
    #[error("too many requests that happen once")]
    TooManyOnce {
        /// When there is room for another one.
        retry_after: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What all calls share.
pub(crate) struct Host {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) queue: Queue,
    pub(crate) limits: Limits,
    pub(crate) default_region: Option<String>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) instants: Instants,
    pub(crate) subjects: Subjects,
    pub(crate) places: Places,
}

/// The components of one call: chosen once, re-runs and nested calls included.
#[derive(Clone)]
pub(crate) struct Versions {
    pub(crate) otp: Arc<Service<OtpComponent>>,
}

/// What is drawn or worked out once for a call and kept over its re-runs.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) seed: [u8; 32],
    pub(crate) phones: Parsed,
}

/// A message that the run has added to its transaction.
#[derive(Debug)]
pub(crate) struct Enqueued {
    pub(crate) place: Reservation,
    pub(crate) id: MessageId,
}

/// A line of a component's log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) component: String,
    pub(crate) level: tracing::Level,
    pub(crate) text: String,
}

/// How often the bounded functions have been called in this run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) checks: u32,
    pub(crate) messages: u32,
    pub(crate) events: u32,
    pub(crate) takes: u32,
}

/// One run of a call: moves into the instance that is running, and back.
pub(crate) struct Run {
    pub(crate) host: Arc<Host>,
    pub(crate) versions: Versions,
    pub(crate) transaction: Transaction,
    pub(crate) context: CallContext,
    pub(crate) kept: Kept,
    /// The host's own draws: ids of challenges and messages.
    pub(crate) random: StdRng,
    pub(crate) enqueued: Vec<Enqueued>,
    pub(crate) log: Vec<Line>,
    pub(crate) dropped_lines: usize,
    pub(crate) used: Used,
    /// The components that this call is in, outermost first.
    pub(crate) stack: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) meter: Arc<Meter>,
    /// Where the run goes when the instance that holds it is dropped.
    pub(crate) rescue: Rescue,
    /// Whose trap ended the run, where it was not the outermost component's.
    pub(crate) blame: Option<String>,
    pub(crate) queue_full: bool,
    pub(crate) store_error: Option<StoreError>,
    pub(crate) busy: bool,
    /// What is to be done when the run counts: instances of nested calls go back.
    pub(crate) finished: Vec<Box<dyn FnOnce() + Send>>,
}

/// Holds a run whose instance was dropped in the middle of it: a cut-off call still has tries to
/// count.
pub(crate) type Rescue = Arc<Mutex<Option<Box<Run>>>>;

/// A point of a run to roll back to.
pub(crate) struct RunSavepoint {
    transaction: Savepoint,
    enqueued: usize,
}

impl Run {
    pub(crate) fn savepoint(&self) -> RunSavepoint {
        RunSavepoint {
            transaction: self.transaction.savepoint(),
            enqueued: self.enqueued.len(),
        }
    }

    pub(crate) fn roll_back(&mut self, savepoint: RunSavepoint) {
        self.transaction.roll_back(savepoint.transaction);
        self.enqueued.truncate(savepoint.enqueued);
    }

    /// The physical key of `key` in the component's own key space.
    pub(crate) fn key(&self, key: &str) -> Vec<u8> {
        let component = self.stack.last().map_or("", String::as_str);
        physical_key(component, key)
    }

    /// What a guest is told about its caller.
    pub(crate) fn guest_context(&self) -> types::Context {
        let caller = match self
            .stack
            .len()
            .checked_sub(2)
            .and_then(|at| self.stack.get(at))
        {
            Some(component) => types::Caller::Component(component.clone()),
            None => match &self.context.caller {
                Caller::Anonymous => types::Caller::Anonymous,
                Caller::Key(id) => types::Caller::Key(id.clone()),
            },
        };
        let address = self.context.client_address.as_deref();
        types::Context {
            service: self.context.service.clone(),
            caller,
            client_address: address.map(|address| self.host.keyring.address_index(address)),
        }
    }

    pub(crate) fn say(&mut self, level: tracing::Level, text: &str) {
        let limits = &self.host.limits;
        if self.log.len() >= limits.log_lines {
            self.dropped_lines += 1;
            return;
        }
        self.log.push(Line {
            component: self.stack.last().cloned().unwrap_or_default(),
            level,
            text: scrub(cut(text, limits.log_line_bytes)),
        });
    }

    /// Turns a failed step into a trap; a failure of the store is remembered as what it is.
    pub(crate) fn failed(&mut self, error: TransactionError) -> wasmtime::Error {
        if let TransactionError::Store(error) = &error {
            self.store_error = Some(error.clone());
        }
        wasmtime::Error::new(error)
    }
}

/// At most `bytes_max` bytes of `text`, whole characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// Rows of components lie under their names.
pub(crate) fn physical_key(component: &str, key: &str) -> Vec<u8> {
    [b"c/", component.as_bytes(), b"/", key.as_bytes()].concat()
}

/// What a guest's bug looks like: it traps, with the reason.
pub(crate) fn misuse<T>(text: impl Into<String>) -> wasmtime::Result<T> {
    Err(wasmtime::Error::new(TransactionError::Misuse(text.into())))
}

/// How a run ended.
pub(crate) enum Ended<R> {
    Ok(R),
    /// The component could not decide.
    Err(String),
    Trap(wasmtime::Error),
    WallClock,
    /// No instance could be had.
    NoInstance(wasmtime::Error),
}

/// A finished run: how it ended, the run itself, and the instance, to be kept or thrown away.
pub(crate) struct Finished<R, I> {
    pub(crate) ended: Ended<R>,
    pub(crate) run: Box<Run>,
    pub(crate) instance: Option<I>,
}

/// What a call is about.
pub(crate) struct CallRequest<'a, R> {
    pub(crate) subject: &'a str,
    pub(crate) context: &'a CallContext,
    /// The function that is called, as `describe` names it.
    pub(crate) read_only: bool,
    pub(crate) component: &'a str,
    pub(crate) versions: Versions,
    /// Numbers that have been parsed already.
    pub(crate) phones: Parsed,
    /// Where the same request may come again and must not happen again.
    pub(crate) once: Option<Once<'a, R>>,
}

/// Runs a call until its outcome is one that counts; returns it with the instant of its run.
///
/// `run` makes one run and returns how it ended; `keep` gets the instance back when the run counted.
pub(crate) async fn call<R, I, F>(
    host: &Arc<Host>,
    request: CallRequest<'_, R>,
    mut run: impl FnMut(Box<Run>, Duration) -> F,
    keep: impl Fn(I),
) -> Result<(R, UnixMillis), CallError>
where
    F: Future<Output = Finished<R, I>>,
{
    let limits = &host.limits;
    let began = tokio::time::Instant::now();
    let admitted = async {
        let turn = host.subjects.turn(request.subject).await.ok()?;
        let place = host.places.take().await.ok()?;
        Some((turn, place))
    };
    let _admitted = match tokio::time::timeout(limits.service_wall, admitted).await {
        Ok(Some(admitted)) => admitted,
        Ok(None) | Err(_) => return Err(busy()),
    };
    let mut kept = Kept {
        phones: request.phones,
        ..Kept::default()
    };
    host.entropy.fill(&mut kept.seed);
    let mut rulings = Rulings::default();
    let mut pause = StdRng::from_seed(kept.seed);
    // Of the last run that was thrown away.
    let mut owed = Vec::new();
    for runs in 1..=limits.runs {
        let left = limits.service_wall.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        // A function that only reads and was stale once keeps commits out while it runs again: then
        // nothing that it reads can change.
        let hold = if request.read_only && runs == 2 {
            Some(host.store.hold().await)
        } else {
            None
        };
        let wall = if hold.is_some() {
            left.min(limits.hold)
        } else {
            left
        };
        let instant = host.instants.now();
        let mut transaction = Transaction::new(host.store.clone(), instant, rulings.clone());
        if let Some(once) = &request.once
            && let Err(error) = once.begin(&mut transaction).await
        {
            settle_counts(&host.store, instant, &owed).await?;
            return Err(error);
        }
        let this = Box::new(Run {
            host: host.clone(),
            versions: request.versions.clone(),
            transaction,
            context: request.context.clone(),
            random: StdRng::from_seed(kept.seed),
            kept: std::mem::take(&mut kept),
            enqueued: Vec::new(),
            log: Vec::new(),
            dropped_lines: 0,
            used: Used::default(),
            stack: vec![request.component.to_owned()],
            read_only: request.read_only,
            meter: Meter::new(limits.service_time),
            rescue: Rescue::default(),
            blame: None,
            queue_full: false,
            store_error: None,
            busy: false,
            finished: Vec::new(),
        });
        let Finished {
            ended,
            run: this,
            instance,
        } = run(this, wall).await;
        let Run {
            mut transaction,
            kept: was_kept,
            enqueued,
            log,
            dropped_lines,
            blame,
            queue_full: was_full,
            store_error,
            busy: was_busy,
            finished,
            ..
        } = *this;
        kept = was_kept;
        if let Some(error) = store_error {
            // Where the store fails for good this fails as well, and there is nothing more to be done.
            let _ = settle_counts(&host.store, instant, &transaction.counted()).await;
            return Err(error.into());
        }
        if hold.is_some() && matches!(ended, Ended::WallClock) {
            // Too slow to keep everybody else out for.
            return Err(busy());
        }
        let ending = match ended {
            Ended::Ok(_) => Ending::Commit,
            _ => Ending::CountedOnly,
        };
        owed = transaction.counted();
        if let (Ended::Ok(verdict), Some(once)) = (&ended, &request.once) {
            once.end(&mut transaction, verdict).await?;
        }
        let mut commit = transaction.into_commit(ending);
        commit.need = match ended {
            Ended::Ok(_) if !enqueued.is_empty() => Need::NewWork,
            Ended::Ok(_) => Need::Call,
            _ => Need::Finish,
        };
        let verdict = if hold.is_some() {
            // Consistent by itself; it only must not leave before what it read is durable.
            drop(hold);
            host.store.settle().await.map_err(CommitError::Store)
        } else {
            host.store.commit(commit).await.map(|_| ())
        };
        match verdict {
            Ok(()) => {}
            Err(CommitError::Stale) => {
                pause_before(runs, &mut pause).await;
                continue;
            }
            Err(CommitError::NoRoom { take, until }) => {
                rulings.add(take, until);
                continue;
            }
            Err(CommitError::Full) => {
                // Nobody is told a verdict, but its time may have told it.
                settle_counts(&host.store, instant, &owed).await?;
                return Err(CallError::StoreFull {
                    retry_after: Duration::from_secs(10),
                });
            }
            Err(CommitError::Store(error)) => return Err(error.into()),
            // The component's bug, found only now: as good as a trap.
            Err(error @ (CommitError::NotASum { .. } | CommitError::NotALimit { .. })) => {
                write_log(log, dropped_lines);
                settle_counts(&host.store, instant, &owed).await?;
                let (component, reason) = (request.component.to_owned(), error.to_string());
                tracing::error!(component, reason, "a component failed");
                return Err(CallError::Component {
                    component,
                    reason,
                    timed_out: false,
                });
            }
        }
        write_log(log, dropped_lines);
        let component = blame.unwrap_or_else(|| request.component.to_owned());
        let failed = |reason: String, timed_out: bool| {
            tracing::error!(component, reason, "a component failed");
            CallError::Component {
                component: component.clone(),
                reason,
                timed_out,
            }
        };
        return match ended {
            Ended::Ok(answer) => {
                for job in enqueued {
                    host.queue.announce(job.place, job.id);
                }
                instance.map(keep);
                finished.into_iter().for_each(|keep| keep());
                Ok((answer, instant))
            }
            Ended::Err(text) => {
                instance.map(keep);
                let text = scrub(cut(&text, limits.log_line_bytes));
                Err(failed(format!("it answered: {text}"), false))
            }
            Ended::Trap(_) if was_full => Err(queue_full()),
            Ended::Trap(_) if was_busy => Err(busy()),
            Ended::Trap(error) => {
                let timed_out = error.downcast_ref::<TimeOver>().is_some();
                let reason = reason(&error);
                Err(failed(
                    scrub(cut(&reason, limits.log_line_bytes)),
                    timed_out,
                ))
            }
            Ended::WallClock => Err(failed(
                format!("it took longer than {:?}", limits.service_wall),
                true,
            )),
            Ended::NoInstance(error) => {
                tracing::warn!(component, reason = reason(&error), "no instance can be had");
                Err(busy())
            }
        };
    }
    // No run counted, but somebody may have learned from one of them, if only by its time.
    settle_counts(&host.store, host.instants.now(), &owed).await?;
    Err(busy())
}

pub(crate) fn busy() -> CallError {
    CallError::Busy {
        retry_after: Duration::from_secs(1),
    }
}

pub(crate) fn queue_full() -> CallError {
    CallError::QueueFull {
        retry_after: Duration::from_secs(5),
    }
}

/// Waits a random moment that grows with each run, so that calls that made each other stale do not
/// meet again.
async fn pause_before(runs: u32, random: &mut StdRng) {
    if runs > 1 {
        let longest_us = 100u64 << runs.min(6);
        let pause = random.next_u64() % longest_us;
        tokio::time::sleep(Duration::from_micros(pause)).await;
    }
}

fn write_log(lines: Vec<Line>, dropped: usize) {
    for Line {
        component,
        level,
        text,
    } in lines
    {
        match level {
            tracing::Level::ERROR => {
                tracing::error!(target: "countersign::component", component, "{text}")
            }
            tracing::Level::WARN => {
                tracing::warn!(target: "countersign::component", component, "{text}")
            }
            tracing::Level::INFO => {
                tracing::info!(target: "countersign::component", component, "{text}")
            }
            _ => tracing::debug!(target: "countersign::component", component, "{text}"),
        }
    }
    if dropped > 0 {
        tracing::warn!(target: "countersign::component", dropped, "lines of a component's log were dropped");
    }
}

/// Takes the run out of the rescue slot.
pub(crate) fn rescued(rescue: &Rescue) -> Option<Box<Run>> {
    rescue.lock().unwrap_or_else(PoisonError::into_inner).take()
}
