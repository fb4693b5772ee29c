//! The rules, one by one.

use crate::Undecided;
use crate::host::{Duration, Event};
use crate::rules::{self, Context, Refusal, STOPPED, SendRequest, SendVerdict, VerifyVerdict};
use crate::simulation::{Call, START, Simulation};

const SECOND: Duration = 1_000;
const MINUTE: Duration = 60 * SECOND;
const HOUR: Duration = 60 * MINUTE;
const DAY: Duration = 24 * HOUR;

const PHONE: &str = "+12025550123";
const ROW: &str = "p/default/00000000000000000000012025550123";
/// Indexes of addresses, as the host hands them in.
const ADDRESS: &str = "5d1f0f0c2f3e4b7a8d9c6b5a49382716";
const OTHER_ADDRESS: &str = "0b6f2a1d9c8e7f605142330415263748";
/// Never made by the simulation within a test.
const WRONG: &str = "000000";

fn public() -> Call<'static> {
    Call::default()
}

fn wait(text: &str, retry_at: u64) -> Refusal {
    Refusal {
        text: text.into(),
        field: None,
        retry_at: Some(retry_at),
    }
}

fn invalid() -> Result<(), Refusal> {
    Err(Refusal {
        text: "Invalid or expired code".into(),
        field: None,
        retry_at: None,
    })
}

fn too_many(retry_at: u64) -> Result<(), Refusal> {
    Err(wait("Too many attempts", retry_at))
}

/// Sends a code and misses all of its tries.
fn spend_a_challenge(host: &mut Simulation) {
    public().expires_of_send(host, PHONE);
    for _ in 0..5 {
        assert_eq!(public().answer_to(host, PHONE, WRONG), invalid());
    }
}

// What is sent.

#[test]
fn a_first_code_is_made_sent_and_reported() {
    let mut host = Simulation::new(&[]);
    let verdict = public().send(&mut host, PHONE);
    let message = format!("{:032x}", 1);
    let sent = SendVerdict::Sent {
        message: message.clone(),
        expires: START + 10 * MINUTE,
    };
    assert_eq!(verdict, Ok(sent));

    let [job] = &host.jobs[..] else {
        panic!("{:?}", host.jobs)
    };
    assert_eq!(job.to, PHONE);
    assert_eq!(
        job.text,
        "Your verification code is: {code}\n\nValid for {minutes} minutes."
    );
    assert_eq!(job.purpose, "verification");
    assert_eq!(job.challenge, ROW);
    assert_eq!(job.deadline, START + 10 * MINUTE);

    let spec = &host.challenges[ROW].spec;
    assert_eq!((spec.digits, spec.tries), (6, 5));
    assert!(!spec.replaces);
    assert_eq!(spec.purpose, "verification");
    assert_eq!(spec.subject, "00000000000000000000012025550123");

    let event = Event {
        kind: "verification.sent",
        message: Some(message),
        country: Some("US".into()),
        attributes: vec![
            ("purpose", "verification".into()),
            ("reused", "false".into()),
        ],
    };
    assert_eq!(host.events, [event]);
}

#[test]
fn settings_decide_digits_validity_tries_and_text() {
    let mut host = Simulation::new(&[
        ("digits", "8"),
        ("valid-seconds", "120"),
        ("tries", "2"),
        ("text", "{code} is yours"),
    ]);
    let expires = public().expires_of_send(&mut host, PHONE);
    assert_eq!(expires, START + 2 * MINUTE);
    assert_eq!(host.last_code().len(), 8);
    assert_eq!(host.jobs[0].text, "{code} is yours");
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    let code = host.last_code();
    assert_eq!(
        public().answer_to(&mut host, PHONE, &code),
        too_many(expires)
    );
}

