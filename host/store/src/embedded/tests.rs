use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver, Sender};

use countersign_types::UnixMillis;
use proptest::prelude::*;
use tokio::task::JoinHandle;

use super::*;
use crate::conformance::{self, Step};
use crate::{BackupSummary, Ending, Rulings, Section, Transaction};

pub(super) struct Folder(pub(super) tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    pub(super) fn open(&self) -> Result<Arc<SledStore>, OpenError> {
        SledStore::open(&self.0.path().join("store"))
    }
}

pub(super) async fn write(
    store: &Arc<SledStore>,
    key: &[u8],
    value: &[u8],
) -> Result<Committed, CommitError> {
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
        let before = sync::count();
        write(&store, b"a", &[n]).await.expect("committed");
        assert!(sync::count() > before, "commit {n}");
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

#[test]
fn a_store_whose_flush_does_not_sync_is_refused() {
    let folder = Folder::new();
    let path = folder.0.path();
    let db = database(path).open().expect("opened");
    let tree = db.open_tree(TREE).expect("opened");
    // As many syncs after the test write as before it.
    let opened = group::Storage::open(tree.clone(), path, false, || 7);
    assert!(matches!(opened, Err(OpenError::NotDurable { .. })));
    assert!(group::Storage::open(tree, path, false, sync::count).is_ok());
}

/// Lets a sync go on to the disk, or fail.
type LetGo = Sender<Result<(), StoreError>>;

/// A store whose syncs wait until a test lets them go: each tells of itself when it begins. Dropping
/// what it tells lets it go as well.
fn held(folder: &Folder) -> (Arc<SledStore>, Receiver<LetGo>) {
    let (begins, began) = mpsc::channel();
    let make_durable: MakeDurable = Box::new(move |db, end| {
        let (go, goes) = mpsc::channel();
        // A test that has ended waits for nothing.
        let _ = begins.send(go);
        goes.recv().unwrap_or(Ok(()))?;
        group::make_durable(db, end)
    });
    let path = folder.0.path().join("store");
    let open = || database(&path).open();
    let store = SledStore::open_with(&path, open, make_durable).expect("opened");
    (store, began)
}

/// A commit under way, which must not be answered before `may` says so.
fn written(
    store: &Arc<SledStore>,
    key: &'static [u8],
    may: &Arc<AtomicBool>,
) -> JoinHandle<Result<Committed, CommitError>> {
    let (store, may) = (store.clone(), may.clone());
    tokio::spawn(async move {
        let answer = write(&store, key, b"1").await;
        assert!(may.load(Ordering::SeqCst), "answered too early: {answer:?}");
        answer
    })
}

async fn is_there(store: &Arc<SledStore>, key: &[u8]) -> bool {
    store.get(key).await.expect("read").is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_applied_while_the_one_before_is_synced_and_a_third_waits_for_its_turn() {
    let folder = Folder::new();
    let (store, began) = held(&folder);
    let [may, third_may] = [false, false].map(|may| Arc::new(AtomicBool::new(may)));
    let first = written(&store, b"a", &may);
    let sync_of_first = began.recv().expect("synced");
    let second = written(&store, b"b", &may);
    let sync_of_second = began.recv().expect("synced meanwhile");
    assert!(is_there(&store, b"a").await && is_there(&store, b"b").await);
    let third = written(&store, b"c", &third_may);
    // Its turn comes when one of the two is through; nothing else can let it begin.
    assert!(!is_there(&store, b"c").await);
    // The log is durable up to the second's end, so the first is as well, whoever comes first.
    may.store(true, Ordering::SeqCst);
    drop(sync_of_second);
    let second = second.await.expect("whole").expect("committed");
    let first = first.await.expect("whole").expect("committed");
    assert!(first.version < second.version);
    drop(sync_of_first);
    third_may.store(true, Ordering::SeqCst);
    drop(began.recv().expect("synced"));
    third.await.expect("whole").expect("committed");
    assert!(is_there(&store, b"c").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_only_reads_what_is_being_synced_is_answered_after_it() {
    let folder = Folder::new();
    let (store, began) = held(&folder);
    let may = Arc::new(AtomicBool::new(false));
    let writer = written(&store, b"a", &may);
    let sync = began.recv().expect("synced");
    let reader = tokio::spawn({
        let (store, may) = (store.clone(), may.clone());
        async move {
            let mut run = Transaction::new(store.clone(), UnixMillis(1), Rulings::default());
            assert!(run.service(b"a").await.expect("read").is_some());
            let judged = store.commit(run.into_commit(Ending::Commit)).await;
            assert!(may.load(Ordering::SeqCst), "answered too early");
            judged.expect("valid").version
        }
    });
    let settled = tokio::spawn({
        let (store, may) = (store.clone(), may.clone());
        async move {
            store.settle().await.expect("settled");
            assert!(may.load(Ordering::SeqCst), "settled too early");
        }
    });
    // Judged after both, in a group that has something to write.
    let last = written(&store, b"b", &may);
    let sync_of_last = began.recv().expect("synced");
    may.store(true, Ordering::SeqCst);
    drop((sync, sync_of_last));
    assert_eq!(reader.await.expect("whole"), None);
    settled.await.expect("whole");
    for writer in [writer, last] {
        writer.await.expect("whole").expect("committed");
    }
}

/// One sync fails, of the first of two groups in flight or of the second: neither is acknowledged, and
/// nothing after it.
async fn check_failed_sync(first_fails: bool) {
    let folder = Folder::new();
    let (store, began) = held(&folder);
    let any = Arc::new(AtomicBool::new(true));
    let first = written(&store, b"a", &any);
    let sync_of_first = began.recv().expect("synced");
    let second = written(&store, b"b", &any);
    let sync_of_second = began.recv().expect("synced");
    assert!(is_there(&store, b"b").await);
    let (fails, goes) = match first_fails {
        true => (sync_of_first, sync_of_second),
        false => (sync_of_second, sync_of_first),
    };
    let error = StoreError::Failed("no power".to_owned());
    fails.send(Err(error)).expect("heard");
    assert!(store.failure().await.contains("no power"));
    // The other one comes to its end, which nobody may take for an acknowledgement.
    drop(goes);
    for writer in [first, second] {
        let answer = writer.await.expect("whole");
        let closed = matches!(answer, Err(CommitError::Store(StoreError::Closed)));
        assert!(closed, "{answer:?}");
    }
    for _ in 0..2 {
        let later = write(&store, b"c", b"1").await;
        let closed = matches!(later, Err(CommitError::Store(StoreError::Closed)));
        assert!(closed, "{later:?}");
    }
    assert!(matches!(store.settle().await, Err(StoreError::Closed)));
    assert!(!is_there(&store, b"c").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_acknowledges_neither_its_group_nor_the_one_applied_meanwhile() {
    check_failed_sync(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_of_the_second_group_ends_the_store_as_well() {
    check_failed_sync(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_while_a_group_is_synced_ends_the_store() {
    let folder = Folder::new();
    let path = folder.0.path().join("store");
    let panics: MakeDurable = Box::new(|_, _| panic!("for the test"));
    let open = || database(&path).open();
    let store = SledStore::open_with(&path, open, panics).expect("opened");
    let answer = write(&store, b"a", b"1").await;
    let closed = matches!(answer, Err(CommitError::Store(StoreError::Closed)));
    assert!(closed, "{answer:?}");
    assert!(store.failure().await.contains("panicked"));
}

/// All rows of a stopped store, the counters' included.
fn rows(path: &Path) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let db = database(path).open().expect("opened");
    let tree = db.open_tree(TREE).expect("opened");
    tree.iter()
        .map(|entry| entry.expect("read"))
        .map(|(key, row)| (key.to_vec(), row.to_vec()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_the_state_after_one_group() {
    const ROWS: u64 = 20_000;
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    // So many that commits get in between while they are read.
    let key = |n: u64| (n % ROWS).to_be_bytes();
    for first in (0..ROWS).step_by(1_000) {
        let writes = (first..first + 1_000).map(|n| crate::Write {
            key: key(n).to_vec(),
            body: Some(crate::Body::Sections(crate::Sections {
                service: Some(Section {
                    state: 1,
                    expires: None,
                    value: b"old".to_vec(),
                }),
                host: None,
            })),
        });
        let commit = Commit {
            writes: writes.collect(),
            ..Commit::default()
        };
        store.commit(commit).await.expect("committed");
    }
    // Versions in commit order, with what was written under them; deletes among them.
    let log = Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::new()));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let writers: Vec<_> = (0..8u64)
        .map(|writer| {
            let (store, log, stop) = (store.clone(), log.clone(), stop.clone());
            tokio::spawn(async move {
                let mut n = writer;
                while !stop.load(Ordering::Relaxed) {
                    // Odd, so that in time every key has its turn.
                    n += 7_919;
                    // Every key in turns, from both ends, so that rows change before and behind the copying.
                    let key = key(if writer % 2 == 0 { n } else { u64::MAX - n });
                    let value = (n % 5 != 0).then(|| n.to_be_bytes().to_vec());
                    let mut run =
                        Transaction::new(store.clone(), UnixMillis(1), Rulings::default());
                    let section = value.clone().map(|value| Section {
                        state: 1,
                        expires: None,
                        value,
                    });
                    run.set_service(&key, section).await.expect("written");
                    if let Ok(done) = store.commit(run.into_commit(Ending::Commit)).await {
                        let version = done.version.expect("it wrote");
                        log.lock().expect("whole").insert(version, (key, value));
                    }
                }
            })
        })
        .collect();
    while log.lock().expect("whole").len() < 100 {
        tokio::task::yield_now().await;
    }
    let file = folder.0.path().join("backup");
    let (from, to) = (store.clone(), file.clone());
    let made = tokio::task::spawn_blocking(move || from.backup(&to))
        .await
        .expect("not panicked")
        .expect("made");
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("ended");
    }
    assert!(made.rows >= ROWS / 2 && made.changes > 0, "{made:?}");
    assert_eq!(made.bytes, std::fs::metadata(&file).expect("there").len());
    let restored = folder.0.path().join("restored");
    let summary = restore(&file, &restored).expect("restored");
    assert_eq!(summary, made);

    // Every row, against the log of acknowledged commits up to the last one in the backup.
    let rows = rows(&restored);
    // The committer's own count, since the last commit may have been one that deletes.
    let counters = rows.get(b"!counters".as_slice()).expect("counted");
    let (opened, _, _): (u64, u64, UnixMillis) = postcard::from_bytes(counters).expect("counters");
    // An opening counts on.
    let newest = opened - 1;
    let mut want: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = (0..ROWS)
        .map(|n| (key(n).to_vec(), b"old".to_vec()))
        .collect();
    let log = std::mem::take(&mut *log.lock().expect("whole"));
    for (key, value) in log.range(..=newest).map(|(_, written)| written) {
        match value {
            Some(value) => want.insert(key.to_vec(), value.clone()),
            None => want.remove(key.as_slice()),
        };
    }
    let got: std::collections::BTreeMap<Vec<u8>, Vec<u8>> = rows
        .iter()
        .filter(|(key, _)| key.len() == 8)
        .map(
            |(key, row)| match Row::from_bytes(key, row).expect("a row").body {
                crate::Body::Sections(sections) => {
                    (key.clone(), sections.service.expect("a section").value)
                }
                body => panic!("{body:?}"),
            },
        )
        .collect();
    assert_eq!(got, want);
    // It is a store like any other, and goes on after its versions.
    let store = SledStore::open(&restored).expect("opened");
    let next = write(&store, b"a", b"1").await.expect("committed");
    assert!(next.version.expect("it wrote") > opened);
}

/// Makes the store `path` from the backup `file`.
fn restore(file: &std::path::Path, path: &std::path::Path) -> Result<BackupSummary, RestoreError> {
    let backup = CheckedBackup::read(file)?;
    SledStore::restore(&backup, path, |_| false)?.finish()?;
    Ok(backup.summary())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_leaves_out_what_it_is_told_to_and_goes_where_it_is_given_up() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    for key in [b"a1".as_slice(), b"b1", b"b2"] {
        write(&store, key, b"1").await.expect("committed");
    }
    let file = folder.0.path().join("backup");
    let made = tokio::task::spawn_blocking(move || store.backup(&file).map(|_| file));
    let file = made.await.expect("no panic").expect("made");
    let path = folder.0.path().join("restored");
    let backup = CheckedBackup::read(&file).expect("whole");
    let filled = || SledStore::restore(&backup, &path, |key| key.starts_with(b"b"));
    drop(filled().expect("filled"));
    assert!(!path.exists() && !SledStore::restoring(&path).exists());
    let restoring = filled().expect("filled");
    // It can be written to before it has its name.
    let store = restoring.store().expect("open");
    write(&store, b"c1", b"1").await.expect("committed");
    drop(store);
    restoring.finish().expect("finished");
    let keys: Vec<Vec<u8>> = rows(&path).into_keys().collect();
    let own = keys.iter().filter(|key| !key.starts_with(b"!"));
    assert_eq!(own.collect::<Vec<_>>(), [b"a1", b"c1"]);
}

/// Begins to follow as a backup does; the count is the backup's, and goes with it.
fn follow(
    store: &SledStore,
) -> (
    bool,
    Arc<AtomicU64>,
    std::sync::mpsc::Receiver<crate::committer::Batch>,
) {
    let (changes, changed) = std::sync::mpsc::channel();
    let waiting = Arc::new(AtomicU64::new(0));
    let follower = Follower::new(changes, &waiting);
    let first = store.ask_blocking(|answer| Request::Follow(follower, answer));
    (first.expect("answered"), waiting, changed)
}

#[test]
fn two_backups_at_once_do_not_end_each_other() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let commit = |key: &[u8]| {
        runtime
            .block_on(write(&store, key, b"1"))
            .expect("committed")
    };
    let (first, waiting, changed) = follow(&store);
    assert!(first);
    let file = folder.0.path().join("backup");
    let second = store.backup(&file);
    assert!(matches!(second, Err(BackupError::Running)), "{second:?}");
    commit(b"a");
    assert!(
        changed.try_recv().is_ok(),
        "it is still passed what is written"
    );
    // It cannot keep up. Until it has noticed nobody takes its place.
    drop(changed);
    commit(b"b");
    assert!(!follow(&store).0);
    let ended = store.ask_blocking(Request::Unfollow).expect("answered");
    assert_eq!(ended, Followed::Overrun);
    // One that has died without a word is in nobody's way.
    let (first, died, _) = follow(&store);
    assert!(first);
    drop((died, waiting));
    store.backup(&file).expect("made");
    let names = std::fs::read_dir(folder.0.path()).expect("read").count();
    assert_eq!(names, 2, "the store and the backup");
}

#[test]
fn a_backup_of_a_store_at_rest_has_its_very_rows() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for n in 0..1_000u64 {
            write(&store, &n.to_be_bytes(), b"1")
                .await
                .expect("committed");
        }
    });
    let file = folder.0.path().join("backup");
    store.backup(&file).expect("made");
    // Whatever is there is not written over.
    let again = store.backup(&file);
    assert!(
        matches!(again, Err(BackupError::Exists { .. })),
        "{again:?}"
    );
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&file).expect("there").permissions(),
    );
    assert_eq!(mode & 0o7777, 0o600);
    drop(store);
    let restored = folder.0.path().join("restored");
    restore(&file, &restored).expect("restored");
    // An opening counts on.
    let all_but_counters = |path: &Path| {
        let mut rows = rows(path);
        rows.retain(|key, _| key != b"!counters");
        rows
    };
    let original = all_but_counters(&folder.0.path().join("store"));
    assert_eq!(original.len(), 1_000);
    assert_eq!(all_but_counters(&restored), original);
}

#[test]
fn a_restore_needs_an_empty_place_and_a_whole_file() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let file = folder.0.path().join("backup");
    store.backup(&file).expect("made");
    drop(store);
    let taken = folder.0.path().join("store");
    let refused = restore(&file, &taken);
    assert!(matches!(refused, Err(RestoreError::Exists { .. })));
    let place = folder.0.path().join("restored");
    let mut bytes = std::fs::read(&file).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).expect("written");
    let refused = restore(&file, &place);
    assert!(matches!(refused, Err(RestoreError::File { .. })));
    assert!(!place.exists() && !SledStore::restoring(&place).exists());
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
    fn interleaved_runs_are_serializable(
        steps in proptest::collection::vec(step(), 1..80),
        at_once in 1..=conformance::RUNS,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let folder = Folder::new();
            let store: Arc<dyn Store> = folder.open().expect("opened");
            conformance::interleaving_is_serial(&store, &steps, at_once).await;
        });
    }
}

