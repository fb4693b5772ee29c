//! Adding, changing and removing factors, and making backup codes.

use crate::Undecided;
use crate::host::{About, Checked, Fact, Host, Instant, Refusal, Secret, Sent};
use crate::notices;
use crate::rights::{Authority, Denial, Proof, Right};
use crate::settings::DAY;
use crate::user::{Context, Pending, Session};

/// Where nothing is pending.
pub const NOT_INITIATED: &str = "2FA setup not initiated";
/// Where the user has no factor.
pub const NOT_ENABLED: &str = "2FA not enabled";
/// For a user with an authenticator app alone.
pub const NO_PHONE: &str = "No phone number is enrolled";
/// For a user with a phone alone.
pub const NO_APP: &str = "No authenticator app is enrolled";
/// For what is no number.
pub const NO_NUMBER: &str = "Invalid phone number";
/// For a wrong code of an app, and for any of a login.
pub const INVALID: &str = "Invalid code";
/// Said to right and wrong codes alike, when there were too many.
pub const TOO_MANY: &str = "Too many attempts";

/// The purpose of codes for enrolling.
pub const PURPOSE: &str = "enrolment";

/// Kinds of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// A phone.
    Sms,
    /// An authenticator app.
    Totp,
}

impl Factor {
    /// Its word in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Totp => "totp",
        }
    }
}

/// What a request came to that is not a plain yes: why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum No {
    /// The code was not accepted.
    Rejected(Refusal),
    /// It cannot be done.
    Refused(Refusal),
    /// It may not be done.
    Denied(Denial),
}

/// A factor became active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enabled {
    /// Which.
    pub factor: Factor,
    /// The new set of backup codes.
    pub backup_codes: Option<Secret>,
}

/// A wish for a phone to become a user's factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnableRequest<'a> {
    /// In whose right.
    pub authority: &'a Authority,
    /// As the user typed it.
    pub phone: &'a str,
    /// BCP 47 tag.
    pub locale: Option<&'a str>,
    /// Of an active factor.
    pub proof: Option<&'a Proof>,
}

/// What makes a pending factor an active one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyRequest<'a> {
    /// In whose right.
    pub authority: &'a Authority,
    /// As the user typed it.
    pub code: &'a str,
    /// Of an active factor.
    pub proof: Option<&'a Proof>,
}

/// Sends a code to a phone that is to become the user's. Returns the number in E.164, too.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn enable<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    request: &EnableRequest<'_>,
) -> Result<Result<(String, Sent), No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    let right = match session.may_change(request.authority, request.proof, false)? {
        Ok(right) => right,
        Err(denial) => return Ok(Err(No::Denied(denial))),
    };
    let Ok(number) = session.host.parse(request.phone) else {
        return Ok(Err(No::Refused(Refusal::new(NO_NUMBER))));
    };
    if let Some((span, retry_at)) = session.full_window(&session.user.sends) {
        let refused = session.refuse(Factor::Sms, "send-limit", span, retry_at);
        return Ok(Err(refused));
    }
    // Many users who name one number would be a way to flood it.
    let key = format!("number/{}/{}/day", session.service, number.index);
    if let Err(retry_at) = session.host.take(&key, session.settings.per_number, DAY) {
        let refused = session.refuse(Factor::Sms, "number-limit", "day", retry_at);
        return Ok(Err(refused));
    }
    let about = About {
        phone: &number.e164,
        purpose: PURPOSE,
        user: index,
    };
    let sent = match session.host.send_code(&about, request.locale)? {
        Ok(sent) => sent,
        Err(refusal) => return Ok(Err(No::Refused(refusal))),
    };
    session.user.pending = Some(Pending {
        phone: number.e164.clone(),
        proven: right.proven,
        ends: session.now.saturating_add(session.settings.pending),
        code_ends: sent.expires,
    });
    session.user.sends.push(session.now);
    session.use_right(&right);
    session.store();
    session.record(Fact::new("enrolment.sent").with("factor", Factor::Sms.word()));
    Ok(Ok((number.e164, sent)))
}

