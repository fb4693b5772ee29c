//! The rules, one by one. Those of the list in `SECURITY.md` have its number in their names.

use crate::enrol::{
    Factor, INVALID, NO_APP, NO_NUMBER, NO_PHONE, NOT_ENABLED, NOT_INITIATED, No, TOO_MANY,
};
use crate::host::{Instant, Refusal};
use crate::login::{Accepted, Method};
use crate::rights::{Authority, Denial};
use crate::settings::{DAY, HOUR, MINUTE};
use crate::simulation::{ALICE, BOB, START, STEP, Simulation, WRONG, alice, app_code, bob, once};
use crate::support::{Done, MoveIn, MovedIn, State};

const PHONE: &str = "+12025550123";
const OTHER: &str = "+12025550124";

fn refused(text: &str) -> No {
    No::Refused(Refusal::new(text))
}

fn wrong() -> No {
    No::Rejected(Refusal::new(INVALID))
}

fn too_many(until: Instant) -> No {
    No::Rejected(Refusal {
        text: TOO_MANY.into(),
        retry_at: Some(until),
    })
}

fn by(method: Method) -> Accepted {
    Accepted {
        method,
        backup_codes_left: None,
    }
}

fn login_token(id: &str, now: Instant) -> Authority {
    Authority::LoginToken(once(id, now))
}

fn enrolment_token(id: &str, now: Instant) -> Authority {
    Authority::EnrolmentToken(once(id, now))
}

// Enrolment.

#[test]
fn a_verified_phone_is_the_users_factor_with_ten_backup_codes() {
    let mut host = Simulation::new(&[]);
    alice().enable(&mut host, PHONE).expect("sent");
    let state = alice().state(&mut host);
    assert_eq!(state.pending_phone, Some(START + 30 * MINUTE));
    assert_eq!(state.phone, None);
    let code = host.code(ALICE, PHONE, "enrolment");
    let enabled = alice().verify_enable(&mut host, &code).expect("enabled");
    let codes = host.codes(enabled.backup_codes.expect("a set"));
    assert_eq!(codes.len(), 10);
    let want = State {
        phone: Some(PHONE.into()),
        backup_codes: Some(10),
        ..State::default()
    };
    assert_eq!(alice().state(&mut host), want);
    assert!(host.notices.is_empty(), "enrolling sends none");
    assert_eq!(
        host.kinds(),
        ["enrolment.sent", "factor.enabled", "backup-codes.issued"]
    );
}

#[test]
fn what_is_no_number_is_refused_in_the_words_of_the_contract() {
    let mut host = Simulation::new(&[]);
    let refusal = alice().enable(&mut host, "12345");
    assert_eq!(refusal, Err(refused(NO_NUMBER)));
    assert_eq!(NO_NUMBER, "Invalid phone number");
}

#[test]
fn without_a_pending_phone_there_is_nothing_to_verify() {
    let mut host = Simulation::new(&[]);
    let nothing = Err(refused(NOT_INITIATED));
    assert_eq!(alice().verify_enable(&mut host, "123456"), nothing);
    assert_eq!(NOT_INITIATED, "2FA setup not initiated");
    alice().enable(&mut host, PHONE).expect("sent");
    host.now += 30 * MINUTE;
    assert_eq!(alice().verify_enable(&mut host, "123456"), nothing);
    assert_eq!(alice().verify_app(&mut host, "123456"), nothing);
}

#[test]
fn a_second_wish_takes_the_place_of_the_first() {
    let mut host = Simulation::new(&[]);
    alice().enable(&mut host, PHONE).expect("sent");
    let first = host.code(ALICE, PHONE, "enrolment");
    alice().enable(&mut host, OTHER).expect("sent");
    let rejected = alice().verify_enable(&mut host, &first);
    assert!(matches!(rejected, Err(No::Rejected(_))), "{rejected:?}");
    let second = host.code(ALICE, OTHER, "enrolment");
    alice().verify_enable(&mut host, &second).expect("enabled");
    assert_eq!(alice().state(&mut host).phone.as_deref(), Some(OTHER));
}

#[test]
fn r18_a_change_of_number_keeps_the_old_one_until_the_new_one_is_verified() {
    let mut host = Simulation::new(&[]);
    let before = alice().with_phone(&mut host, PHONE);
    let proof = once("proof", host.now);
    let changing = alice().with_proof(&proof);
    changing.enable(&mut host, OTHER).expect("sent");
    assert_eq!(alice().state(&mut host).phone.as_deref(), Some(PHONE));
    // The code for the old number verifies nothing else.
    host.now += MINUTE;
    alice().send(&mut host).expect("sent");
    let login = host.code(ALICE, PHONE, "login");
    assert!(alice().verify_enable(&mut host, &login).is_err());
    let code = host.code(ALICE, OTHER, "enrolment");
    let enabled = alice().verify_enable(&mut host, &code).expect("enabled");
    let after = host.codes(enabled.backup_codes.expect("a new set"));
    assert_eq!(alice().state(&mut host).phone.as_deref(), Some(OTHER));
    let [notice] = &host.notices[..] else {
        panic!("one notice: {:?}", host.notices);
    };
    assert_eq!(
        (notice.to.as_str(), notice.template),
        (PHONE, "notice-number")
    );
    assert!(host.kinds().contains(&"factor.changed"));
    // R25: the old set is dead.
    assert_eq!(alice().log_in(&mut host, &before[0]), Err(wrong()));
    assert!(alice().log_in(&mut host, &after[0]).is_ok());
}

