//! Messages over time: a bar for each step, with the delivered ones in it, and below the share of those.
//!
//! Places are percentages, so that the image fills whatever width there is and its text keeps its size.

use std::collections::BTreeMap;
use std::time::Duration;

use countersign_types::UnixMillis;
use maud::{Markup, html};

use super::bars::{percent, share};
use super::words;
use crate::api::figures::{Interval, Step};
use crate::dashboard::{self, Range};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// More than the longest range has.
const SLOTS_MAX: usize = 1_000;
/// Labels below the bars: so many that they fit on a phone.
const LABELS_MAX: usize = 6;
/// Lines across the bars, the one at their feet apart.
const LINES_MAX: u64 = 4;
/// Where the share's panel may begin, in percent: the highest of them that is below all shares.
const FLOORS: [u64; 5] = [95, 90, 80, 50, 0];

/// One step of the range, with or without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    start: UnixMillis,
    count: u64,
    delivered: u64,
}

/// All steps of a range, those without messages too.
fn slots(range: &Range, steps: &[Step]) -> Vec<Slot> {
    let known: BTreeMap<u64, &Step> = steps.iter().map(|step| (step.start, step)).collect();
    let mut slots = Vec::new();
    let mut start = floor(range.start, range.interval);
    while start < range.end && slots.len() < SLOTS_MAX {
        let step = known.get(&start.0);
        slots.push(Slot {
            start,
            count: step.map_or(0, |step| step.count),
            delivered: step.map_or(0, |step| step.delivered),
        });
        start = next(start, range.interval);
    }
    slots
}

/// The first instant of the step that a time lies in.
fn floor(time: UnixMillis, interval: Interval) -> UnixMillis {
    let whole = |span: Duration| {
        let ms = span.as_secs() * 1_000;
        UnixMillis(time.0 / ms * ms)
    };
    match interval {
        Interval::Hour => whole(HOUR),
        Interval::Day => whole(DAY),
        Interval::Month => {
            let day = words::Civil::of(time).day;
            whole(DAY) - DAY * day.saturating_sub(1)
        }
    }
}

/// The first instant of the step after the one that begins at `start`.
fn next(start: UnixMillis, interval: Interval) -> UnixMillis {
    match interval {
        Interval::Hour => start + HOUR,
        Interval::Day => start + DAY,
        // No month has more than 31 days, and none fewer than 28.
        Interval::Month => floor(start + DAY * 31, interval),
    }
}

