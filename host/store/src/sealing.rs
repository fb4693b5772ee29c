//! Rows that rest sealed without anybody above seeing it: those of components.
//!
//! Whoever reads and commits through [`Sealing`] sees what was written; what reaches the store below it
//! is sealed by the [`Keyring`], section by section, so that either side of a row can still expire by
//! itself. Versions, expiries and state versions stay readable, since the committer judges by them;
//! sums and limits stay as they are, since they are worked out there and hold no personal data.

use std::sync::Arc;

use async_trait::async_trait;
use countersign_types::UnixMillis;

use crate::{
    Body, Commit, CommitError, Committed, Hold, Keyring, Need, Row, Scanned, Section, Sections,
    Store, StoreError, Unsealable,
};

/// A store some of whose rows rest sealed.
pub struct Sealing {
    inner: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    prefix: &'static [u8],
}

/// Which side of a row a section is on. Part of what a sealed section is bound to, so that neither can be
/// put in the other's place.
const SERVICE: u8 = b's';
const HOST: u8 = b'h';

/// The sections of a row that rests sealed by [`Sealing`], each with the place that it is bound to: for
/// whoever looks at rows below it.
pub fn sealed_sections<'a>(
    key: &[u8],
    sections: &'a Sections,
) -> impl Iterator<Item = (Vec<u8>, &'a Section)> {
    let sides = [(SERVICE, &sections.service), (HOST, &sections.host)];
    let there = sides.map(|(side, section)| Some(([&[side], key].concat(), section.as_ref()?)));
    there.into_iter().flatten()
}

impl Sealing {
    /// `inner`, where all rows whose keys begin with `prefix` rest sealed under `keyring`.
    pub fn new(inner: Arc<dyn Store>, keyring: Arc<Keyring>, prefix: &'static [u8]) -> Sealing {
        Sealing {
            inner,
            keyring,
            prefix,
        }
    }

    /// Applies `change` to the value of each section of a row that rests sealed, with the place that it
    /// is bound to.
    fn each(
        &self,
        key: &[u8],
        body: &mut Body,
        change: impl Fn(&[u8], &mut Section) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let Body::Sections(Sections { service, host }) = body else {
            return Ok(());
        };
        if !key.starts_with(self.prefix) {
            return Ok(());
        }
        let mut place = Vec::with_capacity(1 + key.len());
        for (side, section) in [(SERVICE, service), (HOST, host)] {
            if let Some(section) = section {
                place.clear();
                place.push(side);
                place.extend_from_slice(key);
                change(&place, section)?;
            }
        }
        Ok(())
    }

    fn unseal(&self, key: &[u8], row: &mut Row) -> Result<(), StoreError> {
        self.each(key, &mut row.body, |place, section| {
            match self.keyring.unseal(place, &section.value) {
                Ok(mut plain) => {
                    section.value = std::mem::take(&mut *plain);
                    Ok(())
                }
                Err(Unsealable) => Err(StoreError::Unreadable {
                    key: String::from_utf8_lossy(key).into_owned(),
                }),
            }
        })
    }

    fn seal(&self, key: &[u8], body: &mut Body) -> Result<(), StoreError> {
        self.each(key, body, |place, section| {
            section.value = self
                .keyring
                .seal(place, &section.value)
                .map_err(|error| StoreError::Failed(error.to_string()))?;
            Ok(())
        })
    }

    /// One that does not open is told as such, and the others are there all the same.
    fn unseal_each(&self, rows: &mut [Scanned]) {
        for (key, found) in rows {
            if let Ok(row) = found
                && let Err(error) = self.unseal(key, row)
            {
                *found = Err(error);
            }
        }
    }
}

#[async_trait]
impl Store for Sealing {
    async fn get(&self, key: &[u8]) -> Result<Option<Row>, StoreError> {
        let mut row = self.inner.get(key).await?;
        if let Some(row) = &mut row {
            self.unseal(key, row)?;
        }
        Ok(row)
    }

    async fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Scanned>, StoreError> {
        let mut rows = self.inner.scan(from, to, limit).await?;
        self.unseal_each(&mut rows);
        Ok(rows)
    }