/// sled's files of their own for what is too long for its log; never synced.
fn blobs(folder: &Folder) -> usize {
    let path = folder.0.path().join("store").join("blobs");
    std::fs::read_dir(path).map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_longest_rows_side_by_side_stay_in_the_synced_log() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let row = |byte: u8, n: u16| crate::Write {
        key: n.to_be_bytes().to_vec(),
        body: Some(crate::Body::Sections(crate::Sections {
            service: None,
            host: Some(Section {
                state: 1,
                expires: None,
                value: vec![byte; crate::ROW_BYTES_MAX],
            }),
        })),
    };
    // Neighbours in the same leaves, written, overwritten and taken away, so that leaves are split,
    // consolidated and merged.
    for round in 0..4u8 {
        for n in 0..200u16 {
            let mut write = row(round, n);
            if round == 2 && n % 5 != 0 {
                write.body = None;
            }
            let commit = Commit {
                writes: vec![write],
                ..Commit::default()
            };
            store.commit(commit).await.expect("committed");
        }
        assert_eq!(blobs(&folder), 0, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_with_thousands_of_long_events_stays_in_the_synced_log() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..2_000u32 {
        let store = store.clone();
        waiting.spawn(async move {
            let commit = Commit {
                events: vec![n.to_be_bytes().repeat(256)],
                ..Commit::default()
            };
            store.commit(commit).await.expect("committed")
        });
    }
    let committed = waiting.join_all().await.len();
    assert_eq!(blobs(&folder), 0);
    let events = crate::read_events(&*store, 0, usize::MAX, UnixMillis(1))
        .await
        .expect("read");
    assert_eq!(events.len(), committed);
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (1..=2_000).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_row_or_a_key_that_is_too_long_is_refused_and_nothing_is_written() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let written = |key: usize, value: usize| {
        let store = store.clone();
        async move { write(&store, &vec![b'a'; key], &vec![1; value]).await }
    };
    written(crate::KEY_BYTES_MAX, crate::ROW_BYTES_MAX)
        .await
        .expect("at the bound");
    for (key, value) in [(1, crate::ROW_BYTES_MAX + 1), (crate::KEY_BYTES_MAX + 1, 1)] {
        let refused = written(key, value).await;
        assert!(
            matches!(refused, Err(CommitError::Store(StoreError::TooLong { .. }))),
            "{refused:?}"
        );
    }
    assert!(store.get(b"a").await.expect("read").is_none());
}

#[tokio::test]
async fn events_beside_a_row_that_cannot_be_read_are_read() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    for n in 0..3u8 {
        let commit = Commit {
            events: vec![vec![n]],
            ..Commit::default()
        };
        store.commit(commit).await.expect("committed");
    }
    let damaged = [b"e/".as_slice(), &2u64.to_be_bytes()].concat();
    let tree = &store.shared.tree;
    tree.insert(damaged, b"no row".as_slice()).expect("written");
    for (from, want) in [(1, vec![1, 3]), (2, vec![3])] {
        let events = crate::read_events(&*store, from, 10, UnixMillis(1)).await;
        let events = events.expect("read").into_iter();
        let positions: Vec<u64> = events.map(|event| event.position).collect();
        assert_eq!(positions, want, "from {from}");
    }
}

/// How often each thread of sled's pool has given up its processor.
fn waits() -> BTreeMap<String, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let thread = |task: std::fs::DirEntry| {
        let read = |file| std::fs::read_to_string(task.path().join(file)).ok();
        let (name, status) = (read("comm")?, read("status")?);
        let mut lines = status.lines();
        let waits = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        let of_the_pool = name.starts_with("sled-io-");
        of_the_pool.then_some((name, waits.trim().parse().ok()?))
    };
    tasks.flatten().filter_map(thread).collect()
}

#[tokio::test]
async fn a_commit_wakes_few_of_the_pools_threads() {
    let folder = Folder::new();
    let store = folder.open().expect("opened");
    let before = waits();
    assert_eq!(before.len(), pool::THREADS, "{before:?}");
    for n in 0_u8..100 {
        write(&store, &[n], b"1").await.expect("committed");
    }
    let after = waits();
    let has_waited = |(name, waits): &(&String, &u64)| before.get(*name) != Some(*waits);
    let woken = after.iter().filter(has_waited).count();
    assert!((1..=pool::AWAKE).contains(&woken), "{before:?} {after:?}");
}
