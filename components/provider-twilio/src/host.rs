//! What the rules need of the host: the imports of `countersign:provider/provider` as a trait, so
//! that the same rules run inside the component and in native tests.

/// Milliseconds since 1970-01-01T00:00:00Z.
pub type Instant = u64;

/// Milliseconds.
pub type Duration = u64;

/// The imports of the component.
pub trait Host {
    /// `settings.get`.
    fn setting(&self, name: &str) -> Option<String>;
    /// `http.send`, with HTTP Basic: `username` in plain, the credential `auth-token` as password.
    ///
    /// # Errors
    /// When there was no answer.
    fn send(&mut self, username: &str, request: Request) -> Result<Response, Failure>;
    /// `signatures.verify-hmac` with SHA-1 and the credential `auth-token`.
    fn verify_hmac_sha1(&mut self, data: &[u8], given: &[u8]) -> bool;
    /// The present time.
    fn now(&self) -> Instant;
}

/// A request to Twilio's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Absolute.
    pub url: String,
    /// `Some`: a POST of these fields. `None`: a GET.
    pub form: Option<Vec<(String, String)>>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For the operator.
    pub text: String,
    /// Whether Twilio may have the request.
    pub maybe_sent: bool,
}

/// What the queue acts on; the cases are those of the WIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// This number or message can never work.
    Permanent,
    /// Certainly not sent.
    Retryable,
    /// Slow down.
    Throttled,
    /// Our account: key, sender, balance.
    Auth,
    /// Opted out, filtered, or a country that is not permitted.
    Blocked,
    /// Twilio may have it.
    UnknownOutcome,
}

/// Why a message was not sent, or not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendError {
    /// What the queue acts on.
    pub class: ErrorClass,
    /// How long Twilio wants us to wait.
    pub retry_after: Option<Duration>,
    /// Twilio's own code.
    pub provider_code: Option<String>,
    /// For the operator; the host cuts it at 512 bytes.
    pub text: String,
    /// Whether another sender may still reach this receiver, although this one never will.
    pub failover: bool,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words are those of the WIT")]
pub enum Status {
    Queued,
    Sent,
    Delivered,
    Undelivered,
    Failed,
    Read,
}

/// What a message costs the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Decimal, never negative.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
}

/// A message that Twilio took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its SID.
    pub id: String,
    /// How many segments it has, where Twilio knows already.
    pub segments: Option<u32>,
    /// What it costs, where Twilio knows already.
    pub price: Option<Price>,
}

/// News of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Its SID.
    pub id: String,
    /// How far it has come.
    pub status: Status,
    /// Why it was not delivered.
    pub error: Option<SendError>,
    /// When it happened.
    pub at: Option<Instant>,
    /// What it costs.
    pub price: Option<Price>,
    /// How many segments it has.
    pub segments: Option<u32>,
}
