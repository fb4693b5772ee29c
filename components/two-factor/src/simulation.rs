//! The host as the WIT describes it, in memory: what the rules are tested against.
//!
//! What would end a call of the real host (a value out of its bounds) panics here. Of otp it has what the
//! rules can see: codes that end and are used once, five tries, three sends a minute.

use std::collections::{BTreeMap, BTreeSet};

use crate::Undecided;
use crate::enrol::{self, EnableRequest, Enabled, Factor, No, VerifyRequest};
use crate::host::{
    About, AppStatus, BackupChecked, BackupStatus, Checked, Duration, Fact, HashCost, Host,
    Instant, MissLimit, NoNumber, Notice, Number, Refusal, Secret, Sent,
};
use crate::login::{self, Accepted, Method};
use crate::rights::{Authority, Once, Proof};
use crate::settings::MINUTE;
use crate::support::{self, Done, MoveIn, MovedIn, State};
use crate::user::Context;

/// A day in 2026, so that no arithmetic on instants is near zero.
pub(crate) const START: Instant = 1_780_000_000_000;
pub(crate) const STEP: Duration = 30_000;
/// Never made by the simulation within a test.
pub(crate) const WRONG: &str = "000000";

/// One user's index.
pub(crate) const ALICE: &str = "a11ce000000000000000000000000000";
/// Another's.
pub(crate) const BOB: &str = "b0b00000000000000000000000000000";

#[derive(Clone, Debug, Default)]
struct Challenge {
    code: String,
    expires: Instant,
    tried: u8,
    used: bool,
    sends: Vec<Instant>,
}

#[derive(Clone, Debug, Default)]
struct App {
    active: Option<u32>,
    pending: Option<(u32, Instant)>,
    last_step: u64,
    misses: Vec<Instant>,
    pending_misses: Vec<Instant>,
}

#[derive(Clone, Debug, Default)]
struct Backup {
    set: Option<Vec<(String, bool)>>,
    misses: Vec<Instant>,
}

/// What a handle stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    /// The secret of an app, by its number.
    App(u32),
    /// Codes as they are shown.
    Codes(Vec<String>),
}

pub(crate) struct Simulation {
    pub(crate) now: Instant,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) rows: BTreeMap<String, (Vec<u8>, Option<Instant>)>,
    challenges: BTreeMap<String, Challenge>,
    apps: BTreeMap<String, App>,
    backups: BTreeMap<String, Backup>,
    taken: BTreeMap<String, Vec<Instant>>,
    pub(crate) made: Vec<Made>,
    pub(crate) notices: Vec<Notice>,
    /// The trail, with whose it is.
    pub(crate) trail: Vec<(String, Fact)>,
    pub(crate) events: Vec<Fact>,
    /// What was asked of the host that takes time, in order.
    pub(crate) work: Vec<&'static str>,
    /// How many codes and secrets were made.
    drawn: u32,
}

impl Simulation {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        Self {
            now: START,
            settings: settings
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            rows: BTreeMap::new(),
            challenges: BTreeMap::new(),
            apps: BTreeMap::new(),
            backups: BTreeMap::new(),
            taken: BTreeMap::new(),
            made: Vec::new(),
            notices: Vec::new(),
            trail: Vec::new(),
            events: Vec::new(),
            work: Vec::new(),
            drawn: 0,
        }
    }

    /// A code of 6 digits that was never there before, and is not [`WRONG`].
    fn draw(&mut self) -> String {
        self.drawn += 1;
        digits(u64::from(self.drawn))
    }

    /// The code that was sent last for a purpose.
    pub(crate) fn code(&self, user: &str, phone: &str, purpose: &str) -> String {
        self.challenges[&format!("{user}/{phone}/{purpose}")]
            .code
            .clone()
    }

    /// What otp would say to a code: `Ok` where it is right, else until when it is locked, if it is.
    pub(crate) fn would(
        &self,
        user: &str,
        phone: &str,
        purpose: &str,
        code: &str,
    ) -> Result<(), Option<Instant>> {
        let challenge = self.challenges.get(&format!("{user}/{phone}/{purpose}"));
        let live = challenge.filter(|one| !one.used && one.expires > self.now);
        match live.ok_or(None)? {
            challenge if challenge.tried >= 5 => Err(Some(challenge.expires)),
            challenge if challenge.code == code => Ok(()),
            _ => Err(None),
        }
    }

    /// Whether otp would send a code.
    pub(crate) fn would_send(&self, user: &str, phone: &str, purpose: &str) -> bool {
        let challenge = self.challenges.get(&format!("{user}/{phone}/{purpose}"));
        let sends = challenge
            .map(|one| one.sends.as_slice())
            .unwrap_or_default();
        sends.iter().filter(|&&at| at + MINUTE > self.now).count() < 3
    }

    /// What an app shows now, by its secret.
    pub(crate) fn app_code(&self, secret: u32) -> String {
        app_code(secret, self.now / STEP)
    }

    /// The secret that a handle stands for.
    pub(crate) fn app(&self, handle: Secret) -> u32 {
        match self.made[handle as usize - 1] {
            Made::App(secret) => secret,
            Made::Codes(_) => panic!("codes"),
        }
    }

    /// The codes that a handle stands for.
    pub(crate) fn codes(&self, handle: Secret) -> Vec<String> {
        match &self.made[handle as usize - 1] {
            Made::Codes(codes) => codes.clone(),
            Made::App(_) => panic!("an app"),
        }
    }

    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.trail.iter().map(|(_, fact)| fact.kind).collect()
    }

    fn add(&mut self, made: Made) -> Secret {
        self.made.push(made);
        self.made.len() as Secret
    }
}

