//! What backup codes look like, and how they are drawn.

use std::collections::BTreeSet;

use rand::Rng;
use zeroize::Zeroizing;

/// Digits and capitals without those that are taken for each other: no 0 and O, no 1, I and L.
const ALPHABET: &[u8; 31] = b"23456789ABCDEFGHJKMNPQRSTUVWXYZ";

/// How many characters of a code say which of its set it is. They rest in plain beside the hash, so they
/// keep nothing secret.
pub(crate) const SELECTOR: usize = 3;
/// The characters that are secret: 31^13 is more than 2^64 (NIST SP 800-63B-4 section 3.1.2.1 asks for 20
/// bits; OWASP ASVS 5.0, 6.5.2, for a password hash below 112).
const SECRET: usize = 13;
const GROUP: usize = 4;

/// `codes` codes without hyphens, of which no two have the same selector.
pub(crate) fn draw(codes: u8, random: &mut impl Rng) -> Vec<Zeroizing<String>> {
    let mut selectors = BTreeSet::new();
    let mut drawn = Vec::new();
    while drawn.len() < usize::from(codes) {
        let code = draw_one(random);
        // Digits alone would look like a message's code.
        let only_digits = code.bytes().all(|byte| byte.is_ascii_digit());
        if !only_digits && selectors.insert(selector(&code).to_owned()) {
            drawn.push(code);
        }
    }
    drawn
}

fn draw_one(random: &mut impl Rng) -> Zeroizing<String> {
    let mut code = Zeroizing::new(String::with_capacity(SELECTOR + SECRET));
    while code.len() < SELECTOR + SECRET {
        // Five bits are a number below 32; the one that stands for no character is drawn again, so
        // that all are as likely.
        let number = (random.next_u32() >> 27) as usize;
        if let Some(character) = ALPHABET.get(number) {
            code.push(char::from(*character));
        }
    }
    code
}

/// The characters of a code that say which it is.
pub(crate) fn selector(code: &str) -> &str {
    code.get(..SELECTOR).unwrap_or(code)
}

/// A code as it is shown: in groups of four.
pub(crate) fn shown(code: &str) -> String {
    let mut shown = String::with_capacity(code.len() + code.len() / GROUP);
    for (at, character) in code.chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            shown.push('-');
        }
        shown.push(character);
    }
    shown
}

/// What somebody typed as it is compared: without anything but letters and digits, in capitals.
pub(crate) fn typed(text: &str) -> Zeroizing<String> {
    let code = text.chars().filter(char::is_ascii_alphanumeric);
    Zeroizing::new(code.map(|c| c.to_ascii_uppercase()).collect())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn r24_a_code_has_64_secret_bits_and_no_look_alikes() {
        let bits = SECRET as f64 * (ALPHABET.len() as f64).log2();
        assert!(bits >= 64.0, "{bits}");
        for c in ["0", "O", "1", "I", "L"] {
            assert!(!ALPHABET.contains(&c.as_bytes()[0]), "{c}");
        }
        let distinct: BTreeSet<&u8> = ALPHABET.iter().collect();
        assert_eq!(distinct.len(), ALPHABET.len());
    }

    #[test]
    fn r24_every_character_is_as_likely_at_every_place() {
        let mut random = StdRng::from_seed([5; 32]);
        let mut counts = [[0_u32; 31]; SELECTOR + SECRET];
        const CODES: u32 = 31_000;
        for _ in 0..CODES {
            let code = draw_one(&mut random);
            for (counts, byte) in counts.iter_mut().zip(code.bytes()) {
                let at = ALPHABET.iter().position(|known| *known == byte);
                counts[at.expect("of the alphabet")] += 1;
            }
        }
        for counts in counts {
            let chi: f64 = counts
                .iter()
                .map(|&count| (f64::from(count) - 1_000.0).powi(2) / 1_000.0)
                .sum();
            // 30 degrees of freedom: 66 is exceeded once in 6,000 draws.
            assert!(chi < 66.0, "{chi}");
        }
    }

    #[test]
    fn a_set_is_shown_in_groups_and_read_however_it_is_typed() {
        let codes = draw(20, &mut StdRng::from_seed([6; 32]));
        let selectors: BTreeSet<&str> = codes.iter().map(|code| selector(code)).collect();
        assert_eq!(selectors.len(), 20);
        for code in &codes {
            let shown = shown(code);
            assert_eq!(shown.len(), 19);
            assert_eq!(shown.matches('-').count(), 3);
            let spaced = shown.to_lowercase().replace('-', " ");
            let wrapped = format!(" {}\u{2011}\n", code.as_str());
            for text in [&shown, &spaced, code.as_str(), &wrapped] {
                assert_eq!(typed(text), *code);
            }
        }
        assert_eq!(shown("ABCD"), "ABCD");
        assert_eq!(selector("ä"), "ä");
    }
}
