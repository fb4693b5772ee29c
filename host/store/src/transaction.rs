//! What a call works with: reads are remembered, writes wait.
//!
//! A transaction never touches the disk by itself. It reads the applied state through the [`Store`],
//! remembers which versions it saw, and turns into a [`Commit`] that the store judges. The rules of
//! a run are those of `ARCHITECTURE.md`, "A call is a transaction".

use std::collections::HashMap;
use std::sync::Arc;

use countersign_types::UnixMillis;

use crate::limit::{TAKE_MAX, Window};
use crate::{
    Body, Commit, CommitError, Need, Read, ScanRead, Section, Sections, Store, StoreError, SumAdd,
    Take, Write,
};

/// Why a step of a transaction failed.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The caller broke a rule of the interface: its own bug.
    #[error("{0}")]
    Misuse(String),
}

/// In a transaction of the host's own: only the store can be at fault in one.
impl From<TransactionError> for StoreError {
    fn from(error: TransactionError) -> StoreError {
        match error {
            TransactionError::Store(error) => error,
            TransactionError::Misuse(text) => StoreError::Failed(text),
        }
    }
}

/// What the committer has said about limits in earlier runs of the same call: in the next run they
/// are full, without asking again.
#[derive(Clone, Debug, Default)]
pub struct Rulings(Vec<(Take, UnixMillis)>);

impl Rulings {
    /// Remembers that the committer found no room for `take` before `until`.
    pub fn add(&mut self, take: Take, until: UnixMillis) {
        self.0.push((take, until));
    }
}

/// How a run ended, as far as its writes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is to be written.
    Commit,
    /// Nothing but counted tries.
    CountedOnly,
}

/// A row as the run sees it, with its own writes on top.
#[derive(Clone, Debug)]
struct Seen {
    current: Sections,
    dirty: bool,
}

/// Counts one try in a host section, where it is the section that was tried; else `None`. It is asked
/// again about whatever stands there after a rollback, or in a later commit.
pub type Recount = Arc<dyn Fn(&Section) -> Option<Section> + Send + Sync>;

/// A try that outlives a rollback, and the run itself.
#[derive(Clone)]
pub struct Counted {
    key: Vec<u8>,
    recount: Recount,
}

/// About how many rows one scan looks at.
const LOOKED_AT_MAX: usize = 1_024;

/// What a rollback goes back to.
#[derive(Debug)]
pub struct Savepoint {
    rows: HashMap<Vec<u8>, Seen>,
    sums: usize,
    takes: usize,
    events: usize,
    counted: usize,
}

/// One run of a call.
pub struct Transaction {
    store: Arc<dyn Store>,
    instant: UnixMillis,
    rulings: Rulings,
    reads: Vec<Read>,
    /// The rows as they were read, for what outlives a rollback.
    base: HashMap<Vec<u8>, Sections>,
    rows: HashMap<Vec<u8>, Seen>,
    scans: Vec<ScanRead>,
    sums: Vec<SumAdd>,
    takes: Vec<Take>,
    events: Vec<Vec<u8>>,
    counted: Vec<Counted>,
}

impl Transaction {
    /// A run at `instant`.
    pub fn new(store: Arc<dyn Store>, instant: UnixMillis, rulings: Rulings) -> Transaction {
        Transaction {
            store,
            instant,
            rulings,
            reads: Vec::new(),
            base: HashMap::new(),
            rows: HashMap::new(),
            scans: Vec::new(),
            sums: Vec::new(),
            takes: Vec::new(),
            events: Vec::new(),
            counted: Vec::new(),
        }
    }

    /// The one instant of the run.
    pub fn instant(&self) -> UnixMillis {
        self.instant
    }

    /// How many rows the run has touched, those of scans included.
    pub fn touched(&self) -> usize {
        let scanned: usize = self.scans.iter().map(|scan| scan.seen.len() + 1).sum();
        self.rows.len() + self.sums.len() + self.takes.len() + scanned
    }

