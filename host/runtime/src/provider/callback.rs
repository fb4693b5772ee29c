//! Status callbacks: what a provider's component makes of a request to its address.

use countersign_delivery::scrub;
use countersign_types::{News, SendError, StatusUpdate};

use super::words::{Refused, Told};
use super::{Provider, replies};
use crate::call::cut;

/// As the WIT bounds it. Whoever receives callbacks from anybody had better take less.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// As the WIT bounds what a provider says of an error.
const TEXT_BYTES_MAX: usize = 512;
const CODE_BYTES_MAX: usize = 64;

/// Twilio's, Telnyx's and Infobip's error codes have five digits, others fewer.
const ERROR_CODE_DIGITS_MAX: usize = 5;

/// A request to the callback address of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackRequest {
    /// The HTTP method.
    pub method: String,
    /// The path as it was received, not decoded: `/webhooks/twilio`.
    pub path: String,
    /// What followed `?`, not decoded.
    pub query: Option<String>,
    /// Names in lower case, in the order received.
    pub headers: Vec<(String, String)>,
    /// As it came, at most 1 MiB.
    pub body: Vec<u8>,
}

/// Why a callback told nothing. Nothing of it may be believed.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// No provider of that name is configured.
    #[error("no provider is called `{0}`")]
    NoProvider(String),
    /// The server does not know the address by which providers call it, so it never asked for
    /// callbacks and cannot check what they have signed.
    #[error("there is no public-url, so no callback can be checked")]
    NoPublicUrl,
    /// No signature, or not the right one.
    #[error("the callback has no signature that holds")]
    Unsigned,
    /// Signed, and not understood.
    #[error("the callback is signed and cannot be understood")]
    Malformed,
    /// The component cannot judge or use it now.
    #[error("the callback cannot be taken now")]
    Unavailable,
    /// The component trapped, took too long, or broke a bound.
    #[error("the provider component failed: {reason}")]
    Failed {
        /// What happened. For the log, not for whoever called, and not for each of them: anybody can
        /// send what a component fails at.
        reason: String,
    },
}

impl Provider {
    /// Has the component read a callback to the address `public_url`. What it tells counts only when a
    /// signature has held in this very call, or the operator believes this provider without one; and a
    /// reply only with a signature.
    pub(crate) async fn parse_callback(
        &self,
        public_url: &str,
        request: CallbackRequest,
    ) -> Result<News, CallbackError> {
        if request.body.len() > BODY_BYTES_MAX {
            return Err(CallbackError::Malformed);
        }
        let query = request.query.as_deref();
        let url = match query {
            Some(query) => format!("{public_url}{}?{query}", request.path),
            None => format!("{public_url}{}", request.path),
        };
        // Never one that has seen a message: whatever this one makes of a stranger's bytes ends here.
        let mut instance = self.fresh();
        instance.serve_anybody(self.limits.callback_time);
        let parsed = instance.meter().run(async {
            let (exports, store) = instance.ready(&self.exports).await?;
            exports.parse_callback(store, url, request).await
        });
        let ended = tokio::time::timeout(self.limits.provider_wall, parsed).await;
        instance.end();
        let answer = match ended {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.callback_failed(&self.failed(&error))),
            Err(_) => return Err(self.callback_failed(self.timed_out())),
        };
        let is_signed = instance.store.data().one.signature_held;
        // Nothing is believed by it, so it may be said of what could not be checked, too.
        if let Err(Refused::Unavailable) = answer {
            return Err(CallbackError::Unavailable);
        }
        if !(is_signed || self.unsigned) {
            return Err(CallbackError::Unsigned);
        }
        match answer {
            Ok(Told {
                updates,
                replies,
                answer,
            }) => {
                let updates = updates.into_iter();
                Ok(News {
                    updates: updates.map(|one| self.clean_update(one)).collect(),
                    // Whoever could forge one could keep codes from anybody.
                    replies: replies
                        .into_iter()
                        .filter(|_| is_signed)
                        .filter_map(replies::read)
                        .collect(),
                    answer,
                })
            }
            Err(Refused::Unsigned) => Err(CallbackError::Unsigned),
            Err(Refused::Malformed) => Err(CallbackError::Malformed),
            Err(Refused::Unavailable) => Err(CallbackError::Unavailable),
        }
    }

    fn callback_failed(&self, reason: &str) -> CallbackError {
        let reason = self.clean_text(reason);
        if let Some(witness) = &self.grants.witness {
            witness.failed(&reason);
        }
        CallbackError::Failed { reason }
    }

    /// Asks the provider for the present state of the messages that it knows as `ids`.
    pub(crate) async fn fetch_status(
        &self,
        ids: &[String],
    ) -> Result<Vec<StatusUpdate>, SendError> {
        let mut instance = self.instance();
        let asked = instance.meter().run(async {
            let (exports, store) = instance.ready(&self.exports).await?;
            exports.fetch_status(store, ids).await
        });
        let ended = tokio::time::timeout(self.limits.provider_wall, asked).await;
        let seen = instance.end();
        let failed = |reason: &str| {
            // Asking sends nothing, so there is nothing to judge; the class is that of a failed send.
            self.judge(seen, &self.clean_text(reason))
                .map(|_| Vec::new())
        };
        let answer = match ended {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return failed(&self.failed(&error)),
            Err(_) => return failed(self.timed_out()),
        };
        self.keep(instance);
        match answer {
            Ok(updates) => Ok(updates
                .into_iter()
                .map(|one| self.clean_update(one))
                .collect()),
            Err(error) => Err(self.clean_error(error)),
        }
    }

    fn clean_update(&self, update: StatusUpdate) -> StatusUpdate {
        StatusUpdate {
            error: update.error.map(|error| self.clean_error(error)),
            ..update
        }
    }

    pub(super) fn clean_error(&self, error: SendError) -> SendError {
        SendError {
            text: self.clean_text(&error.text),
            provider_code: error.provider_code.map(|code| self.clean_code(&code)),
            ..error
        }
    }

    /// What a provider says, without credentials, codes and numbers, and then as much as is kept of it:
    /// of one that was cut before, not enough might be left to know it by.
    pub(super) fn clean_text(&self, text: &str) -> String {
        let clean = scrub(&self.grants.credentials.scrub(text));
        cut(&clean, TEXT_BYTES_MAX).to_owned()
    }

    /// A provider's own error code. Theirs have at most five digits and one-time codes at least six, so
    /// that a longer one is something else.
    fn clean_code(&self, code: &str) -> String {
        let code = self.grants.credentials.scrub(code);
        let short = code.len() <= ERROR_CODE_DIGITS_MAX;
        if short && code.bytes().all(|byte| byte.is_ascii_digit()) {
            code
        } else {
            cut(&scrub(&code), CODE_BYTES_MAX).to_owned()
        }
    }
}
