//! The runs of a call, one after the other, until one counts.
//!
//! This is the heart of the host. A run gets one instant and one seed, works on a [`Transaction`],
//! and whatever it returns (`ok`, `err`, a trap, a time-out) is believed only if the committer finds
//! that nothing it has read has changed. Otherwise it is thrown away, with its instances, and the
//! call runs again.

use std::sync::{Arc, Weak};
use std::time::Duration;

use countersign_store::{
    CommitError, Counted, Ending, Hold, Need, Rulings, StoreError, Transaction, settle_counts,
};
use countersign_types::UnixMillis;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::call::{
    CallContext, CallError, Caller, Ended, Enqueued, Finished, Host, Kept, Line, Run, Used, busy,
    clean, store_full,
};
use crate::call_figures::ServiceFigures;
use crate::component::reason;
use crate::generation::Versions;
use crate::meter::{Meter, TimeOver};
use crate::once::Once;
use crate::phone::Parsed;
use crate::places::{Place, Places};
use crate::secrets::Secrets;
use crate::subject::Turn;

/// What a call is about.
pub(crate) struct CallRequest<'a, R> {
    pub(crate) subject: &'a str,
    pub(crate) context: &'a CallContext,
    /// The function that is called, as `describe` names it.
    pub(crate) read_only: bool,
    pub(crate) component: &'a str,
    /// Where its calls are counted.
    pub(crate) figures: &'a ServiceFigures,
    /// Where they run.
    pub(crate) places: &'a Places,
    pub(crate) versions: Versions,
    /// Numbers that have been parsed already.
    pub(crate) phones: Parsed,
    /// Secrets that the component may name.
    pub(crate) secrets: Secrets,
    /// Where the same request may come again and must not happen again.
    pub(crate) once: Option<Once<'a, R>>,
}

/// Runs a call until its outcome is one that counts; returns it with the instant of its run.
///
/// `run` makes one run and returns how it ended; `keep` gets the instance back when the run counted.
pub(crate) async fn call<R, I, F>(
    host: &Arc<Host>,
    request: CallRequest<'_, R>,
    run: impl FnMut(Box<Run>, Duration) -> F,
    keep: impl Fn(I),
) -> Result<(R, UnixMillis), CallError>
where
    F: Future<Output = Finished<R, I>>,
{
    let figures = request.figures;
    let began = Instant::now();
    let ended = run_until_one_counts(host, request, began, run, keep).await;
    host.figures.ended(figures, began.elapsed(), ended.as_ref());
    ended
}

async fn run_until_one_counts<R, I, F>(
    host: &Arc<Host>,
    request: CallRequest<'_, R>,
    began: Instant,
    mut run: impl FnMut(Box<Run>, Duration) -> F,
    keep: impl Fn(I),
) -> Result<(R, UnixMillis), CallError>
where
    F: Future<Output = Finished<R, I>>,
{
    let limits = &host.limits;
    let caller = request.context.caller.in_line();
    let _admitted = admit(host, request.places, request.subject, &caller).await?;
    let mut runs = Runs::new(host, request);
    for number in 1..=limits.runs {
        let left = limits.service_wall.saturating_sub(began.elapsed());
        if left.is_zero() {
            break;
        }
        // With no commit in it: those that wait for the disk keep nobody from a processor.
        let alone = runs.request.places.alone();
        let Ok(alone) = tokio::time::timeout(left, alone).await else {
            break;
        };
        let left = limits.service_wall.saturating_sub(began.elapsed());
        let hold = runs.hold(number).await;
        let wall = match hold {
            Some(_) => left.min(limits.hold),
            None => left,
        };
        let begun = runs.begin().await?;
        let meter = begun.meter.clone();
        let finished = run(begun, wall).await;
        runs.request.places.ran(meter.spent());
        drop(alone);
        let (done, transaction) = runs.leave(finished).await?;
        if hold.is_some() && matches!(done.ended, Ended::WallClock) {
            // Too slow to keep everybody else out for.
            return Err(busy());
        }
        let new_work = !done.enqueued.is_empty();
        match runs.commit(&done.ended, new_work, transaction, hold).await {
            Ok(()) => return runs.conclude(done, keep),
            Err(error) => runs.go_on_after(error, number, done).await?,
        }
    }
    // No run counted, but somebody may have learned from one of them, if only by its time.
    settle_counts(&host.store, host.instants.now(), &runs.owed).await?;
    Err(busy())
}

