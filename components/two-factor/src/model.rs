//! Random enrolments, changes and logins of two users against a model that knows no rows, keys or
//! encodings: what each has, who may change it, and what becomes of a code.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::enrol::{Factor, INVALID, NO_APP, NO_PHONE, NOT_ENABLED, NOT_INITIATED, No, TOO_MANY};
use crate::host::{Duration, Instant};
use crate::login::Method;
use crate::rights::{Authority, Denial, Once, Proof};
use crate::settings::{DAY, HOUR, MINUTE};
use crate::simulation::{Caller, STEP, Simulation, WRONG, alice, bob, once};
use crate::support::{Done, State};

const PHONES: [&str; 3] = ["+12025550123", "+12025550124", "+12025550125"];
const CAPS: [(Duration, usize); 2] = [(15 * MINUTE, 5), (DAY, 30)];
const SENDS: [(Duration, usize); 3] = [(MINUTE, 3), (HOUR, 10), (DAY, 50)];

/// In whose right something is asked, and with which proof. Names of a few bits meet again and again.
#[derive(Clone, Debug)]
enum Right {
    Application,
    Proof(u8),
    EnrolmentToken(u8),
    EnrolmentTokenAndProof(u8),
    LoginToken(u8),
}

#[derive(Clone, Debug)]
enum What {
    /// The code that was sent last to the phone.
    Sent,
    App,
    Backup(usize),
    WrongDigits,
    WrongText,
}

#[derive(Clone, Debug)]
enum Step {
    Enable(usize, Right),
    /// The code that is right, or not.
    VerifyEnable(bool, Right),
    EnrollApp(Right),
    VerifyApp(bool, Right),
    Disable(Option<Factor>, Right),
    NewCodes(Right),
    Send(Right),
    LogIn(What, Right, Option<Method>),
    Unlock,
    Reset,
    Delete,
    Advance(Duration),
}

fn right() -> impl Strategy<Value = Right> {
    prop_oneof![
        6 => Just(Right::Application),
        4 => (0..40_u8).prop_map(Right::Proof),
        2 => (0..20_u8).prop_map(Right::EnrolmentToken),
        1 => (0..20_u8).prop_map(Right::EnrolmentTokenAndProof),
        1 => (0..20_u8).prop_map(Right::LoginToken),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let factor = prop_oneof![
        Just(None),
        Just(Some(Factor::Sms)),
        Just(Some(Factor::Totp))
    ];
    let what = prop_oneof![
        4 => Just(What::Sent),
        4 => Just(What::App),
        4 => (0..12_usize).prop_map(What::Backup),
        3 => Just(What::WrongDigits),
        3 => Just(What::WrongText),
    ];
    let method = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Method::Sms)),
        1 => Just(Some(Method::Totp)),
        1 => Just(Some(Method::Backup)),
    ];
    let log_in_right = prop_oneof![
        4 => Just(Right::Application),
        2 => (0..20_u8).prop_map(Right::LoginToken),
        1 => (0..20_u8).prop_map(Right::EnrolmentToken),
    ];
    prop_oneof![
        4 => (0..PHONES.len(), right()).prop_map(|(phone, right)| Step::Enable(phone, right)),
        5 => (prop::bool::weighted(0.8), right()).prop_map(|(ok, right)| Step::VerifyEnable(ok, right)),
        3 => right().prop_map(Step::EnrollApp),
        4 => (prop::bool::weighted(0.7), right()).prop_map(|(ok, right)| Step::VerifyApp(ok, right)),
        1 => (factor, right()).prop_map(|(factor, right)| Step::Disable(factor, right)),
        1 => right().prop_map(Step::NewCodes),
        4 => right().prop_map(Step::Send),
        16 => (what, log_in_right, method)
            .prop_map(|(what, right, method)| Step::LogIn(what, right, method)),
        1 => Just(Step::Unlock),
        1 => prop_oneof![Just(Step::Reset), Just(Step::Delete)],
        3 => (0..MINUTE).prop_map(Step::Advance),
        2 => prop_oneof![
            Just(STEP), Just(MINUTE), Just(5 * MINUTE), Just(10 * MINUTE), Just(15 * MINUTE),
            Just(30 * MINUTE), Just(HOUR), Just(DAY)
        ].prop_map(Step::Advance),
    ]
}

