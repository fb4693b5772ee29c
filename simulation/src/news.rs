//! What receipts promise, said once more and as simply as possible: of each part of a message the best
//! that was told of it, in whatever order, and of prices the first. What was told before anybody knew
//! whom it was about waits for an hour.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_types::{Accepted, MessageId, Price, StatusUpdate, UnixMillis};

/// From the least that can be known of a message to the most.
const ORDER: [&str; 7] = [
    "queued",
    "sent",
    "unknown",
    "undelivered",
    "failed",
    "delivered",
    "read",
];

/// How long what comes early is kept, and how much of it for one id.
const EARLY_KEPT: Duration = Duration::from_secs(3_600);
const EARLY_MAX: usize = 8;

/// How much a status says; nothing for a word that no provider has.
pub(crate) fn rank(word: &str) -> usize {
    ORDER.iter().position(|known| *known == word).unwrap_or(0)
}

/// What an event says of a message: its new status, or that its price is known, and the status that it
/// had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) message: MessageId,
    pub(crate) kind: String,
    pub(crate) was: String,
}

impl News {
    fn of(message: MessageId, kind: &str, was: usize) -> News {
        News {
            message,
            kind: format!("message.{kind}"),
            was: ORDER[was].to_owned(),
        }
    }
}

/// What is known of a message that has left the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) status: usize,
    /// The provider's ids, and how much is known of each.
    pub(crate) parts: Vec<(String, usize)>,
    pub(crate) price: Option<Price>,
    pub(crate) segments: Option<u32>,
}

/// A message that a provider took.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    provider: String,
    asked: bool,
    since: UnixMillis,
    known: Known,
}

impl Taken {
    pub(crate) fn known(&self) -> Known {
        self.known.clone()
    }

    /// Its status.
    pub(crate) fn word(&self) -> &'static str {
        ORDER[self.known.status]
    }

    fn learn(&mut self, update: &StatusUpdate) {
        let known = &mut self.known;
        let Some((_, part)) = known.parts.iter_mut().find(|(id, _)| *id == update.id) else {
            return;
        };
        *part = rank(update.status.word()).max(*part);
        if known.price.is_none() {
            known.price.clone_from(&update.price);
        }
        known.segments = known.segments.max(update.segments);
        known.settle();
    }

    fn told(&mut self, message: MessageId, update: &StatusUpdate) -> Option<News> {
        let was = self.known.clone();
        self.learn(update);
        self.news(message, &was)
    }

    /// What is news of it since `was` was known.
    fn news(&self, message: MessageId, was: &Known) -> Option<News> {
        let known = &self.known;
        if known.status > was.status {
            return Some(News::of(message, ORDER[known.status], was.status));
        }
        let priced = (&known.price, known.segments) != (&was.price, was.segments);
        priced.then(|| News::of(message, "priced", was.status))
    }
}

impl Known {
    /// The whole is what the part is of which least is known.
    fn settle(&mut self) {
        let parts = self.parts.iter().map(|(_, rank)| *rank);
        self.status = parts.min().unwrap_or(1).max(self.status);
    }
}

/// What was told of an id before anybody knew whom it was about, and how long that is kept.
type Early = (Vec<StatusUpdate>, UnixMillis);

/// What is known of messages that providers took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) taken: BTreeMap<MessageId, Taken>,
    /// Which message a provider's id belongs to, where it was asked for receipts.
    ids: BTreeMap<(String, String), MessageId>,
    early: BTreeMap<(String, String), Early>,
}

impl Told {
    /// A provider took a message, and was asked for receipts or not.
    pub(crate) fn take(
        &mut self,
        message: MessageId,
        provider: &str,
        accepted: &Accepted,
        asked: bool,
        now: UnixMillis,
    ) -> Vec<News> {
        let parts = accepted.ids.iter().map(|id| (id.clone(), 1)).collect();
        let mut taken = Taken {
            provider: provider.to_owned(),
            asked,
            since: now,
            known: Known {
                status: 1,
                parts,
                price: accepted.price.clone(),
                segments: accepted.segments,
            },
        };
        let was = taken.known.clone();
        let mut news = vec![News::of(message, "sent", 0)];
        for id in accepted.ids.iter().filter(|_| asked) {
            let id = (provider.to_owned(), id.clone());
            let early = self.early.remove(&id);
            let early = early.filter(|(_, until)| now < *until);
            for update in early.into_iter().flat_map(|(updates, _)| updates) {
                taken.learn(&update);
            }
            self.ids.insert(id, message);
        }
        news.extend(taken.news(message, &was));
        self.taken.insert(message, taken);
        news
    }

    /// A provider has sent updates.
    pub(crate) fn receive(
        &mut self,
        provider: &str,
        updates: &[StatusUpdate],
        now: UnixMillis,
    ) -> Vec<News> {
        let mut news = Vec::new();
        for update in updates {
            let id = (provider.to_owned(), update.id.clone());
            if let Some(message) = self.ids.get(&id) {
                let taken = self.taken.get_mut(message);
                news.extend(taken.and_then(|taken| taken.told(*message, update)));
                continue;
            }
            let fresh = (Vec::new(), now + EARLY_KEPT);
            let early = self.early.entry(id).or_insert_with(|| fresh.clone());
            if now >= early.1 {
                *early = fresh;
            }
            if early.0.len() < EARLY_MAX && !early.0.contains(update) {
                early.0.push(update.clone());
            }
        }
        news
    }

    /// A provider was asked, and has answered so.
    pub(crate) fn answer(&mut self, provider: &str, updates: &[StatusUpdate]) -> Vec<News> {
        let learn = |update: &StatusUpdate| {
            let (message, taken) = self.taken.iter_mut().find(|(_, taken)| {
                taken.provider == provider
                    && taken.known.parts.iter().any(|(id, _)| *id == update.id)
            })?;
            taken.told(*message, update)
        };
        updates.iter().filter_map(learn).collect()
    }

    /// Nothing more is waited for; `None` where there is nothing to wait for, or it is too early.
    pub(crate) fn give_up(&mut self, message: MessageId, now: UnixMillis) -> Option<News> {
        let taken = self.taken.get_mut(&message)?;
        let waited = now.since(taken.since) >= Duration::from_secs(72 * 3_600);
        let known = &mut taken.known;
        if !waited || !taken.asked || known.status > 1 {
            return None;
        }
        for (_, part) in &mut known.parts {
            *part = 2.max(*part);
        }
        known.settle();
        known.status = 2.max(known.status);
        Some(News::of(message, ORDER[known.status], 1))
    }

    /// What came early for the provider's id of which `is_it` holds was swept away.
    pub(crate) fn swept(&mut self, is_it: impl Fn(&str, &str) -> bool) {
        self.early.retain(|(provider, id), _| !is_it(provider, id));
    }

    /// How much is known of a message that was taken.
    pub(crate) fn rank(&self, message: MessageId) -> usize {
        self.taken
            .get(&message)
            .map_or(0, |taken| taken.known.status)
    }
}
