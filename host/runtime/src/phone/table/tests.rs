use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::phone::judge as library;

/// Every example number of the metadata, in E.164, as its region writes it.
fn examples() -> Vec<(&'static Metadata, String)> {
    let of_region = |meta: &'static Metadata| {
        let d = meta.descriptors();
        [
            Some(d.general()),
            d.fixed_line(),
            d.mobile(),
            d.toll_free(),
            d.premium_rate(),
            d.shared_cost(),
            d.personal_number(),
            d.voip(),
            d.pager(),
            d.uan(),
            d.voicemail(),
        ]
        .into_iter()
        .filter_map(move |d| Some((meta, d?.example()?.to_owned())))
    };
    // `iter` has only one of the regions that are called 001.
    (1..1000_u16)
        .flat_map(|code| DATABASE.by_code(&code).unwrap_or_default())
        .flat_map(of_region)
        .collect()
}

/// What the table accepts, the library accepts with the same answer. Returns whether it accepted.
#[track_caller]
fn same(text: &str) -> bool {
    match plain(text) {
        Some(number) => {
            assert_eq!(library(text, None).as_ref(), Ok(&number), "{text}");
            true
        }
        None => false,
    }
}

/// `national` with something wrong, or another number.
fn damaged(random: &mut StdRng, national: &str) -> String {
    let digit = |random: &mut StdRng| char::from(b'0' + (random.next_u32() % 10) as u8);
    let mut digits: Vec<char> = national.chars().collect();
    for _ in 0..random.random_range(1..=3) {
        let at = random.random_range(0..digits.len().max(1));
        match random.random_range(0..5) {
            0 => digits.insert(at, digit(random)),
            1 if digits.len() > 1 => drop(digits.remove(at)),
            2 => digits.insert(0, '0'),
            _ if at < digits.len() => digits[at] = digit(random),
            _ => {}
        }
    }
    // The tail decides least, so most of these stay valid.
    for at in digits.len().saturating_sub(4)..digits.len() {
        digits[at] = digit(random);
    }
    digits.into_iter().collect()
}

#[test]
fn what_the_table_accepts_the_library_accepts_with_the_same_answer() {
    let mut random = StdRng::seed_from_u64(0x00C0_DE00);
    let (mut cases, mut accepted) = (0, 0);
    for (meta, national) in examples() {
        let code = meta.country_code();
        let mut texts = vec![
            format!("+{code}{national}"),
            format!("+{code}0{national}"),
            format!("+0{code}{national}"),
            format!("+00{code}{national}"),
        ];
        texts.extend(
            meta.national_prefix()
                .map(|p| format!("+{code}{p}{national}")),
        );
        texts.extend((0..150).map(|_| format!("+{code}{}", damaged(&mut random, &national))));
        texts.extend((4..=15).flat_map(|length| {
            let most = 10_u64.pow(length);
            [(); 8].map(|()| format!("+{code}{:0>1$}", random.next_u64() % most, length as usize))
        }));
        for text in texts {
            cases += 1;
            accepted += usize::from(same(&text));
        }
    }
    assert!(cases > 200_000, "{cases}");
    assert!(accepted > 40_000, "{accepted} of {cases}");
}

#[test]
fn valid_numbers_are_left_to_the_library_only_where_it_rewrites_them() {
    let (mut valid, mut left) = (0, Vec::new());
    for (meta, national) in examples() {
        let text = format!("+{}{national}", meta.country_code());
        let Ok(number) = library(&text, None) else {
            continue;
        };
        valid += 1;
        if !same(&text) && number.e164 == text {
            left.push(text);
        }
    }
    assert!(valid > 1_000, "{valid}");
    // National prefixes that may also begin a number.
    assert!(
        left.len() * 50 < valid,
        "{} of {valid}: {left:?}",
        left.len()
    );
}

#[test]
fn regions_with_rules_of_their_own_are_in_the_table() {
    for (text, country) in [
        ("+12025550123", "US"),
        ("+14165550123", "CA"),
        ("+79123456789", "RU"),
        ("+77012345678", "KZ"),
        ("+447400123456", "GB"),
        ("+447797712345", "JE"),
        ("+358412345678", "FI"),
        ("+262692123456", "RE"),
        ("+590690001234", "GP"),
        ("+390236618300", "IT"),
        ("+2250123456789", "CI"),
        ("+5491123456789", "AR"),
        ("+5212221234567", "MX"),
        ("+522221234567", "MX"),
        ("+5511961234567", "BR"),
        ("+80012345678", "001"),
    ] {
        match plain(text) {
            Some(number) => assert_eq!((number.country.as_str(), same(text)), (country, true)),
            // Mexico's former prefix of mobile numbers is taken off, and without the zero an Italian
            // fixed line belongs to no region of +39.
            None => assert!(matches!(text, "+5212221234567" | "+390236618300"), "{text}"),
        }
    }
}

#[test]
fn what_is_not_plain_e164_is_left_to_the_library() {
    for text in [
        "",
        "+",
        "12025550123",
        "+1 2025550123",
        "+1202555012x",
        "+١٢٠٢٥٥٥٠١٢٣",
        "+012025550123",
        "+120255",
        "+1202555012345678",
        "++12025550123",
        "+99912345678",
        "+390000000",
    ] {
        assert_eq!(plain(text), None, "{text}");
    }
}
