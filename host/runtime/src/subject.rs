//! One call after the other for each subject.
//!
//! Calls about one phone or one user would only make each other stale; in a row each runs once.
//! Nothing depends on this for correctness, so that several processes on one store need no other
//! agreement than the committer's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The rows of callers, by subject.
pub(crate) struct Subjects {
    waiting_max: usize,
    rows: Mutex<HashMap<String, Row>>,
}

struct Row {
    /// One permit; its waiters are served in the order in which they came.
    turn: Arc<Semaphore>,
    /// The caller whose turn it is, and all who wait.
    callers: usize,
}

/// Too many callers wait for their turn.
#[derive(Debug)]
pub(crate) struct TooMany;

/// A caller's place in a row; its turn ends when it is dropped.
pub(crate) struct Turn<'a> {
    place: Place<'a>,
    _permit: Option<OwnedSemaphorePermit>,
}

struct Place<'a> {
    subjects: &'a Subjects,
    subject: String,
}

impl Subjects {
    pub(crate) fn new(waiting_max: usize) -> Subjects {
        Subjects {
            waiting_max,
            rows: Mutex::default(),
        }
    }

    /// Waits for the caller's turn.
    pub(crate) async fn turn(&self, subject: &str) -> Result<Turn<'_>, TooMany> {
        let turn = {
            let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let row = rows.entry(subject.to_owned()).or_insert_with(|| Row {
                turn: Arc::new(Semaphore::new(1)),
                callers: 0,
            });
            if row.callers > self.waiting_max {
                return Err(TooMany);
            }
            row.callers += 1;
            row.turn.clone()
        };
        let place = Place {
            subjects: self,
            subject: subject.to_owned(),
        };
        // The semaphore is never closed.
        let permit = turn.acquire_owned().await.ok();
        Ok(Turn {
            place,
            _permit: permit,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut rows = self
            .subjects
            .rows
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get_mut(&self.subject) {
            row.callers -= 1;
            if row.callers == 0 {
                rows.remove(&self.subject);
            }
        }
    }
}

impl std::fmt::Debug for Turn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Turn").field(&self.place.subject).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn rule_3_calls_about_one_subject_run_one_after_the_other() {
        let subjects = Subjects::new(2);
        let first = subjects.turn("a").await.expect("free");
        let mut second = Box::pin(subjects.turn("a"));
        let mut third = Box::pin(subjects.turn("a"));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(subjects.turn("a").await.is_err(), "two may wait, not three");
        assert!(
            subjects.turn("b").await.is_ok(),
            "another subject is not concerned"
        );
        drop(first);
        assert!(
            third.as_mut().now_or_never().is_none(),
            "first come, first served"
        );
        let second = second.await.expect("its turn");
        drop(second);
        drop(third.await.expect("its turn"));
        assert!(subjects.rows.lock().expect("unlocked").is_empty());
    }
}
