use countersign_queue::QueueConfig;
use countersign_store::{Keyring, SledStore, Store};
use countersign_types::{ManualClock, SeededEntropy};

use super::*;
use crate::testing::NOW;

const START: MonotonicMillis = MonotonicMillis(0);

async fn places(folder: &tempfile::TempDir, providers: &[(&str, usize)]) -> Places {
    rated(folder, providers, None).await
}

async fn rated(
    folder: &tempfile::TempDir,
    providers: &[(&str, usize)],
    rate: Option<f64>,
) -> Places {
    let store: Arc<dyn Store> = SledStore::open(&folder.path().join("store")).expect("opened");
    let keys = folder.path().join("keys");
    let keyring = Keyring::load_or_create(&keys, true, &SeededEntropy::new([1; 32]));
    let clock = Arc::new(ManualClock::new(NOW));
    let keyring = Arc::new(keyring.expect("made"));
    let queue = Queue::open(store, keyring, clock, QueueConfig::default()).await;
    let terms = providers.iter().map(|(name, concurrency)| {
        let terms = ProviderTerms {
            concurrency: *concurrency,
            rate,
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

#[tokio::test]
async fn what_of_a_rate_was_not_used_is_there_for_the_next_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let places = rated(&folder, &[("a", 8), ("b", 8)], Some(1.0)).await;
    let pass = |lane: &str| places.pass(Some(lane), START);
    let b: Arc<str> = "b".into();
    // Dropped without a message, and exchanged.
    drop(pass("a").expect("a place"));
    let mut exchanged = pass("a").expect("given back");
    assert!(exchanged.leads_to(&b, START));
    assert!(pass("b").is_err(), "one a second");
    drop(exchanged);
    let mut used = pass("b").expect("given back");
    used.is_used();
    drop(used);
    assert!(pass("b").is_err(), "one a second");
    let mut used = pass("a").expect("given back");
    used.is_used();
    drop(used);
    assert!(pass("a").is_err(), "one a second");
}
