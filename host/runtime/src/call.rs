//! What a call of a service component is made of: who calls, what all calls share, and one run. How
//! a call is run is in `runs.rs`.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use countersign_delivery::{Texts, scrub};
use countersign_queue::{ANONYMOUS, Queue, Reservation, TurnedAway};
use countersign_store::{Keyring, Savepoint, Store, StoreError, Transaction, TransactionError};
use countersign_types::{Clock, Entropy, MessageId, Priority, Seldom};
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::Limits;
use crate::bindings::service::countersign::service::types;
use crate::call_figures::Figures;
use crate::generation::Versions;
use crate::hashing::{Hashed, Hashing};
use crate::instant::Instants;
use crate::meter::{Meter, Turns};
use crate::phone::Parsed;
use crate::places::AllPlaces;
use crate::secrets::Secrets;
use crate::subject::Subjects;

/// What the API knows about a call.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The namespace of settings and limits.
    pub service: String,
    /// Who calls.
    pub caller: Caller,
    /// The end user's address in canonical text, IPv6 cut to its /64 network. Components are handed
    /// its index, so that it is in no row.
    pub client_address: Option<String>,
}

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Caller {
    /// Open mode.
    Anonymous,
    /// An API key, by its public id.
    Key(String),
    /// Who holds a user token, by the token's id.
    Token(String),
    /// A command of the operator, and what the host does by itself.
    Operator,
}

/// Why a call gave no verdict. Nothing was written, except counted tries.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Too many calls about the same subject, too many calls at all, or too many conflicts.
    #[error("too many calls at once")]
    Busy {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The queue does not take the message.
    #[error("the queue does not take the message")]
    QueueFull {
        /// Why.
        #[source]
        reason: TurnedAway,
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The receiver has answered STOP to whoever would send the message.
    #[error("the receiver has answered STOP")]
    Stopped,
    /// The disk is nearly full.
    #[error("the disk is nearly full")]
    StoreFull {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// As many numbers are being erased as may be at once; nothing was erased.
    #[error("as many numbers are being erased as may be at once")]
    Erasing {
        /// When it is worth another try.
        retry_after: Duration,
    },
    /// The component failed: it trapped, ran too long, broke a limit, or could not decide.
    #[error("the component `{component}` failed: {reason}")]
    Component {
        /// Whose fault it is; in a nested call that of the called one.
        component: String,
        /// What happened. For the log, not for the client.
        reason: String,
        /// Whether it was cut off for its time.
        timed_out: bool,
    },
    /// The request has happened before; see [`Once`](crate::Once).
    #[error("the request has happened before")]
    Happened,
    /// The caller has made too many requests that happen once.
    #[error("too many requests that happen once")]
    TooManyOnce {
        /// When there is room for another one.
        retry_after: Duration,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What all calls share.
pub(crate) struct Host {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) queue: Queue,
    pub(crate) limits: Limits,
    pub(crate) default_region: Option<String>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) texts: Arc<Texts>,
    pub(crate) analytics_settings: Vec<(String, String)>,
    pub(crate) instants: Instants,
    pub(crate) subjects: Subjects,
    pub(crate) places: AllPlaces,
    pub(crate) turns: Turns,
    pub(crate) hashing: Hashing,
    /// Lines about countries that no route leads to. There are some 250 of them.
    pub(crate) no_route: Seldom<(String, Priority)>,
    /// A place for each number that is being erased.
    pub(crate) erasings: Semaphore,
    pub(crate) figures: Figures,
    /// How long records of the audit trail are kept.
    pub(crate) audit_kept: Duration,
}

/// The name of the analytics component.
pub(crate) const ANALYTICS: &str = "analytics";

impl Host {
    /// What the operator has set for a component.
    pub(crate) fn settings_of(&self, component: &str) -> &[(String, String)] {
        if component == ANALYTICS {
            &self.analytics_settings
        } else {
            &self.settings
        }
    }
}

/// What is drawn or worked out once for a call and kept over its re-runs.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) seed: [u8; 32],
    pub(crate) phones: Parsed,
    pub(crate) hashed: Hashed,
}

/// A message that the run has added to its transaction.
#[derive(Debug)]
pub(crate) struct Enqueued {
    pub(crate) place: Reservation,
    pub(crate) id: MessageId,
}

/// A line of a component's log.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) component: String,
    pub(crate) level: tracing::Level,
    pub(crate) text: String,
}

/// How often the bounded functions have been called in this run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    pub(crate) checks: u32,
    pub(crate) app_checks: u32,
    pub(crate) backup_checks: u32,
    pub(crate) messages: u32,
    pub(crate) events: u32,
    pub(crate) takes: u32,
}

/// One run of a call: moves into the instance that is running, and back.
pub(crate) struct Run {
    pub(crate) host: Arc<Host>,
    pub(crate) versions: Versions,
    pub(crate) transaction: Transaction,
    pub(crate) context: CallContext,
    pub(crate) kept: Kept,
    /// The host's own draws: ids of challenges and messages.
    pub(crate) random: StdRng,
    pub(crate) enqueued: Vec<Enqueued>,
    /// What was handed in with the call, and what it has made.
    pub(crate) secrets: Secrets,
    pub(crate) log: Vec<Line>,
    pub(crate) dropped_lines: usize,
    pub(crate) used: Used,
    /// The components that this call is in, outermost first.
    pub(crate) stack: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) meter: Arc<Meter>,
    /// Where the run goes when the instance that holds it is dropped.
    pub(crate) rescue: Weak<RescueSlot>,
    /// Whose trap ended the run, where it was not the outermost component's.
    pub(crate) blame: Option<String>,
    /// Why the host has ended the run, where that is not the component's fault.
    pub(crate) refused: Option<CallError>,
    pub(crate) store_error: Option<StoreError>,
    pub(crate) busy: bool,
    /// What is to be done when the run counts: instances of nested calls go back.
    pub(crate) finished: Vec<Box<dyn FnOnce() + Send>>,
}

