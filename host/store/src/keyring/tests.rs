use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use countersign_types::SystemEntropy;

use super::files::create_key;
use super::*;
use crate::{Ending, Rulings, Section, Transaction};

fn load(path: &Path, new_data: bool) -> Result<Keyring, KeyringError> {
    Keyring::load_or_create(path, new_data, &SystemEntropy)
}

#[test]
fn keys_are_made_once_and_only_the_owner_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys");
    let first = load(&keys, true).expect("made");
    assert!(first.created());
    for name in ["index.key", "codes-1.key", "rows-1.key", "signing-1.key"] {
        let mode = fs::metadata(keys.join(name))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let again = load(&keys, false).expect("loaded");
    assert!(!again.created());
    assert_eq!(
        first.phone_index("+12025550123"),
        again.phone_index("+12025550123")
    );
    assert_eq!(first.code_hmac(1, &[b"a"]), again.code_hmac(1, &[b"a"]));
}

#[test]
fn lost_keys_are_not_replaced_behind_the_operators_back() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(
        load(folder.path(), false),
        Err(KeyringError::Missing { .. })
    ));
}

#[test]
fn a_start_that_was_cut_off_in_the_middle_of_a_key_is_taken_up() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("codes-1.new"), "0123").expect("written");
    assert!(load(folder.path(), true).expect("made").created());
    assert!(!folder.path().join("codes-1.new").exists());
}

#[test]
fn a_rotation_adds_keys_and_keeps_the_old_ones_and_the_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = Keyring::rotate(folder.path(), &SystemEntropy);
    assert!(matches!(before, Err(KeyringError::Missing { .. })));
    let old = load(folder.path(), true).expect("made");
    let sealed = old.seal(b"j/1", b"text").expect("sealed");
    for n in 2..=3 {
        let rotated = Keyring::rotate(folder.path(), &SystemEntropy).expect("rotated");
        let want = Rotated {
            codes: n,
            rows: n,
            signing: n,
        };
        assert_eq!(rotated, want);
    }
    let new = load(folder.path(), false).expect("loaded");
    assert_eq!(new.current(), 3);
    assert_eq!(
        new.unseal(b"j/1", &sealed).expect("opened").as_slice(),
        b"text"
    );
    let sealed = new.seal(b"j/1", b"text").expect("sealed");
    assert_eq!(new.sealed_under(&sealed), Some((3, true)));
    assert_eq!(old.sealed_under(&sealed), Some((3, false)));
    let number = "+12025550123";
    assert_eq!(old.phone_index(number), new.phone_index(number));
    assert_eq!(old.code_hmac(1, &[b"a"]), new.code_hmac(1, &[b"a"]));
}

/// New keys beside a new store, and where they lie.
fn in_use() -> (tempfile::TempDir, Arc<dyn Store>, PathBuf, Keyring) {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> =
        crate::SledStore::open(&folder.path().join("store")).expect("opened");
    let path = folder.path().join("keys");
    let keys = load(&path, true).expect("made");
    (folder, store, path, keys)
}

#[tokio::test]
async fn a_rotation_in_use_counts_at_once_and_is_remembered_by_the_store() {
    let (_folder, store, path, keys) = in_use();
    keys.bind(&store).await.expect("bound");
    let sealed = keys.seal(b"j/1", b"text").expect("sealed");
    let code = keys.code_hmac(1, &[b"a"]);
    let rotated = keys.rotate_in_use(&store, &SystemEntropy).await;
    let want = Rotated {
        codes: 2,
        rows: 2,
        signing: 2,
    };
    assert_eq!(rotated.expect("rotated"), want);
    assert_eq!(keys.current(), 2);
    let new = keys.seal(b"j/1", b"text").expect("sealed");
    assert_eq!(keys.sealed_under(&new), Some((2, true)));
    // What was made before is read as before.
    assert!(keys.unseal(b"j/1", &sealed).is_ok());
    assert_eq!(keys.code_hmac(1, &[b"a"]), code);
    // The next start has the same keys, and would miss the new ones.
    let next = load(&path, false).expect("loaded");
    assert!(next.unseal(b"j/1", &new).is_ok());
    fs::remove_file(path.join("codes-2.key")).expect("removed");
    fs::remove_file(path.join("rows-2.key")).expect("removed");
    fs::remove_file(path.join("signing-2.key")).expect("removed");
    let without = load(&path, false).expect("loaded");
    let missing = without.missing(&store).await.expect("read");
    assert_eq!(missing, ["codes-2", "rows-2", "signing-2"]);
}