    async fn scan_back(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Scanned>, StoreError> {
        let mut rows = self.inner.scan_back(from, to, limit).await?;
        self.unseal_each(&mut rows);
        Ok(rows)
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed, CommitError> {
        for write in &mut commit.writes {
            if let Some(body) = &mut write.body {
                self.seal(&write.key, body)?;
            }
        }
        self.inner.commit(commit).await
    }

    async fn hold(&self) -> Hold<'_> {
        self.inner.hold().await
    }

    async fn settle(&self) -> Result<(), StoreError> {
        self.inner.settle().await
    }

    fn has_room(&self, need: Need) -> bool {
        self.inner.has_room(need)
    }

    fn newest_instant(&self) -> UnixMillis {
        self.inner.newest_instant()
    }

    fn step_back(&self, instant: UnixMillis) {
        self.inner.step_back(instant);
    }

    async fn await_events(&self, position: u64) {
        self.inner.await_events(position).await;
    }

    async fn sweep(&self, now: UnixMillis) -> Result<bool, StoreError> {
        self.inner.sweep(now).await
    }
}

#[cfg(test)]
mod tests {
    use countersign_types::SystemEntropy;

    use super::*;
    use crate::{Ending, Rulings, SledStore, SumAdd, Transaction, Write};

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    struct Bench {
        folder: tempfile::TempDir,
        sled: Arc<SledStore>,
        store: Arc<dyn Store>,
    }

    impl Bench {
        fn new() -> Bench {
            let folder = tempfile::tempdir().expect("a folder");
            let sled = SledStore::open(&folder.path().join("store")).expect("opened");
            let store = sealing(&folder, sled.clone());
            Bench {
                folder,
                sled,
                store,
            }
        }

        async fn write(&self, key: &[u8], service: &str, host: &str) {
            let section = |text: &str, expires| Section {
                state: 3,
                expires,
                value: text.as_bytes().to_vec(),
            };
            let mut run = Transaction::new(self.store.clone(), NOW, Rulings::default());
            let own = section(service, Some(NOW + std::time::Duration::from_secs(9)));
            run.set_service(key, Some(own)).await.expect("set");
            run.set_host(key, Some(section(host, None)))
                .await
                .expect("set");
            let commit = run.into_commit(Ending::Commit);
            self.store.commit(commit).await.expect("committed");
        }

        async fn read(&self, key: &[u8]) -> Result<(String, String), StoreError> {
            let row = self.store.get(key).await?.expect("a row");
            Ok(texts(&row))
        }

        /// The row as it rests.
        async fn rests(&self, key: &[u8]) -> Row {
            self.sled.get(key).await.expect("read").expect("a row")
        }

        async fn put(&self, key: &[u8], body: Body) {
            let commit = Commit {
                instant: NOW,
                writes: vec![Write {
                    key: key.to_vec(),
                    body: Some(body),
                }],
                ..Commit::default()
            };
            self.sled.commit(commit).await.expect("committed");
        }
    }

    fn sealing(folder: &tempfile::TempDir, sled: Arc<SledStore>) -> Arc<dyn Store> {
        sealing_all(folder, sled, b"c/")
    }