#[test]
fn a_text_for_a_purpose_and_a_language_takes_the_place_of_the_general_one() {
    let mut host = Simulation::new(&[("text", "{code}"), ("domain", "example.com")]);
    host.texts
        .insert(("verification", "de"), "Ihr Code: {code}");
    host.texts.insert(("login", ""), "Log in with {code}");
    host.texts.insert(("login", "de"), "Anmelden mit {code}");
    let in_german = |call: Call<'static>| Call {
        locale: Some("de"),
        ..call
    };
    let login = || Call::for_user("u", "login");
    for (call, text) in [
        (public(), "{code}"),
        (in_german(public()), "Ihr Code: {code}"),
        (login(), "Log in with {code}"),
        (in_german(login()), "Anmelden mit {code}"),
        (Call::for_user("u", "enrolment"), "{code}"),
    ] {
        call.expires_of_send(&mut host, PHONE);
        let job = host.jobs.last().expect("sent");
        assert_eq!(job.text, format!("{text}\n\n@example.com #{{code}}"));
        assert_eq!(job.locale.as_deref(), call.locale);
        // Another minute, so that no limit is reached.
        host.now += MINUTE;
    }
}

#[test]
fn a_malformed_setting_decides_nothing_and_is_named() {
    let mut host = Simulation::new(&[("digits", "5")]);
    let error = public().send(&mut host, PHONE).expect_err("malformed");
    assert_eq!(
        error.to_string(),
        "setting `digits` must be a whole number from 6 to 10"
    );
    assert_eq!(public().verify(&mut host, PHONE, WRONG), Err(error));
    assert!(host.events.is_empty() && host.written.is_empty());
}

#[test]
fn a_number_of_no_country_is_reported_without_one() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, "+8821612345678");
    assert_eq!(host.events[0].country, None);
}

// Which numbers.

#[track_caller]
fn check_phone(phone: &str, text: &str) {
    let refusal = Refusal {
        text: text.into(),
        field: Some("phoneNumber"),
        retry_at: None,
    };
    let mut host = Simulation::new(&[]);
    assert_eq!(
        public().send(&mut host, phone),
        Ok(SendVerdict::Refused(refusal.clone()))
    );
    assert_eq!(
        public().verify(&mut host, phone, WRONG),
        Ok(VerifyVerdict::Refused(refusal))
    );
    assert!(host.events.is_empty() && host.jobs.is_empty() && host.checked.is_empty());
}

#[test]
fn what_is_no_number_is_refused_with_its_field() {
    check_phone("hello", "Invalid phone number");
    check_phone("too-short", "Invalid phone number");
    check_phone("too-long", "Invalid phone number");
    check_phone("invalid", "Invalid phone number");
    check_phone(
        "no-country",
        "Invalid phone number: add the country code, for example +1",
    );
    check_phone("extension", "Invalid phone number: it has an extension");
}

#[test]
fn a_kind_of_number_that_cannot_receive_codes_is_refused_and_reported() {
    for kind in [
        "premium-rate",
        "shared-cost",
        "toll-free",
        "pager",
        "uan",
        "voicemail",
    ] {
        let mut host = Simulation::new(&[]);
        let refusal = public().refusal_of_send(&mut host, &format!("{kind}+12025550123"));
        assert_eq!(refusal.text, "This kind of number cannot receive codes");
        assert_eq!(refusal.field, Some("phoneNumber"));
        assert_eq!(host.event_kinds(), ["verification.refused"]);
        assert_eq!(host.last_reason(), "number-kind");
        assert!(host.written.is_empty() && host.jobs.is_empty());
    }
}

#[test]
fn every_other_kind_of_number_is_sent_to() {
    for kind in [
        "",
        "fixed-line",
        "fixed-line-or-mobile",
        "personal",
        "voip",
        "unknown",
    ] {
        let mut host = Simulation::new(&[]);
        public().expires_of_send(&mut host, &format!("{kind}+15005550006"));
    }
}

#[test]
fn spellings_of_a_number_share_windows_and_codes() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, "+1 202 555-0123");
    let code = host.last_code();
    assert_eq!(
        public().verify(&mut host, "+1 (202) 555 0123", &code),
        Ok(VerifyVerdict::Accepted {
            phone: PHONE.into(),
            country: "US".into()
        })
    );
}

// Send windows.

