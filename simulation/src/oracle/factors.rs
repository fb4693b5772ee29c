//! Commits of calls about users and their factors: what may come out, and what did.

use countersign_types::{Event, MessageId, UnixMillis};

use super::call::{Ask, Proof};
use super::commits::attribute;
use super::verdicts::Committing;
use super::{Broken, State, broken, job_id};
use crate::Kind;
use crate::factors::{ENROLMENT, LOGIN, Pending, Tried, User, steps_of, subject};
use crate::model::{DAY, DIGITS, Message, Outcome};

/// Digits of fewer characters are a code of a message or of an app.
const BACKUP_BYTES_MIN: usize = 8;

impl Committing<'_> {
    fn event(&self, kind: &str) -> Option<&Event> {
        self.events.iter().find(|event| event.kind == kind)
    }

    fn is(&self, kind: &str) -> bool {
        self.event(kind).is_some()
    }
}

impl State {
    pub(super) fn factor(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        ask: &Ask,
    ) -> Result<(), Broken> {
        if committing.events.is_empty() {
            self.counted(committing, user, ask);
            return Ok(());
        }
        self.notices(committing);
        match ask {
            Ask::Enable { phone, proof } => self.enable(committing, user, *phone, proof.as_ref()),
            Ask::Verify { code } => self.verify_enable(committing, user, code),
            Ask::EnrolApp { proof } => self.enrol_app(committing, user, proof.as_ref()),
            Ask::VerifyApp { code } => self.verify_app(committing, user, code),
            Ask::SendLogin => self.send_login(committing, user),
            Ask::LogIn { code } => self.log_in(committing, user, code),
            Ask::NewCodes { proof } => {
                self.allowed(committing, user, proof.as_ref())?;
                self.new_set(committing, user);
                self.ends(committing, Outcome::NewCodes)
            }
            Ask::Reset => {
                self.truth.users[user] = User::default();
                self.ends(committing, Outcome::Reset)
            }
        }
    }

    fn ends(&mut self, committing: &Committing<'_>, outcome: Outcome) -> Result<(), Broken> {
        let id = committing.call.id;
        self.truth.outcomes.insert(id, (outcome, None));
        Ok(())
    }

    /// Nothing was decided, but tries may have been counted.
    fn counted(&mut self, committing: &Committing<'_>, user: usize, ask: &Ask) {
        let now = committing.now();
        for write in &committing.commit.writes {
            let key = write.key.as_slice();
            if let Some(about) = self.challenge(key) {
                self.truth.model.count(about, now);
            }
            let user = &mut self.truth.users[user];
            if key.starts_with(b"c/two-factor/backup/") {
                user.backup_misses.add(now);
            } else if key.starts_with(b"c/two-factor/user/") {
                match ask {
                    Ask::VerifyApp { .. } => user.pending_misses.add(now),
                    _ => user.app_misses.add(now),
                }
            } else {
                continue;
            }
            committing.world.mark("a user's try counted by itself");
        }
    }

    /// What users are told goes out as any message without a code does.
    fn notices(&mut self, committing: &Committing<'_>) {
        let with_code: Vec<MessageId> = committing
            .events
            .iter()
            // Of each message the host says itself that it was accepted.
            .filter(|event| event.source != "host")
            .filter_map(|event| event.message)
            .collect();
        let made = committing.commit.writes.iter();
        for id in made.filter_map(|write| job_id(&write.key)) {
            if with_code.contains(&id) {
                continue;
            }
            committing.world.mark("a notice");
            let notice = Message {
                phone: 0,
                code: None,
                deadline: committing.now() + DAY,
                end: UnixMillis(u64::MAX),
                since: committing.now(),
                ended: None,
            };
            self.truth.model.messages.insert(id, notice);
        }
    }