#[test]
fn r18_a_code_for_one_user_verifies_nothing_for_another() {
    let mut host = Simulation::new(&[]);
    alice().enable(&mut host, PHONE).expect("sent");
    bob().enable(&mut host, PHONE).expect("sent");
    let code = host.code(ALICE, PHONE, "enrolment");
    assert!(bob().verify_enable(&mut host, &code).is_err());
    assert!(alice().verify_enable(&mut host, &code).is_ok());
}

#[test]
fn codes_for_enrolling_are_limited_for_each_user_whatever_the_numbers() {
    let mut host = Simulation::new(&[]);
    for number in ["+1201", "+1202", "+1203"] {
        alice().enable(&mut host, number).expect("sent");
        host.now += 1_000;
    }
    let wait = No::Refused(Refusal {
        text: "Too many attempts. Please wait 1 minute.".into(),
        retry_at: Some(START + MINUTE),
    });
    assert_eq!(alice().enable(&mut host, "+1204"), Err(wait));
    host.now = START + MINUTE;
    alice().enable(&mut host, "+1204").expect("sent");
    for _ in 0..6 {
        host.now += MINUTE;
        alice().enable(&mut host, PHONE).expect("sent");
    }
    host.now += MINUTE;
    let Err(No::Refused(refusal)) = alice().enable(&mut host, PHONE) else {
        panic!("refused");
    };
    assert_eq!(refusal.text, "Too many attempts. Please wait 1 hour.");
    assert_eq!(refusal.retry_at, Some(START + HOUR));
}

#[test]
fn r29_codes_for_enrolling_are_limited_for_each_number_whoever_asks() {
    let mut host = Simulation::new(&[("enrolments-per-number-per-day", "2")]);
    alice().enable(&mut host, PHONE).expect("sent");
    alice().enable(&mut host, PHONE).expect("sent");
    let Err(No::Refused(refusal)) = bob().enable(&mut host, PHONE) else {
        panic!("refused");
    };
    assert_eq!(refusal.text, "Too many attempts. Please wait 1 day.");
    assert_eq!(refusal.retry_at, Some(START + DAY));
    bob().enable(&mut host, OTHER).expect("sent");
}

#[test]
fn an_app_is_confirmed_by_its_first_code() {
    let mut host = Simulation::new(&[]);
    let secret = alice().enroll_app(&mut host).expect("pending");
    let state = alice().state(&mut host);
    assert_eq!(
        (state.app, state.pending_app),
        (false, Some(START + 30 * MINUTE))
    );
    assert_eq!(alice().verify_app(&mut host, WRONG), Err(wrong()));
    let code = host.app_code(secret);
    let spaced = format!("{} {}", &code[..3], &code[3..]);
    let enabled = alice().verify_app(&mut host, &spaced).expect("enabled");
    assert_eq!(enabled.factor, Factor::Totp);
    let codes = host.codes(enabled.backup_codes.expect("the first set"));
    assert_eq!(codes.len(), 10);
    // R27: the step is used up.
    assert_eq!(alice().log_in(&mut host, &code), Err(wrong()));
    host.now += STEP;
    let code = host.app_code(secret);
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Totp)));
}

#[test]
fn an_app_beside_a_phone_leaves_the_backup_codes_as_they_are() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    let proven = alice().with_proof(&once("proof", START));
    let secret = proven.enroll_app(&mut host).expect("pending");
    let code = host.app_code(secret);
    let enabled = alice().verify_app(&mut host, &code).expect("enabled");
    assert_eq!(enabled.backup_codes, None);
    assert!(alice().log_in(&mut host, &codes[0]).is_ok());
}

#[test]
fn a_new_app_does_not_end_the_old_one_before_it_has_shown_that_it_works() {
    let mut host = Simulation::new(&[]);
    let old = alice().with_app(&mut host);
    let proven = alice().with_proof(&once("proof", host.now));
    let new = proven.enroll_app(&mut host).expect("pending");
    let code = host.app_code(old);
    assert!(alice().log_in(&mut host, &code).is_ok());
    let code = host.app_code(new);
    alice().verify_app(&mut host, &code).expect("enabled");
    host.now += STEP;
    let code = host.app_code(old);
    assert_eq!(alice().log_in(&mut host, &code), Err(wrong()));
}

// Rights.

#[test]
fn r23_with_a_factor_every_change_needs_a_proof_that_is_used_once() {
    type Change = fn(&crate::simulation::Caller, &mut Simulation) -> Result<(), No>;
    let changes: [(&str, Change); 6] = [
        ("enable", |who, host| who.enable(host, OTHER).map(|_| ())),
        ("app", |who, host| who.enroll_app(host).map(|_| ())),
        ("codes", |who, host| who.new_codes(host).map(|_| ())),
        ("disable", |who, host| who.disable(host, None)),
        ("disable sms", |who, host| {
            who.disable(host, Some(Factor::Sms))
        }),
        ("disable totp", |who, host| {
            who.disable(host, Some(Factor::Totp))
        }),
    ];
    for (name, change) in changes {
        let mut host = Simulation::new(&[]);
        alice().with_phone(&mut host, PHONE);
        let proven = alice().with_proof(&once("first", host.now));
        let secret = proven.enroll_app(&mut host).expect("pending");
        let code = host.app_code(secret);
        alice().verify_app(&mut host, &code).expect("enabled");
        let required = Err(No::Denied(Denial::ProofRequired));
        let (before, trail) = (host.rows.clone(), host.trail.len());
        assert_eq!(change(&alice(), &mut host), required, "{name}");
        assert_eq!(change(&proven, &mut host), required, "{name}: a used one");
        let over = alice().with_proof(&once("over", host.now - 5 * MINUTE));
        assert_eq!(
            change(&over, &mut host),
            required,
            "{name}: one that is over"
        );
        assert_eq!(host.rows, before, "nothing was written");
        assert_eq!(host.trail.len(), trail);
        host.now += MINUTE;
        let fresh = alice().with_proof(&once("fresh", host.now));
        assert_eq!(change(&fresh, &mut host), Ok(()), "{name}");
        if !name.starts_with("disable") {
            assert_eq!(change(&fresh, &mut host), required, "{name}: once");
        }
    }
}

