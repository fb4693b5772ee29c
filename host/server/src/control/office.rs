//! Who does what is asked: the same in a server and in a command that has opened the store itself, which
//! then opens queue and services where it needs them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use countersign_queue::{Queue, QueueConfig};
use countersign_runtime::{Damage, Runtime, Step};
use countersign_store::{BindError, Keyring, RotateError, SledStore, Store, StoreError};
use countersign_types::{Clock, Entropy};
use miette::Diagnostic;
use tokio::sync::{OnceCell, watch};

use super::{
    About, Answer, BackupShown, KeyShown, KeysRequest, Refused, Request, RotatedShown,
    backup_refused, with_cause,
};
use crate::components::{self, ComponentsRequest};
use crate::config::Services;
use crate::doctor::{self, Finding};
use crate::keys;
use crate::lookup::{self, MessagesRequest};
use crate::queue::{self, QueueError, QueueRequest};
use crate::recount::{AnalyticsRequest, Recounts};
use crate::services::{self, Parts, ServicesError, Started};
use crate::stops::{self, StopsRequest};
use crate::users::{self, UsersRequest};

/// A component's own time in a command's call.
const COMMAND_TIME_MS: u64 = 10_000;

/// What a request needs, in the server and in a command that has opened the store itself.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) store: Arc<SledStore>,
    pub(crate) keyring: Arc<Keyring>,
    /// Secret keys that may be missing.
    pub(crate) without_keys: Vec<String>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) access: Access,
    /// What is being counted anew.
    pub(crate) recounts: Recounts,
    /// `None` in a command.
    pub(crate) server: Option<Served>,
}

/// What a server knows of itself.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    /// Becomes true when it is told to stop.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// How queue and services are reached.
#[derive(Clone)]
pub(crate) enum Access {
    /// They are the server's.
    Served(Started),
    /// A command opens them, where it needs them.
    Closed(Arc<Closed>),
}

/// What a command opens them with.
pub(crate) struct Closed {
    queue: QueueConfig,
    services: Services,
    /// For compiled components.
    cache: PathBuf,
    /// Once they have been.
    opened: OnceCell<Started>,
}

impl Closed {
    /// Nothing is opened yet.
    pub(crate) fn new(queue: QueueConfig, services: Services, cache: PathBuf) -> Arc<Closed> {
        Arc::new(Closed {
            queue,
            services,
            cache,
            opened: OnceCell::new(),
        })
    }
}

