//! AWS Signature Version 4.
//!
//! Source: "Create a signed AWS API request", AWS General Reference.

use aws_lc_rs::{digest, hmac};
use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HOST, HeaderName};

use super::authorization::Unsigned;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// What is escaped: all but letters, digits, `-`, `.`, `_` and `~`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Whose request it is, and to which service.
pub(super) struct Keys<'a> {
    pub(super) id: String,
    pub(super) secret: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
}

/// The headers that sign `request`; all others that it has are signed with it.
///
/// # Errors
///
/// When it has a header that is not text, or no host.
pub(super) fn headers(
    keys: &Keys<'_>,
    request: &Unsigned<'_>,
) -> Result<Vec<(HeaderName, String)>, &'static str> {
    let at = i64::try_from(request.at).ok();
    let at = at.and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let at = at.ok_or("the clock shows a time that no request can have")?;
    let date = at.strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut signed = vec![
        (HOST, authority(request).ok_or("the URL names no host")?),
        (DATE, date.clone()),
    ];
    signed.extend(keys.token.map(|token| (TOKEN, token.to_owned())));
    for (name, value) in request.headers {
        let value = value.to_str().map_err(|_| "a header is not text")?;
        let value: Vec<_> = value.split_ascii_whitespace().collect();
        signed.push((name.clone(), value.join(" ")));
    }
    signed.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    let names: Vec<_> = signed.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines = signed.iter();
    let lines: String = lines
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{}",
        request.method,
        path(request.url.path()),
        query(request),
        hash(request.body)
    );
    let day = at.strftime("%Y%m%d").to_string();
    let scope = format!("{day}/{}/{}/aws4_request", keys.region, keys.service);
    let text = format!(
        "{ALGORITHM}\n{date}\n{scope}\n{}",
        hash(canonical.as_bytes())
    );
    let signature = HEXLOWER.encode(&mac(&signing_key(keys, &day), &text));
    let mut headers = vec![
        (DATE, date),
        (
            AUTHORIZATION,
            format!(
                "{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
                keys.id
            ),
        ),
    ];
    headers.extend(keys.token.map(|token| (TOKEN, token.to_owned())));
    Ok(headers)
}

/// The key for one day, region and service.
fn signing_key(keys: &Keys<'_>, day: &str) -> Vec<u8> {
    let first = format!("AWS4{}", keys.secret).into_bytes();
    [day, keys.region, keys.service, "aws4_request"]
        .iter()
        .fold(first, |key, part| mac(&key, part))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// As the client writes it into `Host`.
fn authority(request: &Unsigned<'_>) -> Option<String> {
    let host = request.url.host_str()?;
    Some(match request.url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

/// Each segment escaped once more: every service but S3 wants it so.
fn path(path: &str) -> String {
    let segments = path.split('/');
    let escaped: Vec<_> = segments.map(escape).collect();
    escaped.join("/")
}

fn query(request: &Unsigned<'_>) -> String {
    let pairs = request.url.query().unwrap_or_default().split('&');
    let mut pairs: Vec<_> = pairs
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text| percent_decode_str(text).decode_utf8_lossy();
            (escape(&plain(name)), escape(&plain(value)))
        })
        .collect();
    pairs.sort();
    let pairs = pairs.into_iter();
    let pairs: Vec<_> = pairs
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderMap, HeaderValue};
    use url::Url;

    const KEYS: Keys<'static> = Keys {
        id: String::new(),
        secret: "countersign-test-secret",
        token: None,
        region: "eu-west-1",
        service: "sms-voice",
    };

    /// 2026-01-02T03:04:05Z
    const AT: u64 = 1_767_323_045_000;

    fn authorization(keys: &Keys<'_>, url: &str) -> String {
        let mut headers = HeaderMap::new();
        let fixed = HeaderValue::from_static;
        headers.insert("content-type", fixed("application/x-amz-json-1.0"));
        let target = "PinpointSMSVoiceV2.SendTextMessage";
        headers.insert("x-amz-target", fixed(target));
        let request = Unsigned {
            method: "POST",
            url: &Url::parse(url).expect("a URL"),
            headers: &headers,
            body: br#"{"DestinationPhoneNumber":"+4915123456789","MessageBody":"hi"}"#,
            at: AT,
            token: None,
        };
        let headers = super::headers(keys, &request).expect("signed");
        assert_eq!(headers[0], (DATE, "20260102T030405Z".to_owned()));
        headers[1].1.clone()
    }

    #[test]
    fn a_request_is_signed_as_botocore_signs_it() {
        assert_eq!(
            HEXLOWER.encode(&signing_key(&KEYS, "20260102")),
            "740bf0c8a01b81161447b0e0a519868967f571fa2e6c5486333e85f8b394ce55"
        );
        let keys = Keys {
            id: "AKIDEXAMPLE".to_owned(),
            ..KEYS
        };
        assert_eq!(
            authorization(&keys, "https://sms-voice.eu-west-1.amazonaws.com/"),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-west-1/sms-voice/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
             Signature=5ad032ad74315362387fa2cec02575700254cf878c5731a0a921567fc9201c25"
        );
    }

    #[test]
    fn a_token_the_path_and_the_query_are_signed() {
        let root = "https://sms-voice.eu-west-1.amazonaws.com/";
        let plain = authorization(&KEYS, root);
        let lent = Keys {
            token: Some("lent-for-an-hour"),
            ..KEYS
        };
        assert!(authorization(&lent, root).contains(";x-amz-security-token;x-amz-target"));
        for other in ["a", "?a=1", "?b=1&a=2", "?a=%20"] {
            assert_ne!(plain, authorization(&KEYS, &format!("{root}{other}")));
        }
        // The order of a query does not matter, nor how it is escaped.
        let one = authorization(&KEYS, &format!("{root}?b=1&a=~"));
        assert_eq!(one, authorization(&KEYS, &format!("{root}?a=%7E&b=1")));
        assert_eq!(path("/a%20b/c:d"), "/a%2520b/c%3Ad");
    }
}
