//! Looking for secrets where none may be: files, logs, answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Something that must not be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needle {
    /// What it is, for the report.
    pub name: String,
    bytes: Vec<u8>,
    /// Digits stand alone: six of them inside a longer number, an identifier or the fraction of a
    /// time are chance, not a code.
    digits: bool,
}

impl Needle {
    /// A secret and its usual disguises: as it is, in base64 and base64url, in hexadecimal.
    pub fn secret(name: &str, secret: &str) -> Vec<Self> {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        // Inside a longer text base64 shifts by the bytes before it; the middle of each of the
        // three shifts is the same whatever stands around the secret.
        let shifted = (0..3).map(|shift| {
            let text = STANDARD.encode([vec![0; shift], secret.as_bytes().to_vec()].concat());
            let whole = (shift + secret.len()) / 3 * 4;
            text[if shift == 0 { 0 } else { 4 }..whole].to_owned()
        });
        let plain = [
            secret.to_owned(),
            hex.to_uppercase(),
            hex,
            URL_SAFE_NO_PAD.encode(secret),
        ];
        let all: BTreeSet<String> = plain
            .into_iter()
            .chain(shifted)
            .filter(|text| text.len() >= 8)
            .collect();
        all.into_iter()
            .map(|text| Self {
                name: name.to_owned(),
                bytes: text.into_bytes(),
                digits: false,
            })
            .collect()
    }

    /// A secret that is no text: as it is, in hexadecimal, and in base64 where it stands at the beginning.
    pub fn bytes(name: &str, secret: &[u8]) -> Vec<Self> {
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        let base64 = STANDARD.encode(secret);
        // The end depends on what follows.
        let whole = secret.len() / 3 * 4;
        let texts = [hex.to_uppercase(), hex, base64[..whole].to_owned()];
        let all = texts.into_iter().map(String::into_bytes);
        all.chain([secret.to_vec()])
            .map(|bytes| Self {
                name: name.to_owned(),
                bytes,
                digits: false,
            })
            .collect()
    }

    /// A one-time code or the digits of a telephone number.
    pub fn digits(name: &str, digits: &str) -> Self {
        assert!(digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit()));
        Self {
            name: name.to_owned(),
            bytes: digits.as_bytes().to_vec(),
            digits: true,
        }
    }

    fn matches_at(&self, text: &[u8], at: usize) -> bool {
        if !text[at..].starts_with(&self.bytes) {
            return false;
        }
        let before = at.checked_sub(1).map(|index| text[index]);
        let after = text.get(at + self.bytes.len()).copied();
        let part = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
        !self.digits || !(part(before) || part(after) || before == Some(b'.'))
    }
}

/// Where a needle was found.
#[derive(Clone, Debug)]
pub struct Find {
    /// What was found.
    pub needle: Needle,
    /// The file or stream.
    pub place: String,
    /// What stands around it.
    pub context: String,
}

/// A search for all of some needles.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    needles: Vec<Needle>,
    finds: Vec<Find>,
    bytes: usize,
}

impl Scan {
    /// A search for `needles`.
    pub fn new(needles: Vec<Needle>) -> Self {
        Self {
            needles,
            ..Self::default()
        }
    }

    /// Searches `text`, which the report calls `place`.
    pub fn bytes(&mut self, place: &str, text: &[u8]) {
        self.bytes += text.len();
        // The first byte alone tells in nearly every place, and logs are long.
        let mut by_first: Vec<Vec<&Needle>> = vec![Vec::new(); 256];
        for needle in &self.needles {
            by_first[usize::from(needle.bytes[0])].push(needle);
        }
        for (at, byte) in text.iter().enumerate() {
            let candidates = &mut by_first[usize::from(*byte)];
            // Once a place is enough: the report is read by people.
            candidates.retain(|needle| {
                let found = needle.matches_at(text, at);
                if found {
                    let around = &text[at.saturating_sub(80)..text.len().min(at + 120)];
                    self.finds.push(Find {
                        needle: (*needle).clone(),
                        place: place.to_owned(),
                        context: String::from_utf8_lossy(around).into_owned(),
                    });
                }
                !found
            });
        }
    }

    /// Searches the names and contents of all files of `folder` and returns how many files it read.
    pub fn folder(&mut self, folder: &Path) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(folder).expect("the folder can be read") {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.display().to_string();
            self.bytes(&name, name.as_bytes());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                files += self.folder(&path);
            } else if kind.is_file() {
                self.bytes(&name, &fs::read(&path).unwrap());
                files += 1;
            }
        }
        files
    }

    /// How many bytes were searched.
    pub fn searched(&self) -> usize {
        self.bytes
    }

    /// What was found.
    pub fn finds(&self) -> &[Find] {
        &self.finds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(needles: Vec<Needle>, text: &str, want: bool) {
        let mut scan = Scan::new(needles);
        scan.bytes("text", text.as_bytes());
        assert_eq!(!scan.finds().is_empty(), want, "in {text:?}");
    }

    #[test]
    fn a_code_is_found_only_where_it_stands_alone() {
        let needles = || vec![Needle::digits("code", "123456")];
        check(needles(), "code is: 123456\n", true);
        check(needles(), "code=123456", true);
        check(needles(), "\u{1}123456\u{0}", true);
        check(needles(), "2026-01-31T12:00:00.123456Z", false);
        check(needles(), "id=ab123456cd", false);
        check(needles(), "at 1123456", false);
    }

    #[test]
    fn a_secret_is_found_in_every_disguise() {
        let secret = "a-token-of-the-test";
        let needles = || Needle::secret("token", secret);
        check(needles(), "nothing here", false);
        check(needles(), &format!("token {secret} in plain"), true);
        for before in ["", "A", "AC", "AC1", "AC12:"] {
            for after in ["", "x", "xy"] {
                let text = STANDARD.encode(format!("{before}{secret}{after}"));
                check(needles(), &format!("Basic {text}"), true);
            }
        }
        check(needles(), "612d746f6b656e2d6f662d7468652d74657374", true);
    }

    #[test]
    fn bytes_are_found_as_they_are_and_in_their_usual_dresses() {
        let secret = [0xff, 0x00, 0x01, 0x02, 0x80, 0x90, 0xa0];
        let find = |text: &[u8]| {
            let mut scan = Scan::new(Needle::bytes("secret", &secret));
            scan.bytes("text", text);
            !scan.finds().is_empty()
        };
        assert!(find(&[b"a".as_slice(), &secret, b"b"].concat()));
        assert!(find(b"key=ff0001028090a0;") && find(b"FF0001028090A0"));
        assert!(find(format!("{}==", STANDARD.encode(secret)).as_bytes()));
        assert!(!find(&secret[1..]));
    }

    #[test]
    fn a_planted_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below").join("file"), "is: 654321").unwrap();
        let mut scan = Scan::new(vec![Needle::digits("code", "654321")]);
        assert_eq!(scan.folder(folder.path()), 1);
        assert_eq!(scan.finds().len(), 1);
    }
}
