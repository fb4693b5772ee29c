//! Which problem each error below becomes. Causes go to the log, never to the client.

use std::time::Duration;

use countersign_queue::{ReceiveError, ReplayError, TurnedAway};
use countersign_runtime::{ClaimError, Found, InstallError, ReplayCallError};
use countersign_store::StoreError;

use super::problem::{Kind, Problem, Refused, SOON};
use super::{CallError, CallbackError, NoVerdict, STOPPED};
use crate::page::{SessionError, Unsealable};

/// For a queue that must empty first.
const LATER: Duration = Duration::from_secs(5);

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        if let StoreError::Unreadable { .. } = error {
            tracing::error!(%error, "a request needs a row that cannot be read");
            let detail =
                "A row that this needs cannot be read; `countersign doctor` counts such rows.";
            return Problem::new(Kind::StoreFailed, detail).after(SOON);
        }
        tracing::error!(%error, "a request met a store that does not answer");
        let detail = "Nothing can be read or written now; see /readyz.";
        Problem::new(Kind::StoreFailed, detail).after(SOON)
    }
}

impl From<SessionError> for Problem {
    fn from(error: SessionError) -> Problem {
        match error {
            SessionError::Unsealable(error) => error.into(),
            SessionError::Full => {
                let detail =
                    "The logout cannot be written down, so the session goes on to its end.";
                Problem::new(Kind::StoreFull, detail).after(SOON)
            }
            SessionError::Busy => {
                let detail = "Nothing was changed; try again.";
                Problem::new(Kind::Busy, detail).after(SOON)
            }
            SessionError::Store(error) => error.into(),
        }
    }
}

impl From<Unsealable> for Problem {
    fn from(error: Unsealable) -> Problem {
        tracing::error!(%error, "nothing can be handed to a browser: there is no key for rows");
        Problem::internal()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        Problem::of_field(refused)
    }
}

impl From<ReplayError> for Problem {
    fn from(error: ReplayError) -> Problem {
        match error {
            ReplayError::NotDead(_) => Problem::no_such_message(),
            ReplayError::CodeOver { .. } => Problem::new(
                Kind::CodeOver,
                "A code is never sent after its end; let the user ask for a new one.",
            ),
            ReplayError::TurnedAway(reason) => turned_away(reason).after(LATER),
            ReplayError::Busy => {
                let detail = "Somebody else is changing this message; look at it again.";
                Problem::new(Kind::Busy, detail).after(SOON)
            }
            ReplayError::Store(error) => error.into(),
        }
    }
}

fn turned_away(reason: TurnedAway) -> Problem {
    let (kind, detail) = match reason {
        TurnedAway::Full { .. } => (
            Kind::QueueFull,
            "As many messages are waiting as `queue.capacity` allows; nothing was accepted. Try again.",
        ),
        TurnedAway::Reserved { .. } => (
            Kind::QueueFull,
            "What is left of the queue is kept for messages that are more urgent (`queue.reserved-percent`); nothing was accepted. Try again.",
        ),
        TurnedAway::Share { .. } => (
            Kind::QueueShare,
            "This API key has as many messages waiting as one may have while there are others (`queue.caller-percent`); nothing was accepted. Try again.",
        ),
        TurnedAway::TooLate { .. } => (
            Kind::QueueFull,
            "So many messages are waiting that this one could not leave before its deadline; nothing was accepted. Try again.",
        ),
    };
    Problem::new(kind, detail)
}

impl From<CallbackError> for Problem {
    fn from(error: CallbackError) -> Problem {
        match error {
            CallbackError::NoProvider(_) | CallbackError::NoPublicUrl => {
                Problem::new(Kind::NotFound, "No provider of this name takes callbacks.")
            }
            CallbackError::Unsigned => Problem::new(
                Kind::UnsignedCallback,
                "It has no signature of this provider's; nothing was changed.",
            ),
            CallbackError::Malformed => {
                Problem::new(Kind::BadRequest, "It is signed and cannot be understood.")
            }
            CallbackError::Unavailable => {
                let detail = "This provider's component cannot take it now.";
                Problem::new(Kind::Busy, detail).after(SOON)
            }
            // `webhooks` tells the operator, once in a while.
            CallbackError::Failed { .. } => Problem::internal(),
        }
    }
}

impl From<InstallError> for Problem {
    fn from(error: InstallError) -> Problem {
        let kind = match error {
            InstallError::Store(error) => return error.into(),
            InstallError::Starting => return Problem::starting(),
            InstallError::Call(error) => return error.into(),
            InstallError::Unknown { .. } => Kind::NoSuchComponent,
            InstallError::TooLarge { .. } => Kind::TooLarge,
            InstallError::Busy => Kind::Busy,
            InstallError::Full => Kind::StoreFull,
            _ => Kind::ComponentRefused,
        };
        let text = error.to_string();
        let mut rest = text.chars();
        let first = rest.next().into_iter().flat_map(char::to_uppercase);
        let sentence: String = first.chain(rest).collect();
        let problem = Problem::new(kind, format!("{sentence}. To do: {}.", error.help()));
        match kind {
            Kind::Busy | Kind::StoreFull => problem.after(LATER),
            _ => problem,
        }
    }
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Problem {
        match error {
            ReceiveError::Busy => Problem::too_many_callbacks(SOON),
            ReceiveError::Store(error) => error.into(),
        }
    }
}