/// The distance of the lines across: 1, 2 or 5 of a power of ten, so that few of them reach `most`.
fn line_distance(most: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for digit in [1, 2, 5] {
            let distance = unit.saturating_mul(digit);
            if most.div_ceil(distance) <= LINES_MAX {
                return distance;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// Which of `all` bars have a label: a few, at equal distances.
fn labelled(all: usize) -> impl Iterator<Item = usize> {
    let distance = all.div_ceil(LABELS_MAX).max(1);
    (0..all).step_by(distance)
}

/// The chart.
pub(super) fn timeline(range: &Range, steps: &[Step]) -> Markup {
    let slots = slots(range, steps);
    let most = slots
        .iter()
        .map(|slot| slot.count)
        .max()
        .unwrap_or(0)
        .max(1);
    let distance = line_distance(most);
    let top = most.div_ceil(distance) * distance;
    let width = 1.0 / slots.len().max(1) as f64;
    let lines: Vec<u64> = (0..=top / distance).map(|line| line * distance).collect();
    let place = |count| percent(1.0 - share(count, top));
    html! {
        div.plot.counts role="img" aria-label=(told(range, &slots)) {
            svg.scale aria-hidden="true" focusable="false" {
                @for line in &lines {
                    text x="100%" y=(place(*line)) dy="4" text-anchor="end" { (words::short(*line)) }
                }
            }
            svg.area aria-hidden="true" focusable="false" {
                @for line in &lines {
                    line.mark x1="0" x2="100%" y1=(place(*line)) y2=(place(*line)) {}
                }
                @for (at, slot) in slots.iter().enumerate() {
                    (bar(range.interval, slot, at as f64 * width, width, top))
                }
            }
        }
        div.plot.shares aria-hidden="true" { (shares(range.interval, &slots, width)) }
        div.plot.days aria-hidden="true" {
            svg.scale focusable="false" {}
            svg.area focusable="false" {
                @for at in labelled(slots.len()) {
                    text x=(percent(at as f64 * width)) y="12" {
                        (words::short_step(slots[at].start, range.interval))
                    }
                }
            }
        }
        ul.legend {
            li.delivered { "Delivered" }
            li.rest { "Not delivered, or not yet" }
            li.share { "Delivered share" }
        }
    }
}

fn bar(interval: Interval, slot: &Slot, from: f64, width: f64, top: u64) -> Markup {
    let (all, delivered) = (share(slot.count, top), share(slot.delivered, top));
    // A gap between bars, and none where they are too many for one.
    let gap = if width > 0.004 { 0.15 * width } else { 0.0 };
    let (x, width_of) = (percent(from + gap / 2.0), percent(width - gap));
    html! {
        g.slot {
            title { (said(interval, slot)) }
            rect.hit x=(percent(from)) width=(percent(width)) y="0" height="100%" {}
            @if slot.count > slot.delivered {
                rect.rest x=(x) width=(width_of) y=(percent(1.0 - all)) height=(percent(all - delivered)) {}
            }
            @if slot.delivered > 0 {
                rect.delivered x=(x) width=(width_of) y=(percent(1.0 - delivered)) height=(percent(delivered)) {}
            }
        }
    }
}

/// The share of the delivered ones, as a line where there are messages.
fn shares(interval: Interval, slots: &[Slot], width: f64) -> Markup {
    let whole = |slot: &&Slot| slot.count > 0;
    let least = slots
        .iter()
        .filter(whole)
        .map(|slot| slot.delivered * 100 / slot.count);
    let least = least.min().unwrap_or(0);
    let floor = FLOORS
        .into_iter()
        .find(|floor| *floor <= least)
        .unwrap_or(0);
    let height = |slot: &Slot| {
        let share = share(slot.delivered, slot.count);
        let floor = floor as f64 / 100.0;
        ((share - floor) / (1.0 - floor)).clamp(0.0, 1.0)
    };
    let path = path(slots, |slot| 100.0 - 100.0 * height(slot));
    html! {
        svg.scale focusable="false" {
            text x="100%" y="0" dy="4" text-anchor="end" { "100%" }
            text x="100%" y="100%" dy="4" text-anchor="end" { (floor) "%" }
        }
        svg.area focusable="false" {
            line.mark x1="0" x2="100%" y1="0" y2="0" {}
            line.mark x1="0" x2="100%" y1="100%" y2="100%" {}
            svg viewBox={ "0 0 " (slots.len().max(1)) " 100" } preserveAspectRatio="none" {
                path.share d=(path) {}
            }
            @for (at, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.count > 0) {
                g.slot {
                    title { (said(interval, slot)) }
                    rect.hit x=(percent(at as f64 * width)) width=(percent(width)) y="0" height="100%" {}
                }
            }
        }
    }
}

/// Through the middles of the steps that have messages; one alone is a dash.
fn path(slots: &[Slot], y: impl Fn(&Slot) -> f64) -> String {
    let mut path = String::new();
    let mut at = 0;
    for run in slots.chunk_by(|one, next| (one.count > 0) == (next.count > 0)) {
        match run {
            [] => {}
            [first, ..] if first.count == 0 => {}
            [alone] => path += &format!("M{at} {:.1}h1", y(alone)),
            several => {
                for (offset, slot) in several.iter().enumerate() {
                    let letter = if offset == 0 { 'M' } else { 'L' };
                    path += &format!("{letter}{}.5 {:.1}", at + offset, y(slot));
                }
            }
        }
        at += run.len();
    }
    path
}

/// One step in words.
fn said(interval: Interval, slot: &Slot) -> String {
    let name = words::step(slot.start, interval);
    if slot.count == 0 {
        return format!("{name}: no messages");
    }
    format!(
        "{name}: {}, {} delivered ({})",
        words::messages(slot.count),
        words::count(slot.delivered),
        dashboard::percent(slot.delivered, slot.count)
    )
}

/// The whole chart in words.
fn told(range: &Range, slots: &[Slot]) -> String {
    let each = match range.interval {
        Interval::Hour => "hour",
        Interval::Day => "day",
        Interval::Month => "month",
    };
    let Some(most) = slots.iter().max_by_key(|slot| slot.count) else {
        return format!("Messages by {each}: none.");
    };
    format!(
        "Messages by {each}, {}. The most: {}. The table below has them all.",
        words::range(range.start, range.end),
        said(range.interval, most)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        text.parse().expect("a time")
    }

    fn range(start: &str, end: &str, interval: Interval) -> Range {
        Range {
            start: at(start),
            end: at(end),
            interval,
        }
    }

    #[track_caller]
    fn check(range: Range, steps: &[(&str, u64, u64)], want: &[(&str, u64, u64)]) {
        let step = |(start, count, delivered): &(&str, u64, u64)| Step {
            start: at(start).0,
            count: *count,
            delivered: *delivered,
        };
        let steps: Vec<Step> = steps.iter().map(step).collect();
        let got = slots(&range, &steps);
        let got = got
            .iter()
            .map(|slot| (slot.start.to_string(), slot.count, slot.delivered));
        let want = want
            .iter()
            .map(|(start, count, delivered)| ((*start).to_owned(), *count, *delivered));
        assert_eq!(got.collect::<Vec<_>>(), want.collect::<Vec<_>>());
    }

    #[test]
    fn steps_without_messages_have_their_place_too() {
        let (first, second, third) = (
            "2026-01-30T00:00:00Z",
            "2026-01-31T00:00:00Z",
            "2026-02-01T00:00:00Z",
        );
        check(
            range(
                "2026-01-30T05:00:00Z",
                "2026-02-01T01:00:00Z",
                Interval::Day,
            ),
            &[(second, 3, 2)],
            &[(first, 0, 0), (second, 3, 2), (third, 0, 0)],
        );
        check(
            range(first, "2026-01-30T02:00:00Z", Interval::Hour),
            &[(first, 1, 1)],
            &[(first, 1, 1), ("2026-01-30T01:00:00Z", 0, 0)],
        );
        check(
            range(
                "2025-12-31T00:00:00Z",
                "2026-03-01T00:00:00Z",
                Interval::Month,
            ),
            &[(third, 9, 9)],
            &[
                ("2025-12-01T00:00:00Z", 0, 0),
                ("2026-01-01T00:00:00Z", 0, 0),
                (third, 9, 9),
            ],
        );
        check(range(first, first, Interval::Day), &[], &[]);
    }

    #[test]
    fn lines_across_are_few_and_round() {
        for (most, want) in [
            (1, 1),
            (4, 1),
            (5, 2),
            (8, 2),
            (9, 5),
            (1_234, 500),
            (20_001, 10_000),
        ] {
            assert_eq!(line_distance(most), want, "{most}");
        }
        assert!(line_distance(u64::MAX) > u64::MAX / 5);
    }

    #[test]
    fn labels_are_few_enough_for_a_phone() {
        for all in [0, 1, 6, 7, 30, 31, 365, 744] {
            let labels = labelled(all).count();
            assert!(
                labels <= LABELS_MAX && (labels > 0) == (all > 0),
                "{all}: {labels}"
            );
        }
    }

    #[test]
    fn the_share_is_drawn_where_there_are_messages() {
        let slot = |count, delivered| Slot {
            start: UnixMillis(0),
            count,
            delivered,
        };
        let slots = [slot(2, 1), slot(0, 0), slot(4, 4), slot(4, 1)];
        let y = |slot: &Slot| 100.0 - 100.0 * share(slot.delivered, slot.count);
        assert_eq!(path(&slots, y), "M0 50.0h1M2.5 0.0L3.5 75.0");
    }

    #[test]
    fn a_step_is_told_in_words() {
        let told = |count, delivered| {
            let start = at("2026-01-30T00:00:00Z");
            let slot = Slot {
                start,
                count,
                delivered,
            };
            said(Interval::Day, &slot)
        };
        for (count, delivered, want) in [
            (0, 0, "no messages"),
            (1, 1, "1 message, 1 delivered (100.00%)"),
            (2_000, 1, "2,000 messages, 1 delivered (0.05%)"),
        ] {
            let told = told(count, delivered);
            assert!(told.ends_with(&format!(": {want}")), "{told}");
        }
    }

    #[test]
    fn an_empty_range_is_drawn_too() {
        let range = range(
            "2026-01-30T00:00:00Z",
            "2026-01-30T00:00:00Z",
            Interval::Day,
        );
        let shown = timeline(&range, &[]).into_string();
        assert!(shown.contains("Messages by day: none."), "{shown}");
    }
}