/// Makes the pending phone the active one, with a new set of backup codes.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written but the try, if it was counted.
pub fn verify_enable<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    request: &VerifyRequest<'_>,
) -> Result<Result<Enabled, No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    let pending = session.user.pending.clone();
    if pending.is_none() && *request.authority == Authority::Application {
        return Ok(Err(No::Refused(Refusal::new(NOT_INITIATED))));
    }
    let proven = pending.as_ref().is_some_and(|pending| pending.proven);
    let right = match session.may_change(request.authority, request.proof, proven)? {
        Ok(right) => right,
        Err(denial) => return Ok(Err(No::Denied(denial))),
    };
    let Some(pending) = pending else {
        return Ok(Err(No::Refused(Refusal::new(NOT_INITIATED))));
    };
    let about = About {
        phone: &pending.phone,
        purpose: PURPOSE,
        user: index,
    };
    if let Err(refusal) = session.host.verify_code(&about, request.code)? {
        // Only what was compared is recorded: otp bounds how often that is.
        if refusal.retry_at.is_none() && session.now < pending.code_ends {
            session.record(Fact::new("enrolment.failed").with("factor", Factor::Sms.word()));
        }
        return Ok(Err(No::Rejected(refusal)));
    }
    let before = session.user.phone.replace(pending.phone);
    session.user.login_code = None;
    session.user.pending = None;
    let changed = before.filter(|before| session.user.phone.as_ref() != Some(before));
    if changed.is_some() {
        session.user.sms_lock = None;
    }
    let codes = session.activate(
        Factor::Sms,
        changed.is_some(),
        &right,
        request.authority,
        true,
    );
    if let Some(before) = changed {
        notices::number_changed(&mut session, before);
    }
    Ok(Ok(codes))
}

/// Makes a pending secret for an authenticator app.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn enroll_app<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    authority: &Authority,
    proof: Option<&Proof>,
) -> Result<Result<Secret, No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    let right = match session.may_change(authority, proof, false)? {
        Ok(right) => right,
        Err(denial) => return Ok(Err(No::Denied(denial))),
    };
    // Each leaves a record, so whoever holds a token could make the trail grow for as long as it is good.
    if let Some((span, retry_at)) = session.full_window(&session.user.secrets) {
        let refused = session.refuse(Factor::Totp, "secret-limit", span, retry_at);
        return Ok(Err(refused));
    }
    let key = session.user_key();
    let secret = session.host.enroll_app(&key, session.settings.pending);
    session.user.app_proven = right.proven;
    session.user.secrets.push(session.now);
    session.use_right(&right);
    session.store();
    session.record(Fact::new("enrolment.begun").with("factor", Factor::Totp.word()));
    Ok(Ok(secret))
}

/// Makes the pending authenticator app the active one.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written but the try, if it was counted.
pub fn verify_app<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    request: &VerifyRequest<'_>,
) -> Result<Result<Enabled, No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if session.app.pending.is_none() && *request.authority == Authority::Application {
        return Ok(Err(No::Refused(Refusal::new(NOT_INITIATED))));
    }
    let proven = session.user.app_proven && session.app.pending.is_some();
    let right = match session.may_change(request.authority, request.proof, proven)? {
        Ok(right) => right,
        Err(denial) => return Ok(Err(No::Denied(denial))),
    };
    if session.app.pending.is_none() {
        return Ok(Err(No::Refused(Refusal::new(NOT_INITIATED))));
    }
    let key = session.user_key();
    let code = typed_digits(request.code);
    let caps = session.settings.app_caps;
    let refusal = match session.host.confirm_app(&key, &code, &caps) {
        Checked::Accepted => None,
        Checked::Wrong(left) => {
            let fact = Fact::new("enrolment.failed").with("factor", Factor::Totp.word());
            session.record(fact.with("left", left.to_string()));
            Some(Refusal::new(INVALID))
        }
        Checked::Locked(until) => {
            session.host.emit(
                Fact::new("enrolment.rejected")
                    .with("factor", Factor::Totp.word())
                    .with("reason", "locked"),
            );
            Some(Refusal {
                text: TOO_MANY.into(),
                retry_at: Some(until),
            })
        }
    };
    if let Some(refusal) = refusal {
        return Ok(Err(No::Rejected(refusal)));
    }
    session.user.app_proven = false;
    let changed = session.app.active;
    let codes = session.activate(Factor::Totp, changed, &right, request.authority, false);
    Ok(Ok(codes))
}

/// Removes a factor, or all of them; the backup codes go with the last one.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn disable<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    authority: &Authority,
    factor: Option<Factor>,
    proof: Option<&Proof>,
) -> Result<Result<(), No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    let wanted = |kind| factor.is_none_or(|factor| factor == kind);
    let phone = session.user.phone.clone();
    let goes: Vec<Factor> = [
        (Factor::Sms, phone.is_some()),
        (Factor::Totp, session.app.active),
    ]
    .into_iter()
    .filter_map(|(kind, active)| (active && wanted(kind)).then_some(kind))
    .collect();
    // A proof is asked for first, so that who has none learns nothing of the factors.
    let right = match session.may_change(authority, proof, false)? {
        Ok(right) => right,
        Err(denial) => return Ok(Err(No::Denied(denial))),
    };
    if goes.is_empty() {
        let text = match factor {
            Some(Factor::Sms) if session.has_factor() => NO_PHONE,
            Some(Factor::Totp) if session.has_factor() => NO_APP,
            _ => NOT_ENABLED,
        };
        return Ok(Err(No::Refused(Refusal::new(text))));
    }
    session.remove(&goes);
    session.use_right(&right);
    session.store();
    for factor in &goes {
        session.record(Fact::new("factor.disabled").with("factor", factor.word()));
    }
    if let Some(phone) = phone {
        notices::disabled(&mut session, phone);
    }
    Ok(Ok(()))
}