fn digits(n: u64) -> String {
    // A bijection of 6 digits for n below a million, and 0 for 0 only.
    format!("{:06}", n * 387_420_489 % 1_000_000)
}

/// Another for each secret and step.
pub(crate) fn app_code(secret: u32, step: u64) -> String {
    digits(500_000 + u64::from(secret) * 1_000 + step % 1_000)
}

fn locked(misses: &[Instant], caps: &[MissLimit], now: Instant) -> Option<Instant> {
    assert!((1..=4).contains(&caps.len()));
    let full = caps.iter().filter_map(|cap| {
        let inside: Vec<_> = misses
            .iter()
            .filter(|&&miss| miss + cap.window > now)
            .collect();
        let too_many = inside.len().checked_sub(cap.misses as usize)?;
        Some(inside[too_many] + cap.window)
    });
    full.max()
}

fn left(misses: &[Instant], caps: &[MissLimit], now: Instant) -> u32 {
    let left = caps.iter().map(|cap| {
        let inside = misses.iter().filter(|&&miss| miss + cap.window > now);
        cap.misses - inside.count() as u32
    });
    left.min().expect("a cap")
}

fn check_key(key: &str) {
    assert!((1..=256).contains(&key.len()), "key of {} bytes", key.len());
}

impl Host for Simulation {
    fn now(&self) -> Instant {
        self.now
    }

    fn settings(&self) -> Vec<(String, String)> {
        self.settings.clone()
    }

