use super::*;
use crate::config::{Environment, Flags, Merged};
use crate::testing::store;
use countersign_store::{Ending, Rulings, Section, Transaction};
use countersign_types::SystemEntropy;

#[track_caller]
fn check(findings: impl IntoIterator<Item = Finding>, want: &[(Severity, &str)]) {
    let findings: Vec<Finding> = findings.into_iter().collect();
    let codes: Vec<(Severity, &str)> = findings
        .iter()
        .map(|finding| (finding.severity, finding.code.as_str()))
        .collect();
    assert_eq!(codes, want, "{findings:#?}");
    findings.iter().for_each(does_no_harm);
}

/// Whoever does what is said under pressure must not lose data or open it to others.
#[track_caller]
fn does_no_harm(finding: &Finding) {
    let harmful = ["777", "666", "rm", "remove", "delete", "chown", "sudo"];
    let advice = finding.help.to_lowercase();
    let mut words = advice.split(|c: char| !c.is_alphanumeric());
    let harmful = words.find(|word| harmful.contains(word));
    assert!(harmful.is_none(), "{harmful:?} in {finding:?}");
    let opens = advice.contains("chmod") && !advice.contains("chmod 700");
    assert!(!opens, "{finding:?}");
}

/// What `countersign doctor` prints for them.
#[track_caller]
fn check_text(findings: &[Finding], want: &str) {
    let text: String = findings.iter().map(Finding::for_people).collect();
    assert_eq!(text, want, "{text}");
    findings.iter().for_each(does_no_harm);
}

fn configured(public_url: Option<&str>, toml: &str) -> Config {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("countersign.toml");
    let first = public_url.map_or_else(String::new, |url| format!("public-url = \"{url}\"\n"));
    fs::write(&file, first + toml).expect("written");
    let flags = Flags {
        config: Some(file),
        ..Flags::default()
    };
    let environment = Environment::from([("A_TOKEN", "0123456789abcdef")]);
    let merged = Merged::load(&flags, &environment).expect("merged");
    Config::new(&merged, &environment).expect("good")
}

const TWO_PROVIDERS: &str = r#"
[[provider]]
name = "main"
component = "provider-twilio"
settings = { account-sid = "AC0123456789abcdef0123456789abcdef", from = "+15005550006" }
credentials = { auth-token = { env = "A_TOKEN" } }

[[provider]]
name = "spare"
component = "spare.wasm"
"#;

#[test]
fn a_provider_that_cannot_report_is_told_and_what_to_do() {
    let of = |public_url, toml| {
        let findings = look_at_configuration(&configured(public_url, toml));
        let told = findings.into_iter();
        told.filter(|finding| finding.code == "no-public-url")
            .collect::<Vec<_>>()
    };
    let want = "\
warning  no-public-url: there is no public-url, so no receipts come from `main`, `spare`: whether a message has arrived is learnt late or never
         set public-url (COUNTERSIGN_PUBLIC_URL) to the address by which providers reach this server,
         such as https://sms.example.com, and let your reverse proxy pass the paths below /webhooks/ on
";
    check_text(&of(None, TWO_PROVIDERS), want);
    check(of(Some("https://sms.example.com"), TWO_PROVIDERS), &[]);
    // The terminal sends no receipts.
    check(of(None, ""), &[]);
}

#[test]
fn what_is_odd_in_a_configuration_is_told_as_the_doctor_prints_it() {
    let toml = "open = true\n[[provider]]\nname = \"c\"\ncomponent = \"provider-console\"\nunsigned = true\n";
    let want = "\
warning  configuration-odd: unsigned of the provider `c` has no effect: it only prints, and nobody calls back
         change it, or leave it where it is meant
note     console-only: no provider is configured: messages are printed on the terminal
         set the TWILIO_ variables, or add a [[provider]] entry
warning  open-insisted: open mode is insisted on: without an API key anybody who reaches the server may send
         make a key with `countersign keys create` and leave --open out
note     admin-token: there is no administrator's token: /admin answers 403
         set COUNTERSIGN_ADMIN_TOKEN to switch it on
";
    let findings = look_at_configuration(&configured(None, toml));
    check_text(&findings, want);
}

#[test]
fn a_finding_is_a_line_and_what_to_do_below_it() {
    let finding = found(
        Warning,
        "folder-open",
        "others can look in",
        "type: chmod 700 d",
    );
    let want = "warning  folder-open: others can look in\n         type: chmod 700 d\n";
    assert_eq!(finding.for_people(), want);
}

