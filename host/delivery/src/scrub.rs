//! Removing codes and telephone numbers from text that providers write.

use countersign_types::is_control;

/// How many characters between two digits do not hide that they belong together: `) (`.
const BETWEEN_MAX: usize = 3;

/// As many digits in a row, with nothing but punctuation and blanks between them, are a code or a
/// number: codes have 6 to 10, numbers 7 to 15, and one that was cut off at its end a few less.
const DIGITS: usize = 5;
/// As many in one word with letters between them are one: `4a4a1a8`. Words do not look like this.
const DIGITS_IN_A_WORD: usize = 4;
/// As many with anything between them are one: `4x 8x 1x 2x 3x 4x`. Of five, `HTTP/2 502 h2` would be.
const DIGITS_ANYHOW: usize = 6;

/// `text` without what can be a code (6 to 10 digits) or a telephone number (7 to 15). Up to three
/// characters between two digits do not hide that they belong together. Control characters (see
/// [`is_control`]) become blanks, so that nobody writes a log line of their own.
///
/// Digits that somebody takes care to hide, such as those spelt as words, are not found: this is for
/// what other people say without thinking of us.
pub fn scrub(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut run = Run::default();
    for c in text.chars() {
        let c = if is_control(c) { ' ' } else { c };
        if !run.take(c) {
            run.end(&mut clean);
            clean.push(c);
        }
    }
    run.end(&mut clean);
    clean
}

/// Digits that belong together, and what stands between them.
#[derive(Default)]
struct Run {
    /// From the first digit on.
    text: String,
    /// Where the last digit ends.
    digits_end: usize,
    digits: usize,
    /// Whether a letter stands between two of them.
    letters: bool,
    /// The digits of the word that the last one stands in, and whether letters are between those.
    word: (usize, bool),
    /// Whether some word had too many.
    full_word: bool,
    gap: Gap,
}

/// What has come since the last digit.
#[derive(Default)]
struct Gap {
    characters: usize,
    letter: bool,
    blank: bool,
}

impl Run {
    /// Takes a character that belongs to the run or begins one.
    fn take(&mut self, c: char) -> bool {
        if c.is_numeric() {
            let gap = std::mem::take(&mut self.gap);
            self.digits += 1;
            self.letters |= gap.letter;
            self.word = if gap.blank {
                (1, false)
            } else {
                (self.word.0 + 1, self.word.1 | gap.letter)
            };
            self.full_word |= self.word.1 && self.word.0 >= DIGITS_IN_A_WORD;
            self.text.push(c);
            self.digits_end = self.text.len();
            return true;
        }
        if self.digits == 0 || self.gap.characters == BETWEEN_MAX {
            return false;
        }
        self.gap.characters += 1;
        self.gap.letter |= c.is_alphabetic();
        self.gap.blank |= c.is_whitespace();
        self.text.push(c);
        true
    }

    fn is_secret(&self) -> bool {
        self.full_word || self.digits >= DIGITS_ANYHOW || self.digits >= DIGITS && !self.letters
    }

    /// Writes down what may be read of it, and begins anew.
    fn end(&mut self, clean: &mut String) {
        if self.is_secret() {
            clean.push('•');
            // What followed the last digit is no part of the number.
            clean.push_str(&self.text[self.digits_end..]);
        } else {
            clean.push_str(&self.text);
        }
        *self = Run::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &str) {
        assert_eq!(scrub(text), want, "{text:?}");
    }

    #[test]
    fn numbers_and_codes_are_removed() {
        check(
            "The 'To' number +12025550123 is not valid",
            "The 'To' number +• is not valid",
        );
        check("code 123456.", "code •.");
        check("try 123 456 now", "try • now");
        check("481-234", "•");
        check("4 8 1 2 3 4", "•");
        check("8_1_2_8_8_5", "•");
        check("+,1,2,0,2,5,5", "+,•");
        check("(202) 555-0123", "(•");
        check("٠١٢٣٤٥", "•");
        check("4\u{200b}8\u{200b}1\u{200b}2\u{200b}3\u{200b}4", "•");
    }

    #[test]
    fn letters_between_digits_hide_nothing() {
        check("4a4a1a8", "•");
        check("code 4a8b1c2d3e4f!", "code •f!");
        check("4aa8aa1aa2", "•");
        check("4x 8x 1x 2x 3x 4x", "•x");
        check("and 1 4a4a1a8", "and •");
    }

    #[test]
    fn words_and_short_numbers_stay() {
        for text in [
            "",
            "HTTP 429, wait 30 s",
            "HTTP/2 502 h2",
            "error 1234",
            "error E1234 in 10 s 20 ms",
            "3 of 16 tries",
            "utf8mb4, sha256, h2c",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn nobody_writes_a_line_of_their_own_or_turns_one_around() {
        check("a\nb\u{1b}[31m", "a b [31m");
        check("a\u{2028}b\u{202e}c\u{2066}d", "a b c d");
    }
}
