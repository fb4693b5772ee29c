//! What callbacks carry.

use crate::{Callback, News, Reply, StatusUpdate};

/// How far the time of a signed callback may be from ours, in milliseconds.
const AGE_MAX: u64 = 300_000;

/// What a callback tells.
#[must_use]
pub fn news(updates: Vec<StatusUpdate>, replies: Vec<Reply>) -> News {
    News {
        updates,
        replies,
        answer: None,
        attributes: Vec::new(),
    }
}

/// What `phone` wrote to our sender `to`; the number has a plus before its digits or not, as companies
/// have it.
#[must_use]
pub fn reply(phone: &str, to: &str, text: &str) -> Reply {
    Reply {
        id: None,
        at: None,
        phone: format!("+{}", phone.trim_start_matches('+')),
        to: to.into(),
        text: text.into(),
        wish: None,
        attributes: Vec::new(),
    }
}

/// The first header called `name` (in lower case), without the blanks around it.
#[must_use]
pub fn header<'a>(request: &'a Callback, name: &str) -> Option<&'a str> {
    let mut headers = request.headers.iter();
    let (_, value) = headers.find(|(given, _)| given == name)?;
    Some(value.trim())
}

/// Whether a time in seconds since 1970 is at most five minutes from `now`, in milliseconds: a
/// signature that says when it was made is not good for longer.
#[must_use]
pub fn is_recent(seconds: &str, now: u64) -> bool {
    let at = seconds.parse::<u64>().ok();
    let at = at.and_then(|at| at.checked_mul(1_000));
    at.is_some_and(|at| at.abs_diff(now) <= AGE_MAX)
}

/// The parameters of a form or a query; `None` where there are `max` or more, which is found out before
/// any of them is read.
#[must_use]
pub fn form(encoded: &[u8], max: usize) -> Option<Vec<(String, String)>> {
    let signs = encoded.iter().filter(|byte| **byte == b'&');
    if signs.count() >= max {
        return None;
    }
    Some(form_urlencoded::parse(encoded).into_owned().collect())
}

/// What stands behind the `?` of a URL.
#[must_use]
pub fn query_of(url: &str) -> &str {
    url_of(url).1
}

/// A URL without its query, and the query.
fn url_of(url: &str) -> (&str, &str) {
    let url = url.split('#').next().unwrap_or_default();
    url.split_once('?').unwrap_or((url, ""))
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of hexadecimal text, in either case.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            let plain = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(pair, 16).ok())?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_good_for_five_minutes() {
        let now = 1_700_000_000_000;
        for (seconds, recent) in [
            ("1700000000", true),
            ("1700000300", true),
            ("1699999700", true),
            ("1700000301", false),
            ("1699999699", false),
            ("", false),
            ("soon", false),
            ("18446744073709551615", false),
        ] {
            assert_eq!(is_recent(seconds, now), recent, "{seconds}");
        }
    }

    #[test]
    fn more_parameters_than_wanted_are_not_read() {
        let pairs = |n| vec!["a=b"; n].join("&");
        assert_eq!(
            form(pairs(10).as_bytes(), 10).map(|form| form.len()),
            Some(10)
        );
        assert_eq!(form(pairs(11).as_bytes(), 10), None);
    }

    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        assert_eq!(unhex("00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(hex(&[0, 255, 160]), "00ffa0");
        assert_eq!(unhex(""), Some(Vec::new()));
        for text in ["0", "0g", "+1", "é"] {
            assert_eq!(unhex(text), None, "{text}");
        }
    }

    #[test]
    fn a_url_ends_where_its_query_begins() {
        assert_eq!(url_of("https://a/b?c=?#d"), ("https://a/b", "c=?"));
        assert_eq!(url_of("https://a/b"), ("https://a/b", ""));
    }
}
