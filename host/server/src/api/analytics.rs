//! `/api/analytics`: what became of messages, in figures.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use countersign_types::UnixMillis;
use url::form_urlencoded;

use super::Api;
use super::answer::Answer;
use super::figures::{DAYS_MAX, Interval, Query};
use super::problem::{Problem, Refused};
use crate::dashboard::{Dashboard, Range};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// 9999-12-31T00:00:00Z: RFC 3339 knows no year after that one.
const LATEST: UnixMillis = UnixMillis(253_402_214_400_000);

/// What a filter may be at most.
const FILTER_BYTES_MAX: usize = 64;

pub(super) async fn dashboard(State(api): State<Arc<Api>>, uri: Uri) -> Response {
    let (range, query) = match read(uri.query().unwrap_or("")) {
        Ok(read) => read,
        Err(refused) => return refused.into_response(),
    };
    let Some(runtime) = api.runtime() else {
        return Problem::starting().into_response();
    };
    match runtime.dashboard(&query).await {
        Ok(report) => Answer::ok(&Dashboard::new(&range, report)).into_response(),
        Err(error) => Problem::from(error).into_response(),
    }
}

/// What is asked: the range for people, and the question.
pub(super) fn read(query: &str) -> Result<(Range, Query), Refused> {
    let mut given: [(&str, Option<String>); 5] =
        ["start", "end", "country", "provider", "interval"].map(|name| (name, None));
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let Some((name, slot)) = given.iter_mut().find(|(known, _)| *known == name) else {
            // A filter that is misspelt must not be a filter left out.
            let known = "only `start`, `end`, `interval`, `country` and `provider` are known here";
            return Err(Refused::body(known));
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(Refused::field(name, format!("`{name}` is there twice")));
        }
    }
    let [
        (_, start),
        (_, end),
        (_, country),
        (_, provider),
        (_, interval),
    ] = given;
    let interval = interval_of(interval.as_deref())?;
    let start = time("start", start.as_deref(), Edge::Start)?;
    let end = time("end", end.as_deref(), Edge::End)?;
    if end < start {
        let error = format!("`end` must not be before `start`; {EXAMPLE}");
        return Err(Refused::field("end", error));
    }
    check_length(interval, start, end)?;
    let query = Query {
        start: start.0,
        end: end.0,
        interval,
        country: country.map(check_country).transpose()?,
        provider: provider.map(check_provider).transpose()?,
    };
    let range = Range {
        start,
        end,
        interval,
    };
    Ok((range, query))
}

/// What a good range looks like.
const EXAMPLE: &str = "a good range is start=2026-01-01&end=2026-01-31 (whole days) or start=2026-01-31T09:00:00Z&end=2026-01-31T17:00:00Z (RFC 3339)";

/// Which end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

/// The hour that a range begins or ends with: a time is widened to whole hours, a date to the whole day.
fn time(name: &str, text: Option<&str>, edge: Edge) -> Result<UnixMillis, Refused> {
    let Some(text) = text else {
        return Err(Refused::field(
            name,
            format!("`{name}` is missing; {EXAMPLE}"),
        ));
    };
    let wrong = || {
        let error = format!("`{name}` must be a date or a time in UTC from 1970 on; {EXAMPLE}");
        Refused::field(name, error)
    };
    let is_date = text.len() == "2026-01-31".len();
    let at: UnixMillis = match is_date {
        true => format!("{text}T00:00:00Z").parse(),
        false => text.parse(),
    }
    .map_err(|_| wrong())?;
    let hour = HOUR.as_millis() as u64;
    let at = match (edge, is_date) {
        (Edge::Start, _) => UnixMillis(at.0 / hour * hour),
        (Edge::End, false) => UnixMillis(at.0.div_ceil(hour) * hour),
        (Edge::End, true) => at + DAY,
    };
    if at > LATEST { Err(wrong()) } else { Ok(at) }
}

fn interval_of(text: Option<&str>) -> Result<Interval, Refused> {
    match text {
        None | Some("day") => Ok(Interval::Day),
        Some("hour") => Ok(Interval::Hour),
        Some("month") => Ok(Interval::Month),
        Some(_) => {
            let error = "`interval` must be `hour`, `day` or `month`";
            Err(Refused::field("interval", error))
        }
    }
}