    async fn row(&mut self, key: &[u8]) -> Result<&mut Seen, TransactionError> {
        if self.sums.iter().any(|sum| sum.key == key) {
            return Err(TransactionError::Misuse(
                "a sum was read in the call that adds to it".to_owned(),
            ));
        }
        if self.takes.iter().any(|take| take.key == key) {
            return Err(TransactionError::Misuse(
                "a limit was read or written in the call that takes from it".to_owned(),
            ));
        }
        if !self.rows.contains_key(key) {
            let stored = self.store.get(key).await?;
            let (sections, read) = self.look(key, stored);
            self.reads.push(read);
            self.base.insert(key.to_vec(), sections.clone());
            self.rows.insert(
                key.to_vec(),
                Seen {
                    current: sections,
                    dirty: false,
                },
            );
        }
        // It was inserted just now where it was missing.
        self.rows
            .get_mut(key)
            .ok_or_else(|| TransactionError::Misuse("a row vanished".to_owned()))
    }

    /// What can be seen of a stored row, and the read to remember.
    fn look(&self, key: &[u8], stored: Option<crate::Row>) -> (Sections, Read) {
        let nothing = |version| {
            (
                Sections::default(),
                Read {
                    key: key.to_vec(),
                    version,
                    until: None,
                },
            )
        };
        let Some(row) = stored.filter(|row| !row.body.expired(self.instant)) else {
            return nothing(None);
        };
        match row.body {
            Body::Sections(sections) => {
                let (seen, until) = sections.at(self.instant);
                let read = Read {
                    key: key.to_vec(),
                    version: Some(row.version),
                    until,
                };
                (seen, read)
            }
            // A sum reads as eight bytes.
            Body::Sum { value, expires } => {
                let seen = Sections {
                    service: Some(Section {
                        state: 0,
                        expires,
                        value: value.to_le_bytes().to_vec(),
                    }),
                    host: None,
                };
                let read = Read {
                    key: key.to_vec(),
                    version: Some(row.version),
                    until: expires,
                };
                (seen, read)
            }
            Body::Limit(_) | Body::Events { .. } => nothing(Some(row.version)),
        }
    }

    /// The service's section of the row `key`.
    ///
    /// # Errors
    ///
    /// When the store fails, or the call has added to `key`.
    pub async fn service(&mut self, key: &[u8]) -> Result<Option<Section>, TransactionError> {
        Ok(self.row(key).await?.current.service.clone())
    }

    /// Replaces the service's section of the row `key`; the host's stays as it is.
    ///
    /// # Errors
    ///
    /// When the store fails, or the call has added to `key`.
    pub async fn set_service(
        &mut self,
        key: &[u8],
        section: Option<Section>,
    ) -> Result<(), TransactionError> {
        let row = self.row(key).await?;
        row.current.service = section;
        row.dirty = true;
        Ok(())
    }

