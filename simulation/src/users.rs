//! Users: what they and whoever tries to be them want of two-factor.

use countersign_runtime::{
    Authority, BackupCodesVerdict, CallContext, CallError, ChangeRequest, EnableRequest,
    EnableVerdict, FactorProof, LoginRequest, LoginSendRequest, LoginSendVerdict, LoginVerdict,
    SupportVerdict, TotpVerdict, UserId, VerifyFactorRequest, VerifyFactorVerdict,
};
use countersign_types::{Clock, MessageId, Secret, UnixMillis};
use data_encoding::BASE32_NOPAD;

use crate::factors::{APP_DIGITS, ENROLMENT, LOGIN, USERS, User, app_code, step_at, subject};
use crate::model::DIGITS;
use crate::oracle::{Answer, Ask, Op, Proof};
use crate::process::{Door, PHONES, Process};

impl Process {
    /// Something about a user.
    pub(crate) fn users_wish(&self) -> Op {
        let user = self.world.below(USERS.len() as u64) as usize;
        let known = self.oracle.user(user);
        let ask = match known.has_factor() {
            false => self.first_factor(user, &known),
            true => self.use_of_factors(user, &known),
        };
        Op::Factor { user, ask }
    }

    /// What a user without a factor wants.
    fn first_factor(&self, user: usize, known: &User) -> Ask {
        match self.world.below(12) {
            0..3 => self.enable(None),
            3..7 => self.verify(user, known),
            7..9 => Ask::EnrolApp { proof: None },
            9..11 => self.verify_app(known),
            // There is nothing to log in with.
            _ => Ask::LogIn {
                code: self.wrong(DIGITS),
            },
        }
    }

    /// What a user with a factor wants.
    fn use_of_factors(&self, user: usize, known: &User) -> Ask {
        let world = &*self.world;
        match world.below(24) {
            0..4 => Ask::SendLogin,
            4..8 => Ask::LogIn {
                code: self.received(subject(user, known.phone, LOGIN)),
            },
            8..12 => Ask::LogIn {
                code: self.backup_code(),
            },
            12..16 => Ask::LogIn {
                code: self.app_code(known.app.as_ref().map(|app| app.secret)),
            },
            16..18 => Ask::LogIn {
                code: match world.below(3) {
                    0 => self.wrong(DIGITS),
                    1 => self.wrong(APP_DIGITS),
                    _ => "WRONG-CODE".to_owned(),
                },
            },
            18 => self.enable(self.proof(user)),
            19 => self.verify(user, known),
            20 => Ask::EnrolApp {
                proof: self.proof(user),
            },
            21 => self.verify_app(known),
            22 => Ask::NewCodes {
                proof: self.proof(user),
            },
            _ if world.once_in(3) => Ask::Reset,
            _ => Ask::SendLogin,
        }
    }

    fn enable(&self, proof: Option<Proof>) -> Ask {
        let phone = self.world.below(PHONES.len() as u64) as usize;
        Ask::Enable { phone, proof }
    }

    fn verify(&self, user: usize, known: &User) -> Ask {
        let phone = known.pending.as_ref().map(|pending| pending.phone);
        let code = self.received(subject(user, phone, ENROLMENT));
        Ask::Verify { code }
    }

    fn verify_app(&self, known: &User) -> Ask {
        let code = self.app_code(known.pending_app.map(|(secret, _)| secret));
        Ask::VerifyApp { code }
    }

    /// A code that has arrived, mostly the newest one.
    fn received(&self, subject: usize) -> String {
        let received = self.oracle.received((subject, 0));
        let back = match self.world.below(3) {
            0 => self.world.below(3) as usize,
            _ => 0,
        };
        let code = received.into_iter().rev().nth(back);
        code.unwrap_or_else(|| self.wrong(DIGITS))
    }

    /// What the app shows now, or a step before or after.
    fn app_code(&self, secret: Option<u32>) -> String {
        let step = step_at(self.world.now()) + self.world.below(3) - 1;
        match secret.and_then(|secret| self.oracle.secret(secret)) {
            Some(secret) => app_code(&secret, step),
            None => self.wrong(APP_DIGITS),
        }
    }

    /// One that somebody was told, mostly of the newest set: used or not, and whose it may be.
    fn backup_code(&self) -> String {
        let world = &*self.world;
        let sets = self.oracle.backup_codes();
        let back = match world.below(2) {
            0 => world.below(3) as usize,
            _ => 0,
        };
        let set = sets.into_iter().rev().nth(back).unwrap_or_default();
        let at = world.below(set.len().max(1) as u64) as usize;
        let code = set.into_iter().nth(at);
        code.unwrap_or_else(|| "NONE-YET".to_owned())
    }

    /// The user's newest proof, mostly; used or not. One that is over does not come past the server.
    fn proof(&self, user: usize) -> Option<Proof> {
        let world = &*self.world;
        let proofs = self.oracle.proofs(user);
        let back = world.below(2) as usize;
        let proof = proofs.into_iter().rev().nth(back);
        proof.filter(|proof| proof.ends > world.now() && !world.once_in(8))
    }

    fn wrong(&self, digits: usize) -> String {
        let number = self.world.below(10_u64.pow(digits as u32));
        format!("{number:0digits$}")
    }

