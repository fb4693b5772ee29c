//! Times that companies write.

use std::time::UNIX_EPOCH;

use crate::Response;

/// `Retry-After` in milliseconds, of seconds or of a date (RFC 9110 section 10.2.3).
#[must_use]
pub fn retry_after(response: &Response, now: u64) -> Option<u64> {
    let mut headers = response.headers.iter();
    let (_, value) = headers.find(|(name, _)| name == "retry-after")?;
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(u64::from(seconds) * 1_000);
    }
    Some(http_date(value)?.saturating_sub(now))
}

/// The instant of an HTTP date, or of an RFC 2822 date in UTC, which differs from it in the name of the
/// zone; in milliseconds since 1970.
#[must_use]
pub fn http_date(text: &str) -> Option<u64> {
    let in_gmt = text.replace("+0000", "GMT");
    let time = httpdate::parse_http_date(&in_gmt).ok()?;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    since.as_millis().try_into().ok()
}

/// The instant of an RFC 3339 time from 1970 on, in milliseconds; the zone may also be written without
/// its colon (`+0000`), as some do.
#[must_use]
pub fn rfc3339(text: &str) -> Option<u64> {
    let (date, rest) = text.trim().split_once(['T', 't', ' '])?;
    let (hours, rest) = (number(rest.get(..2)?)?, rest.get(2..)?);
    let (minutes, rest) = (number(rest.get(1..3)?)?, rest.get(3..)?);
    let (seconds, rest) = (number(rest.get(1..3)?)?, rest.get(3..)?);
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (fraction, zone) = rest.split_at(zone_at);
    let millis = match fraction.strip_prefix('.') {
        None if fraction.is_empty() => 0,
        None => return None,
        Some(digits) => number(format!("{digits:0<3}").get(..3)?)?,
    };
    let in_range = hours < 24 && minutes < 60 && seconds <= 60;
    let of_day = (hours * 60 + minutes) * 60 + seconds - offset(zone)?;
    let all = (days(date)? * 86_400 + of_day) * 1_000 + millis;
    in_range.then(|| u64::try_from(all).ok())?
}

/// An instant as an RFC 3339 time in UTC, to the second.
#[must_use]
pub fn to_rfc3339(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (day, of_day) = (seconds / 86_400, seconds % 86_400);
    // Days from 0000-03-01; the algorithm of `days`, the other way.
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = year + era * 400 + next;
    let (hours, minutes) = (of_day / 3_600, of_day / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{:02}Z",
        of_day % 60
    )
}

/// The seconds that a zone is before UTC.
fn offset(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'Z' | b'z' if zone.len() == 1 => return Some(0),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = zone.get(1..)?.replacen(':', "", 1);
    if digits.len() != 4 {
        return None;
    }
    Some(sign * (number(digits.get(..2)?)? * 60 + number(digits.get(2..)?)?) * 60)
}

/// The days from 1970-01-01 to `date` (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let (year, month, day) = (number(year)?, number(month)?, number(day)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Years that begin in March, so that the day that may be missing is the last one.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn number(digits: &str) -> Option<i64> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_its_zone_and_its_fraction() {
        let at = 1_767_323_045_000;
        for (text, want) in [
            ("2026-01-02T03:04:05Z", at),
            ("2026-01-02T04:04:05+01:00", at),
            ("2026-01-01T22:04:05-0500", at),
            ("2026-01-02T03:04:05.678+0000", at + 678),
            ("2026-01-02T03:04:05.6789123Z", at + 678),
            ("2026-01-02 03:04:05.5Z", at + 500),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
        ] {
            assert_eq!(rfc3339(text), Some(want), "{text}");
        }
    }

    #[test]
    fn a_time_is_written_as_it_is_read() {
        assert_eq!(to_rfc3339(1_767_323_045_999), "2026-01-02T03:04:05Z");
        // Each day of 400 years, the shortest month and the leap days among them.
        for day in 0..146_097 {
            let at = day * 86_400_000;
            assert_eq!(rfc3339(&to_rfc3339(at)), Some(at));
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05+1",
            "2026-13-02T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:60:05Z",
            "26-01-02T03:04:05Z",
            "2026-01-02T0x:04:05Z",
            "1969-12-31T23:59:59Z",
            "2026-01-02T€",
        ] {
            assert_eq!(rfc3339(text), None, "{text}");
        }
    }

    #[track_caller]
    fn check_retry_after(value: &str, want: Option<u64>) {
        let response = Response {
            status: 429,
            headers: vec![("retry-after".into(), value.into())],
            body: Vec::new(),
            attributes: Vec::new(),
        };
        // Fri, 31 Dec 1999 23:59:59 GMT
        assert_eq!(retry_after(&response, 946_684_799_000), want);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        check_retry_after("7", Some(7_000));
        check_retry_after(" 0 ", Some(0));
        check_retry_after("Sat, 01 Jan 2000 00:00:09 GMT", Some(10_000));
        check_retry_after("Fri, 31 Dec 1999 23:00:00 GMT", Some(0));
        check_retry_after("soon", None);
        check_retry_after("-1", None);
    }
}
