//! How long messages took: half of them, 95 and 99 of a hundred, as points on a line of time. The line is
//! logarithmic, since there are a hundred times between a good second and a bad minute.

use maud::{Markup, html};

use super::bars::percent;
use super::words;
use crate::api::figures::Percentiles;

/// Marks of the line: a millisecond to a day.
const MARKS_MS: [(u64, &str); 9] = [
    (1, "1 ms"),
    (10, "10 ms"),
    (100, "100 ms"),
    (1_000, "1 s"),
    (10_000, "10 s"),
    (60_000, "1 min"),
    (600_000, "10 min"),
    (3_600_000, "1 h"),
    (86_400_000, "1 d"),
];

/// One line of points.
pub(super) struct Span<'a> {
    pub(super) name: &'a str,
    pub(super) of: Percentiles,
}

/// What of the line of time is drawn: from one mark to another.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    from: usize,
    to: usize,
}

impl Scale {
    /// The marks around all that happened.
    fn around(spans: &[Span]) -> Scale {
        let all = || spans.iter().map(|span| span.of).filter(|of| of.count > 0);
        let (least, most) = (all().map(|of| of.p50).min(), all().map(|of| of.p99).max());
        let (least, most) = (least.unwrap_or(0), most.unwrap_or(0));
        let last = MARKS_MS.len() - 1;
        let from = MARKS_MS
            .iter()
            .rposition(|(ms, _)| *ms <= least)
            .unwrap_or(0);
        let from = from.min(last - 1);
        let to = MARKS_MS
            .iter()
            .position(|(ms, _)| *ms >= most)
            .unwrap_or(last);
        Scale {
            from,
            to: to.max(from + 1),
        }
    }

    /// Where a time lies, 0 to 1.
    fn place(self, ms: u64) -> f64 {
        let log = |ms: u64| (ms.max(1) as f64).log10();
        let (from, to) = (log(MARKS_MS[self.from].0), log(MARKS_MS[self.to].0));
        ((log(ms) - from) / (to - from)).clamp(0.0, 1.0)
    }
}

/// Lines of points below each other, with the marks of their scale.
pub(super) fn spans(label: &str, spans: &[Span]) -> Markup {
    let scale = Scale::around(spans);
    let marks = &MARKS_MS[scale.from..=scale.to];
    html! {
        ul.spans aria-label=(label) {
            @for Span { name, of } in spans {
                li {
                    span.name { (name) }
                    @if of.count == 0 {
                        span.value { small { "nothing yet" } }
                    } @else {
                        span.value {
                            @for (key, ms) in [("p50", of.p50), ("p95", of.p95), ("p99", of.p99)] {
                                span.key { small { (key) } " " b { (words::span(ms)) } } " "
                            }
                        }
                    }
                    (line(scale, *of))
                }
            }
        }
        svg.marks aria-hidden="true" focusable="false" {
            @for (at, (ms, name)) in marks.iter().enumerate() {
                text x=(percent(scale.place(*ms))) y="12" text-anchor=(anchor(at, marks.len())) { (name) }
            }
        }
    }
}

fn line(scale: Scale, of: Percentiles) -> Markup {
    let place = |ms| percent(scale.place(ms));
    let marks = &MARKS_MS[scale.from..=scale.to];
    html! {
        svg.line aria-hidden="true" focusable="false" {
            @for (ms, _) in marks {
                line.mark x1=(place(*ms)) x2=(place(*ms)) y1="0" y2="100%" {}
            }
            @if of.count > 0 {
                line.reach x1=(place(of.p50)) x2=(place(of.p99)) y1="50%" y2="50%" {}
                @for (class, ms) in [("p99", of.p99), ("p95", of.p95), ("p50", of.p50)] {
                    circle class=(class) cx=(place(ms)) cy="50%" r="5" {}
                }
            }
        }
    }
}

/// Words at the ends stay inside.
fn anchor(at: usize, all: usize) -> &'static str {
    match at {
        0 => "start",
        at if at + 1 == all => "end",
        _ => "middle",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: u64, p50: u64, p99: u64) -> Span<'static> {
        let of = Percentiles {
            count,
            p50,
            p95: p50,
            p99,
        };
        Span { name: "all", of }
    }

    #[test]
    fn the_scale_reaches_around_all_that_happened() {
        for (spans, from, to) in [
            (vec![], "1 ms", "10 ms"),
            (vec![of(1, 120, 800)], "100 ms", "1 s"),
            (
                vec![of(1, 120, 800), of(1, 2_000, 70_000)],
                "100 ms",
                "10 min",
            ),
            (vec![of(1, 10, 10)], "10 ms", "100 ms"),
            (vec![of(1, 120, 800), of(0, 0, 0)], "100 ms", "1 s"),
            (vec![of(1, u64::MAX, u64::MAX)], "1 h", "1 d"),
        ] {
            let scale = Scale::around(&spans);
            assert_eq!((MARKS_MS[scale.from].1, MARKS_MS[scale.to].1), (from, to));
        }
    }

    #[test]
    fn places_are_by_the_power_and_never_beyond_the_ends() {
        let scale = Scale::around(&[of(1, 100, 10_000)]);
        for (ms, want) in [
            (100, 0.0),
            (1_000, 0.5),
            (10_000, 1.0),
            (0, 0.0),
            (u64::MAX, 1.0),
        ] {
            assert!((scale.place(ms) - want).abs() < 1e-9, "{ms}");
        }
    }

    #[test]
    fn what_never_happened_has_no_points() {
        let shown = spans("How long", &[of(0, 0, 0)]).into_string();
        assert!(
            shown.contains("nothing yet") && !shown.contains("<circle"),
            "{shown}"
        );
        let shown = spans("How long", &[of(3, 1_500, 9_000)]).into_string();
        assert!(
            shown.contains("<b>1.5 s</b>") && shown.contains("<circle"),
            "{shown}"
        );
    }
}
