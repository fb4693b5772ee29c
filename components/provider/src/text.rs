//! How a text travels: the GSM 7-bit alphabet or UCS-2, and in how many segments (3GPP TS 23.038).

/// The alphabet, without the escape.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?\
    ¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà";
/// What takes two places: the escape, and a code.
const EXTENDED: &str = "\u{c}^{}\\[~]|€";

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Seven bits a character: 160 in one segment, 153 in each of several.
    Gsm7,
    /// UTF-16: 70 units in one segment, 67 in each of several.
    Ucs2,
}

/// How `text` is written: one character that is not in the alphabet makes all of it UCS-2.
#[must_use]
pub fn encoding(text: &str) -> Encoding {
    let known = |char| BASIC.contains(char) || EXTENDED.contains(char);
    if text.chars().all(known) {
        Encoding::Gsm7
    } else {
        Encoding::Ucs2
    }
}

/// In how many segments `text` goes; none, where it is empty. A character that takes two places is not
/// split, so segments are filled one after the other.
#[must_use]
pub fn segments(text: &str) -> u32 {
    let encoding = encoding(text);
    let (alone, each) = match encoding {
        Encoding::Gsm7 => (160, 153),
        Encoding::Ucs2 => (70, 67),
    };
    let sizes = || {
        text.chars().map(move |char| match encoding {
            Encoding::Gsm7 if EXTENDED.contains(char) => 2,
            Encoding::Gsm7 => 1,
            Encoding::Ucs2 => char.len_utf16(),
        })
    };
    let all: usize = sizes().sum();
    if all <= alone {
        return u32::from(all > 0);
    }
    let mut segments = 1;
    let mut used = 0;
    for size in sizes() {
        if used + size > each {
            segments += 1;
            used = 0;
        }
        used += size;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: String, written: Encoding, want: u32) {
        assert_eq!(encoding(&text), written, "{text}");
        assert_eq!(segments(&text), want, "{text}");
    }

    #[test]
    fn segments_are_filled_one_after_the_other() {
        let a = |n| "a".repeat(n);
        let zh = |n| "ж".repeat(n);
        let gsm = Encoding::Gsm7;
        check(String::new(), gsm, 0);
        check(a(160), gsm, 1);
        check(a(161), gsm, 2);
        check(a(306), gsm, 2);
        check(a(307), gsm, 3);
        check("€".repeat(80), gsm, 1);
        check("€".repeat(81), gsm, 2);
        check(format!("{}€{}", a(152), a(151)), gsm, 2);
        check(format!("{}€{}", a(152), a(152)), gsm, 3);
        check(format!("{}€{}", a(153), a(151)), gsm, 2);
        let ucs = Encoding::Ucs2;
        check(zh(70), ucs, 1);
        check(zh(71), ucs, 2);
        check(zh(134), ucs, 2);
        check(zh(135), ucs, 3);
        check("😀".repeat(35), ucs, 1);
        check("😀".repeat(36), ucs, 2);
        check(format!("{}😀{}", zh(66), zh(66)), ucs, 3);
        check("Ç".into(), gsm, 1);
        check("ç".into(), ucs, 1);
        check("Don’t".into(), ucs, 1);
        check("Don't".into(), gsm, 1);
    }

    #[test]
    fn the_alphabet_is_whole() {
        assert_eq!(BASIC.chars().count(), 127, "and the escape");
        assert_eq!(EXTENDED.chars().count(), 10);
    }
}
