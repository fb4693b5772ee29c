//! Files over which sled panics: made here, since a checksum guards every message of its log and what is
//! damaged by chance is an error, not a panic.

use super::tests::{Folder, write};
use super::*;

/// The checksum of sled's files.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

/// The number that `bytes` begins with, as sled writes it, and how long it is.
fn number(bytes: &[u8]) -> (usize, usize) {
    let byte = |at: usize| usize::from(bytes[at]);
    match byte(0) {
        0..=240 => (byte(0), 1),
        first @ 241..=248 => (240 + 256 * (first - 241) + byte(1), 2),
        249 => (2_288 + 256 * byte(1) + byte(2), 3),
        first => {
            let bytes = (1..first - 246).rev();
            (bytes.fold(0, |sum, at| sum << 8 | byte(at)), first - 246)
        }
    }
}

/// A message of sled's log: where it begins, its body and its end.
type Place = [usize; 3];

/// The message that begins at `begin`, where one does.
fn message(log: &[u8], begin: usize) -> Option<Place> {
    // The checksum and the kind come before the length, the segment and the page.
    let (length, mut body) = number(&log[begin + 5..]);
    body += begin + 5;
    for _ in 0..2 {
        body += number(&log[body..]).1;
    }
    let place = [begin, body, body.checked_add(length)?];
    (place[2] <= log.len() && log[begin..begin + 4] == checksum(log, place)).then_some(place)
}

fn checksum(log: &[u8], [begin, body, end]: Place) -> [u8; 4] {
    let all = [&log[body..end], &log[begin + 4..body]].concat();
    (!crc32(&all)).to_le_bytes()
}

/// Damages what the store in `path` has written last of a row with `word` in its key or value, and
/// makes the checksum good again: sled takes it for whole, and panics when it makes a page of it.
fn damage(path: &Path, word: &[u8]) {
    let db = path.join("db");
    let mut log = std::fs::read(&db).expect("read");
    let mut windows = log.windows(word.len());
    let at = windows.rposition(|bytes| bytes == word).expect("there");
    let holds = |place: &Place| (place[1]..place[2]).contains(&at);
    let mut near = (at - 100..at).rev();
    let place = near.find_map(|begin| message(&log, begin).filter(holds));
    let place = place.expect("it is in a message");
    let [begin, body, _] = place;
    assert_eq!((log[begin + 4], log[body]), (10, 0), "a row that was set");
    // Its key is longer than the message.
    log[body + 1] = 249;
    let good = checksum(&log, place);
    log[begin..begin + 4].copy_from_slice(&good);
    std::fs::write(&db, log).expect("damaged");
}

#[tokio::test]
async fn a_store_that_sled_panics_over_is_one_that_does_not_open() {
    let folder = Folder::new();
    let path = folder.0.path().join("store");
    drop(folder.open().expect("opened"));
    // Where it is opened, and where it is first read.
    let panics = || panic!("for the test");
    let opened = SledStore::open_with(&path, panics, Box::new(group::make_durable));
    assert!(matches!(opened, Err(OpenError::Damaged { .. })));
    damage(&path, b"!counters");
    let opened = folder.open();
    assert!(matches!(opened, Err(OpenError::Damaged { .. })));
}

#[tokio::test]
async fn a_read_that_sled_panics_over_is_an_error_that_says_what_to_do() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    // More than one page has room for, so that not all is read when it is opened.
    for n in 0..60 {
        write(&store, &[b'a' + n], b"1").await.expect("committed");
    }
    write(&store, b"\xff", b"the last")
        .await
        .expect("committed");
    drop(store);
    damage(&folder.0.path().join("store"), b"the last");
    let store = folder.open().expect("opened");
    let all = (b"\xff".as_slice(), b"\xff\xff".as_slice());
    let failures = [
        store.get(b"\xff").await.err(),
        store.scan(all.0, all.1, 1).await.err(),
        store.scan_back(all.0, all.1, 1).await.err(),
    ];
    for failure in failures {
        let told = failure.expect("it failed").to_string();
        assert!(told.contains("countersign restore FILE"), "{told}");
    }
    assert!(store.get(b"a").await.expect("read").is_some());
}
