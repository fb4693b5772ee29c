//! The steps that a scripted service knows. Part of each such guest; `crate::bindings` is that
//! guest's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bindings::countersign::service::types::{Caller, Context};
use crate::bindings::countersign::service::{codes, events, log, phone, queue, settings, storage};

/// Runs `script`, one step on each line. `nested` calls the otp component with a script of its own,
/// whose steps are separated by `|`; `own` knows the steps that this guest has beside those of all.
pub(crate) fn run(
    context: &Context,
    script: &str,
    nested: &dyn Fn(&str) -> Result<String, String>,
    own: &dyn Fn(&str, &[&str]) -> Option<String>,
) -> Result<String, String> {
    let mut answers: Vec<String> = Vec::new();
    for line in script.lines() {
        let (step, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split(' ').collect();
        let word = |at: usize| words.get(at).copied().unwrap_or("");
        let number = |at: usize| word(at).parse::<u64>().unwrap_or(0);
        let read = |key: &str| {
            let value = storage::get(key)?;
            Some(String::from_utf8_lossy(&value).into_owned())
        };
        match step {
            "get" => answers.push(read(word(0)).unwrap_or_else(|| "-".to_owned())),
            "put" => {
                let expires = words.get(2).map(|_| number(2));
                storage::put(word(0), word(1).as_bytes(), expires);
            }
            "big" => storage::put(word(0), &vec![0; number(1) as usize], None),
            "del" => storage::delete(word(0)),
            "incr" => {
                let n: u64 = read(word(0)).and_then(|n| n.parse().ok()).unwrap_or(0);
                storage::put(word(0), (n + 1).to_string().as_bytes(), None);
            }
            "add" => storage::add(word(0), number(1) as i64, None),
            "sum" => {
                let sum = storage::get(word(0)).and_then(|bytes| bytes.try_into().ok());
                answers.push(sum.map_or(0, i64::from_le_bytes).to_string());
            }
            "take" => answers.push(
                match storage::take(word(0), number(1), number(2), number(3)) {
                    Ok(()) => "taken".to_owned(),
                    Err(_) => "full".to_owned(),
                },
            ),
            "scan" => {
                let range = storage::Range {
                    from: word(0).to_owned(),
                    to: Some(word(1).to_owned()),
                };
                let page = storage::scan(&range, 10, None);
                let keys: Vec<_> = page.entries.into_iter().map(|entry| entry.key).collect();
                answers.push(keys.join(","));
            }
            // What a run must see: otherwise it answers `err`, traps, or never ends.
            "expect" if read(word(0)).as_deref() != Some(word(1)) => {
                return Err("not what was expected".to_owned());
            }
            "must" if read(word(0)).as_deref() != Some(word(1)) => panic!("not what must be"),
            "spin-unless" if read(word(0)).as_deref() != Some(word(1)) => spin(),
            "expect" | "must" | "spin-unless" => {}
            "open" => {
                let challenge = codes::Challenge {
                    purpose: "verification".to_owned(),
                    subject: "somebody".to_owned(),
                    digits: words.get(2).map_or(6, |_| number(2) as u8),
                    valid: 600_000,
                    tries: 5,
                    replaces: word(1) == "replace",
                };
                codes::open(word(0), &challenge);
            }
            "check" => answers.push(match codes::check(word(0), word(1)) {
                codes::Verdict::Accepted(_) => "accepted".to_owned(),
                codes::Verdict::Wrong(left) => format!("wrong, {left} left"),
                codes::Verdict::Locked(_) => "locked".to_owned(),
                codes::Verdict::Absent => "absent".to_owned(),
            }),
            "status" => answers.push(codes::status(word(0)).map_or("-".to_owned(), |status| {
                format!("{:?} {}", status.state, status.tried)
            })),
            "emit" => events::emit(&events::Event {
                kind: word(0).to_owned(),
                message: None,
                country: None,
                attributes: Vec::new(),
            }),
            "send" => {
                let added = queue::enqueue(&queue::Job {
                    channel: "sms".to_owned(),
                    to: "+12025550123".to_owned(),
                    template: "probe".to_owned(),
                    text: if word(0).is_empty() {
                        "hello"
                    } else {
                        "code {code}"
                    }
                    .to_owned(),
                    variables: Vec::new(),
                    locale: None,
                    purpose: "verification".to_owned(),
                    challenge: (!word(0).is_empty()).then(|| word(0).to_owned()),
                    not_before: None,
                    deadline: now() + 600_000,
                    priority: queue::Priority::Normal,
                });
                if let Err(reason) = added {
                    answers.push(format!("{reason:?}"));
                }
            }
            "now" => answers.push(now().to_string()),
            "random" => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).expect("random bytes");
                answers.push(format!("{bytes:?}"));
            }
            "put-random" => {
                let mut bytes = [0; 8];
                getrandom::fill(&mut bytes).expect("random bytes");
                storage::put(word(0), &bytes, None);
            }
            "parse" => answers.push(match phone::parse(rest, None) {
                Ok(number) => number.e164,
                Err(error) => format!("{error:?}"),
            }),
            "settings" => answers.push(settings::all().len().to_string()),
            "text" => {
                let locale = (!word(2).is_empty()).then(|| word(2));
                let text = settings::text(word(0), word(1), locale);
                answers.push(text.unwrap_or_else(|| "-".to_owned()));
            }
            "log" => log::log(log::Level::Info, rest),
            "print" => eprintln!("{rest}"),
            "context" => answers.push(match &context.caller {
                Caller::Anonymous => "anonymous".to_owned(),
                Caller::Key(id) => format!("key {id}"),
                Caller::Token(id) => format!("token {id}"),
                Caller::Operator => "operator".to_owned(),
                Caller::Component(name) => format!("component {name}"),
            }),
            "env" => answers.push(format!(
                "{} {}",
                std::env::vars().count(),
                std::fs::read_dir("/").is_ok()
            )),
            "nested" => match nested(rest) {
                Ok(answer) => answers.push(answer),
                Err(text) => answers.push(format!("err {text}")),
            },
            "err" => return Err(rest.to_owned()),
            "trap" => panic!("{rest}"),
            "spin" => spin(),
            "sleep" => std::thread::sleep(Duration::from_millis(number(0))),
            "grow" => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(vec![1; 1024 * 1024]);
                    std::hint::black_box(&hoard);
                }
            }
            "recurse" => answers.push(recurse(number(0)).to_string()),
            "exit" => std::process::exit(0),
            "huge" => huge(word(0), &"x".repeat(number(1) as usize)),
            "handles" => (0..number(0)).for_each(|_| {
                std::mem::forget(wasip2::clocks::monotonic_clock::subscribe_duration(1));
            }),
            "flood" => (0..number(0)).for_each(|_| {
                log::log(log::Level::Info, &"x".repeat(4_096));
                eprintln!("{}", "y".repeat(4_096));
            }),
            "scan-all" => scan_all(),
            "leak" => {
                let leaked: &'static [u8] = vec![1; 64].leak();
                answers.push(leaked.len().to_string());
            }
            other => match own(other, &words) {
                Some(answer) => answers.push(answer),
                None => panic!("the step `{other}` does not exist"),
            },
        }
    }
    Ok(answers.join("\n"))
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_millis() as u64)
}