    /// With a factor, nothing changes without a proof of one, and each proof changes one thing.
    fn allowed(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        proof: Option<&Proof>,
    ) -> Result<bool, Broken> {
        if !self.truth.users[user].has_factor() {
            return Ok(false);
        }
        let id = committing.call.id;
        let Some(proof) = proof.filter(|proof| proof.ends > committing.now()) else {
            let text = format!("call {id} changes a factor without a proof");
            return broken(Kind::WrongAnswer, text);
        };
        if !self.truth.proofs.insert(proof.id) {
            let text = format!("call {id} changes a factor with a proof that was used");
            return broken(Kind::DoubleUse, text);
        }
        committing.world.mark("a change with a proof");
        Ok(true)
    }

    fn new_set(&mut self, committing: &Committing<'_>, user: usize) {
        self.truth.users[user].backup = Some((committing.call.id, Default::default()));
    }

    fn enable(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        phone: usize,
        proof: Option<&Proof>,
    ) -> Result<(), Broken> {
        if committing.is("enrolment.refused") {
            return self.ends(committing, Outcome::Refused("enrolment"));
        }
        if committing.is("enrolment.sent") {
            let proven = self.allowed(committing, user, proof)?;
            self.truth.users[user].pending = Some(Pending { phone, proven });
        }
        self.send_for_user(committing, user, phone, ENROLMENT)
    }

    fn send_login(&mut self, committing: &Committing<'_>, user: usize) -> Result<(), Broken> {
        let id = committing.call.id;
        match self.truth.users[user].phone {
            Some(phone) => self.send_for_user(committing, user, phone, LOGIN),
            None => broken(
                Kind::WrongAnswer,
                format!("call {id} sends a code to a user without a phone"),
            ),
        }
    }

    fn send_for_user(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        phone: usize,
        purpose: usize,
    ) -> Result<(), Broken> {
        let about = (subject(user, Some(phone), purpose), 0);
        let before = self.truth.model.group(about);
        let want = self.truth.model.send(about, committing.now(), false);
        self.verdict(committing, &before, about, want)
    }

    fn verify_enable(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        code: &str,
    ) -> Result<(), Broken> {
        let id = committing.call.id;
        let Some(pending) = self.truth.users[user].pending.clone() else {
            let text = format!("call {id} checks a code where no phone is pending");
            return broken(Kind::WrongAnswer, text);
        };
        let about = (subject(user, Some(pending.phone), ENROLMENT), 0);
        self.verify(committing, about, code)?;
        let enabled = committing.is("factor.enabled") || committing.is("factor.changed");
        if enabled != committing.is("verification.approved") {
            let text = format!("call {id}: enabled {enabled}, and its code was otherwise");
            return broken(Kind::WrongAnswer, text);
        }
        if !enabled {
            return Ok(());
        }
        if self.truth.users[user].has_factor() && !pending.proven {
            let text = format!("call {id} changes a number without a proof");
            return broken(Kind::WrongAnswer, text);
        }
        self.truth.users[user].phone = Some(pending.phone);
        self.truth.users[user].pending = None;
        self.new_set(committing, user);
        committing.world.mark("a phone enrolled");
        self.ends(committing, Outcome::Enabled)
    }

    fn enrol_app(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        proof: Option<&Proof>,
    ) -> Result<(), Broken> {
        let proven = self.allowed(committing, user, proof)?;
        self.truth.users[user].pending_app = Some((committing.call.id, proven));
        self.ends(committing, Outcome::AppPending)
    }

    fn verify_app(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        code: &str,
    ) -> Result<(), Broken> {
        let (id, now) = (committing.call.id, committing.now());
        let had_factor = self.truth.users[user].has_factor();
        let pending = self.truth.users[user].pending_app;
        let steps = self.steps(pending.map(|(secret, _)| secret), code, now);
        let tried = self.truth.users[user].confirm_app(now, &steps);
        let enabled = committing.is("factor.enabled") || committing.is("factor.changed");
        if enabled != (tried == Tried::Accepted) {
            let text = format!("call {id}: enabled {enabled}, and {tried:?} was to be");
            return broken(kind_of(tried), text);
        }
        if !enabled {
            return self.ends(committing, Outcome::Missed);
        }
        if had_factor && !pending.is_some_and(|(_, proven)| proven) {
            let text = format!("call {id} adds an app without a proof");
            return broken(Kind::WrongAnswer, text);
        }
        if committing.is("backup-codes.issued") {
            self.new_set(committing, user);
        }
        committing.world.mark("an app enrolled");
        self.ends(committing, Outcome::Enabled)
    }