#[test]
fn the_fourth_send_in_a_minute_waits_until_the_first_has_left() {
    let mut host = Simulation::new(&[]);
    for _ in 0..3 {
        public().expires_of_send(&mut host, PHONE);
        host.now += SECOND;
    }
    let refusal = public().refusal_of_send(&mut host, PHONE);
    assert_eq!(
        refusal,
        wait("Too many attempts. Please wait 1 minute.", START + MINUTE)
    );
    assert_eq!(host.last_reason(), "send-limit");
    host.now = START + MINUTE - 1;
    public().refusal_of_send(&mut host, PHONE);
    host.now = START + MINUTE;
    public().expires_of_send(&mut host, PHONE);
}

#[test]
fn the_eleventh_send_in_an_hour_waits_an_hour() {
    let mut host = Simulation::new(&[]);
    for _ in 0..10 {
        public().expires_of_send(&mut host, PHONE);
        host.now += MINUTE;
    }
    assert_eq!(
        public().refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 hour.", START + HOUR)
    );
}

#[test]
fn the_51st_send_in_a_day_waits_a_day() {
    let mut host = Simulation::new(&[]);
    for _ in 0..50 {
        public().expires_of_send(&mut host, PHONE);
        host.now += 10 * MINUTE;
    }
    assert_eq!(
        public().refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 day.", START + DAY)
    );
}

#[test]
fn of_several_full_windows_the_one_that_frees_last_is_told() {
    let mut host = Simulation::new(&[("sends-per-hour", "3")]);
    for _ in 0..3 {
        public().expires_of_send(&mut host, PHONE);
    }
    assert_eq!(
        public().refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 hour.", START + HOUR)
    );
}

#[test]
fn a_refused_send_counts_nowhere() {
    let mut host = Simulation::new(&[]);
    for _ in 0..3 {
        public().expires_of_send(&mut host, PHONE);
    }
    for _ in 0..100 {
        public().refusal_of_send(&mut host, PHONE);
    }
    assert_eq!(host.written.len(), 3);
    host.now += MINUTE;
    public().expires_of_send(&mut host, PHONE);
}

#[test]
fn phones_do_not_share_windows() {
    let mut host = Simulation::new(&[]);
    for _ in 0..3 {
        public().expires_of_send(&mut host, PHONE);
    }
    public().expires_of_send(&mut host, "+12025550124");
}

#[test]
fn a_row_disappears_when_its_newest_entry_has_left_the_longest_window() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, PHONE);
    assert_eq!(host.rows[ROW].1, START + DAY);
    host.now += MINUTE;
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    assert_eq!(host.rows[ROW].1, START + MINUTE + DAY);
}

#[test]
fn after_the_clock_was_set_back_a_phone_is_not_locked_out_until_it_has_caught_up() {
    let mut host = Simulation::new(&[]);
    for _ in 0..3 {
        public().expires_of_send(&mut host, PHONE);
    }
    let set_back = START - 365 * DAY;
    host.now = set_back;
    host.challenges.clear();
    assert_eq!(
        public().refusal_of_send(&mut host, PHONE),
        wait(
            "Too many attempts. Please wait 1 minute.",
            set_back + MINUTE
        )
    );
    host.now += MINUTE;
    public().expires_of_send(&mut host, PHONE);
}

#[test]
fn a_damaged_row_decides_nothing() {
    let mut host = Simulation::new(&[]);
    host.rows.insert(ROW.into(), (vec![9], START + DAY));
    assert_eq!(public().send(&mut host, PHONE), Err(Undecided::Row));
    assert_eq!(
        public().verify(&mut host, PHONE, WRONG),
        Err(Undecided::Row)
    );
    assert!(host.checked.is_empty());
}

