//! What all seeds share: the compiled components and the keys.

use std::sync::Arc;
use std::time::Duration;

use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::world::Service;
use countersign_runtime::{Limits, Runtime, RuntimeConfig};
use countersign_store::{Keyring, SledStore};
use countersign_types::{SeededEntropy, SystemClock};

use crate::factors::{BACKUP_CODES, subjects};
use crate::model::{ADDRESS_SENDS, DIGITS, MISSES, PURPOSES};
use crate::probe::Probe;

/// Compiled once, used by every seed. A seed changes nothing of it.
pub struct Parts {
    pub(crate) runtime: Runtime,
    pub(crate) probe: Arc<Service<Probe>>,
    pub(crate) keyring: Arc<Keyring>,
    /// The rows of all subjects of codes.
    pub(crate) subjects: Vec<String>,
    _folder: tempfile::TempDir,
}

impl Parts {
    /// Compiles the components and makes the keys: always the same ones.
    ///
    /// # Errors
    ///
    /// When the machine has no room for it, in words.
    pub fn new() -> Result<Parts, String> {
        let words = |error: &dyn std::error::Error| error.to_string();
        let folder = tempfile::tempdir().map_err(|error| words(&error))?;
        let entropy = Arc::new(SeededEntropy::new([0; 32]));
        let keyring = Keyring::load_or_create(&folder.path().join("keys"), true, &*entropy)
            .map_err(|error| words(&error))?;
        let keyring = Arc::new(keyring);
        // Only the start of the components uses it.
        let store = SledStore::open(&folder.path().join("store")).map_err(|error| words(&error))?;
        let limits = Limits {
            // A guest's own time is real time, and so is the epoch's: neither may interfere.
            service_time: Duration::from_secs(3_600),
            epoch: Duration::from_secs(3_600),
            // Few, so that a call comes to its last one now and then.
            runs: 3,
            ..Limits::default()
        };
        let settings = [
            // So many that no two codes are the same by chance, and no guess is right.
            ("digits", DIGITS.to_string()),
            ("purposes", PURPOSES.join(",")),
            // Low enough to be reached.
            ("misses-per-hour", MISSES[0].1.to_string()),
            (
                "sends-per-minute-per-address",
                ADDRESS_SENDS[0].1.to_string(),
            ),
            ("sends-per-hour-per-address", ADDRESS_SENDS[1].1.to_string()),
            ("backup-codes", BACKUP_CODES.to_string()),
            // As cheap as may be: what they cost is not what is looked at.
            ("backup-memory-kib", "1024".to_owned()),
            ("backup-passes", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| words(&error))?;
        let (runtime, probe) = runtime.block_on(async {
            let clock = Arc::new(SystemClock);
            let queue_config = QueueConfig::default();
            let queue = Queue::open(store.clone(), keyring.clone(), clock.clone(), queue_config)
                .await
                .map_err(|error| words(&error))?;
            let config = RuntimeConfig {
                store,
                clock,
                entropy,
                keyring: keyring.clone(),
                queue,
                limits,
                default_region: None,
                cache: None,
                otp: countersign_embedded::OTP.to_vec(),
                two_factor: countersign_embedded::TWO_FACTOR.to_vec(),
                analytics: countersign_embedded::ANALYTICS.to_vec(),
                settings,
                texts: Arc::default(),
                analytics_settings: Vec::new(),
                audit_kept: Duration::from_secs(400 * 24 * 3600),
                providers: Vec::new(),
                public_url: None,
            };
            let runtime = Runtime::start(config)
                .await
                .map_err(|error| words(&error))?;
            let probe = runtime.load("probe", countersign_hostile::PROBE).await;
            Ok::<_, String>((runtime, probe.map_err(|error| words(&error))?))
        })?;
        Ok(Parts {
            runtime,
            probe,
            subjects: subjects(
                |phone| keyring.phone_index(phone),
                |user| keyring.user_index(user),
            ),
            keyring,
            _folder: folder,
        })
    }
}
