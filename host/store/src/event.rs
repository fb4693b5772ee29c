//! The log of events: packed rows, mostly one for each group of commits.

use countersign_types::UnixMillis;

use crate::{Body, Store, StoreError};

/// Where events lie.
pub(crate) const PREFIX: &[u8] = b"e/";
const END: &[u8] = b"e0";

/// One event with the position that the committer gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// Counts from 1 without gaps, in commit order.
    pub position: u64,
    /// What the emitter wrote.
    pub event: Vec<u8>,
}

pub(crate) fn key(first_position: u64) -> Vec<u8> {
    [PREFIX, &first_position.to_be_bytes()].concat()
}

/// How many bytes of events one row holds, beyond its first event. sled writes the leaf of a row
/// anew with the row, so small rows are cheap ones.
const ROW_EVENT_BYTES: usize = 16 * 1024;

/// The events of a group as the rows that hold them, in order.
pub(crate) fn packed(events: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let mut rows: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        bytes += event.len();
        match rows.last_mut() {
            Some(row) if bytes <= ROW_EVENT_BYTES => row.push(event),
            _ => {
                bytes = event.len();
                rows.push(vec![event]);
            }
        }
    }
    rows
}

/// At most `limit` events from position `from` on, in order. Empty where there are none yet. No event
/// that becomes visible later has a lower position than one returned here. A row that cannot be read is
/// told in the log and passed by: its positions are missing then.
///
/// # Errors
///
/// When the store fails.
pub async fn read_events(
    store: &dyn Store,
    from: u64,
    limit: usize,
    now: UnixMillis,
) -> Result<Vec<StoredEvent>, StoreError> {
    let mut cursor = key(from);
    // A row is found under its first position, and who has read whole rows goes on at one. Otherwise the
    // row that holds `from` begins before it; rows hold at most a group's events.
    if !matches!(store.get(&cursor).await, Ok(Some(_))) {
        cursor = key(from.saturating_sub(crate::committer::GROUP_EVENTS_MAX as u64));
    }
    let mut events = Vec::new();
    while events.len() < limit {
        let page = store.scan(&cursor, END, PAGE_ROWS).await?;
        let Some((last, _)) = page.last() else { break };
        cursor = [last.as_slice(), &[0]].concat();
        for (key, row) in page {
            let first = key
                .get(PREFIX.len()..)
                .and_then(|position| position.try_into().ok())
                .map(u64::from_be_bytes);
            let (Some(first), Ok(row)) = (first, row) else {
                tracing::error!(?first, "a row of events cannot be read and is passed by");
                continue;
            };
            let Body::Events { events: packed, .. } = &row.body else {
                continue;
            };
            if row.body.expired(now) || first + packed.len() as u64 <= from {
                continue;
            }
            let found = packed.iter().zip(first..);
            let found = found.filter(|(_, position)| *position >= from);
            let room = limit - events.len();
            events.extend(found.take(room).map(|(event, position)| StoredEvent {
                position,
                event: event.clone(),
            }));
            if events.len() == limit {
                break;
            }
        }
    }
    Ok(events)
}

/// How many rows are looked at in one step.
const PAGE_ROWS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_packed_into_rows_in_order_up_to_the_bound() {
        let event = |byte: u8, bytes: usize| vec![byte; bytes];
        let half = ROW_EVENT_BYTES / 2;
        let rows = packed(vec![
            event(1, half),
            event(2, half),
            event(3, 1),
            event(4, ROW_EVENT_BYTES + 1),
            event(5, 1),
        ]);
        let shape: Vec<Vec<u8>> = rows
            .iter()
            .map(|row| row.iter().map(|event| event[0]).collect())
            .collect();
        assert_eq!(shape, [vec![1, 2], vec![3], vec![4], vec![5]]);
        assert!(packed(Vec::new()).is_empty());
    }
}
