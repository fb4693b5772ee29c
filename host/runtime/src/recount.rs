//! Counting hours anew: from the rows of their messages as they stand, and from the log for what rows do
//! not say, which is whose codes were accepted.
//!
//! It goes on beside everything else. An hour is replaced only when each message that the log tells to
//! have been accepted in it still has its row, and only as it was at one moment: between where the log
//! had been counted when its rows began to be read, and where it ends when it is replaced, no event may be
//! about one of its messages. Otherwise it is read again, a few times, and then left as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use countersign_queue::StandingCursor;
use countersign_store::{StoreError, read_events};
use countersign_types::{Event, MessageId, UnixMillis};

use crate::Runtime;
use crate::analytics::{context, fitting, wit};
use crate::call::CallError;

const HOUR: Duration = Duration::from_secs(3_600);
/// How far from the order of the log the times of its events may be: as far as clocks are set.
const SLACK: Duration = Duration::from_secs(24 * 3_600);
/// How many events are read in one step.
const SCANNED_AT_ONCE: usize = 4_096;
/// How many messages are read in one step.
const ROWS_AT_ONCE: usize = 1_024;
/// How many batches are counted before an hour is begun.
const BATCHES_MAX: usize = 256;
/// How often an hour is read again whose messages went on meanwhile.
const TRIES: u32 = 4;

/// Hours that are being counted anew, one after the other.
pub struct Recount {
    runtime: Runtime,
    /// The first event that has not been looked at.
    next: u64,
    /// Where the log ended when it began, and where it began to be looked at.
    log: (u64, u64),
    told: BTreeMap<u32, Told>,
    /// The oldest hour that something is still to be known of.
    oldest: u32,
    /// The next hour, and the one after the last.
    hours: (u32, u32),
    all: u64,
    at: Option<AtHour>,
    done: Recounted,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recounted {
    /// How many events of the log have been looked at, and how many there were.
    pub events: (u64, u64),
    /// How many hours have been dealt with, and how many there are.
    pub hours: (u64, u64),
    /// How many of them are counted as they were before.
    pub same: u64,
    /// Those that are counted otherwise now.
    pub changed: Vec<UnixMillis>,
    /// How many were left as they are, since not all of their messages are kept.
    pub incomplete: u64,
    /// Those that were left as they are, since their messages went on all the time.
    pub busy: Vec<UnixMillis>,
    /// Whether all is done.
    pub is_over: bool,
}

/// What the log tells of the messages that were accepted in an hour.
#[derive(Debug, Default)]
struct Told {
    accepted: u64,
    /// Codes accepted, by country and provider.
    verified: BTreeMap<(Option<String>, Option<String>), u64>,
    /// The newest event about one of them.
    newest: u64,
}

/// The hour that is being counted.
struct AtHour {
    hour: u32,
    tries: u32,
    stage: Stage,
}

/// How far an hour has come.
enum Stage {
    /// Nothing has been read.
    Begin,
    /// Its messages are being read. All events before `since` were counted when that began.
    Rows {
        since: u64,
        cursor: Option<StandingCursor>,
        found: u64,
        is_first: bool,
    },
    /// All have been.
    End { since: u64, found: u64 },
}

impl Runtime {
    /// Begins to count anew: all hours since the oldest message that is kept. Nothing is changed yet.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn recount(&self) -> Result<Recount, CallError> {
        let host = self.host();
        let now = host.instants.now();
        let end = self.fold(None).await?.next;
        let oldest = host.queue.oldest(HOUR).await?;
        let hours = oldest.map_or((0, 0), |oldest| (hour(oldest), hour(now) + 1));
        let begin = match oldest {
            Some(oldest) => self.first_event(oldest, end, now).await?,
            None => end,
        };
        let all = u64::from(hours.1.saturating_sub(hours.0));
        Ok(Recount {
            runtime: self.clone(),
            next: begin,
            log: (begin, end),
            told: BTreeMap::new(),
            oldest: hours.0,
            hours,
            all,
            at: None,
            done: Recounted::default(),
        })
    }

