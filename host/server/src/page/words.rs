//! Numbers and times as people read them.

use countersign_types::UnixMillis;

use crate::api::figures::Interval;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A number with a comma between each three digits.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many messages.
pub(super) fn messages(number: u64) -> String {
    match number {
        1 => "1 message".to_owned(),
        number => format!("{} messages", count(number)),
    }
}

/// A number for an axis: few digits, and a letter for thousands and beyond.
pub(super) fn short(number: u64) -> String {
    let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    let Some((unit, letter)) = units.into_iter().find(|(unit, _)| number >= *unit) else {
        return number.to_string();
    };
    match (number / unit, number % unit * 10 / unit) {
        (whole, 0) => format!("{whole}{letter}"),
        (whole, tenth) => format!("{whole}.{tenth}{letter}"),
    }
}

/// Millionths of a currency: two decimals, and four where it is less than a tenth of it.
pub(super) fn money(micros: u64, currency: &str) -> String {
    let rounded = |unit: u64| micros.saturating_add(unit / 2) / unit;
    if micros == 0 {
        format!("{currency} 0.00")
    } else if micros < 100_000 {
        format!("{currency} 0.{:04}", rounded(100))
    } else {
        let cents = rounded(10_000);
        format!("{currency} {}.{:02}", count(cents / 100), cents % 100)
    }
}

/// Millionths as a decimal number without an error of its own, for machines.
pub(super) fn decimal(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Milliseconds in the unit that suits them.
pub(super) fn span(ms: u64) -> String {
    let tenths = |unit: u64, name: &str| {
        let tenths = (ms * 10 + unit / 2) / unit;
        match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole} {name}"),
            (whole, _) if whole >= 100 => format!("{whole} {name}"),
            (whole, tenth) => format!("{whole}.{tenth} {name}"),
        }
    };
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => tenths(1_000, "s"),
        60_000..3_600_000 => tenths(60_000, "min"),
        _ => tenths(3_600_000, "h"),
    }
}

/// A time in UTC, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: u32,
    /// From 1.
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) hour: u32,
    pub(super) minute: u32,
    pub(super) second: u32,
}

impl Civil {
    pub(super) fn of(time: UnixMillis) -> Civil {
        let text = time.to_string();
        // RFC 3339 to the second: every number has its place.
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).and_then(|digits| digits.parse().ok());
            digits.unwrap_or(0)
        };
        Civil {
            year: number(0, 4),
            month: number(5, 7),
            day: number(8, 10),
            hour: number(11, 13),
            minute: number(14, 16),
            second: number(17, 19),
        }
    }

    pub(super) fn month_name(self) -> &'static str {
        let at = usize::try_from(self.month).unwrap_or(0).saturating_sub(1);
        MONTHS.get(at).copied().unwrap_or("")
    }

    /// `31 Jan 2026`.
    pub(super) fn date(self) -> String {
        format!("{} {} {}", self.day, self.month_name(), self.year)
    }

    /// `14:05:09`.
    pub(super) fn clock(self) -> String {
        format!("{:02}:{:02}:{:02}", self.hour, self.minute, self.second)
    }
}

/// `2026-01-31`.
pub(super) fn iso_date(time: UnixMillis) -> String {
    let text = time.to_string();
    text.get(..10).unwrap_or(&text).to_owned()
}

/// A step of a timeline by its whole name.
pub(super) fn step(start: UnixMillis, interval: Interval) -> String {
    let civil = Civil::of(start);
    match interval {
        Interval::Hour => format!("{}, {:02}:00", civil.date(), civil.hour),
        Interval::Day => civil.date(),
        Interval::Month => format!("{} {}", civil.month_name(), civil.year),
    }
}

/// The same in short, for an axis: what its neighbours say is left out.
pub(super) fn short_step(start: UnixMillis, interval: Interval) -> String {
    let civil = Civil::of(start);
    match interval {
        Interval::Hour if civil.hour != 0 => format!("{:02}:00", civil.hour),
        Interval::Hour | Interval::Day => format!("{} {}", civil.day, civil.month_name()),
        Interval::Month if civil.month == 1 => civil.year.to_string(),
        Interval::Month => format!("{} {}", civil.month_name(), civil.year),
    }
}

