//! Clients: what they want, when, and how often they ask for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_runtime::{
    CallContext, CallError, Caller, Claim, ClaimError, Found, KeptAnswer, MessageRequest, Once,
    ReplayCallError, Scope, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict,
};
use countersign_types::{Clock, NumberKind, PhoneNumber, Priority, UnixMillis};
use tokio::task::JoinSet;

use crate::Kind;
use crate::model::{ADDRESSES, DIGITS, PURPOSES};
use crate::oracle::{Answer, CALL, Call, Op, address, is_secret};
use crate::process::{Door, PHONES, Process};
use crate::world::World;

/// How many wishes a client has in one life, at most.
const WISHES: u64 = 20;

/// What a client asks for, and its key for it.
type Wish = (Op, Option<u32>);

impl Process {
    /// One client: wishes, with time between them.
    pub(crate) async fn client(self: Arc<Process>) {
        let world = &*self.world;
        for _ in 0..=world.below(WISHES) {
            let wait = match world.below(8) {
                0..3 => 0,
                3..5 => world.below(50),
                5 => world.below(5_000),
                6 => world.below(60_000),
                _ => world.below(400_000),
            };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let wish = self.wish();
            // The same again at once, as impatient clients and attackers do.
            let times = match world.below(8) {
                0 => 2 + world.below(5),
                _ => 1,
            };
            // Or to one phone after the other, as those do who pump messages.
            let spread = wish.1.is_none() && world.once_in(2);
            let mut calls = JoinSet::new();
            for time in 0..times {
                let mut wish = wish.clone();
                if let Op::Send { about, .. } = &mut wish.0
                    && spread
                {
                    about.0 = (about.0 + time as usize) % PHONES.len();
                }
                calls.spawn(self.clone().call(wish));
            }
            if world.once_in(10) {
                // The client hangs up; what it began goes on.
                world.mark("a client that hangs up");
                calls.detach_all();
                if wish.1.is_some() {
                    world.mark("a repeat after hanging up");
                    tokio::time::sleep(Duration::from_millis(world.below(20))).await;
                    calls.spawn(self.clone().call(wish));
                }
            }
            while let Some(done) = calls.join_next().await {
                if let Err(error) = done {
                    world.violation(Kind::Panic, error.to_string());
                }
            }
        }
    }

    fn wish(&self) -> Wish {
        let world = &*self.world;
        if world.once_in(6)
            && let Some(wish) = self.earlier_wish()
        {
            return wish;
        }
        let op = self.new_wish();
        // What fails has no verdict that could be kept; and what is asked for users is not repeated.
        let is_keyed =
            world.once_in(3) && !matches!(op, Op::VerifyAndFail { .. } | Op::Factor { .. });
        let key = is_keyed.then(|| self.oracle.new_key());
        (op, key)
    }

    /// Something that was asked for before, by a client that may not have got its answer: in this life
    /// or in an earlier one. Now and then with a key that belongs to something else.
    fn earlier_wish(&self) -> Option<Wish> {
        let world = &*self.world;
        let asked = self.oracle.asked();
        let back = world.below(4) as usize;
        let (key, op) = asked.into_iter().rev().nth(back)?;
        if world.once_in(12) {
            let op = Op::Notice {
                phone: 0,
                deadline: world.now() + Duration::from_secs(60),
            };
            return Some((op, Some(key)));
        }
        Some((op, Some(key)))
    }

    fn new_wish(&self) -> Op {
        let world = &*self.world;
        if world.once_in(3) {
            return self.users_wish();
        }
        let phone = world.below(PHONES.len() as u64) as usize;
        let purpose = usize::from(world.once_in(6));
        let about = (phone, purpose);
        let wrong = || format!("{:0width$}", world.below(10_000_000_000), width = DIGITS);
        // Mostly the newest code that has arrived, sometimes an older one.
        let received = || {
            let received = self.oracle.received(about);
            let back = match world.below(3) {
                0 => world.below(4) as usize,
                _ => 0,
            };
            received.into_iter().rev().nth(back).unwrap_or_else(wrong)
        };
        let dead = self.oracle.dead();
        match world.below(25) {
            0..8 => Op::Send {
                about,
                address: world
                    .once_in(2)
                    .then(|| world.below(ADDRESSES as u64) as usize),
            },
            8..15 => Op::Verify {
                about,
                code: received(),
            },
            15..20 => Op::Verify {
                about,
                code: wrong(),
            },
            20..22 => {
                let received = self.oracle.received((phone, 0));
                let code = received
                    .into_iter()
                    .next_back()
                    .filter(|_| world.once_in(2));
                Op::VerifyAndFail {
                    phone,
                    code: code.unwrap_or_else(wrong),
                }
            }
            22 if !dead.is_empty() => Op::Replay {
                message: dead[world.below(dead.len() as u64) as usize],
            },
            _ => Op::Notice {
                phone,
                deadline: world.now() + Duration::from_millis(1 + world.below(60_000)),
            },
        }
    }

