//! Characters that a stranger's text must not bring along.

/// Whether `c` steers how the text around it is shown and is no part of what it says: a control
/// character, a separator of lines or paragraphs (U+2028, U+2029), or one that embeds, overrides or
/// isolates a direction of writing (U+202A to U+202E, U+2066 to U+2069). With these a line of a log
/// becomes two, and a text reads in another order than it stands there.
///
/// What ordinary writing needs is none: the marks of Arabic and Hebrew that only lend their neighbours
/// a direction (U+061C, U+200E, U+200F), and the joiners of emoji and Indic scripts.
///
/// Source: UAX #9 section 2 and UAX #14; N. Boucher and R. Anderson, "Trojan Source", 2021.
pub fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` as one line that is safe to show: blanks stand where [`is_control`] names a character.
pub fn one_line(text: &str) -> String {
    text.replace(is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_shown_steers_no_terminal() {
        let shown = one_line("a\r\nb\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}Hc\u{202e}d");
        assert_eq!(shown, "a  b ]0;title  [2J Hc d");
    }

    #[test]
    fn what_breaks_lines_or_turns_text_around_is_told_from_writing() {
        let steering = "\0\n\r\t\u{1b}\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in steering.chars() {
            assert!(is_control(c), "{c:?}");
        }
        let writing = " aß€٠של\u{a0}\u{61c}\u{200c}\u{200d}\u{200e}\u{200f}\u{2027}\u{202f}\u{2065}\u{206a}👩\u{200d}🚀";
        for c in writing.chars() {
            assert!(!is_control(c), "{c:?}");
        }
    }
}
