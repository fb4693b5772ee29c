//! `conformance.toml`: what the kit has to know of a company's API to play the company.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign_types::{ErrorClass, Status};
use miette::{Diagnostic, NamedSource, SourceSpan};
use serde::Deserialize;

/// Far more than any company's words.
const BYTES_MAX: u64 = 1024 * 1024;

/// The file, judged.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Description {
    /// Settings of the provider; `{server}` in them is the address of the kit's server.
    #[serde(default)]
    pub(super) settings: BTreeMap<String, toml::Value>,
    /// Its credentials. `{ed25519-public-key}` is the kit's, in Base64.
    #[serde(default)]
    pub(super) credentials: BTreeMap<String, String>,
    /// How a message is taken.
    pub(super) success: Success,
    /// How it is refused, and what that means.
    #[serde(default)]
    pub(super) refusal: Vec<Refusal>,
    /// What is answered to requests that hand over no message, such as one for a token.
    #[serde(default)]
    pub(super) other: Vec<Other>,
    /// How callbacks are signed; nothing where none come.
    pub(super) signature: Option<Signature>,
    /// Callbacks, and what they tell.
    #[serde(default)]
    pub(super) callback: Vec<Callback>,
    /// What is answered to the question what became of a message.
    pub(super) status: Option<StatusAnswer>,
    /// Cases that make no sense for this company, and why.
    #[serde(default)]
    pub(super) skip: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Success {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// `{id}` is the message's own id.
    #[serde(default)]
    pub(super) body: String,
    /// The ids that `send` must return. `{id}` is the message's own.
    pub(super) ids: Vec<String>,
    /// What of the message the request carries.
    #[serde(default)]
    pub(super) carries: Carries,
}

/// What a company is handed of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Carries {
    #[default]
    Text,
    /// The code alone: the company keeps the texts.
    Code,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Refusal {
    pub(super) name: String,
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
    #[serde(deserialize_with = "class")]
    pub(super) class: ErrorClass,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Other {
    /// What the path of such a request begins with.
    pub(super) path: String,
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
}

/// How callbacks are signed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Signature {
    pub(super) kind: Kind,
    /// Of `hmac` and `digest`.
    #[serde(default)]
    pub(super) hash: Hash,
    /// The credential that holds the key, where there is one.
    #[serde(default)]
    pub(super) credential: String,
    /// How it holds it.
    #[serde(default)]
    pub(super) key: Encoding,
    /// What is signed, with placeholders.
    #[serde(default)]
    pub(super) over: String,
    /// How the signature is written.
    #[serde(default)]
    pub(super) encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Hmac,
    /// The hash of the text with the key behind it.
    Digest,
    /// By the kit's own pair of keys.
    Ed25519,
    /// The credential itself.
    Secret,
    /// The company signs nothing, and the operator believes it so.
    None,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Hash {
    Md5,
    Sha1,
    #[default]
    Sha256,
    Sha384,
    Sha512,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Encoding {
    #[default]
    Text,
    Hex,
    Base64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Callback {
    pub(super) name: String,
    #[serde(default = "post")]
    pub(super) method: String,
    /// What follows `?` in the address.
    #[serde(default)]
    pub(super) query: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
    /// What is signed of this one, where it is not what `signature` says.
    pub(super) over: Option<String>,
    pub(super) update: Option<Update>,
    pub(super) reply: Option<Reply>,
}

/// What must be told of a message.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Update {
    pub(super) id: String,
    #[serde(deserialize_with = "status")]
    pub(super) status: Status,
}

/// What somebody has answered.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Reply {
    pub(super) phone: String,
    pub(super) wish: Wish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Wish {
    Stop,
    Start,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct StatusAnswer {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
    pub(super) update: Update,
}

fn ok() -> u16 {
    200
}

fn post() -> String {
    "POST".to_owned()
}

/// All classes, so that the words are those of the host.
pub(super) const CLASSES: [ErrorClass; 6] = [
    ErrorClass::Permanent,
    ErrorClass::Retryable,
    ErrorClass::Throttled,
    ErrorClass::Auth,
    ErrorClass::Blocked,
    ErrorClass::UnknownOutcome,
];

const STATUSES: [Status; 7] = [
    Status::Queued,
    Status::Sent,
    Status::Delivered,
    Status::Undelivered,
    Status::Failed,
    Status::Read,
    Status::Unknown,
];

fn class<'de, D: serde::Deserializer<'de>>(from: D) -> Result<ErrorClass, D::Error> {
    word(from, &CLASSES, ErrorClass::word)
}

fn status<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Status, D::Error> {
    word(from, &STATUSES, Status::word)
}

/// The one of `all` that is called as the text says.
fn word<'de, D: serde::Deserializer<'de>, T: Copy>(
    from: D,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    let found = all.iter().find(|one| name(**one) == text);
    found.copied().ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|one| name(*one)).collect();
        serde::de::Error::custom(format!("`{text}` is none of {}", words.join(", ")))
    })
}

/// Why a description cannot be used.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum DescriptionError {
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(
        code(countersign::provider::no_description),
        help(
            "the kit has to know the company's answers: `countersign provider new` writes a conformance.toml to begin with, and --conformance names yours"
        )
    )]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("`{}` has more than {BYTES_MAX} bytes", path.display())]
    #[diagnostic(
        code(countersign::provider::large_description),
        help("name the conformance.toml of the company, which is a text of some lines")
    )]
    TooLarge { path: PathBuf },
    #[error("`{name}` is wrong: {reason}")]
    #[diagnostic(
        code(countersign::provider::description),
        help("docs/providers.md, \"conformance.toml\", has every field")
    )]
    Wrong {
        name: String,
        reason: String,
        #[source_code]
        text: Arc<NamedSource<String>>,
        #[label("here")]
        place: Option<SourceSpan>,
    },
}

