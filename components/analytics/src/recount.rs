//! Counting an hour anew, from its messages as they stand: beside what has been counted of it, and in its
//! place when all of them are there.
//!
//! Days and months are then made of their hours and days again, so that they say the same.

use std::collections::BTreeMap;

use crate::Undecided;
use crate::calendar::{DAY, HOUR, Level, first_day, hour, month};
use crate::cells::{self, Cells, GROUPS, Status};
use crate::event::Event;
use crate::fold;
use crate::host::{Host, Instant};
use crate::timeline::{self, Count, Steps};

/// The hour that is counted anew.
const ANEW: &str = "anew/hour";

/// Messages of an hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its first instant.
    pub hour: Instant,
    /// Whether no part of it has come before.
    pub first: bool,
    /// The messages.
    pub events: Vec<Event>,
}

/// What became of an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Nothing: events were counted meanwhile.
    Moved,
    /// It had been counted so before.
    Same,
    /// It is counted otherwise now.
    Changed,
}

/// Counts a part of an hour's messages anew.
///
/// # Errors
/// [`Undecided`]: nothing is written.
pub fn recount<H: Host>(host: &mut H, part: &Part) -> Result<(), Undecided> {
    if !part.hour.is_multiple_of(HOUR) {
        return Err(Undecided::Call("an hour is named by its first instant"));
    }
    if part.first {
        (0..GROUPS).for_each(|group| host.delete(&anew(group)));
        host.put(ANEW, &part.hour.to_le_bytes());
    } else if host.get(ANEW) != Some(part.hour.to_le_bytes().to_vec()) {
        return Err(Undecided::Call("an hour begins with its first part"));
    }
    let mut groups: BTreeMap<u8, Cells> = BTreeMap::new();
    for event in &part.events {
        let Some(change) = event.change() else {
            continue;
        };
        if hour(change.accepted) != hour(part.hour) {
            return Err(Undecided::Call("a message of another hour"));
        }
        let group = change.country.group();
        let cells = match groups.entry(group) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => {
                // What was just deleted reads as nothing.
                free.insert(read(host, &anew(group))?)
            }
        };
        fold::count(cells, &change);
    }
    for (group, mut cells) in groups {
        host.put(&anew(group), &cells.encode());
    }
    Ok(())
}

/// Puts what was counted anew in the place of what was counted of the hour before.
///
/// # Errors
/// [`Undecided`]: nothing is written.
pub fn replace<H: Host>(host: &mut H, at: Instant, cursor: u64) -> Result<Replaced, Undecided> {
    if host.get(ANEW) != Some(at.to_le_bytes().to_vec()) {
        return Err(Undecided::Call("this hour was not counted anew"));
    }
    if fold::cursor(host)? != cursor {
        return Ok(Replaced::Moved);
    }
    let hour = hour(at);
    let (day, month) = (hour / DAY, month(hour / DAY));
    let mut is_changed = false;
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for group in 0..GROUPS {
        let mut cells = read(host, &anew(group))?;
        host.delete(&anew(group));
        add_counts(&mut counts, &cells);
        is_changed |= put(host, &cells::key(Level::Hour, group, hour), &mut cells)?;
        let hours = day * DAY..(day + 1) * DAY;
        is_changed |= sum_up(host, group, (Level::Hour, hours), (Level::Day, day))?;
        let days = first_day(month)..first_day(month + 1);
        is_changed |= sum_up(host, group, (Level::Day, days), (Level::Month, month))?;
    }
    host.delete(ANEW);
    is_changed |= replace_steps(host, hour, &counts)?;
    Ok(match is_changed {
        true => Replaced::Changed,
        false => Replaced::Same,
    })
}

/// Lets the cells of a day or a month be the sum of its hours or days; whether that changes anything.
fn sum_up<H: Host>(
    host: &mut H,
    group: u8,
    (part, range): (Level, std::ops::Range<u32>),
    (whole, n): (Level, u32),
) -> Result<bool, Undecided> {
    let key = |n| cells::key(part, group, n);
    let mut sum = Cells::default();
    for (key, row) in host.scan(&key(range.start), &key(range.end)) {
        sum.add(&Cells::decode(&row).ok_or(Undecided::Row(key))?);
    }
    put(host, &cells::key(whole, group, n), &mut sum)
}

/// Writes cells where they say something else than the row that is there; whether they do.
fn put<H: Host>(host: &mut H, key: &str, cells: &mut Cells) -> Result<bool, Undecided> {
    let row = host.get(key);
    let is_same = match row.as_deref() {
        None => Cells::default().says_as(cells),
        // One that cannot be read is no longer needed.
        Some(row) => Cells::decode(row).is_some_and(|before| before.says_as(cells)),
    };
    if !is_same {
        host.put(key, &cells.encode());
    }
    Ok(!is_same)
}

fn add_counts(counts: &mut BTreeMap<String, Count>, cells: &Cells) {
    for (place, cell) in cells.all() {
        let provider = cells.names().get(usize::from(place.provider));
        let provider = provider.map_or("", String::as_str);
        let count = counts.entry(provider.to_owned()).or_default();
        for status in Status::ALL {
            let more = cell.statuses[status as usize];
            count.count = count.count.saturating_add(more);
            if status.arrived() {
                count.delivered = count.delivered.saturating_add(more);
            }
        }
    }
    counts.retain(|_, count| *count != Count::default());
}

fn replace_steps<H: Host>(
    host: &mut H,
    hour: u32,
    counts: &BTreeMap<String, Count>,
) -> Result<bool, Undecided> {
    let counts: BTreeMap<&str, Count> = counts
        .iter()
        .map(|(provider, count)| (provider.as_str(), *count))
        .collect();
    let mut hours = Steps::default();
    let of_hours = put_steps(host, Level::Hour, hour, &counts, &mut hours)?;
    let of_days = put_steps(host, Level::Day, hour, &hours.sums(), &mut Steps::default())?;
    Ok(of_hours || of_days)
}

/// Puts counts in the place of a step; whether that changes anything. `now` is what the row holds then.
fn put_steps<H: Host>(
    host: &mut H,
    level: Level,
    hour: u32,
    counts: &BTreeMap<&str, Count>,
    now: &mut Steps,
) -> Result<bool, Undecided> {
    let (row, step) = timeline::place(level, hour);
    let key = timeline::key(level, row);
    let before = match host.get(&key) {
        None => Steps::default(),
        Some(row) => Steps::decode(&row).ok_or_else(|| Undecided::Row(key.clone()))?,
    };
    now.clone_from(&before);
    now.replace(step, counts);
    let is_same = now.says_as(&before);
    if !is_same {
        host.put(&key, &now.encode());
    }
    Ok(!is_same)
}

fn read<H: Host>(host: &mut H, key: &str) -> Result<Cells, Undecided> {
    match host.get(key) {
        None => Ok(Cells::default()),
        Some(row) => Cells::decode(&row).ok_or_else(|| Undecided::Row(key.to_owned())),
    }
}

/// The cells that are being counted anew.
fn anew(group: u8) -> String {
    format!("anew/{group}")
}