/// Holds a run whose instance was dropped in the middle of it: a cut-off call still has tries to
/// count. Whoever began the run holds the slot; where that is gone as well nobody wants the run.
pub(crate) type RescueSlot = Mutex<Option<Box<Run>>>;

/// A point of a run to roll back to.
pub(crate) struct RunSavepoint {
    transaction: Savepoint,
    enqueued: usize,
    secrets: usize,
}

impl Caller {
    /// Who waits in one line for a place: each key, all holders of tokens together, and everybody else.
    pub(crate) fn in_line(&self) -> Caller {
        match self {
            Caller::Token(_) => Caller::Token(String::new()),
            other => other.clone(),
        }
    }

    /// Who takes turns with others in the queue: each key, all holders of tokens together, and everybody
    /// else.
    pub(crate) fn in_queue(&self) -> &str {
        match self {
            Caller::Anonymous => ANONYMOUS,
            Caller::Key(id) => id,
            Caller::Token(_) => "tokens",
            Caller::Operator => "operator",
        }
    }
}

impl Run {
    pub(crate) fn savepoint(&self) -> RunSavepoint {
        RunSavepoint {
            transaction: self.transaction.savepoint(),
            enqueued: self.enqueued.len(),
            secrets: self.secrets.len(),
        }
    }

    pub(crate) fn roll_back(&mut self, savepoint: RunSavepoint) {
        self.transaction.roll_back(savepoint.transaction);
        self.enqueued.truncate(savepoint.enqueued);
        self.secrets.truncate(savepoint.secrets);
    }

    /// The physical key of `key` in the component's own key space.
    pub(crate) fn key(&self, key: &str) -> Vec<u8> {
        let component = self.stack.last().map_or("", String::as_str);
        physical_key(component, key)
    }

    /// What a guest is told about its caller.
    pub(crate) fn guest_context(&self) -> types::Context {
        let caller = match self
            .stack
            .len()
            .checked_sub(2)
            .and_then(|at| self.stack.get(at))
        {
            Some(component) => types::Caller::Component(component.clone()),
            None => match &self.context.caller {
                Caller::Anonymous => types::Caller::Anonymous,
                Caller::Key(id) => types::Caller::Key(id.clone()),
                Caller::Token(id) => types::Caller::Token(id.clone()),
                Caller::Operator => types::Caller::Operator,
            },
        };
        let address = self.context.client_address.as_deref();
        types::Context {
            service: self.context.service.clone(),
            caller,
            client_index: address.map(|address| self.host.keyring.address_index(address)),
        }
    }

    pub(crate) fn say(&mut self, level: tracing::Level, text: &str) {
        let limits = &self.host.limits;
        if self.log.len() >= limits.log_lines {
            self.dropped_lines += 1;
            return;
        }
        self.log.push(Line {
            component: self.stack.last().cloned().unwrap_or_default(),
            level,
            text: clean(text, limits.log_line_bytes),
        });
    }

    /// Turns a failed step into a trap; a failure of the store is remembered as what it is.
    pub(crate) fn failed(&mut self, error: TransactionError) -> wasmtime::Error {
        if let TransactionError::Store(error) = &error {
            self.store_error = Some(error.clone());
        }
        wasmtime::Error::new(error)
    }
}

/// At most `bytes_max` bytes of `text`, whole characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// What of a component's words may be logged: cleaned before it is cut, since of a code that was cut
/// first what is left would pass.
pub(crate) fn clean(text: &str, bytes_max: usize) -> String {
    cut(&scrub(text), bytes_max).to_owned()
}

/// Rows of components lie under their names.
pub(crate) fn physical_key(component: &str, key: &str) -> Vec<u8> {
    [b"c/", component.as_bytes(), b"/", key.as_bytes()].concat()
}

/// What a guest's bug looks like: it traps, with the reason.
pub(crate) fn misuse<T>(text: impl Into<String>) -> wasmtime::Result<T> {
    Err(wasmtime::Error::new(TransactionError::Misuse(text.into())))
}

/// How a run ended.
pub(crate) enum Ended<R> {
    Ok(R),
    /// The component could not decide.
    Err(String),
    Trap(wasmtime::Error),
    WallClock,
    /// No instance could be had.
    NoInstance(wasmtime::Error),
}

/// A finished run: how it ended, the run itself, and the instance, to be kept or thrown away.
pub(crate) struct Finished<R, I> {
    pub(crate) ended: Ended<R>,
    pub(crate) run: Box<Run>,
    pub(crate) instance: Option<I>,
}

pub(crate) fn busy() -> CallError {
    CallError::Busy {
        retry_after: Duration::from_secs(1),
    }
}

pub(crate) fn queue_full(reason: TurnedAway) -> CallError {
    CallError::QueueFull {
        reason,
        retry_after: Duration::from_secs(5),
    }
}

pub(crate) fn store_full() -> CallError {
    CallError::StoreFull {
        retry_after: Duration::from_secs(10),
    }
}

/// Takes the run out of the rescue slot.
pub(crate) fn rescued(rescue: &RescueSlot) -> Option<Box<Run>> {
    rescue.lock().unwrap_or_else(PoisonError::into_inner).take()
}