/// A range of whole hours: its days, and its hours where it is not whole days.
pub(super) fn range(start: UnixMillis, end: UnixMillis) -> String {
    const DAY: u64 = 24 * 3_600_000;
    if end <= start {
        return format!("{}, no time", Civil::of(start).date());
    }
    if start.0.is_multiple_of(DAY) && end.0.is_multiple_of(DAY) {
        let (first, last) = (Civil::of(start), Civil::of(UnixMillis(end.0 - 1)));
        if first
            == (Civil {
                hour: 0,
                minute: 0,
                second: 0,
                ..last
            })
        {
            return first.date();
        }
        return format!("{} to {}", first.date(), last.date());
    }
    let told = |time| {
        let civil = Civil::of(time);
        format!("{}, {:02}:00", civil.date(), civil.hour)
    };
    format!("{} to {}", told(start), told(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_and_on_an_axis_few_digits() {
        for (number, want, axis) in [
            (0, "0", "0"),
            (999, "999", "999"),
            (1_000, "1,000", "1k"),
            (1_250, "1,250", "1.2k"),
            (123_456, "123,456", "123.4k"),
            (2_000_000, "2,000,000", "2M"),
            (u64::MAX, "18,446,744,073,709,551,615", "18446744073.7G"),
        ] {
            assert_eq!(count(number), want);
            assert_eq!(short(number), axis);
        }
    }

    #[test]
    fn money_has_the_decimals_that_its_size_needs() {
        for (micros, want, machine) in [
            (0, "USD 0.00", "0"),
            (7_900, "USD 0.0079", "0.0079"),
            (99_999, "USD 0.1000", "0.099999"),
            (100_000, "USD 0.10", "0.1"),
            (999_999, "USD 1.00", "0.999999"),
            (1_000_000, "USD 1.00", "1"),
            (1_234_567_890, "USD 1,234.57", "1234.56789"),
        ] {
            assert_eq!(money(micros, "USD"), want);
            assert_eq!(decimal(micros), machine);
        }
    }

    #[test]
    fn a_span_is_in_the_unit_that_suits_it() {
        for (ms, want) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_250, "1.3 s"),
            (59_999, "60 s"),
            (90_000, "1.5 min"),
            (7_200_000, "2 h"),
            (400_000_000, "111 h"),
        ] {
            assert_eq!(span(ms), want, "{ms}");
        }
    }

    #[test]
    fn steps_and_ranges_are_called_by_their_dates() {
        let at = |text: &str| text.parse::<UnixMillis>().expect("a time");
        let (noon, year) = (at("2026-01-31T12:00:00Z"), at("2026-01-01T00:00:00Z"));
        assert_eq!(step(noon, Interval::Hour), "31 Jan 2026, 12:00");
        assert_eq!(step(noon, Interval::Day), "31 Jan 2026");
        assert_eq!(step(noon, Interval::Month), "Jan 2026");
        assert_eq!(short_step(noon, Interval::Hour), "12:00");
        assert_eq!(short_step(year, Interval::Hour), "1 Jan");
        assert_eq!(short_step(noon, Interval::Day), "31 Jan");
        assert_eq!(short_step(year, Interval::Month), "2026");
        assert_eq!(range(year, at("2026-01-02T00:00:00Z")), "1 Jan 2026");
        assert_eq!(
            range(year, at("2026-02-01T00:00:00Z")),
            "1 Jan 2026 to 31 Jan 2026"
        );
        assert_eq!(range(year, noon), "1 Jan 2026, 00:00 to 31 Jan 2026, 12:00");
        assert_eq!(range(year, year), "1 Jan 2026, no time");
        assert_eq!(Civil::of(at("2026-01-31T12:34:56Z")).clock(), "12:34:56");
        assert_eq!(iso_date(noon), "2026-01-31");
    }
}