/// Why a command could not open the services.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Keys(#[from] BindError),
    #[error("the queue cannot be read")]
    Queue(#[from] StoreError),
    #[error("the components cannot be started")]
    Start(#[from] ServicesError),
}

impl Office {
    /// Does what is asked; `told` hears of the steps of what takes long.
    pub(crate) async fn perform(
        &self,
        request: Request,
        told: &(dyn Fn(&Step) + Send + Sync),
    ) -> Answer {
        match request {
            Request::Components(request) => self.components(request, told).await,
            Request::Keys(request) => self.keys(request).await,
            Request::Queue(request) => match self.queue(request).await {
                Ok(answer) => answer,
                Err(error) => failed(&error),
            },
            Request::Users(request) => self.users(request).await,
            Request::Messages(request) => self.messages(request).await,
            Request::Stops(request) => self.stops(request).await,
            Request::Analytics(request) => self.analytics(request).await,
            Request::Backup { file } => self.backup(file).await,
            Request::Doctor => Answer::Findings(self.doctor().await),
            Request::RotateKeyring => self.rotate_keyring().await,
            Request::About => self.about(),
        }
    }

    fn about(&self) -> Answer {
        match &self.server {
            Some(Served { address, stopping }) => Answer::About(About {
                process: std::process::id(),
                address: *address,
                stopping: *stopping.borrow(),
            }),
            None => Answer::Failed(Refused::new(
                "countersign::control::no_server",
                "no server runs on this data folder",
                None,
            )),
        }
    }

    /// By the keys that the next start would find: those in memory hide what has gone from the folder.
    async fn doctor(&self) -> Vec<Finding> {
        let there = match doctor::load_keys(self.keyring.folder(), &*self.entropy) {
            Ok(there) => there,
            Err(finding) => return vec![finding],
        };
        let store: Arc<dyn Store> = self.store.clone();
        let now = self.clock.now();
        let mut findings = doctor::look_at_store(&store, &there, &self.without_keys, now).await;
        findings.extend(doctor::look_at_use(&self.keyring, &there));
        findings
    }

    async fn rotate_keyring(&self) -> Answer {
        let store: Arc<dyn Store> = self.store.clone();
        let (keyring, entropy) = (self.keyring.clone(), self.entropy.clone());
        let here = tokio::runtime::Handle::current();
        // It waits for the disk.
        let done = tokio::task::spawn_blocking(move || {
            here.block_on(keyring.rotate_in_use(&store, &*entropy))
        });
        match done.await {
            Ok(Ok(rotated)) => {
                let folder = self.keyring.folder();
                tracing::info!(
                    codes = rotated.codes,
                    rows = rotated.rows,
                    signing = rotated.signing,
                    "new secret keys are in use"
                );
                Answer::KeyringRotated(RotatedShown::new(rotated, folder, true))
            }
            Ok(Err(error)) => Answer::Failed(Refused::new(
                "countersign::keyring::failed",
                with_cause(&error),
                Some(rotation_help(&error)),
            )),
            Err(_) => Answer::Failed(Refused::new(
                "countersign::keyring::failed",
                "the rotation was broken off",
                Some("the server's log says more"),
            )),
        }
    }

    async fn backup(&self, file: PathBuf) -> Answer {
        let (store, target) = (self.store.clone(), file.clone());
        let done = tokio::task::spawn_blocking(move || store.backup(&target)).await;
        match done {
            Ok(Ok(summary)) => {
                tracing::info!(file = %file.display(), rows = summary.rows, "a backup was made");
                Answer::BackedUp(BackupShown::new(file, summary))
            }
            Ok(Err(error)) => Answer::Failed(backup_refused(&error)),
            Err(_) => Answer::Failed(Refused::new(
                "countersign::backup::failed",
                "the backup was broken off",
                Some("the server's log says more"),
            )),
        }
    }

    async fn queue(&self, request: QueueRequest) -> Result<Answer, QueueError> {
        let now = self.clock.now().max(self.store.newest_instant());
        let queue = match &self.access {
            Access::Served(started) => started.runtime.queue().clone(),
            Access::Closed(closed) => self.open_queue(closed).await?,
        };
        queue::perform(&queue, request, now).await
    }

    async fn open_queue(&self, closed: &Closed) -> Result<Queue, StoreError> {
        let (store, keyring) = (self.store.clone(), self.keyring.clone());
        Queue::open(store, keyring, self.clock.clone(), closed.queue.clone()).await
    }

    async fn users(&self, request: UsersRequest) -> Answer {
        let runtime = match self.runtime("countersign::users::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match users::perform(runtime, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&error),
        }
    }

    async fn messages(&self, request: MessagesRequest) -> Answer {
        let runtime = match self.runtime("countersign::messages::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match lookup::perform(runtime, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&error),
        }
    }

    async fn stops(&self, request: StopsRequest) -> Answer {
        let runtime = match self.runtime("countersign::stops::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match stops::perform(runtime, request).await {
            Ok(answer) => answer,
            Err(error) => failed(&error),
        }
    }

    async fn components(
        &self,
        request: ComponentsRequest,
        told: &(dyn Fn(&Step) + Send + Sync),
    ) -> Answer {
        // Who wants to go back from a version that is not whole must be able to.
        let opened = self.services("countersign::component::not_opened", Damage::UseDefault);
        match opened.await {
            Ok(started) => components::perform(&started.registry, request, told).await,
            Err(refused) => Answer::Failed(refused),
        }
    }

    async fn analytics(&self, request: AnalyticsRequest) -> Answer {
        let runtime = match self.runtime("countersign::analytics::not_opened").await {
            Ok(runtime) => runtime,
            Err(refused) => return Answer::Failed(refused),
        };
        match self.recounts.perform(runtime, request).await {
            Ok(shown) => Answer::Recounted(shown),
            Err(error) => failed(&error),
        }
    }

    async fn runtime(&self, code: &str) -> Result<&Runtime, Refused> {
        let started = self.services(code, Damage::Refuse).await?;
        Ok(&started.runtime)
    }

    /// The services: the server's, or opened for this command; `code` is the refusal's where they cannot
    /// be.
    async fn services(&self, code: &str, damage: Damage) -> Result<&Started, Refused> {
        let closed = match &self.access {
            Access::Served(started) => return Ok(started),
            Access::Closed(closed) => closed,
        };
        let open = || self.open_services(closed, damage);
        let opened = closed.opened.get_or_try_init(open);
        opened.await.map_err(|error| {
            let help = Some("`countersign doctor` says more");
            Refused::new(code, with_cause(&error), help)
        })
    }

    /// Without providers: what there is to be sent goes out with the next start of the server.
    async fn open_services(&self, closed: &Closed, damage: Damage) -> Result<Started, OpenError> {
        let store: Arc<dyn Store> = self.store.clone();
        self.keyring.bind(&store).await?;
        let parts = Parts {
            store,
            keyring: self.keyring.clone(),
            clock: self.clock.clone(),
            entropy: self.entropy.clone(),
            queue: self.open_queue(closed).await?,
            cache: closed.cache.clone(),
            damage,
        };
        let mut services = closed.services.clone();
        // Nobody waits behind a command, and its first call does what a server has done by then: the table
        // of numbers is still being made.
        let time = services.limits.service_time_ms.unwrap_or_default();
        services.limits.service_time_ms = Some(time.max(COMMAND_TIME_MS));
        Ok(services::start(services, parts, Vec::new(), None).await?)
    }

    async fn keys(&self, request: KeysRequest) -> Answer {
        // A time before the newest commit would be taken for a stale one.
        let now = self.clock.now().max(self.store.newest_instant());
        let store: Arc<dyn Store> = self.store.clone();
        let done = match request {
            KeysRequest::Create { name } => keys::create(&store, now, &*self.entropy, name)
                .await
                .map(|new| {
                    tracing::info!(key = new.id, "an API key was made");
                    if let Access::Served(started) = &self.access {
                        started.runtime.queue().caller_joined(&new.id);
                    }
                    Answer::KeyCreated {
                        id: new.id,
                        key: new.key.expose().clone(),
                    }
                }),
            KeysRequest::List => keys::list(&store)
                .await
                .map(|keys| Answer::Keys(keys.into_iter().map(KeyShown::from).collect())),
            KeysRequest::Revoke { id } => keys::revoke(&store, now, &id).await.map(|key| {
                tracing::info!(key = key.id, "an API key was revoked");
                if let Access::Served(started) = &self.access {
                    started.runtime.queue().caller_left(&key.id);
                }
                Answer::KeyRevoked(key.into())
            }),
        };
        done.unwrap_or_else(|error| failed(&error))
    }
}

fn rotation_help(error: &RotateError) -> &'static str {
    match error {
        RotateError::Keys(_) => {
            "the server goes on with the keys it has; put that right and type it again"
        }
        RotateError::Bind(_) => {
            "the server goes on with the keys it has; its next start uses the new ones"
        }
    }
}

