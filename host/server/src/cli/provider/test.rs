//! `countersign provider test`: runs the conformance kit and prints what came of it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_runtime::Limits;
use miette::Diagnostic;

use super::super::Failure;
use super::super::ask::print;
use crate::components;
use crate::config::COMPONENT_BYTES_MOST;
use crate::conformance::{self, Description, KitError, Subject};
use crate::services::built_in;

/// As large as those are that bring an interpreter with them.
const LARGE_BYTES: usize = 2 * 1024 * 1024;

/// Where the description of a company is looked for.
const DESCRIPTION: &str = "conformance.toml";

/// The descriptions of the companies that providers are built in for.
const DESCRIPTIONS: [(&str, &str); 5] = [
    (
        "provider-infobip",
        include_str!("../../../../../components/provider-infobip/conformance.toml"),
    ),
    (
        "provider-telnyx",
        include_str!("../../../../../components/provider-telnyx/conformance.toml"),
    ),
    (
        "provider-twilio",
        include_str!("../../../../../components/provider-twilio/conformance.toml"),
    ),
    (
        "provider-vonage",
        include_str!("../../../../../components/provider-vonage/conformance.toml"),
    ),
    (
        "provider-webhook",
        include_str!("../../../../../components/provider-webhook/conformance.toml"),
    ),
];

/// What is tested, and by which description.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// The component.
    #[arg(required_unless_present = "builtin")]
    file: Option<PathBuf>,
    /// Test one that is part of this program, such as twilio.
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    builtin: Option<String>,
    /// What the kit has to know of the company's API [default: conformance.toml here, or beside the
    /// component].
    #[arg(long, value_name = "FILE")]
    conformance: Option<PathBuf>,
    /// A setting, in the place of that of the description; {server} in it is the address of the server that
    /// plays the company.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Why the kit says no, or was not run.
#[derive(Debug, thiserror::Error, Diagnostic)]
enum TestError {
    #[error("{0} cases failed")]
    #[diagnostic(
        code(countersign::provider::failed),
        help("each says what to do; docs/providers.md explains the cases")
    )]
    Failed(usize),
    #[error("no provider that is built in and calls a company is called `{name}`")]
    #[diagnostic(
        code(countersign::provider::not_built_in),
        help("there are infobip, telnyx, twilio, vonage and webhook")
    )]
    NotBuiltIn { name: String },
    #[error("`{}` has more than {bytes_max} bytes", path.display())]
    #[diagnostic(
        code(countersign::provider::large_component),
        help("no server can be told to take it: strip it of debug information")
    )]
    TooLarge { path: PathBuf, bytes_max: u64 },
    #[error("nothing could be tested")]
    #[diagnostic(code(countersign::provider::kit))]
    Kit(#[source] KitError),
    #[error("the operating system refuses what the command needs")]
    #[diagnostic(code(countersign::provider::system))]
    System(#[source] std::io::Error),
}

impl Test {
    /// Runs all cases and prints them; fails where one has.
    pub(super) fn run(self, as_json: bool) -> Result<(), Failure> {
        let (subject, described) = match (self.builtin, self.file) {
            (Some(name), _) => of_this_program(&name)?,
            (None, file) => of_file(&file.unwrap_or_default(), COMPONENT_BYTES_MOST)?,
        };
        let description = match (&self.conformance, described) {
            (None, Described::Here(name, text)) => Description::parse(name, text)?,
            (None, Described::At(path)) => Description::read(&path)?,
            (Some(path), _) => Description::read(path)?,
        };
        let subject = Subject {
            settings: self.set,
            ..subject
        };
        if !as_json && subject.component.len() > LARGE_BYTES {
            // Nobody reading it is no reason to fail.
            let _ = writeln!(
                std::io::stderr().lock(),
                "It is large: compiling it takes a while."
            );
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(TestError::System)?;
        let ran = runtime.block_on(conformance::run(subject, &description));
        let report = ran.map_err(TestError::Kit)?;
        print(&match as_json {
            true => report.as_json(),
            false => report.for_people(),
        })?;
        match report.failed() {
            0 => Ok(()),
            failed => Err(TestError::Failed(failed).into()),
        }
    }
}

/// Where the description of a component is.
enum Described {
    /// In this program: its name, and its text.
    Here(&'static str, &'static str),
    At(PathBuf),
}

fn of_this_program(name: &str) -> Result<(Subject, Described), TestError> {
    let whole = match name.starts_with("provider-") {
        true => name.to_owned(),
        false => format!("provider-{name}"),
    };
    let described = DESCRIPTIONS.iter().find(|(known, _)| *known == whole);
    let (Some((_, text)), Some(bytes)) = (described, built_in(&whole)) else {
        return Err(TestError::NotBuiltIn {
            name: name.to_owned(),
        });
    };
    let subject = Subject {
        name: whole,
        component: bytes.to_vec(),
        own: true,
        settings: Vec::new(),
        limits: Limits::default(),
    };
    Ok((subject, Described::Here(DESCRIPTION, text)))
}

fn of_file(file: &Path, bytes_max: u64) -> Result<(Subject, Described), Failure> {
    let component = components::read(file, bytes_max)?;
    if component.len() as u64 > bytes_max {
        let refused = TestError::TooLarge {
            path: file.to_owned(),
            bytes_max,
        };
        return Err(refused.into());
    }
    let subject = Subject {
        name: file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        component,
        own: false,
        settings: Vec::new(),
        limits: Limits::default(),
    };
    let here = PathBuf::from(DESCRIPTION);
    let beside = file.with_file_name(DESCRIPTION);
    let found = match here.exists() || !beside.exists() {
        true => here,
        false => beside,
    };
    Ok((subject, Described::At(found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_no_server_takes_is_not_read_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("acme.wasm");
        std::fs::write(&file, [0; 9]).expect("written");
        let (subject, _) = of_file(&file, 9).expect("read");
        assert_eq!(
            (subject.name.as_str(), subject.component.len()),
            ("acme", 9)
        );
        let refused = of_file(&file, 8).err().expect("too large");
        assert!(
            refused.to_string().contains("more than 8 bytes"),
            "{refused}"
        );
    }
}