#[tokio::test]
async fn a_rotation_signs_with_a_new_key_and_the_old_one_counts_for_a_day() {
    let (_folder, store, path, keys) = in_use();
    keys.bind(&store).await.expect("bound");
    let old = keys.signing_key().expect("a key");
    let later = UnixMillis(100_000_000);
    advance(&store, later).await;
    keys.rotate_in_use(&store, &SystemEntropy)
        .await
        .expect("rotated");
    let new = keys.signing_key().expect("a key");
    assert_ne!(old.id(), new.id());
    let counting = |keys: &Keyring, now| {
        let keys = keys.signing_keys(now);
        let ids = keys.iter().map(|key| key.id().to_owned());
        ids.collect::<Vec<_>>()
    };
    let both = [old.id().to_owned(), new.id().to_owned()];
    let retired = later + Duration::from_secs(24 * 3_600 + 5 * 60);
    let just_before = UnixMillis(retired.0 - 1);
    assert_eq!(counting(&keys, just_before), both);
    assert_eq!(counting(&keys, retired), both[1..]);
    // The next start knows it from the store, however late it comes.
    advance(&store, UnixMillis(u64::MAX / 2)).await;
    let next = load(&path, false).expect("loaded");
    assert_eq!(counting(&next, retired), both);
    next.bind(&store).await.expect("bound");
    assert_eq!(counting(&next, retired), both[1..]);
    assert_eq!(counting(&next, just_before), both);
}

/// Makes a commit at `now`.
async fn advance(store: &Arc<dyn Store>, now: UnixMillis) {
    let mut run = Transaction::new(store.clone(), now, Rulings::default());
    let section = Section {
        state: 1,
        expires: None,
        value: now.0.to_be_bytes().to_vec(),
    };
    run.set_host(b"h/test", Some(section)).await.expect("set");
    let commit = run.into_commit(Ending::Commit);
    store.commit(commit).await.expect("committed");
}

#[tokio::test]
async fn a_rotation_that_cannot_be_made_leaves_the_keys_in_use() {
    let (_folder, store, path, keys) = in_use();
    fs::set_permissions(path.join("codes-1.key"), fs::Permissions::from_mode(0o644)).expect("set");
    let rotated = keys.rotate_in_use(&store, &SystemEntropy).await;
    let too_open = matches!(
        rotated,
        Err(RotateError::Keys(KeyringError::TooOpen { .. }))
    );
    assert!(too_open, "{rotated:?}");
    assert_eq!(keys.current(), 1);
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    load(folder.path(), true).expect("made");
    let key = folder.path().join("index.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("changed");
    assert!(matches!(
        load(folder.path(), false),
        Err(KeyringError::TooOpen { .. })
    ));
}

#[test]
fn fields_do_not_run_into_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = load(folder.path(), true).expect("made");
    assert_ne!(
        keys.code_hmac(1, &[b"ab", b"c"]),
        keys.code_hmac(1, &[b"a", b"bc"])
    );
    assert_eq!(keys.code_hmac(9, &[b"ab"]), None);
}

#[tokio::test]
async fn a_store_knows_its_keys_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn Store> =
        crate::SledStore::open(&folder.path().join("store")).expect("opened");
    let keys = load(&folder.path().join("keys"), true).expect("made");
    for _ in 0..2 {
        keys.bind(&store).await.expect("its own keys");
    }
    create_key(&folder.path().join("keys/codes-2.key"), &SystemEntropy).expect("made");
    let rotated = load(&folder.path().join("keys"), false).expect("loaded");
    rotated
        .bind(&store)
        .await
        .expect("a new key beside the old");
    let others = load(&folder.path().join("others"), true).expect("made");
    let error = others.bind(&store).await;
    assert!(matches!(error, Err(BindError::Foreign { .. })), "{error:?}");
}

#[test]
fn a_sealed_row_opens_in_its_own_place_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = load(folder.path(), true).expect("made");
    let sealed = keys.seal(b"j/1", b"+12025550123").expect("sealed");
    let opened = keys.unseal(b"j/1", &sealed).expect("opened");
    assert_eq!(opened.as_slice(), b"+12025550123");
    assert_eq!(keys.unseal(b"j/2", &sealed), Err(Unsealable));
    assert!(!sealed.windows(4).any(|window| window == b"5550"));
    for at in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[at] ^= 1;
        assert_eq!(keys.unseal(b"j/1", &damaged), Err(Unsealable), "byte {at}");
        assert_eq!(
            keys.unseal(b"j/1", &sealed[..at]),
            Err(Unsealable),
            "cut at {at}"
        );
    }
}

#[test]
fn an_older_row_key_still_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = load(folder.path(), true).expect("made");
    let sealed = old.seal(b"j/1", b"x").expect("sealed");
    create_key(&folder.path().join("rows-2.key"), &SystemEntropy).expect("made");
    let both = load(folder.path(), false).expect("loaded");
    assert_eq!(
        both.unseal(b"j/1", &sealed).expect("opened").as_slice(),
        b"x"
    );
    let sealed = both.seal(b"j/1", b"x").expect("sealed");
    assert_eq!(
        old.unseal(b"j/1", &sealed),
        Err(Unsealable),
        "the newer key seals"
    );
}

#[test]
fn a_newer_code_key_is_used_and_the_older_still_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = load(folder.path(), true).expect("made");
    create_key(&folder.path().join("codes-2.key"), &SystemEntropy).expect("made");
    let both = load(folder.path(), false).expect("loaded");
    assert_eq!(both.current(), 2);
    assert_eq!(both.code_hmac(1, &[b"a"]), old.code_hmac(1, &[b"a"]));
}
