//! The host as the WIT describes it, in memory: what the rules are tested against.
//!
//! What would end a call of the real host (a value out of its bounds) panics here.

use std::collections::BTreeMap;

use crate::Undecided;
use crate::host::{
    Challenge, Duration, Event, Host, Instant, Job, Kind, Number, PhoneError, Status, Stopped,
    Verdict,
};
use crate::rules::{
    self, Context, ForgiveRequest, Refusal, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict,
};

/// A day in 2026, so that no arithmetic on instants is near zero.
pub(crate) const START: Instant = 1_780_000_000_000;

/// One live code of a challenge row.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) digits: String,
    pub(crate) expires: Instant,
}

/// The host's section of a row.
#[derive(Clone, Debug)]
pub(crate) struct ChallengeRow {
    pub(crate) spec: Challenge,
    /// Oldest first; at most two.
    pub(crate) codes: Vec<Code>,
    pub(crate) tried: u8,
    pub(crate) used: bool,
}

impl ChallengeRow {
    fn ended(&self, now: Instant) -> bool {
        self.codes.iter().all(|code| code.expires <= now)
    }

    fn locked(&self) -> bool {
        self.tried >= self.spec.tries
    }
}

pub(crate) struct Simulation {
    pub(crate) now: Instant,
    pub(crate) settings: Vec<(String, String)>,
    /// Texts of the operator, by purpose and locale.
    pub(crate) texts: BTreeMap<(&'static str, &'static str), &'static str>,
    pub(crate) rows: BTreeMap<String, (Vec<u8>, Instant)>,
    pub(crate) challenges: BTreeMap<String, ChallengeRow>,
    pub(crate) taken: BTreeMap<String, Vec<Instant>>,
    pub(crate) jobs: Vec<Job>,
    /// Whether whoever is sent a code has answered STOP.
    pub(crate) stopped: bool,
    pub(crate) events: Vec<Event>,
    /// Keys that `check` was asked for.
    pub(crate) checked: Vec<String>,
    /// Keys that `put` wrote.
    pub(crate) written: Vec<String>,
    codes_made: u32,
}

impl Simulation {
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        Self {
            now: START,
            settings: settings
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            texts: BTreeMap::new(),
            rows: BTreeMap::new(),
            challenges: BTreeMap::new(),
            taken: BTreeMap::new(),
            jobs: Vec::new(),
            stopped: false,
            events: Vec::new(),
            checked: Vec::new(),
            written: Vec::new(),
            codes_made: 0,
        }
    }

    /// The code that was sent last: its message is rendered with the newest code of the challenge.
    pub(crate) fn last_code(&self) -> String {
        let job = self.jobs.last().expect("a code was sent");
        let row = &self.challenges[&job.challenge];
        let code = row.codes.last().expect("a challenge has a code");
        code.digits.clone()
    }

    pub(crate) fn event_kinds(&self) -> Vec<&'static str> {
        self.events.iter().map(|event| event.kind).collect()
    }

    pub(crate) fn last_reason(&self) -> &str {
        let event = self.events.last().expect("an event");
        let (_, reason) = event
            .attributes
            .iter()
            .find(|(name, _)| *name == "reason")
            .expect("a reason");
        reason
    }
}