    /// Numbers that begin with +1800 are toll-free.
    fn parse(&mut self, text: &str) -> Result<Number, NoNumber> {
        let digits = text.strip_prefix('+').ok_or(NoNumber::NoCountry)?;
        if digits.contains('x') {
            return Err(NoNumber::Extension);
        }
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NoNumber::Invalid);
        }
        Ok(Number {
            e164: text.into(),
            index: format!("{digits:0>32}"),
            can_receive: !digits.starts_with("1800"),
        })
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        check_key(key);
        let (value, expires) = self.rows.get(key)?;
        expires
            .is_none_or(|expires| self.now < expires)
            .then(|| value.clone())
    }

    fn put(&mut self, key: &str, value: &[u8], expires: Option<Instant>) {
        check_key(key);
        self.rows.insert(key.into(), (value.into(), expires));
    }

    fn delete(&mut self, key: &str) {
        check_key(key);
        self.rows.remove(key);
    }

    fn take(&mut self, key: &str, max: u64, window: Duration) -> Result<(), Instant> {
        check_key(key);
        let now = self.now;
        let taken = self.taken.entry(key.into()).or_default();
        taken.retain(|at| at + window > now);
        if taken.len() as u64 >= max {
            return Err(taken[0] + window);
        }
        taken.push(now);
        Ok(())
    }

    fn send_code(
        &mut self,
        about: &About<'_>,
        _: Option<&str>,
    ) -> Result<Result<Sent, Refusal>, Undecided> {
        let code = self.draw();
        let now = self.now;
        let key = format!("{}/{}/{}", about.user, about.phone, about.purpose);
        let challenge = self.challenges.entry(key).or_default();
        challenge.sends.retain(|at| at + MINUTE > now);
        if challenge.sends.len() >= 3 {
            return Ok(Err(Refusal {
                text: "Too many attempts. Please wait 1 minute.".into(),
                retry_at: Some(challenge.sends[0] + MINUTE),
            }));
        }
        challenge.sends.push(now);
        let live = challenge.expires > now && challenge.tried < 5 && !challenge.used;
        if !live {
            *challenge = Challenge {
                code,
                expires: now + 10 * MINUTE,
                sends: challenge.sends.clone(),
                ..Challenge::default()
            };
        }
        let expires = challenge.expires;
        Ok(Ok(Sent {
            message: format!("{:032x}", self.drawn),
            expires,
        }))
    }

    fn verify_code(
        &mut self,
        about: &About<'_>,
        code: &str,
    ) -> Result<Result<(), Refusal>, Undecided> {
        self.work.push("sms");
        let now = self.now;
        let key = format!("{}/{}/{}", about.user, about.phone, about.purpose);
        let wrong = Refusal::new("Invalid or expired code");
        let Some(challenge) = self.challenges.get_mut(&key) else {
            return Ok(Err(wrong));
        };
        if challenge.used || challenge.expires <= now {
            return Ok(Err(wrong));
        }
        if challenge.tried >= 5 {
            return Ok(Err(Refusal {
                text: "Too many attempts".into(),
                retry_at: Some(challenge.expires),
            }));
        }
        challenge.tried += 1;
        challenge.used = challenge.code == code;
        Ok(if challenge.used { Ok(()) } else { Err(wrong) })
    }

    fn forgive(&mut self, about: &About<'_>) -> Result<(), Undecided> {
        let key = format!("{}/{}/{}", about.user, about.phone, about.purpose);
        if let Some(challenge) = self.challenges.get_mut(&key) {
            challenge.expires = 0;
        }
        Ok(())
    }

    fn app_status(&mut self, key: &str, caps: &[MissLimit]) -> AppStatus {
        check_key(key);
        let app = self.apps.get(key).cloned().unwrap_or_default();
        AppStatus {
            active: app.active.is_some(),
            pending: app
                .pending
                .map(|(_, ends)| ends)
                .filter(|&ends| ends > self.now),
            locked: locked(&app.misses, caps, self.now),
        }
    }

    fn enroll_app(&mut self, key: &str, valid: Duration) -> Secret {
        assert!((1_000..=3_600_000).contains(&valid));
        self.drawn += 1;
        let (secret, ends) = (self.drawn, self.now + valid);
        self.apps.entry(key.into()).or_default().pending = Some((secret, ends));
        self.add(Made::App(secret))
    }

    fn confirm_app(&mut self, key: &str, code: &str, caps: &[MissLimit]) -> Checked {
        let now = self.now;
        let app = self.apps.entry(key.into()).or_default();
        if let Some(until) = locked(&app.pending_misses, caps, now) {
            return Checked::Locked(until);
        }
        let pending = app.pending.filter(|&(_, ends)| ends > now);
        if let Some((secret, _)) =
            pending.filter(|&(secret, _)| app_code(secret, now / STEP) == code)
        {
            *app = App {
                active: Some(secret),
                last_step: now / STEP,
                ..App::default()
            };
            return Checked::Accepted;
        }
        app.pending_misses.push(now);
        Checked::Wrong(left(&app.pending_misses, caps, now))
    }

    fn check_app(&mut self, key: &str, code: &str, caps: &[MissLimit]) -> Checked {
        self.work.push("totp");
        assert!(code.len() <= 64);
        let now = self.now;
        let app = self.apps.entry(key.into()).or_default();
        if let Some(until) = locked(&app.misses, caps, now) {
            return Checked::Locked(until);
        }
        let step = now / STEP;
        let right = app
            .active
            .is_some_and(|secret| app_code(secret, step) == code);
        if right && step > app.last_step {
            app.last_step = step;
            app.misses.clear();
            return Checked::Accepted;
        }
        app.misses.push(now);
        Checked::Wrong(left(&app.misses, caps, now))
    }

    fn adopt_app(&mut self, key: &str, secret: Secret) {
        let secret = self.app(secret);
        self.apps.entry(key.into()).or_default().active = Some(secret);
    }

    fn unlock_app(&mut self, key: &str) {
        let app = self.apps.entry(key.into()).or_default();
        app.misses.clear();
        app.pending_misses.clear();
    }

    fn remove_app(&mut self, key: &str) {
        self.apps.remove(key);
    }

    fn backup_status(&mut self, key: &str, caps: &[MissLimit]) -> BackupStatus {
        check_key(key);
        let backup = self.backups.get(key).cloned().unwrap_or_default();
        let unused = |set: &Vec<(String, bool)>| set.iter().filter(|(_, used)| !used).count();
        BackupStatus {
            left: backup.set.as_ref().map(|set| unused(set) as u32),
            locked: locked(&backup.misses, caps, self.now),
        }
    }

    fn issue_backup(&mut self, key: &str, codes: u8, cost: HashCost) -> Secret {
        assert!((1..=20).contains(&codes) && cost.memory >= 1_024 && cost.passes >= 1);
        let set = self.made.len();
        let codes: Vec<String> = (0..codes).map(|at| format!("CODE-{set}-{at}")).collect();
        let set = codes.iter().map(|code| (code.clone(), false)).collect();
        self.backups.entry(key.into()).or_default().set = Some(set);
        self.add(Made::Codes(codes))
    }

    fn check_backup(
        &mut self,
        key: &str,
        code: &str,
        _: HashCost,
        caps: &[MissLimit],
    ) -> BackupChecked {
        self.work.push("backup");
        assert!(code.len() <= 64);
        let now = self.now;
        let backup = self.backups.entry(key.into()).or_default();
        if let Some(until) = locked(&backup.misses, caps, now) {
            return BackupChecked::Locked(until);
        }
        let set = backup.set.as_deref_mut().unwrap_or_default();
        let found = set.iter_mut().find(|(known, _)| known == code);
        match found {
            Some((_, used)) if !*used => {
                *used = true;
                let left = set.iter().filter(|(_, used)| !used).count();
                backup.misses.clear();
                BackupChecked::Accepted(left as u32)
            }
            found => {
                let used = found.is_some();
                backup.misses.push(now);
                let left = left(&backup.misses, caps, now);
                match used {
                    true => BackupChecked::Used(left),
                    false => BackupChecked::Wrong(left),
                }
            }
        }
    }

    fn adopt_backup(&mut self, key: &str, secret: Secret) {
        let set = self.codes(secret).into_iter().map(|code| (code, false));
        self.backups.entry(key.into()).or_default().set = Some(set.collect());
    }

    fn unlock_backup(&mut self, key: &str) {
        self.backups.entry(key.into()).or_default().misses.clear();
    }

    fn remove_backup(&mut self, key: &str) {
        self.backups.remove(key);
    }

    fn enqueue(&mut self, notice: Notice) {
        assert!(notice.deadline > self.now);
        let names: BTreeSet<_> = notice.variables.iter().map(|(name, _)| *name).collect();
        let filled = names.iter().fold(notice.text.clone(), |text, name| {
            text.replace(&format!("{{{name}}}"), "")
        });
        assert!(!filled.contains(['{', '}']), "{}", notice.text);
        self.notices.push(notice);
    }

    fn record(&mut self, user: &str, fact: Fact) {
        assert_eq!(user.len(), 32);
        self.emit(fact.clone());
        self.trail.push((user.into(), fact));
    }

    fn emit(&mut self, fact: Fact) {
        assert!((1..=64).contains(&fact.kind.len()) && fact.attributes.len() <= 16);
        for (name, value) in &fact.attributes {
            assert!((1..=32).contains(&name.len()) && value.len() <= 128);
        }
        self.events.push(fact);
    }
}

