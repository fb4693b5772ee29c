use crate::calendar::{DAY, HOUR, Level};
use crate::cells::Status;
use crate::dashboard::Query;
use crate::recount::{Part, Replaced, recount, replace};
use crate::simulation::{Happening, Life, Log, Now, START, Simulation, accept, batch, hours};

/// A log of messages that have each come to their end before the next begins.
fn log_of(lives: &[Life]) -> Log {
    let mut log = Log::default();
    for life in lives {
        let mut now = Now::new();
        accept(life, &mut log);
        life.steps
            .iter()
            .for_each(|step| now.live(life, step, &mut log));
    }
    log
}

fn life(country: &str, steps: &[Happening]) -> Life {
    Life {
        id: 0,
        accepted: START,
        country: Some(country.into()),
        code: true,
        steps: steps.to_vec(),
    }
}

fn sent() -> Happening {
    Happening::Sent("p".into(), 1_000)
}

#[test]
fn a_range_without_messages_is_all_zeros() {
    let mut host = Simulation::new(&[]);
    let report = host.ask(&hours(0, 24)).expect("answered");
    assert_eq!(
        (report.count, report.cost.total, report.unpriced),
        (0, 0, 0)
    );
    assert!(report.timeline.is_empty() && report.by_country.is_empty());
    assert!(report.by_status.is_empty() && report.by_provider.is_empty());
    let nothing = host.ask(&hours(5, 5)).expect("answered");
    assert_eq!(nothing.count, 0);
    assert_eq!(nothing.currency, "USD");
}

#[test]
fn a_late_receipt_counts_where_its_message_was_accepted() {
    let log = log_of(&[life(
        "US",
        &[sent(), Happening::Receipt(Status::Delivered, 2_000)],
    )]);
    let mut host = Simulation::default();
    host.fold_all(&log.0[..2]);
    let before = host.ask(&hours(0, 1)).expect("answered");
    assert_eq!(before.by_status, [(Status::Sent, 1)]);
    host.fold_all(&log.0);
    let after = host.ask(&hours(0, 1)).expect("answered");
    assert_eq!(after.by_status, [(Status::Delivered, 1)]);
    assert_eq!(
        (after.timeline[0].start, after.timeline[0].count.delivered),
        (START - 22 * HOUR, 1)
    );
    let next = host.ask(&hours(1, 1_000)).expect("answered");
    assert_eq!(next.count, 0);
}

#[test]
fn a_price_replaces_its_estimate_and_a_failed_message_has_none() {
    let settings = [("prices/p", "USD US=0.01")];
    let costs = |steps: &[Happening]| {
        let mut host = Simulation::new(&settings);
        host.fold_all(&log_of(&[life("US", steps)]).0);
        let report = host.ask(&hours(0, 1)).expect("answered");
        (report.cost.total, report.cost.estimated, report.unpriced)
    };
    let segments = Happening::Segments(3);
    let priced = Happening::Priced("0.0079", "USD");
    let failed = Happening::Receipt(Status::Failed, 0);
    let arrived = Happening::Receipt(Status::Delivered, 0);
    assert_eq!(costs(&[]), (0, 0, 0));
    assert_eq!(costs(&[sent()]), (10_000, 10_000, 0));
    assert_eq!(costs(&[sent(), segments.clone()]), (30_000, 30_000, 0));
    assert_eq!(costs(&[sent(), segments, priced.clone()]), (7_900, 0, 0));
    assert_eq!(costs(&[sent(), failed.clone()]), (0, 0, 0));
    assert_eq!(
        costs(&[sent(), failed.clone(), arrived]),
        (10_000, 10_000, 0)
    );
    assert_eq!(costs(&[sent(), failed, priced]), (7_900, 0, 0));
    let nowhere = Happening::Sent("q".into(), 0);
    assert_eq!(costs(&[nowhere]), (0, 0, 1));
}

