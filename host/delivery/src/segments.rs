//! How many SMS carry a text, and which of its letters make it more.
//!
//! Sources: 3GPP TS 23.038, sections 4 and 6.2.1, for the alphabet and its extension table; TS 23.040,
//! section 9.2.3.24.1, for the header that parts of one message begin with.

use icu_normalizer::DecomposingNormalizerBorrowed;

/// How a text is written into an SMS. One letter that the GSM alphabet lacks puts all of it into the
/// wider one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// The GSM 7 bit default alphabet with its extension table. National tables are not counted on:
    /// which of them a network takes is nobody's to know beforehand.
    Gsm7,
    /// 16 bits a unit; a letter beyond the basic plane takes two units, as in UTF-16.
    Ucs2,
}

impl Encoding {
    /// Its name, as people know it.
    pub fn word(self) -> &'static str {
        match self {
            Encoding::Gsm7 => "GSM-7",
            Encoding::Ucs2 => "UCS-2",
        }
    }

    /// How many units a single SMS holds.
    pub fn alone(self) -> usize {
        match self {
            Encoding::Gsm7 => 160,
            Encoding::Ucs2 => 70,
        }
    }

    /// How many units each of several SMS holds that belong together: a header of 6 bytes takes the rest.
    pub fn in_each(self) -> usize {
        match self {
            Encoding::Gsm7 => 153,
            Encoding::Ucs2 => 67,
        }
    }
}

/// What a text takes of an SMS, or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    /// How it is written.
    pub encoding: Encoding,
    /// How long it is: septets, or UTF-16 units.
    pub units: usize,
    /// How many SMS it takes, each of which is paid for; 0 for an empty text.
    pub count: u32,
}

impl Segments {
    /// Counts those of `text`.
    pub fn of(text: &str) -> Segments {
        if text.chars().all(|letter| septets(letter).is_some()) {
            count(Encoding::Gsm7, text.chars().filter_map(septets))
        } else {
            count(Encoding::Ucs2, text.chars().map(char::len_utf16))
        }
    }
}

/// Fills one SMS after the other: what takes two units is not torn apart between two of them.
fn count(encoding: Encoding, widths: impl Iterator<Item = usize> + Clone) -> Segments {
    let units = widths.clone().sum();
    let mut segments = Segments {
        encoding,
        units,
        count: u32::from(units > 0),
    };
    if units <= encoding.alone() {
        return segments;
    }
    let mut used = 0;
    for width in widths {
        if used + width > encoding.in_each() {
            segments.count += 1;
            used = 0;
        }
        used += width;
    }
    segments
}

/// How many septets a letter of the GSM alphabet takes; `None` for any other letter.
fn septets(letter: char) -> Option<usize> {
    const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà";
    const EXTENSION: &str = "\u{c}^{}\\[~]|€";
    if letter.is_ascii_alphanumeric() || BASIC.contains(letter) {
        Some(1)
    } else if EXTENSION.contains(letter) {
        Some(2)
    } else {
        None
    }
}

/// A letter that the GSM alphabet lacks, where it stands first in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddLetter {
    /// The letter.
    pub letter: char,
    /// Its line, counted from 1.
    pub line: usize,
    /// Which character of the line it is, counted from 1.
    pub column: usize,
    /// How often it comes.
    pub times: usize,
    /// What people write in its place, in the GSM alphabet, where there is something obvious.
    pub instead: Option<String>,
}

/// The letters of `text` that the GSM alphabet lacks, each once, in the order in which they come.
pub fn odd_letters(text: &str) -> Vec<OddLetter> {
    let mut odd: Vec<OddLetter> = Vec::new();
    let (mut line, mut column) = (1, 0);
    for letter in text.chars() {
        column += 1;
        if septets(letter).is_none() {
            match odd.iter_mut().find(|known| known.letter == letter) {
                Some(known) => known.times += 1,
                None => odd.push(OddLetter {
                    letter,
                    line,
                    column,
                    times: 1,
                    instead: in_gsm(letter),
                }),
            }
        }
        if letter == '\n' {
            (line, column) = (line + 1, 0);
        }
    }
    odd
}

