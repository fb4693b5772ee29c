//! The digits of a one-time code: derived when needed, never stored.
//!
//! A code is HMAC-SHA-256 under the host's code key over round, service, purpose, subject and the
//! challenge's random id, each with its length before it. The first eight bytes are taken as an
//! integer; at or above the largest multiple of 10^digits the next round is taken, else it is reduced
//! modulo 10^digits: every code is possible and none is likelier than another (OWASP ASVS 5.0,
//! 6.5.3; NIST SP 800-63B-4 section 3.1.3.2).

use countersign_queue::ChallengeRef;
use countersign_store::Keyring;
use countersign_types::Secret;

/// The digits of `challenge`. `None` where the host no longer has its key, or where the number of
/// digits is not 6 to 10.
pub fn digits(keyring: &Keyring, challenge: &ChallengeRef) -> Option<Secret<String>> {
    if !(6..=10).contains(&challenge.digits) {
        return None;
    }
    let modulus = 10u64.pow(u32::from(challenge.digits));
    let limit = u64::MAX - u64::MAX % modulus;
    for round in 0u32.. {
        let hash = keyring.code_hmac(
            challenge.key_id,
            &[
                &round.to_be_bytes(),
                challenge.service.as_bytes(),
                challenge.purpose.as_bytes(),
                challenge.subject.as_bytes(),
                &challenge.id,
            ],
        )?;
        let value = hash[..8]
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte));
        // The chance of another round is below 10^10 / 2^64.
        if value < limit {
            let width = usize::from(challenge.digits);
            return Some(Secret::new(format!("{:0width$}", value % modulus)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_types::{SeededEntropy, UnixMillis};

    fn keyring(folder: &tempfile::TempDir) -> Keyring {
        Keyring::load_or_create(folder.path(), true, &SeededEntropy::new([3; 32])).expect("made")
    }

    fn challenge(id: u128, digits: u8) -> ChallengeRef {
        ChallengeRef {
            id: id.to_be_bytes(),
            key_id: 1,
            service: "default".into(),
            purpose: "verification".into(),
            subject: "s".into(),
            digits,
            expires: UnixMillis(0),
        }
    }

    #[test]
    fn a_code_has_its_digits_and_keeps_leading_zeros() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = keyring(&folder);
        let mut leading_zero = false;
        for id in 0..200 {
            for width in 6..=10 {
                let code = digits(&keys, &challenge(id, width)).expect("a code");
                assert_eq!(code.expose().len(), usize::from(width));
                assert!(code.expose().bytes().all(|digit| digit.is_ascii_digit()));
                leading_zero |= code.expose().starts_with('0');
            }
        }
        assert!(leading_zero);
    }

    #[test]
    fn fewer_than_six_digits_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = keyring(&folder);
        assert!(digits(&keys, &challenge(1, 5)).is_none());
        assert!(digits(&keys, &challenge(1, 11)).is_none());
    }

    #[test]
    fn a_code_is_bound_to_service_purpose_subject_and_challenge() {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = keyring(&folder);
        // Ten digits, so that a chance hit is out of the question.
        let base = challenge(1, 10);
        let code =
            |challenge: &ChallengeRef| digits(&keys, challenge).expect("a code").expose().clone();
        let others = [
            ChallengeRef {
                service: "other".into(),
                ..base.clone()
            },
            ChallengeRef {
                purpose: "login".into(),
                ..base.clone()
            },
            ChallengeRef {
                subject: "t".into(),
                ..base.clone()
            },
            challenge(2, 10),
        ];
        for other in &others {
            assert_ne!(code(&base), code(other));
        }
        assert_eq!(code(&base), code(&base.clone()));
    }

    #[test]
    fn every_digit_is_as_likely_at_every_place() {
        // Chi-squared over 60,000 codes: 9 degrees of freedom at each of 6 places. The value that
        // chance exceeds once in a million is 47; the keys are fixed, so the test is too.
        let folder = tempfile::tempdir().expect("a folder");
        let keys = keyring(&folder);
        let mut counts = [[0f64; 10]; 6];
        const CODES: u32 = 60_000;
        for id in 0..CODES {
            let code = digits(&keys, &challenge(u128::from(id), 6)).expect("a code");
            for (place, digit) in code.expose().bytes().enumerate() {
                counts[place][usize::from(digit - b'0')] += 1.0;
            }
        }
        let expected = f64::from(CODES) / 10.0;
        for place in counts {
            let chi: f64 = place
                .iter()
                .map(|n| (n - expected).powi(2) / expected)
                .sum();
            assert!(chi < 47.0, "{chi}");
        }
    }
}
