//! Counting: batches of events into cells and timelines, and where that has come to, in one commit.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::Undecided;
use crate::calendar::{Level, hour};
use crate::cells::{self, Cells, Country};
use crate::early::Early;
use crate::event::{CHANNEL, Change, Event, Standing};
use crate::host::Host;
use crate::timeline::{self, Steps};

/// Where the log has been counted up to: the position of the first event that has not been.
const CURSOR: &str = "cursor";

/// How many rows one call may change. Those of a few hundred messages' oldest hours, in the worst case;
/// of present ones a dozen.
const ROWS_MAX: usize = 256;
/// How many rows one event changes at most.
const ROWS_OF_EVENT: usize = 5;

/// A piece of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where it begins.
    pub from: u64,
    /// Where the next one begins.
    pub next: u64,
    /// What is in between, in order.
    pub events: Vec<Event>,
}

/// Counts a batch; returns where the next one has to begin.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn fold<H: Host>(host: &mut H, batch: &Batch) -> Result<u64, Undecided> {
    let cursor = cursor(host)?;
    if batch.from != cursor || batch.next <= cursor {
        return Ok(cursor);
    }
    let (mut rows, mut early) = (Rows::default(), Early::read(host)?);
    let mut next = batch.next;
    for event in &batch.events {
        if rows.len() + ROWS_OF_EVENT > ROWS_MAX {
            next = event.position;
            break;
        }
        if let Some(mut change) = event.change() {
            early.follow(event, &mut change);
            rows.apply(host, &change)?;
        }
    }
    rows.store(host);
    early.store(host);
    host.put(CURSOR, &next.to_le_bytes());
    Ok(next)
}

/// The position of the first event that has not been counted.
///
/// # Errors
/// [`Undecided::Row`]
pub(crate) fn cursor<H: Host>(host: &mut H) -> Result<u64, Undecided> {
    match host.get(CURSOR).map(TryInto::try_into) {
        None => Ok(1),
        Some(Ok(bytes)) => Ok(u64::from_le_bytes(bytes)),
        Some(Err(_)) => Err(Undecided::Row(CURSOR.into())),
    }
}

/// The rows that a call changes.
#[derive(Default)]
struct Rows {
    cells: BTreeMap<(Level, u8, u32), Cells>,
    steps: BTreeMap<(Level, u32), Steps>,
}

impl Rows {
    fn len(&self) -> usize {
        self.cells.len() + self.steps.len()
    }

    fn apply<H: Host>(&mut self, host: &mut H, change: &Change<'_>) -> Result<(), Undecided> {
        let hour = hour(change.accepted);
        for level in [Level::Hour, Level::Day, Level::Month] {
            let cells = self.cells(host, level, change.country, level.of(hour))?;
            count(cells, change);
        }
        if change.from.map(place) == change.to.map(place) {
            return Ok(());
        }
        for level in [Level::Hour, Level::Day] {
            let (row, step) = timeline::place(level, hour);
            let steps = self.steps(host, level, row)?;
            if let Some(Standing {
                provider, status, ..
            }) = change.from
            {
                let count = steps.count(provider, step);
                count.count = count.count.saturating_sub(1);
                count.delivered = count.delivered.saturating_sub(status.arrived().into());
            }
            if let Some(Standing {
                provider, status, ..
            }) = change.to
            {
                let count = steps.count(provider, step);
                count.count = count.count.saturating_add(1);
                count.delivered = count.delivered.saturating_add(status.arrived().into());
            }
        }
        Ok(())
    }

    fn cells<H: Host>(
        &mut self,
        host: &mut H,
        level: Level,
        country: Country,
        n: u32,
    ) -> Result<&mut Cells, Undecided> {
        let at = (level, country.group(), n);
        let free = match self.cells.entry(at) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(free) => free,
        };
        let key = cells::key(level, country.group(), n);
        let cells = match host.get(&key) {
            None => Cells::default(),
            Some(row) => Cells::decode(&row).ok_or(Undecided::Row(key))?,
        };
        Ok(free.insert(cells))
    }

    fn steps<H: Host>(
        &mut self,
        host: &mut H,
        level: Level,
        n: u32,
    ) -> Result<&mut Steps, Undecided> {
        let free = match self.steps.entry((level, n)) {
            Entry::Occupied(known) => return Ok(known.into_mut()),
            Entry::Vacant(free) => free,
        };
        let key = timeline::key(level, n);
        let steps = match host.get(&key) {
            None => Steps::default(),
            Some(row) => Steps::decode(&row).ok_or(Undecided::Row(key))?,
        };
        Ok(free.insert(steps))
    }

    fn store<H: Host>(mut self, host: &mut H) {
        for ((level, group, n), cells) in &mut self.cells {
            host.put(&cells::key(*level, *group, *n), &cells.encode());
        }
        for ((level, n), steps) in &self.steps {
            host.put(&timeline::key(*level, *n), &steps.encode());
        }
    }
}

/// What a timeline distinguishes.
fn place(standing: Standing<'_>) -> (&str, bool) {
    (standing.provider, standing.status.arrived())
}

/// Moves a message from where it was counted to where it counts now.
pub(crate) fn count(cells: &mut Cells, change: &Change<'_>) {
    let Change {
        country, channel, ..
    } = *change;
    if let Some(from) = change.from {
        let cell = cells.cell(country, channel, from.provider);
        let status = &mut cell.statuses[from.status as usize];
        *status = status.saturating_sub(1);
        if let Some(segments) = from.unpriced {
            cell.unpriced = cell.unpriced.saturating_sub(1);
            cell.unpriced_segments = cell.unpriced_segments.saturating_sub(segments);
        }
        cell.codes = cell.codes.saturating_sub(change.code.into());
    }
    if let Some(to) = change.to {
        let cell = cells.cell(country, channel, to.provider);
        let status = &mut cell.statuses[to.status as usize];
        *status = status.saturating_add(1);
        if let Some(segments) = to.unpriced {
            cell.unpriced = cell.unpriced.saturating_add(1);
            cell.unpriced_segments = cell.unpriced_segments.saturating_add(segments);
        }
        if let Some((currency, amount)) = change.paid {
            cell.pay(currency, amount);
        }
        cell.codes = cell.codes.saturating_add(change.code.into());
        change
            .queue
            .into_iter()
            .for_each(|span| cell.queue.record(span));
        change
            .delivery
            .into_iter()
            .for_each(|span| cell.delivery.record(span));
        if change.carried > 0 {
            // As what they were counted: who accepts a code says nothing of a channel.
            let nobodys = &mut cells.cell(country, CHANNEL, "").verified;
            *nobodys = nobodys.saturating_sub(change.carried);
            let carriers = &mut cells.cell(country, CHANNEL, to.provider).verified;
            *carriers = carriers.saturating_add(change.carried);
        }
    }
    if let Some((provider, times)) = change.verified {
        let cell = cells.cell(country, channel, provider);
        cell.verified = cell.verified.saturating_add(times);
    }
}