/// All of the component's rows, over and over.
fn scan_all() -> ! {
    let range = storage::Range {
        from: "a".to_owned(),
        to: None,
    };
    let mut cursor = None;
    loop {
        cursor = storage::scan(&range, 256, cursor.as_deref()).next;
    }
}

/// Hands `text` to a function of the host.
fn huge(function: &str, text: &str) {
    let challenge = |subject: &str| codes::Challenge {
        purpose: "verification".to_owned(),
        subject: subject.to_owned(),
        digits: 6,
        valid: 600_000,
        tries: 5,
        replaces: false,
    };
    let event = |kind: &str, attribute: &str| events::Event {
        kind: kind.to_owned(),
        message: None,
        country: None,
        attributes: vec![(attribute.to_owned(), attribute.to_owned())],
    };
    let range = |from: &str| storage::Range {
        from: from.to_owned(),
        to: None,
    };
    match function {
        "get" => drop(storage::get(text)),
        "get-many" => drop(storage::get_many(&[text.to_owned()])),
        "put-key" => storage::put(text, b"x", None),
        "put-value" => storage::put("k", text.as_bytes(), None),
        "delete" => storage::delete(text),
        "scan" => drop(storage::scan(&range(text), 10, None)),
        "scan-cursor" => drop(storage::scan(&range("a"), 10, Some(text))),
        "add" => storage::add(text, 1, None),
        "take" => drop(storage::take(text, 1, 2, 1_000)),
        "open-key" => drop(codes::open(text, &challenge("somebody"))),
        "open-subject" => drop(codes::open("k", &challenge(text))),
        "check-key" => drop(codes::check(text, "1")),
        "check-code" => drop(codes::check("k", text)),
        "status" => drop(codes::status(text)),
        "emit-kind" => events::emit(&event(text, "a")),
        "emit-attribute" => events::emit(&event("a.b", text)),
        "parse" => drop(phone::parse(text, None)),
        "parse-region" => drop(phone::parse("1", Some(text))),
        "log" => log::log(log::Level::Info, text),
        other => panic!("the function `{other}` is not known"),
    }
}

fn spin() -> ! {
    let mut n = 0u64;
    loop {
        n = std::hint::black_box(n.wrapping_add(1));
    }
}

fn recurse(n: u64) -> u64 {
    let room = std::hint::black_box([n; 64]);
    if n == 0 {
        0
    } else {
        recurse(n - 1) + room[(n % 64) as usize]
    }
}
