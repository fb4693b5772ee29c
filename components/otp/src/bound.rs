//! The last lines of a message, which are for machines: whose web pages and which Android app the
//! code in it is for.
//!
//! Sources: "Origin-bound one-time codes delivered via SMS", a WICG draft, for the line with the
//! domain; "Perform SMS Verification on a Server", Google's page on SMS Retriever, for the hash.

const HOST_NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const APP_HASH_BYTES: usize = 11;

/// What stands behind a text: an empty line and the lines for machines; nothing where there are none.
///
/// The domain's line is the very last one, since browsers look at no other. SMS Retriever looks for
/// its hash in the whole message.
#[must_use]
pub fn last_lines(domain: Option<&str>, app_hash: Option<&str>) -> String {
    let domain = domain.map(|domain| format!("@{domain} #{{code}}"));
    let lines: Vec<&str> = app_hash.into_iter().chain(domain.as_deref()).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("\n\n{}", lines.join("\n"))
}

/// Whether `text` is a bare host name as browsers write it: lower-case ASCII labels with dots between
/// them, no port, no address; `localhost` is one too.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    // A last label of digits makes browsers read an IPv4 address.
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= HOST_NAME_BYTES_MAX
        && text.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && (text.contains('.') || text == "localhost")
}

/// Whether `text` can be the hash of an Android app: the first 11 characters of a base64 text.
#[must_use]
pub fn is_app_hash(text: &str) -> bool {
    text.len() == APP_HASH_BYTES
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::TEXT;

    /// Section "Parsing" of the draft, step by step: the top-level host, the code, and the embedded
    /// host where there is one.
    fn parse(message: &str) -> Option<(String, String, Option<String>)> {
        let normalized = message.replace("\r\n", "\n").replace('\r', "\n");
        let line = normalized.split('\n').next_back()?;
        let (host, rest) = marked_token(line, '@')?;
        let (code, rest) = marked_token(rest.strip_prefix(' ')?, '#')?;
        let embedded = rest
            .strip_prefix(' ')
            .and_then(|rest| marked_token(rest, '%'));
        let embedded = embedded.map(|(embedded, _)| embedded.to_owned());
        Some((host.to_owned(), code.to_owned(), embedded))
    }

    /// "Extract a marked token": the token, and what is behind it.
    fn marked_token(text: &str, marker: char) -> Option<(&str, &str)> {
        let token = text.strip_prefix(marker)?;
        let end = token.find(['\t', '\n', '\x0c', '\r', ' ']);
        let (token, rest) = token.split_at(end.unwrap_or(token.len()));
        (!token.is_empty()).then_some((token, rest))
    }

    fn filled(text: &str, domain: Option<&str>, app_hash: Option<&str>, code: &str) -> String {
        let text = format!("{text}{}", last_lines(domain, app_hash));
        text.replace("{code}", code).replace("{minutes}", "10")
    }

    /// The examples of the draft, so that the parser here is the draft's.
    #[test]
    fn the_parser_of_these_tests_reads_the_drafts_examples() {
        let bound = |host: &str, embedded: Option<&str>| {
            let embedded = embedded.map(str::to_owned);
            Some((host.to_owned(), "747723".to_owned(), embedded))
        };
        let text = "747723 is your ExampleCo authentication code.\n\n";
        let plain = format!("{text}@example.com #747723");
        assert_eq!(parse(&plain), bound("example.com", None));
        let embedded = format!("{text}@example.com #747723 %ecommerce.example");
        let both = bound("example.com", Some("ecommerce.example"));
        assert_eq!(parse(&embedded), both);
        assert_eq!(
            parse("@example.com #747723 %ecommerce.example $future"),
            both
        );
        for wrong in [
            "something @example.com #747723",
            "#747723 %ecommerce.example @example.com",
            "@example.com code #747723",
            "@example.com  #747723",
            "@example.com #747723\n",
            "",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn without_domain_and_app_the_text_is_the_contracts() {
        assert_eq!(last_lines(None, None), "");
        assert_eq!(parse(&filled(TEXT, None, None, "747723")), None);
    }

    #[test]
    fn the_domain_is_the_last_line_and_the_hash_the_one_before() {
        let hash = Some("FA+9qCX9VSu");
        let domain = Some("example.com");
        assert_eq!(
            filled(TEXT, domain, hash, "747723"),
            "Your verification code is: 747723\n\nValid for 10 minutes.\n\nFA+9qCX9VSu\n@example.com #747723"
        );
        assert_eq!(
            filled("Code {code}", domain, None, "747723"),
            "Code 747723\n\n@example.com #747723"
        );
        assert_eq!(
            filled("Code {code}", None, hash, "747723"),
            "Code 747723\n\nFA+9qCX9VSu"
        );
    }

    #[test]
    fn a_host_name_is_bare() {
        let label = "l".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "l".repeat(61));
        for good in [
            "example.com",
            "a.b.c",
            "login.example.co.uk",
            "xn--bcher-kva.example",
            "3com.example",
            "localhost",
            &format!("{label}.example"),
            &longest,
        ] {
            assert!(is_host_name(good), "{good}");
        }
        for wrong in [
            "",
            "example",
            "Example.com",
            "bücher.example",
            "https://example.com",
            "example.com:8080",
            "example.com/login",
            "user@example.com",
            "example.com.",
            ".example.com",
            "a..example",
            "-a.example",
            "a-.example",
            "a_b.example",
            "a b.example",
            "example.com\n",
            "{code}.example",
            "192.0.2.1",
            "[2001:db8::1]",
            "*.example.com",
            &format!("{label}l.example"),
            &format!("{longest}l"),
        ] {
            assert!(!is_host_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn an_app_hash_is_eleven_characters_of_base64() {
        assert!(is_app_hash("FA+9qCX9VSu") && is_app_hash("0123456789/"));
        for wrong in [
            "",
            "FA+9qCX9VS",
            "FA+9qCX9VSuu",
            "FA-9qCX9VSu",
            "FA+9qCX9VS=",
            "{code}56789",
        ] {
            assert!(!is_app_hash(wrong), "{wrong}");
        }
    }

    /// The letters of the GSM 03.38 alphabet that take one place each, as far as these texts need them.
    fn is_gsm(letter: char) -> bool {
        letter.is_ascii_alphanumeric() || "@\n !\"#$%&'()*+,-./:;<=>?_".contains(letter)
    }

    #[test]
    fn the_contracts_text_with_a_domain_and_an_app_is_one_message_of_160_letters() {
        let domain = format!("login.{}.example.com", "d".repeat(40));
        let message = filled(TEXT, Some(&domain), Some("FA+9qCX9VSu"), "7477231234");
        assert!(message.chars().all(is_gsm), "{message}");
        assert!(message.len() <= 160, "{}", message.len());
        // What SMS Retriever reads.
        let message = filled(
            TEXT,
            Some("login.example.com"),
            Some("FA+9qCX9VSu"),
            "747723",
        );
        assert!(message.len() <= 140, "{}", message.len());
    }

    fn host_name() -> impl Strategy<Value = String> {
        "([a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?\\.){1,4}[a-z][a-z0-9]{0,10}"
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_drafts_parser_reads(
            text in "[^{}]{0,40}\\{code\\}[^{}]{0,40}",
            domain in host_name(),
            hash in proptest::option::of("[A-Za-z0-9+/]{11}"),
            code in "[0-9]{6,10}",
        ) {
            prop_assert!(is_host_name(&domain), "{}", domain);
            prop_assert!(hash.as_deref().is_none_or(is_app_hash));
            let message = filled(&text, Some(&domain), hash.as_deref(), &code);
            prop_assert_eq!(parse(&message), Some((domain, code, None)));
        }
    }
}
