//! What came of each case.

use std::fmt::Write as _;

use countersign_types::one_line;
use serde::Serialize;
use serde_json::json;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome")]
pub(crate) enum Outcome {
    /// It is as it must be.
    Ok { note: String },
    /// It is not.
    Failed {
        expected: String,
        came: String,
        /// What to do.
        help: String,
    },
    /// It was not tried, and why.
    Skipped { reason: String },
}

/// One case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) outcome: Outcome,
}

/// All cases.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The component's own name and version.
    pub(crate) component: String,
    pub(crate) cases: Vec<Case>,
    pub(crate) used: Used,
}

/// The most that any call has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Used {
    pub(crate) memory_bytes: usize,
    /// Of a send or a question.
    pub(crate) call_ms: f64,
    pub(crate) callback_ms: f64,
}

impl Report {
    pub(crate) fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed { .. }))
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        let outcomes = self.cases.iter().map(|case| &case.outcome);
        outcomes.filter(|outcome| wanted(outcome)).count()
    }

    fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped { .. }))
    }

    fn ok(&self) -> usize {
        self.cases.len() - self.failed() - self.skipped()
    }

    pub(crate) fn as_json(&self) -> String {
        let shown = json!({
            "component": self.component,
            "cases": self.cases,
            "used": self.used,
            "ok": self.ok(),
            "failed": self.failed(),
            "skipped": self.skipped(),
        });
        format!("{shown}\n")
    }

    /// A line for each case, and what to do where one has failed. What a component says steers no terminal.
    pub(crate) fn for_people(&self) -> String {
        let widest = self.cases.iter().map(|case| case.name.len()).max();
        let width = widest.unwrap_or(0);
        let mut lines = format!("{}\n\n", one_line(&self.component));
        for case in &self.cases {
            let name = one_line(&case.name);
            // Writing to a `String` cannot fail.
            let _ = match &case.outcome {
                Outcome::Ok { note } => {
                    writeln!(lines, "  ok       {name:width$}  {}", one_line(note))
                }
                Outcome::Skipped { reason } => {
                    writeln!(lines, "  skipped  {name:width$}  {}", one_line(reason))
                }
                Outcome::Failed {
                    expected,
                    came,
                    help,
                } => writeln!(
                    lines,
                    "  FAILED   {name:width$}  expected: {}\n\
                     {blank:indent$}  came:     {}\n\
                     {blank:indent$}  to do:    {}",
                    one_line(expected),
                    one_line(came),
                    one_line(help),
                    blank = "",
                    indent = width + 11
                ),
            };
        }
        let Used {
            memory_bytes,
            call_ms,
            callback_ms,
        } = self.used;
        let _ = writeln!(
            lines,
            "\n{} ok, {} failed, {} skipped. The most that a call used: {} KiB of memory, {call_ms:.1} ms of time; a callback: {callback_ms:.1} ms.",
            self.ok(),
            self.failed(),
            self.skipped(),
            memory_bytes / 1024
        );
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_expected_what_came_and_what_to_do() {
        let case = |name: &str, outcome| Case {
            name: name.to_owned(),
            outcome,
        };
        let report = Report {
            component: "acme-sms 0.1.0".to_owned(),
            cases: vec![
                case(
                    "success",
                    Outcome::Ok {
                        note: "accepted as m-1".into(),
                    },
                ),
                case(
                    "server error",
                    Outcome::Failed {
                        expected: "unknown-outcome".into(),
                        came: "retryable".into(),
                        help: "say so".into(),
                    },
                ),
                case(
                    "reply",
                    Outcome::Skipped {
                        reason: "none".into(),
                    },
                ),
            ],
            used: Used {
                memory_bytes: 2_048,
                call_ms: 1.25,
                callback_ms: 0.5,
            },
        };
        assert_eq!(
            report.for_people(),
            "acme-sms 0.1.0\n\n\
             \x20 ok       success       accepted as m-1\n\
             \x20 FAILED   server error  expected: unknown-outcome\n\
             \x20                        came:     retryable\n\
             \x20                        to do:    say so\n\
             \x20 skipped  reply         none\n\n\
             1 ok, 1 failed, 1 skipped. The most that a call used: 2 KiB of memory, 1.2 ms of time; a callback: 0.5 ms.\n"
        );
        let json: serde_json::Value = serde_json::from_str(&report.as_json()).expect("JSON");
        assert_eq!(json["failed"], 1);
        assert_eq!(json["cases"][1]["outcome"], "failed");
        assert_eq!(json["cases"][1]["help"], "say so");
    }

    #[test]
    fn what_a_component_says_steers_no_terminal() {
        let evil = || "x\r\u{1b}]0;title\u{7}\u{1b}[2Jy".to_owned();
        let outcomes = [
            Outcome::Ok { note: evil() },
            Outcome::Skipped { reason: evil() },
            Outcome::Failed {
                expected: evil(),
                came: evil(),
                help: evil(),
            },
        ];
        let cases = outcomes.map(|outcome| Case {
            name: evil(),
            outcome,
        });
        let report = Report {
            component: evil(),
            cases: cases.into(),
            used: Used::default(),
        };
        let shown = report.for_people();
        let steers = |c: char| countersign_types::is_control(c) && c != '\n';
        assert!(!shown.contains(steers), "{shown:?}");
        assert_eq!(shown.matches("x  ]0;title  [2Jy").count(), 9, "{shown:?}");
        assert_eq!(shown.lines().count(), 9, "{shown:?}");
    }
}