/// A token or a proof with this name, good for five minutes.
pub(crate) fn once(id: &str, now: Instant) -> Once {
    Once {
        id: id.into(),
        ends: now + 5 * MINUTE,
    }
}

/// Who calls, about which user.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) user: &'static str,
    pub(crate) authority: Authority,
    pub(crate) proof: Option<Proof>,
}

/// The application, for Alice, without a proof.
pub(crate) fn alice() -> Caller {
    Caller {
        user: ALICE,
        authority: Authority::Application,
        proof: None,
    }
}

/// The same for Bob.
pub(crate) fn bob() -> Caller {
    Caller {
        user: BOB,
        ..alice()
    }
}

fn context() -> Context {
    Context {
        service: "default".into(),
    }
}

impl Caller {
    /// With a proof that was made when it began to be good.
    pub(crate) fn with_proof(&self, proof: &Once) -> Self {
        let proof = Proof {
            once: proof.clone(),
            made: proof.ends - 5 * MINUTE,
        };
        Self {
            proof: Some(proof),
            ..self.clone()
        }
    }

    pub(crate) fn by(&self, authority: Authority) -> Self {
        Self {
            authority,
            ..self.clone()
        }
    }

    pub(crate) fn enable(&self, host: &mut Simulation, phone: &str) -> Result<Sent, No> {
        let request = EnableRequest {
            authority: &self.authority,
            phone,
            locale: None,
            proof: self.proof.as_ref(),
        };
        let enabled = enrol::enable(host, &context(), self.user, &request).expect("decided");
        enabled.map(|(e164, sent)| {
            assert_eq!(e164, phone);
            sent
        })
    }

