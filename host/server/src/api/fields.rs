//! The fields of a request's body, which is a JSON object.

use std::fmt;
use std::ops::RangeInclusive;

use countersign_types::is_control;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::problem::Refused;

/// More than any spelling of a number.
pub(super) const PHONE_BYTES_MAX: usize = 64;
/// The longest language tag that must be supported (RFC 5646, 4.4.1).
const LOCALE_BYTES_MAX: usize = 35;
/// Names in an object of texts.
const NAME_BYTES_MAX: usize = 32;

/// The fields of a JSON object.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads the object that a body is.
    ///
    /// # Errors
    ///
    /// Where it is no JSON object.
    pub(crate) fn parse(body: &[u8]) -> Result<Fields, Refused> {
        let place = |line, column| format!("line {line}, column {column}");
        Fields::read("The body", body, place).map_err(Refused::body)
    }

    /// Reads the object that a line of a file is.
    ///
    /// # Errors
    ///
    /// Where it is no JSON object: why not, of a line that the reader knows.
    pub(crate) fn parse_line(line: &[u8]) -> Result<Fields, String> {
        Fields::read("The line", line, |_, column| format!("column {column}"))
    }

    fn read(
        what: &str,
        text: &[u8],
        place: impl Fn(usize, usize) -> String,
    ) -> Result<Fields, String> {
        if text.trim_ascii().is_empty() {
            return Err(format!("{what} is empty; it must be a JSON object"));
        }
        let error = match serde_json::from_slice(text) {
            Ok(Unique(fields)) => return Ok(Fields(fields)),
            Err(error) => error,
        };
        Err(match serde_json::from_slice(text) {
            Ok(Value::Object(_)) => "A field of the object comes twice".to_owned(),
            Ok(other) => format!("{what} must be a JSON object, not {}", kind(&other)),
            Err(_) => {
                let place = place(error.line(), error.column());
                format!("{what} is not valid JSON ({place})")
            }
        })
    }

    /// The text of a field that must be there: 1 to `bytes_max` bytes, no control characters (those of
    /// Unicode's category Cc: a number that was copied from a list of contacts has others around it).
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn text(&mut self, name: &str, bytes_max: usize) -> Result<String, Refused> {
        self.optional_text(name, bytes_max)?.ok_or_else(|| {
            Refused::field(name, format!("`{name}` is missing; it must be a string"))
        })
    }

    /// As [`text`](Fields::text), for a field that may be left out or `null`.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn optional_text(
        &mut self,
        name: &str,
        bytes_max: usize,
    ) -> Result<Option<String>, Refused> {
        let text = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => {
                let error = format!("`{name}` must be a string, not {}", kind(&other));
                return Err(Refused::field(name, error));
            }
        };
        if text.is_empty() {
            return Err(Refused::field(name, format!("`{name}` must not be empty")));
        }
        check_value(&text, bytes_max)
            .map_err(|must| Refused::field(name, format!("`{name}` {must}")))?;
        Ok(Some(text))
    }

    /// As [`text`](Fields::text), where it is to be shown or looked up as it stands: no character that
    /// [`is_control`] names either.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn plain_text(&mut self, name: &str, bytes_max: usize) -> Result<String, Refused> {
        let text = self.text(name, bytes_max)?;
        check_plain(&text).map_err(|must| Refused::field(name, format!("`{name}` {must}")))?;
        Ok(text)
    }

    /// The texts of a field that is a list of at most `count_max` of them, each of 1 to `bytes_max` bytes
    /// without control characters; `None` where the field is left out or `null`.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn list(
        &mut self,
        name: &str,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<String>>, Refused> {
        let refused = |error: String| Err(Refused::field(name, error));
        let found = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(found)) => found,
            Some(other) => {
                return refused(format!("`{name}` must be a list, not {}", kind(&other)));
            }
        };
        if found.len() > count_max {
            return refused(format!("`{name}` must have at most {count_max} texts"));
        }
        let mut texts = Vec::new();
        for value in found {
            match value {
                Value::String(text) if !text.is_empty() => {
                    if let Err(must) = check_value(&text, bytes_max) {
                        return refused(format!("a text in `{name}` {must}"));
                    }
                    texts.push(text);
                }
                Value::String(_) => {
                    return refused(format!("a text in `{name}` must not be empty"));
                }
                other => {
                    let kind = kind(&other);
                    return refused(format!("`{name}` must hold texts, not {kind}"));
                }
            }
        }
        Ok(Some(texts))
    }

    /// Makes sure that every field has been read: for what a person wrote once, where a field that is spelt
    /// wrongly would be lost without a word.
    ///
    /// # Errors
    ///
    /// Names a field that was not.
    pub(crate) fn nothing_else(&self) -> Result<(), Refused> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) if name.len() <= NAME_BYTES_MAX && !name.contains(is_control) => {
                Err(Refused::field(name, format!("`{name}` is not known here")))
            }
            Some(_) => Err(Refused::body("a field is not known here")),
        }
    }

    /// A whole number of `range`, for a field that may be left out or `null`.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn optional_whole(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>, Refused> {
        let found = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(found) => found,
        };
        let number = found.as_u64().filter(|number| range.contains(number));
        number.map(Some).ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            let error = format!("`{name}` must be a whole number from {from} to {to}");
            Refused::field(name, error)
        })
    }

    /// The texts of a field that is an object of at most `count_max` of them, each of at most
    /// `bytes_max` bytes without what [`is_control`] names; none where the field is left out or `null`.
    ///
    /// # Errors
    ///
    /// Names the field and what it must be.
    pub(crate) fn texts(
        &mut self,
        name: &str,
        count_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<(String, String)>, Refused> {
        let refused = |error: String| Err(Refused::field(name, error));
        let found = match self.0.remove(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Object(found)) => found,
            Some(other) => {
                return refused(format!("`{name}` must be an object, not {}", kind(&other)));
            }
        };
        if found.len() > count_max {
            return refused(format!("`{name}` must have at most {count_max} fields"));
        }
        let mut texts = Vec::new();
        for (key, value) in found {
            let name_must = check_value(&key, NAME_BYTES_MAX).and_then(|()| check_plain(&key));
            if let Err(must) = name_must {
                return refused(format!("a name in `{name}` {must}"));
            }
            let Value::String(text) = value else {
                let kind = kind(&value);
                return refused(format!("`{name}.{key}` must be a string, not {kind}"));
            };
            if let Err(must) = check_value(&text, bytes_max).and_then(|()| check_plain(&text)) {
                return refused(format!("`{name}.{key}` {must}"));
            }
            texts.push((key, text));
        }
        Ok(texts)
    }
}

