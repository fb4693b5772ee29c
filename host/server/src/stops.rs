//! What numbers have answered to senders, as operators look at it and take it back.

use std::fmt;

use countersign_queue::Stop;
use countersign_runtime::{CallError, PhoneError, Runtime};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use crate::control::Answer;
use crate::users::operator;

/// A sender that a number wants nothing from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StopShown {
    /// The provider's name.
    pub(crate) provider: String,
    /// When STOP was written, RFC 3339.
    pub(crate) since: String,
}

impl From<Stop> for StopShown {
    fn from(stop: Stop) -> StopShown {
        StopShown {
            provider: stop.provider,
            since: stop.since.to_string(),
        }
    }
}

/// All that a number has answered STOP to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Listed {
    pub(crate) stops: Vec<StopShown>,
    /// `false`: what is kept of the number cannot be read, so it may say more.
    pub(crate) readable: bool,
}

impl From<Option<Vec<Stop>>> for Listed {
    fn from(found: Option<Vec<Stop>>) -> Listed {
        Listed {
            readable: found.is_some(),
            stops: found
                .unwrap_or_default()
                .into_iter()
                .map(StopShown::from)
                .collect(),
        }
    }
}

/// How many of them were taken back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cleared {
    pub(crate) cleared: usize,
}

/// What the command line can ask for. It does not print: it has a number.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StopsRequest {
    List {
        phone: String,
    },
    Clear {
        phone: String,
        provider: Option<String>,
    },
}

impl fmt::Debug for StopsRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StopsRequest::List { .. } => "List(***)",
            StopsRequest::Clear { .. } => "Clear(***)",
        })
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum StopsError {
    #[error("the number is none: {0}")]
    #[diagnostic(code(countersign::stops::phone))]
    Phone(#[from] PhoneError),
    #[error(transparent)]
    #[diagnostic(code(countersign::stops::call))]
    Call(#[from] CallError),
}

/// Does what the command line asks for.
///
/// # Errors
///
/// See [`StopsError`].
pub(crate) async fn perform(
    runtime: &Runtime,
    request: StopsRequest,
) -> Result<Answer, StopsError> {
    Ok(match request {
        StopsRequest::List { phone } => {
            let number = runtime.parse_phone(&phone)?;
            let found = runtime.stops_of(&operator(), &number, "command").await?;
            Answer::Stops(found.into())
        }
        StopsRequest::Clear { phone, provider } => {
            let number = runtime.parse_phone(&phone)?;
            let (operator, provider) = (operator(), provider.as_deref());
            let cleared = runtime.clear_stops(&operator, &number, provider, "command", None);
            let (cleared, _) = cleared.await?;
            Answer::StopsCleared(Cleared { cleared })
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_prints() {
        let phone = "+12025550123".to_owned();
        let requests = [
            StopsRequest::List {
                phone: phone.clone(),
            },
            StopsRequest::Clear {
                phone,
                provider: None,
            },
        ];
        let printed = format!("{requests:?}");
        assert!(!printed.contains("2025550123"), "{printed}");
    }
}
