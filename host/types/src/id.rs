//! Names of messages.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{Entropy, UnixMillis};

/// The name of a message: 48 bits of time and 80 random bits, so that names sort by age and cannot be
/// guessed. Text is 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId(pub [u8; 16]);

impl MessageId {
    /// A new name for a message made at `now`.
    pub fn new(now: UnixMillis, entropy: &dyn Entropy) -> MessageId {
        let mut bytes = [0; 16];
        entropy.fill(&mut bytes[6..]);
        bytes[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        MessageId(bytes)
    }

    /// When the message was made.
    pub fn time(self) -> UnixMillis {
        let [a, b, c, d, e, f, ..] = self.0;
        UnixMillis(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// The name as two numbers, the higher half first.
    pub fn halves(self) -> (u64, u64) {
        let name = u128::from_be_bytes(self.0);
        ((name >> 64) as u64, name as u64)
    }

    /// The lowest name that a message made at `time` can have.
    pub fn first_at(time: UnixMillis) -> MessageId {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&time.0.to_be_bytes()[2..]);
        MessageId(bytes)
    }
}

/// Lower-case hexadecimal text of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 lower-case hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAMessageId;

impl FromStr for MessageId {
    type Err = NotAMessageId;
    fn from_str(text: &str) -> Result<MessageId, NotAMessageId> {
        let well_formed = text.len() == 32
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(NotAMessageId);
        }
        let value = u128::from_str_radix(text, 16).map_err(|_| NotAMessageId)?;
        Ok(MessageId(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    #[test]
    fn names_sort_by_age_and_survive_text() {
        let entropy = SeededEntropy::new([7; 32]);
        let older = MessageId::new(UnixMillis(1_000), &entropy);
        let newer = MessageId::new(UnixMillis(1_001), &entropy);
        assert!(older < newer && older.to_string() < newer.to_string());
        assert_eq!(older.to_string().parse(), Ok(older));
        assert_eq!(older.time(), UnixMillis(1_000));
        assert!(MessageId::first_at(newer.time()) > older);
        assert!(MessageId::first_at(newer.time()) <= newer);
    }

    #[test]
    fn other_text_is_no_name() {
        for text in [
            "",
            "0",
            "G0000000000000000000000000000000",
            "+0000000000000000000000000000000",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(NotAMessageId), "{text}");
        }
    }
}
