//! Finding secrets in other people's text, however it spells them.
//!
//! A server that is asked may repeat what it was asked with: in an error, in a header, in a page that
//! shows the request. What it repeats is the credential that the host has put in, in plain, in Base64
//! as a part of `user:password`, or with the escapes of the format around it. All of these are found.
//! What a server *hides* of a secret that it was sent is not, and need not be: it has the secret.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use countersign_types::Secret;

/// Shorter ones would be found in ordinary words, so no provider may have one.
pub(super) const SECRET_BYTES_MIN: usize = 4;
/// Of longer ones half is looked for, from the beginning or to the end: somebody may have cut the text.
/// Not less than half, since many begin alike (`sk_live_`, the head of a JWT), and since what is left
/// of a secret by half must not be guessed.
const HALVED_BYTES_MIN: usize = 16;
/// How deep escapes are followed: JSON in a query in JSON.
const LAYERS_MAX: usize = 3;

/// What stands in a secret's place.
const REMOVED: &[u8] = b"***";

/// Finds a set of secrets.
pub(super) struct Spellings {
    secrets: Vec<Secret<Vec<u8>>>,
    /// What each pattern of the automaton is a piece of.
    pieces: Vec<Piece>,
    /// `None` where there is nothing to look for.
    automaton: Option<AhoCorasick>,
}

/// A piece of text that gives a secret away.
#[derive(Clone, Copy)]
enum Piece {
    /// It is the secret number `secret`, from its byte `from` on.
    Plain { secret: usize, from: usize },
    /// It stands in the middle of something in Base64.
    Base64,
}

impl Spellings {
    /// The spellings of `secrets`, each of at least [`SECRET_BYTES_MIN`].
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a str>) -> Spellings {
        // A form has a plus for a space (the WHATWG's URL standard), which is no escape: in Base64 it is itself.
        let spelled = |secret: &str| {
            let in_form = secret.contains(' ').then(|| secret.replace(' ', "+"));
            std::iter::once(secret.to_owned()).chain(in_form)
        };
        let mut found = Spellings {
            secrets: secrets
                .flat_map(spelled)
                .map(|secret| Secret::new(secret.into_bytes()))
                .collect(),
            pieces: Vec::new(),
            automaton: None,
        };
        let mut patterns = Vec::new();
        for (number, secret) in found.secrets.iter().enumerate() {
            for range in pieces(secret.expose().len()) {
                let from = range.start;
                let piece = &secret.expose()[range];
                patterns.push(piece.to_vec());
                found.pieces.push(Piece::Plain {
                    secret: number,
                    from,
                });
                for core in base64_cores(piece) {
                    patterns.push(core.into_bytes());
                    found.pieces.push(Piece::Base64);
                }
            }
        }
        // Building one of nothing costs as much as the rest of a request.
        if patterns.is_empty() {
            return found;
        }
        let mut builder = AhoCorasick::builder();
        builder.kind(Some(AhoCorasickKind::ContiguousNFA));
        // It can only fail on gigabytes of patterns.
        found.automaton = builder.build(patterns).ok();
        found
    }

    /// `text` without the secrets.
    pub(super) fn remove<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        if self.automaton.is_none() {
            return Cow::Borrowed(text);
        }
        let mut found = Vec::new();
        let mut reading = Reading::of(text);
        for _ in 0..LAYERS_MAX {
            self.find(&reading, &mut found);
            let Some(deeper) = reading.unescaped() else {
                return without(text, found);
            };
            reading = deeper;
        }
        self.find(&reading, &mut found);
        without(text, found)
    }

    fn find(&self, reading: &Reading<'_>, found: &mut Vec<Range<usize>>) {
        let Some(automaton) = &self.automaton else {
            return;
        };
        let text = &*reading.bytes;
        let mut last = 0..0;
        for hit in automaton.find_overlapping_iter(text) {
            // Every word is looked at once, however often it repeats itself.
            if hit.start() >= last.start && hit.end() <= last.end {
                continue;
            }
            last = match self.pieces[hit.pattern().as_usize()] {
                Piece::Plain { secret, from } => {
                    let secret = self.secrets[secret].expose();
                    around(text, hit.range(), secret, from)
                }
                Piece::Base64 => word_of_base64(text, hit.range()),
            };
            found.push(reading.place(&last));
        }
    }
}

