//! The console provider of countersign: prints messages to the terminal instead of sending them,
//! so that a server can be tried out before there is an account with anybody.

/// The id under which a message counts as handed over.
#[must_use]
pub fn id_of(message: &str) -> String {
    format!("console-{message}")
}

/// What is printed for a message to the number `to`.
///
/// Control characters other than line ends and tabs show as `U+FFFD`: a text can hold what a caller
/// put in, and must not move the cursor or change the title of somebody's terminal.
#[must_use]
pub fn block(to: &str, text: &str) -> String {
    let visible = |char: char| match char {
        '\n' | '\t' => char,
        _ if char.is_control() => char::REPLACEMENT_CHARACTER,
        _ => char,
    };
    let text: String = text.chars().map(visible).collect();
    format!("--- message to {to} ---\n{text}\n---")
}

#[cfg(target_family = "wasm")]
#[expect(
    unsafe_code,
    reason = "the exports that wit-bindgen generates are raw symbols"
)]
mod component {
    //! The component's exports.

    mod bindings {
        #![allow(missing_docs, reason = "generated from the WIT, which is documented")]
        wit_bindgen::generate!({
            path: ["../../wit/provider/0.1"],
            world: "countersign:provider/console-provider",
        });
    }

    use bindings::countersign::provider::terminal;
    use bindings::exports::countersign::provider::sender::{
        Accepted, Callback, CallbackError, Guest, Manifest, Message, News, SendError, StatusUpdate,
    };

    struct Component;

    impl Guest for Component {
        fn describe() -> Manifest {
            Manifest {
                name: "provider-console".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                settings: Vec::new(),
                credentials: Vec::new(),
                hosts: Vec::new(),
                attributes: Vec::new(),
            }
        }

        fn send(message: Message) -> Result<Accepted, SendError> {
            terminal::print(&crate::block(&message.to, &message.text));
            Ok(Accepted {
                ids: vec![crate::id_of(&message.id)],
                segments: None,
                price: None,
                attributes: Vec::new(),
            })
        }

        fn parse_callback(_: Callback) -> Result<News, CallbackError> {
            // Nobody calls back, so nobody who does can be believed.
            Err(CallbackError::Unsigned)
        }

        fn fetch_status(_: Vec<String>) -> Result<Vec<StatusUpdate>, SendError> {
            Ok(Vec::new())
        }
    }

    bindings::export!(Component with_types_in bindings);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL_BYTES_MAX: usize = 8 * 1024;

    #[test]
    fn a_message_is_printed_with_its_receiver() {
        assert_eq!(
            block("+12025550123", "Your code: 123456\n\nValid."),
            "--- message to +12025550123 ---\nYour code: 123456\n\nValid.\n---"
        );
    }

    #[test]
    fn a_text_cannot_drive_the_terminal() {
        let printed = block("+1", "a\u{1b}]0;title\u{7}\r\tb\u{9b}c");
        assert_eq!(
            printed,
            "--- message to +1 ---\na\u{fffd}]0;title\u{fffd}\u{fffd}\tb\u{fffd}c\n---"
        );
    }

    #[test]
    fn the_longest_message_can_be_printed() {
        for longest in ["\u{1b}".repeat(1_600), "€".repeat(1_600)] {
            assert!(block("+123456789012345", &longest).len() <= TERMINAL_BYTES_MAX);
        }
    }

    #[test]
    fn an_id_names_the_message() {
        assert_eq!(id_of("0123"), "console-0123");
    }
}