impl Description {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read or understood, or has more than a MiB.
    pub(crate) fn read(path: &Path) -> Result<Description, DescriptionError> {
        let mut bytes = Vec::new();
        let read = File::open(path)
            .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
            // Before it is read as text: a character may be cut in two.
            .map(|count| count as u64 > BYTES_MAX);
        let text = match read {
            Ok(true) => {
                return Err(DescriptionError::TooLarge {
                    path: path.to_owned(),
                });
            }
            Ok(false) => String::from_utf8(bytes).map_err(std::io::Error::other),
            Err(error) => Err(error),
        };
        let text = text.map_err(|source| DescriptionError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Description::parse(&path.display().to_string(), &text)
    }

    /// Reads a description; `name` is what it is called in errors.
    ///
    /// # Errors
    ///
    /// When it cannot be understood.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Description, DescriptionError> {
        let wrong = |reason: String, place| DescriptionError::Wrong {
            name: name.to_owned(),
            reason,
            text: Arc::new(NamedSource::new(name, text.to_owned())),
            place,
        };
        let description: Description = toml::from_str(text).map_err(|error| {
            let place = error.span().map(SourceSpan::from);
            wrong(error.message().to_owned(), place)
        })?;
        match description.judge() {
            Ok(()) => Ok(description),
            Err(reason) => Err(wrong(reason, None)),
        }
    }

    /// Whether its callbacks count without a signature, since the company has none.
    pub(super) fn is_unsigned(&self) -> bool {
        let signature = self.signature.as_ref();
        signature.is_some_and(|signature| signature.kind == Kind::None)
    }

    fn judge(&self) -> Result<(), String> {
        if self.success.ids.is_empty() {
            return Err("`success.ids` names no id: `send` returns at least one".to_owned());
        }
        if !self
            .settings
            .values()
            .any(|value| text_of(value).contains(SERVER))
        {
            return Err(format!(
                "no setting has `{SERVER}` in it: the provider needs a setting for the address of the API, such as base-url, so that it can be tested"
            ));
        }
        for callback in &self.callback {
            if self.signature.is_none() {
                return Err(
                    "there are callbacks and no `signature`; of a company that signs nothing its kind is \"none\"".to_owned(),
                );
            }
            if callback.update.is_none() && callback.reply.is_none() {
                return Err(format!(
                    "the callback `{}` tells nothing: say which `update` or `reply` it must be",
                    callback.name
                ));
            }
        }
        match &self.signature {
            Some(signature)
                if signature.kind != Kind::None
                    && !self.credentials.contains_key(&signature.credential) =>
            {
                Err(format!(
                    "`signature.credential` is `{}`, which is no credential here",
                    signature.credential
                ))
            }
            _ => Ok(()),
        }
    }
}

/// What stands for the address of the kit's server.
pub(super) const SERVER: &str = "{server}";

/// A setting as the provider reads it.
pub(super) fn text_of(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "settings = { base-url = '{server}' }\nsuccess = { ids = ['a'] }\n";

    #[track_caller]
    fn check_wrong(text: &str, words: &str) {
        match Description::parse("c.toml", text) {
            Ok(description) => panic!("{description:?}"),
            Err(error) => assert!(error.to_string().contains(words), "{error}"),
        }
    }

    #[test]
    fn the_least_is_where_the_api_is_and_what_a_success_is() {
        let least = Description::parse("c.toml", LEAST).expect("good");
        assert_eq!(least.success.status, 200);
        check_wrong("settings = { base-url = '{server}' }", "success");
        check_wrong("success = { ids = ['a'] }", "no setting");
        check_wrong(&LEAST.replace("'a'", ""), "success.ids");
    }

    #[test]
    fn a_file_that_is_no_description_is_not_read_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        let padded = |bytes: usize| LEAST.to_owned() + &"#".repeat(bytes - LEAST.len());
        let most = usize::try_from(BYTES_MAX).expect("small");
        std::fs::write(&path, padded(most)).expect("written");
        assert!(Description::read(&path).is_ok());
        std::fs::write(&path, padded(most + 1)).expect("written");
        let error = Description::read(&path).expect_err("too large");
        assert!(
            matches!(error, DescriptionError::TooLarge { .. }),
            "{error}"
        );
        std::fs::write(&path, b"\xff").expect("written");
        let error = Description::read(&path).expect_err("no text");
        assert!(
            matches!(error, DescriptionError::Unreadable { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_misspelt_is_said_with_what_there_is() {
        let refusal = |class: &str| {
            format!("{LEAST}[[refusal]]\nname = 'a'\nstatus = 400\nclass = '{class}'\n")
        };
        assert!(Description::parse("c.toml", &refusal("unknown-outcome")).is_ok());
        check_wrong(&refusal("fatal"), "permanent, retryable");
        check_wrong(&format!("{LEAST}retries = 1"), "retries");
    }

    #[test]
    fn a_callback_says_how_it_is_signed_and_what_it_tells() {
        let callback = "[[callback]]\nname = 'a'\n";
        let signature = "[signature]\nkind = 'hmac'\ncredential = 'key'\n";
        let key = "[credentials]\nkey = 'k'\n";
        let update = "update = { id = 'a', status = 'delivered' }\n";
        check_wrong(&format!("{LEAST}{callback}{update}"), "no `signature`");
        check_wrong(&format!("{LEAST}{signature}"), "no credential");
        check_wrong(
            &format!("{LEAST}{signature}{key}{callback}"),
            "tells nothing",
        );
        let whole = format!("{LEAST}{signature}{key}{callback}{update}");
        assert!(Description::parse("c.toml", &whole).is_ok());
        check_wrong(&whole.replace("delivered", "gone"), "queued, sent");
    }
}