/// Which pieces of a secret of so many bytes give it away: its halves, or twice all of it.
fn pieces(bytes: usize) -> [Range<usize>; 2] {
    let long = bytes >= HALVED_BYTES_MIN;
    let piece = if long { bytes.div_ceil(2) } else { bytes };
    [0..piece, bytes - piece..bytes]
}

/// What of the Base64 of any text that holds `piece` depends on `piece` alone, at each of its three
/// places between groups of three bytes, in both alphabets.
fn base64_cores(piece: &[u8]) -> BTreeSet<String> {
    let mut cores = BTreeSet::new();
    for before in 0..3 {
        let bytes = [&[0; 2][..before], piece].concat();
        // Six bits a character; those that the neighbours share are left out.
        let core = (before * 8).div_ceil(6)..bytes.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            cores.insert(engine.encode(&bytes)[core.clone()].to_owned());
        }
    }
    cores
}

/// As much around `hit` as is the secret, of which the hit is a part from the byte `from` on.
fn around(text: &[u8], hit: Range<usize>, secret: &[u8], from: usize) -> Range<usize> {
    let back = text[..hit.start].iter().rev();
    let back = back.zip(secret[..from].iter().rev());
    let back = back.take_while(|(read, secret)| read == secret).count();
    let known = from + hit.len();
    let on = text[hit.end..].iter().zip(&secret[known..]);
    let on = on.take_while(|(read, secret)| read == secret).count();
    hit.start - back..hit.end + on
}

/// The whole word of Base64 that `hit` stands in: its other characters hold the rest.
fn word_of_base64(text: &[u8], hit: Range<usize>) -> Range<usize> {
    let in_word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let back = text[..hit.start].iter().rev().take_while(in_word).count();
    let on = text[hit.end..].iter().take_while(in_word).count();
    let end = hit.end + on;
    let padding = text[end..].iter().take(2).take_while(|byte| **byte == b'=');
    hit.start - back..end + padding.count()
}

/// `text` without the ranges in `found`.
fn without(text: &[u8], mut found: Vec<Range<usize>>) -> Cow<'_, [u8]> {
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_unstable_by_key(|range| range.start);
    let mut clean = Vec::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.end <= done {
            continue;
        }
        // One that overlaps the one before is a part of it.
        if done == 0 || range.start > done {
            clean.extend_from_slice(&text[done..range.start]);
            clean.extend_from_slice(REMOVED);
        }
        done = range.end;
    }
    clean.extend_from_slice(&text[done..]);
    Cow::Owned(clean)
}

/// A text as it reads, and where in the original each of its bytes stands.
struct Reading<'t> {
    bytes: Cow<'t, [u8]>,
    /// `None`: each at its own place.
    places: Option<Vec<Range<u32>>>,
}

impl<'t> Reading<'t> {
    fn of(text: &'t [u8]) -> Reading<'t> {
        Reading {
            bytes: Cow::Borrowed(text),
            places: None,
        }
    }

    /// Where in the original `range` stands, which must not be empty.
    fn place(&self, range: &Range<usize>) -> Range<usize> {
        match &self.places {
            None => range.clone(),
            Some(places) => places[range.start].start as usize..places[range.end - 1].end as usize,
        }
    }

    /// The same with its escapes resolved; `None` where it has none.
    fn unescaped(&self) -> Option<Reading<'t>> {
        let mut bytes = Vec::new();
        let mut places = Vec::new();
        let mut at = 0;
        let mut escapes = false;
        // Most texts have none at all, and are not copied.
        memchr::memchr3(b'%', b'\\', b'&', &self.bytes)?;
        while at < self.bytes.len() {
            let rest = &self.bytes[at..];
            let mut utf8 = [0; 4];
            let (decoded, length) = match escape(rest) {
                Some((c, length)) => {
                    escapes = true;
                    (encoded(c, &mut utf8), length)
                }
                None => (&rest[..1], 1),
            };
            let place = self.place(&(at..at + length));
            // Texts are answers and lines of logs, of a few megabytes at most.
            let place = u32::try_from(place.start).ok()?..u32::try_from(place.end).ok()?;
            bytes.extend_from_slice(decoded);
            places.resize(bytes.len(), place);
            at += length;
        }
        escapes.then_some(Reading {
            bytes: Cow::Owned(bytes),
            places: Some(places),
        })
    }
}

