//! `countersign import`: moves users in from another system.
//!
//! Each line is a call of its own, so what is in is in: an import that was broken off is typed again and
//! goes through what it finds there already.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use miette::Diagnostic;
use serde::Serialize;
use serde_json::json;

use super::ask::{AskError, Session, print};
use super::{Failure, Place};
use crate::api::Fields;
use crate::config::{Environment, Merged};
use crate::control::{Answer, Request};
use crate::users::{MOVED_AT_ONCE, MoveOutcome, Moved, Moving, UsersRequest};

/// The longest line, many times that of a user with 20 hashes.
const LINE_BYTES_MAX: u64 = 16 * 1024;
const USER_BYTES_MAX: usize = 128;
const PHONE_BYTES_MAX: usize = 64;
const SECRET_BYTES_MAX: usize = 256;
const HASHES_MAX: usize = 20;
const HASH_BYTES_MAX: usize = 128;

/// Move users in from another system.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// A file of lines, each a JSON object: `user`, and `phoneNumber`, `totpSecret` (Base32) and
    /// `backupCodes` (a list of bcrypt hashes) as far as there are any.
    file: PathBuf,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

/// Why users were not moved in.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum Trouble {
    #[error("cannot read `{}`", path.display())]
    #[diagnostic(code(countersign::import::unreadable))]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("stopped before line {line}")]
    #[diagnostic(
        code(countersign::import::stopped),
        help("type it again: users who are in are left as they are")
    )]
    Stopped {
        line: u64,
        #[source]
        source: Box<AskError>,
    },
    #[error("{}", refused_lines(*.0))]
    #[diagnostic(
        code(countersign::import::refused),
        help("put them right and type it again: users who are in are left as they are")
    )]
    Refused(usize),
}

/// What has become of the lines.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    moved_in: u64,
    /// They have a factor here already and stay as they are.
    present: u64,
    refused: Vec<RefusedLine>,
}

#[derive(Debug, Serialize)]
struct RefusedLine {
    line: u64,
    reason: String,
}

impl Report {
    fn refuse(&mut self, line: u64, reason: impl Into<String>) {
        let reason = reason.into();
        self.refused.push(RefusedLine { line, reason });
    }

    fn note(&mut self, moved: Moved) {
        match moved.outcome {
            MoveOutcome::MovedIn => self.moved_in += 1,
            MoveOutcome::Present => self.present += 1,
            MoveOutcome::Refused(reason) => self.refuse(moved.line, reason),
        }
    }

    fn for_people(&self) -> String {
        let lines = self.refused.iter();
        let lines = lines.map(|refused| format!("line {}: {}\n", refused.line, refused.reason));
        let moved_in = match self.moved_in {
            1 => "1 user was moved in".to_owned(),
            users => format!("{users} users were moved in"),
        };
        let present = match self.present {
            1 => "1 has a factor here already".to_owned(),
            users => format!("{users} have a factor here already"),
        };
        let refused = refused_lines(self.refused.len());
        let sum = format!("{moved_in}, {present}, {refused}.\n");
        lines.chain([sum]).collect()
    }
}

fn refused_lines(count: usize) -> String {
    match count {
        1 => "1 line was refused".to_owned(),
        lines => format!("{lines} lines were refused"),
    }
}

impl Import {
    /// Does it and prints what was done.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let settings = Merged::load(&self.place.into(), environment)?.offline()?;
        let unreadable = |source| Trouble::Unreadable {
            path: self.file.clone(),
            source,
        };
        let file = File::open(&self.file).map_err(unreadable)?;
        let bytes = file.metadata().map_err(unreadable)?.len();
        let bar = progress(bytes);
        let mut session = Session::new(&settings);
        let mut send = |users| match session.ask(Request::Users(UsersRequest::MoveIn { users }))? {
            Answer::MovedIn(moved) => Ok(moved),
            _ => Err(crate::control::ControlError::Answer.into()),
        };
        let report = import(BufReader::new(file), &mut send, |read| {
            bar.set_position(read)
        });
        bar.finish_and_clear();
        let (mut report, stopped) = report.map_err(unreadable)?;
        report.refused.sort_by_key(|refused| refused.line);
        print(&if self.json {
            format!("{}\n", json!(report))
        } else {
            report.for_people()
        })?;
        match (stopped, report.refused.len()) {
            (Some((line, source)), _) => {
                let source = Box::new(source);
                Err(Trouble::Stopped { line, source }.into())
            }
            (None, 0) => Ok(()),
            (None, refused) => Err(Trouble::Refused(refused).into()),
        }
    }
}