    pub(crate) async fn ask_for(
        &self,
        door: &Door,
        context: &CallContext,
        user: usize,
        ask: &Ask,
    ) -> Result<Answer, CallError> {
        let runtime = &door.runtime;
        let Ok(user) = USERS[user].parse::<UserId>() else {
            return Ok(Answer::Failed("no id of a user".to_owned()));
        };
        let authority = Authority::Application;
        Ok(match ask {
            Ask::Enable { phone, proof } => {
                let request = EnableRequest {
                    authority,
                    phone: PHONES[*phone].to_owned(),
                    locale: None,
                    proof: presented(proof),
                };
                let asked = runtime.two_factor_enable(context, &user, request, None);
                match asked.await?.0 {
                    EnableVerdict::Sent {
                        message_id,
                        expires,
                        ..
                    } => sent(&message_id, expires),
                    EnableVerdict::Refused(refused) => Answer::Refused(refused.text),
                    EnableVerdict::Denied(_) => Answer::Nothing,
                }
            }
            Ask::Verify { code } => {
                let request = verify(authority, code);
                let asked = runtime.two_factor_verify_enable(context, &user, request, None);
                match asked.await?.0 {
                    VerifyFactorVerdict::Enabled { backup_codes, .. } => enabled(backup_codes),
                    VerifyFactorVerdict::Rejected(rejected) => Answer::Rejected(rejected.text),
                    VerifyFactorVerdict::Refused(_) | VerifyFactorVerdict::Denied(_) => {
                        Answer::Nothing
                    }
                }
            }
            Ask::EnrolApp { proof } => {
                let request = change(authority, proof);
                let asked = runtime.two_factor_totp_enroll(context, &user, request, None, None);
                match asked.await?.0 {
                    TotpVerdict::Pending { secret, .. } => {
                        let secret = BASE32_NOPAD.decode(secret.expose().as_bytes());
                        Answer::AppPending(secret.unwrap_or_default())
                    }
                    TotpVerdict::Refused(refused) => Answer::Refused(refused.text),
                    TotpVerdict::Denied(_) => Answer::Nothing,
                }
            }
            Ask::VerifyApp { code } => {
                let request = verify(authority, code);
                let asked = runtime.two_factor_totp_verify(context, &user, request, None);
                match asked.await?.0 {
                    VerifyFactorVerdict::Enabled { backup_codes, .. } => enabled(backup_codes),
                    VerifyFactorVerdict::Rejected(_) => Answer::Missed,
                    VerifyFactorVerdict::Refused(_) | VerifyFactorVerdict::Denied(_) => {
                        Answer::Nothing
                    }
                }
            }
            Ask::SendLogin => {
                let request = LoginSendRequest {
                    authority,
                    locale: None,
                };
                let asked = runtime.two_factor_login_send(context, &user, request, None);
                match asked.await?.0 {
                    LoginSendVerdict::Sent {
                        message_id,
                        expires,
                    } => sent(&message_id, expires),
                    LoginSendVerdict::Refused(refused) if refused.retry_at.is_some() => {
                        Answer::Refused(refused.text)
                    }
                    LoginSendVerdict::Refused(_) | LoginSendVerdict::Denied(_) => Answer::Nothing,
                }
            }
            Ask::LogIn { code } => {
                let request = LoginRequest {
                    authority,
                    code: code.clone(),
                    method: None,
                };
                let asked = runtime.two_factor_login(context, &user, request, None);
                match asked.await?.0 {
                    LoginVerdict::Accepted { method, .. } => {
                        Answer::LoggedIn(method.word().to_owned())
                    }
                    LoginVerdict::Rejected(_) => Answer::Missed,
                    LoginVerdict::Refused(_) | LoginVerdict::Denied(_) => Answer::Nothing,
                }
            }
            Ask::NewCodes { proof } => {
                let request = change(authority, proof);
                let asked = runtime.two_factor_new_backup_codes(context, &user, request, None);
                match asked.await?.0 {
                    BackupCodesVerdict::Issued(codes) => Answer::NewCodes(exposed(codes)),
                    BackupCodesVerdict::Refused(_) | BackupCodesVerdict::Denied(_) => {
                        Answer::Nothing
                    }
                }
            }
            Ask::Reset => match runtime.two_factor_reset(context, &user).await? {
                SupportVerdict::Done => Answer::Reset,
                SupportVerdict::Absent => Answer::Nothing,
            },
        })
    }
}

fn presented(proof: &Option<Proof>) -> Option<FactorProof> {
    let Proof { id, made, ends } = proof.clone()?;
    let id = format!("proof-{id}");
    Some(FactorProof { id, made, ends })
}

fn change(authority: Authority, proof: &Option<Proof>) -> ChangeRequest {
    let proof = presented(proof);
    ChangeRequest { authority, proof }
}

fn verify(authority: Authority, code: &str) -> VerifyFactorRequest {
    VerifyFactorRequest {
        authority,
        code: code.to_owned(),
        proof: None,
    }
}

fn sent(message: &str, expires: UnixMillis) -> Answer {
    match message.parse::<MessageId>() {
        Ok(message) => Answer::Sent { message, expires },
        Err(_) => Answer::Failed(format!("`{message}` is no message")),
    }
}

fn enabled(codes: Option<Vec<Secret<String>>>) -> Answer {
    Answer::Enabled(codes.map(exposed))
}

fn exposed(codes: Vec<Secret<String>>) -> Vec<String> {
    codes.iter().map(|code| code.expose().clone()).collect()
}