#[test]
fn an_amount_without_a_rate_is_told_and_in_no_sum() {
    let priced = |currency| Happening::Priced("1.5", currency);
    let log = log_of(&[
        life("US", &[sent(), priced("USD")]),
        life("GB", &[sent(), priced("GBP")]),
        life("GB", &[sent(), priced("GBP")]),
    ]);
    let mut host = Simulation::default();
    host.fold_all(&log.0);
    let report = host.ask(&hours(0, 1)).expect("answered");
    assert_eq!(report.cost.total, 1_500_000);
    assert_eq!(report.unconverted, [("GBP".to_owned(), 3_000_000)]);
    assert_eq!(report.by_country[1].cost.total, 0);
}

#[test]
fn the_ten_countries_that_cost_most_are_told() {
    let lives: Vec<_> = (0..12)
        .flat_map(|n| {
            let country = format!("A{}", char::from(b'A' + n));
            vec![life(&country, &[sent()]); usize::from(n) + 1]
        })
        .collect();
    let mut host = Simulation::new(&[("prices/p", "USD *=0.01 AA=5")]);
    host.fold_all(&log_of(&lives).0);
    let report = host.ask(&hours(0, 1)).expect("answered");
    let names: Vec<_> = report.by_country.iter().map(|of| &*of.country).collect();
    assert_eq!(
        names,
        ["AA", "AL", "AK", "AJ", "AI", "AH", "AG", "AF", "AE", "AD"]
    );
    assert_eq!(report.count, 78);
}

#[test]
fn events_of_others_are_passed_by() {
    let mut log = Log::default();
    log.push("message.accepted", Some(START), Some("US"), &[]);
    let mut forged = log.0[0].clone();
    (forged.position, forged.source) = (2, "otp".into());
    log.0.push(forged);
    log.push(
        "message.attempt-failed",
        Some(START),
        Some("US"),
        &[("provider", "p")],
    );
    log.push("message.accepted", None, Some("US"), &[]);
    log.push("verification.rejected", None, Some("US"), &[]);
    let mut host = Simulation::default();
    host.fold_all(&log.0);
    assert_eq!(host.ask(&hours(0, 1)).expect("answered").count, 1);
}

#[test]
fn a_batch_that_begins_elsewhere_is_not_looked_at() {
    let log = log_of(&[life("US", &[sent()])]);
    let mut host = Simulation::default();
    for (from, next) in [(0, 0), (2, 3), (0, 9)] {
        assert_eq!(host.fold(&batch(&log.0, from, next)), 1);
    }
    assert!(host.rows.is_empty());
    assert_eq!(host.fold(&batch(&log.0, 1, 3)), 3);
    assert_eq!(host.fold(&batch(&log.0, 1, 3)), 3);
    assert_eq!(host.ask(&hours(0, 1)).expect("answered").count, 1);
    // The oldest events may be gone.
    assert_eq!(host.fold(&batch(&[], 3, 100)), 100);
    assert_eq!(host.fold(&batch(&[], 0, 0)), 100);
}

#[test]
fn a_batch_about_many_old_hours_is_counted_as_far_as_rows_may_be_changed() {
    let lives: Vec<_> = (0..400u64)
        .map(|n| Life {
            accepted: START + n * 29 * HOUR,
            ..life("US", &[])
        })
        .collect();
    let log = log_of(&lives);
    let mut host = Simulation::default();
    let next = host.fold(&batch(&log.0, 1, 401));
    assert!((50..200).contains(&next), "{next}");
    assert!(host.writes <= 257);
    host.fold_all(&log.0);
    let all = Query {
        interval: Level::Month,
        ..hours(0, 400 * 29)
    };
    assert_eq!(host.ask(&all).expect("answered").count, 400);
}

#[test]
fn an_ordinary_batch_changes_six_rows() {
    let log = log_of(&vec![life("US", &[sent()]); 500]);
    let mut host = Simulation::default();
    assert_eq!(host.fold(&batch(&log.0, 1, 1_001)), 1_001);
    assert_eq!(host.writes, 6);
}