/// Who may ask for codes must not learn without end who has answered STOP.
#[test]
fn a_code_for_who_has_answered_stop_is_refused_and_counts_as_a_send() {
    let mut host = Simulation::new(&[]);
    host.stopped = true;
    let refused = Refusal {
        text: STOPPED.into(),
        field: Some("phoneNumber"),
        retry_at: None,
    };
    for _ in 0..3 {
        assert_eq!(public().refusal_of_send(&mut host, PHONE), refused);
        assert_eq!(host.last_reason(), "stopped");
    }
    let limit = wait("Too many attempts. Please wait 1 minute.", START + MINUTE);
    assert_eq!(public().refusal_of_send(&mut host, PHONE), limit);
    host.stopped = false;
    assert_eq!(public().refusal_of_send(&mut host, PHONE), limit);
    assert!(host.jobs.is_empty());
    host.now = START + MINUTE;
    public().expires_of_send(&mut host, PHONE);
}

// Client addresses.

#[test]
fn an_address_sends_ten_times_a_minute_to_whatever_phones() {
    let mut host = Simulation::new(&[]);
    let call = Call::from_address(ADDRESS);
    for n in 0..10 {
        call.expires_of_send(&mut host, &format!("+120255501{n:0>2}"));
    }
    assert_eq!(
        call.refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 minute.", START + MINUTE)
    );
    assert_eq!(host.last_reason(), "address-limit");
    assert!(!host.rows.contains_key(ROW));
    Call::from_address(OTHER_ADDRESS).expires_of_send(&mut host, PHONE);
    public().expires_of_send(&mut host, PHONE);
    assert_eq!(
        host.taken.keys().next().map(String::as_str),
        Some(format!("address/default/{OTHER_ADDRESS}/hour").as_str())
    );
}

#[test]
fn an_address_sends_sixty_times_an_hour() {
    let mut host = Simulation::new(&[]);
    let call = Call::from_address(ADDRESS);
    for n in 0..60 {
        call.expires_of_send(&mut host, &format!("+120255501{n:0>2}"));
        host.now += 10 * SECOND;
    }
    assert_eq!(
        call.refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 hour.", START + HOUR)
    );
}

#[test]
fn a_send_that_its_phone_refuses_takes_nothing_from_the_address() {
    let mut host = Simulation::new(&[]);
    let call = Call::from_address(ADDRESS);
    for _ in 0..3 {
        call.expires_of_send(&mut host, PHONE);
    }
    call.refusal_of_send(&mut host, PHONE);
    let hour = format!("address/default/{ADDRESS}/hour");
    assert_eq!(host.taken[&hour].len(), 3);
}

// Which code.

#[test]
fn with_five_minutes_left_the_same_code_goes_out_again() {
    let mut host = Simulation::new(&[]);
    let expires = public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    host.now += 5 * MINUTE;
    assert_eq!(public().expires_of_send(&mut host, PHONE), expires);
    assert_eq!(host.last_code(), code);
    assert_eq!(host.jobs[1].deadline, expires);
    assert_eq!(host.challenges[ROW].tried, 1);
    let reused = ("reused", "true".into());
    assert!(host.events[2].attributes.contains(&reused));
}

#[test]
fn with_less_left_a_new_code_joins_the_old_one() {
    let mut host = Simulation::new(&[]);
    let first_expires = public().expires_of_send(&mut host, PHONE);
    let first = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    host.now += 5 * MINUTE + 1;
    let expires = public().expires_of_send(&mut host, PHONE);
    assert_eq!(expires, host.now + 10 * MINUTE);
    assert_ne!(host.last_code(), first);
    assert_eq!(host.challenges[ROW].tried, 1);
    assert!(host.challenges[ROW].spec.replaces);

    host.now = first_expires - 1;
    assert_eq!(public().answer_to(&mut host, PHONE, &first), Ok(()));
}

#[test]
fn an_old_code_ends_at_its_own_end() {
    let mut host = Simulation::new(&[]);
    let first_expires = public().expires_of_send(&mut host, PHONE);
    let first = host.last_code();
    host.now += 6 * MINUTE;
    public().expires_of_send(&mut host, PHONE);
    host.now = first_expires;
    assert_eq!(public().answer_to(&mut host, PHONE, &first), invalid());
    let second = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &second), Ok(()));
}

