//! Sliding windows: the sends and misses of one phone, as timestamps in one row.
//!
//! A window is half open: an entry made at `t` counts until just before `t + length`, so in no
//! span of that length are there more than the limit. The row holds only as many entries as the
//! largest limit needs, and disappears when its newest has left the longest window. Which message was
//! the last stands in it too, so that an accepted code can be counted with it.

use crate::host::{Duration, Instant};
use crate::settings::{Settings, is_purpose};

/// The state version that is written.
pub const STATE: u8 = if cfg!(feature = "next-format") { 2 } else { 1 };
/// Those that can be read.
pub const STATES: &[u8] = if cfg!(feature = "next-format-alone") {
    &[2]
} else if cfg!(feature = "next-format") {
    &[1, 2]
} else {
    &[1]
};
const HEADER_BYTES: usize = 5;
const ENTRY_BYTES: usize = 8;
const MESSAGE_BYTES: usize = 16;

/// How long a row without entries is kept: it is written for the time that it takes.
const EMPTY_ROW_LIFE: Duration = 60_000;

/// The span over which a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Window {
    /// Its length.
    #[must_use]
    pub fn length(self) -> Duration {
        match self {
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
            Self::Day => 86_400_000,
        }
    }

    /// Its name, in keys and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// At most `max` in any `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The span.
    pub window: Window,
    /// At least 1.
    pub max: u32,
}

impl Limit {
    /// When `entries` (oldest first) leave room for one more, if they do not at `now`.
    #[must_use]
    pub fn room_at(self, entries: &[Instant], now: Instant) -> Option<Instant> {
        let filling = entries.len().checked_sub(self.max as usize)?;
        let room_at = entries.get(filling)?.saturating_add(self.window.length());
        (room_at > now).then_some(room_at)
    }
}

/// Among the `limits` that `entries` have reached, the one that is reached for the longest, and
/// when it has room again.
#[must_use]
pub fn longest_reached(
    limits: &[Limit],
    entries: &[Instant],
    now: Instant,
) -> Option<(Window, Instant)> {
    limits
        .iter()
        .filter_map(|limit| Some((limit.window, limit.room_at(entries, now)?)))
        .max_by_key(|&(_, room_at)| room_at)
}

/// What a phone's row holds, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// When a code was sent.
    pub sends: Vec<Instant>,
    /// When a code was wrong.
    pub misses: Vec<Instant>,
    /// The last message, until its code is accepted.
    pub last: Option<Last>,
}

/// A message with a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its id, which is text of 32 hexadecimal digits everywhere else.
    pub message: u128,
    /// What its code is for.
    pub purpose: String,
}

impl Windows {
    /// Reads a row. `None`: it was not written by [`encode`](Self::encode).
    #[must_use]
    pub fn decode(row: &[u8]) -> Option<Self> {
        let (&[version, s0, s1, m0, m1], entries) = row.split_first_chunk::<HEADER_BYTES>()?;
        let sends = usize::from(u16::from_le_bytes([s0, s1]));
        let misses = usize::from(u16::from_le_bytes([m0, m1]));
        let (entries, last) = entries.split_at_checked((sends + misses) * ENTRY_BYTES)?;
        let (entries, _) = entries.as_chunks::<ENTRY_BYTES>();
        if !STATES.contains(&version) {
            return None;
        }
        let (sends, misses) = entries.split_at(sends);
        let in_order = |entries: &[[u8; ENTRY_BYTES]]| {
            let times: Vec<_> = entries.iter().map(|time| read(version, *time)).collect();
            times.is_sorted().then_some(times)
        };
        Some(Self {
            sends: in_order(sends)?,
            misses: in_order(misses)?,
            last: match last {
                [] => None,
                last => Some(Last::decode(last)?),
            },
        })
    }

    /// The row: a version byte, how many sends and misses (two bytes each), then their times (eight
    /// bytes each), all little-endian; then the last message's id (16 bytes) and purpose, where there
    /// is one. In the next format the times are big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let entries = self.sends.len() + self.misses.len();
        let mut row = Vec::with_capacity(HEADER_BYTES + entries * ENTRY_BYTES);
        row.push(STATE);
        // Settings bound both to 1,000, and `prune` comes before every write.
        row.extend_from_slice(&(self.sends.len() as u16).to_le_bytes());
        row.extend_from_slice(&(self.misses.len() as u16).to_le_bytes());
        for time in self.sends.iter().chain(&self.misses) {
            row.extend_from_slice(&written(*time));
        }
        if let Some(last) = &self.last {
            row.extend_from_slice(&last.message.to_le_bytes());
            row.extend_from_slice(last.purpose.as_bytes());
        }
        row
    }

    /// Takes entries from after `now` as made now, and says whether there were any.
    ///
    /// They exist after the clock was set back. Left as they are they would count until the clock
    /// has caught up, which can be years; dropped they would be a way around the limits.
    pub fn follow_clock_back(&mut self, now: Instant) -> bool {
        let mut moved = false;
        for time in self.sends.iter_mut().chain(&mut self.misses) {
            moved |= *time > now;
            *time = now.min(*time);
        }
        moved
    }

    /// Drops what no limit looks at any more.
    pub fn prune(&mut self, settings: &Settings, now: Instant) {
        prune(&mut self.sends, &settings.sends, now);
        prune(&mut self.misses, &settings.misses, now);
    }

    /// When the row is of no more use to anyone.
    #[must_use]
    pub fn expires(&self, now: Instant) -> Instant {
        match self.sends.last().max(self.misses.last()) {
            Some(newest) => newest.saturating_add(Window::Day.length()),
            None => now.saturating_add(EMPTY_ROW_LIFE),
        }
    }
}

