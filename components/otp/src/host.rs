//! What the rules need of the host: the imports of `countersign:service/otp-service` as a trait, so
//! that the same rules run inside the component, in unit tests and under simulation.

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Instant = u64;

/// Milliseconds.
pub type Duration = u64;

/// The imports of the component, within one call. Each method is the WIT function of that name.
pub trait Host {
    /// The instant of the call: the same however often it is asked for.
    fn now(&self) -> Instant;
    /// `settings.all`: what the operator has set, by name.
    fn settings(&self) -> Vec<(String, String)>;
    /// `settings.text` of the template `verification`: the operator's text for `purpose` and a reader of
    /// `locale`, where there is one.
    fn text(&self, purpose: &str, locale: Option<&str>) -> Option<String>;
    /// `phone.parse`, with the configured default region.
    fn parse(&mut self, text: &str) -> Result<Number, PhoneError>;
    /// `storage.get`.
    fn get(&mut self, key: &str) -> Option<Vec<u8>>;
    /// `storage.put`.
    fn put(&mut self, key: &str, value: &[u8], expires: Instant);
    /// `storage.take` of one unit.
    ///
    /// # Errors
    /// When there is room again.
    fn take(&mut self, key: &str, max: u64, window: Duration) -> Result<(), Instant>;
    /// `codes.status`.
    fn status(&mut self, key: &str) -> Option<Status>;
    /// `codes.open`.
    fn open(&mut self, key: &str, challenge: Challenge);
    /// `codes.check`: counts the try, whatever becomes of the call.
    fn check(&mut self, key: &str, code: &str) -> Verdict;
    /// `queue.enqueue`: returns the message's id.
    ///
    /// # Errors
    /// When the receiver has answered STOP to whoever would send it.
    fn enqueue(&mut self, job: Job) -> Result<String, Stopped>;
    /// `events.emit`.
    fn emit(&mut self, event: Event);
}

/// A number that `phone.parse` understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// In E.164.
    pub e164: String,
    /// ISO 3166-1 alpha-2, or `001` for numbers of no country.
    pub country: String,
    /// What the number belongs to.
    pub kind: Kind,
    /// The number's name in keys and subjects: a keyed hash.
    pub index: String,
}

/// What a number belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the words are libphonenumber's, documented there"
)]
pub enum Kind {
    Mobile,
    FixedLine,
    FixedLineOrMobile,
    TollFree,
    PremiumRate,
    SharedCost,
    Personal,
    Voip,
    Pager,
    Uan,
    Voicemail,
    Unknown,
}

/// Why `phone.parse` did not take a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhoneError {
    /// Not a telephone number at all.
    NotANumber,
    /// No leading `+`, and no default region is configured.
    NoCountry,
    /// Fewer digits than any number has.
    TooShort,
    /// More digits than any number has.
    TooLong,
    /// No such number can exist in its country.
    Invalid,
    /// It has an extension, to which no text can be sent.
    Extension,
}

/// What `codes.open` is to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// What the code is good for.
    pub purpose: String,
    /// Whom it is for.
    pub subject: String,
    /// 6 to 10.
    pub digits: u8,
    /// How long it is good for.
    pub valid: Duration,
    /// How many checks it stands.
    pub tries: u8,
    /// Whether a live challenge of the row stays good beside it, with one count of tries.
    pub replaces: bool,
}

/// What is known of a row's newest challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether it can be checked: not if its tries are used up, not if it was accepted.
    pub live: bool,
    /// When it ends.
    pub expires: Instant,
}

/// What `codes.check` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The code is right, and is used up from now on.
    Accepted,
    /// The code is wrong. The try is counted.
    Wrong,
    /// The tries were used up before; nothing was compared. Until when the challenge stays locked.
    Locked(Instant),
    /// There is no live challenge.
    Absent,
}

/// The receiver of a message has answered STOP; it was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

/// A message that is to carry a challenge's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// In E.164.
    pub to: String,
    /// With the placeholders `{code}` and `{minutes}`.
    pub text: String,
    /// BCP 47 tag of the text's language.
    pub locale: Option<String>,
    /// What the message is for.
    pub purpose: String,
    /// The storage key of the challenge.
    pub challenge: String,
    /// Never handed to a provider at or after this instant.
    pub deadline: Instant,
}

/// A fact for reports and for the audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `noun.verb` in the past tense.
    pub kind: &'static str,
    /// The message it is about.
    pub message: Option<String>,
    /// ISO 3166-1 alpha-2 code of the number's country; `none` for numbers of no country.
    pub country: Option<String>,
    /// Further facts. Never a code, a number or a user.
    pub attributes: Vec<(&'static str, String)>,
}
