//! What is kept of a user: the component's section of the row `user/{service}/{user}`. The host's section
//! of the same row is the authenticator app.

use serde::{Deserialize, Serialize};

use crate::Undecided;
use crate::host::{AppStatus, Host, Instant};
use crate::settings::{DAY, HOUR, PROOF_LIFE, Settings};

/// What is known of the service and of who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The namespace whose settings and limits apply.
    pub service: String,
}

/// The row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The active phone, in E.164.
    pub phone: Option<String>,
    /// The one that is to become it.
    pub pending: Option<Pending>,
    /// Whether the pending authenticator app was asked for with a proof.
    pub app_proven: bool,
    /// When codes for enrolling were sent, oldest first.
    pub sends: Vec<Instant>,
    /// When secrets for authenticator apps were made, oldest first.
    pub secrets: Vec<Instant>,
    /// When codes of any kind were wrong, oldest first.
    pub misses: Vec<Instant>,
    /// When the user was told of repeated failures.
    pub noticed: Option<Instant>,
    /// The end of the lock of messages' codes that a check has met.
    pub sms_lock: Option<Instant>,
    /// The end of the code for a login that was sent last to the active phone: until then, and no longer,
    /// there is something that digits are compared with.
    pub login_code: Option<Instant>,
    /// Proofs from before are void: a factor or the backup codes were removed or replaced then.
    pub proofs_from: Option<Instant>,
}

/// A phone that a code was sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// In E.164.
    pub phone: String,
    /// Whether it was asked for with a proof of an active factor.
    pub proven: bool,
    /// Until when it can be verified.
    pub ends: Instant,
    /// When the code that was sent last ends.
    pub code_ends: Instant,
}

/// One call about a user: everything that it begins with.
pub struct Session<'a, H> {
    /// The imports.
    pub host: &'a mut H,
    /// What the operator has set.
    pub settings: Settings,
    /// The namespace.
    pub service: &'a str,
    /// The user's index.
    pub index: &'a str,
    /// The instant of the call.
    pub now: Instant,
    /// The row, as it will be written.
    pub user: User,
    /// As it was read; `None` where there was none.
    pub before: Option<User>,
    /// The authenticator app, as it was at the beginning.
    pub app: AppStatus,
}

/// Names and ids of the host are put into keys as they are.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

impl<'a, H: Host> Session<'a, H> {
    /// Reads what is known of the user with this index.
    ///
    /// # Errors
    /// [`Undecided`] for a wrong setting, a damaged row, and a name that cannot be part of a key.
    pub fn begin(host: &'a mut H, context: &'a Context, index: &'a str) -> Result<Self, Undecided> {
        if !is_id(&context.service) || !is_id(index) {
            return Err(Undecided::Call(
                "a service or a user has a name that cannot be part of a key",
            ));
        }
        let settings = Settings::read(&host.settings())?;
        let now = host.now();
        let service = context.service.as_str();
        let row = host.get(&format!("user/{service}/{index}"));
        let before: Option<User> = row
            .map(|row| postcard::from_bytes(&row).map_err(|_| Undecided::Row))
            .transpose()?;
        let mut user = before.clone().unwrap_or_default();
        user.forget(now);
        let mut session = Self {
            host,
            settings,
            service,
            index,
            now,
            user,
            before,
            app: AppStatus::default(),
        };
        let key = session.user_key();
        session.app = session.host.app_status(&key, &session.settings.app_caps);
        Ok(session)
    }

    /// Whether the user has a factor.
    #[must_use]
    pub fn has_factor(&self) -> bool {
        self.user.phone.is_some() || self.app.active
    }

    /// Where the user and their authenticator app are.
    #[must_use]
    pub fn user_key(&self) -> String {
        format!("user/{}/{}", self.service, self.index)
    }

    /// Where the user's backup codes are.
    #[must_use]
    pub fn backup_key(&self) -> String {
        format!("backup/{}/{}", self.service, self.index)
    }

    /// Writes the row, where it is not as it was.
    pub fn store(&mut self) {
        if self.before.as_ref() == Some(&self.user) {
            return;
        }
        if self.user == User::default() {
            if self.before.is_some() {
                let key = self.user_key();
                self.host.delete(&key);
            }
            return;
        }
        // Serialising plain data into a `Vec` cannot fail.
        let row = postcard::to_allocvec(&self.user).unwrap_or_default();
        // Without a phone nothing of it counts for longer than a day.
        let expires = match self.user.phone {
            Some(_) => None,
            None => Some(self.now.saturating_add(DAY)),
        };
        let key = self.user_key();
        self.host.put(&key, &row, expires);
    }
}

impl User {
    /// Drops what is of no interest at `now`. What lies ahead of it was written before the clock was set
    /// back, and counts from now: else it would count for as long as the clock was ahead.
    fn forget(&mut self, now: Instant) {
        for (times, span) in [
            (&mut self.sends, DAY),
            (&mut self.secrets, DAY),
            (&mut self.misses, HOUR),
        ] {
            for time in times.iter_mut() {
                *time = now.min(*time);
            }
            times.retain(|time| time.saturating_add(span) > now);
        }
        self.noticed = self
            .noticed
            .map(|at| at.min(now))
            .filter(|at| at.saturating_add(HOUR) > now);
        // No proof from before is good for longer.
        self.proofs_from = self
            .proofs_from
            .map(|at| at.min(now))
            .filter(|at| at.saturating_add(PROOF_LIFE) > now);
        self.sms_lock = self.sms_lock.filter(|&until| until > now);
        self.login_code = self.login_code.filter(|&ends| ends > now);
        if self
            .pending
            .as_ref()
            .is_some_and(|pending| pending.ends <= now)
        {
            self.pending = None;
        }
    }
}