/// Waits for the subject's turn, and for a place.
async fn admit<'a>(
    host: &'a Host,
    places: &Places,
    subject: &str,
    caller: &Caller,
) -> Result<(Turn<'a>, Place), CallError> {
    let admitted = async {
        let turn = host.subjects.turn(subject).await.ok()?;
        let place = places.take(caller).await.ok()?;
        Some((turn, place))
    };
    match tokio::time::timeout(host.limits.service_wall, admitted).await {
        Ok(Some(admitted)) => Ok(admitted),
        Ok(None) | Err(_) => Err(busy()),
    }
}

/// What goes from one run of a call to the next.
struct Runs<'a, R> {
    host: &'a Arc<Host>,
    request: CallRequest<'a, R>,
    kept: Kept,
    rulings: Rulings,
    pause: StdRng,
    /// The tries that the last run has counted, as long as no commit has.
    owed: Vec<Counted>,
}

/// A run that is over, without its transaction.
struct Done<R, I> {
    ended: Ended<R>,
    instance: Option<I>,
    instant: UnixMillis,
    enqueued: Vec<Enqueued>,
    log: Vec<Line>,
    dropped_lines: usize,
    blame: Option<String>,
    refused: Option<CallError>,
    busy: bool,
    finished: Vec<Box<dyn FnOnce() + Send>>,
}