    async fn call(self: Arc<Process>, (op, key): Wish) {
        self.world.alive().await;
        self.open.fetch_add(1, Ordering::Relaxed);
        let door = &self.doors[self.world.below(2) as usize];
        let call = self.oracle.call(op, key);
        self.world
            .step(format_args!("call {}: {:?} {key:?}", call.id, call.op));
        let answer = CALL.scope(call.clone(), self.answer(door, &call)).await;
        self.world.alive().await;
        self.oracle.answered(&call, &answer);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Claims the key, where there is one, as the server does before it calls anything.
    async fn answer(&self, door: &Door, call: &Call) -> Answer {
        let claim = match call.key {
            None => None,
            Some(key) => {
                let key = key.to_string();
                let scope = Scope {
                    asker: (b"client", b""),
                    user: None,
                    path: "/simulated",
                    key: &key,
                };
                let body = format!("{:?}", call.op);
                match door.ledger.claim(scope, &[body.as_bytes()]).await {
                    Ok(claim) => Some(claim),
                    Err(error) => return self.unclaimed(call, error),
                }
            }
        };
        let ended = self.act(door, call, claim.as_ref()).await;
        let error = match ended {
            Ok(answer) => return answer,
            Err(error) => error,
        };
        if let (CallError::Happened, Some(claim)) = (&error, claim) {
            self.world
                .mark("a repeat that another host was faster with");
            return match claim.find().await {
                Ok(Some(found)) => self.found(call, found),
                Ok(None) | Err(_) => Answer::Nothing,
            };
        }
        failed(&self.world, error)
    }

    fn unclaimed(&self, call: &Call, error: ClaimError) -> Answer {
        match error {
            ClaimError::Used(found) => self.found(call, found),
            ClaimError::OtherInFlight => Answer::Reused,
            ClaimError::InFlight => {
                self.world.mark("a repeat of what is in flight");
                Answer::Nothing
            }
            ClaimError::TooMany | ClaimError::Store(_) => Answer::Nothing,
        }
    }

    fn found(&self, call: &Call, found: Found) -> Answer {
        let world = &*self.world;
        if self.oracle.is_of_another_life(call) {
            world.mark("a repeat after a crash");
        }
        match found {
            Found::Other => {
                world.mark("a key that belongs to another request");
                Answer::Reused
            }
            Found::Done => {
                world.mark("an answer that is no longer kept");
                Answer::Done
            }
            Found::Answer { bytes, .. } => {
                world.mark("a repeat that is answered again");
                let answer = postcard::from_bytes(&bytes);
                answer.unwrap_or_else(|error| Answer::Failed(error.to_string()))
            }
        }
    }

    async fn act(
        &self,
        door: &Door,
        call: &Call,
        claim: Option<&Claim>,
    ) -> Result<Answer, CallError> {
        let mut context = CallContext {
            service: "default".to_owned(),
            caller: Caller::Anonymous,
            client_address: None,
        };
        match &call.op {
            Op::Send {
                about: (phone, purpose),
                address: from,
            } => {
                context.client_address = from.map(address);
                let request = SendRequest {
                    phone: PHONES[*phone].to_owned(),
                    purpose: Some(PURPOSES[*purpose].to_owned()),
                    locale: None,
                };
                let once = once(call, claim, sent);
                let verdict = door.runtime.otp_send(&context, request, once).await;
                verdict.map(|(verdict, _)| sent(&verdict))
            }
            Op::Verify {
                about: (phone, purpose),
                code,
            } => {
                let request = VerifyRequest {
                    phone: PHONES[*phone].to_owned(),
                    code: code.clone(),
                    purpose: Some(PURPOSES[*purpose].to_owned()),
                };
                let once = once(call, claim, verified);
                let verdict = door.runtime.otp_verify(&context, request, once).await;
                verdict.map(|(verdict, _)| verified(&verdict))
            }
            Op::VerifyAndFail { phone, code } => {
                let answer = self.verify_and_fail(door, &context, *phone, code).await?;
                Ok(Answer::Failed(format!("it did not fail: {answer}")))
            }
            Op::Notice { phone, deadline } => {
                let request = notice(door, *phone, *deadline);
                let once = once(call, claim, |id| Answer::Noticed(*id));
                let made = door.runtime.send_message(&context, &request, once).await;
                made.map(|(id, _)| Answer::Noticed(id))
            }
            Op::Replay { message } => {
                let once = once(call, claim, |_| Answer::Replayed);
                match door.runtime.replay(*message, once).await {
                    Ok(_) => Ok(Answer::Replayed),
                    Err(ReplayCallError::Call(error)) => Err(error),
                    Err(ReplayCallError::Replay(error)) => {
                        self.world.step(format_args!("no replay: {error}"));
                        Ok(Answer::Nothing)
                    }
                }
            }
            Op::Factor { user, ask } => self.ask_for(door, &context, *user, ask).await,
            // Providers have a way of their own.
            Op::Receipt { .. } => Ok(Answer::Nothing),
        }
    }

    async fn verify_and_fail(
        &self,
        door: &Door,
        context: &CallContext,
        phone: usize,
        code: &str,
    ) -> Result<String, CallError> {
        let end = if self.world.once_in(2) {
            "trap oops"
        } else {
            "err no"
        };
        let script = format!("nested verify {} {code}\n{end}", PHONES[phone]);
        let Door { runtime, probe, .. } = door;
        runtime
            .call(probe, "probe", context, "run", |probe, store, context| {
                let script = script.clone();
                Box::pin(async move {
                    let guest = probe.countersign_probe_probe();
                    guest.call_run(store, &context, &script).await
                })
            })
            .await
    }
}

/// What makes a call happen once, where it has a key.
fn once<R: 'static>(
    call: &Call,
    claim: Option<&Claim>,
    answer: fn(&R) -> Answer,
) -> Option<Once<'static, R>> {
    let secret = is_secret(call.key?);
    Some(claim?.once(move |verdict, _| {
        Some(KeptAnswer {
            bytes: postcard::to_allocvec(&answer(verdict)).unwrap_or_default(),
            secret,
        })
    }))
}