    fn log_in(
        &mut self,
        committing: &Committing<'_>,
        user: usize,
        code: &str,
    ) -> Result<(), Broken> {
        let (id, now) = (committing.call.id, committing.now());
        let found = committing.event("login.succeeded");
        let found = found.map(|event| attribute(event, "method").to_owned());
        let mut tries = Vec::new();
        if is_digits(code) {
            let about = (subject(user, self.truth.users[user].phone, LOGIN), 0);
            self.verify(committing, about, code)?;
            // That has been compared with the model.
            tries.push((
                "sms",
                match committing.is("verification.approved") {
                    true => Tried::Accepted,
                    false => Tried::Wrong,
                },
            ));
            if tries[0].1 != Tried::Accepted {
                let secret = self.truth.users[user].app.as_ref().map(|app| app.secret);
                let steps = self.steps(secret, code, now);
                tries.push(("totp", self.truth.users[user].check_app(now, &steps)));
            }
        } else {
            let mut known = self.backup_codes.iter();
            let code = known.find_map(|(set, codes)| {
                let at = codes.iter().position(|known| known == code)?;
                Some((*set, at))
            });
            tries.push(("backup", self.truth.users[user].check_backup(now, code)));
        }
        let wanted = tries.iter().find(|(_, tried)| *tried == Tried::Accepted);
        let wanted = wanted.map(|(method, _)| (*method).to_owned());
        let (_, last) = tries[tries.len() - 1];
        if found != wanted {
            let text = format!("call {id}: a login by {found:?}, and {tries:?} was to be");
            return broken(kind_of(last), text);
        }
        if let Some(failed) = committing.event("login.failed")
            && let Some((method, _)) = tries.iter().find(|(method, tried)| {
                *tried == Tried::Locked && attribute(failed, "method").contains(method)
            })
        {
            let text = format!("call {id}: a code by {method} was compared, which is locked");
            return broken(Kind::UncountedTry, text);
        }
        committing.world.mark(match (wanted.as_deref(), last) {
            (Some("sms"), _) => "a login by a message",
            (Some("totp"), _) => "a login by an app",
            (Some(_), _) => "a login by a backup code",
            (None, Tried::Used) => "a used code of a user that comes again",
            (None, Tried::Locked) => "a locked kind of code",
            (None, _) => "a login that is wrong",
        });
        let outcome = match wanted.as_deref() {
            // As answers have it.
            Some("sms") => Outcome::LoggedIn("otp".to_owned()),
            Some(method) => Outcome::LoggedIn(method.to_owned()),
            None => Outcome::Missed,
        };
        self.ends(committing, outcome)
    }

    /// The steps that a code is right for, by the secret that a call has made and told somebody of.
    fn steps(&self, secret: Option<u32>, code: &str, now: UnixMillis) -> Vec<u64> {
        let secret = secret.and_then(|secret| self.secrets.get(&secret));
        secret.map_or_else(Vec::new, |secret| steps_of(secret, code, now))
    }
}

/// What it is where something else was accepted, or was not.
fn kind_of(tried: Tried) -> Kind {
    match tried {
        Tried::Used => Kind::DoubleUse,
        Tried::Locked => Kind::UncountedTry,
        Tried::Accepted | Tried::Wrong => Kind::WrongAnswer,
    }
}

/// Whether it has the shape of a message's code, or of an app's.
fn is_digits(code: &str) -> bool {
    let bytes = code.len();
    code.bytes().all(|byte| byte.is_ascii_digit()) && (bytes < BACKUP_BYTES_MIN || bytes == DIGITS)
}
