//! The rows: where they lie, and how they are sealed.

use countersign_store::{Body, Keyring, Row, Section, Sections, StoreError, Write};
use countersign_types::{Event, MessageId, UnixMillis, hex};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Jobs that wait.
pub(crate) const JOBS: &[u8] = b"j/";
pub(crate) const JOBS_END: &[u8] = b"j0";
/// Messages that are over.
pub(crate) const MESSAGES: &[u8] = b"m/";
/// Messages that no provider could take, whole: nothing is lost.
pub(crate) const DEAD: &[u8] = b"d/";
pub(crate) const DEAD_END: &[u8] = b"d0";
/// Which message a provider's id belongs to.
const RECEIPTS: &[u8] = b"r/";
/// Messages that were sent long after they were accepted, by the time of sending.
const LATE: &[u8] = b"f/";
/// Which messages a number has had that are over, and the number itself.
const NUMBERS: &[u8] = b"n/";
/// Whom a number has answered STOP to.
const STOPS: &[u8] = b"o/";
/// How far the follower has come.
pub(crate) const FOLLOWER: &[u8] = b"follower";

/// The format of the rows' contents.
const STATE: u32 = 1;

/// The key of a row that is about one message.
pub(crate) fn key(prefix: &[u8], id: MessageId) -> Vec<u8> {
    [prefix, &id.0].concat()
}

/// An id with every bit turned: of two the newer one comes first.
fn turned(id: MessageId) -> [u8; 16] {
    id.0.map(|byte| !byte)
}

/// Where the rows of a number begin, by its index.
pub(crate) fn number_prefix(index: &str) -> Vec<u8> {
    [NUMBERS, index.as_bytes(), b"/"].concat()
}

/// The key of the row by which a message that is over is found by its number: the newest comes first.
pub(crate) fn number_key(index: &str, id: MessageId) -> Vec<u8> {
    [number_prefix(index).as_slice(), &turned(id)].concat()
}

/// The message that such a row is about.
pub(crate) fn number_id(key: &[u8]) -> Option<MessageId> {
    let turned: [u8; 16] = *key.strip_prefix(NUMBERS)?.last_chunk()?;
    Some(MessageId(turned.map(|byte| !byte)))
}

/// The key of the row about what a number, by its index, has answered to senders.
pub(crate) fn stops_key(index: &str) -> Vec<u8> {
    [STOPS, index.as_bytes()].concat()
}

/// The message that `key` is about.
pub(crate) fn id_of(prefix: &[u8], key: &[u8]) -> Option<MessageId> {
    let id = key.strip_prefix(prefix)?;
    id.try_into().ok().map(MessageId)
}

/// Dead letters lie with every bit of their id turned, so that the newest comes first.
pub(crate) fn dead_key(id: MessageId) -> Vec<u8> {
    key(DEAD, MessageId(turned(id)))
}

/// The dead letter that lies under `key`.
pub(crate) fn dead_id(key: &[u8]) -> Option<MessageId> {
    id_of(DEAD, key).map(|MessageId(turned)| MessageId(turned.map(|byte| !byte)))
}

/// The key of the row about the id that `provider` gave.
pub(crate) fn receipt_key(keyring: &Keyring, provider: &str, id: &str) -> Vec<u8> {
    [RECEIPTS, keyring.receipt_index(provider, id).as_bytes()].concat()
}

/// The key of the row about a message that was sent late.
pub(crate) fn late_key(sent: UnixMillis, id: MessageId) -> Vec<u8> {
    [LATE, &sent.0.to_be_bytes(), &id.0].concat()
}

/// When the message of a late row was sent, and which it is.
pub(crate) fn late_of(key: &[u8]) -> Option<(UnixMillis, MessageId)> {
    let (sent, id) = key.strip_prefix(LATE)?.split_at_checked(8)?;
    let sent = u64::from_be_bytes(sent.try_into().ok()?);
    Some((UnixMillis(sent), MessageId(id.try_into().ok()?)))
}

