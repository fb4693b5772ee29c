//! `countersign users`: what support does about one user.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{ask, print};
use super::{Failure, Place};
use crate::config::{Environment, Merged};
use crate::control::{Answer, Request};
use crate::users::{Name, UserShown, UsersRequest, by_line};

/// Look at a user's second factors, and help a user who cannot log in.
#[derive(Debug, Args)]
pub(super) struct Users {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What the user has, and the end of the audit trail.
    Show {
        /// The user's id, as the application gives it.
        id: String,
    },
    /// End all locks, and give the guessing budget back.
    Unlock {
        /// The user's id, as the application gives it.
        id: String,
    },
    /// Remove all factors and backup codes, so that the user can enrol anew; tells the user's phone.
    Reset {
        /// The user's id, as the application gives it.
        id: String,
    },
    /// Remove all that is kept of the user, and tell nobody. The audit trail stays.
    Delete {
        /// The user's id, as the application gives it.
        id: String,
    },
}

impl Users {
    /// Does it and prints the answer.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        let (request, done) = match self.action {
            Action::Show { id } => (UsersRequest::Show { id: Name(id) }, ""),
            Action::Unlock { id } => {
                let done = "The user's locks are over.";
                (UsersRequest::Unlock { id: Name(id) }, done)
            }
            Action::Reset { id } => {
                let done = "The user has no factor any more, and can enrol anew.";
                (UsersRequest::Reset { id: Name(id) }, done)
            }
            Action::Delete { id } => {
                let done = "Nothing is kept of the user any more but the audit trail.";
                (UsersRequest::Delete { id: Name(id) }, done)
            }
        };
        let answer = ask(&settings, Request::Users(request))?;
        Ok(print(&match &answer {
            Answer::User(shown) if self.json => format!("{}\n", json!(shown)),
            Answer::User(shown) => for_people(shown),
            Answer::UserChanged if self.json => format!("{}\n", json!({"success": true})),
            Answer::UserChanged => format!("{done}\n"),
            // Answers to what is not asked here.
            other => format!("{}\n", json!(other)),
        })?)
    }
}

fn for_people(shown: &UserShown) -> String {
    let UserShown { state, trail } = shown;
    let methods = if state.methods.is_empty() {
        "none".to_owned()
    } else {
        state.methods.join(", ")
    };
    let phone = state.phone_number.as_deref().unwrap_or("-");
    let left = state.backup_codes_left;
    let left = left.map_or("-".to_owned(), |left| left.to_string());
    let mut text =
        format!("factors       {methods}\nphone         {phone}\nbackup codes  {left}\n");
    for lock in &state.locks {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "locked        {} until {}", lock.method, lock.until);
    }
    text.extend(trail.entries.iter().map(by_line));
    if trail.next.is_some() {
        text += "older entries: GET /api/audit?user=ID\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_shown_with_the_end_of_the_trail() {
        let shown = json!({
            "enabled": true, "methods": ["otp", "backup"], "phoneNumber": "+1202•••••23",
            "backupCodesLeft": 9, "pending": {"otp": null, "totp": null},
            "locks": [{"method": "backup", "until": "2026-01-31T12:00:00Z"}],
            "trail": {"entries": [
                {"at": "2026-01-31T12:00:00Z", "kind": "user.unlocked", "by": {"type": "operator"}, "attributes": {}},
                {"at": "2026-01-31T11:00:00Z", "kind": "login.failed", "by": {"type": "key", "id": "AbC"}, "attributes": {"method": "backup"}},
            ], "next": "00"},
        });
        let shown: UserShown = serde_json::from_value(shown).expect("a user");
        let blanks = " ".repeat(40 - "key AbC".len());
        let want = format!(
            "factors       otp, backup
phone         +1202•••••23
backup codes  9
locked        backup until 2026-01-31T12:00:00Z
2026-01-31T12:00:00Z  user.unlocked             operator
2026-01-31T11:00:00Z  login.failed              key AbC{blanks}  method=backup
older entries: GET /api/audit?user=ID
"
        );
        assert_eq!(for_people(&shown), want);
    }
}