#[test]
fn after_a_lock_a_new_code_starts_at_no_tries_and_the_old_one_stays_dead() {
    let mut host = Simulation::new(&[]);
    spend_a_challenge(&mut host);
    let locked = host.last_code();
    public().expires_of_send(&mut host, PHONE);
    assert!(!host.challenges[ROW].spec.replaces);
    assert_eq!(host.challenges[ROW].tried, 0);
    assert_eq!(public().answer_to(&mut host, PHONE, &locked), invalid());
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
}

#[test]
fn after_use_a_new_code_is_made() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, PHONE);
    let used = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &used), Ok(()));
    public().expires_of_send(&mut host, PHONE);
    assert_ne!(host.last_code(), used);
    assert_eq!(public().answer_to(&mut host, PHONE, &used), invalid());
}

// Checks.

#[test]
fn a_code_is_accepted_once() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
    assert_eq!(public().answer_to(&mut host, PHONE, &code), invalid());
    assert_eq!(
        host.event_kinds(),
        [
            "verification.sent",
            "verification.approved",
            "verification.rejected"
        ]
    );
}

#[test]
fn an_accepted_code_is_told_with_the_message_that_brought_it() {
    let mut host = Simulation::new(&[("purposes", "verification,other")]);
    let accept = |host: &mut Simulation, call: Call| {
        let code = host.last_code();
        assert_eq!(call.answer_to(host, PHONE, &code), Ok(()));
        host.events.last().expect("an event").message.clone()
    };
    public().expires_of_send(&mut host, PHONE);
    public().expires_of_send(&mut host, PHONE);
    let second = Some(format!("{:032x}", 2));
    assert_eq!(accept(&mut host, public()), second, "the last of both");
    host.now += 10 * MINUTE;
    public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    Call::for_purpose("other").expires_of_send(&mut host, PHONE);
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
    let approved = host.events.last().expect("an event");
    assert_eq!(approved.message, None, "another's message is not named");
    let fourth = Some(format!("{:032x}", 4));
    assert_eq!(accept(&mut host, Call::for_purpose("other")), fourth);
}

#[test]
fn an_expired_code_is_not_accepted() {
    let mut host = Simulation::new(&[]);
    host.now = START;
    let expires = public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    host.now = expires;
    assert_eq!(public().answer_to(&mut host, PHONE, &code), invalid());
}

#[test]
fn blanks_and_hyphens_in_a_code_are_forgiven() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    let (left, right) = code.split_at(3);
    let typed = format!(" {left}-{right}\u{a0}\t");
    assert_eq!(public().answer_to(&mut host, PHONE, &typed), Ok(()));
}

#[test]
fn what_no_code_can_be_is_wrong_and_counts() {
    let mut host = Simulation::new(&[]);
    public().expires_of_send(&mut host, PHONE);
    for typed in ["", " - ", "abc", &"1".repeat(64), &"1".repeat(1_000)] {
        assert_eq!(public().answer_to(&mut host, PHONE, typed), invalid());
    }
    assert_eq!(host.challenges[ROW].tried, 5);
}

#[test]
fn from_the_sixth_try_on_right_and_wrong_are_answered_alike() {
    let mut host = Simulation::new(&[]);
    let expires = START + 10 * MINUTE;
    spend_a_challenge(&mut host);
    let code = host.last_code();
    for _ in 0..10 {
        assert_eq!(
            public().answer_to(&mut host, PHONE, &code),
            too_many(expires)
        );
        assert_eq!(
            public().answer_to(&mut host, PHONE, WRONG),
            too_many(expires)
        );
    }
    assert_eq!(host.last_reason(), "locked");
}

#[test]
fn an_answer_to_a_locked_challenge_costs_no_budget() {
    let mut host = Simulation::new(&[("misses-per-hour", "6")]);
    spend_a_challenge(&mut host);
    for _ in 0..10 {
        public()
            .answer_to(&mut host, PHONE, WRONG)
            .expect_err("locked");
    }
    public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
}

// The guessing budget.