/// One user, as anybody would draw them.
#[derive(Clone, Default)]
struct User {
    phone: Option<&'static str>,
    /// Until when there is a code for a login.
    login_code: Option<Instant>,
    /// The number, whether it was asked for with a proof, and its end.
    pending: Option<(&'static str, bool, Instant)>,
    app: Option<u32>,
    pending_app: Option<(u32, bool, Instant)>,
    last_step: u64,
    set: Option<Vec<String>>,
    used: BTreeSet<String>,
    sends: Vec<Instant>,
    secrets: Vec<Instant>,
    /// When a factor or the set was removed or replaced last: what was proven before is void.
    changed: Option<Instant>,
    app_misses: Vec<Instant>,
    pending_app_misses: Vec<Instant>,
    backup_misses: Vec<Instant>,
    /// The end of a lock of messages' codes that was met.
    sms_lock: Option<Instant>,
}

impl User {
    fn has_factor(&self) -> bool {
        self.phone.is_some() || self.app.is_some()
    }

    fn state(&self, now: Instant) -> State {
        let sms = self.sms_lock.filter(|&until| until > now);
        let locks = [
            (Method::Sms, self.phone.is_some(), sms),
            (
                Method::Totp,
                self.app.is_some(),
                full(&self.app_misses, &CAPS, now),
            ),
            (
                Method::Backup,
                self.set.is_some(),
                full(&self.backup_misses, &CAPS, now),
            ),
        ];
        State {
            phone: self.phone.map(Into::into),
            pending_phone: self
                .pending
                .map(|(.., ends)| ends)
                .filter(|&ends| ends > now),
            app: self.app.is_some(),
            pending_app: self
                .pending_app
                .map(|(.., ends)| ends)
                .filter(|&ends| ends > now),
            backup_codes: self
                .set
                .as_ref()
                .map(|set| set.iter().filter(|code| !self.used.contains(*code)).count() as u32),
            locks: locks
                .into_iter()
                .filter(|(_, there, _)| *there)
                .filter_map(|(method, _, until)| Some((method, until?)))
                .collect(),
        }
    }

    /// Takes factors away, and the set with the last one.
    fn remove(&mut self, factor: Option<Factor>) {
        if factor != Some(Factor::Totp) {
            self.phone = None;
            self.login_code = None;
            self.sms_lock = None;
            self.pending = None;
        }
        if factor != Some(Factor::Sms) {
            self.app = None;
            self.pending_app = None;
            self.app_misses.clear();
            self.pending_app_misses.clear();
            self.last_step = 0;
        }
        if !self.has_factor() {
            self.set = None;
            self.backup_misses.clear();
        }
    }