/// Shown where standard error is a terminal.
fn progress(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} %, {eta} left");
    // The template is right, or the bar is the library's own.
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Why it stopped, and before which line.
type Stopped = Option<(u64, AskError)>;

/// Sends all lines, so many at a time, and tells `at` how many bytes have been dealt with.
fn import(
    mut lines: impl BufRead,
    send: &mut impl FnMut(Vec<Moving>) -> Result<Vec<Moved>, AskError>,
    at: impl Fn(u64),
) -> std::io::Result<(Report, Stopped)> {
    let mut report = Report::default();
    let (mut number, mut read) = (0, 0);
    loop {
        let mut users = Vec::new();
        let first = number + 1;
        let mut ended = false;
        while users.len() < MOVED_AT_ONCE {
            let Some(line) = next_line(&mut lines, &mut read)? else {
                ended = true;
                break;
            };
            number += 1;
            match line {
                Line::Text(text) if text.trim_ascii().is_empty() => {}
                Line::Text(text) => match user_of(number, without_mark(number, &text)) {
                    Ok(user) => users.push(user),
                    Err(reason) => report.refuse(number, reason),
                },
                Line::TooLong => {
                    report.refuse(number, format!("it has more than {LINE_BYTES_MAX} bytes"))
                }
            }
        }
        if !users.is_empty() {
            let first = users.first().map_or(first, |user| user.line);
            match send(users) {
                Ok(moved) => moved.into_iter().for_each(|moved| report.note(moved)),
                Err(error) => return Ok((report, Some((first, error)))),
            }
        }
        at(read);
        if ended {
            return Ok((report, None));
        }
    }
}

/// What some editors put in front of a file in UTF-8 is no part of its first line.
fn without_mark(line: u64, text: &[u8]) -> &[u8] {
    let mark = "\u{feff}".as_bytes();
    let rest = text.strip_prefix(mark).filter(|_| line == 1);
    rest.unwrap_or(text)
}

enum Line {
    Text(Vec<u8>),
    TooLong,
}

fn next_line(lines: &mut impl BufRead, read: &mut u64) -> std::io::Result<Option<Line>> {
    let mut text = Vec::new();
    let count = lines
        .take(LINE_BYTES_MAX + 1)
        .read_until(b'\n', &mut text)? as u64;
    *read += count;
    if count == 0 {
        return Ok(None);
    }
    if count <= LINE_BYTES_MAX || text.ends_with(b"\n") {
        return Ok(Some(Line::Text(text)));
    }
    // The rest of it, piece by piece.
    loop {
        text.clear();
        let count = lines.take(LINE_BYTES_MAX).read_until(b'\n', &mut text)? as u64;
        *read += count;
        if count == 0 || text.ends_with(b"\n") {
            return Ok(Some(Line::TooLong));
        }
    }
}

