//! What operators do about users: look, help out, remove, and move users in from another system. All of it
//! is in the audit trail.

use std::fmt;

use countersign_runtime::{
    CallContext, CallError, Caller, MoveInRequest, MoveInVerdict, MovedBackupCodes, MovedTotp,
    Runtime, SupportVerdict, UserId, UserIdError,
};
use countersign_store::StoreError;
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::shown::{State, Trail};
use crate::control::Answer;

/// The namespace whose users they are.
const SERVICE: &str = "default";
/// How much of a user's trail is shown.
const TRAIL_SHOWN: usize = 20;
/// How many users are moved in with one request, all at once: as many as can share a commit without
/// taking the places of calls of applications.
pub(crate) const MOVED_AT_ONCE: usize = 32;
/// How often a user is tried again while the server has more to do than it can.
const BUSY_TRIES: u32 = 30;

/// What is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum UsersRequest {
    Show {
        id: Name,
    },
    Unlock {
        id: Name,
    },
    Reset {
        id: Name,
    },
    Delete {
        id: Name,
    },
    /// At most [`MOVED_AT_ONCE`].
    MoveIn {
        users: Vec<Moving>,
    },
}

/// An id as it was typed. It does not print.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Name(pub(crate) String);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(***)")
    }
}

/// A user of another system, as a line of a file says. It does not print.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Moving {
    pub(crate) line: u64,
    pub(crate) user: String,
    pub(crate) phone: Option<String>,
    pub(crate) totp: Option<String>,
    pub(crate) backup_codes: Option<Vec<String>>,
}

impl fmt::Debug for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Moving");
        shown.field("line", &self.line).finish_non_exhaustive()
    }
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    pub(crate) line: u64,
    pub(crate) outcome: MoveOutcome,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MoveOutcome {
    MovedIn,
    /// The user has a factor here already and stays as they are.
    Present,
    Refused(String),
}