    /// A factor or the set was removed or replaced.
    fn has_changed(&mut self, now: Instant) {
        self.changed = Some(now);
        let pending = self.pending.as_mut().map(|(_, proven, _)| proven);
        let pending_app = self.pending_app.as_mut().map(|(_, proven, _)| proven);
        for proven in [pending, pending_app].into_iter().flatten() {
            *proven = false;
        }
    }
}

/// Until when there are too many in some window, found by asking of each entry whether its leaving is
/// enough.
fn full(times: &[Instant], windows: &[(Duration, usize)], now: Instant) -> Option<Instant> {
    let inside =
        |span: Duration, at: Instant| times.iter().filter(|&&time| time + span > at).count();
    windows
        .iter()
        .filter(|&&(span, max)| inside(span, now) >= max)
        .filter_map(|&(span, max)| {
            let leaving = times.iter().map(|time| time + span);
            leaving.filter(|&at| inside(span, at) < max).min()
        })
        .max()
}

struct Model {
    host: Simulation,
    users: [User; 2],
    tokens_used: BTreeSet<String>,
    proofs_used: BTreeSet<String>,
    /// Every code that was accepted, with whose it was.
    accepted: BTreeSet<(usize, String)>,
}

/// What a change rests on.
struct Permitted {
    proven: bool,
    proof: Option<Once>,
}

impl Model {
    fn caller(&self, who: usize, right: &Right) -> Caller {
        let base = if who == 0 { alice() } else { bob() };
        // A name goes with one beginning and one end, and after it another name. Those with an odd number
        // begin more often.
        let name = |kind: &str, id: &u8| {
            let length = if id.is_multiple_of(2) {
                5 * MINUTE
            } else {
                5_000
            };
            let period = self.host.now / length;
            once(&format!("{kind}-{who}-{id}-{period}"), period * length)
        };
        match right {
            Right::Application => base,
            Right::Proof(id) => base.with_proof(&name("proof", id)),
            Right::EnrolmentToken(id) => base.by(Authority::EnrolmentToken(name("token", id))),
            Right::EnrolmentTokenAndProof(id) => base
                .by(Authority::EnrolmentToken(name("token", id)))
                .with_proof(&name("proof", id)),
            Right::LoginToken(id) => base.by(Authority::LoginToken(name("token", id))),
        }
    }

    fn change(&self, who: usize, caller: &Caller, proven: bool) -> Result<Permitted, Denial> {
        let by_token = match &caller.authority {
            Authority::LoginToken(_) => return Err(Denial::NotPermitted),
            Authority::EnrolmentToken(token) if self.tokens_used.contains(&token.id) => {
                return Err(Denial::TokenUsed);
            }
            Authority::EnrolmentToken(_) => true,
            Authority::Application => false,
        };
        if !self.users[who].has_factor() {
            return Ok(Permitted {
                proven: false,
                proof: None,
            });
        }
        let changed = self.users[who].changed.unwrap_or(0) / 1_000;
        let fresh = caller.proof.clone();
        let fresh = fresh.filter(|proof| {
            proof.made / 1_000 >= changed && !self.proofs_used.contains(&proof.once.id)
        });
        match (fresh, by_token) {
            (None, false) if proven => Ok(Permitted {
                proven: true,
                proof: None,
            }),
            (None, _) => Err(Denial::ProofRequired),
            (Some(_), true) => Err(Denial::NotPermitted),
            (proof, false) => Ok(Permitted {
                proven: true,
                proof: proof.map(|Proof { once, .. }| once),
            }),
        }
    }

    fn spend(&mut self, permitted: &Permitted) {
        if let Some(proof) = &permitted.proof {
            self.proofs_used.insert(proof.id.clone());
        }
    }

    fn spend_token(&mut self, caller: &Caller) {
        if let Authority::EnrolmentToken(token) | Authority::LoginToken(token) = &caller.authority {
            self.tokens_used.insert(token.id.clone());
        }
    }

    fn step(&mut self, who: usize, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Advance(by) => self.host.now += by,
            Step::Enable(phone, right) => self.enable(who, PHONES[*phone], right)?,
            Step::VerifyEnable(ok, right) => self.verify_enable(who, *ok, right)?,
            Step::EnrollApp(right) => self.enroll_app(who, right)?,
            Step::VerifyApp(ok, right) => self.verify_app(who, *ok, right)?,
            Step::Disable(factor, right) => self.disable(who, *factor, right)?,
            Step::NewCodes(right) => self.new_codes(who, right)?,
            Step::Send(right) => self.send(who, right)?,
            Step::LogIn(what, right, method) => self.log_in(who, what, right, *method)?,
            Step::Unlock | Step::Reset | Step::Delete => self.support(who, step)?,
        }
        for who in 0..2 {
            let caller = self.caller(who, &Right::Application);
            let (state, now) = (caller.state(&mut self.host), self.host.now);
            prop_assert_eq!(state, self.users[who].state(now));
        }
        Ok(())
    }