/// What an escape stands for.
#[derive(Clone, Copy)]
enum Escaped {
    /// A byte of something in UTF-8.
    Byte(u8),
    Char(char),
}

fn encoded(escaped: Escaped, utf8: &mut [u8; 4]) -> &[u8] {
    match escaped {
        Escaped::Byte(byte) => {
            utf8[0] = byte;
            &utf8[..1]
        }
        Escaped::Char(c) => c.encode_utf8(utf8).as_bytes(),
    }
}

/// The escape that `text` begins with, and its length: of a URL (RFC 3986), of JSON (RFC 8259) and the
/// languages that look like it, or of HTML.
fn escape(text: &[u8]) -> Option<(Escaped, usize)> {
    match text {
        [b'%', rest @ ..] => hex(rest, 2).map(|byte| (byte, 3)),
        [b'\\', b'x', rest @ ..] => hex(rest, 2).map(|byte| (byte, 4)),
        [b'\\', b'u', rest @ ..] => {
            let code = number(rest.get(..4)?, 16)?;
            Some((Escaped::Char(char::from_u32(code)?), 6))
        }
        [b'\\', c, ..] => {
            let byte = match c {
                b'"' | b'\'' | b'\\' | b'/' => *c,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                _ => return None,
            };
            Some((Escaped::Byte(byte), 2))
        }
        [b'&', rest @ ..] => entity(rest),
        _ => None,
    }
}

fn hex(text: &[u8], digits: usize) -> Option<Escaped> {
    let number = number(text.get(..digits)?, 16)?;
    u8::try_from(number).ok().map(Escaped::Byte)
}

/// A number without a sign.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(digits).ok()?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    plain.then(|| u32::from_str_radix(digits, radix).ok())?
}