fn sent(verdict: &SendVerdict) -> Answer {
    match verdict {
        SendVerdict::Sent {
            message_id,
            expires,
        } => match message_id.parse() {
            Ok(message) => Answer::Sent {
                message,
                expires: *expires,
            },
            Err(_) => Answer::Failed(format!("`{message_id}` is no message")),
        },
        SendVerdict::Refused(refusal) => Answer::Refused(refusal.text.clone()),
    }
}

fn verified(verdict: &VerifyVerdict) -> Answer {
    match verdict {
        VerifyVerdict::Accepted { .. } => Answer::Accepted,
        VerifyVerdict::Rejected(refusal) => Answer::Rejected(refusal.text.clone()),
        VerifyVerdict::Refused(refusal) => Answer::Refused(refusal.text.clone()),
    }
}

/// A message without a code.
fn notice(door: &Door, phone: usize, deadline: UnixMillis) -> MessageRequest {
    MessageRequest {
        to: PhoneNumber {
            e164: PHONES[phone].to_owned(),
            country: "US".to_owned(),
            kind: NumberKind::Mobile,
        },
        template: "notice".to_owned(),
        text: "Your account was used".to_owned(),
        variables: Vec::new(),
        locale: None,
        purpose: "notice".to_owned(),
        priority: Priority::Normal,
        due: door.runtime.now(),
        deadline,
    }
}

fn failed(world: &World, error: CallError) -> Answer {
    match &error {
        CallError::Component {
            timed_out: true, ..
        } => world.mark("a call that takes too long"),
        CallError::Busy { .. } => world.mark("too many calls or conflicts"),
        CallError::QueueFull { .. } => world.mark("a full queue"),
        _ => {}
    }
    match error {
        CallError::Component { reason, .. } => Answer::Failed(reason),
        _ => Answer::Nothing,
    }
}