fn check_length(interval: Interval, start: UnixMillis, end: UnixMillis) -> Result<(), Refused> {
    let fits = |days: u64| end.since(start).as_secs() <= days * DAY.as_secs();
    let is_given = |(known, _): &&(Interval, u64)| *known == interval;
    if DAYS_MAX
        .iter()
        .find(is_given)
        .is_some_and(|(_, days)| fits(*days))
    {
        return Ok(());
    }
    let longest = DAYS_MAX.map(|(_, days)| days);
    let [hours, days, months] = longest;
    let error = format!(
        "the range is too long: at most {hours} days by the hour (interval=hour), {days} days by the day, {months} days by the month (interval=month)"
    );
    Err(Refused::field("end", error))
}

fn check_country(text: String) -> Result<String, Refused> {
    let is_country = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if is_country || text == "001" {
        return Ok(text);
    }
    let error = "`country` must be two capital letters (ISO 3166-1 alpha-2) such as US, or 001 for numbers of no country";
    Err(Refused::field("country", error))
}

fn check_provider(text: String) -> Result<String, Refused> {
    if (1..=FILTER_BYTES_MAX).contains(&text.len()) {
        return Ok(text);
    }
    let error = "`provider` must be the name of a provider, 1 to 64 bytes";
    Err(Refused::field("provider", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, want: Result<(&str, &str), &str>) {
        let got = read(query).map(|(range, query)| {
            assert_eq!((query.start, query.end), (range.start.0, range.end.0));
            (range.start.to_string(), range.end.to_string())
        });
        let got = got.map_err(|refused| refused.field.expect("a field"));
        let want = want.map(|(start, end)| (start.to_owned(), end.to_owned()));
        assert_eq!(got, want.map_err(str::to_owned), "{query}");
    }

    #[test]
    fn a_range_is_widened_to_whole_hours_and_a_date_to_its_day() {
        let good = |query: &str, start: &str, end: &str| check(query, Ok((start, end)));
        let (first, last) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        good("start=2026-01-01&end=2026-01-31", first, last);
        good(
            "start=2026-01-01T00:59:59Z&end=2026-01-31T23:00:00.001Z",
            first,
            last,
        );
        good(
            "end=2026-02-01T00:00:00Z&start=2026-01-01T00:00:00Z",
            first,
            last,
        );
        good("start=2026-01-01&end=2026-01-01T00:00:00Z", first, first);
        good(
            "start=2026-01-01&end=2026-01-01",
            first,
            "2026-01-02T00:00:00Z",
        );
    }

    #[test]
    fn a_bad_range_is_refused_with_the_field_that_is_to_blame() {
        for (query, field) in [
            ("", "start"),
            ("start=2026-01-01", "end"),
            ("start=yesterday&end=2026-01-01", "start"),
            ("start=2026-01-32&end=2026-02-01", "start"),
            ("start=2026-01-01&end=2026-01-31T12:00:00", "end"),
            ("start=1969-12-31&end=2026-01-31", "start"),
            ("start=2026-01-02&end=2026-01-01T23:00:00Z", "end"),
            ("start=2026-01-01&start=2026-01-02&end=2026-01-31", "start"),
            ("start=2026-01-01&end=2026-01-31&interval=week", "interval"),
            ("start=2026-01-01&end=2026-01-31&country=usa", "country"),
            ("start=2026-01-01&end=2026-01-31&provider=", "provider"),
        ] {
            check(query, Err(field));
        }
        let misspelt = read("start=2026-01-01&end=2026-01-31&contry=US");
        assert_eq!(misspelt.map_err(|refused| refused.field).err(), Some(None));
        let refused = read("").expect_err("nothing");
        assert!(refused.error.contains("start=2026-01-01&end=2026-01-31"));
    }

    #[test]
    fn a_range_is_as_long_as_its_steps_allow() {
        for (interval, end, is_good) in [
            ("hour", "2026-01-31", true),
            ("hour", "2026-02-01", false),
            ("day", "2028-01-02", true),
            ("day", "2028-01-03", false),
            ("month", "2036-01-08", true),
            ("month", "2036-01-09", false),
        ] {
            let query = format!("start=2026-01-01&end={end}&interval={interval}");
            assert_eq!(read(&query).is_ok(), is_good, "{query}");
        }
    }
}
