use super::*;
use crate::users::{Purpose, Token};
use countersign_types::UnixMillis;

#[track_caller]
fn check_header(value: &str, want: Option<&str>) {
    let mut headers = HeaderMap::new();
    headers.insert(KEY, HeaderValue::from_str(value).expect("a header"));
    let read = header(&headers).ok().flatten();
    assert_eq!(read.as_deref(), want, "{value}");
}

#[test]
fn a_key_is_taken_bare_or_quoted_and_means_the_same() {
    let uuid = "8e03978e-40d5-43e8-bc93-6894a57f9324";
    check_header(uuid, Some(uuid));
    check_header(&format!("\"{uuid}\""), Some(uuid));
    check_header(r#""a\"b\\c""#, Some(r#"a"b\c"#));
    check_header("a;b,c=", Some("a;b,c="));
}

#[test]
fn a_key_has_1_to_255_visible_characters() {
    let of = |length: usize| "k".repeat(length);
    check_header(&of(255), Some(&of(255)));
    check_header(&of(256), None);
    check_header(&format!("\"{}\"", of(255)), Some(&of(255)));
    check_header(&format!("\"{}\"", of(256)), None);
    for wrong in [
        "", "\"\"", "a b", "\"a b\"", "ä", "\"a", "\"a\\b\"", "\"a\"b", "\"a\";b",
    ] {
        check_header(wrong, None);
    }
}

#[test]
fn askers_are_told_apart() {
    let token = |id| {
        Asker::User(Token {
            purpose: Purpose::Login,
            user: "u".parse().expect("an id"),
            id: [id; 16],
            ends: UnixMillis(0),
            maker: Caller::Key("one".to_owned()),
        })
    };
    let application = |id: &str| Asker::Application(Caller::Key(id.to_owned()));
    let askers = [
        application("one"),
        application("two"),
        application(""),
        Asker::Application(Caller::Anonymous),
        token(1),
        token(2),
    ];
    let mut known: Vec<_> = askers.iter().map(fields).collect();
    known.push((b"administrator", b""));
    known.sort_unstable();
    known.dedup();
    assert_eq!(known.len(), askers.len() + 1);
}
