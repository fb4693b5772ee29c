//! Removing codes and telephone numbers from text that providers write.

/// How many characters between two digits do not hide that they belong together: `) (`.
const BETWEEN_MAX: usize = 3;

/// `text` without runs of five or more digits, which is what codes (6 to 10) and numbers (7 to 15)
/// are; up to three characters that are no letters between two digits do not hide a run. Control
/// characters become blanks, so that nobody writes a log line of their own.
pub fn scrub(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut run = String::new();
    let mut digits = 0;
    let flush = |run: &mut String, digits: &mut usize, clean: &mut String| {
        if *digits >= 5 {
            clean.push('•');
            // What followed the last digit is no part of the number.
            let tail = run.rfind(|c: char| c.is_numeric()).map_or(0, |at| {
                at + run[at..].chars().next().map_or(0, char::len_utf8)
            });
            clean.push_str(&run[tail..]);
        } else {
            clean.push_str(run);
        }
        run.clear();
        *digits = 0;
    };
    let mut between = 0;
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if c.is_numeric() {
            digits += 1;
            between = 0;
            run.push(c);
        } else if !c.is_alphabetic() && between < BETWEEN_MAX {
            between += 1;
            run.push(c);
        } else {
            between = 0;
            flush(&mut run, &mut digits, &mut clean);
            clean.push(c);
        }
    }
    flush(&mut run, &mut digits, &mut clean);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_codes_are_removed_and_words_stay() {
        for (text, clean) in [
            (
                "The 'To' number +12025550123 is not valid",
                "The 'To' number • is not valid",
            ),
            ("code 123456.", "code•."),
            ("try 123 456 now", "try• now"),
            ("HTTP 429, wait 30 s", "HTTP 429, wait 30 s"),
            ("8_1_2_8_8_5", "•"),
            ("+,1,2,0,2,5,5", "•"),
            ("a\nb\u{1b}[31m", "a b [31m"),
            ("(202) 555-0123", "•"),
            ("error 1234", "error 1234"),
            ("", ""),
            ("٠١٢٣٤٥", "•"),
        ] {
            let cleaned = scrub(text);
            assert_eq!(cleaned.replace(' ', ""), clean.replace(' ', ""), "{text}");
        }
    }
}