/// What stands after `&` in HTML, up to its semicolon.
fn entity(text: &[u8]) -> Option<(Escaped, usize)> {
    // The longest code point has seven digits.
    let end = text.iter().take(10).position(|byte| *byte == b';')?;
    let escaped = match &text[..end] {
        b"amp" => Escaped::Byte(b'&'),
        b"lt" => Escaped::Byte(b'<'),
        b"gt" => Escaped::Byte(b'>'),
        b"quot" => Escaped::Byte(b'"'),
        b"apos" => Escaped::Byte(b'\''),
        [b'#', b'x' | b'X', digits @ ..] => Escaped::Char(char::from_u32(number(digits, 16)?)?),
        [b'#', digits @ ..] => Escaped::Char(char::from_u32(number(digits, 10)?)?),
        _ => return None,
    };
    Some((escaped, end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "s3cret/to\"k&n+€ of ours";

    #[track_caller]
    fn check(text: &str, want: &str) {
        let spellings = Spellings::of([TOKEN, "hunter22", "abcd"].into_iter());
        let clean = spellings.remove(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(&clean), want, "{text}");
    }

    #[test]
    fn a_secret_is_found_as_it_is() {
        check(&format!("bad token {TOKEN}."), "bad token ***.");
        check("hunter22hunter22 and hunter2", "*** and hunter2");
        check(
            "abcd is as short as one may be",
            "*** is as short as one may be",
        );
        check("", "");
    }

    #[test]
    fn a_secret_is_found_in_base64_whatever_stands_around_it() {
        for around in ["", "u", "us", "use", "user:", "a much longer name:"] {
            let pair = format!("{around}{TOKEN}");
            for (engine, ends) in [
                (&base64::prelude::BASE64_STANDARD, ""),
                (&base64::prelude::BASE64_STANDARD, ":and more"),
                (&base64::prelude::BASE64_STANDARD_NO_PAD, "x"),
                (&base64::prelude::BASE64_URL_SAFE, "xx"),
                (&base64::prelude::BASE64_URL_SAFE_NO_PAD, ""),
            ] {
                let encoded = engine.encode(format!("{pair}{ends}"));
                check(&format!("(Basic {encoded}, sorry)"), "(Basic ***, sorry)");
                check(
                    &format!("{{\"auth\":\"Basic {encoded}\"}}"),
                    "{\"auth\":\"Basic ***\"}",
                );
            }
        }
    }

    #[test]
    fn a_secret_is_found_behind_escapes_of_every_kind() {
        let percent: String = url::form_urlencoded::byte_serialize(TOKEN.as_bytes()).collect();
        check(&format!("q={percent}&x=%41"), "q=***&x=%41");
        let percent = percent.replace('+', "%20");
        check(&format!("q={percent}&x=%41"), "q=***&x=%41");
        check(&format!("q={}", percent.to_ascii_lowercase()), "q=***");
        let every: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
        check(&format!("<{every}>"), "<***>");
        let json = TOKEN.replace('"', "\\\"").replace('/', "\\/");
        check(&format!("{{\"token\":\"{json}\"}}"), "{\"token\":\"***\"}");
        let units: String = TOKEN
            .encode_utf16()
            .map(|unit| format!("\\u{unit:04x}"))
            .collect();
        check(&format!("\"{units}\""), "\"***\"");
        let html = TOKEN.replace('&', "&amp;").replace('"', "&#34;");
        check(&format!("<b>{html}</b>"), "<b>***</b>");
        let html = TOKEN.replace('&', "&#x26;").replace('"', "&quot;");
        check(&format!("<b>{html}</b>"), "<b>***</b>");
        // One in another: a query in JSON, JSON in JSON.
        check(&percent.replace('%', "\\u0025"), "***");
        check(&json.replace('\\', "\\\\").replace('"', "\\\""), "***");
        // The signs of Base64 that a query escapes.
        let encoded = base64::prelude::BASE64_STANDARD.encode(format!("user:{TOKEN}???"));
        let encoded = encoded.replace('+', "%2B").replace('/', "%2F");
        check(&format!("a={}", encoded.replace('=', "%3D")), "a=***");
    }

    #[test]
    fn a_secret_that_was_cut_is_found_by_half_of_it() {
        let (half, _) = TOKEN.split_at(TOKEN.len() / 2 + 1);
        check(&format!("bad token {half}"), "bad token ***");
        check(&format!("bad token {half}..."), "bad token ***...");
        check(&format!("...{}", &TOKEN[11..]), "...***");
        check(&TOKEN[..8], &TOKEN[..8]);
        let encoded = base64::prelude::BASE64_STANDARD.encode(format!("u:{TOKEN}"));
        check(&encoded[..encoded.len() * 2 / 3], "***");
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        for text in [
            "100 % of 5%",
            "%zz %-1 %+1",
            "\\ \\u12 \\ud800 \\q",
            "& &x; &#; &#x110000; &#+1;",
        ] {
            check(text, text);
        }
        let binary = [0xff, 0xfe, b'%', b'4', b'1', 0x80];
        let spellings = Spellings::of([TOKEN].into_iter());
        assert_eq!(&*spellings.remove(&binary), binary);
        assert_eq!(&*Spellings::of([].into_iter()).remove(&binary), binary);
    }

    #[test]
    fn a_text_that_is_all_hits_takes_no_longer_than_its_length() {
        let spellings = Spellings::of(["aaaaaaaaaaaaaaaaaaaaaaaa", "AAAAAAAA"].into_iter());
        let text = [vec![b'a'; 1 << 20], vec![b'A'; 1 << 20]].concat();
        assert_eq!(&*spellings.remove(&text), b"***");
    }
}
