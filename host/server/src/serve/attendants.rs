//! What goes on beside the calls: commands are answered, expired rows removed, new versions watched.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use countersign_store::Store;
use countersign_types::Clock;
use tokio::task::AbortHandle;

use super::ServeError;
use super::before::Prepared;
use super::front::Front;
use crate::control::{self, Access, Office, Served};
use crate::recount::Recounts;
use crate::services::Started;
use crate::watched;

/// Expired rows are removed in steps of so long, so that calls get in between.
const SWEEP_STEP: Duration = Duration::from_millis(100);
/// Pause between two passes over all rows.
const SWEEP_PAUSE: Duration = Duration::from_secs(60);

/// The tasks that do it.
pub(super) struct Attendants {
    data_folder: PathBuf,
    control: AbortHandle,
    others: Vec<AbortHandle>,
}

impl Attendants {
    /// `without_keys` are secret keys that may be missing; `watch` is the folder that brings versions.
    ///
    /// # Errors
    ///
    /// When the control socket cannot be had.
    pub(super) fn start(
        prepared: &Prepared,
        front: &Front,
        started: &Started,
        data_folder: PathBuf,
        without_keys: Vec<String>,
        watch: Option<PathBuf>,
    ) -> Result<Attendants, ServeError> {
        let office = Office {
            store: prepared.data.store.clone(),
            keyring: prepared.data.keyring.clone(),
            without_keys,
            clock: prepared.clock.clone(),
            entropy: prepared.entropy.clone(),
            access: Access::Served(started.clone()),
            recounts: Recounts::default(),
            server: Some(Served {
                address: front.address,
                stopping: front.stop.subscribe(),
            }),
        };
        let control = tokio::spawn(control::serve(control::bind(&data_folder)?, office));
        let registry = &started.registry;
        let sweeper = tokio::spawn(sweep(prepared.store.clone(), prepared.clock.clone()));
        let trials = tokio::spawn(registry.clone().watch());
        let mut others = vec![sweeper.abort_handle(), trials.abort_handle()];
        if let Some(folder) = watch {
            let watcher = tokio::spawn(watched::watch(folder, registry.clone()));
            others.push(watcher.abort_handle());
        }
        Ok(Attendants {
            data_folder,
            control: control.abort_handle(),
            others,
        })
    }

    /// Ends them, but for the control socket: until the end it says who has the data folder.
    pub(super) fn end_others(&self) {
        for other in &self.others {
            other.abort();
        }
    }

    /// Ends what answers commands.
    pub(super) fn end_control(self) {
        self.control.abort();
        control::remove(&self.data_folder);
    }
}

/// Gives back the room of expired rows, little by little.
async fn sweep(store: Arc<dyn Store>, clock: Arc<dyn Clock>) {
    loop {
        match store.sweep(clock.now()).await {
            Ok(true) => tokio::time::sleep(SWEEP_PAUSE).await,
            Ok(false) => tokio::time::sleep(SWEEP_STEP).await,
            // The server ends by itself when the store has failed for good.
            Err(error) => {
                tracing::error!(%error, "expired rows could not be removed");
                tokio::time::sleep(SWEEP_PAUSE).await;
            }
        }
    }
}
