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

/// Events from position `from` on, in order: those of at most `rows` stored rows. Empty where there
/// are none yet. No event that becomes visible later has a lower position than one returned here.
///
/// # Errors
///
/// When the store fails.
pub async fn read_events(
    store: &dyn Store,
    from: u64,
    rows: usize,
    now: UnixMillis,
) -> Result<Vec<StoredEvent>, StoreError> {
    // A row is found under its first position, so the one before `from` may hold `from` itself;
    // rows hold at most a group's events.
    let start = key(from.saturating_sub(crate::committer::GROUP_EVENTS_MAX as u64));
    let mut events = Vec::new();
    let mut taken = 0;
    let mut cursor = start;
    while taken < rows {
        let page = store.scan(&cursor, END, 64).await?;
        let Some((last, _)) = page.last() else { break };
        cursor = [last.as_slice(), &[0]].concat();
        for (key, row) in page {
            let row = row?;
            let Body::Events { events: packed, .. } = &row.body else {
                continue;
            };
            let first = key
                .get(PREFIX.len()..)
                .and_then(|position| position.try_into().ok())
                .map(u64::from_be_bytes)
                .ok_or(StoreError::Unreadable { key: "e/".into() })?;
            if row.body.expired(now) || first + packed.len() as u64 <= from {
                continue;
            }
            if taken == rows {
                break;
            }
            taken += 1;
            events.extend(
                packed
                    .iter()
                    .zip(first..)
                    .filter(|(_, position)| *position >= from)
                    .map(|(event, position)| StoredEvent {
                        position,
                        event: event.clone(),
                    }),
            );
        }
    }
    Ok(events)
}

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