/// What a line says. Reasons never repeat a value: it may be a secret.
fn user_of(line: u64, text: &[u8]) -> Result<Moving, String> {
    let mut fields = Fields::parse_line(text)?;
    let mut read = || {
        let moving = Moving {
            line,
            user: fields.text("user", USER_BYTES_MAX)?,
            phone: fields.optional_text("phoneNumber", PHONE_BYTES_MAX)?,
            totp: fields.optional_text("totpSecret", SECRET_BYTES_MAX)?,
            backup_codes: fields.list("backupCodes", HASHES_MAX, HASH_BYTES_MAX)?,
        };
        fields.nothing_else()?;
        Ok(moving)
    };
    read().map_err(|refused: crate::api::Refused| refused.error)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::Refused;

    fn line(user: usize) -> String {
        format!("{{\"user\": \"u{user}\", \"phoneNumber\": \"+1202555{user:04}\"}}\n")
    }

    /// Imports `text` into a server that takes everything.
    fn run(text: &str) -> (Report, Vec<usize>) {
        let mut batches = Vec::new();
        let mut send = |users: Vec<Moving>| {
            batches.push(users.len());
            let moved = users.into_iter().map(|user| Moved {
                line: user.line,
                outcome: MoveOutcome::MovedIn,
            });
            Ok(moved.collect())
        };
        let (report, stopped) = import(text.as_bytes(), &mut send, |_| {}).expect("read");
        assert!(stopped.is_none());
        (report, batches)
    }

    #[test]
    fn lines_go_out_so_many_at_a_time_and_the_last_needs_no_end() {
        let text: String = (0..MOVED_AT_ONCE * 2 + 1).map(line).collect();
        let (report, batches) = run(text.trim_end());
        assert_eq!(report.moved_in, MOVED_AT_ONCE as u64 * 2 + 1);
        assert_eq!(batches, [MOVED_AT_ONCE, MOVED_AT_ONCE, 1]);
        let (report, batches) = run("");
        assert_eq!((report.moved_in, batches.len()), (0, 0));
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named_and_the_others_go_on() {
        let long = format!("{{\"user\": \"{}\"}}\n", "x".repeat(40_000));
        let text = [
            line(1),
            "\n".to_owned(),
            "canary\n".to_owned(),
            "{\"user\": 5}\n".to_owned(),
            "{\"user\": \"u\", \"phone\": \"canary\"}\n".to_owned(),
            "{\"user\": \"u\", \"backupCodes\": \"canary\"}\n".to_owned(),
            "{\"user\": \"u\", \"backupCodes\": [\"a\", 1]}\n".to_owned(),
            long,
            line(2),
        ];
        let (report, batches) = run(&text.concat());
        assert_eq!((report.moved_in, batches), (2, vec![2]));
        let lines: BTreeSet<u64> = report.refused.iter().map(|refused| refused.line).collect();
        assert_eq!(lines, BTreeSet::from([3, 4, 5, 6, 7, 8]));
        let text = report.for_people();
        assert!(!text.contains("canary"), "{text}");
        for words in [
            "line 3: The line is not valid JSON (column 1)",
            "line 4: `user` must be a string, not a number",
            "line 5: `phone` is not known here",
            "line 6: `backupCodes` must be a list, not a string",
            "line 8: it has more than 16384 bytes",
            "2 users were moved in, 0 have a factor here already, 6 lines were refused.",
        ] {
            assert!(text.contains(words), "{words} is not in: {text}");
        }
    }

    #[test]
    fn one_is_said_as_one_and_many_as_many() {
        let report = |count: u64| {
            let mut report = Report {
                moved_in: count,
                present: count,
                refused: Vec::new(),
            };
            (0..count).for_each(|line| report.refuse(line, "no"));
            let text = report.for_people();
            text.lines().last().expect("a sum").to_owned()
        };
        let one = "1 user was moved in, 1 has a factor here already, 1 line was refused.";
        let two = "2 users were moved in, 2 have a factor here already, 2 lines were refused.";
        assert_eq!([report(1), report(2)], [one, two]);
        assert_eq!(Trouble::Refused(1).to_string(), "1 line was refused");
    }

    #[test]
    fn the_mark_of_an_editor_in_front_of_the_file_is_no_part_of_it() {
        let text = format!("\u{feff}{}\u{feff}{}", line(1), line(2));
        let (report, _) = run(&text);
        assert_eq!(report.moved_in, 1);
        let refused: Vec<u64> = report.refused.iter().map(|refused| refused.line).collect();
        assert_eq!(refused, [2]);
    }

    #[test]
    fn what_stops_it_says_where_it_was() {
        let text: String = (0..MOVED_AT_ONCE + 3).map(line).collect();
        let mut calls = 0;
        let mut send = |users: Vec<Moving>| {
            calls += 1;
            if calls == 2 {
                return Err(Refused::new("countersign::test", "no", None).into());
            }
            let moved = users.into_iter().map(|user| Moved {
                line: user.line,
                outcome: MoveOutcome::Present,
            });
            Ok(moved.collect())
        };
        let (report, stopped) = import(text.as_bytes(), &mut send, |_| {}).expect("read");
        assert_eq!(report.present, MOVED_AT_ONCE as u64);
        let (line, _) = stopped.expect("stopped");
        assert_eq!(line, MOVED_AT_ONCE as u64 + 1);
    }

    #[test]
    fn every_byte_is_counted() {
        let text = format!("{}\n{}\n{}", line(1), "x".repeat(50_000), line(2));
        let seen = std::cell::Cell::new(0);
        let mut send = |_| Ok(Vec::new());
        import(text.as_bytes(), &mut send, |read| seen.set(read)).expect("read");
        assert_eq!(seen.get(), text.len() as u64);
    }
}