#[test]
fn a_clock_that_was_never_set_is_told() {
    check(look_at_clock(CLOCK_LEAST), &[]);
    check(
        look_at_clock(UnixMillis(CLOCK_LEAST.0 - 1)),
        &[(Error, "clock-not-set")],
    );
}

#[test]
fn free_space_is_judged_by_the_reserve() {
    check(judge_space(4_000, 1_000), &[]);
    check(judge_space(3_999, 1_000), &[(Warning, "disk-tight")]);
    check(judge_space(1_000, 1_000), &[(Warning, "disk-tight")]);
    check(judge_space(999, 1_000), &[(Error, "disk-full")]);
    check(judge_space(0, 0), &[]);
}

#[test]
fn a_limit_of_open_files_below_the_connections_is_told() {
    check(judge_open_files(10_512, 10_000), &[]);
    check(judge_open_files(10_511, 10_000), &[(Warning, "open-files")]);
}

#[test]
fn memory_and_container_layers_are_no_disk() {
    check(judge_file_system(0xef53), &[]);
    for kind in [0x0102_1994, 0x8584_58f6, 0x794c_7630, 0x6969] {
        check(judge_file_system(kind), &[(Warning, "file-system")]);
    }
}

#[test]
fn folders_that_others_may_enter_and_keys_beside_the_data_are_told() {
    let root = tempfile::tempdir().expect("a folder");
    let data = root.path().join("data");
    fs::create_dir(&data).expect("made");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("set");
    let folders = Folders {
        keys: data.join("keys"),
        data: data.clone(),
    };
    let of_folders = |findings: Vec<Finding>| {
        // The disk of this test is whatever it is.
        findings
            .into_iter()
            .filter(|finding| finding.code != "file-system")
    };
    let want = [(Warning, "folder-open"), (Warning, "keys-with-data")];
    check(of_folders(look_at_folders(&folders, 0)), &want);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("set");
    fs::create_dir(data.join("store.restoring")).expect("made");
    let folders = Folders {
        keys: root.path().join("keys"),
        data,
    };
    let want = [(Error, "restore-cut-off")];
    check(of_folders(look_at_folders(&folders, 0)), &want);
}

#[test]
fn an_address_that_is_taken_or_not_of_this_machine_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("bound");
    check(look_at_address(address, None), &[(Error, "address-in-use")]);
    let about = |address| About {
        process: 1,
        address,
        stopping: false,
    };
    check(look_at_address(address, Some(&about(address))), &[]);
    let elsewhere = about(SocketAddr::from(([127, 0, 0, 1], 1)));
    let want = [(Error, "address-in-use")];
    check(look_at_address(address, Some(&elsewhere)), &want);
    drop(taken);
    // A documentation address (RFC 5737).
    let foreign = SocketAddr::from(([192, 0, 2, 1], 8080));
    check(
        look_at_address(foreign, None),
        &[(Error, "address-unusable")],
    );
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    check(look_at_address(any, None), &[]);
}

#[test]
fn what_a_start_needs_a_key_for_is_told_where_there_is_none() {
    let config = configured(Some("https://sms.example.com"), TWO_PROVIDERS);
    check(look_at_mode(&config, true), &[]);
    check(look_at_mode(&config, false), &[(Error, "needs-key")]);
    let open = configured(None, "open = true\nlisten = \"0.0.0.0:8080\"");
    check(look_at_mode(&open, false), &[]);
    let console = configured(None, "");
    check(look_at_mode(&console, false), &[]);
}

#[test]
fn a_file_in_the_place_of_a_folder_is_told_once() {
    let root = tempfile::tempdir().expect("a folder");
    let file = root.path().join("file");
    fs::write(&file, "").expect("written");
    let folders = Folders {
        data: file.join("data"),
        keys: file.join("keys"),
    };
    let findings = look_at_folders(&folders, 0);
    let of_place = findings
        .into_iter()
        .filter(|finding| finding.code.starts_with("folder"));
    check(of_place, &[(Error, "folder-unusable")]);
}

#[test]
fn a_store_that_does_not_open_is_kept_and_looked_at() {
    let path = || "store".into();
    for (error, code) in [
        (OpenError::InUse { path: path() }, "store-in-use"),
        (
            OpenError::Unusable {
                path: path(),
                reason: "Permission denied".to_owned(),
            },
            "store-unusable",
        ),
        (OpenError::Damaged { path: path() }, "store-unusable"),
        (OpenError::NotDurable { path: path() }, "store-not-durable"),
    ] {
        let finding = unopened(&error);
        // A store that may be whole is not given up for an older backup.
        let gives_up = finding.help.contains("restore");
        assert_eq!(gives_up, matches!(error, OpenError::Damaged { .. }));
        check([finding], &[(Error, code)]);
    }
}