#[test]
fn fifteen_misses_in_an_hour_end_all_guessing_and_sending() {
    let mut host = Simulation::new(&[]);
    for _ in 0..3 {
        spend_a_challenge(&mut host);
        host.now += MINUTE;
    }
    let checked = host.checked.len();
    let code = host.last_code();
    let room_at = START + HOUR;
    assert_eq!(
        public().answer_to(&mut host, PHONE, &code),
        too_many(room_at)
    );
    assert_eq!(host.last_reason(), "guessing-budget");
    assert_eq!(host.checked.len(), checked);
    assert_eq!(
        public().refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 hour.", room_at)
    );
    assert_eq!(host.last_reason(), "guessing-budget");
    host.now = room_at;
    public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
}

#[test]
fn fifty_misses_in_a_day_end_all_guessing_and_sending() {
    let mut host = Simulation::new(&[]);
    for _ in 0..10 {
        spend_a_challenge(&mut host);
        host.now += HOUR;
    }
    assert_eq!(
        public().answer_to(&mut host, PHONE, WRONG),
        too_many(START + DAY)
    );
    assert_eq!(
        public().refusal_of_send(&mut host, PHONE),
        wait("Too many attempts. Please wait 1 day.", START + DAY)
    );
}

#[test]
fn success_clears_the_misses_and_keeps_the_sends() {
    let mut host = Simulation::new(&[("sends-per-hour", "2"), ("misses-per-hour", "2")]);
    public().expires_of_send(&mut host, PHONE);
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
    public().expires_of_send(&mut host, PHONE);
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, &code), Ok(()));
    public().refusal_of_send(&mut host, PHONE);
}

#[test]
fn a_miss_without_a_challenge_costs_no_budget_but_the_same_work() {
    let mut with = Simulation::new(&[]);
    public().expires_of_send(&mut with, PHONE);
    with.written.clear();
    with.events.clear();
    let mut without = Simulation::new(&[]);
    assert_eq!(public().answer_to(&mut with, PHONE, WRONG), invalid());
    assert_eq!(public().answer_to(&mut without, PHONE, WRONG), invalid());
    assert_eq!(with.events, without.events);
    assert_eq!(with.written, without.written);
    assert_eq!(with.checked, without.checked);
    for _ in 0..100 {
        assert_eq!(public().answer_to(&mut without, PHONE, WRONG), invalid());
    }
    public().expires_of_send(&mut without, PHONE);
}

// Purposes and users.

#[test]
fn a_purpose_that_is_not_configured_is_refused_with_its_field() {
    for purpose in ["login", "enrolment", "other", ""] {
        let mut host = Simulation::new(&[]);
        let call = Call::for_purpose(purpose);
        let refusal = call.refusal_of_send(&mut host, PHONE);
        assert_eq!(refusal.field, Some("purpose"));
        assert_eq!(
            call.verify(&mut host, PHONE, WRONG),
            Ok(VerifyVerdict::Refused(refusal))
        );
        assert!(host.events.is_empty());
    }
}

#[test]
fn public_purposes_have_codes_of_their_own_and_one_set_of_windows() {
    let mut host = Simulation::new(&[("purposes", "sign-up,change")]);
    let change = Call::for_purpose("change");
    public().expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(host.jobs[0].purpose, "sign-up");
    assert_eq!(host.jobs[0].challenge, ROW);
    change.expires_of_send(&mut host, PHONE);
    assert_eq!(host.jobs[1].challenge, format!("{ROW}/change"));
    assert_eq!(change.answer_to(&mut host, PHONE, &code), invalid());
    public().expires_of_send(&mut host, PHONE);
    change.refusal_of_send(&mut host, PHONE);
    assert_eq!(host.rows.len(), 1);
}

#[test]
fn public_purposes_share_one_guessing_budget() {
    let mut host = Simulation::new(&[("purposes", "sign-up,change"), ("misses-per-hour", "2")]);
    let change = Call::for_purpose("change");
    public().expires_of_send(&mut host, PHONE);
    change.expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(public().answer_to(&mut host, PHONE, WRONG), invalid());
    assert_eq!(change.answer_to(&mut host, PHONE, WRONG), invalid());
    assert_eq!(
        change.answer_to(&mut host, PHONE, &code),
        too_many(START + HOUR)
    );
}

