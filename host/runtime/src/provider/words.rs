//! What components and the host say to each other, in the host's own words. Each version of the WIT has a
//! module that turns its words into these and back (`since_v0_1`); nothing else knows a version.

use countersign_types::{Answer, StatusUpdate, UnixMillis, Wish};

use super::grant::ProviderNeed;

/// What a provider's component says of itself.
#[derive(Clone, Debug)]
pub struct ProviderManifest {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it reads.
    pub settings: Vec<ProviderNeed>,
    /// What it names.
    pub credentials: Vec<ProviderNeed>,
    /// The hosts that it calls.
    pub hosts: Vec<String>,
    /// Whether it can be asked what became of messages.
    pub tells_status: bool,
}

/// What a component makes of a callback.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) updates: Vec<StatusUpdate>,
    pub(super) replies: Vec<Written>,
    pub(super) answer: Option<Answer>,
}

/// What somebody has written to a sender.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The company's id of it.
    pub(super) id: Option<String>,
    pub(super) at: Option<UnixMillis>,
    /// Who wrote.
    pub(super) phone: String,
    /// What.
    pub(super) text: String,
    /// What the company took it for.
    pub(super) wish: Option<Wish>,
}

/// Why a component did not take a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unsigned,
    Malformed,
    Unavailable,
}

/// How much a line of a component's log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// How the text of a credential holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyEncoding {
    Text,
    Hex,
    Base64,
}

/// A key that a provider names.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) credential: String,
    pub(super) encoding: KeyEncoding,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// A part of a header that may be a credential.
#[derive(Clone, Debug)]
pub(super) enum Text {
    Plain(String),
    /// Its name.
    Credential(String),
}

/// What a request is authorized by.
#[derive(Clone, Debug)]
pub(super) enum Authorization {
    None,
    Basic(Text, Text),
    /// The name of the credential.
    Bearer(String),
    Header(Header),
    Signed(Signed),
    Sigv4(Sigv4),
    ClientCredentials(ClientCredentials),
    Fields(Vec<Field>),
}

/// A header with a credential.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) credential: String,
}

/// A field of a form with a credential.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) credential: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TextEncoding {
    Hex,
    Base64,
}

/// A header with an HMAC.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) name: String,
    pub(super) prefix: String,
    pub(super) algorithm: Hash,
    pub(super) key: Key,
    pub(super) before: String,
    pub(super) with_body: bool,
    pub(super) encoding: TextEncoding,
}

/// AWS Signature Version 4.
#[derive(Clone, Debug)]
pub(super) struct Sigv4 {
    pub(super) access_key_id: Text,
    pub(super) secret_access_key: String,
    pub(super) session_token: Option<String>,
    pub(super) region: String,
    pub(super) service: String,
}

/// Client credentials of OAuth 2.0.
#[derive(Clone, Debug)]
pub(super) struct ClientCredentials {
    pub(super) token_url: String,
    pub(super) client_id: Text,
    pub(super) client_secret: String,
    pub(super) scope: Option<String>,
    pub(super) parameters: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Empty,
    Bytes(Vec<u8>),
    Form(Vec<(String, String)>),
}

/// A request that a provider asks for.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Body,
    pub(super) authorization: Authorization,
    pub(super) timeout_ms: Option<u64>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// There is no answer.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) maybe_sent: bool,
}