#[test]
fn keys_that_are_missing_malformed_or_open_are_told() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("keys");
    let look = || load_keys(&folder, &SystemEntropy).err();
    check(look(), &[(Error, "key-missing")]);
    assert!(!folder.exists(), "looking has made a folder");
    Keyring::load_or_create(&folder, true, &SystemEntropy).expect("made");
    check(look(), &[]);
    let file = folder.join("codes-1.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    check(look(), &[(Error, "key-open")]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(&file, "no key").expect("written");
    check(look(), &[(Error, "key-malformed")]);
}

async fn seal(store: &Arc<dyn Store>, keyring: &Keyring, key: &[u8]) {
    let value = keyring.seal(key, b"a message").expect("sealed");
    put(store, key, value).await;
}

async fn put(store: &Arc<dyn Store>, key: &[u8], value: Vec<u8>) {
    let mut run = Transaction::new(store.clone(), UnixMillis(5_000), Rulings::default());
    let section = Section {
        state: 1,
        expires: None,
        value,
    };
    run.set_host(key, Some(section)).await.expect("set");
    store
        .commit(run.into_commit(Ending::Commit))
        .await
        .expect("committed");
}

#[tokio::test]
async fn a_store_is_looked_at_with_its_keys_and_its_clock() {
    let (_folder, store) = store();
    let keys = tempfile::tempdir().expect("a folder");
    let load = |new| Keyring::load_or_create(keys.path(), new, &SystemEntropy).expect("loaded");
    let keyring = load(true);
    keyring.bind(&store).await.expect("bound");
    seal(&store, &keyring, b"j/1").await;
    let at = UnixMillis(5_000);
    let fine = [(Note, "no-api-key")];
    check(look_at_store(&store, &keyring, &[], at).await, &fine);
    // Behind by five seconds, and by one millisecond more.
    check(
        look_at_store(&store, &keyring, &[], UnixMillis(0)).await,
        &fine,
    );
    seal(&store, &keyring, b"m/1").await;
    let later = Keyring::rotate(keys.path(), &SystemEntropy).expect("rotated");
    let keyring = load(false);
    keyring.bind(&store).await.expect("bound");
    let old = "\
note     key-old: codes-1.key is left from before a rotation
         codes need it for 10 minutes after that; it does no harm after them
note     key-old: signing-1.key is left from before a rotation
         proofs need it for a day and 5 minutes after that; then it may be removed
note     key-still-needed: 2 rows are still sealed under rows-1.key
         keep it: rows of messages go 30 days after their end, those of users when they are written anew
note     no-api-key: no API key was ever made in this data folder
         make one with `countersign keys create`, or give one by COUNTERSIGN_API_KEY
";
    let findings = look_at_store(&store, &keyring, &[], at).await;
    check_text(&findings, old);
    // The old keys of codes and proofs have gone in peace; that of rows is needed.
    fs::remove_file(keys.path().join("codes-1.key")).expect("removed");
    fs::remove_file(keys.path().join("signing-1.key")).expect("removed");
    fs::rename(keys.path().join("rows-1.key"), keys.path().join("kept")).expect("moved");
    assert_eq!(later.rows, 2);
    let gone = "\
error    key-needed: rows are sealed under rows-1.key, which is not there: such users cannot log in, such messages cannot be sent or shown
         put it back from your copy of the keys: without it the server does not start
note     key-removed: codes-1.key was used once and is not there any more
         nothing in this data needs it, save for codes of the last 10 minutes; backups from before may: keep it with them
note     key-removed: signing-1.key was used once and is not there any more
         nothing in this data needs it; proofs of the last day and 5 minutes that it has signed are void
note     no-api-key: no API key was ever made in this data folder
         make one with `countersign keys create`, or give one by COUNTERSIGN_API_KEY
";
    let findings = look_at_store(&store, &load(false), &[], at).await;
    check_text(&findings, gone);
    // Unless the operator wants to start without it.
    let without = ["rows-1".to_owned(), "rows-2".to_owned()];
    let findings = look_at_store(&store, &load(false), &without, at).await;
    let told = [
        (Warning, "key-needed"),
        (Note, "without-keys"),
        (Note, "key-removed"),
        (Note, "key-removed"),
        (Note, "no-api-key"),
    ];
    check(findings, &told);
    fs::rename(keys.path().join("kept"), keys.path().join("rows-1.key")).expect("moved");
    // Sealed anew, they need it no more.
    for key in [b"j/1".as_slice(), b"m/1"] {
        seal(&store, &keyring, key).await;
    }
    let want = [
        (Note, "key-removed"),
        (Note, "key-removed"),
        (Note, "key-spare"),
        (Note, "no-api-key"),
    ];
    check(look_at_store(&store, &load(false), &[], at).await, &want);
    // Another folder's keys of the same names.
    let other = tempfile::tempdir().expect("a folder");
    let other = Keyring::load_or_create(other.path(), true, &SystemEntropy).expect("made");
    let want = [(Error, "key-foreign"), (Note, "no-api-key")];
    check(look_at_store(&store, &other, &[], at).await, &want);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_counted() {
    let (_folder, store) = store();
    let keys = tempfile::tempdir().expect("a folder");
    let keyring = Keyring::load_or_create(keys.path(), true, &SystemEntropy).expect("made");
    keyring.bind(&store).await.expect("bound");
    seal(&store, &keyring, b"j/1").await;
    let elsewhere = keyring.seal(b"j/2", b"a message").expect("sealed");
    put(&store, b"j/3", elsewhere).await;
    put(&store, b"m/1", b"no".to_vec()).await;
    let want = "\
error    row-unreadable: 2 rows about messages cannot be read; they are passed by
         put the data back from a backup if they matter: countersign restore FILE
note     no-api-key: no API key was ever made in this data folder
         make one with `countersign keys create`, or give one by COUNTERSIGN_API_KEY
";
    let findings = look_at_store(&store, &keyring, &[], UnixMillis(5_000)).await;
    check_text(&findings, want);
}

#[test]
fn a_key_that_has_been_in_use_for_more_than_two_years_is_told() {
    let keys = tempfile::tempdir().expect("a folder");
    let load = || Keyring::load_or_create(keys.path(), true, &SystemEntropy).expect("loaded");
    let ids = load().ids();
    let made = UnixMillis(1_700_000_000_000);
    for name in ["codes-1.key", "rows-1.key", "signing-1.key"] {
        let file = fs::File::options().write(true).open(keys.path().join(name));
        let time = UNIX_EPOCH + Duration::from_millis(made.0);
        file.expect("there").set_modified(time).expect("set");
    }
    let look = |ids: &KeyIds, now| look_at_key_age(keys.path(), ids, now);
    check(look(&ids, made + KEY_AGE_MAX), &[]);
    let over = made + KEY_AGE_MAX + Duration::from_millis(1);
    let want = "\
note     rotation-due: codes-1.key has been in use since 2023-11-14T22:13:20Z, for more than two years
         make new keys: countersign keyring rotate
note     rotation-due: rows-1.key has been in use since 2023-11-14T22:13:20Z, for more than two years
         make new keys: countersign keyring rotate
note     rotation-due: signing-1.key has been in use since 2023-11-14T22:13:20Z, for more than two years
         make new keys: countersign keyring rotate
";
    check_text(&look(&ids, over), want);
    Keyring::rotate(keys.path(), &SystemEntropy).expect("rotated");
    check(look(&load().ids(), over), &[]);
}

#[test]
fn a_key_that_the_running_server_does_not_use_is_told() {
    let keys = tempfile::tempdir().expect("a folder");
    let load = || Keyring::load_or_create(keys.path(), true, &SystemEntropy).expect("loaded");
    let in_use = load();
    check(look_at_use(&in_use, &load()), &[]);
    Keyring::rotate(keys.path(), &SystemEntropy).expect("rotated");
    let want = "\
warning  key-not-in-use: codes-2.key is there, and the running server does not use it
         restart the server; `countersign keyring rotate` needs no restart
warning  key-not-in-use: rows-2.key is there, and the running server does not use it
         restart the server; `countersign keyring rotate` needs no restart
warning  key-not-in-use: signing-2.key is there, and the running server does not use it
         restart the server; `countersign keyring rotate` needs no restart
";
    check_text(&look_at_use(&in_use, &load()), want);
}

#[test]
fn a_watched_folder_that_others_may_write_into_is_an_error_and_a_missing_one_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let look = |path: &Path| look_at_watched(path).map(|found| (found.severity, found.code));
    let set = |mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(folder.path(), mode).expect("set");
    };
    set(0o755);
    assert_eq!(look(folder.path()), None);
    set(0o775);
    let open = (Error, "watch-folder-open".to_owned());
    assert_eq!(look(folder.path()), Some(open));
    let missing = (Warning, "watch-folder".to_owned());
    assert_eq!(look(&folder.path().join("none")), Some(missing));
}