#[test]
fn a_range_is_whole_hours_in_order_and_not_too_long() {
    let mut host = Simulation::default();
    let most = [(Level::Hour, 31), (Level::Day, 732), (Level::Month, 3_660)];
    for (interval, days) in most {
        for (hours_more, is_good) in [(0, true), (1, false)] {
            let query = Query {
                interval,
                ..hours(0, i64::from(days * DAY) + hours_more)
            };
            assert_eq!(host.ask(&query).is_ok(), is_good, "{query:?}");
        }
    }
    assert!(host.ask(&hours(1, 0)).is_err());
    let odd = Query {
        start: START + 1,
        ..hours(0, 1)
    };
    assert!(host.ask(&odd).is_err());
    let nowhere = Query {
        country: Some("usa".into()),
        ..hours(0, 1)
    };
    assert!(host.ask(&nowhere).is_err());
    let late = Query {
        start: u64::MAX / HOUR * HOUR,
        end: u64::MAX / HOUR * HOUR,
        ..hours(0, 1)
    };
    assert!(host.ask(&late).is_err());
}

#[test]
fn a_damaged_row_is_named() {
    let mut host = Simulation::default();
    host.fold_all(&log_of(&[life("US", &[])]).0);
    let key = host
        .rows
        .keys()
        .find(|key| key.starts_with("h/"))
        .expect("a row")
        .clone();
    host.rows.insert(key.clone(), vec![255; 7]);
    let refused = host.ask(&hours(0, 1)).expect_err("damaged");
    assert!(refused.to_string().contains(&key), "{refused}");
}

#[test]
fn an_hour_that_was_counted_wrongly_is_put_right_with_its_day_and_its_month() {
    let right = log_of(&[life("US", &[sent()])]);
    let hour = START / HOUR * HOUR;
    let other = Life {
        accepted: START - HOUR,
        ..life("DE", &[])
    };
    let mut host = Simulation::default();
    host.fold_all(&log_of(&[life("US", &[sent()]), life("FR", &[]), other]).0);
    let mut now = Now::new();
    let mut log = Log::default();
    now.live(&life("US", &[]), &sent(), &mut Log::default());
    now.stands(&life("US", &[]), &mut log);
    assert_eq!(host.recount(hour, &log.0, 9), Replaced::Changed);
    let all = host.ask(&hours(-24, 24)).expect("answered");
    assert_eq!((all.count, all.timeline.len()), (2, 1));
    let month = Query {
        interval: Level::Month,
        country: Some("FR".into()),
        ..hours(-22 - 24 * 30, 2)
    };
    assert_eq!(host.ask(&month).expect("answered").count, 0);
    let mut want = Simulation::default();
    want.fold_all(&right.0);
    let hour_of = |host: &mut Simulation| host.ask(&hours(0, 1)).expect("answered");
    assert_eq!(hour_of(&mut host), hour_of(&mut want));
    assert_eq!(host.recount(hour, &log.0, 9), Replaced::Same);
    assert_eq!(host.recount(hour, &[], 9), Replaced::Changed);
    assert_eq!(hour_of(&mut host).count, 0);
}

#[test]
fn an_hour_is_not_replaced_where_events_were_counted_meanwhile() {
    let log = log_of(&[life("US", &[])]);
    let hour = START / HOUR * HOUR;
    let part = |hour, first| Part {
        hour,
        first,
        events: Vec::new(),
    };
    let mut host = Simulation::default();
    assert!(
        recount(&mut host, &part(hour, false)).is_err(),
        "no first part"
    );
    assert!(replace(&mut host, hour, 1).is_err(), "nothing is there");
    recount(&mut host, &part(hour, true)).expect("counted");
    assert!(recount(&mut host, &part(hour + HOUR, false)).is_err());
    assert!(replace(&mut host, hour + HOUR, 1).is_err(), "another hour");
    host.fold_all(&log.0);
    assert_eq!(replace(&mut host, hour, 1), Ok(Replaced::Moved));
    assert_eq!(host.ask(&hours(0, 1)).expect("answered").count, 1);
    assert_eq!(replace(&mut host, hour, 2), Ok(Replaced::Changed));
    assert_eq!(host.ask(&hours(0, 1)).expect("answered").count, 0);
    assert!(host.rows.keys().all(|key| !key.starts_with("anew")));
    let elsewhere = Part {
        events: log.0.clone(),
        ..part(hour + HOUR, true)
    };
    assert!(recount(&mut host, &elsewhere).is_err());
    assert!(recount(&mut host, &part(hour + 1, true)).is_err());
}