    /// The host's section of the row `key`.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn host(&mut self, key: &[u8]) -> Result<Option<Section>, TransactionError> {
        Ok(self.row(key).await?.current.host.clone())
    }

    /// Replaces the host's section of the row `key`; the service's stays as it is.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn set_host(
        &mut self,
        key: &[u8],
        section: Option<Section>,
    ) -> Result<(), TransactionError> {
        let row = self.row(key).await?;
        row.current.host = section;
        row.dirty = true;
        Ok(())
    }

    /// Counts a try in the host's section of the row `key`. Unlike any other write it stays when the
    /// call is rolled back, fails, traps or is cut off.
    ///
    /// # Errors
    ///
    /// When the store fails, or there is nothing in the row to count in.
    pub async fn count(&mut self, key: &[u8], recount: Recount) -> Result<(), TransactionError> {
        let row = self.row(key).await?;
        let counted = row.current.host.as_ref().and_then(|host| recount(host));
        if counted.is_none() {
            return Err(TransactionError::Misuse(
                "a try without a challenge".to_owned(),
            ));
        }
        row.current.host = counted;
        row.dirty = true;
        self.counted.push(Counted {
            key: key.to_vec(),
            recount,
        });
        Ok(())
    }

    /// The tries that the run has counted, for [`settle_counts`].
    pub fn counted(&self) -> Vec<Counted> {
        self.counted.clone()
    }

    /// At most `limit` service sections of the interval `from..to`, in order, the run's own writes
    /// included, and the key to go on from.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn scan(
        &mut self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<(Vec<(Vec<u8>, Section)>, Option<Vec<u8>>), TransactionError> {
        let mut found: Vec<(Vec<u8>, Section)> = Vec::new();
        let mut seen = Vec::new();
        let mut cursor = from.to_vec();
        // The store's rows up to the limit; rows that this run has deleted or that have expired do
        // not fill the page, so it may take several looks.
        let mut end = to.to_vec();
        let mut looked = 0;
        loop {
            let page = self.store.scan(&cursor, to, limit + 1).await?;
            let exhausted = page.len() <= limit;
            for (key, row) in page {
                cursor = [key.as_slice(), &[0]].concat();
                let (sections, read) = self.look(&key, Some(row?));
                if read.version.is_some() {
                    seen.push(read);
                }
                let current = match self.rows.get(&key) {
                    Some(own) => own.current.service.clone(),
                    None => sections.service,
                };
                found.extend(current.map(|section| (key, section)));
                if found.len() > limit {
                    break;
                }
            }
            if found.len() > limit {
                end = cursor.clone();
                break;
            }
            if exhausted {
                break;
            }
            looked += limit;
            if looked >= LOOKED_AT_MAX {
                // Little was found among much that has expired or belongs to the host: the caller
                // goes on from here, if it likes.
                end = cursor.clone();
                break;
            }
        }
        // Rows that exist in this run only.
        for (key, own) in &self.rows {
            let inside = from <= key.as_slice() && key.as_slice() < end.as_slice();
            if inside && !found.iter().any(|(other, _)| other == key) {
                found.extend(
                    own.current
                        .service
                        .clone()
                        .map(|section| (key.clone(), section)),
                );
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        let next = match found.get(limit) {
            Some((key, _)) => Some(key.clone()),
            None => (end.as_slice() < to).then(|| end.clone()),
        };
        found.truncate(limit);
        self.scans.push(ScanRead {
            from: from.to_vec(),
            to: end,
            seen,
        });
        Ok((found, next))
    }

    /// Adds to a sum when the run commits.
    ///
    /// # Errors
    ///
    /// When the run has read `key`.
    pub fn add(&mut self, sum: SumAdd) -> Result<(), TransactionError> {
        if self.rows.contains_key(&sum.key) {
            return Err(TransactionError::Misuse(
                "a sum was added to in the call that reads or writes it".to_owned(),
            ));
        }
        self.sums.push(sum);
        Ok(())
    }

    /// Takes from a shared limit, as far as the applied state, the run's own takes and the
    /// committer's earlier word tell. The committer has the last word.
    ///
    /// # Errors
    ///
    /// When the store fails, the row is no limit, or the limit or the amount is above [`TAKE_MAX`].
    pub async fn take(&mut self, take: Take) -> Result<Result<(), UnixMillis>, TransactionError> {
        if take.amount.max(take.max) > TAKE_MAX {
            return Err(TransactionError::Misuse(format!(
                "a take of {} from a limit of {}; both can be {TAKE_MAX} at most",
                take.amount, take.max
            )));
        }
        if self.rows.contains_key(&take.key) {
            return Err(TransactionError::Misuse(
                "a limit was taken from in the call that reads or writes it".to_owned(),
            ));
        }
        if let Some((_, until)) = self.rulings.0.iter().find(|(ruled, _)| *ruled == take) {
            return Ok(Err(*until));
        }
        let stored = self.store.get(&take.key).await?;
        let mut window = match stored.map(|row| row.body) {
            None => Window::default(),
            Some(Body::Limit(window)) => window,
            Some(body) if body.expired(self.instant) => Window::default(),
            Some(_) => {
                return Err(TransactionError::Misuse(
                    "`take` from a row that is no limit".to_owned(),
                ));
            }
        };
        let own = self.takes.iter().filter(|own| own.key == take.key);
        for earlier in own.chain([&take]) {
            let taken = window.take(self.instant, earlier.amount, earlier.max, earlier.window_ms);
            if let Err(until) = taken {
                return Ok(Err(until));
            }
        }
        self.takes.push(take);
        Ok(Ok(()))
    }

    /// Takes nothing after all: `take` is forgotten, where the run has made it.
    pub fn give_back(&mut self, take: &Take) {
        self.takes.retain(|made| made != take);
    }

    /// How much the run changes: rows, sums, takes and events.
    pub fn changes(&self) -> usize {
        let rows = self.rows.values().filter(|row| row.dirty).count();
        rows + self.sums.len() + self.takes.len() + self.events.len()
    }

    /// Appends an event when the run commits.
    pub fn emit(&mut self, event: Vec<u8>) {
        self.events.push(event);
    }

    /// A point to roll back to.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint {
            rows: self.rows.clone(),
            sums: self.sums.len(),
            takes: self.takes.len(),
            events: self.events.len(),
            counted: self.counted.len(),
        }
    }

    /// Undoes every write since `savepoint`, except counted tries. Reads stay reads.
    pub fn roll_back(&mut self, savepoint: Savepoint) {
        let read_since: Vec<_> = self
            .base
            .iter()
            .filter(|(key, _)| !savepoint.rows.contains_key(*key))
            .map(|(key, base)| {
                let seen = Seen {
                    current: base.clone(),
                    dirty: false,
                };
                (key.clone(), seen)
            })
            .collect();
        self.rows = savepoint.rows;
        self.rows.extend(read_since);
        self.sums.truncate(savepoint.sums);
        self.takes.truncate(savepoint.takes);
        self.events.truncate(savepoint.events);
        // Earlier tries are in what was restored.
        recount(&mut self.rows, &self.counted[savepoint.counted..]);
    }

    /// What the committer is to judge.
    pub fn into_commit(mut self, ending: Ending) -> Commit {
        if ending == Ending::CountedOnly {
            self.rows = self
                .base
                .drain()
                .map(|(key, current)| {
                    (
                        key,
                        Seen {
                            current,
                            dirty: false,
                        },
                    )
                })
                .collect();
            self.sums.clear();
            self.takes.clear();
            self.events.clear();
            recount(&mut self.rows, &self.counted);
        }
        let writes = self
            .rows
            .into_iter()
            .filter(|(_, row)| row.dirty)
            .map(|(key, row)| Write {
                key,
                body: (!row.current.is_empty()).then_some(Body::Sections(row.current)),
            })
            .collect();
        Commit {
            instant: self.instant,
            reads: self.reads,
            scans: self.scans,
            writes,
            sums: self.sums,
            takes: self.takes,
            events: self.events,
            need: Need::default(),
        }
    }
}

