//! Logging in: a code to the phone, and a check of whatever the user has typed.
//!
//! Each kind of code has a cap of its own. Misses of all kinds together lock nothing; they only make the
//! user hear of it.

use crate::Undecided;
use crate::enrol::{CODE_BYTES_MAX, INVALID, NO_PHONE, NOT_ENABLED, No, TOO_MANY, typed_digits};
use crate::host::{About, BackupChecked, Checked, Fact, Host, Instant, Refusal, Sent};
use crate::notices;
use crate::rights::Authority;
use crate::user::{Context, Session};

/// The purpose of codes for logging in.
pub const PURPOSE: &str = "login";

/// Stands in for the number of a user who has none, so that a check does the same work: one of those that
/// are kept free for such uses (NANPA, 555-0100 to 555-0199). No code is ever sent to it.
const NOBODY: &str = "+12025550100";

const APP_DIGITS: usize = 6;
/// Codes of other systems that are nothing but digits have at least so many.
const MOVED_DIGITS_MIN: usize = 8;

/// Ways to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the code of a message.
    Sms,
    /// By an authenticator app.
    Totp,
    /// By a backup code.
    Backup,
}

impl Method {
    /// Its word in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Totp => "totp",
            Self::Backup => "backup",
        }
    }
}

/// A login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// What the code was.
    pub method: Method,
    /// How many backup codes are left, after one was used.
    pub backup_codes_left: Option<u32>,
}

/// What one kind of code came to.
enum Try {
    Accepted {
        left: Option<u32>,
    },
    Wrong {
        /// How many misses are left before this kind is locked, where that is known.
        left: Option<u32>,
        /// A backup code that was used before.
        used: bool,
    },
    Locked(Instant),
}

/// Sends a code for a login.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn send<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    authority: &Authority,
    locale: Option<&str>,
) -> Result<Result<Sent, No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if let Err(denial) = session.may_log_in(authority)? {
        return Ok(Err(No::Denied(denial)));
    }
    let Some(phone) = session.user.phone.clone() else {
        let text = match session.has_factor() {
            true => NO_PHONE,
            false => NOT_ENABLED,
        };
        return Ok(Err(No::Refused(Refusal::new(text))));
    };
    let about = About {
        phone: &phone,
        purpose: PURPOSE,
        user: index,
    };
    let sent = match session.host.send_code(&about, locale)? {
        Ok(sent) => sent,
        Err(refusal) => return Ok(Err(No::Refused(refusal))),
    };
    session.user.login_code = Some(sent.expires);
    // Or nothing would have been sent.
    session.user.sms_lock = None;
    session.store();
    session.record(Fact::new("login.sent"));
    Ok(Ok(sent))
}

/// Checks a code. `method`: what the user was asked for, where that is known.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written but tries that were counted.
pub fn log_in<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    authority: &Authority,
    code: &str,
    method: Option<Method>,
) -> Result<Result<Accepted, No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if let Err(denial) = session.may_log_in(authority)? {
        return Ok(Err(No::Denied(denial)));
    }
    if !session.has_factor() {
        return Ok(Err(No::Refused(Refusal::new(NOT_ENABLED))));
    }
    let methods = match method {
        Some(method) => vec![method],
        None if is_digits(code, session.settings.digits) => vec![Method::Sms, Method::Totp],
        None => vec![Method::Backup],
    };
    let mut tries = Vec::with_capacity(methods.len());
    for method in methods {
        let tried = session.try_code(method, code)?;
        if let Try::Accepted { left } = tried {
            session.accept(method, left, authority);
            let accepted = Accepted {
                method,
                backup_codes_left: left,
            };
            return Ok(Ok(accepted));
        }
        tries.push((method, tried));
    }
    Ok(Err(No::Rejected(session.reject(&tries))))
}

/// Whether `code` has the shape of a message's code, or of an authenticator app's.
fn is_digits(code: &str, digits: usize) -> bool {
    let code = typed_digits(code);
    code.bytes().all(|byte| byte.is_ascii_digit())
        && (code.len() < MOVED_DIGITS_MIN || code.len() == digits)
}

