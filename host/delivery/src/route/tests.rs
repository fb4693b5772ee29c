use countersign_queue::{Attempt, Outcome};
use countersign_types::{Accepted, ErrorClass, ManualClock, UnixMillis};

use super::*;
use crate::BreakerTerms;
use crate::testing::{NOW, notice, refusal, verification};

fn names(providers: &[&str]) -> Vec<String> {
    providers.iter().map(|name| (*name).to_owned()).collect()
}

fn routes(routes: Vec<Route>) -> Routes {
    let clock = Arc::new(ManualClock::new(NOW));
    Routes::new(routes, Health::new(BreakerTerms::default(), clock))
}

fn one_route(providers: &[&str]) -> Routes {
    routes(vec![Route {
        providers: names(providers),
        ..Route::default()
    }])
}

fn open(routes: &Routes, provider: &str, open: bool) {
    let ended = match open {
        true => Err(refusal(ErrorClass::Auth)),
        false => Ok(Accepted::default()),
    };
    routes.health().learn(provider, &ended);
}

/// `job` after `provider` has failed.
fn tried(mut job: Job, provider: &str) -> Job {
    job.counts.tried += 1;
    job.attempts.push(Attempt {
        at: NOW,
        ended: NOW,
        provider: provider.to_owned(),
        outcome: Outcome::Failed(refusal(ErrorClass::Retryable)),
    });
    job
}

#[track_caller]
fn check(routes: &Routes, job: &Job, want: Option<&str>) {
    assert_eq!(routes.turn(job).as_deref(), want);
}

#[test]
fn the_first_route_that_matches_is_taken_and_its_providers_take_turns() {
    let route = |country: Option<&str>, providers: &[&str]| Route {
        country: country.map(str::to_owned),
        providers: names(providers),
        ..Route::default()
    };
    let routes = routes(vec![
        route(Some("IN"), &["c"]),
        route(None, &["a", "b"]),
        route(Some("US"), &["d"]),
    ]);
    let us = notice(NOW);
    let india = Job {
        country: "IN".to_owned(),
        ..us.clone()
    };
    check(&routes, &india, Some("c"));
    check(&routes, &tried(india, "c"), Some("c"));
    check(&routes, &us, Some("a"));
    assert_eq!(routes.after(&us, "a").as_deref(), Some("b"));
    let once = tried(us.clone(), "a");
    check(&routes, &once, Some("b"));
    assert_eq!(routes.after(&once, "b").as_deref(), Some("a"));
    check(&routes, &tried(once, "b"), Some("a"));
    check(&routes, &tried(us.clone(), "gone"), Some("a"));
    check(&self::routes(Vec::new()), &us, None);
}

#[test]
fn a_route_is_found_by_country_line_and_what_the_message_is_for() {
    let to = |country: Option<&str>, line, priority, provider: &str| Route {
        country: country.map(str::to_owned),
        line,
        priority,
        providers: names(&[provider]),
        ..Route::default()
    };
    let routes = routes(vec![
        to(Some("GB"), Some(NumberKind::FixedLine), None, "landlines"),
        to(None, None, Some(Priority::Bulk), "bulk"),
        to(None, Some(NumberKind::Mobile), None, "mobiles"),
        to(None, Some(NumberKind::FixedLineOrMobile), None, "never"),
    ]);
    let check = |country: &str, line, priority, want| {
        let job = Job {
            country: country.to_owned(),
            line,
            priority,
            ..notice(NOW)
        };
        check(&routes, &job, want);
    };
    let (fixed, mobile) = (NumberKind::FixedLine, NumberKind::Mobile);
    check("GB", fixed, Priority::Urgent, Some("landlines"));
    check("GB", fixed, Priority::Bulk, Some("landlines"));
    check("DE", fixed, Priority::Bulk, Some("bulk"));
    check("DE", fixed, Priority::Normal, None);
    check("GB", mobile, Priority::Urgent, Some("mobiles"));
    // All of North America, where nobody can tell.
    let either = NumberKind::FixedLineOrMobile;
    check("US", either, Priority::Urgent, Some("mobiles"));
}

#[test]
fn messages_begin_with_each_provider_by_its_share_and_stay_with_it() {
    let route = Route {
        providers: names(&["a", "b", "c"]),
        shares: vec![70, 0, 30],
        ..Route::default()
    };
    let routes = routes(vec![route]);
    let mut counts = [0; 3];
    for n in 0..10_000u32 {
        let job = Job {
            to: format!("+1202555{:04}", n / 4),
            accepted: UnixMillis(NOW.0 + u64::from(n)),
            ..verification(NOW)
        };
        let first = routes.turn(&job).expect("a provider");
        assert_eq!(
            routes.turn(&job).as_ref(),
            Some(&first),
            "it is the same each time"
        );
        let at = ["a", "b", "c"].iter().position(|name| **name == *first);
        counts[at.expect("known")] += 1;
        // Whoever fails is followed by the others in their order.
        let next = if &*first == "a" { "b" } else { "a" };
        assert_eq!(routes.after(&job, &first).as_deref(), Some(next));
    }
    // Six standard deviations are 275.
    assert!((6_700..=7_300).contains(&counts[0]), "{counts:?}");
    assert_eq!((counts[1], counts[0] + counts[2]), (0, 10_000));
}

#[test]
fn a_breaker_only_reorders_a_route() {
    let routes = one_route(&["a", "b", "c"]);
    let job = verification(NOW);
    open(&routes, "a", true);
    check(&routes, &job, Some("b"));
    assert_eq!(routes.admit(&job).as_deref(), Some("b"));
    // The others have been asked: it is its turn, as it always was.
    let asked = tried(tried(job.clone(), "b"), "c");
    check(&routes, &asked, Some("a"));
    open(&routes, "b", true);
    open(&routes, "c", true);
    check(&routes, &job, Some("a"));
    assert_eq!(routes.admit(&job).as_deref(), Some("a"));
    open(&routes, "c", false);
    check(&routes, &job, Some("c"));
}

/// Whatever breakers do between its tries, a message asks each provider of its route once before it asks
/// one a second time.
#[test]
fn each_pass_over_a_route_asks_everybody_once() {
    const ALL: [&str; 3] = ["a", "b", "c"];
    let routes = one_route(&ALL);
    // Six tries, before each of which any of the three may be open or closed.
    for case in 0..1u32 << 18 {
        // Every 37th, which has all patterns in all places.
        if case % 37 != 0 {
            continue;
        }
        let mut job = verification(NOW);
        for number in 0..6 {
            for (bit, name) in ALL.iter().enumerate() {
                open(&routes, name, (case >> (3 * number + bit as u32)) & 1 == 1);
            }
            let turn = routes.turn(&job).expect("a provider");
            job = tried(job, &turn);
        }
        for pass in job.attempts.chunks(ALL.len()) {
            let mut asked: Vec<_> = pass.iter().map(|one| one.provider.as_str()).collect();
            asked.sort_unstable();
            assert_eq!(asked, ALL, "{case:o}");
        }
    }
}
