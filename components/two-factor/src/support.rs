//! What is asked about users, what support does for them, and users of other systems who move in.

use crate::Undecided;
use crate::enrol::{self, Factor, NO_NUMBER};
use crate::host::{About, Fact, Host, Instant, NoNumber, Number, Refusal, Secret};
use crate::login::{self, Method};
use crate::notices;
use crate::user::{Context, Session};

/// What is known of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The active phone, in E.164.
    pub phone: Option<String>,
    /// Until when a pending one can be verified.
    pub pending_phone: Option<Instant>,
    /// Whether an authenticator app is active.
    pub app: bool,
    /// Until when a pending one can be confirmed.
    pub pending_app: Option<Instant>,
    /// How many backup codes are left, where there is a set.
    pub backup_codes: Option<u32>,
    /// Kinds of codes that are not looked at, and until when. A message's code is otp's: its lock is known here
    /// once a check has met it.
    pub locks: Vec<(Method, Instant)>,
}

/// Whether something was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was.
    Done,
    /// Nothing is known of the user.
    Absent,
}

/// What became of somebody who moves in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MovedIn {
    /// The user can log in.
    Done,
    /// The user has a factor here already.
    Present,
    /// Why not.
    Refused(Refusal),
}

/// A user of another system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MoveIn<'a> {
    /// A number that was verified there.
    pub phone: Option<&'a str>,
    /// The secret of an authenticator app.
    pub app: Option<Secret>,
    /// Hashes of backup codes.
    pub backup_codes: Option<Secret>,
}

/// What is known of a user. Writes nothing.
///
/// # Errors
/// [`Undecided`] for a wrong setting or a damaged row.
pub fn status<H: Host>(host: &mut H, context: &Context, index: &str) -> Result<State, Undecided> {
    let session = Session::begin(host, context, index)?;
    let key = session.backup_key();
    let backup = session
        .host
        .backup_status(&key, &session.settings.backup_caps);
    let locks = [
        (Method::Sms, session.user.sms_lock),
        (Method::Totp, session.app.locked),
        (Method::Backup, backup.locked),
    ];
    // A lock says that there is something behind it only where there is.
    let has = |method: &Method| match method {
        Method::Sms => session.user.phone.is_some(),
        Method::Totp => session.app.active,
        Method::Backup => backup.left.is_some(),
    };
    Ok(State {
        pending_phone: session.user.pending.as_ref().map(|pending| pending.ends),
        app: session.app.active,
        pending_app: session.app.pending,
        backup_codes: backup.left,
        locks: locks
            .into_iter()
            .filter_map(|(method, until)| Some((method, until?)))
            .filter(|(method, _)| has(method))
            .collect(),
        phone: session.user.phone,
    })
}

/// Ends every lock of a user.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn unlock<H: Host>(host: &mut H, context: &Context, index: &str) -> Result<Done, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if !session.is_known() {
        return Ok(Done::Absent);
    }
    let (app, backup) = (session.user_key(), session.backup_key());
    session.host.unlock_app(&app);
    session.host.unlock_backup(&backup);
    let pending = session.user.pending.as_ref();
    let phones = [
        (session.user.phone.clone(), login::PURPOSE),
        (pending.map(|pending| pending.phone.clone()), enrol::PURPOSE),
    ];
    for (phone, purpose) in phones {
        if let Some(phone) = phone {
            session.host.forgive(&About {
                phone: &phone,
                purpose,
                user: index,
            })?;
        }
    }
    session.user.misses.clear();
    session.user.noticed = None;
    session.user.sms_lock = None;
    session.store();
    session.record(Fact::new("user.unlocked"));
    Ok(Done::Done)
}

/// Removes every factor of a user, and tells their phone.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn reset<H: Host>(host: &mut H, context: &Context, index: &str) -> Result<Done, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if !session.is_known() {
        return Ok(Done::Absent);
    }
    let phone = session.user.phone.clone();
    session.remove(&[Factor::Sms, Factor::Totp]);
    session.store();
    session.record(Fact::new("user.reset"));
    if let Some(phone) = phone {
        notices::disabled(&mut session, phone);
    }
    Ok(Done::Done)
}

/// Removes all that is kept of a user here, and tells nobody.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn delete<H: Host>(host: &mut H, context: &Context, index: &str) -> Result<Done, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if !session.is_known() {
        return Ok(Done::Absent);
    }
    session.remove(&[Factor::Sms, Factor::Totp]);
    session.user = Default::default();
    session.store();
    session.record(Fact::new("user.deleted"));
    Ok(Done::Done)
}

/// Takes over a user of another system, with factors that need no verification.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn move_in<H: Host>(
    host: &mut H,
    context: &Context,
    index: &str,
    request: &MoveIn<'_>,
) -> Result<MovedIn, Undecided> {
    let mut session = Session::begin(host, context, index)?;
    if session.has_factor() {
        return Ok(MovedIn::Present);
    }
    if request.phone.is_none() && request.app.is_none() {
        let refusal = Refusal::new("A user needs a phone number or an authenticator app");
        return Ok(MovedIn::Refused(refusal));
    }
    if let Some(phone) = request.phone {
        match receiving(session.host.parse(phone)) {
            Ok(e164) => session.user.phone = Some(e164),
            Err(text) => return Ok(MovedIn::Refused(Refusal::new(text))),
        }
    }
    session.user.pending = None;
    session.end_proofs();
    let (app, backup) = (session.user_key(), session.backup_key());
    if let Some(secret) = request.app {
        session.host.adopt_app(&app, secret);
    }
    if let Some(secret) = request.backup_codes {
        session.host.adopt_backup(&backup, secret);
    }
    session.store();
    let mut fact = Fact::new("user.moved-in");
    for (name, there) in [
        ("phone", request.phone.is_some()),
        ("totp", request.app.is_some()),
        ("backup-codes", request.backup_codes.is_some()),
    ] {
        fact = fact.with(name, there.to_string());
    }
    session.record(fact);
    Ok(MovedIn::Done)
}

/// The number of somebody who moves in, or why no code could be sent to it, in the words that a send would
/// be refused with.
fn receiving(parsed: Result<Number, NoNumber>) -> Result<String, &'static str> {
    match parsed {
        Ok(number) if number.can_receive => Ok(number.e164),
        Ok(_) => Err("This kind of number cannot receive codes"),
        Err(NoNumber::NoCountry) => {
            Err("Invalid phone number: add the country code, for example +1")
        }
        Err(NoNumber::Extension) => Err("Invalid phone number: it has an extension"),
        Err(NoNumber::Invalid) => Err(NO_NUMBER),
    }
}

impl<H: Host> Session<'_, H> {
    /// Whether anything is kept of the user.
    fn is_known(&mut self) -> bool {
        let key = self.backup_key();
        let backup = self.host.backup_status(&key, &self.settings.backup_caps);
        self.before.is_some()
            || self.app.active
            || self.app.pending.is_some()
            || backup.left.is_some()
    }
}