    /// Seals the rows whose keys begin with `prefix`.
    fn sealing_all(
        folder: &tempfile::TempDir,
        sled: Arc<SledStore>,
        prefix: &'static [u8],
    ) -> Arc<dyn Store> {
        let keys = folder.path().join("keys");
        let keyring = Keyring::load_or_create(&keys, true, &SystemEntropy).expect("keys");
        Arc::new(Sealing::new(sled, Arc::new(keyring), prefix))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_conforms_with_every_row_sealed() {
        let mut folders = Vec::new();
        crate::conformance::all(|| {
            let bench = Bench::new();
            let store = sealing_all(&bench.folder, bench.sled.clone(), b"");
            folders.push(bench);
            std::future::ready(store)
        })
        .await;
    }

    fn texts(row: &Row) -> (String, String) {
        let Body::Sections(Sections { service, host }) = &row.body else {
            panic!("{row:?}");
        };
        let text = |side: &Option<Section>| {
            let side = side.as_ref().expect("a section");
            String::from_utf8_lossy(&side.value).into_owned()
        };
        (text(service), text(host))
    }

    fn pair(service: &str, host: &str) -> (String, String) {
        (service.to_owned(), host.to_owned())
    }

    #[tokio::test]
    async fn what_rests_cannot_be_read_and_what_is_read_is_what_was_written() {
        let bench = Bench::new();
        bench.write(b"c/a/1", "+12025550123", "a challenge").await;
        assert_eq!(
            bench.read(b"c/a/1").await.expect("read"),
            pair("+12025550123", "a challenge")
        );
        let found = bench.store.scan(b"c/a/", b"c/a0", 9).await.expect("found");
        assert_eq!(
            texts(found[0].1.as_ref().expect("readable")),
            pair("+12025550123", "a challenge")
        );
        let rests = bench.rests(b"c/a/1").await;
        let plain = format!("{rests:?} {:?}", rests.to_bytes());
        assert!(!plain.contains("2025550123"));
        let Body::Sections(Sections {
            service: Some(service),
            host: Some(host),
        }) = rests.body
        else {
            panic!("two sections");
        };
        assert_eq!((service.state, host.state), (3, 3), "what judging needs");
        assert!(service.expires.is_some() && host.expires.is_none());
        for side in [service, host] {
            let held = side.value.windows(4).any(|bytes| bytes == b"5550");
            assert!(!held);
        }
    }

    #[tokio::test]
    async fn a_section_opens_in_its_own_row_and_on_its_own_side_only() {
        let bench = Bench::new();
        bench.write(b"c/a/1", "mine", "the host's").await;
        let rests = bench.rests(b"c/a/1").await;
        bench.put(b"c/a/2", rests.body.clone()).await;
        let error = bench.read(b"c/a/2").await;
        assert!(
            matches!(error, Err(StoreError::Unreadable { .. })),
            "{error:?}"
        );
        let Body::Sections(sections) = rests.body else {
            panic!("sections");
        };
        let swapped = Sections {
            service: sections.host,
            host: sections.service,
        };
        bench.put(b"c/a/1", Body::Sections(swapped)).await;
        assert!(bench.read(b"c/a/1").await.is_err());
    }

    #[tokio::test]
    async fn a_row_in_plain_is_not_believed() {
        let bench = Bench::new();
        let plain = Section {
            state: 3,
            expires: None,
            value: b"an enrolment that somebody has put here".to_vec(),
        };
        let sections = Sections {
            service: Some(plain.clone()),
            host: Some(plain),
        };
        bench.put(b"c/a/1", Body::Sections(sections)).await;
        assert!(bench.read(b"c/a/1").await.is_err());
    }

    #[tokio::test]
    async fn an_older_key_still_reads_and_the_newer_one_is_used_for_what_is_new() {
        let mut bench = Bench::new();
        bench.write(b"c/a/1", "old", "old").await;
        Keyring::rotate(&bench.folder.path().join("keys"), &SystemEntropy).expect("rotated");
        let before = bench.store.clone();
        bench.store = sealing(&bench.folder, bench.sled.clone());
        assert_eq!(
            bench.read(b"c/a/1").await.expect("read"),
            pair("old", "old")
        );
        bench.write(b"c/a/1", "new", "new").await;
        assert!(before.get(b"c/a/1").await.is_err(), "it needs the new key");
    }

    #[tokio::test]
    async fn other_rows_and_sums_rest_as_they_are() {
        let bench = Bench::new();
        bench.write(b"m/1", "as it", "is").await;
        assert_eq!(texts(&bench.rests(b"m/1").await), pair("as it", "is"));
        let sum = SumAdd {
            key: b"c/a/sum".to_vec(),
            delta: 5,
            expires: None,
        };
        let mut run = Transaction::new(bench.store.clone(), NOW, Rulings::default());
        run.add(sum).expect("added");
        let commit = run.into_commit(Ending::Commit);
        bench.store.commit(commit).await.expect("committed");
        let row = bench.store.get(b"c/a/sum").await.expect("read");
        let body = row.map(|row| row.body);
        assert!(matches!(body, Some(Body::Sum { value: 5, .. })), "{body:?}");
    }
}
