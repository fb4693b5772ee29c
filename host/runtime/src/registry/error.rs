//! Why a version was not installed, or not taken back.

use std::time::Duration;

use countersign_store::StoreError;

use super::inspect::WorldShape;
use crate::{CallError, GrantError, LoadError, StartError};

/// Why a version was not installed. The running one is untouched in every case.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// Nothing here uses such a component.
    #[error("no component is called `{name}` here; there are {}", known.join(", "))]
    Unknown {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// It is larger than any that is taken.
    #[error("it has {bytes} bytes, and at most {bytes_max} are taken")]
    TooLarge {
        /// What it has.
        bytes: u64,
        /// What is taken.
        bytes_max: u64,
    },
    /// No WebAssembly component.
    #[error("it is no WebAssembly component: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It wants more than its world has.
    #[error("it imports `{import}`, which the world `{}` does not offer", world.name)]
    NotOffered {
        /// What it wants.
        import: String,
        /// Its world.
        world: &'static WorldShape,
    },
    /// It was made against another version of the interfaces.
    #[error("it was built against `{found}`, and this server speaks version {offered} of that")]
    WrongVersion {
        /// Its import or export.
        found: String,
        /// Which version there is.
        offered: &'static str,
        /// Its world.
        world: &'static WorldShape,
    },
    /// It lacks what it is for.
    #[error("it does not export `{export}`, as the world `{}` asks for", world.name)]
    Missing {
        /// What is missing.
        export: String,
        /// Its world.
        world: &'static WorldShape,
    },
    /// A function has other types than its world says.
    #[error(transparent)]
    Misfit(LoadError),
    /// Compiling it takes too long.
    #[error("compiling it took longer than {} s", span.as_secs_f64())]
    SlowToCompile {
        /// How long it may take.
        span: Duration,
    },
    /// A provider asks for what it is not given.
    #[error(transparent)]
    Grant(GrantError),
    /// It fails at what it is for.
    #[error("it failed its self-test: {reason}")]
    SelfTest {
        /// What happened.
        reason: String,
    },
    /// There are rows that it cannot read.
    #[error(
        "there are rows of state version {state}, and it reads only {}",
        list(reads)
    )]
    State {
        /// Of rows that are there.
        state: u32,
        /// What it can read.
        reads: Vec<u32>,
    },
    /// The present version could not take over again.
    #[error(
        "it writes state version {writes}, which the present version cannot read: a canary of it could not be taken back"
    )]
    NoWayBack {
        /// What it writes.
        writes: u32,
    },
    /// There is nothing to go back to.
    #[error("there is no earlier version of `{name}` to go back to")]
    NothingBefore {
        /// The component.
        name: String,
    },
    /// Another one is being installed.
    #[error("another version is being installed")]
    Busy,
    /// The server does not serve yet.
    #[error("the server is still starting")]
    Starting,
    /// What was kept of it cannot be read.
    #[error("the bytes of version {version} are not whole")]
    Damaged {
        /// Which one.
        version: String,
    },
    /// The store cannot take it.
    #[error("the disk is nearly full")]
    Full,
    /// The request has happened before, or must not happen now: of those that happen once.
    #[error(transparent)]
    Call(CallError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
    numbers.join(", ")
}

impl InstallError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            InstallError::Unknown { .. } => {
                "a provider's component is there once a [[provider]] entry names it".to_owned()
            }
            InstallError::TooLarge { .. } => {
                "strip it of debug information, or raise `components.bytes-max`".to_owned()
            }
            InstallError::Malformed { .. } => {
                "send the file that the toolchain has built for wasm32-wasip2, whole".to_owned()
            }
            InstallError::NotOffered { world, .. } => format!(
                "remove the import; offered are {}, and what ordinary code needs of WASI 0.2 (docs/components.md)",
                world.offered().join(", ")
            ),
            InstallError::WrongVersion { world, .. } => format!(
                "build it against {} of this release, or use a release of the server that speaks the other version",
                wit_folder(world)
            ),
            InstallError::Missing { world, .. } => {
                format!("build it for that world, of {}", wit_folder(world))
            }
            InstallError::Misfit(_) => {
                "build it against the WIT of this release; `countersign component inspect FILE` shows what it asks for".to_owned()
            }
            InstallError::SlowToCompile { .. } => {
                "make it smaller, or raise `components.compile-seconds`".to_owned()
            }
            InstallError::Grant(_) => {
                "put the [[provider]] entry right and start again, or install a version that needs what it has".to_owned()
            }
            InstallError::SelfTest { .. } => "the server's log has what the component wrote".to_owned(),
            InstallError::State { .. } => {
                "a format is left behind in two steps: first a version that reads both and writes the new one; then, when no row of the old one is left, the next".to_owned()
            }
            InstallError::NoWayBack { .. } => {
                "install it without --canary, or first a version that reads what this one writes".to_owned()
            }
            InstallError::NothingBefore { .. } => {
                "`countersign component list` shows what there is".to_owned()
            }
            InstallError::Busy | InstallError::Starting | InstallError::Call(_) => {
                "try again in a moment".to_owned()
            }
            InstallError::Damaged { .. } => "install that version again from its file".to_owned(),
            InstallError::Full => "make room on the disk of the data folder".to_owned(),
            InstallError::Store(_) => "the server's log says more".to_owned(),
        }
    }

    /// Its name for programs.
    pub fn code(&self) -> &'static str {
        match self {
            InstallError::Unknown { .. } => "unknown",
            InstallError::TooLarge { .. } => "too_large",
            InstallError::Malformed { .. } => "malformed",
            InstallError::NotOffered { .. } => "import_not_offered",
            InstallError::WrongVersion { .. } => "wrong_wit_version",
            InstallError::Missing { .. } => "export_missing",
            InstallError::Misfit(_) => "misfit",
            InstallError::SlowToCompile { .. } => "slow_to_compile",
            InstallError::Grant(_) => "grant",
            InstallError::SelfTest { .. } => "self_test",
            InstallError::State { .. } => "state",
            InstallError::NoWayBack { .. } => "no_way_back",
            InstallError::NothingBefore { .. } => "nothing_before",
            InstallError::Busy => "busy",
            InstallError::Starting => "starting",
            InstallError::Damaged { .. } => "damaged",
            InstallError::Full => "full",
            InstallError::Call(_) => "call",
            InstallError::Store(_) => "store",
        }
    }
}

fn wit_folder(world: &WorldShape) -> &'static str {
    if world.name.starts_with("countersign:service") {
        "wit/service"
    } else {
        "wit/provider/0.1"
    }
}

impl From<StartError> for InstallError {
    fn from(error: StartError) -> InstallError {
        match error {
            StartError::Load(error) => error.into(),
            StartError::Grant(error) => InstallError::Grant(error),
            StartError::Engine(reason) => InstallError::SelfTest { reason },
        }
    }
}

impl From<LoadError> for InstallError {
    fn from(error: LoadError) -> InstallError {
        match error {
            LoadError::Malformed { reason, .. } => InstallError::Malformed { reason },
            LoadError::Describe { reason, .. } => InstallError::SelfTest { reason },
            error @ LoadError::DoesNotFit { .. } => InstallError::Misfit(error),
        }
    }
}