    /// An event before which there is none about a message that was accepted at `oldest` or later.
    async fn first_event(
        &self,
        oldest: UnixMillis,
        end: u64,
        now: UnixMillis,
    ) -> Result<u64, StoreError> {
        let (mut low, mut high) = (1, end);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = read_events(&*self.host().store, middle, 1, now).await?;
            let is_before = found.first().is_some_and(|stored| {
                let event = postcard::from_bytes::<Event>(&stored.event);
                event.is_ok_and(|event| event.at + SLACK < oldest)
            });
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

impl Recount {
    /// How far it has come.
    pub fn progress(&self) -> Recounted {
        let (begin, end) = self.log;
        let looked_at = self.next.min(end).saturating_sub(begin);
        let left = u64::from(self.hours.1.saturating_sub(self.hours.0));
        let left = left + u64::from(self.at.is_some());
        Recounted {
            events: (looked_at, end.saturating_sub(begin)),
            hours: (self.all.saturating_sub(left), self.all),
            ..self.done.clone()
        }
    }

    /// Goes on by a step of a few milliseconds.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. The hours that are done are done; it can go on later, or begin anew.
    pub async fn advance(&mut self) -> Result<(), CallError> {
        if self.next < self.log.1 {
            self.look_at_log().await?;
            return Ok(());
        }
        let at = match self.at.take() {
            Some(at) => at,
            None if self.hours.0 < self.hours.1 => {
                self.oldest = self.hours.0;
                self.told = self.told.split_off(&self.oldest);
                self.hours.0 += 1;
                AtHour {
                    hour: self.oldest,
                    tries: 0,
                    stage: Stage::Begin,
                }
            }
            None => {
                self.done.is_over = true;
                return Ok(());
            }
        };
        self.at = self.step(at).await?;
        Ok(())
    }

    /// A step of an hour; `None`: it is dealt with.
    async fn step(&mut self, mut at: AtHour) -> Result<Option<AtHour>, CallError> {
        at.stage = match at.stage {
            Stage::Begin if at.tries >= TRIES => {
                self.done.busy.push(instant(at.hour));
                return Ok(None);
            }
            Stage::Begin => {
                at.tries += 1;
                Stage::Rows {
                    since: self.fold_to_end().await?,
                    cursor: None,
                    found: 0,
                    is_first: true,
                }
            }
            Stage::Rows {
                since,
                cursor,
                found,
                is_first,
            } => {
                let (next, more) = self.count_rows(at.hour, cursor, is_first).await?;
                let found = found + more;
                match next {
                    None => Stage::End { since, found },
                    cursor => Stage::Rows {
                        since,
                        cursor,
                        found,
                        is_first: false,
                    },
                }
            }
            Stage::End { since, found } => return self.finish(at, since, found).await,
        };
        Ok(Some(at))
    }

    /// Counts what is not counted yet; returns where the log has been counted up to.
    async fn fold_to_end(&self) -> Result<u64, CallError> {
        let mut folded = self.runtime.fold(None).await?;
        // Where events come faster than they are counted there is no end.
        for _ in 0..BATCHES_MAX {
            if !folded.more {
                break;
            }
            folded = self.runtime.fold(Some(folded.next)).await?;
        }
        Ok(folded.next)
    }

    /// Hands over a page of the hour's messages; returns where the next one begins, and how many there were.
    async fn count_rows(
        &self,
        hour: u32,
        cursor: Option<StandingCursor>,
        is_first: bool,
    ) -> Result<(Option<StandingCursor>, u64), CallError> {
        let host = self.runtime.host();
        let now = host.instants.now();
        let span = (instant(hour), instant(hour) + HOUR);
        let queue = &host.queue;
        let page = queue.standing(span, cursor, ROWS_AT_ONCE, now).await?;
        let count = page.messages.len() as u64;
        let messages = page.messages.into_iter();
        let events = messages.map(|event| wit_event(0, event)).collect();
        self.hand_over(hour, events, is_first).await?;
        Ok((page.next, count))
    }

    async fn finish(
        &mut self,
        at: AtHour,
        since: u64,
        found: u64,
    ) -> Result<Option<AtHour>, CallError> {
        while self.look_at_log().await? {}
        let told = self.told.entry(at.hour).or_default();
        if told.newest >= since {
            let stage = Stage::Begin;
            return Ok(Some(AtHour { stage, ..at }));
        }
        if told.accepted != found {
            self.done.incomplete += 1;
            return Ok(None);
        }
        let verified = told.verified.iter();
        let verified = verified.map(|(of, times)| verified_event(at.hour, of, *times));
        let verified: Vec<_> = verified.collect();
        if !verified.is_empty() {
            self.hand_over(at.hour, verified, false).await?;
        }
        loop {
            let cursor = self.runtime.fold(None).await?.next;
            while self.next < cursor && self.look_at_log().await? {}
            let newest = self.told.get(&at.hour).map_or(0, |told| told.newest);
            if newest >= since {
                let stage = Stage::Begin;
                return Ok(Some(AtHour { stage, ..at }));
            }
            match self.replace(at.hour, cursor).await? {
                wit::Replaced::Moved => continue,
                wit::Replaced::Same => self.done.same += 1,
                wit::Replaced::Changed => self.done.changed.push(instant(at.hour)),
            }
            return Ok(None);
        }
    }

    async fn hand_over(
        &self,
        hour: u32,
        events: Vec<wit::Event>,
        mut is_first: bool,
    ) -> Result<(), CallError> {
        let mut rest = events.as_slice();
        while is_first || !rest.is_empty() {
            let (some, left) = rest.split_at(fitting(rest));
            let part = Arc::new(wit::Part {
                hour: instant(hour).0,
                first: is_first,
                events: some.to_vec(),
            });
            let context = context();
            let analytics = self.runtime.analytics("recount");
            let called = self.runtime.call(
                &analytics,
                "recount",
                &context,
                "recount",
                |exports, store, context| {
                    let part = part.clone();
                    Box::pin(async move {
                        let guest = exports.countersign_service_analytics();
                        guest.call_recount(store, &context, &part).await
                    })
                },
            );
            called.await?;
            (rest, is_first) = (left, false);
        }
        Ok(())
    }

    async fn replace(&self, hour: u32, cursor: u64) -> Result<wit::Replaced, CallError> {
        let hour = instant(hour).0;
        let context = context();
        let analytics = self.runtime.analytics("recount");
        let called = self.runtime.call(
            &analytics,
            "replace",
            &context,
            "replace",
            |exports, store, context| {
                Box::pin(async move {
                    let guest = exports.countersign_service_analytics();
                    guest.call_replace(store, &context, hour, cursor).await
                })
            },
        );
        called.await
    }

    /// Looks at the next events of the log; whether there were any.
    async fn look_at_log(&mut self) -> Result<bool, CallError> {
        let host = self.runtime.host();
        let now = host.instants.now();
        let stored = read_events(&*host.store, self.next, SCANNED_AT_ONCE, now).await?;
        let Some(last) = stored.last() else {
            // What is missing at its end has been damaged.
            self.next = self.next.max(self.log.1);
            return Ok(false);
        };
        let next = last.position + 1;
        for stored in stored {
            // One that cannot be read is not counted either.
            if let Ok(event) = postcard::from_bytes::<Event>(&stored.event) {
                self.note(stored.position, event, now).await?;
            }
        }
        self.next = next;
        Ok(true)
    }

    async fn note(
        &mut self,
        position: u64,
        event: Event,
        now: UnixMillis,
    ) -> Result<(), CallError> {
        let is_verified = event.kind == "verification.approved" && event.source == "otp";
        // What names no message counts when it happened.
        let of = match event.message {
            Some(id) => hour(id.time()),
            None if is_verified => hour(event.at),
            None => return Ok(()),
        };
        if of < self.oldest {
            return Ok(());
        }
        let provider = match event.message {
            Some(id) if is_verified => self.runtime.carrier(id, now).await?,
            _ => None,
        };
        let told = self.told.entry(of).or_default();
        told.newest = position;
        let is_accepted = event.kind == "message.accepted" && event.source == "host";
        told.accepted += u64::from(is_accepted);
        if is_verified {
            *told.verified.entry((event.country, provider)).or_default() += 1;
        }
        Ok(())
    }
}

/// An event as the component is told of it.
pub(crate) fn wit_event(position: u64, event: Event) -> wit::Event {
    wit::Event {
        position,
        kind: event.kind,
        at: event.at.0,
        service: event.service,
        source: event.source,
        message: event.message.map(MessageId::halves),
        accepted: event.message.map(|id| id.time().0),
        country: event.country,
        attributes: event.attributes,
    }
}

/// So many accepted codes of messages of an hour, as one event.
fn verified_event(
    hour: u32,
    (country, provider): &(Option<String>, Option<String>),
    times: u64,
) -> wit::Event {
    let mut attributes = vec![("times".to_owned(), times.to_string())];
    attributes.extend(provider.clone().map(|name| ("provider".to_owned(), name)));
    wit::Event {
        position: 0,
        kind: "verification.approved".to_owned(),
        at: instant(hour).0,
        service: "default".to_owned(),
        source: "otp".to_owned(),
        message: None,
        accepted: Some(instant(hour).0),
        country: country.clone(),
        attributes,
    }
}

/// The hour of an instant, counted from 1970.
fn hour(at: UnixMillis) -> u32 {
    u32::try_from(at.0 / HOUR.as_millis() as u64).unwrap_or(u32::MAX)
}

/// The first instant of an hour.
fn instant(hour: u32) -> UnixMillis {
    UnixMillis(u64::from(hour) * HOUR.as_millis() as u64)
}