/// What lies under a key, for people.
pub(crate) fn kind(key: &[u8]) -> &'static str {
    let kinds = [
        (JOBS, "a waiting message"),
        (MESSAGES, "a message that is over"),
        (DEAD, "a dead letter"),
        (RECEIPTS, "whose id a provider's is"),
        (LATE, "that a message was sent late"),
        (NUMBERS, "whose number a message went to"),
        (STOPS, "whom a number has answered STOP to"),
        (FOLLOWER, "where the follower is"),
    ];
    let found = kinds.iter().find(|(prefix, _)| key.starts_with(prefix));
    found.map_or("something else", |(_, kind)| kind)
}

/// A row's key, for people.
pub(crate) fn key_text(key: &[u8]) -> String {
    let (prefix, id) = key.split_at(key.len().min(JOBS.len()));
    format!("{}{}", String::from_utf8_lossy(prefix), hex(id))
}

/// `value` as it rests under `key`.
pub(crate) fn sealed<T: Serialize>(
    keyring: &Keyring,
    key: &[u8],
    value: &T,
    expires: Option<UnixMillis>,
) -> Result<Section, StoreError> {
    // Serialising plain data into a `Vec` cannot fail.
    let plain = postcard::to_allocvec(value).unwrap_or_default();
    let value = keyring
        .seal(key, &plain)
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(Section {
        state: STATE,
        expires,
        value,
    })
}

/// The row that holds `value` under `key`.
pub(crate) fn put<T: Serialize>(
    keyring: &Keyring,
    key: Vec<u8>,
    value: &T,
    expires: Option<UnixMillis>,
) -> Result<Write, StoreError> {
    let section = sealed(keyring, &key, value, expires)?;
    Ok(row(key, section))
}

/// The row that holds `section` under `key`.
pub(crate) fn row(key: Vec<u8>, section: Section) -> Write {
    let body = Some(Body::Sections(Sections {
        service: None,
        host: Some(section),
    }));
    Write { key, body }
}

/// No row under `key`.
pub(crate) fn gone(key: Vec<u8>) -> Write {
    Write { key, body: None }
}

/// When the host's part of a row expires.
pub(crate) fn expiry(row: &Row) -> Option<UnixMillis> {
    match &row.body {
        Body::Sections(sections) => sections.host.as_ref()?.expires,
        _ => None,
    }
}

/// An event as the log holds it.
pub(crate) fn event(event: &Event) -> Vec<u8> {
    // Serialising plain data into a `Vec` cannot fail.
    postcard::to_allocvec(event).unwrap_or_default()
}

/// What a row holds.
#[derive(Debug)]
pub(crate) struct Opened<T> {
    pub(crate) value: T,
    /// The commit that wrote it.
    pub(crate) version: u64,
    pub(crate) expires: Option<UnixMillis>,
}

/// Reads `row`; `None` where it has expired at `now`.
pub(crate) fn open<T: DeserializeOwned>(
    keyring: &Keyring,
    key: &[u8],
    row: &Row,
    now: UnixMillis,
) -> Result<Option<Opened<T>>, StoreError> {
    let unreadable = || StoreError::Unreadable { key: key_text(key) };
    let Body::Sections(Sections {
        host: Some(host), ..
    }) = &row.body
    else {
        return Err(unreadable());
    };
    if !host.live(now) {
        return Ok(None);
    }
    if host.state != STATE {
        return Err(unreadable());
    }
    let plain = keyring
        .unseal(key, &host.value)
        .map_err(|error| StoreError::Failed(format!("{}: {error}", key_text(key))))?;
    let value = postcard::from_bytes(&plain).map_err(|_| unreadable())?;
    Ok(Some(Opened {
        value,
        version: row.version,
        expires: host.expires,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_lie_newest_first() {
        let (old, new) = (MessageId([1; 16]), MessageId([2; 16]));
        assert!(dead_key(new) < dead_key(old));
        assert_eq!(dead_id(&dead_key(old)), Some(old));
    }

    #[test]
    fn keys_say_what_they_are_about() {
        let id = MessageId([7; 16]);
        assert_eq!(id_of(JOBS, &key(JOBS, id)), Some(id));
        assert_eq!(id_of(JOBS, &key(MESSAGES, id)), None);
        let sent = UnixMillis(1_700_000_000_000);
        assert_eq!(late_of(&late_key(sent, id)), Some((sent, id)));
        assert_eq!(late_of(b"f/short"), None);
        assert_eq!(number_id(&number_key("00ff", id)), Some(id));
        assert_eq!(number_id(b"n/00ff/short"), None);
    }
}