fn check_value(text: &str, bytes_max: usize) -> Result<(), String> {
    if text.len() > bytes_max {
        Err(format!("must have at most {bytes_max} bytes"))
    } else if text.contains(char::is_control) {
        Err("must not contain control characters".to_owned())
    } else {
        Ok(())
    }
}

fn check_plain(text: &str) -> Result<(), String> {
    match text.chars().find(|c| is_control(*c)) {
        None => Ok(()),
        Some(c) => Err(format!(
            "must not contain U+{:04X}, which breaks lines or turns the direction of text",
            u32::from(c)
        )),
    }
}

/// The language tag of a body.
///
/// # Errors
///
/// Where it is none.
pub(super) fn locale(fields: &mut Fields) -> Result<Option<String>, Refused> {
    let locale = fields.optional_text("locale", LOCALE_BYTES_MAX)?;
    let is_tag = |text: &String| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match locale {
        Some(text) if !is_tag(&text) => Err(Refused::field(
            "locale",
            "`locale` must be a language tag, such as en or pt-BR",
        )),
        locale => Ok(locale),
    }
}

/// An object in which no field comes twice, at any depth: two readers of one body might otherwise each
/// believe another one (RFC 8259 section 4).
struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Unique, D::Error> {
        match Checked::deserialize(deserializer)?.0 {
            Value::Object(fields) => Ok(Unique(fields)),
            _ => Err(de::Error::custom("no object")),
        }
    }
}