#[test]
fn r23_a_factor_that_became_active_meanwhile_asks_the_pending_one_for_a_proof() {
    let mut host = Simulation::new(&[]);
    alice()
        .enable(&mut host, PHONE)
        .expect("sent, nothing to prove yet");
    let code = host.code(ALICE, PHONE, "enrolment");
    alice().with_app(&mut host);
    let required = Err(No::Denied(Denial::ProofRequired));
    assert_eq!(alice().verify_enable(&mut host, &code), required);
    let proven = alice().with_proof(&once("proof", host.now));
    assert!(proven.verify_enable(&mut host, &code).is_ok());
}

#[test]
fn r23_a_proof_by_what_the_user_no_longer_has_changes_nothing() {
    type Change = fn(&crate::simulation::Caller, &mut Simulation);
    let changes: [(&str, Change); 4] = [
        ("another number", |who, host| {
            who.enable(host, OTHER).expect("sent");
            let code = host.code(ALICE, OTHER, "enrolment");
            who.verify_enable(host, &code).expect("enabled");
        }),
        ("another app", |who, host| {
            let secret = who.enroll_app(host).expect("pending");
            let code = host.app_code(secret);
            who.verify_app(host, &code).expect("enabled");
        }),
        ("no phone", |who, host| {
            who.disable(host, Some(Factor::Sms)).expect("gone");
        }),
        ("other codes", |who, host| {
            who.new_codes(host).expect("a new set");
        }),
    ];
    for (name, change) in changes {
        let mut host = Simulation::new(&[]);
        alice().with_phone(&mut host, PHONE);
        alice()
            .with_proof(&once("beside", host.now))
            .with_app(&mut host);
        host.now += MINUTE;
        // Whoever has the old phone, the old app or an old code has logged in just now.
        let thief = alice().with_proof(&once("thief", host.now));
        host.now += 1_000;
        change(&alice().with_proof(&once("own", host.now)), &mut host);
        let required = Err(No::Denied(Denial::ProofRequired));
        assert_eq!(thief.disable(&mut host, None), required, "{name}");
        let required = Err(No::Denied(Denial::ProofRequired));
        assert_eq!(thief.enable(&mut host, "+1201"), required, "{name}");
        // The one that the change itself was worth is of the same second.
        let own = alice().with_proof(&once("next", host.now));
        own.disable(&mut host, None).expect("gone");
    }
}

#[test]
fn r23_what_a_thief_has_asked_for_is_not_confirmed_after_the_owners_change() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    let thief = alice().with_proof(&once("thief", host.now));
    let secret = thief.enroll_app(&mut host).expect("pending");
    host.now += MINUTE;
    let owner = alice().with_proof(&once("owner", host.now));
    owner.enable(&mut host, OTHER).expect("sent");
    let code = host.code(ALICE, OTHER, "enrolment");
    alice().verify_enable(&mut host, &code).expect("enabled");
    let code = host.app_code(secret);
    let required = Err(No::Denied(Denial::ProofRequired));
    assert_eq!(alice().verify_app(&mut host, &code), required);
    // The same for a number, and an app in the place of another.
    let mut host = Simulation::new(&[]);
    alice().with_app(&mut host);
    let thief = alice().with_proof(&once("thief", host.now));
    thief.enable(&mut host, OTHER).expect("sent");
    host.now += MINUTE;
    let owner = alice().with_proof(&once("owner", host.now));
    owner.with_app(&mut host);
    let code = host.code(ALICE, OTHER, "enrolment");
    let required = Err(No::Denied(Denial::ProofRequired));
    assert_eq!(alice().verify_enable(&mut host, &code), required);
}

#[test]
fn secrets_for_apps_are_limited_for_each_user() {
    let mut host = Simulation::new(&[]);
    let holder = alice().by(enrolment_token("token", START));
    for _ in 0..3 {
        holder.enroll_app(&mut host).expect("pending");
        host.now += 1_000;
    }
    let (trail, rows) = (host.trail.len(), host.rows.clone());
    let wait = No::Refused(Refusal {
        text: "Too many attempts. Please wait 1 minute.".into(),
        retry_at: Some(START + MINUTE),
    });
    assert_eq!(holder.enroll_app(&mut host), Err(wait));
    assert_eq!(host.trail.len(), trail, "or it would grow without end");
    assert_eq!(host.rows, rows);
    host.now = START + MINUTE;
    let secret = holder.enroll_app(&mut host).expect("pending");
    let code = host.app_code(secret);
    holder.verify_app(&mut host, &code).expect("enabled");
}

#[test]
fn an_enrolment_token_serves_a_user_without_a_factor_until_the_first_is_active() {
    let mut host = Simulation::new(&[]);
    let holder = alice().by(enrolment_token("token", START));
    holder.with_phone(&mut host, PHONE);
    let used = No::Denied(Denial::TokenUsed);
    assert_eq!(holder.enable(&mut host, OTHER), Err(used.clone()));
    assert_eq!(holder.enroll_app(&mut host), Err(used));
    // Another one, and another with a proof.
    let other = alice().by(enrolment_token("other", START));
    let required = No::Denied(Denial::ProofRequired);
    assert_eq!(other.enable(&mut host, OTHER), Err(required));
    let proven = other.with_proof(&once("proof", START));
    let not_permitted = No::Denied(Denial::NotPermitted);
    assert_eq!(proven.enable(&mut host, OTHER), Err(not_permitted));
    // Nor one that is over.
    let over = bob().by(enrolment_token("over", START - 5 * MINUTE));
    let used = No::Denied(Denial::TokenUsed);
    assert_eq!(over.enable(&mut host, OTHER), Err(used));
}

