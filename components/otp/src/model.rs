//! Random calls against a model that forgets nothing and knows no rows, keys or encodings.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::host::{Duration, Instant};
use crate::rules::{INVALID, Refusal, TOO_MANY};
use crate::simulation::{Call, Simulation};

const MINUTE: Duration = 60_000;
const HOUR: Duration = 60 * MINUTE;
const DAY: Duration = 24 * HOUR;

const PHONES: [&str; 2] = ["+12025550123", "+12025550124"];
const PURPOSES: [&str; 2] = ["verification", "change"];
const SEND_LIMITS: [(Duration, usize, &str); 3] =
    [(MINUTE, 3, "minute"), (HOUR, 10, "hour"), (DAY, 50, "day")];
const MISS_LIMITS: [(Duration, usize, &str); 2] = [(HOUR, 15, "hour"), (DAY, 50, "day")];

#[derive(Clone, Debug)]
enum Step {
    Send(usize, usize),
    /// The newest code of the phone and purpose.
    VerifyRight(usize, usize),
    /// The code sent so many sends before it.
    VerifyOlder(usize, usize, usize),
    VerifyWrong(usize, usize),
    Advance(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let phone = || 0..PHONES.len();
    // Most steps for one purpose, so that limits are reached.
    let purpose = || prop_oneof![5 => Just(0_usize), 1 => Just(1)];
    prop_oneof![
        6 => (phone(), purpose()).prop_map(|(phone, purpose)| Step::Send(phone, purpose)),
        2 => (phone(), purpose()).prop_map(|(phone, purpose)| Step::VerifyRight(phone, purpose)),
        2 => (phone(), purpose(), 1..4_usize)
            .prop_map(|(phone, purpose, back)| Step::VerifyOlder(phone, purpose, back)),
        14 => (phone(), purpose()).prop_map(|(phone, purpose)| Step::VerifyWrong(phone, purpose)),
        2 => (0..MINUTE).prop_map(Step::Advance),
        2 => (0..10 * MINUTE).prop_map(Step::Advance),
        1 => (0..2 * HOUR).prop_map(Step::Advance),
        1 => prop_oneof![
            Just(MINUTE), Just(5 * MINUTE), Just(10 * MINUTE), Just(HOUR), Just(DAY)
        ].prop_map(Step::Advance),
    ]
}

/// Codes that share one count of tries.
#[derive(Default)]
struct Group {
    /// The code and its end; the last two are good.
    codes: Vec<(String, Instant)>,
    tried: usize,
    used: bool,
}

#[derive(Default)]
struct Phone {
    sends: Vec<Instant>,
    misses: Vec<Instant>,
    groups: [Group; 2],
    /// All that was ever sent, for each purpose.
    sent: [Vec<String>; 2],
}

/// When there is room again in the window that stays full for the longest, found by asking for
/// each entry whether its leaving is enough.
fn wait_for(
    entries: &[Instant],
    limits: &[(Duration, usize, &'static str)],
    now: Instant,
) -> Option<(Instant, &'static str)> {
    let inside = |window: Duration, at: Instant| {
        entries.iter().filter(|&&entry| entry + window > at).count()
    };
    limits
        .iter()
        .filter(|&&(window, max, _)| inside(window, now) >= max)
        .filter_map(|&(window, max, name)| {
            let leaving = entries.iter().map(|entry| entry + window);
            let room_at = leaving.filter(|&at| inside(window, at) < max).min()?;
            Some((room_at, name))
        })
        .max_by_key(|&(room_at, _)| room_at)
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut host = Simulation::new(&[("purposes", "verification,change")]);
    let mut phones: [Phone; 2] = Default::default();
    let mut accepted = BTreeSet::new();
    for step in steps {
        let now = host.now;
        match *step {
            Step::Advance(by) => host.now += by,
            Step::Send(phone, purpose) => {
                let (number, model) = (PHONES[phone], &mut phones[phone]);
                let call = Call::for_purpose(PURPOSES[purpose]);
                let sends = wait_for(&model.sends, &SEND_LIMITS, now);
                let misses = wait_for(&model.misses, &MISS_LIMITS, now);
                if let Some((room_at, window)) = sends.max(misses) {
                    let refusal = Refusal {
                        text: format!("Too many attempts. Please wait 1 {window}."),
                        field: None,
                        retry_at: Some(room_at),
                    };
                    prop_assert_eq!(call.refusal_of_send(&mut host, number), refusal);
                    continue;
                }
                let expires = call.expires_of_send(&mut host, number);
                let code = host.last_code();
                model.sends.push(now);
                model.sent[purpose].push(code.clone());
                let group = &mut model.groups[purpose];
                let open = !group.used && group.tried < 5;
                match group.codes.last().filter(|(_, end)| open && *end > now) {
                    Some((newest, end)) if end - now >= 5 * MINUTE => {
                        prop_assert_eq!((&code, expires), (newest, *end));
                    }
                    live => {
                        if live.is_none() {
                            *group = Group::default();
                        }
                        prop_assert_eq!(expires, now + 10 * MINUTE);
                        prop_assert!(group.codes.iter().all(|(old, _)| *old != code));
                        group.codes.push((code, expires));
                    }
                }
            }
            Step::VerifyRight(phone, purpose) => {
                let code = phones[phone].sent[purpose].last().cloned();
                verify(&mut host, &mut phones, &mut accepted, phone, purpose, code)?;
            }
            Step::VerifyOlder(phone, purpose, back) => {
                let code = phones[phone].sent[purpose].iter().rev().nth(back).cloned();
                verify(&mut host, &mut phones, &mut accepted, phone, purpose, code)?;
            }
            Step::VerifyWrong(phone, purpose) => {
                verify(&mut host, &mut phones, &mut accepted, phone, purpose, None)?;
            }
        }
    }
    for phone in &phones {
        for (window, max, _) in SEND_LIMITS {
            // Every window that holds anything can be moved to begin at an entry.
            for (index, &first) in phone.sends.iter().enumerate() {
                let inside = phone.sends[index..].iter();
                let inside = inside.take_while(|&&send| send < first + window).count();
                prop_assert!(inside <= max, "{inside} sends in {window} ms");
            }
        }
    }
    Ok(())
}

fn verify(
    host: &mut Simulation,
    phones: &mut [Phone; 2],
    accepted: &mut BTreeSet<String>,
    phone: usize,
    purpose: usize,
    code: Option<String>,
) -> Result<(), TestCaseError> {
    let (number, model, now) = (PHONES[phone], &mut phones[phone], host.now);
    let code = code.unwrap_or_else(|| "no code".into());
    let group = &mut model.groups[purpose];
    let newest_end = group.codes.last().map_or(0, |&(_, end)| end);
    let is_live = !group.used && newest_end > now;
    let good = group.codes.iter().rev().take(2);
    let is_right = good.clone().any(|(good, end)| *good == code && *end > now);

    let refusal = |text: &str, retry_at| Refusal {
        text: text.into(),
        field: None,
        retry_at,
    };
    let want = if let Some((room_at, _)) = wait_for(&model.misses, &MISS_LIMITS, now) {
        Err(refusal(TOO_MANY, Some(room_at)))
    } else if !is_live {
        Err(refusal(INVALID, None))
    } else if group.tried == 5 {
        Err(refusal(TOO_MANY, Some(newest_end)))
    } else {
        group.tried += 1;
        if is_right {
            group.used = true;
            model.misses.clear();
            prop_assert!(accepted.insert(code.clone()), "{} accepted twice", code);
            Ok(())
        } else {
            model.misses.push(now);
            Err(refusal(INVALID, None))
        }
    };
    let call = Call::for_purpose(PURPOSES[purpose]);
    prop_assert_eq!(call.answer_to(host, number, &code), want);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_sequence_of_calls_is_answered_as_the_model_says(
        steps in proptest::collection::vec(step(), 1..400)
    ) {
        run(&steps)?;
    }
}
