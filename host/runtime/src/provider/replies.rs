//! What people answer to a provider's sender: whether they want no more messages, or messages again.
//!
//! Nothing of what they write is kept or handed on but that.

use countersign_types::{Reply, Wish};

use super::words::Written;
use crate::phone;

/// The words by which carriers let people end messages.
///
/// Source: CTIA, "Messaging Principles and Best Practices", 2023, 5.1.3; 47 CFR 64.1200(a)(10); Twilio's
/// default keywords. ARRET is Canada's.
const STOP: [&str; 9] = [
    "STOP",
    "STOPALL",
    "UNSUBSCRIBE",
    "CANCEL",
    "END",
    "QUIT",
    "REVOKE",
    "OPTOUT",
    "ARRET",
];
/// And by which they come back.
const START: [&str; 3] = ["START", "UNSTOP", "YES"];

/// A longer text is no such word.
const WORD_BYTES_MAX: usize = 64;

/// What an answer says; `None` where it is none of these words, or from what is no number that a message
/// could be sent to.
pub(super) fn read(told: Written) -> Option<Reply> {
    let wish = told.wish.or_else(|| wish_of(&told.text))?;
    // Strictly: whoever reads numbers for people would find one in `whatsapp:+12025550123` too.
    let digits = told.phone.strip_prefix('+')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let phone = phone::parse(&told.phone, None).ok()?;
    Some(Reply {
        phone: phone.e164,
        wish,
        id: told.id,
        at: told.at,
    })
}

/// The wish that `text` is, whole: in capitals or not, with blanks and signs in it or around it.
fn wish_of(text: &str) -> Option<Wish> {
    if text.len() > WORD_BYTES_MAX {
        return None;
    }
    let letters = text.chars().filter(|char| char.is_alphanumeric());
    let word: String = letters.flat_map(char::to_uppercase).collect();
    let word = word.replace('Ê', "E");
    let is = |words: &[&str]| words.contains(&word.as_str());
    match () {
        () if is(&STOP) => Some(Wish::Stop),
        () if is(&START) => Some(Wish::Start),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_a_whole_text() {
        let check = |texts: &[&str], want| {
            for text in texts {
                assert_eq!(wish_of(text), want, "{text}");
            }
        };
        let stop = Some(Wish::Stop);
        check(&["STOP", "stop", " Stop. ", "\"STOP\"", "stop!!"], stop);
        check(
            &["stop all", "opt-out", "Unsubscribe", "Arrêt", "END"],
            stop,
        );
        check(&["START", "unstop", "yes"], Some(Wish::Start));
        check(
            &["", "stop it", "don't stop", "123456", "help", "1 stop"],
            None,
        );
        let padded = |blanks: usize| format!("STOP{}", " ".repeat(blanks));
        check(&[&padded(60)], stop);
        check(&[&padded(61)], None);
    }

    #[test]
    fn the_companys_own_word_goes_first_and_a_number_is_e164() {
        let told = |phone: &str, text: &str, wish| {
            read(Written {
                id: Some("SM1".to_owned()),
                phone: phone.to_owned(),
                text: text.to_owned(),
                wish,
                ..Written::default()
            })
        };
        let reply = |wish| {
            Some(Reply {
                phone: "+12025550123".to_owned(),
                wish,
                id: Some("SM1".to_owned()),
                at: None,
            })
        };
        assert_eq!(told("+12025550123", "stop", None), reply(Wish::Stop));
        let start = Some(Wish::Start);
        assert_eq!(told("+12025550123", "stop", start), reply(Wish::Start));
        for phone in [
            "",
            "+",
            "12025550123",
            "+1 202 555 0123",
            "Example",
            "+whatsapp:+12025550123",
        ] {
            assert_eq!(told(phone, "stop", None), None, "{phone}");
        }
        assert_eq!(told("+12025550123", "hello", None), None);
    }
}