#[test]
fn r21_a_login_token_does_one_login_and_nothing_else() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    let holder = alice().by(login_token("token", START));
    let proven = holder.with_proof(&once("proof", START));
    let no = No::Denied(Denial::NotPermitted);
    assert_eq!(proven.enable(&mut host, OTHER), Err(no.clone()));
    assert_eq!(proven.verify_enable(&mut host, WRONG), Err(no.clone()));
    assert_eq!(proven.enroll_app(&mut host), Err(no.clone()));
    assert_eq!(proven.verify_app(&mut host, WRONG), Err(no.clone()));
    assert_eq!(proven.new_codes(&mut host), Err(no.clone()));
    assert_eq!(proven.disable(&mut host, None), Err(no.clone()));
    holder.send(&mut host).expect("sent");
    assert_eq!(holder.log_in(&mut host, WRONG), Err(wrong()));
    let code = host.code(ALICE, PHONE, "login");
    assert_eq!(holder.log_in(&mut host, &code), Ok(by(Method::Sms)));
    let used = No::Denied(Denial::TokenUsed);
    assert_eq!(holder.send(&mut host), Err(used.clone()));
    assert_eq!(holder.log_in(&mut host, &code), Err(used));
    let enrolling = alice().by(enrolment_token("enrol", START));
    assert_eq!(enrolling.log_in(&mut host, WRONG), Err(no.clone()));
    assert_eq!(enrolling.send(&mut host), Err(no));
    let over = alice().by(login_token("over", START - 5 * MINUTE));
    let used = No::Denied(Denial::TokenUsed);
    assert_eq!(over.log_in(&mut host, WRONG), Err(used));
}

#[test]
fn a_name_that_cannot_be_part_of_a_key_decides_nothing() {
    let mut host = Simulation::new(&[]);
    for id in ["", "a/b", "ä", &"t".repeat(65)] {
        let authority = login_token(id, START);
        let context = crate::user::Context {
            service: "default".into(),
        };
        let sent = crate::login::send(&mut host, &context, ALICE, &authority, None);
        assert!(sent.is_err(), "{id:?}");
        let context = crate::user::Context { service: id.into() };
        let sent = crate::login::send(&mut host, &context, ALICE, &Authority::Application, None);
        assert!(sent.is_err(), "{id:?}");
    }
}

// Login.

#[test]
fn a_code_that_was_sent_logs_in_once() {
    let mut host = Simulation::new(&[]);
    assert_eq!(alice().send(&mut host), Err(refused(NOT_ENABLED)));
    assert_eq!(alice().log_in(&mut host, WRONG), Err(refused(NOT_ENABLED)));
    assert_eq!(NOT_ENABLED, "2FA not enabled");
    alice().with_phone(&mut host, PHONE);
    let sent = alice().send(&mut host).expect("sent");
    assert_eq!(sent.expires, START + 10 * MINUTE);
    let code = host.code(ALICE, PHONE, "login");
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Sms)));
    // R16.
    assert_eq!(alice().log_in(&mut host, &code), Err(wrong()));
}

#[test]
fn r17_a_code_is_good_for_its_own_purpose_and_user_only() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    bob().with_phone(&mut host, PHONE);
    let proven = alice().with_proof(&once("proof", START));
    proven.enable(&mut host, OTHER).expect("sent");
    alice().send(&mut host).expect("sent");
    let (login, enrolment) = (
        host.code(ALICE, PHONE, "login"),
        host.code(ALICE, OTHER, "enrolment"),
    );
    assert_eq!(bob().log_in(&mut host, &login), Err(wrong()));
    assert_eq!(alice().log_in(&mut host, &enrolment), Err(wrong()));
    assert!(alice().verify_enable(&mut host, &login).is_err());
    assert!(alice().log_in(&mut host, &login).is_ok());
}

#[test]
fn a_user_with_an_app_alone_is_sent_nothing() {
    let mut host = Simulation::new(&[]);
    alice().with_app(&mut host);
    assert_eq!(alice().send(&mut host), Err(refused(NO_PHONE)));
}

#[test]
fn the_shape_of_a_code_says_what_is_tried() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    let mut tried = |code: &str| {
        host.work.clear();
        alice().log_in(&mut host, code).expect_err("wrong");
        host.now += DAY;
        host.work.clone()
    };
    for code in ["123456", "123 456", "1234-56", "", "12345", "1234567"] {
        assert_eq!(tried(code), ["sms", "totp"], "{code:?}");
    }
    let long = "9".repeat(65);
    // Eight digits can be a backup code of another system.
    for code in [
        "A1B2C3D4",
        "12345678",
        "12345a",
        "１２３４５６",
        &"a".repeat(64),
    ] {
        assert_eq!(tried(code), ["backup"], "{code:?}");
    }
    assert_eq!(tried(&long), ["sms", "totp"], "no code is so long");
    let mut host = Simulation::new(&[("digits", "8")]);
    alice().with_phone(&mut host, PHONE);
    host.work.clear();
    alice().log_in(&mut host, "12345678").expect_err("wrong");
    assert_eq!(host.work, ["sms", "totp"], "a message's code has eight");
}