#[test]
fn a_users_codes_and_limits_are_apart_from_the_public_ones() {
    let mut host = Simulation::new(&[]);
    for _ in 0..3 {
        spend_a_challenge(&mut host);
    }
    public().refusal_of_send(&mut host, PHONE);

    let login = Call::for_user("alice", "login");
    login.expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    let key = "u/default/alice/00000000000000000000012025550123/login";
    assert_eq!(
        host.jobs.last().map(|job| job.challenge.as_str()),
        Some(key)
    );
    assert_eq!(
        host.challenges[key].spec.subject,
        "alice/00000000000000000000012025550123"
    );
    let enrolment = Call::for_user("alice", "enrolment");
    let other = Call::for_user("bob", "login");
    assert_eq!(enrolment.answer_to(&mut host, PHONE, &code), invalid());
    assert_eq!(other.answer_to(&mut host, PHONE, &code), invalid());
    assert_eq!(login.answer_to(&mut host, PHONE, &code), Ok(()));
}

#[test]
fn a_forgiven_user_can_be_sent_a_new_code_at_once() {
    let mut host = Simulation::new(&[]);
    let login = Call::for_user("alice", "login");
    for _ in 0..3 {
        login.expires_of_send(&mut host, PHONE);
        for _ in 0..5 {
            assert_eq!(login.answer_to(&mut host, PHONE, WRONG), invalid());
        }
        host.now += MINUTE;
    }
    login.refusal_of_send(&mut host, PHONE);
    login.forgive(&mut host, PHONE).expect("done");
    login.expires_of_send(&mut host, PHONE);
    let code = host.last_code();
    assert_eq!(login.answer_to(&mut host, PHONE, &code), Ok(()));
    let stranger = Call {
        nested: false,
        ..login
    };
    assert!(stranger.forgive(&mut host, PHONE).is_err());
}

#[test]
fn only_a_component_may_name_a_user() {
    let mut host = Simulation::new(&[]);
    let call = Call {
        nested: false,
        ..Call::for_user("alice", "verification")
    };
    let only = Err(Undecided::Call("only another component may name a user"));
    assert_eq!(call.send(&mut host, PHONE), only);
    assert!(call.verify(&mut host, PHONE, WRONG).is_err());
}

#[test]
fn a_component_that_names_no_user_is_like_anybody() {
    let mut host = Simulation::new(&[]);
    let call = Call {
        nested: true,
        ..Call::default()
    };
    call.expires_of_send(&mut host, PHONE);
    assert_eq!(host.jobs[0].challenge, ROW);
}

#[test]
fn users_are_taken_up_to_their_bounds() {
    let longest = "u".repeat(128);
    let mut host = Simulation::new(&[]);
    Call::for_user(&longest, "login").expires_of_send(&mut host, PHONE);
    Call::for_user("a/b c@ü", "login").expires_of_send(&mut host, PHONE);
    for wrong in ["", &"u".repeat(129), "a\nb", "a\0"] {
        let call = Call::for_user(wrong, "login");
        assert!(call.send(&mut host, PHONE).is_err(), "{wrong:?}");
    }
    for purpose in ["", "a/b", &"p".repeat(65)] {
        let call = Call::for_user("alice", purpose);
        assert!(call.send(&mut host, PHONE).is_err(), "{purpose:?}");
    }
}

#[test]
fn a_service_or_a_key_that_would_not_be_safe_decides_nothing() {
    let send = |service: &str, purpose: &str| {
        let context = Context {
            service: service.into(),
            nested: true,
            client_index: None,
        };
        let request = SendRequest {
            phone: PHONE.into(),
            purpose: Some(purpose.into()),
            locale: None,
            user: Some("u".repeat(128)),
        };
        rules::send(&mut Simulation::new(&[]), &context, &request)
    };
    // `u/`, the service, the user, the index and the purpose with a slash between each: 256 bytes.
    let longest = "s".repeat(64);
    assert!(send(&longest, &"p".repeat(27)).is_ok());
    assert!(send(&longest, &"p".repeat(28)).is_err());
    assert!(send("", "login").is_err());
    assert!(send("a/b", "login").is_err());
}