/// A value all of whose objects are such.
struct Checked(Value);

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Checked, D::Error> {
        deserializer.deserialize_any(CheckedVisitor).map(Checked)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some((name, Checked(value))) = access.next_entry::<String, _>()? {
            if fields.insert(name, value).is_some() {
                return Err(de::Error::custom("a field comes twice"));
            }
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Checked(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_body(body: &str, want: &str) {
        let refused = Fields::parse(body.as_bytes()).expect_err(body);
        assert_eq!(refused, Refused::body(want), "{body}");
    }

    #[test]
    fn a_body_that_cannot_be_read_is_told_so_without_quoting_it() {
        check_body("", "The body is empty; it must be a JSON object");
        check_body(" \n", "The body is empty; it must be a JSON object");
        check_body("{\"a\":", "The body is not valid JSON (line 1, column 5)");
        check_body("hunter2", "The body is not valid JSON (line 1, column 1)");
        check_body("[1]", "The body must be a JSON object, not an array");
        check_body("null", "The body must be a JSON object, not null");
        let deep = "[".repeat(10_000);
        assert!(Fields::parse(deep.as_bytes()).is_err());
        assert!(Fields::parse(&[b'{', b'"', 0xff, b'"', b':', b'1', b'}']).is_err());
    }

    #[track_caller]
    fn check_field(value: &str, want: Result<&str, &str>) {
        let body = format!("{{\"code\":{value}}}");
        let text = Fields::parse(body.as_bytes()).and_then(|mut fields| fields.text("code", 64));
        let want = want
            .map(str::to_owned)
            .map_err(|error| Refused::field("code", error));
        assert_eq!(text, want, "{value}");
    }

    #[test]
    fn a_field_of_the_wrong_type_is_named_with_the_type_it_must_have() {
        check_field("\"123456\"", Ok("123456"));
        check_field("123456", Err("`code` must be a string, not a number"));
        check_field("true", Err("`code` must be a string, not a boolean"));
        check_field("{}", Err("`code` must be a string, not an object"));
        check_field("[\"1\"]", Err("`code` must be a string, not an array"));
        check_field("null", Err("`code` is missing; it must be a string"));
        check_field("\"\"", Err("`code` must not be empty"));
        check_field(
            "\"1\\u00002\"",
            Err("`code` must not contain control characters"),
        );
        check_field(
            "\"1\\n\"",
            Err("`code` must not contain control characters"),
        );
    }

    #[test]
    fn a_field_is_taken_at_its_bound_and_refused_one_past_it() {
        let of = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        check_field(&of(64), Ok(&"x".repeat(64)));
        check_field(&of(65), Err("`code` must have at most 64 bytes"));
    }

    #[track_caller]
    fn check_texts(value: &str, want: Result<usize, &str>) {
        let body = format!("{{\"variables\": {value}}}");
        let mut fields = Fields::parse(body.as_bytes()).expect("an object");
        let texts = fields.texts("variables", 2, 8);
        let got = texts
            .map(|texts| texts.len())
            .map_err(|refused| refused.error);
        assert_eq!(got, want.map_err(str::to_owned), "{value}");
    }

    #[test]
    fn texts_are_few_short_and_named() {
        check_texts("null", Ok(0));
        check_texts("{}", Ok(0));
        check_texts(r#"{"a": "", "b": "12345678"}"#, Ok(2));
        let many = Err("`variables` must have at most 2 fields");
        check_texts(r#"{"a": "", "b": "", "c": ""}"#, many);
        let long = Err("`variables.a` must have at most 8 bytes");
        check_texts(r#"{"a": "123456789"}"#, long);
        let number = Err("`variables.a` must be a string, not a number");
        check_texts(r#"{"a": 1}"#, number);
        let control = Err("`variables.a` must not contain control characters");
        check_texts(r#"{"a": "\n"}"#, control);
        check_texts("[]", Err("`variables` must be an object, not an array"));
        let name = |bytes: usize| format!("{{\"{}\": \"\"}}", "n".repeat(bytes));
        check_texts(&name(32), Ok(1));
        let long = "a name in `variables` must have at most 32 bytes";
        check_texts(&name(33), Err(long));
        let control = "a name in `variables` must not contain control characters";
        check_texts(r#"{"\n": ""}"#, Err(control));
    }

    #[test]
    fn what_is_shown_must_not_break_lines_or_turn_text_around() {
        for (c, code) in [
            ('\u{2028}', "2028"),
            ('\u{2029}', "2029"),
            ('\u{202a}', "202A"),
            ('\u{202e}', "202E"),
            ('\u{2066}', "2066"),
            ('\u{2069}', "2069"),
        ] {
            let must = format!(
                "must not contain U+{code}, which breaks lines or turns the direction of text"
            );
            let value = format!("`variables.a` {must}");
            check_texts(&format!("{{\"a\": \"{c}\"}}"), Err(&value));
            let name = format!("a name in `variables` {must}");
            check_texts(&format!("{{\"a{c}\": \"\"}}"), Err(&name));
            let body = format!("{{\"template\": \"a{c}b\", \"to\": \"{c}+12025550123\"}}");
            let mut fields = Fields::parse(body.as_bytes()).expect("an object");
            let template = fields.plain_text("template", 64);
            let want = Refused::field("template", format!("`template` {must}"));
            assert_eq!(template, Err(want));
            assert!(fields.text("to", 64).is_ok(), "as it is copied");
        }
        // Writing from right to left needs none of them.
        check_texts("{\"a\": \"של\u{200f}!\"}", Ok(1));
    }

    #[track_caller]
    fn check_list(value: &str, want: Result<Option<usize>, &str>) {
        let body = format!("{{\"codes\": {value}}}");
        let mut fields = Fields::parse(body.as_bytes()).expect("an object");
        let list = fields.list("codes", 2, 8);
        let got = list
            .map(|list| list.map(|list| list.len()))
            .map_err(|refused| refused.error);
        assert_eq!(got, want.map_err(str::to_owned), "{value}");
    }

    #[test]
    fn a_list_has_few_short_texts() {
        check_list("null", Ok(None));
        check_list("[]", Ok(Some(0)));
        check_list(r#"["a", "12345678"]"#, Ok(Some(2)));
        let many = Err("`codes` must have at most 2 texts");
        check_list(r#"["a", "b", "c"]"#, many);
        let long = Err("a text in `codes` must have at most 8 bytes");
        check_list(r#"["123456789"]"#, long);
        check_list(r#"[""]"#, Err("a text in `codes` must not be empty"));
        check_list("[1]", Err("`codes` must hold texts, not a number"));
        check_list("{}", Err("`codes` must be a list, not an object"));
    }

    #[test]
    fn a_field_that_nobody_has_read_is_named() {
        let mut fields = Fields::parse(br#"{"code": "1", "extra": 1}"#).expect("an object");
        let error = fields.nothing_else().expect_err("two are left").error;
        assert_eq!(error, "`code` is not known here");
        fields.text("code", 9).expect("a text");
        let error = fields.nothing_else().expect_err("one is left").error;
        assert_eq!(error, "`extra` is not known here");
        assert_eq!(Fields::default().nothing_else(), Ok(()));
        let long = format!("{{\"{}\": 1}}", "n".repeat(99));
        let fields = Fields::parse(long.as_bytes()).expect("an object");
        let error = fields.nothing_else().expect_err("it is left").error;
        assert_eq!(error, "a field is not known here");
    }

    #[test]
    fn a_field_that_comes_twice_is_refused_at_any_depth() {
        let twice = "A field of the object comes twice";
        check_body(r#"{"a": 1, "a": 1}"#, twice);
        check_body(r#"{"a": {"b": "1", "b": "2"}}"#, twice);
        check_body(r#"{"a": [{"b": 1, "b": 1}]}"#, twice);
        assert!(Fields::parse(br#"{"a": {"b": 1}, "b": [null, true, -1, 1.5]}"#).is_ok());
    }
}