#[test]
fn r38_a_check_does_the_same_whichever_factors_there_are() {
    let enrol: [fn(&mut Simulation); 3] = [
        |host| {
            alice().with_phone(host, PHONE);
        },
        |host| {
            alice().with_app(host);
        },
        |host| {
            alice().with_phone(host, PHONE);
            let proven = alice().with_proof(&once("proof", host.now));
            let secret = proven.enroll_app(host).expect("pending");
            let code = host.app_code(secret);
            alice().verify_app(host, &code).expect("enabled");
            host.now += STEP;
        },
    ];
    let mut seen = Vec::new();
    for enrol in enrol {
        let mut host = Simulation::new(&[]);
        enrol(&mut host);
        host.work.clear();
        let mut answers = Vec::new();
        for code in ["000000", "no backup code"] {
            for _ in 0..7 {
                let answer = alice().log_in(&mut host, code);
                let Err(No::Rejected(refusal)) = answer else {
                    panic!("{answer:?}");
                };
                answers.push((refusal.text, refusal.retry_at.map(|at| at - host.now)));
            }
        }
        seen.push((host.work, answers));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

// Caps.

/// Logs in wrongly as often as the cap bears and once more; returns the answers.
fn misses(host: &mut Simulation, code: &str, method: Method, times: usize) -> Vec<No> {
    let mut miss = |_| {
        alice()
            .log_in_by(host, code, Some(method))
            .expect_err("wrong")
    };
    (0..times).map(&mut miss).collect()
}

#[test]
fn r07_every_kind_of_code_has_a_cap_after_which_the_right_one_is_refused_too() {
    for method in [Method::Sms, Method::Totp, Method::Backup] {
        let mut host = Simulation::new(&[]);
        let codes = alice().with_phone(&mut host, PHONE);
        let proven = alice().with_proof(&once("proof", host.now));
        let secret = proven.enroll_app(&mut host).expect("pending");
        let code = host.app_code(secret);
        alice().verify_app(&mut host, &code).expect("enabled");
        host.now += STEP;
        let sent = alice().send(&mut host).expect("sent");
        let until = match method {
            Method::Sms => sent.expires,
            Method::Totp | Method::Backup => host.now + 15 * MINUTE,
        };
        let answers = misses(&mut host, WRONG, method, 6);
        assert_eq!(answers[..5], vec![wrong(); 5], "{method:?}");
        assert_eq!(answers[5], too_many(until), "{method:?}");
        // R11: right and wrong are answered alike.
        let right = match method {
            Method::Sms => host.code(ALICE, PHONE, "login"),
            Method::Totp => host.app_code(secret),
            Method::Backup => codes[0].clone(),
        };
        let answer = alice().log_in_by(&mut host, &right, Some(method));
        assert_eq!(answer, Err(too_many(until)), "{method:?}");
    }
}

#[test]
fn r13_a_lock_of_one_kind_leaves_the_others_usable_and_ends() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    let proven = alice().with_proof(&once("proof", host.now));
    let secret = proven.enroll_app(&mut host).expect("pending");
    let code = host.app_code(secret);
    alice().verify_app(&mut host, &code).expect("enabled");
    host.now += STEP;
    misses(&mut host, WRONG, Method::Backup, 6);
    let locks = alice().state(&mut host).locks;
    assert_eq!(locks, [(Method::Backup, host.now + 15 * MINUTE)]);
    let code = host.app_code(secret);
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Totp)));
    misses(&mut host, WRONG, Method::Totp, 6);
    alice().send(&mut host).expect("sent");
    let code = host.code(ALICE, PHONE, "login");
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Sms)));
    host.now += 15 * MINUTE;
    assert!(alice().state(&mut host).locks.is_empty());
    assert!(alice().log_in(&mut host, &codes[0]).is_ok());
    let code = host.app_code(secret);
    assert!(alice().log_in(&mut host, &code).is_ok());
}

#[test]
fn a_lock_of_messages_is_told_once_it_was_met_until_the_next_message() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    let sent = alice().send(&mut host).expect("sent");
    misses(&mut host, WRONG, Method::Sms, 6);
    let locked = vec![(Method::Sms, sent.expires)];
    assert_eq!(alice().state(&mut host).locks, locked);
    // Another factor does not end it.
    assert!(alice().log_in(&mut host, &codes[0]).is_ok());
    assert_eq!(alice().state(&mut host).locks, locked);
    alice().send(&mut host).expect("sent");
    assert!(alice().state(&mut host).locks.is_empty());
}

#[test]
fn digits_that_are_wrong_for_both_kinds_are_too_many_when_both_are_locked() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    let sent = alice().send(&mut host).expect("sent");
    for _ in 0..5 {
        assert_eq!(alice().log_in(&mut host, WRONG), Err(wrong()));
    }
    // The earlier end of the two.
    assert_eq!(
        alice().log_in(&mut host, WRONG),
        Err(too_many(sent.expires))
    );
    let trail = host.trail.len();
    alice().log_in(&mut host, WRONG).expect_err("locked");
    assert_eq!(host.trail.len(), trail, "no row for what was not looked at");
    assert_eq!(
        host.events.last().map(|fact| fact.kind),
        Some("login.rejected")
    );
}