impl From<ClaimError> for Problem {
    fn from(error: ClaimError) -> Problem {
        match error {
            ClaimError::OtherInFlight | ClaimError::Used(Found::Other) => Problem::key_reused(),
            ClaimError::InFlight => Problem::in_flight(),
            // Its answer is given where there is one.
            ClaimError::Used(Found::Answer { .. } | Found::Done) => Problem::already_done(),
            ClaimError::TooMany => Problem::too_many_in_flight(),
            ClaimError::Store(error) => error.into(),
        }
    }
}

impl From<CallError> for NoVerdict {
    fn from(error: CallError) -> NoVerdict {
        match error {
            CallError::Happened => NoVerdict::Happened,
            error => NoVerdict::Problem(error.into()),
        }
    }
}

impl From<ReplayCallError> for NoVerdict {
    fn from(error: ReplayCallError) -> NoVerdict {
        match error {
            ReplayCallError::Call(error) => error.into(),
            ReplayCallError::Replay(error) => NoVerdict::Problem(error.into()),
        }
    }
}

impl From<InstallError> for NoVerdict {
    fn from(error: InstallError) -> NoVerdict {
        match error {
            InstallError::Call(error) => error.into(),
            error => NoVerdict::Problem(error.into()),
        }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Problem {
        match error {
            CallError::Busy { retry_after } => Problem::new(
                Kind::Busy,
                "Too many calls of this API key, or about this number or user, are waiting; try again.",
            )
            .after(retry_after),
            CallError::QueueFull {
                reason,
                retry_after,
            } => turned_away(reason).after(retry_after),
            // Where a code was asked for it is a verdict.
            CallError::Stopped => Problem::of_field(Refused::field("to", STOPPED)),
            CallError::StoreFull { retry_after } => Problem::new(
                Kind::StoreFull,
                "Nothing was sent and no code was made; try again.",
            )
            .after(retry_after),
            CallError::Erasing { retry_after } => Problem::new(
                Kind::Busy,
                "As many numbers as may be at once are being erased already; nothing was erased. Try again.",
            )
            .after(retry_after),
            // The runtime has logged it, with the component's name and the reason.
            CallError::Component { timed_out, .. } => {
                if timed_out {
                    let detail = "Nothing was changed but the count of a try; try again.";
                    Problem::new(Kind::ComponentTimeout, detail).after(SOON)
                } else {
                    Problem::internal()
                }
            }
            // Somebody else has made it happen meanwhile, and what that was could not be found.
            CallError::Happened => Problem::in_flight(),
            CallError::TooManyOnce { retry_after } => Problem::new(
                Kind::TooManyKeys,
                "This caller has used as many keys in 24 hours as `idempotency.keys-per-day` allows.",
            )
            .after(retry_after),
            CallError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::RETRY_AFTER;
    use axum::response::{IntoResponse, Response};
    use serde_json::Value;

    async fn body(response: Response) -> Value {
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await;
        serde_json::from_slice(&bytes.expect("read")).expect("JSON")
    }

    #[track_caller]
    fn check_call(error: CallError, status: u16, retry_after: Option<&str>) {
        let response = Problem::from(error).into_response();
        assert_eq!(response.status(), status);
        let header = response.headers().get(RETRY_AFTER);
        assert_eq!(
            header.map(|value| value.to_str().expect("text")),
            retry_after
        );
    }

    #[test]
    fn a_receiver_that_answered_stop_is_the_callers_to_know() {
        check_call(CallError::Stopped, 400, None);
    }

    #[test]
    fn our_own_trouble_is_503_and_a_components_bug_is_500() {
        let component = |timed_out| CallError::Component {
            component: "otp".to_owned(),
            reason: "unreachable".to_owned(),
            timed_out,
        };
        let retry_after = Duration::from_millis(1_001);
        check_call(CallError::Busy { retry_after }, 503, Some("2"));
        for reason in [
            TurnedAway::Full { waiting: 9 },
            TurnedAway::Reserved { waiting: 9 },
            TurnedAway::Share { waiting: 9 },
            TurnedAway::TooLate { before: 9 },
        ] {
            let full = CallError::QueueFull {
                reason,
                retry_after,
            };
            check_call(full, 503, Some("2"));
        }
        check_call(CallError::StoreFull { retry_after }, 503, Some("2"));
        check_call(CallError::Erasing { retry_after }, 503, Some("2"));
        check_call(component(true), 503, Some("1"));
        check_call(component(false), 500, None);
        check_call(CallError::Store(StoreError::Closed), 503, Some("1"));
    }

    #[tokio::test]
    async fn a_components_words_do_not_reach_the_client() {
        let error = CallError::Component {
            component: "otp".to_owned(),
            reason: "canary".to_owned(),
            timed_out: false,
        };
        let text = body(Problem::from(error).into_response()).await.to_string();
        assert!(!text.contains("canary") && !text.contains("otp"), "{text}");
    }
}