impl<'a, R> Runs<'a, R> {
    fn new(host: &'a Arc<Host>, mut request: CallRequest<'a, R>) -> Runs<'a, R> {
        let mut kept = Kept {
            phones: std::mem::take(&mut request.phones),
            ..Kept::default()
        };
        host.entropy.fill(&mut kept.seed);
        Runs {
            host,
            request,
            rulings: Rulings::default(),
            pause: StdRng::from_seed(kept.seed),
            kept,
            owed: Vec::new(),
        }
    }

    /// A function that only reads and was stale once keeps commits out while it runs again: then
    /// nothing that it reads can change.
    async fn hold(&self, number: u32) -> Option<Hold<'a>> {
        if self.request.read_only && number == 2 {
            Some(self.host.store.hold().await)
        } else {
            None
        }
    }

    /// A new run, at an instant of its own.
    async fn begin(&mut self) -> Result<Box<Run>, CallError> {
        let Runs { host, request, .. } = self;
        let instant = host.instants.now();
        let rulings = self.rulings.clone();
        let mut transaction = Transaction::new(host.store.clone(), instant, rulings);
        if let Some(once) = &request.once
            && let Err(error) = once.begin(&mut transaction).await
        {
            settle_counts(&host.store, instant, &self.owed).await?;
            return Err(error);
        }
        Ok(Box::new(Run {
            host: host.clone(),
            versions: request.versions.clone(),
            transaction,
            context: request.context.clone(),
            random: StdRng::from_seed(self.kept.seed),
            kept: std::mem::take(&mut self.kept),
            enqueued: Vec::new(),
            secrets: request.secrets.clone(),
            log: Vec::new(),
            dropped_lines: 0,
            used: Used::default(),
            stack: vec![request.component.to_owned()],
            read_only: request.read_only,
            meter: Meter::giving_way(host.limits.service_time, &host.turns),
            rescue: Weak::new(),
            blame: None,
            refused: None,
            store_error: None,
            busy: false,
            finished: Vec::new(),
        }))
    }

    /// Takes back what is kept, and remembers what is owed.
    async fn leave<I>(
        &mut self,
        finished: Finished<R, I>,
    ) -> Result<(Done<R, I>, Transaction), CallError> {
        let run = *finished.run;
        let instant = run.transaction.instant();
        self.kept = run.kept;
        self.owed = run.transaction.counted();
        if let Some(error) = run.store_error {
            // Where the store fails for good this fails as well, and there is nothing more to be done.
            let _ = settle_counts(&self.host.store, instant, &self.owed).await;
            return Err(error.into());
        }
        let done = Done {
            ended: finished.ended,
            instance: finished.instance,
            instant,
            enqueued: run.enqueued,
            log: run.log,
            dropped_lines: run.dropped_lines,
            blame: run.blame,
            refused: run.refused,
            busy: run.busy,
            finished: run.finished,
        };
        Ok((done, run.transaction))
    }

    /// Has the run judged, and what it wrote made durable. `new_work`: a message is among it.
    async fn commit(
        &self,
        ended: &Ended<R>,
        new_work: bool,
        mut transaction: Transaction,
        hold: Option<Hold<'_>>,
    ) -> Result<(), CommitError> {
        if let (Ended::Ok(verdict), Some(once)) = (ended, &self.request.once) {
            once.end(&mut transaction, verdict).await?;
        }
        let store = &self.host.store;
        if let Some(hold) = hold {
            // Consistent by itself; it only must not leave before what it read is durable.
            drop(hold);
            return Ok(store.settle().await?);
        }
        let (ending, need) = match ended {
            Ended::Ok(_) if new_work => (Ending::Commit, Need::NewWork),
            Ended::Ok(_) => (Ending::Commit, Need::Call),
            _ => (Ending::CountedOnly, Need::Finish),
        };
        let mut commit = transaction.into_commit(ending);
        commit.need = need;
        store.commit(commit).await.map(|_| ())
    }

    /// Prepares the next run after one that did not count, or ends the call.
    async fn go_on_after<I>(
        &mut self,
        error: CommitError,
        number: u32,
        done: Done<R, I>,
    ) -> Result<(), CallError> {
        match error {
            CommitError::Stale => {
                self.request.figures.stale.add_one();
                pause_before(number, &mut self.pause).await;
                Ok(())
            }
            CommitError::NoRoom { take, until } => {
                self.request.figures.no_room.add_one();
                self.rulings.add(take, until);
                Ok(())
            }
            CommitError::Full => {
                // Nobody is told a verdict, but its time may have told it.
                self.settle(done.instant).await?;
                Err(store_full())
            }
            CommitError::Store(error) => Err(error.into()),
            // The component's bug, found only now: as good as a trap.
            error @ (CommitError::NotASum { .. } | CommitError::NotALimit { .. }) => {
                write_log(done.log, done.dropped_lines);
                self.settle(done.instant).await?;
                Err(failed(self.request.component, error.to_string(), false))
            }
        }
    }

    async fn settle(&self, instant: UnixMillis) -> Result<(), StoreError> {
        settle_counts(&self.host.store, instant, &self.owed).await
    }

    /// What a run that counts comes to. Whatever it held back until then happens now.
    fn conclude<I>(self, done: Done<R, I>, keep: impl Fn(I)) -> Result<(R, UnixMillis), CallError> {
        write_log(done.log, done.dropped_lines);
        let limits = &self.host.limits;
        let component = done.blame.as_deref().unwrap_or(self.request.component);
        let clean = |text: &str| clean(text, limits.log_line_bytes);
        if let (Ended::Trap(_), Some(refused)) = (&done.ended, done.refused) {
            return Err(refused);
        }
        match done.ended {
            Ended::Ok(answer) => {
                for job in done.enqueued {
                    self.host.queue.announce(job.place, job.id);
                }
                done.instance.map(keep);
                done.finished.into_iter().for_each(|keep| keep());
                Ok((answer, done.instant))
            }
            Ended::Err(text) => {
                done.instance.map(keep);
                let reason = format!("it answered: {}", clean(&text));
                Err(failed(component, reason, false))
            }
            Ended::Trap(_) if done.busy => Err(busy()),
            Ended::Trap(error) => {
                let timed_out = error.downcast_ref::<TimeOver>().is_some();
                Err(failed(component, clean(&reason(&error)), timed_out))
            }
            Ended::WallClock => {
                let reason = format!("it took longer than {:?}", limits.service_wall);
                Err(failed(component, reason, true))
            }
            Ended::NoInstance(error) => {
                tracing::warn!(component, reason = reason(&error), "no instance can be had");
                Err(busy())
            }
        }
    }
}

fn failed(component: &str, reason: String, timed_out: bool) -> CallError {
    tracing::error!(component, reason, "a component failed");
    CallError::Component {
        component: component.to_owned(),
        reason,
        timed_out,
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