#[test]
fn a_lock_is_told_where_there_is_nothing_else_to_compare_with() {
    // An app alone.
    let mut host = Simulation::new(&[]);
    let secret = alice().with_app(&mut host);
    let until = host.now + 15 * MINUTE;
    for _ in 0..5 {
        assert_eq!(alice().log_in(&mut host, WRONG), Err(wrong()));
    }
    assert_eq!(alice().log_in(&mut host, WRONG), Err(too_many(until)));
    let code = host.app_code(secret);
    assert_eq!(alice().log_in(&mut host, &code), Err(too_many(until)));
    // A phone that nothing was sent to, and then something.
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    for _ in 0..5 {
        assert_eq!(alice().log_in(&mut host, WRONG), Err(wrong()));
    }
    let until = host.now + 15 * MINUTE;
    assert_eq!(alice().log_in(&mut host, WRONG), Err(too_many(until)));
    alice().send(&mut host).expect("sent");
    assert_eq!(alice().log_in(&mut host, WRONG), Err(wrong()));
    let code = host.code(ALICE, PHONE, "login");
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Sms)));
}

#[test]
fn where_nothing_is_pending_the_application_is_told_so_whatever_the_user_has() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    let nothing = || Err(refused(NOT_INITIATED));
    assert_eq!(alice().verify_enable(&mut host, WRONG), nothing());
    assert_eq!(alice().verify_app(&mut host, WRONG), nothing());
}

#[test]
fn r12_a_day_bears_thirty_misses_and_success_gives_them_back() {
    for method in [Method::Totp, Method::Backup] {
        let mut host = Simulation::new(&[]);
        let codes = alice().with_phone(&mut host, PHONE);
        for _ in 0..6 {
            let answers = misses(&mut host, WRONG, method, 5);
            assert_eq!(answers, vec![wrong(); 5], "{method:?}");
            host.now += 15 * MINUTE;
        }
        let locked = misses(&mut host, WRONG, method, 1);
        assert_eq!(locked, [too_many(START + DAY)], "{method:?}");
        host.now = START + DAY;
        let five = misses(&mut host, WRONG, method, 5);
        assert_eq!(five, vec![wrong(); 5], "{method:?}");
        if method == Method::Backup {
            host.now += 15 * MINUTE;
            assert!(alice().log_in(&mut host, &codes[0]).is_ok());
            assert_eq!(misses(&mut host, WRONG, method, 5), vec![wrong(); 5]);
        }
    }
}

// Backup codes.

#[test]
fn r25_a_backup_code_is_good_once_and_a_new_set_ends_the_old_one() {
    let mut host = Simulation::new(&[]);
    let old = alice().with_phone(&mut host, PHONE);
    let accepted = Accepted {
        method: Method::Backup,
        backup_codes_left: Some(9),
    };
    assert_eq!(alice().log_in(&mut host, &old[3]), Ok(accepted));
    assert_eq!(alice().log_in(&mut host, &old[3]), Err(wrong()));
    let last = host.trail.last().map(|(_, fact)| fact.attributes.clone());
    let reason = last.and_then(|attributes| attributes.last().cloned());
    assert_eq!(reason, Some(("reason", "used".into())));
    // Another's set is another's.
    bob().with_phone(&mut host, OTHER);
    assert_eq!(bob().log_in(&mut host, &old[4]), Err(wrong()));
    let proven = alice().with_proof(&once("proof", host.now));
    let new = proven.new_codes(&mut host).expect("a new set");
    assert_eq!(alice().state(&mut host).backup_codes, Some(10));
    assert_eq!(alice().log_in(&mut host, &old[5]), Err(wrong()));
    assert!(alice().log_in(&mut host, &new[5]).is_ok());
}

#[test]
fn r26_every_use_of_a_backup_code_is_told_with_how_many_are_left() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    alice().log_in(&mut host, &codes[0]).expect("accepted");
    alice().log_in(&mut host, &codes[1]).expect("accepted");
    let told: Vec<_> = host
        .notices
        .iter()
        .map(|notice| (notice.to.as_str(), notice.template, &notice.variables[..]))
        .collect();
    let left = |left: &str| vec![("left", left.to_owned())];
    assert_eq!(
        told,
        [
            (PHONE, "notice-backup-code", &left("9")[..]),
            (PHONE, "notice-backup-code", &left("8")[..])
        ]
    );
    assert!(host.notices[0].text.contains("{left}"));
    let used = host
        .trail
        .iter()
        .filter(|(_, fact)| fact.kind == "backup-code.used");
    assert_eq!(used.count(), 2);
}

#[test]
fn without_a_factor_there_are_no_backup_codes() {
    let mut host = Simulation::new(&[]);
    assert_eq!(alice().new_codes(&mut host), Err(refused(NOT_ENABLED)));
}

// Notices.

#[test]
fn r14_repeated_failures_of_all_kinds_are_told_once_an_hour_and_lock_nothing() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    misses(&mut host, WRONG, Method::Totp, 2);
    misses(&mut host, WRONG, Method::Backup, 2);
    assert!(host.notices.is_empty());
    alice().send(&mut host).expect("sent");
    misses(&mut host, WRONG, Method::Sms, 3);
    let [notice] = &host.notices[..] else {
        panic!("one notice: {:?}", host.notices);
    };
    assert_eq!(notice.template, "notice-failures");
    assert_eq!(notice.deadline, START + DAY);
    let repeated: Vec<_> = host
        .trail
        .iter()
        .filter(|(_, fact)| fact.kind == "failures.repeated")
        .collect();
    assert_eq!(repeated.len(), 1);
    host.now += 30 * MINUTE;
    misses(&mut host, WRONG, Method::Totp, 3);
    assert_eq!(host.notices.len(), 1, "within the hour");
    host.now = START + HOUR;
    misses(&mut host, WRONG, Method::Backup, 2);
    assert_eq!(host.notices.len(), 2);
    assert!(
        alice().log_in(&mut host, &codes[0]).is_ok(),
        "nothing is locked"
    );
    // Success ends the count.
    let told = host.notices.len();
    host.now += 2 * HOUR;
    misses(&mut host, WRONG, Method::Totp, 4);
    assert_eq!(host.notices.len(), told);
}

