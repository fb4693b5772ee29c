//! Which formats of rows there are, and whether a version can read them.
//!
//! Every row of a service carries its state version. A record has the versions of which there may be
//! rows; that there are none any more is found by looking, when it matters.

use std::sync::Arc;
use std::time::Duration;

use countersign_store::{Body, Store, StoreError};
use countersign_types::UnixMillis;

use super::error::InstallError;
use super::ready::States;
use crate::Runtime;

/// Rows looked at between two turns of others.
const PAGE: usize = 256;
/// How long calls of a version that was replaced are waited for.
const CALLS_END: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// `states` and `one` more, where it is a state version at all.
pub(super) fn with(states: &[u32], one: u32) -> Vec<u32> {
    let mut states = states.to_vec();
    if one != 0 && !states.contains(&one) {
        states.push(one);
    }
    states.sort_unstable();
    states
}

/// The state versions `there` of which there are still rows of `component`, where a version with
/// `states` can read them all. What it can read is not looked for.
///
/// # Errors
///
/// [`InstallError::State`] where there are rows that it cannot read, or a call may still write some.
pub(super) async fn left(
    store: &Arc<dyn Store>,
    runtime: &Runtime,
    component: &str,
    there: &[u32],
    states: &States,
    now: UnixMillis,
) -> Result<Vec<u32>, InstallError> {
    let refused = |state| InstallError::State {
        state,
        reads: states.reads.clone(),
    };
    let live = States::of_live(&runtime.live.now(), component);
    if !states.can_read(live.writes) && live.writes != 0 {
        return Err(refused(live.writes));
    }
    let unread: Vec<u32> = there
        .iter()
        .copied()
        .filter(|state| !states.can_read(*state))
        .collect();
    if unread.is_empty() {
        return Ok(there.to_vec());
    }
    // Nothing could go back to a version that writes these.
    runtime.end_trial(component);
    let written = async {
        while still_written(runtime, component, &unread).is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(CALLS_END, written).await.is_err()
        && let Some(state) = still_written(runtime, component, &unread)
    {
        return Err(refused(state));
    }
    match find(store, component, &unread, now).await? {
        Some(state) => Err(refused(state)),
        None => Ok(there
            .iter()
            .copied()
            .filter(|state| !unread.contains(state))
            .collect()),
    }
}

/// One of `states` that a call may still write.
fn still_written(runtime: &Runtime, component: &str, states: &[u32]) -> Option<u32> {
    let written = runtime.live.still_written(component);
    written.into_iter().find(|state| states.contains(state))
}

/// One of `states` of which there is a row that can be seen at `now`.
async fn find(
    store: &Arc<dyn Store>,
    component: &str,
    states: &[u32],
    now: UnixMillis,
) -> Result<Option<u32>, StoreError> {
    let mut from = format!("c/{component}/").into_bytes();
    let to = format!("c/{component}0").into_bytes();
    loop {
        let page = store.scan(&from, &to, PAGE).await?;
        let Some((last, _)) = page.last() else {
            return Ok(None);
        };
        from = [last.as_slice(), &[0]].concat();
        for (_, row) in page {
            let Body::Sections(sections) = row?.body else {
                continue;
            };
            if let Some(service) = sections.service.filter(|section| section.live(now))
                && states.contains(&service.state)
            {
                return Ok(Some(service.state));
            }
        }
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_adds_no_state_and_no_state_is_there_twice() {
        assert_eq!(with(&[2, 1], 0), [1, 2]);
        assert_eq!(with(&[1, 2], 2), [1, 2]);
        assert_eq!(with(&[2], 1), [1, 2]);
    }
}
