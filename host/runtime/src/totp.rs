//! Time-based one-time passwords (RFC 6238): HMAC-SHA-1, steps of 30 s, 6 digits, which is what every
//! authenticator app understands.

use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use countersign_types::{Secret, UnixMillis};
use data_encoding::BASE32_NOPAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// How many bytes a new secret has: the length that RFC 4226 section 4, R6, recommends.
pub(crate) const SECRET_BYTES: usize = 20;
/// The least that RFC 4226 section 4, R6, allows, and more than any app makes.
pub(crate) const MOVED_SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

const STEP: Duration = Duration::from_secs(30);
const MODULUS: u32 = 1_000_000;

/// RFC 3986's unreserved characters stay as they are.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The step that `now` is in.
fn step_at(now: UnixMillis) -> u64 {
    now.0 / STEP.as_millis() as u64
}

/// The last step whose code may have been accepted by `now`.
pub(crate) fn last_by(now: UnixMillis) -> u64 {
    step_at(now) + 1
}

/// The code of one step (RFC 4226 section 5.3).
fn code(key: &hmac::Key, step: u64) -> String {
    let hash = hmac::sign(key, &step.to_be_bytes());
    let hash = hash.as_ref();
    let offset = usize::from(hash[hash.len() - 1] & 0xf);
    let mut word = [0; 4];
    word.copy_from_slice(&hash[offset..offset + 4]);
    let number = u32::from_be_bytes(word) & 0x7fff_ffff;
    format!("{:06}", number % MODULUS)
}

/// The step whose code `typed` is, among the present one and its two neighbours, as far as it is later
/// than `last`. Always compares with all three.
pub(crate) fn matching_step(
    secret: &[u8],
    typed: &str,
    now: UnixMillis,
    last: Option<u64>,
) -> Option<u64> {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let present = step_at(now);
    let mut found = None;
    for step in present.saturating_sub(1)..=present + 1 {
        let right = code(&key, step);
        let same =
            constant_time::verify_slices_are_equal(right.as_bytes(), typed.as_bytes()).is_ok();
        if same && last.is_none_or(|last| step > last) {
            found = Some(step);
        }
    }
    found
}

/// `secret` as people type it: Base32 (RFC 4648) without padding.
pub(crate) fn base32(secret: &[u8]) -> Secret<String> {
    Secret::new(BASE32_NOPAD.encode(secret))
}

/// The secret that somebody's other system shows as `text`: capitals, blanks, hyphens and padding do not
/// matter.
pub(crate) fn from_base32(text: &str) -> Option<Secret<Vec<u8>>> {
    let text: String = text
        .chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '-' | '='))
        .map(|c| c.to_ascii_uppercase())
        .collect();
    BASE32_NOPAD.decode(text.as_bytes()).ok().map(Secret::new)
}

/// The address that an authenticator app reads from a QR code, in the form of Google's "Key Uri Format".
/// What it leaves out has the values that every app assumes; some refuse to read them.
pub(crate) fn uri(issuer: &str, account: &str, secret: &Secret<String>) -> Secret<String> {
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let (issuer, account) = (escaped(issuer), escaped(account));
    let secret = secret.expose();
    Secret::new(format!(
        "otpauth://totp/{issuer}:{account}?secret={secret}&issuer={issuer}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of RFC 6238, appendix B.
    const SECRET: &[u8] = b"12345678901234567890";

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(seconds * 1_000)
    }

    /// The last six digits of RFC 6238's eight, appendix B, SHA-1.
    #[test]
    fn r27_the_vectors_of_rfc_6238() {
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            let step = matching_step(SECRET, code, at(seconds), None);
            assert_eq!(step, Some(seconds / 30), "{code}");
        }
    }

    /// RFC 4226, appendix D.
    #[test]
    fn r27_the_vectors_of_rfc_4226() {
        let codes = [
            "755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583",
            "399871", "520489",
        ];
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET);
        let made: Vec<String> = (0..10).map(|count| code(&key, count)).collect();
        assert_eq!(made, codes);
    }

    #[test]
    fn r27_one_step_before_and_one_after_are_accepted_and_no_more() {
        // 081804 is the code from 1111111080 to 1111111109.
        for (seconds, accepted) in [
            (1_111_111_049, false),
            (1_111_111_050, true),
            (1_111_111_139, true),
            (1_111_111_140, false),
        ] {
            let step = matching_step(SECRET, "081804", at(seconds), None);
            assert_eq!(step.is_some(), accepted, "{seconds}");
        }
    }

    #[test]
    fn r27_a_step_is_not_accepted_twice_nor_one_before_it() {
        let now = at(1_111_111_109);
        let step = matching_step(SECRET, "081804", now, None);
        assert_eq!(matching_step(SECRET, "081804", now, step), None);
        let later = at(1_111_111_111);
        assert_eq!(matching_step(SECRET, "081804", later, step), None);
        let next = matching_step(SECRET, "050471", later, step);
        assert_eq!(next, step.map(|step| step + 1));
        assert_eq!(matching_step(SECRET, "081804", later, next), None);
    }

    #[test]
    fn what_is_no_code_is_wrong() {
        for typed in ["", "81804", "0081804", "08180a", "０８１８０４"] {
            let step = matching_step(SECRET, typed, at(1_111_111_109), None);
            assert_eq!(step, None, "{typed}");
        }
        let first = matching_step(SECRET, "755224", at(0), None);
        assert_eq!(first, Some(0), "at the beginning of time");
    }

    #[test]
    fn a_secret_survives_being_read_aloud() {
        let text = base32(SECRET);
        assert_eq!(text.expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for typed in [
            "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
            " gezd gnbv gy3t qojq gezd gnbv gy3t-qojq ==",
        ] {
            let read = from_base32(typed).expect("Base32");
            assert_eq!(read.expose(), SECRET);
        }
        assert!(from_base32("GEZDGNB1").is_none());
        assert!(from_base32("ä").is_none());
    }

    #[test]
    fn the_address_has_nothing_that_an_app_misreads() {
        let secret = Secret::new("GEZDGNBV".to_owned());
        let uri = uri("Müller & Co", "alice@example.com: 1", &secret);
        assert_eq!(
            uri.expose(),
            "otpauth://totp/M%C3%BCller%20%26%20Co:alice%40example.com%3A%201\
             ?secret=GEZDGNBV&issuer=M%C3%BCller%20%26%20Co"
        );
    }
}