    fn verify_request<'a>(&'a self, code: &'a str) -> VerifyRequest<'a> {
        VerifyRequest {
            authority: &self.authority,
            code,
            proof: self.proof.as_ref(),
        }
    }

    pub(crate) fn verify_enable(&self, host: &mut Simulation, code: &str) -> Result<Enabled, No> {
        let request = self.verify_request(code);
        enrol::verify_enable(host, &context(), self.user, &request).expect("decided")
    }

    pub(crate) fn enroll_app(&self, host: &mut Simulation) -> Result<u32, No> {
        let (authority, proof) = (&self.authority, self.proof.as_ref());
        let made = enrol::enroll_app(host, &context(), self.user, authority, proof);
        made.expect("decided").map(|handle| host.app(handle))
    }

    pub(crate) fn verify_app(&self, host: &mut Simulation, code: &str) -> Result<Enabled, No> {
        let request = self.verify_request(code);
        enrol::verify_app(host, &context(), self.user, &request).expect("decided")
    }

    pub(crate) fn disable(&self, host: &mut Simulation, factor: Option<Factor>) -> Result<(), No> {
        let (authority, proof) = (&self.authority, self.proof.as_ref());
        let gone = enrol::disable(host, &context(), self.user, authority, factor, proof);
        gone.expect("decided")
    }

    pub(crate) fn new_codes(&self, host: &mut Simulation) -> Result<Vec<String>, No> {
        let (authority, proof) = (&self.authority, self.proof.as_ref());
        let made = enrol::new_backup_codes(host, &context(), self.user, authority, proof);
        made.expect("decided").map(|handle| host.codes(handle))
    }

    pub(crate) fn send(&self, host: &mut Simulation) -> Result<Sent, No> {
        let sent = login::send(host, &context(), self.user, &self.authority, None);
        sent.expect("decided")
    }

    pub(crate) fn log_in(&self, host: &mut Simulation, code: &str) -> Result<Accepted, No> {
        self.log_in_by(host, code, None)
    }

    pub(crate) fn log_in_by(
        &self,
        host: &mut Simulation,
        code: &str,
        method: Option<Method>,
    ) -> Result<Accepted, No> {
        let authority = &self.authority;
        let answer = login::log_in(host, &context(), self.user, authority, code, method);
        answer.expect("decided")
    }

    pub(crate) fn state(&self, host: &mut Simulation) -> State {
        support::status(host, &context(), self.user).expect("decided")
    }

    pub(crate) fn unlock(&self, host: &mut Simulation) -> Done {
        support::unlock(host, &context(), self.user).expect("decided")
    }

    pub(crate) fn reset(&self, host: &mut Simulation) -> Done {
        support::reset(host, &context(), self.user).expect("decided")
    }

    pub(crate) fn delete(&self, host: &mut Simulation) -> Done {
        support::delete(host, &context(), self.user).expect("decided")
    }

    pub(crate) fn move_in(&self, host: &mut Simulation, request: &MoveIn<'_>) -> MovedIn {
        support::move_in(host, &context(), self.user, request).expect("decided")
    }

    /// Enrols a phone; returns the backup codes.
    #[track_caller]
    pub(crate) fn with_phone(&self, host: &mut Simulation, phone: &str) -> Vec<String> {
        self.enable(host, phone).expect("sent");
        let code = host.code(self.user, phone, "enrolment");
        let enabled = self.verify_enable(host, &code).expect("enabled");
        assert_eq!(enabled.factor, Factor::Sms);
        host.codes(enabled.backup_codes.expect("a set"))
    }

    /// Enrols an app; returns its secret.
    #[track_caller]
    pub(crate) fn with_app(&self, host: &mut Simulation) -> u32 {
        let secret = self.enroll_app(host).expect("pending");
        let code = host.app_code(secret);
        let enabled = self.verify_app(host, &code).expect("enabled");
        assert_eq!(enabled.factor, Factor::Totp);
        host.now += STEP;
        secret
    }
}