/// Makes a new set of backup codes; the old one is dead.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn new_backup_codes<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    authority: &Authority,
    proof: Option<&Proof>,
) -> Result<Result<Secret, No>, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    let right = match session.may_change(authority, proof, false)? {
        Ok(right) => right,
        Err(denial) => return Ok(Err(No::Denied(denial))),
    };
    if !session.has_factor() {
        return Ok(Err(No::Refused(Refusal::new(NOT_ENABLED))));
    }
    let secret = session.issue();
    session.use_right(&right);
    session.end_proofs();
    session.store();
    Ok(Ok(secret))
}

/// What the user typed without blanks and hyphens; nothing where no code is so long.
pub(crate) fn typed_digits(text: &str) -> String {
    let code: String = text
        .chars()
        .filter(|&char| !char.is_whitespace() && char != '-')
        .take(CODE_BYTES_MAX + 1)
        .collect();
    if code.len() > CODE_BYTES_MAX {
        String::new()
    } else {
        code
    }
}

/// The host takes no longer ones.
pub(crate) const CODE_BYTES_MAX: usize = 64;

impl<H: Host> Session<'_, H> {
    /// Adds a fact to the user's trail.
    pub(crate) fn record(&mut self, fact: Fact) {
        self.host.record(self.index, fact);
    }

    /// The window of enrolments, begun at `times`, that is full for the longest, and when it has room.
    fn full_window(&self, times: &[Instant]) -> Option<(&'static str, Instant)> {
        let full = self.settings.sends.iter().filter_map(|&(span, max, name)| {
            let filling = times.len().checked_sub(max)?;
            let room_at = times.get(filling)?.saturating_add(span);
            (room_at > self.now).then_some((name, room_at))
        });
        full.max_by_key(|&(_, room_at)| room_at)
    }

    fn refuse(
        &mut self,
        factor: Factor,
        reason: &'static str,
        span: &str,
        retry_at: Instant,
    ) -> No {
        self.host.emit(
            Fact::new("enrolment.refused")
                .with("factor", factor.word())
                .with("reason", reason),
        );
        No::Refused(Refusal {
            text: format!("{TOO_MANY}. Please wait 1 {span}."),
            retry_at: Some(retry_at),
        })
    }

    /// What every new active factor brings with it.
    fn activate(
        &mut self,
        factor: Factor,
        changed: bool,
        right: &Right,
        authority: &Authority,
        new_codes: bool,
    ) -> Enabled {
        let key = self.backup_key();
        let status = self.host.backup_status(&key, &self.settings.backup_caps);
        let new_codes = new_codes || status.left.is_none();
        self.use_right(right);
        self.use_token(authority);
        if changed || new_codes {
            self.end_proofs();
        }
        self.store();
        let kind = match changed {
            true => "factor.changed",
            false => "factor.enabled",
        };
        self.record(Fact::new(kind).with("factor", factor.word()));
        Enabled {
            factor,
            backup_codes: new_codes.then(|| self.issue()),
        }
    }

    fn issue(&mut self) -> Secret {
        let key = self.backup_key();
        let (codes, cost) = (self.settings.backup_codes, self.settings.hash_cost);
        let secret = self.host.issue_backup(&key, codes, cost);
        self.record(Fact::new("backup-codes.issued").with("codes", codes.to_string()));
        secret
    }

    /// Takes factors from the row, and the backup codes with the last one. What is pending goes with its
    /// kind.
    pub(crate) fn remove(&mut self, goes: &[Factor]) {
        if goes.contains(&Factor::Sms) {
            self.user.phone = None;
            self.user.login_code = None;
            self.user.sms_lock = None;
            self.user.pending = None;
        }
        if goes.contains(&Factor::Totp) {
            let key = self.user_key();
            self.host.remove_app(&key);
            self.user.app_proven = false;
            self.app = Default::default();
        }
        if self.has_factor() {
            self.end_proofs();
        } else {
            // The next factor brings new codes, which end all proofs from before.
            let key = self.backup_key();
            self.host.remove_backup(&key);
        }
    }
}