#[test]
fn an_operator_may_have_texts_of_their_own_or_none() {
    let mut host = Simulation::new(&[
        ("notice-backup-code", "noch {left}"),
        ("notice-disabled", ""),
    ]);
    let codes = alice().with_phone(&mut host, PHONE);
    alice().log_in(&mut host, &codes[0]).expect("accepted");
    assert_eq!(host.notices[0].text, "noch {left}");
    let proven = alice().with_proof(&once("proof", host.now));
    proven.disable(&mut host, None).expect("gone");
    assert_eq!(host.notices.len(), 1);
}

// Removing.

#[test]
fn the_backup_codes_go_with_the_last_factor() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    let proven = alice().with_proof(&once("p1", host.now));
    let secret = proven.enroll_app(&mut host).expect("pending");
    let code = host.app_code(secret);
    alice().verify_app(&mut host, &code).expect("enabled");
    let proven = alice().with_proof(&once("p2", host.now));
    proven.disable(&mut host, Some(Factor::Sms)).expect("gone");
    assert_eq!(
        host.notices.last().map(|notice| notice.to.as_str()),
        Some(PHONE)
    );
    let state = alice().state(&mut host);
    assert_eq!(
        (state.phone, state.app, state.backup_codes),
        (None, true, Some(10))
    );
    assert!(alice().log_in(&mut host, &codes[0]).is_ok());
    let proven = alice().with_proof(&once("p3", host.now));
    let nothing = proven.disable(&mut host, Some(Factor::Sms));
    assert_eq!(nothing, Err(refused(NO_PHONE)));
    proven
        .disable(&mut host, Some(Factor::Totp))
        .expect("gone, with the same proof");
    assert_eq!(alice().state(&mut host), State::default());
    assert_eq!(
        alice().log_in(&mut host, &codes[1]),
        Err(refused(NOT_ENABLED))
    );
    assert_eq!(alice().disable(&mut host, None), Err(refused(NOT_ENABLED)));
}

#[test]
fn a_factor_that_is_not_there_is_named_when_it_is_to_go() {
    let mut host = Simulation::new(&[]);
    alice().with_phone(&mut host, PHONE);
    let proven = alice().with_proof(&once("p1", host.now));
    let nothing = proven.disable(&mut host, Some(Factor::Totp));
    assert_eq!(nothing, Err(refused(NO_APP)));
    assert_eq!(NO_APP, "No authenticator app is enrolled");
    proven.disable(&mut host, None).expect("the same proof");
    for factor in [None, Some(Factor::Sms), Some(Factor::Totp)] {
        let nothing = proven.disable(&mut host, factor);
        assert_eq!(nothing, Err(refused(NOT_ENABLED)));
    }
}

#[test]
fn r43_nothing_of_a_user_who_was_reset_or_deleted_comes_back() {
    for delete in [false, true] {
        let mut host = Simulation::new(&[]);
        let codes = alice().with_phone(&mut host, PHONE);
        let proven = alice().with_proof(&once("proof", host.now));
        let secret = proven.enroll_app(&mut host).expect("pending");
        let code = host.app_code(secret);
        alice().verify_app(&mut host, &code).expect("enabled");
        host.now += STEP;
        let done = match delete {
            true => alice().delete(&mut host),
            false => alice().reset(&mut host),
        };
        assert_eq!(done, Done::Done);
        assert_eq!(alice().state(&mut host), State::default());
        assert_eq!(
            host.notices.len(),
            usize::from(!delete),
            "support tells nobody of a deletion"
        );
        if delete {
            assert!(!host.rows.keys().any(|key| key.starts_with("user/")));
            assert_eq!(alice().delete(&mut host), Done::Absent);
        }
        host.now += MINUTE;
        alice().with_phone(&mut host, OTHER);
        let code = host.app_code(secret);
        assert_eq!(alice().log_in(&mut host, &code), Err(wrong()));
        assert_eq!(alice().log_in(&mut host, &codes[0]), Err(wrong()));
    }
}

// Support.

#[test]
fn support_ends_every_lock() {
    let mut host = Simulation::new(&[]);
    assert_eq!(alice().unlock(&mut host), Done::Absent);
    assert_eq!(alice().reset(&mut host), Done::Absent);
    assert_eq!(alice().delete(&mut host), Done::Absent);
    let codes = alice().with_phone(&mut host, PHONE);
    alice().send(&mut host).expect("sent");
    for method in [Method::Sms, Method::Totp, Method::Backup] {
        let answers = misses(&mut host, WRONG, method, 6);
        assert!(matches!(&answers[5], No::Rejected(refusal) if refusal.text == TOO_MANY));
    }
    assert_eq!(alice().unlock(&mut host), Done::Done);
    assert!(alice().state(&mut host).locks.is_empty());
    assert!(alice().log_in(&mut host, &codes[0]).is_ok());
    alice().send(&mut host).expect("sent");
    let code = host.code(ALICE, PHONE, "login");
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Sms)));
    assert!(host.kinds().contains(&"user.unlocked"));
}

