//! What the rules need of the host: the imports of `countersign:service/two-factor-service` as a trait, so
//! that the same rules run inside the component and in tests.

use crate::Undecided;

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Instant = u64;

/// Milliseconds.
pub type Duration = u64;

/// A secret that the host keeps for the length of a call.
pub type Secret = u32;

/// The imports of the component, within one call. Each method is the WIT function of that name.
pub trait Host {
    /// The instant of the call: the same however often it is asked for.
    fn now(&self) -> Instant;
    /// `settings.all`: what the operator has set, by name.
    fn settings(&self) -> Vec<(String, String)>;
    /// `phone.parse`, with the configured default region.
    ///
    /// # Errors
    /// Why it is no number.
    fn parse(&mut self, text: &str) -> Result<Number, NoNumber>;
    /// `storage.get`.
    fn get(&mut self, key: &str) -> Option<Vec<u8>>;
    /// `storage.put`.
    fn put(&mut self, key: &str, value: &[u8], expires: Option<Instant>);
    /// `storage.delete`.
    fn delete(&mut self, key: &str);
    /// `storage.take` of one unit.
    ///
    /// # Errors
    /// When there is room again.
    fn take(&mut self, key: &str, max: u64, window: Duration) -> Result<(), Instant>;

    /// `otp.send`.
    ///
    /// # Errors
    /// What otp could not decide.
    fn send_code(
        &mut self,
        about: &About<'_>,
        locale: Option<&str>,
    ) -> Result<Result<Sent, Refusal>, Undecided>;
    /// `otp.verify`.
    ///
    /// # Errors
    /// What otp could not decide.
    fn verify_code(
        &mut self,
        about: &About<'_>,
        code: &str,
    ) -> Result<Result<(), Refusal>, Undecided>;
    /// `otp.forgive`.
    ///
    /// # Errors
    /// What otp could not decide.
    fn forgive(&mut self, about: &About<'_>) -> Result<(), Undecided>;

    /// `totp.status`.
    fn app_status(&mut self, key: &str, caps: &[MissLimit]) -> AppStatus;
    /// `totp.enroll`.
    fn enroll_app(&mut self, key: &str, valid: Duration) -> Secret;
    /// `totp.confirm`.
    fn confirm_app(&mut self, key: &str, code: &str, caps: &[MissLimit]) -> Checked;
    /// `totp.check`.
    fn check_app(&mut self, key: &str, code: &str, caps: &[MissLimit]) -> Checked;
    /// `totp.adopt`.
    fn adopt_app(&mut self, key: &str, secret: Secret);
    /// `totp.unlock`.
    fn unlock_app(&mut self, key: &str);
    /// `totp.remove`.
    fn remove_app(&mut self, key: &str);

    /// `backup.status`.
    fn backup_status(&mut self, key: &str, caps: &[MissLimit]) -> BackupStatus;
    /// `backup.issue`.
    fn issue_backup(&mut self, key: &str, codes: u8, cost: HashCost) -> Secret;
    /// `backup.check`.
    fn check_backup(
        &mut self,
        key: &str,
        code: &str,
        cost: HashCost,
        caps: &[MissLimit],
    ) -> BackupChecked;
    /// `backup.adopt`.
    fn adopt_backup(&mut self, key: &str, secret: Secret);
    /// `backup.unlock`.
    fn unlock_backup(&mut self, key: &str);
    /// `backup.remove`.
    fn remove_backup(&mut self, key: &str);

    /// `queue.enqueue` of a message without a code.
    fn enqueue(&mut self, notice: Notice);
    /// `audit.record`: a fact for the user's trail and for reports.
    fn record(&mut self, user: &str, fact: Fact);
    /// `events.emit`: a fact for reports alone.
    fn emit(&mut self, fact: Fact);
}

/// A number that `phone.parse` understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// In E.164.
    pub e164: String,
    /// The number's name in keys: a keyed hash.
    pub index: String,
    /// Whether otp sends codes to numbers of its kind.
    pub can_receive: bool,
}

/// Why a text is no number that a message can be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoNumber {
    /// No leading `+` and no default region.
    NoCountry,
    /// It has an extension.
    Extension,
    /// No such number can exist, or it is none.
    Invalid,
}

/// Which codes of otp are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About<'a> {
    /// The number, as text.
    pub phone: &'a str,
    /// `enrolment` or `login`.
    pub purpose: &'static str,
    /// The user's index.
    pub user: &'a str,
}

/// A message with a code is on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its name.
    pub message: String,
    /// When its code ends.
    pub expires: Instant,
}

/// Why a request was not granted, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the user.
    pub text: String,
    /// When a repeat can succeed, where waiting helps.
    pub retry_at: Option<Instant>,
}

impl Refusal {
    /// A refusal that waiting does not help.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            retry_at: None,
        }
    }
}

/// At most so many misses in any window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissLimit {
    /// 1 to 100.
    pub misses: u32,
    /// How long a miss counts.
    pub window: Duration,
}

/// What one hash of a backup code costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// In KiB.
    pub memory: u32,
    /// Over that memory.
    pub passes: u32,
}

/// What is known of a user's authenticator app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppStatus {
    /// Whether codes are compared with a secret.
    pub active: bool,
    /// Until when a pending one can be confirmed.
    pub pending: Option<Instant>,
    /// Until when no code is looked at.
    pub locked: Option<Instant>,
}

/// What is known of a user's backup codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupStatus {
    /// How many are left of the set, where there is one.
    pub left: Option<u32>,
    /// Until when no code is looked at.
    pub locked: Option<Instant>,
}

/// What a check of an authenticator app's code came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Right, and used up.
    Accepted,
    /// Wrong; so many misses are left.
    Wrong(u32),
    /// Not looked at until then.
    Locked(Instant),
}

/// What a check of a backup code came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupChecked {
    /// Right, and used up; so many codes are left.
    Accepted(u32),
    /// Wrong; so many misses are left.
    Wrong(u32),
    /// Used before; so many misses are left.
    Used(u32),
    /// Not looked at until then.
    Locked(Instant),
}

/// A message that tells a user of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// In E.164.
    pub to: String,
    /// Its name, for providers and reports.
    pub template: &'static str,
    /// With the placeholders that `variables` fill.
    pub text: String,
    /// What fills them.
    pub variables: Vec<(&'static str, String)>,
    /// Never handed to a provider at or after this instant.
    pub deadline: Instant,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// `noun.verb` in the past tense.
    pub kind: &'static str,
    /// Further facts. Never a code, a number or a user.
    pub attributes: Vec<(&'static str, String)>,
}

impl Fact {
    /// A fact that needs no further ones.
    #[must_use]
    pub fn new(kind: &'static str) -> Self {
        Self {
            kind,
            attributes: Vec::new(),
        }
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.attributes.push((name, value.into()));
        self
    }
}