    fn enable(
        &mut self,
        who: usize,
        phone: &'static str,
        right: &Right,
    ) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let now = self.host.now;
        let permitted = self.change(who, &caller, false);
        let would_send = self.host.would_send(caller.user, phone, "enrolment");
        let answer = caller.enable(&mut self.host, phone);
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(denial) => {
                prop_assert_eq!(answer, Err(No::Denied(denial)));
                return Ok(());
            }
        };
        let user = &mut self.users[who];
        if full(&user.sends, &SENDS, now).is_some() || !would_send {
            prop_assert!(matches!(&answer, Err(No::Refused(refusal))
                if refusal.text.starts_with(TOO_MANY) && refusal.retry_at.is_some()));
            return Ok(());
        }
        prop_assert!(answer.is_ok(), "{:?}", answer);
        user.sends.push(now);
        user.pending = Some((phone, permitted.proven, now + 30 * MINUTE));
        self.spend(&permitted);
        Ok(())
    }

    /// As [`change`](Self::change), of what is pending (and whether it was asked for with a proof). Where
    /// nothing is, the application is told so, with a proof or without one.
    fn verification(
        &self,
        who: usize,
        caller: &Caller,
        pending: Option<bool>,
    ) -> Result<Permitted, Denial> {
        let permitted = self.change(who, caller, pending.unwrap_or(false));
        match permitted {
            Err(Denial::ProofRequired)
                if pending.is_none() && caller.authority == Authority::Application =>
            {
                Ok(Permitted {
                    proven: false,
                    proof: None,
                })
            }
            permitted => permitted,
        }
    }

    fn verify_enable(&mut self, who: usize, ok: bool, right: &Right) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let now = self.host.now;
        let pending = self.users[who].pending.filter(|&(.., ends)| ends > now);
        let proven = pending.map(|(_, proven, _)| proven);
        let permitted = self.verification(who, &caller, proven);
        let code = match pending {
            Some((phone, ..)) if ok => self.host.code(caller.user, phone, "enrolment"),
            _ => WRONG.into(),
        };
        let would =
            pending.map(|(phone, ..)| self.host.would(caller.user, phone, "enrolment", &code));
        let answer = caller.verify_enable(&mut self.host, &code);
        match (permitted, pending, would) {
            (Err(denial), ..) => prop_assert_eq!(answer, Err(No::Denied(denial))),
            (Ok(permitted), Some((phone, ..)), Some(Ok(()))) => {
                let enabled = answer.expect("the code is right");
                let codes = self.host.codes(enabled.backup_codes.expect("always a set"));
                prop_assert!(self.accepted.insert((who, code)));
                let user = &mut self.users[who];
                if user.phone.replace(phone) != Some(phone) {
                    user.sms_lock = None;
                }
                user.login_code = None;
                user.pending = None;
                user.set = Some(codes);
                user.used.clear();
                user.has_changed(now);
                self.spend(&permitted);
                self.spend_token(&caller);
            }
            (Ok(_), Some(_), _) => prop_assert!(matches!(answer, Err(No::Rejected(_)))),
            (Ok(_), None, _) => prop_assert!(
                matches!(&answer, Err(No::Refused(refusal)) if refusal.text == NOT_INITIATED)
            ),
        }
        Ok(())
    }

    fn enroll_app(&mut self, who: usize, right: &Right) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let now = self.host.now;
        let permitted = self.change(who, &caller, false);
        let answer = caller.enroll_app(&mut self.host);
        match permitted {
            Err(denial) => prop_assert_eq!(answer, Err(No::Denied(denial))),
            Ok(_) if let Some(until) = full(&self.users[who].secrets, &SENDS, now) => {
                prop_assert!(matches!(&answer, Err(No::Refused(refusal))
                    if refusal.text.starts_with(TOO_MANY) && refusal.retry_at == Some(until)));
            }
            Ok(permitted) => {
                let secret = answer.expect("nothing else forbids it");
                let ends = now + 30 * MINUTE;
                self.users[who].secrets.push(now);
                self.users[who].pending_app = Some((secret, permitted.proven, ends));
                self.spend(&permitted);
            }
        }
        Ok(())
    }

    fn verify_app(&mut self, who: usize, ok: bool, right: &Right) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let now = self.host.now;
        // What the pending one was asked for with counts as long as it is pending.
        let pending = self.users[who].pending_app.filter(|&(.., ends)| ends > now);
        let proven = pending.map(|(_, proven, _)| proven);
        let permitted = self.verification(who, &caller, proven);
        let code = match pending {
            Some((secret, ..)) if ok => self.host.app_code(secret),
            _ => WRONG.into(),
        };
        let answer = caller.verify_app(&mut self.host, &code);
        let permitted = match permitted {
            Ok(permitted) => permitted,
            Err(denial) => {
                prop_assert_eq!(answer, Err(No::Denied(denial)));
                return Ok(());
            }
        };
        let user = &mut self.users[who];
        let Some((secret, ..)) = pending else {
            prop_assert!(
                matches!(&answer, Err(No::Refused(refusal)) if refusal.text == NOT_INITIATED)
            );
            return Ok(());
        };
        if let Some(until) = full(&user.pending_app_misses, &CAPS, now) {
            prop_assert!(
                matches!(&answer, Err(No::Rejected(refusal)) if refusal.retry_at == Some(until))
            );
            return Ok(());
        }
        if !ok {
            user.pending_app_misses.push(now);
            prop_assert!(matches!(&answer, Err(No::Rejected(refusal)) if refusal.text == INVALID));
            return Ok(());
        }
        let enabled = answer.expect("the code is right");
        prop_assert_eq!(enabled.backup_codes.is_some(), user.set.is_none());
        let replaced = user.app.is_some() || enabled.backup_codes.is_some();
        if let Some(handle) = enabled.backup_codes {
            user.set = Some(self.host.codes(handle));
            user.used.clear();
        }
        user.app = Some(secret);
        user.pending_app = None;
        if replaced {
            user.has_changed(now);
        }
        user.last_step = now / STEP;
        user.app_misses.clear();
        user.pending_app_misses.clear();
        self.spend(&permitted);
        self.spend_token(&caller);
        Ok(())
    }

    fn disable(
        &mut self,
        who: usize,
        factor: Option<Factor>,
        right: &Right,
    ) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let permitted = self.change(who, &caller, false);
        let answer = caller.disable(&mut self.host, factor);
        let now = self.host.now;
        let user = &self.users[who];
        let any = match factor {
            None => user.has_factor(),
            Some(Factor::Sms) => user.phone.is_some(),
            Some(Factor::Totp) => user.app.is_some(),
        };
        match permitted {
            Err(denial) => prop_assert_eq!(answer, Err(No::Denied(denial))),
            Ok(permitted) if any => {
                prop_assert_eq!(answer, Ok(()));
                // Of all only those that are there are removed, with what is pending of their kind.
                let user = &mut self.users[who];
                let (had_phone, had_app) = (user.phone.is_some(), user.app.is_some());
                match factor {
                    None if had_phone && had_app => user.remove(None),
                    None if had_phone => user.remove(Some(Factor::Sms)),
                    None => user.remove(Some(Factor::Totp)),
                    some => user.remove(some),
                }
                if user.has_factor() {
                    user.has_changed(now);
                }
                self.spend(&permitted);
            }
            Ok(_) => {
                let want = match factor {
                    Some(Factor::Sms) if self.users[who].has_factor() => NO_PHONE,
                    Some(Factor::Totp) if self.users[who].has_factor() => NO_APP,
                    _ => NOT_ENABLED,
                };
                prop_assert!(matches!(&answer, Err(No::Refused(refusal)) if refusal.text == want));
            }
        }
        Ok(())
    }

    fn new_codes(&mut self, who: usize, right: &Right) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let permitted = self.change(who, &caller, false);
        let answer = caller.new_codes(&mut self.host);
        match permitted {
            Err(denial) => prop_assert_eq!(answer, Err(No::Denied(denial))),
            Ok(permitted) if self.users[who].has_factor() => {
                let now = self.host.now;
                let user = &mut self.users[who];
                user.set = Some(answer.expect("nothing else forbids it"));
                user.used.clear();
                user.has_changed(now);
                self.spend(&permitted);
            }
            Ok(_) => prop_assert!(
                matches!(&answer, Err(No::Refused(refusal)) if refusal.text == NOT_ENABLED)
            ),
        }
        Ok(())
    }

    fn login_denied(&self, caller: &Caller) -> Option<Denial> {
        match &caller.authority {
            Authority::Application => None,
            Authority::EnrolmentToken(_) => Some(Denial::NotPermitted),
            Authority::LoginToken(token) => self
                .tokens_used
                .contains(&token.id)
                .then_some(Denial::TokenUsed),
        }
    }

    fn send(&mut self, who: usize, right: &Right) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let user = self.users[who].clone();
        let would = user
            .phone
            .map(|phone| self.host.would_send(caller.user, phone, "login"));
        let answer = caller.send(&mut self.host);
        let text = match (&answer, self.login_denied(&caller)) {
            (answer, Some(denial)) => {
                prop_assert_eq!(answer, &Err(No::Denied(denial)));
                return Ok(());
            }
            (Ok(sent), None) => {
                self.users[who].login_code = Some(sent.expires);
                self.users[who].sms_lock = None;
                "sent"
            }
            (Err(No::Refused(refusal)), None) => refusal.text.as_str(),
            (other, None) => panic!("{other:?}"),
        };
        let want = match would {
            Some(true) => "sent",
            Some(false) => "Too many attempts. Please wait 1 minute.",
            None if user.has_factor() => NO_PHONE,
            None => NOT_ENABLED,
        };
        prop_assert_eq!(text, want);
        Ok(())
    }

    fn log_in(
        &mut self,
        who: usize,
        what: &What,
        right: &Right,
        method: Option<Method>,
    ) -> Result<(), TestCaseError> {
        let caller = self.caller(who, right);
        let now = self.host.now;
        let user = self.users[who].clone();
        let sent = |phone| self.host.code(caller.user, phone, "login");
        let has_challenge = |phone: &&str| {
            let told = self.host.would(caller.user, phone, "login", "");
            let sends = !self.host.would_send(caller.user, phone, "login");
            told != Err(None) || sends
        };
        let code = match what {
            What::Sent => user.phone.filter(has_challenge).map(sent),
            What::App => user.app.map(|secret| self.host.app_code(secret)),
            What::Backup(at) => user.set.as_ref().and_then(|set| set.get(*at).cloned()),
            What::WrongDigits => None,
            What::WrongText => Some("no backup code".into()),
        };
        let code = code.unwrap_or_else(|| WRONG.into());
        let kinds = match method {
            Some(method) => vec![method],
            None if code.len() == 6 => vec![Method::Sms, Method::Totp],
            None => vec![Method::Backup],
        };
        let sms = user.phone.map_or(Err(None), |phone| {
            self.host.would(caller.user, phone, "login", &code)
        });
        let answer = caller.log_in_by(&mut self.host, &code, method);
        if let Some(denial) = self.login_denied(&caller) {
            prop_assert_eq!(answer, Err(No::Denied(denial)));
            return Ok(());
        }
        if !user.has_factor() {
            prop_assert!(
                matches!(&answer, Err(No::Refused(refusal)) if refusal.text == NOT_ENABLED)
            );
            return Ok(());
        }
        let mut ends = Vec::new();
        for kind in kinds {
            let user = &mut self.users[who];
            let outcome = match kind {
                Method::Sms => sms,
                Method::Totp => {
                    let step = now / STEP;
                    let right = user
                        .app
                        .is_some_and(|secret| self.host.app_code(secret) == code);
                    match full(&user.app_misses, &CAPS, now) {
                        Some(until) => Err(Some(until)),
                        None if right && step > user.last_step => {
                            user.last_step = step;
                            user.app_misses.clear();
                            Ok(())
                        }
                        None => {
                            user.app_misses.push(now);
                            Err(None)
                        }
                    }
                }
                Method::Backup => {
                    let there = user.set.as_ref().is_some_and(|set| set.contains(&code));
                    match full(&user.backup_misses, &CAPS, now) {
                        Some(until) => Err(Some(until)),
                        None if there && user.used.insert(code.clone()) => {
                            user.backup_misses.clear();
                            Ok(())
                        }
                        None => {
                            user.backup_misses.push(now);
                            Err(None)
                        }
                    }
                }
            };
            match outcome {
                Ok(()) => {
                    let accepted = answer.expect("the code is right");
                    prop_assert_eq!(accepted.method, kind);
                    let left = self.users[who].state(now).backup_codes;
                    let told = (kind == Method::Backup).then_some(left).flatten();
                    prop_assert_eq!(accepted.backup_codes_left, told);
                    // An app shows the same digits again, some day; it is the step that is used up.
                    let once = match kind {
                        Method::Totp => format!("{:?} at {}", self.users[who].app, now / STEP),
                        _ => code.clone(),
                    };
                    prop_assert!(self.accepted.insert((who, once)), "{} twice", code);
                    if kind == Method::Sms {
                        self.users[who].login_code = None;
                        self.users[who].sms_lock = None;
                    }
                    self.spend_token(&caller);
                    return Ok(());
                }
                Err(until) => ends.push((kind, until)),
            }
        }
        let Err(No::Rejected(refusal)) = answer else {
            panic!("{answer:?}");
        };
        if let Some((_, Some(until))) = ends.iter().find(|(kind, _)| *kind == Method::Sms) {
            self.users[who].sms_lock = Some(*until);
        }
        // One that is not locked was wrong, where there was anything to compare with or nothing is locked.
        let user = &self.users[who];
        let is_live = |kind: &Method| match kind {
            Method::Sms => user.login_code.is_some_and(|ends| ends > now),
            Method::Totp => user.app.is_some(),
            Method::Backup => true,
        };
        let locked = ends.iter().any(|(_, until)| until.is_some());
        let wrong = |(kind, until): &(Method, Option<Instant>)| {
            until.is_none() && (!locked || is_live(kind))
        };
        let open = ends.iter().any(wrong);
        prop_assert_eq!(refusal.text, if open { INVALID } else { TOO_MANY });
        let until = ends.iter().filter_map(|(_, until)| *until).min();
        let until = until.filter(|_| !open);
        prop_assert_eq!(refusal.retry_at, until);
        Ok(())
    }

    fn support(&mut self, who: usize, step: &Step) -> Result<(), TestCaseError> {
        let caller = self.caller(who, &Right::Application);
        let done = match step {
            Step::Unlock => caller.unlock(&mut self.host),
            Step::Reset => caller.reset(&mut self.host),
            _ => caller.delete(&mut self.host),
        };
        if done == Done::Absent {
            let state = self.users[who].state(self.host.now);
            prop_assert_eq!(state, State::default(), "there was something to do");
            return Ok(());
        }
        let user = &mut self.users[who];
        match step {
            Step::Unlock => {
                user.sms_lock = None;
                user.app_misses.clear();
                user.pending_app_misses.clear();
                user.backup_misses.clear();
            }
            Step::Reset => user.remove(None),
            _ => *user = User::default(),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_enrolments_and_logins_is_answered_as_the_model_says(
        steps in proptest::collection::vec((0..2_usize, step()), 1..150)
    ) {
        let mut model = Model {
            host: Simulation::new(&[("enrolments-per-number-per-day", "1000")]),
            users: Default::default(),
            tokens_used: BTreeSet::new(),
            proofs_used: BTreeSet::new(),
            accepted: BTreeSet::new(),
        };
        for (who, step) in &steps {
            model.step(*who, step)?;
        }
    }
}
