//! What an address of the dashboard asks for: a range and filters, each of which may be left out.

use std::time::Duration;

use countersign_types::UnixMillis;
use url::form_urlencoded;

use super::words;
use crate::api::figures::Interval;

/// Ranges that move on with time: so many days, today among them, and what they are called.
pub(super) const LAST: [(u64, &str); 5] = [
    (1, "Today"),
    (7, "7 days"),
    (30, "30 days"),
    (90, "90 days"),
    (365, "12 months"),
];
/// What is shown where no range is asked for.
const LAST_DEFAULT: u64 = 30;
const DAY: Duration = Duration::from_secs(24 * 3_600);
const HOUR: Duration = Duration::from_secs(3_600);
/// The longest ranges, in days, that are shown by the hour and by the day where nobody says how.
const HOURS_UP_TO: u64 = 2;
const DAYS_UP_TO: u64 = 190;

/// An address's query, without what is empty: a form sends all of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    given: Vec<(String, String)>,
}

impl View {
    /// What `query` asks for. Nothing is judged yet.
    pub(crate) fn of(query: &str) -> View {
        let given = form_urlencoded::parse(query.as_bytes());
        let given = given.filter(|(_, value)| !value.is_empty());
        View {
            given: given
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect(),
        }
    }

    /// What is asked for by that name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.given.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether the steps of the timeline are left to us.
    pub(crate) fn is_automatic(&self) -> bool {
        self.get("interval").is_none()
    }

    /// So many days up to now, where that is what is asked for; `None` for a range of dates, and for
    /// what is no such number.
    pub(super) fn last(&self) -> Option<u64> {
        if self.get("start").is_some() || self.get("end").is_some() {
            return None;
        }
        let Some(text) = self.get("last") else {
            return Some(LAST_DEFAULT);
        };
        let days = text.parse().ok();
        days.filter(|days| LAST.iter().any(|(known, _)| known == days))
    }

    /// The same as a question to the API, `now` being the present time.
    pub(crate) fn question(&self, now: UnixMillis) -> String {
        let mut question = form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.given {
            // What is no number of days is asked as it is, and refused.
            if name != "last" || self.last().is_none() && self.get("start").is_none() {
                question.append_pair(name, value);
            }
        }
        if let Some(days) = self.last() {
            let first = now - DAY * u32::try_from(days - 1).unwrap_or(0);
            question.append_pair("start", &words::iso_date(first));
            question.append_pair("end", &words::iso_date(now));
        }
        if self.is_automatic() {
            // The longest range is allowed by the month; which steps it gets is decided when it is known.
            question.append_pair("interval", "month");
        }
        question.finish()
    }

    /// The path of a page or a file with the same query, but for some of it: `None` leaves it out.
    pub(super) fn link(&self, path: &str, changes: &[(&str, Option<&str>)]) -> String {
        let changed = |name: &str| changes.iter().any(|(known, _)| *known == name);
        let mut query = form_urlencoded::Serializer::new(String::new());
        let kept = self.given.iter().filter(|(name, _)| !changed(name));
        for (name, value) in kept {
            query.append_pair(name, value);
        }
        for (name, value) in changes {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        match query.finish() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }
}

/// The steps that suit a range.
pub(crate) fn fitting(start: UnixMillis, end: UnixMillis) -> Interval {
    let days = end.since(start).as_secs().div_ceil(DAY.as_secs());
    match days {
        0..=HOURS_UP_TO => Interval::Hour,
        days if days <= DAYS_UP_TO => Interval::Day,
        _ => Interval::Month,
    }
}

/// Whether a range is still going on.
pub(super) fn goes_on(end: UnixMillis, now: UnixMillis) -> bool {
    end + HOUR > now
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-31T12:00:00Z.
    const NOW: UnixMillis = UnixMillis(1_769_860_800_000);

    #[test]
    fn a_question_has_dates_and_steps_and_nothing_that_is_empty() {
        for (query, want) in [
            ("", "start=2026-01-02&end=2026-01-31&interval=month"),
            (
                "start=&end=&country=&provider=&interval=",
                "start=2026-01-02&end=2026-01-31&interval=month",
            ),
            (
                "last=1&country=US",
                "country=US&start=2026-01-31&end=2026-01-31&interval=month",
            ),
            (
                "last=7&interval=hour",
                "interval=hour&start=2026-01-25&end=2026-01-31",
            ),
            (
                "start=2026-01-01&end=2026-01-02&last=7",
                "start=2026-01-01&end=2026-01-02&interval=month",
            ),
            // These are refused, and say why.
            ("start=2026-01-01", "start=2026-01-01&interval=month"),
            ("last=2", "last=2&interval=month"),
            (
                "contry=US",
                "contry=US&start=2026-01-02&end=2026-01-31&interval=month",
            ),
        ] {
            assert_eq!(View::of(query).question(NOW), want, "{query}");
        }
    }

    #[test]
    fn a_link_keeps_what_it_does_not_change() {
        let view = View::of("start=2026-01-01&end=2026-01-02&country=US&provider=a%26b");
        let link = view.link("/dashboard", &[("country", None)]);
        assert_eq!(
            link,
            "/dashboard?start=2026-01-01&end=2026-01-02&provider=a%26b"
        );
        let changes = [("start", None), ("end", None), ("last", Some("7"))];
        let link = view.link("/dashboard", &changes);
        assert_eq!(link, "/dashboard?country=US&provider=a%26b&last=7");
        assert_eq!(View::of("").link("/dashboard", &[]), "/dashboard");
    }

    #[test]
    fn steps_suit_the_range() {
        for (days, want) in [
            (0, Interval::Hour),
            (2, Interval::Hour),
            (3, Interval::Day),
            (190, Interval::Day),
            (191, Interval::Month),
        ] {
            assert_eq!(fitting(NOW, NOW + DAY * days), want, "{days}");
        }
    }
}