impl<H: Host> Session<'_, H> {
    /// Checks a code of one kind, with the same work whether or not the user has that kind.
    fn try_code(&mut self, method: Method, code: &str) -> Result<Try, Undecided> {
        Ok(match method {
            Method::Sms => {
                let phone = self.user.phone.clone();
                let about = About {
                    phone: phone.as_deref().unwrap_or(NOBODY),
                    purpose: PURPOSE,
                    user: self.index,
                };
                match self.host.verify_code(&about, code)? {
                    Ok(()) => Try::Accepted { left: None },
                    Err(Refusal {
                        retry_at: Some(until),
                        ..
                    }) => Try::Locked(until),
                    Err(_) => Try::Wrong {
                        left: None,
                        used: false,
                    },
                }
            }
            Method::Totp => {
                let (key, caps) = (self.user_key(), self.settings.app_caps);
                match self.host.check_app(&key, &app_code(code), &caps) {
                    Checked::Accepted => Try::Accepted { left: None },
                    Checked::Wrong(left) => Try::Wrong {
                        left: Some(left),
                        used: false,
                    },
                    Checked::Locked(until) => Try::Locked(until),
                }
            }
            Method::Backup => {
                let (key, caps) = (self.backup_key(), self.settings.backup_caps);
                let cost = self.settings.hash_cost;
                let code = if code.len() > CODE_BYTES_MAX {
                    ""
                } else {
                    code
                };
                match self.host.check_backup(&key, code, cost, &caps) {
                    BackupChecked::Accepted(left) => Try::Accepted { left: Some(left) },
                    BackupChecked::Wrong(left) => Try::Wrong {
                        left: Some(left),
                        used: false,
                    },
                    BackupChecked::Used(left) => Try::Wrong {
                        left: Some(left),
                        used: true,
                    },
                    BackupChecked::Locked(until) => Try::Locked(until),
                }
            }
        })
    }

    fn accept(&mut self, method: Method, left: Option<u32>, authority: &Authority) {
        self.user.misses.clear();
        if method == Method::Sms {
            self.user.login_code = None;
            self.user.sms_lock = None;
        }
        self.use_token(authority);
        self.store();
        self.record(Fact::new("login.succeeded").with("method", method.word()));
        if let Some(left) = left {
            self.record(Fact::new("backup-code.used").with("left", left.to_string()));
            notices::backup_code_used(self, left);
        }
    }

    /// Whether there is something that a code of this kind is compared with.
    fn is_live(&self, method: Method) -> bool {
        match method {
            Method::Sms => self.user.phone.is_some() && self.user.login_code.is_some(),
            Method::Totp => self.app.active,
            Method::Backup => true,
        }
    }

    /// What is said to a code that was not accepted, by its kinds. Where one is locked and with no other
    /// there was anything to compare, that is the lock's answer: whichever kinds there are, as many tries
    /// are answered as wrong, and none after them.
    fn reject(&mut self, tries: &[(Method, Try)]) -> Refusal {
        let locked = tries
            .iter()
            .any(|(_, tried)| matches!(tried, Try::Locked(_)));
        let missed = tries.iter().any(|(method, tried)| {
            matches!(tried, Try::Wrong { .. }) && (!locked || self.is_live(*method))
        });
        // A miss of what has no cap, since there is nothing to hit, leaves nothing: or whoever may ask could
        // make the trail grow without end.
        let counted = tries.iter().any(|(method, tried)| {
            let capped = *method != Method::Sms || self.is_live(*method);
            matches!(tried, Try::Wrong { .. }) && capped
        });
        if missed && counted {
            self.user.misses.push(self.now);
            self.miss(tries);
        } else {
            let methods = tries.iter().map(|(method, _)| method.word());
            let methods: Vec<&str> = methods.collect();
            let reason = if missed { "absent" } else { "locked" };
            self.host.emit(
                Fact::new("login.rejected")
                    .with("method", methods.join(" "))
                    .with("reason", reason),
            );
        }
        self.note_sms_lock(tries);
        self.store();
        let until = tries.iter().filter_map(|(_, tried)| match tried {
            Try::Locked(until) => Some(*until),
            _ => None,
        });
        match until.min().filter(|_| !missed) {
            Some(until) => Refusal {
                text: TOO_MANY.into(),
                retry_at: Some(until),
            },
            None => Refusal::new(INVALID),
        }
    }

    /// Records a miss, and what follows from it.
    fn miss(&mut self, tries: &[(Method, Try)]) {
        let wrong = tries
            .iter()
            .filter(|(_, tried)| matches!(tried, Try::Wrong { .. }));
        let methods: Vec<&str> = wrong.map(|(method, _)| method.word()).collect();
        let used = tries
            .iter()
            .any(|(_, tried)| matches!(tried, Try::Wrong { used: true, .. }));
        let reason = if used { "used" } else { "wrong" };
        self.record(
            Fact::new("login.failed")
                .with("method", methods.join(" "))
                .with("reason", reason),
        );
        for (method, tried) in tries {
            if let Try::Wrong { left: Some(0), .. } = tried {
                self.record(Fact::new("login.locked").with("method", method.word()));
            }
        }
        if notices::repeated_failures(self) {
            let misses = self.user.misses.len().to_string();
            self.record(Fact::new("failures.repeated").with("misses", misses));
        }
    }

    /// A lock of messages' codes is otp's, which keeps no trail: it is recorded when it is met first.
    fn note_sms_lock(&mut self, tries: &[(Method, Try)]) {
        for (method, tried) in tries {
            if let (Method::Sms, Try::Locked(until)) = (method, tried)
                && self.user.sms_lock != Some(*until)
            {
                self.user.sms_lock = Some(*until);
                self.record(Fact::new("login.locked").with("method", method.word()));
            }
        }
    }
}

/// The digits that were typed, where they can be an app's code.
fn app_code(code: &str) -> String {
    let code = typed_digits(code);
    if code.len() == APP_DIGITS {
        code
    } else {
        String::new()
    }
}
