//! What people do with messages: find them, look at a whole number, erase all that is kept of one, and take
//! back that one has answered STOP.
//!
//! No component is asked. Whoever sees a whole number, looks for one, or erases one, is in the audit trail:
//! who may try numbers until a masked one is found has seen it.

use std::time::Duration;

use countersign_queue::{Erased, ReceiveError, Search, SearchPage, Stop};
use countersign_types::{MessageId, PhoneNumber, Secret, UnixMillis};

use crate::Runtime;
use crate::audit::Step;
use crate::call::{CallContext, CallError, busy};
use crate::once::Once;
use crate::phone;

/// How many numbers are erased at once. Each looks at all messages that wait, on the threads that answer.
pub(crate) const ERASINGS_MAX: usize = 2;

/// Which messages are looked for.
#[derive(Clone, Debug)]
pub struct MessageSearch {
    /// The receiver; `None`: any.
    pub number: Option<PhoneNumber>,
    /// Accepted at or after.
    pub from: UnixMillis,
    /// Accepted before.
    pub to: UnixMillis,
    /// Older than this one: the `next` of the page before.
    pub after: Option<MessageId>,
    /// At most so many.
    pub limit: usize,
}

/// What was to be seen of a message that people mostly see masked.
#[derive(Clone, Debug)]
pub enum Revealed {
    /// The receiver in E.164.
    Number(Secret<String>),
    /// There is no such message, or its number is no longer kept.
    Absent,
}

impl Runtime {
    /// Messages wherever they are, the newest first, with masked numbers. Returns when what is told of
    /// them is durable, and, where they were looked for by a number, by whom and in which way: `by_way`,
    /// a word.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. What cannot be read is passed by.
    pub async fn find_messages(
        &self,
        context: &CallContext,
        search: &MessageSearch,
        by_way: &str,
    ) -> Result<SearchPage, CallError> {
        let host = self.host();
        let wanted = Search {
            number: search.number.as_ref().map(|number| number.e164.as_str()),
            from: search.from,
            to: search.to,
            after: search.after,
            limit: search.limit,
        };
        let page = host.queue.search(wanted, host.instants.now()).await?;
        let Some(number) = &search.number else {
            host.store.settle().await?;
            return Ok(page);
        };
        let attributes = vec![
            ("phone".to_owned(), phone::index(&host.keyring, number)),
            ("way".to_owned(), by_way.to_owned()),
            ("found".to_owned(), page.messages.len().to_string()),
        ];
        let facts = ("number.searched", attributes);
        self.record_of_messages(context, facts, &Step::Whole(&()), None)
            .await?;
        Ok(page)
    }

    /// The whole number of a message's receiver. Returns when it is durable that it was looked at, by
    /// whom and in which way: `by_way`, a word.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn reveal_number(
        &self,
        context: &CallContext,
        id: MessageId,
        by_way: &str,
        once: Option<Once<'_, Revealed>>,
    ) -> Result<(Revealed, UnixMillis), CallError> {
        let host = self.host();
        let now = host.instants.now();
        let Some(number) = host.queue.number_of(id, now).await? else {
            return Ok((Revealed::Absent, now));
        };
        let attributes = vec![
            ("message".to_owned(), id.to_string()),
            ("way".to_owned(), by_way.to_owned()),
        ];
        let revealed = Revealed::Number(number);
        let facts = ("number.revealed", attributes);
        let step = Step::Whole(&revealed);
        let recorded = self.record_of_messages(context, facts, &step, once.as_ref());
        let at = recorded.await?;
        Ok((revealed, at))
    }

    /// Erases what is kept of messages to `number`; the sums that were made of them stay, and so do the
    /// limits of the number, which hold its keyed hash and run out by themselves. Returns when that and
    /// its record are durable. To be called again while [`Erased::is_all`] says that something is left.
    ///
    /// That it begins is durable before anything is erased, so that none is without a trace, whatever comes
    /// in between. Two go on at once at most.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. Part of it may be erased then; to be called again.
    pub async fn erase_phone(
        &self,
        context: &CallContext,
        number: &PhoneNumber,
        once: Option<Once<'_, Erased>>,
    ) -> Result<(Erased, UnixMillis), CallError> {
        let host = self.host();
        let Ok(_place) = host.erasings.try_acquire() else {
            return Err(CallError::Erasing {
                retry_after: Duration::from_secs(1),
            });
        };
        let phone = ("phone".to_owned(), phone::index(&host.keyring, number));
        let facts = ("number.erasing", vec![phone.clone()]);
        self.record_of_messages(context, facts, &Step::Begins, once.as_ref())
            .await?;
        // Not before the newest commit, whose rows are to go as well.
        let now = host.instants.now();
        let erased = host.queue.erase_number(&number.e164, now).await?;
        let count = |name: &str, number: usize| (name.to_owned(), number.to_string());
        let attributes = vec![
            phone,
            count("messages", erased.messages),
            count("dead", erased.dead),
            count("waiting", erased.waiting),
            ("complete".to_owned(), erased.is_all().to_string()),
        ];
        let facts = ("number.erased", attributes);
        let step = Step::Ends(&erased);
        let recorded = self.record_of_messages(context, facts, &step, once.as_ref());
        let at = recorded.await?;
        Ok((erased, at))
    }

    /// What `number` has answered STOP to; `None` where that cannot be read. Returns when it is durable who
    /// has asked, and in which way: `by_way`, a word.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn stops_of(
        &self,
        context: &CallContext,
        number: &PhoneNumber,
        by_way: &str,
    ) -> Result<Option<Vec<Stop>>, CallError> {
        let host = self.host();
        let stops = host.queue.stops(&number.e164).await?;
        let stops = stops.map(|stops| stops.list());
        let attributes = vec![
            ("phone".to_owned(), phone::index(&host.keyring, number)),
            ("way".to_owned(), by_way.to_owned()),
        ];
        let facts = ("stops.listed", attributes);
        self.record_of_messages(context, facts, &Step::Whole(&()), None)
            .await?;
        Ok(stops)
    }

    /// Lets messages of `provider`, or of all, go to `number` again; how many senders it had answered STOP
    /// to. What is said by `number` from then on counts as ever. Returns when that and its record are
    /// durable.
    ///
    /// # Errors
    ///
    /// See [`CallError`]. It may be done then, without a record; to be called again.
    pub async fn clear_stops(
        &self,
        context: &CallContext,
        number: &PhoneNumber,
        provider: Option<&str>,
        by_way: &str,
        once: Option<Once<'_, usize>>,
    ) -> Result<(usize, UnixMillis), CallError> {
        let host = self.host();
        let now = host.instants.now();
        let cleared = host.queue.clear_stops(&number.e164, provider, now).await;
        let cleared = cleared.map_err(|error| match error {
            ReceiveError::Busy => busy(),
            ReceiveError::Store(error) => error.into(),
        })?;
        let index = phone::index(&host.keyring, number);
        tracing::info!(
            phone = index,
            provider,
            cleared,
            way = by_way,
            "a STOP was taken back"
        );
        let mut attributes = vec![
            ("phone".to_owned(), index),
            ("cleared".to_owned(), cleared.to_string()),
            ("way".to_owned(), by_way.to_owned()),
        ];
        attributes.extend(provider.map(|name| ("provider".to_owned(), name.to_owned())));
        let facts = ("stops.cleared", attributes);
        let step = Step::Whole(&cleared);
        let recorded = self.record_of_messages(context, facts, &step, once.as_ref());
        let at = recorded.await?;
        Ok((cleared, at))
    }
}