/// What is answered where an error has all that is to be said.
fn failed(error: &dyn Diagnostic) -> Answer {
    Answer::Failed(Refused {
        reason: error.to_string(),
        help: error.help().map(|help| help.to_string()),
        code: error.code().map(|code| code.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{embedded_store as store, office};

    #[tokio::test]
    async fn the_queue_can_be_asked_where_no_server_runs() {
        let (_folder, store) = store();
        let office = office(store);
        let ask = async |request| office.perform(Request::Queue(request), &|_| {}).await;
        let Answer::Queue(status) = ask(QueueRequest::Status).await else {
            panic!("no status");
        };
        assert_eq!((status.depth, status.dead), (0, 0));
        assert_eq!(status.capacity, 7);
        let page = ask(QueueRequest::Dead { after: None }).await;
        assert!(matches!(page, Answer::Dead(page) if page.letters.is_empty()));
        let none = ask(QueueRequest::ReplaySome { after: None }).await;
        assert!(matches!(none, Answer::ReplayedSome(done) if done.next.is_none()));
        let unknown = "0".repeat(32);
        for (id, words) in [(unknown.as_str(), "no dead message"), ("canary", "32 hex")] {
            let id = id.to_owned();
            let Answer::Failed(refused) = ask(QueueRequest::Replay { id }).await else {
                panic!("replayed");
            };
            let Refused { reason, code, .. } = refused;
            assert!(code.is_some_and(|code| code.starts_with("countersign::queue::")));
            assert!(
                reason.contains(words) && !reason.contains("canary"),
                "{reason}"
            );
        }
    }

    #[tokio::test]
    async fn a_server_says_which_it_is_and_whether_it_stops() {
        let (_folder, store) = store();
        let (stop, stopping) = watch::channel(false);
        let address = SocketAddr::from(([127, 0, 0, 1], 4));
        let office = Office {
            server: Some(Served { address, stopping }),
            ..office(store)
        };
        for told in [false, true] {
            stop.send_replace(told);
            let answer = office.perform(Request::About, &|_| {}).await;
            let want = About {
                process: std::process::id(),
                address,
                stopping: told,
            };
            assert!(
                matches!(&answer, Answer::About(about) if *about == want),
                "{answer:?}"
            );
        }
    }
}