/// Puts counted tries back into rows that have been rolled back. A challenge that was itself rolled
/// back has no tries to count.
fn recount(rows: &mut HashMap<Vec<u8>, Seen>, counted: &[Counted]) {
    for count in counted {
        let Some(row) = rows.get_mut(&count.key) else {
            continue;
        };
        if let Some(after) = row
            .current
            .host
            .as_ref()
            .and_then(|host| (count.recount)(host))
        {
            row.current.host = Some(after);
            row.dirty = true;
        }
    }
}

/// Counts tries whose run cannot be committed in any form, whatever has happened to their rows since.
///
/// # Errors
///
/// When the store fails.
pub async fn settle_counts(
    store: &Arc<dyn Store>,
    instant: UnixMillis,
    counted: &[Counted],
) -> Result<(), StoreError> {
    if counted.is_empty() {
        return Ok(());
    }
    loop {
        let instant = instant.max(store.newest_instant());
        let mut run = Transaction::new(store.clone(), instant, Rulings::default());
        for count in counted {
            match run.count(&count.key, count.recount.clone()).await {
                Ok(()) => {}
                Err(TransactionError::Store(error)) => return Err(error),
                // The challenge has ended, or has been replaced by one that was not tried.
                Err(TransactionError::Misuse(_)) => {}
            }
        }
        match store.commit(run.into_commit(Ending::Commit)).await {
            Ok(_) => return Ok(()),
            Err(CommitError::Store(error)) => return Err(error),
            // Somebody else was at the row; each round somebody gets through.
            Err(_) => {}
        }
    }
}
