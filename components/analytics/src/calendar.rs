//! Hours, days and months of UTC, each counted from the beginning of 1970, and how a range is covered
//! by few of them.

use crate::host::Instant;

/// An hour in milliseconds.
pub const HOUR: u64 = 3_600_000;
/// Hours of a day.
pub const DAY: u32 = 24;

/// The length of a span that figures are kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A calendar month.
    Month,
}

/// Neighbouring hours, days or months, `from` up to and without `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which of them.
    pub level: Level,
    /// The first.
    pub from: u32,
    /// The one after the last.
    pub to: u32,
}

/// The hour of an instant.
#[must_use]
pub fn hour(at: Instant) -> u32 {
    u32::try_from(at / HOUR).unwrap_or(u32::MAX)
}

/// The month of a day.
///
/// Source: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
#[must_use]
pub fn month(day: u32) -> u32 {
    // Years begin in March here, so that the leap day is the last.
    let days = u64::from(day) + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    // March is the third of January's year.
    u32::try_from((era * 400 + year) * 12 + month + 2 - 1970 * 12).unwrap_or(u32::MAX)
}

/// The first day of a month.
///
/// Source: as [`month`], `days_from_civil`.
#[must_use]
pub fn first_day(month: u32) -> u32 {
    let months = u64::from(month) + 1970 * 12 - 2;
    let (year, month) = (months / 12, months % 12);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    u32::try_from(days - 719_468).unwrap_or(u32::MAX)
}

impl Level {
    /// The first instant of the `n`th of this level.
    #[must_use]
    pub fn start(self, n: u32) -> Instant {
        let hour = match self {
            Level::Hour => u64::from(n),
            Level::Day => u64::from(n) * u64::from(DAY),
            Level::Month => u64::from(first_day(n)) * u64::from(DAY),
        };
        hour * HOUR
    }

    /// Which of this level an hour belongs to.
    #[must_use]
    pub fn of(self, hour: u32) -> u32 {
        match self {
            Level::Hour => hour,
            Level::Day => hour / DAY,
            Level::Month => month(hour / DAY),
        }
    }
}

/// The hours `from..to` in as few spans as there are, none longer than `longest`: hours at the edges,
/// days inside them, months in the middle.
#[must_use]
pub fn cover(from: u32, to: u32, longest: Level) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut add = |level, from, to| {
        if from < to {
            spans.push(Span { level, from, to });
        }
    };
    let (first, end) = (from.div_ceil(DAY), to / DAY);
    if longest == Level::Hour || first >= end {
        add(Level::Hour, from, to);
        return spans;
    }
    add(Level::Hour, from, first * DAY);
    let last_month = month(end);
    let first_month = match month(first) {
        month if first_day(month) == first => month,
        month => month + 1,
    };
    if longest == Level::Day || first_month >= last_month {
        add(Level::Day, first, end);
    } else {
        add(Level::Day, first, first_day(first_month));
        add(Level::Month, first_month, last_month);
        add(Level::Day, first_day(last_month), end);
    }
    add(Level::Hour, end * DAY, to);
    spans
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_day_of_400_years_is_in_its_month() {
        let mut day = date(1970, 1, 1);
        for n in 0..400 * 366 {
            let want = (i32::from(day.year()) - 1970) * 12 + i32::from(day.month()) - 1;
            assert_eq!(i64::from(month(n)), i64::from(want), "{day}");
            if day.day() == 1 {
                assert_eq!(first_day(month(n)), n, "{day}");
            }
            day = day.tomorrow().expect("in range");
        }
    }

    #[test]
    fn a_year_is_twelve_months_and_a_range_has_hours_only_at_its_edges() {
        let hours = |year, month, day, hour| {
            let day = date(year, month, day).since((jiff::Unit::Day, date(1970, 1, 1)));
            u32::try_from(day.expect("days").get_days()).expect("after 1970") * DAY + hour
        };
        let span = |level, from, to| Span { level, from, to };
        let year = cover(hours(2025, 1, 1, 0), hours(2026, 1, 1, 0), Level::Month);
        assert_eq!(year, [span(Level::Month, 55 * 12, 56 * 12)]);
        let odd = cover(hours(2026, 1, 30, 22), hours(2026, 3, 2, 1), Level::Month);
        let first = hours(2026, 1, 31, 0);
        let second = hours(2026, 3, 2, 0);
        let want = [
            span(Level::Hour, first - 2, first),
            span(Level::Day, first / DAY, first / DAY + 1),
            span(Level::Month, 56 * 12 + 1, 56 * 12 + 2),
            span(Level::Day, second / DAY - 1, second / DAY),
            span(Level::Hour, second, second + 1),
        ];
        assert_eq!(odd, want);
        assert_eq!(cover(5, 5, Level::Month), []);
    }

    proptest! {
        #[test]
        fn a_cover_has_every_hour_once_in_order(
            from in 0u32..2_000_000,
            length in 0u32..40_000,
            longest in prop::sample::select(vec![Level::Hour, Level::Day, Level::Month]),
        ) {
            let mut next = from;
            for span in cover(from, from + length, longest) {
                prop_assert!(span.level <= longest && span.from < span.to);
                prop_assert_eq!(span.level.start(span.from), u64::from(next) * HOUR);
                next = hour(span.level.start(span.to));
            }
            prop_assert_eq!(next, from + length);
        }
    }
}
