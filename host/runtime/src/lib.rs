//! WebAssembly components: engine, calls, capabilities. The only crate that knows wasmtime.
//!
//! - [`Runtime`] is what the server talks to: typed calls of the services, and a
//!   [`Sender`](countersign_delivery::Sender) for the delivery.
//! - `runs.rs` runs a call as a transaction; its rules are those of `ARCHITECTURE.md`.
//! - `service.rs` holds loaded service components and their instances, `provider/` those that speak
//!   to SMS providers.
//! - `capabilities/` has a file for each interface that a service may import, `provider/` for those
//!   of a provider. Nothing else of the host can be reached by a component.

mod analytics;
mod aside;
mod audit;
mod backup_codes;
mod bindings;
mod cache;
mod call;
mod call_figures;
mod capabilities;
mod component;
mod engine;
mod generation;
mod hashing;
mod instant;
mod ledger;
mod limits;
mod lookup;
mod message;
mod meter;
mod once;
mod otp;
mod phone;
mod places;
mod provider;
mod recount;
mod registry;
mod runs;
mod runtime;
mod secrets;
mod service;
mod subject;
mod totp;
mod two_factor;
mod version;
mod wasi;

pub use analytics::Folded;
pub use audit::{AuditCursor, AuditCursorError, AuditEntry, AuditPage};
pub use call::{CallContext, CallError, Caller};
pub use call_figures::{PlacesOverview, ProviderOverview, RuntimeOverview, ServiceOverview};
pub use component::LoadError;
pub use ledger::{Claim, ClaimError, Found, KeptAnswer, Ledger, LedgerLimits, Scope};
pub use limits::Limits;
pub use lookup::{MessageSearch, Revealed};
pub use message::{MessageRequest, ReplayCallError};
pub use once::Once;
pub use otp::{NO_ROUTE, Refusal, STOPPED, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict};
pub use phone::{PhoneError, is_region};
pub use places::{HOST_CALLS, Place};
pub use provider::{
    CallbackError, CallbackRequest, GrantError, Observed, ProviderConfig, ProviderManifest,
    ProviderNeed, ProviderTrial, Workbench, is_private,
};
pub use recount::{Recount, Recounted};
pub use registry::{
    By, Damage, DefaultVersion, Inspection, InstallError, Installed, InstalledVersion, Plan,
    Record, Registry, RegistrySettings, Step, Trial, Version, WorldShape, inspect,
    installed_versions,
};
pub use runtime::{Runtime, RuntimeConfig, StartError};
pub use two_factor::{
    Authority, BackupCodesVerdict, ChangeRequest, Denial, DisableRequest, DisableVerdict,
    EnableRequest, EnableVerdict, Factor, FactorProof, LoginRequest, LoginSendRequest,
    LoginSendVerdict, LoginVerdict, Method, MoveInRequest, MoveInVerdict, MovedBackupCodes,
    MovedError, MovedTotp, SupportVerdict, TotpVerdict, UserId, UserIdError, UserState, UserToken,
    VerifyFactorRequest, VerifyFactorVerdict,
};
pub use version::Sha256;

/// Questions to the analytics service, and its answers, in the words of its WIT.
pub mod figures {
    pub use crate::bindings::analytics::exports::countersign::service::analytics::{
        Conversion, Cost, CountryFigures, Interval, Latency, Percentiles, ProviderFigures, Query,
        Report, StatusFigures, Step, Unconverted,
    };

    /// The longest range, in days, by the hour, by the day and by the month.
    pub const DAYS_MAX: [(Interval, u64); 3] = [
        (Interval::Hour, 31),
        (Interval::Day, 732),
        (Interval::Month, 3_660),
    ];
    pub(crate) const NAME_BYTES_MAX: usize = 64;
    pub(crate) const UNCONVERTED_MAX: usize = 16;
    pub(crate) const COUNTRIES_MAX: usize = 10;
    pub(crate) const STATUSES_MAX: usize = 16;
    pub(crate) const PROVIDERS_MAX: usize = 256;
    /// As many as the longest range has.
    pub(crate) const STEPS_MAX: usize = 31 * 24;
}

/// What a further world of services is made of: see [`Runtime::load`].
pub mod world {
    pub use crate::bindings::{analytics, otp_import, service, two_factor};
    pub use crate::service::{
        AnalyticsComponent, Call, Export, OtpComponent, Service, TwoFactorComponent, World,
        link_otp, link_two_factor,
    };
}
