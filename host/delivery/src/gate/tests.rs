use countersign_queue::QueueConfig;
use countersign_store::{Keyring, SledStore, Store};
use countersign_types::{ManualClock, SeededEntropy};

use super::*;
use crate::testing::NOW;

const START: MonotonicMillis = MonotonicMillis(0);

async fn places(folder: &tempfile::TempDir, providers: &[(&str, usize)]) -> Places {
    let store: Arc<dyn Store> = SledStore::open(&folder.path().join("store")).expect("opened");
    let keys = folder.path().join("keys");
    let keyring = Keyring::load_or_create(&keys, true, &SeededEntropy::new([1; 32]));
    let clock = Arc::new(ManualClock::new(NOW));
    let keyring = Arc::new(keyring.expect("made"));
    let queue = Queue::open(store, keyring, clock, QueueConfig::default()).await;
    let terms = providers.iter().map(|(name, concurrency)| {
        let terms = ProviderTerms {
            concurrency: *concurrency,
            rate: None,
            status_callback: None,
        };
        ((*name).to_owned(), terms)
    });
    Places::new(queue.expect("opened"), 8, &terms.collect())
}

#[tokio::test]
async fn a_pass_is_exchanged_for_one_of_another_provider_and_frees_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = places(&folder, &[("a", 1), ("b", 1)]).await;
    let is_free = |lane: &str| places.pass(Some(lane), START).is_ok();
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    let mut pass = places.pass(Some("a"), START).expect("a place");
    assert!(pass.leads_to(&a, START) && !is_free("a") && is_free("b"));
    assert!(pass.leads_to(&b, START) && is_free("a") && !is_free("b"));
    // The other one is full: it stays where it is.
    let held = places.pass(Some("a"), START).expect("a place");
    assert!(!pass.leads_to(&a, START) && !is_free("b"));
    drop(held);
    assert!(pass.leads_to(&a, START) && is_free("b"));
    drop(pass);
    assert!(is_free("a"));
    tokio::time::timeout(Duration::from_secs(60), places.empty())
        .await
        .expect("all hands are free");
}
