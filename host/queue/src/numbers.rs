//! Which number a message went to, once it is over.
//!
//! What is kept of such a message has a masked number and the keyed hash of it. The number itself rests
//! in a row of its own, sealed, under that hash and the message's id: so all messages of a number lie
//! side by side, the newest first, and who looks at a message does not see its number. Messages that wait
//! and dead letters hold theirs themselves.

use countersign_store::{StoreError, Write};
use countersign_types::{MessageId, Secret, UnixMillis, one_phone};

use crate::dead::DeadRow;
use crate::queue::Queue;
use crate::rows::{self, JOBS, MESSAGES, dead_key, key, number_key};
use crate::{Job, MessageRow};

impl Queue {
    /// What keys call the phone that `e164` reaches.
    pub(crate) fn number_index(&self, e164: &str) -> String {
        self.inner.keyring.phone_index(&one_phone(e164))
    }

    /// The row by which the message `id` to `e164`, whose index is `index`, is found when it is over.
    pub(crate) fn number_row(
        &self,
        index: &str,
        id: MessageId,
        e164: &str,
        until: UnixMillis,
    ) -> Result<Write, StoreError> {
        let row_key = number_key(index, id);
        rows::put(&self.inner.keyring, row_key, &e164, Some(until))
    }

    /// The whole number, in E.164, that the message `id` went or is to go to; `None` where there is no
    /// such message, or its number is no longer kept.
    ///
    /// # Errors
    ///
    /// When the store fails or a row of the message cannot be read.
    pub async fn number_of(
        &self,
        id: MessageId,
        now: UnixMillis,
    ) -> Result<Option<Secret<String>>, StoreError> {
        // In the order in which a message moves, and once more for one that is replayed meanwhile.
        for _ in 0..2 {
            if let Some(job) = self.get::<Job>(&key(JOBS, id), now).await? {
                return Ok(Some(Secret::new(job.value.to)));
            }
            if let Some(row) = self.get::<MessageRow>(&key(MESSAGES, id), now).await? {
                let row_key = number_key(&row.value.number, id);
                let number = self.get::<String>(&row_key, now).await?;
                return Ok(number.map(|number| Secret::new(number.value)));
            }
            if let Some(dead) = self.get::<DeadRow>(&dead_key(id), now).await? {
                return Ok(Some(Secret::new(dead.value.job.to)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use countersign_types::Status;

    use super::*;
    use crate::Finish;
    use crate::testing::{Bench, NOW, SECOND, job, sent};

    const NUMBER: &str = "+12025550123";

    impl Bench {
        async fn number_of(&self, id: MessageId) -> Option<String> {
            let number = self.queue.number_of(id, self.now()).await.expect("read");
            number.map(|number| number.expose().clone())
        }
    }

    #[tokio::test]
    async fn the_number_of_a_message_is_known_wherever_it_is_and_as_long_as_it_is_kept() {
        let bench = Bench::new().await;
        let waiting = bench.add(job()).await;
        assert_eq!(bench.number_of(waiting).await.as_deref(), Some(NUMBER));
        let claim = bench.claim().await;
        assert!(bench.finish(claim, sent(&["SM1"])).await);
        assert_eq!(bench.number_of(waiting).await.as_deref(), Some(NUMBER));
        let dead = bench.dead(job()).await;
        assert_eq!(bench.number_of(dead).await.as_deref(), Some(NUMBER));
        bench.queue.replay(dead, NOW).await.expect("replayed");
        assert_eq!(bench.number_of(dead).await.as_deref(), Some(NUMBER));
        assert_eq!(bench.number_of(MessageId([9; 16])).await, None);
        bench.clock.set(NOW + crate::queue::KEPT);
        assert_eq!(bench.number_of(waiting).await, None);
    }

    #[tokio::test]
    async fn only_the_row_of_the_number_holds_it_and_not_in_plain() {
        let bench = Bench::new().await;
        bench.add(job()).await;
        let claim = bench.claim().await;
        let over = Finish::Over {
            status: Status::Expired,
            attempt: None,
            reason: None,
        };
        assert!(bench.finish(claim, over).await);
        let rows = bench.store.scan(b"", b"\xff", 100).await.expect("read");
        let mut held = Vec::new();
        for (key, row) in rows {
            let stored = format!("{key:?}{row:?}");
            let digits = format!("{:?}", b"2025550123");
            assert!(!stored.contains(digits.trim_matches(['[', ']'])), "{key:?}");
            let Ok(countersign_store::Body::Sections(sections)) = row.map(|row| row.body) else {
                continue;
            };
            let host = sections.host.expect("the host's own");
            let plain = bench.keyring.unseal(&key, &host.value).expect("opened");
            if plain.windows(10).any(|bytes| bytes == b"2025550123") {
                held.push(String::from_utf8_lossy(&key[..2]).into_owned());
            }
        }
        assert_eq!(held, ["n/"]);
        // It is gone with the message, also from the disk.
        let gone = NOW + crate::queue::KEPT + SECOND;
        while !bench.store.sweep(gone).await.expect("swept") {}
        let rows = bench.store.scan(b"m/", b"o", 9).await.expect("read");
        assert!(rows.is_empty(), "{rows:?}");
    }
}