/// A user with the end of their trail.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserShown {
    #[serde(flatten)]
    pub(crate) state: State,
    pub(crate) trail: Trail,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(crate) enum SupportError {
    #[error("{0}")]
    #[diagnostic(code(countersign::users::id))]
    Id(#[from] UserIdError),
    #[error("nothing is known of this user")]
    #[diagnostic(
        code(countersign::users::absent),
        help("is it the id that the application gives in X-Countersign-User, to the letter?")
    )]
    Absent,
    #[error("a request has at most {MOVED_AT_ONCE} users")]
    #[diagnostic(code(countersign::users::too_many))]
    TooMany,
    #[error(transparent)]
    #[diagnostic(code(countersign::users::call))]
    Call(#[from] CallError),
    #[error(transparent)]
    #[diagnostic(code(countersign::users::store))]
    Store(#[from] StoreError),
}

/// Does what is asked.
///
/// # Errors
///
/// See [`SupportError`].
pub(crate) async fn perform(
    runtime: &Runtime,
    request: UsersRequest,
) -> Result<Answer, SupportError> {
    let context = operator();
    let done = match request {
        UsersRequest::Show { id } => return show(runtime, &id.0.parse()?).await,
        UsersRequest::MoveIn { users } => return move_in(runtime, users).await,
        UsersRequest::Unlock { id } => runtime.two_factor_unlock(&context, &id.0.parse()?).await,
        UsersRequest::Reset { id } => runtime.two_factor_reset(&context, &id.0.parse()?).await,
        UsersRequest::Delete { id } => runtime.two_factor_delete(&context, &id.0.parse()?).await,
    };
    match done? {
        SupportVerdict::Done => Ok(Answer::UserChanged),
        SupportVerdict::Absent => Err(SupportError::Absent),
    }
}

/// Who asks with the administrator's token or by a command.
pub(crate) fn operator() -> CallContext {
    CallContext {
        service: SERVICE.to_owned(),
        caller: Caller::Operator,
        client_address: None,
    }
}

async fn show(runtime: &Runtime, user: &UserId) -> Result<Answer, SupportError> {
    let state = runtime.two_factor_status(&operator(), user).await?;
    let trail = runtime.audit_trail(user, None, TRAIL_SHOWN).await?;
    let is_known = state.enabled()
        || state.pending_phone.is_some()
        || state.pending_totp.is_some()
        || !trail.entries.is_empty();
    if !is_known {
        return Err(SupportError::Absent);
    }
    // Who looks leaves a trace, too.
    runtime
        .audit_record(&operator(), user, "user.shown", Vec::new(), None)
        .await?;
    Ok(Answer::User(Box::new(UserShown {
        state: State::from(&state),
        trail: trail.into(),
    })))
}

/// All at once, so that they share commits.
async fn move_in(runtime: &Runtime, users: Vec<Moving>) -> Result<Answer, SupportError> {
    if users.len() > MOVED_AT_ONCE {
        return Err(SupportError::TooMany);
    }
    let mut calls = JoinSet::new();
    for user in users {
        let runtime = runtime.clone();
        calls.spawn(async move {
            let line = user.line;
            let outcome = move_one(&runtime, user).await?;
            Ok::<_, SupportError>(Moved { line, outcome })
        });
    }
    let mut moved = Vec::new();
    for call in calls.join_all().await {
        moved.push(call?);
    }
    moved.sort_by_key(|moved| moved.line);
    Ok(Answer::MovedIn(moved))
}

async fn move_one(runtime: &Runtime, user: Moving) -> Result<MoveOutcome, SupportError> {
    let (user, request) = match read(user) {
        Ok(read) => read,
        Err(reason) => return Ok(MoveOutcome::Refused(reason)),
    };
    let (context, mut tries) = (operator(), 0);
    loop {
        let moved = runtime.two_factor_move_in(&context, &user, request.clone());
        match moved.await {
            Ok(MoveInVerdict::MovedIn) => return Ok(MoveOutcome::MovedIn),
            Ok(MoveInVerdict::Present) => return Ok(MoveOutcome::Present),
            Ok(MoveInVerdict::Refused(refused)) => return Ok(MoveOutcome::Refused(refused.text)),
            Err(CallError::Busy { retry_after }) if tries < BUSY_TRIES => {
                tries += 1;
                tokio::time::sleep(retry_after).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the line asks for, or why it cannot be done.
fn read(user: Moving) -> Result<(UserId, MoveInRequest), String> {
    let Moving {
        user,
        phone,
        totp,
        backup_codes,
        ..
    } = user;
    let user = user
        .parse()
        .map_err(|error: UserIdError| error.to_string())?;
    let totp = totp.map(|secret| MovedTotp::from_base32(&secret));
    let backup_codes = backup_codes.map(MovedBackupCodes::new);
    let request = MoveInRequest {
        phone,
        totp: totp.transpose().map_err(|error| error.to_string())?,
        backup_codes: backup_codes
            .transpose()
            .map_err(|error| error.to_string())?,
    };
    Ok((user, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_about_users_does_not_print() {
        let moving = Moving {
            line: 7,
            user: "canary".to_owned(),
            phone: Some("canary".to_owned()),
            totp: Some("canary".to_owned()),
            backup_codes: Some(vec!["canary".to_owned()]),
        };
        let request = UsersRequest::MoveIn {
            users: vec![moving],
        };
        let show = UsersRequest::Show {
            id: Name("canary".to_owned()),
        };
        for printed in [format!("{request:?}"), format!("{show:?}")] {
            assert!(!printed.contains("canary"), "{printed}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_taken_says_why_and_repeats_no_secret() {
        let moving = || Moving {
            line: 1,
            user: "u1".to_owned(),
            phone: None,
            totp: None,
            backup_codes: None,
        };
        assert!(read(moving()).is_ok());
        let user = Moving {
            user: String::new(),
            ..moving()
        };
        let totp = Moving {
            totp: Some("canary!".to_owned()),
            ..moving()
        };
        let codes = Moving {
            backup_codes: Some(vec!["canary".to_owned()]),
            ..moving()
        };
        for wrong in [user, totp, codes] {
            let reason = read(wrong).expect_err("refused");
            assert!(!reason.is_empty() && !reason.contains("canary"), "{reason}");
        }
    }
}
