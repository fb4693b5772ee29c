//! How a command says that it has failed: to people in words, to programs as one line of JSON. Both go
//! to standard error; what a command was asked for goes to standard output.

use std::io::{IsTerminal, Write};

use clap::error::ErrorKind;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde_json::{Map, Value, json};

/// Why a command has failed.
pub(super) type Failure = Box<dyn Diagnostic>;

/// Says it on standard error.
pub(super) fn report(error: &dyn Diagnostic, as_json: bool, colour: bool) {
    let text = if as_json {
        json_line(error)
    } else {
        for_people(error, colour)
    };
    // There is nowhere else to say it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Says what is wrong with the command line, or shows the help or the version that were asked for.
/// Returns the exit status.
pub(super) fn report_usage(error: &clap::Error, as_json: bool) -> i32 {
    let asked_for = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    );
    if as_json && !asked_for {
        let text = error.render().to_string();
        let (message, help) = text.split_once("\n\n").unwrap_or((&text, ""));
        let message = message.strip_prefix("error: ").unwrap_or(message);
        let line = object("countersign::usage", message.trim(), Some(help.trim()));
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    } else {
        let _ = error.print();
    }
    error.exit_code()
}

fn for_people(error: &dyn Diagnostic, colour: bool) -> String {
    let theme = if std::io::stderr().is_terminal() && colour {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let mut text = String::new();
    // Only the line itself is shown of a file: the next may hold a credential.
    let written = GraphicalReportHandler::new_themed(theme)
        .with_context_lines(0)
        .with_links(false)
        .render_report(&mut text, error);
    if written.is_err() {
        text = error.to_string();
    }
    text
}

fn json_line(error: &dyn Diagnostic) -> String {
    let code = error.code().map(|code| code.to_string());
    let help = error.help().map(|help| help.to_string());
    let mut line = object(
        code.as_deref().unwrap_or("countersign::failed"),
        &error.to_string(),
        help.as_deref(),
    );
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    if !causes.is_empty() {
        line["error"]["causes"] = json!(causes);
    }
    if let Some(number) = line_of(error) {
        line["error"]["line"] = json!(number);
    }
    line.to_string()
}

fn object(code: &str, message: &str, help: Option<&str>) -> Value {
    let mut error = Map::new();
    error.insert("code".to_owned(), json!(code));
    error.insert("message".to_owned(), json!(message));
    if let Some(help) = help.filter(|help| !help.is_empty()) {
        error.insert("help".to_owned(), json!(help));
    }
    json!({ "error": error })
}

/// The line of the file that an error is about, counted from 1.
fn line_of(error: &dyn Diagnostic) -> Option<usize> {
    let label = error.labels()?.next()?;
    let found = error.source_code()?.read_span(label.inner(), 0, 0).ok()?;
    Some(found.line() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use crate::config::{Environment, Flags, Merged};
    use crate::data::DataError;

    #[track_caller]
    fn check(error: &dyn Diagnostic, want: &Value) {
        let line = json_line(error);
        assert!(!line.contains('\n'), "{line}");
        let found: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(found, *want);
    }

    #[test]
    fn a_failure_has_its_code_its_text_what_to_do_and_where_it_comes_from() {
        let error = DataError::Folder {
            path: Path::new("/data").to_owned(),
            source: std::io::Error::other("no"),
        };
        let want = json!({ "error": {
            "code": "countersign::data::folder",
            "message": "cannot make the data folder `/data`",
            "help": "name another folder with --data or COUNTERSIGN_DATA",
            "causes": ["no"],
        }});
        check(&error, &want);
    }

    #[test]
    fn a_mistake_in_the_file_has_its_line_and_no_other_of_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "open = true\nlissten = 1\ndata = 'canary'\n").expect("written");
        let flags = Flags {
            config: Some(file),
            ..Flags::default()
        };
        let error = Merged::load(&flags, &Environment::from([])).err();
        let line = json_line(&error.expect("refused"));
        let found: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(found["error"]["line"], 2, "{line}");
        assert_eq!(found["error"]["code"], "countersign::config::file");
        assert!(!line.contains("canary"), "{line}");
    }
}