#[test]
fn a_user_of_another_system_moves_in_once() {
    let mut host = Simulation::new(&[]);
    host.made = vec![
        crate::simulation::Made::App(400),
        crate::simulation::Made::Codes(vec!["A1B2C3D4".into(), "12345678".into()]),
    ];
    let request = MoveIn {
        phone: Some(PHONE),
        app: Some(1),
        backup_codes: Some(2),
    };
    let none = MoveIn {
        backup_codes: Some(2),
        ..MoveIn::default()
    };
    for (phone, why) in [
        ("+1202x", "Invalid phone number: it has an extension"),
        (
            "12345",
            "Invalid phone number: add the country code, for example +1",
        ),
        ("+1202a", NO_NUMBER),
        ("+18005550100", "This kind of number cannot receive codes"),
    ] {
        let bad = MoveIn {
            phone: Some(phone),
            ..request
        };
        assert_eq!(
            alice().move_in(&mut host, &bad),
            MovedIn::Refused(Refusal::new(why))
        );
    }
    assert!(matches!(
        alice().move_in(&mut host, &none),
        MovedIn::Refused(_)
    ));
    assert_eq!(
        alice().state(&mut host),
        State::default(),
        "nothing was changed"
    );
    assert_eq!(alice().move_in(&mut host, &request), MovedIn::Done);
    assert_eq!(alice().move_in(&mut host, &request), MovedIn::Present);
    assert_eq!(host.kinds(), ["user.moved-in"]);
    let code = app_code(400, host.now / STEP);
    assert_eq!(alice().log_in(&mut host, &code), Ok(by(Method::Totp)));
    for code in ["A1B2C3D4", "12345678"] {
        let accepted = alice().log_in(&mut host, code).expect(code);
        assert_eq!(accepted.method, Method::Backup);
    }
    assert_eq!(alice().state(&mut host).phone.as_deref(), Some(PHONE));
    // What a change needs does not differ.
    let required = Err(No::Denied(Denial::ProofRequired));
    assert_eq!(alice().enable(&mut host, OTHER), required);
}

// The trail.

#[test]
fn what_there_is_nothing_to_compare_with_leaves_an_event_and_no_record() {
    let mut host = Simulation::new(&[]);
    alice().enable(&mut host, PHONE).expect("sent");
    host.now += 10 * MINUTE;
    let trail = host.trail.len();
    for _ in 0..9 {
        let answer = alice().verify_enable(&mut host, WRONG);
        assert!(matches!(answer, Err(No::Rejected(_))), "{answer:?}");
    }
    assert_eq!(host.trail.len(), trail, "the code has ended");
    alice().with_phone(&mut host, PHONE);
    let (trail, rows) = (host.trail.len(), host.rows.clone());
    for _ in 0..9 {
        let answer = alice().log_in_by(&mut host, WRONG, Some(Method::Sms));
        assert_eq!(answer, Err(wrong()), "none was sent");
    }
    assert_eq!(host.trail.len(), trail);
    assert_eq!(host.rows, rows);
    let last = host
        .events
        .last()
        .map(|fact| (fact.kind, fact.attributes.clone()));
    let attributes = vec![("method", "sms".into()), ("reason", "absent".into())];
    assert_eq!(last, Some(("login.rejected", attributes)));
    // One that was used is gone as well.
    alice().send(&mut host).expect("sent");
    let code = host.code(ALICE, PHONE, "login");
    alice().log_in(&mut host, &code).expect("accepted");
    let trail = host.trail.len();
    for _ in 0..9 {
        alice()
            .log_in_by(&mut host, WRONG, Some(Method::Sms))
            .expect_err("wrong");
    }
    assert_eq!(host.trail.len(), trail);
    assert!(host.notices.is_empty(), "nothing was guessed at");
}

#[test]
fn r45_every_step_is_in_the_trail_without_a_secret() {
    let mut host = Simulation::new(&[]);
    let codes = alice().with_phone(&mut host, PHONE);
    let proven = alice().with_proof(&once("p1", host.now));
    let secret = proven.enroll_app(&mut host).expect("pending");
    let code = host.app_code(secret);
    alice().verify_app(&mut host, WRONG).expect_err("wrong");
    alice().verify_app(&mut host, &code).expect("enabled");
    alice().send(&mut host).expect("sent");
    misses(&mut host, WRONG, Method::Totp, 5);
    alice().log_in(&mut host, &codes[0]).expect("accepted");
    let proven = alice().with_proof(&once("p2", host.now));
    proven.new_codes(&mut host).expect("a new set");
    alice().unlock(&mut host);
    let proven = alice().with_proof(&once("p3", host.now));
    proven.disable(&mut host, None).expect("gone");
    let kinds = host.kinds();
    for kind in [
        "enrolment.sent",
        "factor.enabled",
        "backup-codes.issued",
        "enrolment.begun",
        "enrolment.failed",
        "login.sent",
        "login.failed",
        "login.locked",
        "failures.repeated",
        "login.succeeded",
        "backup-code.used",
        "user.unlocked",
        "factor.disabled",
    ] {
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
    }
    let said = format!("{:?}", host.trail);
    for secret in [PHONE, &codes[0], &code, &host.code(ALICE, PHONE, "login")] {
        assert!(!said.contains(secret), "{secret}");
    }
    assert!(host.trail.iter().all(|(user, _)| user == ALICE));
    assert!(!said.contains(BOB));
}

#[test]
fn a_damaged_row_decides_nothing() {
    let mut host = Simulation::new(&[]);
    let key = format!("user/default/{ALICE}");
    host.rows.insert(key, (vec![0xff], None));
    let context = crate::user::Context {
        service: "default".into(),
    };
    let state = crate::support::status(&mut host, &context, ALICE);
    assert_eq!(state, Err(crate::Undecided::Row));
    host.rows.clear();
    host.settings = vec![("backup-codes".into(), "0".into())];
    let state = crate::support::status(&mut host, &context, ALICE);
    assert!(matches!(state, Err(crate::Undecided::Setting { .. })));
}