/// Of the letters of a text so many at most may be odd: with more it is in an alphabet of its own, and
/// nobody would write it in another one for the price.
const ODD_SHARE: usize = 4;

/// The letters of `text` that alone make it more SMS than it would be without them, and how many it would
/// be; `None` where there are none, or where the whole text is in another alphabet.
pub fn dear_letters(text: &str) -> Option<(Vec<OddLetter>, u32)> {
    let odd = odd_letters(text);
    let times: usize = odd.iter().map(|odd| odd.times).sum();
    if times == 0 || times * ODD_SHARE > text.chars().count() {
        return None;
    }
    let written: String = text
        .chars()
        .map(|letter| {
            let known = odd.iter().find(|odd| odd.letter == letter);
            match known.map(|odd| odd.instead.as_deref()) {
                None => letter.to_string(),
                Some(instead) => instead.unwrap_or("?").to_owned(),
            }
        })
        .collect();
    let without = Segments::of(&written).count;
    (without < Segments::of(text).count).then_some((odd, without))
}

/// What stands for `letter` in the GSM alphabet, where that is obvious: marks that typography has several
/// of, and letters without their accents.
fn in_gsm(letter: char) -> Option<String> {
    let plain = match letter {
        '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}' | '\u{2032}' | '`' | '´' => "'",
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '\u{201f}' | '\u{2033}' | '«' | '»' => "\"",
        '\u{2010}'..='\u{2015}' | '\u{2212}' => "-",
        '•' | '·' => "-",
        '\t' => " ",
        // They have no accent that could be taken off.
        'ı' => "i",
        'ł' => "l",
        'Ł' => "L",
        'đ' => "d",
        'Đ' => "D",
        'œ' => "oe",
        'Œ' => "OE",
        'þ' => "th",
        'ð' => "d",
        // Nobody sees them.
        '\u{ad}' | '\u{200b}' | '\u{2060}' | '\u{feff}' => "",
        _ => {
            let decomposed = letter.to_string();
            let decomposed = DecomposingNormalizerBorrowed::new_nfkd().normalize(&decomposed);
            let is_mark = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
            let plain: String = decomposed.chars().filter(|c| !is_mark(c)).collect();
            let is_good = !plain.is_empty() && plain.chars().all(|c| septets(c).is_some());
            return is_good.then_some(plain);
        }
    };
    Some(plain.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, encoding: Encoding, units: usize, count: u32) {
        let want = Segments {
            encoding,
            units,
            count,
        };
        let letters = text.chars().count();
        assert_eq!(Segments::of(text), want, "{letters} letters: {text}");
    }

    fn many(letter: &str, times: usize) -> String {
        letter.repeat(times)
    }

    #[test]
    fn a_message_of_the_gsm_alphabet_holds_160_letters_and_any_other_70() {
        use Encoding::{Gsm7, Ucs2};
        check("", Gsm7, 0, 0);
        for (letters, count) in [(1, 1), (160, 1), (161, 2), (306, 2), (307, 3)] {
            check(&many("a", letters), Gsm7, letters, count);
        }
        // German, Danish, Spanish and Greek capitals cost nothing extra; the euro counts twice.
        check(&many("äÖßåØñ¿ΔΩ@", 16), Gsm7, 160, 1);
        check(&many("€", 80), Gsm7, 160, 1);
        check(&many("€", 81), Gsm7, 162, 2);
        for (letters, count) in [(70, 1), (71, 2), (134, 2), (135, 3)] {
            check(&many("ж", letters), Ucs2, letters, count);
        }
        // Beyond the basic plane a letter is two units.
        check(&many("🔑", 35), Ucs2, 70, 1);
        check(&many("🔑", 36), Ucs2, 72, 2);
        check("Ç", Gsm7, 1, 1);
        check("ç", Ucs2, 1, 1);
        check("Don't", Gsm7, 5, 1);
        check("Don\u{2019}t", Ucs2, 5, 1);
        check(&format!("{}ç", many("a", 70)), Ucs2, 71, 2);
    }

    #[test]
    fn what_takes_two_units_is_not_torn_apart_between_two_messages() {
        use Encoding::{Gsm7, Ucs2};
        let euro = |before, after| format!("{}€{}", many("a", before), many("a", after));
        check(&euro(152, 151), Gsm7, 305, 2);
        check(&euro(152, 152), Gsm7, 306, 3);
        check(&euro(153, 151), Gsm7, 306, 2);
        let key = |before, after| format!("{}🔑{}", many("ж", before), many("ж", after));
        check(&key(66, 66), Ucs2, 134, 3);
        check(&key(65, 67), Ucs2, 134, 2);
    }

    /// The alphabet by its codes, row by row as the standard draws it; the escape is no letter.
    const TABLE: [&str; 8] = [
        "@£$¥èéùìòÇ\nØø\rÅå",
        "ΔΦΓΛΩΠΨΣΘΞ",
        "_ÆæßÉ",
        " !\"#¤%&'()*+,-./0123456789:;<=>?",
        "¡ABCDEFGHIJKLMNO",
        "PQRSTUVWXYZÄÖÑÜ§",
        "¿abcdefghijklmno",
        "pqrstuvwxyzäöñüà",
    ];
    /// What is written with the escape before it.
    const ESCAPED: [char; 10] = ['\u{c}', '^', '{', '}', '\\', '[', '~', ']', '|', '€'];

    /// Writes the text down and cuts it where a phone company does: it knows no sums.
    fn naive(text: &str) -> Segments {
        const ESCAPE: u32 = 0x1b;
        let in_table = |c: char| TABLE.iter().any(|row| row.contains(c));
        let mut septets = Some(Vec::new());
        for c in text.chars() {
            match &mut septets {
                Some(written) if in_table(c) => written.push(u32::from(c)),
                Some(written) if ESCAPED.contains(&c) => written.extend([ESCAPE, u32::from(c)]),
                _ => septets = None,
            }
        }
        let (encoding, units, alone, each) = match septets {
            Some(septets) => (Encoding::Gsm7, septets, 160, 153),
            None => {
                let units = text.encode_utf16().map(u32::from).collect();
                (Encoding::Ucs2, units, 70, 67)
            }
        };
        let begins_a_pair = |unit: u32| match encoding {
            Encoding::Gsm7 => unit == ESCAPE,
            Encoding::Ucs2 => (0xd800..0xdc00).contains(&unit),
        };
        let mut count = 0;
        let mut rest = &units[..];
        while !rest.is_empty() {
            let whole = if units.len() <= alone { alone } else { each };
            let mut cut = rest.len().min(whole);
            if cut < rest.len() && begins_a_pair(rest[cut - 1]) {
                cut -= 1;
            }
            rest = &rest[cut..];
            count += 1;
        }
        Segments {
            encoding,
            units: units.len(),
            count,
        }
    }

    #[test]
    fn the_alphabet_is_the_standards() {
        let letters: usize = TABLE.iter().map(|row| row.chars().count()).sum();
        assert_eq!(letters, 127, "128 codes, one of which is the escape");
        for c in (0..=u32::from(char::MAX)).filter_map(char::from_u32) {
            let want = if TABLE.iter().any(|row| row.contains(c)) {
                Some(1)
            } else {
                ESCAPED.contains(&c).then_some(2)
            };
            assert_eq!(septets(c), want, "{c:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_of_the_gsm_alphabet_is_counted_as_it_is_cut(
            text in "[a-zA-Z0-9 @£äÖñ€\\[\\]{}|^~\n]{0,500}",
        ) {
            prop_assert_eq!(Segments::of(&text), naive(&text));
        }

        #[test]
        fn any_text_at_all_is_counted_as_it_is_cut(text in "(?s)[a-zж我🔑€’ ]{0,250}|.{0,250}") {
            prop_assert_eq!(Segments::of(&text), naive(&text));
        }

        #[test]
        fn a_text_that_grows_never_takes_fewer(text in "[a€ж🔑]{0,300}") {
            let mut last = 0;
            for (end, letter) in text.char_indices() {
                let count = Segments::of(&text[..end + letter.len_utf8()]).count;
                prop_assert!(count >= last);
                last = count;
            }
        }
    }

    #[track_caller]
    fn check_odd(text: &str, want: &[(char, usize, usize, usize, Option<&str>)]) {
        let found = odd_letters(text);
        let found: Vec<_> = found
            .iter()
            .map(|odd| {
                let instead = odd.instead.as_deref();
                (odd.letter, odd.line, odd.column, odd.times, instead)
            })
            .collect();
        assert_eq!(found, want, "{text}");
    }

    #[test]
    fn a_letter_outside_the_alphabet_is_named_with_its_place_and_what_to_write() {
        check_odd("It's {code} [€]", &[]);
        check_odd("It\u{2019}s", &[('\u{2019}', 1, 3, 1, Some("'"))]);
        check_odd(
            "a\nbçd ç\u{a0}…",
            &[
                ('ç', 2, 2, 2, Some("c")),
                ('\u{a0}', 2, 6, 1, Some(" ")),
                ('…', 2, 7, 1, Some("...")),
            ],
        );
        check_odd("я", &[('я', 1, 1, 1, None)]);
        check_odd("🔑", &[('🔑', 1, 1, 1, None)]);
        for (letter, instead) in [
            ("ê", "e"),
            ("Á", "A"),
            ("ł", "l"),
            ("ğ", "g"),
            ("–", "-"),
            ("“", "\""),
            ("\u{200b}", ""),
            ("ﬁ", "fi"),
            ("\t", " "),
        ] {
            let odd = odd_letters(letter);
            assert_eq!(odd[0].instead.as_deref(), Some(instead), "{letter:?}");
        }
    }

    #[test]
    fn letters_are_dear_where_they_alone_make_a_message_longer() {
        let long = |end: &str| format!("{}{end}", many("a", 100));
        let (odd, without) = dear_letters(&long("\u{2019}")).expect("dear");
        assert_eq!((odd.len(), without), (1, 1));
        // A letter without a replacement is one as well.
        assert!(dear_letters(&long("🔑")).is_some());
        assert_eq!(dear_letters(&long("'")), None);
        // A short text is one SMS either way.
        assert_eq!(dear_letters("It\u{2019}s short"), None);
        // And nobody writes Russian in Latin letters.
        assert_eq!(dear_letters(&many("ж", 100)), None);
    }

    /// Components count for themselves, by a table of their own, and a message must not be one thing to the
    /// operator's warnings and another to a company.
    #[test]
    fn components_count_as_the_host_does() {
        let check = |text: &str| {
            let ours = Segments::of(text);
            let theirs = match countersign_provider::encoding(text) {
                countersign_provider::Encoding::Gsm7 => Encoding::Gsm7,
                countersign_provider::Encoding::Ucs2 => Encoding::Ucs2,
            };
            let counted = countersign_provider::segments(text);
            assert_eq!((ours.encoding, ours.count), (theirs, counted), "{text:?}");
        };
        check("");
        for letter in (0..=0x1_ffff).filter_map(char::from_u32) {
            check(&letter.to_string());
        }
        for letter in ['a', '\u{20ac}', '\u{436}', '\u{1f511}'] {
            for n in 1..=320 {
                check(&format!("{}{letter}", many("a", n)));
                check(&letter.to_string().repeat(n));
            }
        }
    }
}
