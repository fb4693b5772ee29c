//! Letters that make a message longer, as people are told of them.

use std::fmt::Write as _;

use countersign_delivery::{OddLetter, Segments, dear_letters, odd_letters};

/// More are not named one by one.
const NAMED_MAX: usize = 3;

/// Says which letters of `text` alone make its message more SMS, and how many it would be without them.
/// `message` is the text as it is sent, `what` is what the text is called.
pub(crate) fn that_cost(what: &str, text: &str, message: &str) -> Option<(String, u32)> {
    let (_, without) = dear_letters(message)?;
    let count = Segments::of(message).count;
    let odd = odd_letters(text);
    let named: Vec<String> = odd.iter().take(NAMED_MAX).map(words).collect();
    let mut warning = format!(
        "{what} is sent as {count} SMS instead of {without} and paid for as such, since the GSM alphabet \
         lacks {}",
        named.join(", ")
    );
    if odd.len() > NAMED_MAX {
        // Writing to a `String` cannot fail.
        let _ = write!(warning, " and {} more", odd.len() - NAMED_MAX);
    }
    Some((warning, without))
}

/// A letter with its place, and what to write.
fn words(odd: &OddLetter) -> String {
    let code = format!("U+{:04X}", u32::from(odd.letter));
    let place = format!("line {}, character {}", odd.line, odd.column);
    let advice = match odd.instead.as_deref() {
        None => String::new(),
        Some("") => ": leave it out".to_owned(),
        Some(" ") => ": write a space".to_owned(),
        Some(instead) => format!(": write `{instead}`"),
    };
    // What nobody sees, or stands on the letter before it, is named by its number alone.
    let is_seen = !odd.letter.is_whitespace() && odd.instead.as_deref() != Some("");
    let is_mark = ('\u{300}'..='\u{36f}').contains(&odd.letter);
    if is_seen && !is_mark {
        format!("`{}` ({code}; {place}{advice})", odd.letter)
    } else {
        format!("{code} ({place}{advice})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_letters_the_first_three_are_named() {
        let text = format!("{}\u{a0}\u{200b}ç\ne\u{301}ł", "x".repeat(80));
        let (warning, without) = that_cost("it", &text, &text).expect("dear");
        assert_eq!(without, 1);
        let want = "it is sent as 2 SMS instead of 1 and paid for as such, since the GSM alphabet lacks \
                    U+00A0 (line 1, character 81: write a space), U+200B (line 1, character 82: leave it \
                    out), `ç` (U+00E7; line 1, character 83: write `c`) and 2 more";
        assert_eq!(warning, want);
    }
}
