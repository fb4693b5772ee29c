//! What is stored under a key.

use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 2_048;

/// The most that a row may hold, in bytes. sled puts a page that outgrows a quarter of its segments
/// into a file of its own, which it never syncs; a leaf has at most some twenty rows (it is split
/// above 16, and merged with a neighbour below 4), so with segments of 8 MiB there never is one.
pub const ROW_BYTES_MAX: usize = 96 * 1024;

/// A stored row with the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The commit that wrote it. Never the same for two contents of one key.
    pub version: u64,
    /// What it holds.
    pub body: Body,
}

/// The kinds of rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Written by calls.
    Sections(Sections),
    /// A sum that commits add to.
    Sum {
        /// The sum.
        value: i64,
        /// When it goes back to nothing.
        expires: Option<UnixMillis>,
    },
    /// An exact limit that subjects share.
    Limit(crate::limit::Window),
    /// Events of one group of commits.
    Events {
        /// In order of position; the first one's position is the row's key.
        events: Vec<Vec<u8>>,
        /// When they are no longer kept.
        expires: Option<UnixMillis>,
    },
}

/// The two sides of one row: what a service component wrote and what the host keeps beside it. Each
/// side reads and writes only its own, and both cost one write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sections {
    /// The component's own.
    pub service: Option<Section>,
    /// The host's: a challenge with its counters, or everything in a row of the host's own.
    pub host: Option<Section>,
}

/// One side of a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// The format of `value`: a component's state version.
    pub state: u32,
    /// From when on it is invisible.
    pub expires: Option<UnixMillis>,
    /// Its bytes.
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
}

impl Section {
    /// Whether it can be seen at `now`.
    pub fn live(&self, now: UnixMillis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Sections {
    /// What of it can be seen at `now`, and until when exactly that can be seen.
    pub fn at(&self, now: UnixMillis) -> (Sections, Option<UnixMillis>) {
        let mut until: Option<UnixMillis> = None;
        let mut side = |section: &Option<Section>| {
            let section = section.as_ref().filter(|section| section.live(now))?;
            until = match (until, section.expires) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            Some(section.clone())
        };
        let seen = Sections {
            service: side(&self.service),
            host: side(&self.host),
        };
        (seen, until)
    }

    /// Whether neither side holds anything.
    pub fn is_empty(&self) -> bool {
        self.service.is_none() && self.host.is_none()
    }
}

impl Body {
    /// How much it holds, in bytes, without what its format adds.
    pub(crate) fn bytes(&self) -> usize {
        let side = |side: &Option<Section>| side.as_ref().map_or(0, |side| side.value.len());
        match self {
            Body::Sections(Sections { service, host }) => side(service) + side(host),
            Body::Events { events, .. } => events.iter().map(Vec::len).sum(),
            // Both of a fixed size.
            Body::Sum { .. } | Body::Limit(_) => 0,
        }
    }

    /// Whether nothing of the row can be seen at `now`.
    pub fn expired(&self, now: UnixMillis) -> bool {
        let gone = |expires: &Option<UnixMillis>| expires.is_some_and(|expires| expires <= now);
        match self {
            Body::Sections(Sections { service, host }) => {
                let gone = |side: &Option<Section>| !side.as_ref().is_some_and(|s| s.live(now));
                gone(service) && gone(host)
            }
            Body::Sum { expires, .. } | Body::Events { expires, .. } => gone(expires),
            Body::Limit(window) => window.empty_at(now),
        }
    }
}

/// The first byte of every stored row: a later layout gets another one.
const FORMAT: u8 = 1;

impl Row {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Room for the common row at once; `extend` into a `Vec` cannot fail.
        let mut bytes = Vec::with_capacity(256);
        bytes.push(FORMAT);
        postcard::to_extend(self, bytes).unwrap_or_default()
    }

    /// The row that `bytes`, stored under `key`, holds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreadable`](crate::StoreError::Unreadable) for what no version up to this one wrote.
    pub fn from_bytes(key: &[u8], bytes: &[u8]) -> Result<Row, crate::StoreError> {
        bytes
            .split_first()
            .filter(|(format, _)| **format == FORMAT)
            .and_then(|(_, rest)| postcard::from_bytes(rest).ok())
            .ok_or_else(|| crate::StoreError::Unreadable {
                key: String::from_utf8_lossy(key).into_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(expires: Option<u64>) -> Option<Section> {
        Some(Section {
            state: 1,
            expires: expires.map(UnixMillis),
            value: b"x".to_vec(),
        })
    }

    #[test]
    fn each_section_ends_by_itself() {
        let sections = Sections {
            service: section(Some(100)),
            host: section(Some(50)),
        };
        let (seen, until) = sections.at(UnixMillis(49));
        assert!(seen.service.is_some() && seen.host.is_some());
        assert_eq!(until, Some(UnixMillis(50)));
        let (seen, until) = sections.at(UnixMillis(50));
        assert!(seen.service.is_some() && seen.host.is_none());
        assert_eq!(until, Some(UnixMillis(100)));
        assert!(!Body::Sections(sections.clone()).expired(UnixMillis(99)));
        assert!(Body::Sections(sections).expired(UnixMillis(100)));
    }

    #[test]
    fn a_row_survives_its_bytes_and_garbage_does_not() {
        let row = Row {
            version: 7,
            body: Body::Sum {
                value: -3,
                expires: None,
            },
        };
        assert_eq!(
            Row::from_bytes(b"k", &row.to_bytes()).expect("readable"),
            row
        );
        assert!(Row::from_bytes(b"k", b"").is_err());
        assert!(Row::from_bytes(b"k", &[9, 1, 2]).is_err());
        assert!(Row::from_bytes(b"k", &[FORMAT, 0xff]).is_err());
    }
}
