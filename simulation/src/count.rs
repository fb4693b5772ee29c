//! What was counted of messages: in the end each of them once, as what it has become.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_runtime::figures::{Interval, Query};
use countersign_runtime::{CallError, Runtime};
use countersign_store::StoredEvent;
use countersign_types::Event;

use crate::oracle::Oracle;

const HOUR: u64 = Duration::from_secs(3_600).as_millis() as u64;

/// How often others may be faster.
const BUSY_MAX: u32 = 20;

/// Counts what is left of the log, and compares the figures with the model's messages.
///
/// # Errors
///
/// What is wrong.
pub(crate) async fn check(
    runtime: &Runtime,
    oracle: &Oracle,
    events: &[StoredEvent],
) -> Result<(), String> {
    let (mut next, mut busy) = (None, 0);
    let folded = loop {
        match runtime.fold(next).await {
            Ok(some) if some.more => next = Some(some.next),
            Ok(all) => break all,
            // Another host may be counting as well; who counts for good tries again, too.
            Err(CallError::Busy { .. }) if busy < BUSY_MAX => busy += 1,
            Err(error) => return Err(error.to_string()),
        }
    };
    if folded.next != events.len() as u64 + 1 {
        return Err(format!("counted up to {folded:?} of {}", events.len()));
    }
    let read = |stored: &StoredEvent| postcard::from_bytes::<Event>(&stored.event).ok();
    let events: Vec<Event> = events.iter().filter_map(read).collect();
    let accepted = events
        .iter()
        .filter_map(|event| Some(event.message?.time()));
    let times = accepted.chain(events.iter().map(|event| event.at));
    let hours: Vec<u64> = times.map(|at| at.0 / HOUR).collect();
    let (Some(first), Some(last)) = (hours.iter().min(), hours.iter().max()) else {
        return Ok(());
    };
    let query = Query {
        start: first * HOUR,
        end: (last + 1) * HOUR,
        interval: Interval::Month,
        country: None,
        provider: None,
    };
    let report = runtime.dashboard(&query).await;
    let report = report.map_err(|error| error.to_string())?;
    let found = report.by_status.into_iter();
    let found: BTreeMap<_, _> = found.map(|of| (of.status, of.count)).collect();
    let want = oracle.by_status();
    let is_verified = |event: &&Event| event.kind == "verification.approved";
    let verified = events.iter().filter(is_verified).count() as u64;
    let counted = (report.count, report.conversion.verified);
    if found != want || counted != (want.values().sum::<u64>(), verified) {
        return Err(format!(
            "{found:?}, {counted:?} are counted; {want:?}, {verified} accepted codes"
        ));
    }
    Ok(())
}
