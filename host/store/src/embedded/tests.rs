use std::sync::Arc;

use countersign_types::UnixMillis;
use proptest::prelude::*;

use super::*;
use crate::conformance::{self, Step};
use crate::{Ending, Rulings, Section, Transaction};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn open(&self) -> Result<Arc<SledStore>, OpenError> {
        SledStore::open(&self.0.path().join("store"))
    }
}

async fn write(store: &Arc<SledStore>, key: &[u8], value: &[u8]) -> Result<Committed, CommitError> {
    let mut run = Transaction::new(store.clone(), UnixMillis(1), Rulings::default());
    let section = Section {
        state: 1,
        expires: None,
        value: value.to_vec(),
    };
    run.set_service(key, Some(section)).await.expect("written");
    store.commit(run.into_commit(Ending::Commit)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_conforms() {
    let mut folders = Vec::new();
    conformance::all(|| {
        let folder = Folder::new();
        let store: Arc<dyn Store> = folder.open().expect("opened");
        folders.push(folder);
        std::future::ready(store)
    })
    .await;
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_reopen_and_versions_go_on() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let first = write(&store, b"a", b"1").await.expect("committed");
    drop(store);
    let store = folder.open().expect("opened again");
    assert!(store.get(b"a").await.expect("read").is_some());
    assert_eq!(store.newest_instant(), UnixMillis(1));
    let second = write(&store, b"a", b"2").await.expect("committed");
    assert!(second.version > first.version);
}

#[tokio::test]
async fn a_folder_in_use_is_refused_by_name() {
    let folder = Folder::new();
    let _first = folder.open().expect("opened");
    assert!(matches!(folder.open(), Err(OpenError::InUse { .. })));
}

#[tokio::test]
async fn every_commit_alone_is_synced_before_its_answer() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    for n in 0..10u8 {
        let before = sync::calls();
        write(&store, b"a", &[n]).await.expect("committed");
        assert!(sync::calls() > before, "commit {n}");
    }
}

#[tokio::test]
async fn damaged_files_are_an_error_and_never_an_empty_store() {
    let folder = Folder::new();
    drop(folder.open().expect("opened"));
    let db = folder.0.path().join("store").join("db");
    std::fs::write(&db, vec![0x5a; 1024 * 1024]).expect("damaged");
    assert!(matches!(folder.open(), Err(OpenError::Damaged { .. })));
}

fn step() -> impl Strategy<Value = Step> {
    let run = 0..conformance::RUNS;
    prop_oneof![
        3 => (run.clone(), 0u8..6).prop_map(|(run, key)| Step::Get(run, key)),
        4 => (run.clone(), 0u8..6, 0u8..4).prop_map(|(run, key, value)| Step::Put(run, key, value)),
        1 => (run.clone(), 0u8..6).prop_map(|(run, key)| Step::Scan(run, key)),
        2 => run.prop_map(Step::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn interleaved_runs_are_serializable(steps in proptest::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let folder = Folder::new();
            let store: Arc<dyn Store> = folder.open().expect("opened");
            conformance::interleaving_is_serial(&store, &steps).await;
        });
    }
}
