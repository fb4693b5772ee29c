//! The embedded store with its disk and its threads replaced: the committer that judges is the real
//! one, what waits for it and what it waits for is seeded.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use countersign_store::committer::{Committer, Group, Rows};
use countersign_store::{Commit, CommitError, Committed, Hold, Row, Scanned, Store, StoreError};
use countersign_types::UnixMillis;
use tokio::sync::{Mutex, RwLock, mpsc, oneshot, watch};

use crate::disk::Disk;
use crate::oracle::{Admitted, CALL, Oracle, Record};
use crate::plant::Plant;
use crate::world::World;

/// How many requests may wait, as in the real one.
const WAITING_MAX: usize = 1_024;

/// How many storage threads take turns, as in the real one.
const THREADS: usize = 2;

enum Request {
    Commit(Box<Entry>, oneshot::Sender<Result<Committed, CommitError>>),
    Settle(oneshot::Sender<Result<(), StoreError>>),
    Sweep(UnixMillis, oneshot::Sender<Result<bool, StoreError>>),
}

/// A commit as it was asked for, and as it is judged: the same unless a bug was planted.
struct Entry {
    record: Record,
    judged: Commit,
}

struct Shared {
    world: Arc<World>,
    disk: Disk,
    oracle: Arc<Oracle>,
    plant: Option<Plant>,
    gate: RwLock<()>,
    newest_instant: AtomicU64,
    unanswered: SyncMutex<VecDeque<Applied>>,
    newest_event: watch::Sender<u64>,
}

/// What the storage thread works with whose turn it is.
struct Turn {
    committer: Committer<Disk>,
    inbox: mpsc::Receiver<Request>,
}

/// Who waits for an answer, and which one it will be.
type Due<T> = (oneshot::Sender<T>, T);

/// A group that was applied, and who waits for it.
#[derive(Default)]
struct Applied {
    /// The disk's; `None` where it wrote nothing.
    number: Option<u64>,
    newest_event: u64,
    judged: Vec<Due<Result<Committed, CommitError>>>,
    settled: Vec<oneshot::Sender<Result<(), StoreError>>>,
    swept: Vec<Due<Result<bool, StoreError>>>,
}

impl Applied {
    fn answer(self, newest_event: &watch::Sender<u64>) {
        newest_event.send_replace(self.newest_event);
        for (answer, result) in self.judged {
            let _ = answer.send(result);
        }
        for answer in self.settled {
            let _ = answer.send(Ok(()));
        }
        for (answer, done) in self.swept {
            let _ = answer.send(done);
        }
    }
}

/// A store over a [`Disk`], as long as a process lives.
pub(crate) struct SimulatedStore {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl SimulatedStore {
    /// Opens what is on the disk. To be called inside the runtime of the process.
    pub(crate) fn open(
        world: &Arc<World>,
        disk: &Disk,
        oracle: &Arc<Oracle>,
        plant: Option<Plant>,
    ) -> Result<Arc<SimulatedStore>, StoreError> {
        let committer = Committer::open(disk.clone(), disk.has_data())?;
        let shared = Arc::new(Shared {
            world: world.clone(),
            disk: disk.clone(),
            oracle: oracle.clone(),
            plant,
            gate: RwLock::new(()),
            newest_instant: AtomicU64::new(committer.newest_instant().0),
            unanswered: SyncMutex::default(),
            newest_event: watch::Sender::new(committer.newest_event()),
        });
        let (requests, inbox) = mpsc::channel(WAITING_MAX);
        let turn = Arc::new(Mutex::new(Turn { committer, inbox }));
        for _ in 0..THREADS {
            let (shared, turn) = (shared.clone(), turn.clone());
            tokio::spawn(async move { shared.serve(&turn).await });
        }
        Ok(Arc::new(SimulatedStore { shared, requests }))
    }

