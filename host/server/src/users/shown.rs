//! Users as applications and operators are told of them. Times are RFC 3339 in UTC; a number is masked,
//! and the user's own id is left to who has asked.

use std::collections::BTreeMap;

use countersign_runtime::{AuditEntry, AuditPage, Caller, Method, UserState};
use countersign_types::UnixMillis;
use serde::{Deserialize, Serialize};

/// What a user has.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    /// Whether a login needs a second step.
    pub(crate) enabled: bool,
    /// What that step can be: `otp`, `totp`, `backup`.
    pub(crate) methods: Vec<String>,
    /// Masked.
    pub(crate) phone_number: Option<String>,
    pub(crate) backup_codes_left: Option<u32>,
    pub(crate) pending: Pending,
    pub(crate) locks: Vec<Lock>,
}

/// Until when what is asked for can be verified.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pending {
    otp: Option<String>,
    totp: Option<String>,
}

/// A method of which no code is looked at for a while.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lock {
    pub(crate) method: String,
    pub(crate) until: String,
}

impl From<&UserState> for State {
    fn from(state: &UserState) -> State {
        let time = |time: UnixMillis| time.to_string();
        let backup = state.backup_codes.is_some_and(|left| left > 0);
        let methods = [
            (state.phone.is_some(), Method::Sms),
            (state.totp, Method::Totp),
            (backup, Method::Backup),
        ];
        let has = methods.into_iter().filter(|(has, _)| *has);
        let locks = state.locks.iter().map(|(method, until)| Lock {
            method: method.word().to_owned(),
            until: time(*until),
        });
        State {
            enabled: state.enabled(),
            methods: has.map(|(_, method)| method.word().to_owned()).collect(),
            phone_number: state.phone.clone(),
            backup_codes_left: state.backup_codes,
            pending: Pending {
                otp: state.pending_phone.map(time),
                totp: state.pending_totp.map(time),
            },
            locks: locks.collect(),
        }
    }
}

/// Part of what was done to a user and by them, the newest first.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trail {
    pub(crate) entries: Vec<Entry>,
    /// The cursor of the next page, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
}

/// One thing that was done.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) at: String,
    pub(crate) kind: String,
    pub(crate) by: By,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Who asked for it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum By {
    /// Open mode.
    Anonymous,
    /// An API key.
    Key { id: String },
    /// The user's own device, by a token.
    Token { id: String },
    /// A command.
    Operator,
}

/// An entry of a trail for people, on a line of its own.
pub(crate) fn by_line(entry: &Entry) -> String {
    let facts = entry.attributes.iter();
    let facts: Vec<String> = facts
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let line = format!(
        "{}  {:<24}  {:<40}  {}",
        entry.at,
        entry.kind,
        entry.by.in_words(),
        facts.join(" ")
    );
    format!("{}\n", line.trim_end())
}

impl By {
    /// For people.
    pub(crate) fn in_words(&self) -> String {
        match self {
            By::Anonymous => "anonymous".to_owned(),
            By::Key { id } => format!("key {id}"),
            By::Token { id } => format!("token {id}"),
            By::Operator => "operator".to_owned(),
        }
    }
}

impl From<Caller> for By {
    fn from(caller: Caller) -> By {
        match caller {
            Caller::Anonymous => By::Anonymous,
            Caller::Key(id) => By::Key { id },
            Caller::Token(id) => By::Token { id },
            Caller::Operator => By::Operator,
        }
    }
}

impl From<AuditEntry> for Entry {
    fn from(entry: AuditEntry) -> Entry {
        Entry {
            at: entry.at.to_string(),
            kind: entry.kind,
            by: entry.by.into(),
            attributes: entry.attributes.into_iter().collect(),
        }
    }
}

impl From<AuditPage> for Trail {
    fn from(page: AuditPage) -> Trail {
        Trail {
            entries: page.entries.into_iter().map(Entry::from).collect(),
            next: page.next.map(|cursor| cursor.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    #[test]
    fn a_state_says_what_there_is_with_a_masked_number() {
        let mut state = UserState {
            phone: Some("+1202•••••23".to_owned()),
            pending_phone: None,
            totp: true,
            pending_totp: Some(NOW),
            backup_codes: Some(0),
            locks: vec![(Method::Backup, NOW)],
        };
        let want = json!({
            "enabled": true, "methods": ["otp", "totp"], "phoneNumber": "+1202•••••23",
            "backupCodesLeft": 0, "pending": {"otp": null, "totp": "2026-01-31T12:00:00Z"},
            "locks": [{"method": "backup", "until": "2026-01-31T12:00:00Z"}],
        });
        assert_eq!(json!(State::from(&state)), want);
        state.backup_codes = Some(1);
        assert_eq!(State::from(&state).methods, ["otp", "totp", "backup"]);
    }

    #[test]
    fn who_has_done_it_is_told_apart() {
        for (caller, want, words) in [
            (Caller::Anonymous, json!({"type": "anonymous"}), "anonymous"),
            (Caller::Operator, json!({"type": "operator"}), "operator"),
            (
                Caller::Key("a".to_owned()),
                json!({"type": "key", "id": "a"}),
                "key a",
            ),
            (
                Caller::Token("b".to_owned()),
                json!({"type": "token", "id": "b"}),
                "token b",
            ),
        ] {
            let by = By::from(caller);
            assert_eq!(json!(by), want);
            assert_eq!(by.in_words(), words);
        }
    }

    #[test]
    fn an_entry_has_its_time_and_its_facts_by_name() {
        let entry = AuditEntry {
            at: NOW,
            kind: "login.failed".to_owned(),
            by: Caller::Operator,
            service: "default".to_owned(),
            source: "two-factor".to_owned(),
            attributes: vec![("method".to_owned(), "otp".to_owned())],
        };
        let page = AuditPage {
            entries: vec![entry],
            next: None,
        };
        let want = json!({"entries": [{
            "at": "2026-01-31T12:00:00Z", "kind": "login.failed", "by": {"type": "operator"},
            "attributes": {"method": "otp"},
        }]});
        assert_eq!(json!(Trail::from(page)), want);
    }
}