/// Who calls, with which wish; by default anybody, for the default purpose.
#[derive(Clone, Default)]
pub(crate) struct Call<'a> {
    pub(crate) purpose: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
    pub(crate) address: Option<&'a str>,
    pub(crate) locale: Option<&'a str>,
    /// Asked by a component, or from outside.
    pub(crate) nested: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn for_user(user: &'a str, purpose: &'a str) -> Self {
        Self {
            purpose: Some(purpose),
            user: Some(user),
            nested: true,
            ..Self::default()
        }
    }

    pub(crate) fn for_purpose(purpose: &'a str) -> Self {
        Self {
            purpose: Some(purpose),
            ..Self::default()
        }
    }

    pub(crate) fn from_address(address: &'a str) -> Self {
        Self {
            address: Some(address),
            ..Self::default()
        }
    }

    fn context(&self) -> Context {
        Context {
            service: "default".into(),
            nested: self.nested,
            client_index: self.address.map(Into::into),
        }
    }

    pub(crate) fn send(
        &self,
        host: &mut Simulation,
        phone: &str,
    ) -> Result<SendVerdict, Undecided> {
        let request = SendRequest {
            phone: phone.into(),
            purpose: self.purpose.map(Into::into),
            locale: self.locale.map(Into::into),
            user: self.user.map(Into::into),
        };
        rules::send(host, &self.context(), &request)
    }

    pub(crate) fn verify(
        &self,
        host: &mut Simulation,
        phone: &str,
        code: &str,
    ) -> Result<VerifyVerdict, Undecided> {
        let request = VerifyRequest {
            phone: phone.into(),
            code: code.into(),
            purpose: self.purpose.map(Into::into),
            user: self.user.map(Into::into),
        };
        rules::verify(host, &self.context(), &request)
    }

    pub(crate) fn forgive(&self, host: &mut Simulation, phone: &str) -> Result<(), Undecided> {
        let request = ForgiveRequest {
            phone: phone.into(),
            purpose: self.purpose.unwrap_or_default().into(),
            user: self.user.unwrap_or_default().into(),
        };
        rules::forgive(host, &self.context(), &request)
    }

    /// When the code that is sent ends.
    #[track_caller]
    pub(crate) fn expires_of_send(&self, host: &mut Simulation, phone: &str) -> Instant {
        match self.send(host, phone).expect("decided") {
            SendVerdict::Sent { expires, .. } => expires,
            SendVerdict::Refused(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn refusal_of_send(&self, host: &mut Simulation, phone: &str) -> Refusal {
        match self.send(host, phone).expect("decided") {
            SendVerdict::Refused(refusal) => refusal,
            SendVerdict::Sent { .. } => panic!("sent"),
        }
    }

    /// `Ok` for an accepted code, the refusal of a rejected one.
    #[track_caller]
    pub(crate) fn answer_to(
        &self,
        host: &mut Simulation,
        phone: &str,
        code: &str,
    ) -> Result<(), Refusal> {
        match self.verify(host, phone, code).expect("decided") {
            VerifyVerdict::Accepted { .. } => Ok(()),
            VerifyVerdict::Rejected(refusal) => Err(refusal),
            VerifyVerdict::Refused(refusal) => panic!("refused: {refusal:?}"),
        }
    }
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

    /// Which one fits is the host's to know: here a locale has its own text and no other.
    fn text(&self, purpose: &str, locale: Option<&str>) -> Option<String> {
        let wanted = (purpose, locale.unwrap_or_default());
        self.texts.get(&wanted).map(|text| (*text).to_owned())
    }

    /// `{kind}+{digits}` is a number of that kind; a few words stand for what is no number.
    fn parse(&mut self, text: &str) -> Result<Number, PhoneError> {
        let (word, digits) = match text.split_once('+') {
            Some((word, digits)) => (word, digits),
            None => (text, ""),
        };
        let kind = match word {
            "" if !digits.is_empty() => Kind::Mobile,
            "fixed-line" => Kind::FixedLine,
            "fixed-line-or-mobile" => Kind::FixedLineOrMobile,
            "toll-free" => Kind::TollFree,
            "premium-rate" => Kind::PremiumRate,
            "shared-cost" => Kind::SharedCost,
            "personal" => Kind::Personal,
            "voip" => Kind::Voip,
            "pager" => Kind::Pager,
            "uan" => Kind::Uan,
            "voicemail" => Kind::Voicemail,
            "unknown" => Kind::Unknown,
            "no-country" => return Err(PhoneError::NoCountry),
            "too-short" => return Err(PhoneError::TooShort),
            "too-long" => return Err(PhoneError::TooLong),
            "invalid" => return Err(PhoneError::Invalid),
            "extension" => return Err(PhoneError::Extension),
            _ => return Err(PhoneError::NotANumber),
        };
        let digits: String = digits.chars().filter(char::is_ascii_digit).collect();
        let country = if digits.starts_with("88") {
            "001"
        } else {
            "US"
        };
        Ok(Number {
            e164: format!("+{digits}"),
            country: country.into(),
            kind,
            index: format!("{digits:0>32}"),
        })
    }

    fn get(&mut self, key: &str) -> Option<Vec<u8>> {
        check_key(key);
        let (value, expires) = self.rows.get(key)?;
        (*expires > self.now).then(|| value.clone())
    }

    fn put(&mut self, key: &str, value: &[u8], expires: Instant) {
        check_key(key);
        assert!(value.len() <= 32_768, "value of {} bytes", value.len());
        self.written.push(key.into());
        self.rows.insert(key.into(), (value.into(), expires));
    }

    /// Exact; the real one may give room back up to 1/63 of the window later.
    fn take(&mut self, key: &str, max: u64, window: Duration) -> Result<(), Instant> {
        check_key(key);
        assert!(max >= 1, "an amount above `max` traps");
        let now = self.now;
        let taken = self.taken.entry(key.into()).or_default();
        taken.retain(|&time| time + window > now);
        if (taken.len() as u64) < max {
            taken.push(now);
            return Ok(());
        }
        let leaving = taken.len() - max as usize;
        Err(taken[leaving] + window)
    }

    fn status(&mut self, key: &str) -> Option<Status> {
        check_key(key);
        let row = self.challenges.get(key)?;
        let newest = row.codes.last().expect("a challenge has a code");
        (newest.expires > self.now).then(|| Status {
            live: !row.used && !row.locked(),
            expires: newest.expires,
        })
    }

    fn open(&mut self, key: &str, spec: Challenge) {
        check_key(key);
        assert!((1..=64).contains(&spec.purpose.len()));
        assert!((1..=192).contains(&spec.subject.len()));
        assert!((6..=10).contains(&spec.digits));
        assert!((1_000..=600_000).contains(&spec.valid));
        assert!((1..=5).contains(&spec.tries));
        self.codes_made += 1;
        // A bijection of 6 digits, so that no two codes of a test are the same.
        let digits = (u64::from(self.codes_made) * 387_420_489) % 1_000_000;
        let code = Code {
            digits: format!("{digits:0>width$}", width = usize::from(spec.digits)),
            expires: self.now + spec.valid,
        };
        let now = self.now;
        let joins = |row: &&mut ChallengeRow| {
            spec.replaces && !row.used && !row.locked() && !row.ended(now)
        };
        if let Some(row) = self.challenges.get_mut(key).filter(joins) {
            row.codes.push(code);
            let dropped = row.codes.len().saturating_sub(2);
            row.codes.drain(..dropped);
            row.spec = spec;
            return;
        }
        let row = ChallengeRow {
            spec,
            codes: vec![code],
            tried: 0,
            used: false,
        };
        self.challenges.insert(key.into(), row);
    }

    fn check(&mut self, key: &str, code: &str) -> Verdict {
        check_key(key);
        assert!(code.len() <= 64, "code of {} bytes", code.len());
        self.checked.push(key.into());
        let now = self.now;
        let Some(row) = self.challenges.get_mut(key) else {
            return Verdict::Absent;
        };
        if row.used || row.ended(now) {
            return Verdict::Absent;
        }
        if row.locked() {
            let newest = row.codes.last().expect("a challenge has a code");
            return Verdict::Locked(newest.expires);
        }
        row.tried += 1;
        let mut live = row.codes.iter().filter(|code| code.expires > now);
        row.used = live.any(|live| live.digits == code);
        if row.used {
            Verdict::Accepted
        } else {
            Verdict::Wrong
        }
    }

    fn enqueue(&mut self, job: Job) -> Result<String, Stopped> {
        assert!(job.deadline > self.now);
        assert!(self.challenges.contains_key(&job.challenge));
        if self.stopped {
            return Err(Stopped);
        }
        self.jobs.push(job);
        Ok(format!("{:032x}", self.jobs.len()))
    }

    fn emit(&mut self, event: Event) {
        assert!(event.attributes.len() <= 16);
        for (name, value) in &event.attributes {
            assert!((1..=32).contains(&name.len()) && value.len() <= 128);
        }
        assert!(event.country.as_ref().is_none_or(|name| name.len() == 2));
        self.events.push(event);
    }
}