    async fn ask<T, E: From<StoreError>>(
        &self,
        request: Request,
        answer: oneshot::Receiver<Result<T, E>>,
    ) -> Result<T, E> {
        if self.requests.send(request).await.is_err() {
            return Err(StoreError::Closed.into());
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Shared {
    /// A storage thread: as the real ones, this one applies a group while the other one syncs its own.
    async fn serve(&self, turn: &Mutex<Turn>) {
        let Shared { world, disk, .. } = self;
        while let Some(number) = self.apply_next(turn).await {
            world.pass("sync".to_owned()).await;
            // Crashes come at any step; this is the rare one at which the second group matters.
            if disk.unsynced() > 1 && world.fault_once_in(64) {
                world.step(format_args!("the process is killed"));
                world.halt();
                world.alive().await;
            }
            if world.fault_once_in(2_000) {
                // As in the real one: what the disk holds is unknown, so the process ends.
                world.step(format_args!("the sync fails"));
                world.mark("a failed sync");
                world.halt();
                world.alive().await;
            }
            if self.plant != Some(Plant::LostAcknowledgement) {
                disk.sync(number);
            }
            self.oracle.synced(number);
            self.answer(number);
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, VecDeque<Applied>> {
        let unanswered = self.unanswered.lock();
        unanswered.unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what is durable when the disk is up to `number`, and what waits for nothing else.
    fn answer(&self, number: u64) {
        let mut unanswered = self.unanswered();
        let is_durable = |group: &mut Applied| group.number.is_none_or(|own| own <= number);
        while let Some(group) = unanswered.pop_front_if(is_durable) {
            group.answer(&self.newest_event);
        }
    }

    /// Waits for its turn, gathers a group and applies it, until one has something to sync. `None` when
    /// the store is gone.
    async fn apply_next(&self, turn: &Mutex<Turn>) -> Option<u64> {
        let Shared { world, disk, .. } = self;
        let Turn { committer, inbox } = &mut *turn.lock().await;
        loop {
            let first = inbox.recv().await?;
            let newest = self.newest_instant.load(Ordering::Acquire);
            committer.set_newest_instant(UnixMillis(newest));
            let (group, admitted, mut applied) = self.gather(committer, inbox, first);
            world
                .pass(format!("apply {} commits", admitted.len()))
                .await;
            {
                let _closed = self.gate.write().await;
                let mut batch = Vec::new();
                if !group.is_empty() {
                    batch = committer.batch(group);
                    applied.number = Some(disk.apply(&batch));
                }
                self.newest_instant
                    .store(committer.newest_instant().0, Ordering::Release);
                self.oracle.applied(&admitted, &batch, applied.number);
            }
            applied.newest_event = committer.newest_event();
            let number = applied.number;
            if number.is_none() && self.plant == Some(Plant::EarlyAnswer) {
                applied.answer(&self.newest_event);
                continue;
            }
            self.unanswered().push_back(applied);
            if number.is_some() {
                return number;
            }
            // It may have nobody to wait for.
            self.answer(0);
            if !self.unanswered().is_empty() {
                world.mark("an answer that waits for the group before");
            }
        }
    }

    /// Judges `first` and some of what has come after it.
    fn gather(
        &self,
        committer: &mut Committer<Disk>,
        inbox: &mut mpsc::Receiver<Request>,
        first: Request,
    ) -> (Group, Vec<Admitted>, Applied) {
        let mut group = Group::default();
        let mut admitted = Vec::new();
        let mut applied = Applied::default();
        let mut next = Some(first);
        while let Some(request) = next.take() {
            match request {
                Request::Commit(entry, answer) => {
                    let Entry {
                        record,
                        judged: commit,
                    } = *entry;
                    let verdict = committer.admit(&mut group, commit);
                    if let Ok(committed) = &verdict {
                        admitted.push(Admitted {
                            record,
                            committed: *committed,
                            at: committer.newest_instant(),
                        });
                    }
                    applied.judged.push((answer, verdict));
                }
                Request::Settle(answer) => applied.settled.push(answer),
                Request::Sweep(now, answer) => {
                    let done = committer.sweep(&mut group, now);
                    applied.swept.push((answer, done));
                }
            }
            // Now and then a group is closed early, as it is when nobody else has come yet.
            if group.has_room() && !self.world.once_in(4) {
                next = inbox.try_recv().ok();
            }
        }
        (group, admitted, applied)
    }
}

#[async_trait]
impl Store for SimulatedStore {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let Shared { world, disk, .. } = &*self.shared;
        world.pass(format!("get {}", text(key))).await;
        world.after_you().await;
        if world.fault_once_in(1_000) {
            world.step(format_args!("the read fails"));
            world.mark("a failed read");
            return Err(StoreError::Failed("a read".to_owned()));
        }
        match disk.get(key)? {
            None => Ok(None),
            Some(bytes) => Row::from_bytes(key, &bytes).map(Some),
        }
    }

    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        let Shared { world, disk, .. } = &*self.shared;
        world
            .pass(format!("scan {}..{}", text(from), text(to)))
            .await;
        if from >= to {
            return Ok(Vec::new());
        }
        disk.range((Bound::Included(from), Bound::Excluded(to)))
            .take(limit)
            .map(|entry| {
                let (key, bytes) = entry?;
                let row = Row::from_bytes(&key, &bytes);
                Ok((key, row))
            })
            .collect()
    }

    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        // All of them, since what is in memory cannot be walked from its end: there are few.
        let mut rows = self.scan(from, to, usize::MAX).await?;
        rows.reverse();
        rows.truncate(limit);
        Ok(rows)
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed, CommitError> {
        let Shared { world, disk, .. } = &*self.shared;
        let call = CALL.try_with(Arc::clone).ok();
        let by = call.as_ref().map_or(0, |call| call.id);
        world.pass(format!("commit of call {by}")).await;
        if let Some(plant) = self.shared.plant {
            plant.mislead(&mut commit);
        }
        let mut judged = commit.clone();
        if let Some(plant) = self.shared.plant {
            plant.meddle(&mut judged, world, disk);
        }
        let task = tokio::task::try_id();
        let record = Record { call, task, commit };
        let entry = Box::new(Entry { record, judged });
        let (answer, result) = oneshot::channel();
        let result = self.ask(Request::Commit(entry, answer), result).await;
        match &result {
            Ok(Committed {
                version: Some(n), ..
            }) => {
                world.step(format_args!("call {by}: committed as {n}"));
            }
            Ok(_) => world.step(format_args!("call {by}: valid, nothing to write")),
            Err(error) => {
                match error {
                    CommitError::Stale => world.mark("a stale run"),
                    CommitError::NoRoom { .. } => world.mark("a take without room"),
                    _ => {}
                }
                world.step(format_args!("call {by}: {error}"));
            }
        }
        world.alive().await;
        result
    }

    async fn hold(&self) -> Hold<'_> {
        self.shared.gate.read().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        let (answer, result) = oneshot::channel();
        self.ask(Request::Settle(answer), result).await
    }

    fn newest_instant(&self) -> UnixMillis {
        UnixMillis(self.shared.newest_instant.load(Ordering::Acquire))
    }

    fn step_back(&self, instant: UnixMillis) {
        self.shared
            .world
            .step(format_args!("time goes back to {}", instant.0));
        self.shared.world.mark("a step back that is followed");
        self.shared
            .newest_instant
            .store(instant.0, Ordering::Release);
    }

    async fn await_events(&self, position: u64) {
        let mut newest = self.shared.newest_event.subscribe();
        // The sender lives as long as the store.
        let _ = newest.wait_for(|newest| *newest > position).await;
    }

    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError> {
        let (answer, result) = oneshot::channel();
        self.ask(Request::Sweep(now, answer), result).await
    }
}

/// A key for people: printable bytes as they are, others in hexadecimal.
pub(crate) fn text(key: &[u8]) -> String {
    key.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("{byte:02x}")),
        }
        text
    })
}