impl Last {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (message, purpose) = bytes.split_first_chunk::<MESSAGE_BYTES>()?;
        let purpose = str::from_utf8(purpose).ok()?;
        is_purpose(purpose).then(|| Self {
            message: u128::from_le_bytes(*message),
            purpose: purpose.into(),
        })
    }
}

/// A time as a row of the state version `version` has it.
fn read(version: u8, time: [u8; ENTRY_BYTES]) -> Instant {
    match version {
        1 => u64::from_le_bytes(time),
        _ => u64::from_be_bytes(time),
    }
}

fn written(time: Instant) -> [u8; ENTRY_BYTES] {
    match STATE {
        1 => time.to_le_bytes(),
        _ => time.to_be_bytes(),
    }
}

fn prune(entries: &mut Vec<Instant>, limits: &[Limit], now: Instant) {
    let most = limits.iter().map(|limit| limit.max as usize).max();
    let too_many = entries.len().saturating_sub(most.unwrap_or(0));
    let too_old = entries.partition_point(|time| time.saturating_add(Window::Day.length()) <= now);
    entries.drain(..too_many.max(too_old));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = 3_600_000;
    const DAY: Duration = 24 * HOUR;

    #[test]
    fn a_window_has_room_when_the_entry_that_fills_it_leaves() {
        let three = Limit {
            window: Window::Minute,
            max: 3,
        };
        assert_eq!(three.room_at(&[], 1_000), None);
        assert_eq!(three.room_at(&[0, 1_000], 1_000), None);
        assert_eq!(three.room_at(&[0, 1_000, 2_000], 59_999), Some(60_000));
        assert_eq!(three.room_at(&[0, 1_000, 2_000], 60_000), None);
    }

    #[test]
    fn after_a_limit_was_lowered_as_many_must_leave_as_are_too_many() {
        let one = Limit {
            window: Window::Minute,
            max: 1,
        };
        assert_eq!(one.room_at(&[0, 1_000, 2_000], 2_000), Some(62_000));
    }

    #[test]
    fn of_several_full_windows_the_one_that_frees_last_counts() {
        let limits = [
            Limit {
                window: Window::Minute,
                max: 1,
            },
            Limit {
                window: Window::Hour,
                max: 2,
            },
        ];
        let entries = [0, 3_590_000];
        assert_eq!(
            longest_reached(&limits, &entries, 3_595_000),
            Some((Window::Minute, 3_650_000))
        );
        assert_eq!(
            longest_reached(&limits, &[0, 10_000], 20_000),
            Some((Window::Hour, HOUR))
        );
        assert_eq!(longest_reached(&limits, &[0], 60_000), None);
    }

    #[test]
    fn a_row_keeps_what_the_largest_limit_needs_and_nothing_older_than_a_day() {
        let settings = Settings::read(&[]).expect("the defaults");
        let mut windows = Windows {
            sends: (0..60).collect(),
            misses: vec![0, 1, DAY],
            last: None,
        };
        windows.prune(&settings, DAY);
        assert_eq!(windows.sends, (10..60).collect::<Vec<_>>());
        assert_eq!(windows.misses, [1, DAY]);
        assert_eq!(windows.expires(DAY), 2 * DAY);
        windows.prune(&settings, 2 * DAY);
        assert_eq!(windows, Windows::default());
        assert_eq!(windows.expires(2 * DAY), 2 * DAY + 60_000);
    }

    #[test]
    fn entries_from_a_future_that_was_set_back_count_from_now() {
        let mut windows = Windows {
            sends: vec![5, 20, 30],
            misses: vec![40],
            last: None,
        };
        assert!(windows.follow_clock_back(10));
        assert_eq!(windows.sends, [5, 10, 10]);
        assert_eq!(windows.misses, [10]);
        assert!(!windows.follow_clock_back(10));
    }

    #[test]
    fn a_row_that_is_not_exactly_right_is_not_read() {
        let row = Windows {
            sends: vec![1, 2],
            misses: vec![3],
            last: None,
        }
        .encode();
        assert_eq!(row.len(), 5 + 3 * 8);
        let mut longer = row.clone();
        longer.push(0);
        let mut other_version = row.clone();
        other_version[0] = 2;
        let mut other_count = row.clone();
        other_count[1] = 3;
        let mut unordered = row.clone();
        unordered[5] = 9;
        let without_purpose = [row.as_slice(), &[7; MESSAGE_BYTES]].concat();
        let no_purpose = [&without_purpose, "a/b".as_bytes()].concat();
        let damaged: [&[u8]; 9] = [
            &[],
            &row[..4],
            &row[..row.len() - 1],
            &longer,
            &other_version,
            &other_count,
            &unordered,
            &without_purpose,
            &no_purpose,
        ];
        for damaged in damaged {
            assert_eq!(Windows::decode(damaged), None, "{damaged:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(
            mut sends: Vec<u64>,
            mut misses: Vec<u64>,
            last: Option<u128>,
        ) {
            sends.sort_unstable();
            misses.sort_unstable();
            let purpose = "login".into();
            let last = last.map(|message| Last { message, purpose });
            let windows = Windows { sends, misses, last };
            prop_assert_eq!(Windows::decode(&windows.encode()), Some(windows));
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(row: Vec<u8>) {
            if let Some(windows) = Windows::decode(&row) {
                prop_assert_eq!(windows.encode(), row);
            }
        }
    }
}
