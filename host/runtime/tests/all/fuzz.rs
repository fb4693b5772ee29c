//! Damaged and tampered components on the way in: each is refused with a reason, or works; never is
//! anything else different afterwards.
#![expect(
    clippy::print_stderr,
    reason = "a failure is told with its seed, a success with what there was"
)]

use std::time::{Duration, Instant, SystemTime};

use countersign_hostile::{PROBE, PROBE_OTP, PROBE_PROVIDER};
use countersign_runtime::{InstallError, Sha256, inspect};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng};

use crate::registry::{OTP, bench, install, send};

/// A number of the environment, else the default.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name} is no number: `{text}`")),
        Err(_) => default,
    }
}

/// Five seconds, or what `cargo xtask fuzz` says.
fn span() -> Duration {
    Duration::from_secs(number("COUNTERSIGN_TEST_FUZZ_SECONDS", 5))
}

fn seed() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = number(
        "COUNTERSIGN_TEST_SEED",
        now.map_or(0, |now| now.subsec_nanos().into()),
    );
    eprintln!("COUNTERSIGN_TEST_SEED={seed}");
    seed
}

/// Bytes that parsers stumble over: ends and signs of LEB128, and of sections.
const AWKWARD: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x40, 0x60, 0x0b];

/// Changes `bytes` in one of the ways in which a file comes to be another.
fn mutate(random: &mut StdRng, bytes: &mut Vec<u8>, other: &[u8]) {
    let length = bytes.len().max(1);
    let place = |random: &mut StdRng| {
        // As often near the beginning, where the types are, as anywhere.
        let end = if random.random() {
            length
        } else {
            length.min(4_096)
        };
        random.random_range(0..end)
    };
    let at = place(random);
    let span = random.random_range(1..64usize).min(length - at);
    match random.random_range(0..9) {
        0 => bytes.truncate(at),
        1 if at < bytes.len() => bytes[at] ^= 1u8 << random.random_range(0..8u32),
        2 if at < bytes.len() => bytes[at] = AWKWARD[random.random_range(0..AWKWARD.len())],
        3 if at + span <= bytes.len() => random.fill_bytes(&mut bytes[at..at + span]),
        4 if at + span <= bytes.len() => drop(bytes.drain(at..at + span)),
        5 if at + span <= bytes.len() => {
            let copied = bytes[at..at + span].to_vec();
            let to = place(random).min(bytes.len());
            drop(bytes.splice(to..to, copied));
        }
        6 => {
            let from = random.random_range(0..other.len());
            let until = (from + random.random_range(1..4_096)).min(other.len());
            let to = at.min(bytes.len());
            drop(bytes.splice(to..to, other[from..until].iter().copied()));
        }
        7 => bytes.extend_from_slice(other),
        // A digit or a letter of a name.
        _ => {
            let mut letters = bytes.iter_mut().skip(at);
            if let Some(letter) = letters.find(|byte| byte.is_ascii_alphanumeric()) {
                *letter = b"0a1z@/"[random.random_range(0..6usize)];
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_component_is_refused_with_a_reason_or_works() {
    let mut random = StdRng::seed_from_u64(seed());
    let (bench, registry) = bench().await;
    let bases = [OTP, OTP, PROBE_OTP, PROBE, PROBE_PROVIDER];
    let before = registry.record("otp").await.unwrap();
    let (mut refused, mut taken, mut sent) = (0u32, 0u32, 0);
    let until = Instant::now() + span();
    while Instant::now() < until {
        let mut bytes = bases[random.random_range(0..bases.len())].to_vec();
        let other = bases[random.random_range(0..bases.len())];
        for _ in 0..random.random_range(1..4) {
            mutate(&mut random, &mut bytes, other);
        }
        if bytes == OTP {
            // Changed and changed back.
            continue;
        }
        let began = Instant::now();
        match install(&registry, "otp", &bytes).await {
            Err(InstallError::Store(error)) => panic!("the store failed: {error}"),
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty() && !error.help().is_empty());
                let now = registry.record("otp").await.unwrap();
                assert_eq!(now.live, before.live, "{error}");
            }
            Ok(done) => {
                // What was changed was nothing that matters, or nothing that a self-test finds.
                taken += 1;
                assert_eq!(done.record.live, Sha256::of(&bytes));
                let back = registry.roll_back("otp", None).await;
                assert_eq!(back.unwrap().live, before.live);
            }
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it took long");
        if (refused + taken).is_multiple_of(64) {
            let phone = format!("+1202{:03}{:04}", 456 + sent / 10_000, sent % 10_000);
            send(&bench, &phone).await.unwrap();
            sent += 1;
        }
    }
    eprintln!("{refused} refused, {taken} taken");
    assert!(refused > 0, "{taken} taken");
    let sent = send(&bench, "+12025550123").await;
    sent.unwrap();
}

#[test]
fn whatever_is_inspected_is_told_or_refused() {
    let mut random = StdRng::seed_from_u64(seed());
    let until = Instant::now() + span().div_f64(5.0);
    let mut looked = 0u64;
    while Instant::now() < until {
        let mut bytes = match random.random_range(0..3) {
            // Nothing but noise, with a beginning that is right.
            0 => {
                let mut bytes = vec![0; random.random_range(0..2_048)];
                random.fill_bytes(&mut bytes);
                [&b"\0asm\x0d\0\x01\0"[..], &bytes[..]].concat()
            }
            1 => PROBE_PROVIDER.to_vec(),
            _ => OTP[..random.random_range(0..OTP.len())].to_vec(),
        };
        mutate(&mut random, &mut bytes, PROBE);
        if let Ok(found) = inspect(&bytes) {
            assert_eq!(found.bytes, bytes.len() as u64);
        }
        looked += 1;
    }
    eprintln!("{looked} inspected");
    assert!(looked > 0);
}
