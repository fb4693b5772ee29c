//! The conformance kit: a provider component in the real runtime, against a server that plays the company.
//!
//! [`description`] is what the kit knows of the company, [`company`] the server, [`signing`] signs callbacks.
//! [`manifest`], [`sending`], [`callbacks`] and [`asking`] are the cases, [`report`] is what came of them. Nothing but
//! loopback is reached: the provider is granted the kit's server alone.

mod asking;
mod callbacks;
mod company;
mod description;
mod manifest;
mod report;
mod sending;
mod signing;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use countersign_delivery::scrub;
use countersign_runtime::{
    Limits, Observed, ProviderConfig, ProviderManifest, ProviderTrial, StartError, Workbench,
};
use countersign_types::{Clock, Message, MessageId, Secret, SystemClock, SystemEntropy};
use url::Url;

use self::company::{Answer, Company};
pub(crate) use self::description::Description;
use self::description::{SERVER, text_of};
use self::report::Case;
pub(crate) use self::report::{Outcome, Report};

/// A number that nobody has: it is kept for fiction.
const PHONE: &str = "+12025550123";
/// The code in the messages.
const CODE: &str = "481516";
const PUBLIC_URL: &str = "https://sms.example.test";
const PATH: &str = "/webhooks/trial";

/// What is tested.
pub(crate) struct Subject {
    /// What it is called in errors.
    pub(crate) name: String,
    pub(crate) component: Vec<u8>,
    /// Whether it is part of this program.
    pub(crate) own: bool,
    /// Settings that go before those of the description.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) limits: Limits,
}

/// Why nothing could be tested.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KitError {
    #[error("a server on loopback cannot be had")]
    Server(#[from] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the kit has no keys to sign with: {0}")]
    Keys(String),
    /// Its host would be granted, so a component that is tried out could call it.
    #[error(
        "the setting `base-url` leads elsewhere than to the kit's own server, and nobody else is called: begin it with `{SERVER}`"
    )]
    Elsewhere,
}

/// Tries all cases. What is wrong with the component is in the report.
///
/// # Errors
///
/// When the machine does not let anything be tried.
pub(crate) async fn run(subject: Subject, description: &Description) -> Result<Report, KitError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy = Arc::new(SystemEntropy);
    let (limits, bytes) = (subject.limits.clone(), subject.component.clone());
    let workbench = Workbench::new(limits, clock.clone(), entropy, bytes)?;
    let others = description.other.iter();
    let others = others.map(|other| {
        (
            other.path.clone(),
            answer(other.status, &other.headers, &other.body),
        )
    });
    let company = Company::start(others.collect()).await?;
    let public_key = signing::public_key().map_err(|error| KitError::Keys(error.to_string()))?;
    let credentials = description.credentials.iter().map(|(name, text)| {
        let text = text.replace(signing::PUBLIC_KEY, &public_key);
        (name.clone(), text)
    });
    let mut kit = Kit {
        credentials: credentials.collect(),
        description,
        workbench,
        clock,
        company,
        subject,
        report: Report::default(),
        lines: Vec::new(),
        asked: BTreeSet::new(),
    };
    kit.check_base_url()?;
    if let Some((manifest, trial)) = kit.load().await {
        sending::run(&mut kit, &trial).await?;
        callbacks::run(&mut kit, &trial).await;
        asking::run(&mut kit, &trial, &manifest).await;
        kit.judge_settings(&manifest);
        kit.judge_lines();
    }
    kit.judge_skips();
    Ok(kit.report)
}

/// All that cases need.
struct Kit<'a> {
    description: &'a Description,
    credentials: Vec<(String, String)>,
    workbench: Workbench,
    clock: Arc<dyn Clock>,
    company: Company,
    subject: Subject,
    report: Report,
    /// Lines of log, with the case that they were written in.
    lines: Vec<(String, String)>,
    /// Names of settings that the component asked for.
    asked: BTreeSet<String>,
}

fn answer<'h>(
    status: u16,
    headers: impl IntoIterator<Item = (&'h String, &'h String)>,
    body: &str,
) -> Answer {
    let headers = headers.into_iter();
    Answer {
        status,
        headers: headers
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        body: body.into(),
    }
}

fn ok(note: impl Into<String>) -> Outcome {
    Outcome::Ok { note: note.into() }
}

fn skipped(reason: impl Into<String>) -> Outcome {
    Outcome::Skipped {
        reason: reason.into(),
    }
}

fn failed(expected: impl Into<String>, came: impl Into<String>, help: &str) -> Outcome {
    Outcome::Failed {
        expected: expected.into(),
        came: came.into(),
        help: help.to_owned(),
    }
}

/// What a component that failed should have done.
const NO_TRAP: &str =
    "return an error instead of trapping, taking too long or breaking a bound of the WIT";

fn component_failed(expected: impl Into<String>, reason: &str) -> Outcome {
    failed(expected, format!("the component failed: {reason}"), NO_TRAP)
}

impl Kit<'_> {
    fn push(&mut self, name: impl Into<String>, outcome: Outcome) {
        let name = name.into();
        self.report.cases.push(Case { name, outcome });
    }

    /// Whether the case is to be tried; where the description leaves it out, that is told.
    fn is_wanted(&mut self, name: &str) -> bool {
        match self.description.skip.get(name).cloned() {
            None => true,
            Some(reason) => {
                self.push(name, skipped(reason));
                false
            }
        }
    }

    /// Remembers what was seen of a call that was no callback.
    fn saw(&mut self, case: &str, observed: &Observed) {
        let used = &mut self.report.used;
        used.call_ms = used.call_ms.max(millis(observed.running));
        self.saw_beside_time(case, observed);
    }

    fn saw_beside_time(&mut self, case: &str, observed: &Observed) {
        let used = &mut self.report.used;
        used.memory_bytes = used.memory_bytes.max(observed.memory_bytes);
        let lines = observed.lines.iter();
        self.lines
            .extend(lines.map(|line| (case.to_owned(), line.clone())));
        self.asked.extend(observed.settings.iter().cloned());
    }

    /// The settings of the description and of the command line, where the company is at `authority`.
    fn settings(&self, authority: &str) -> Vec<(String, String)> {
        let server = format!("http://{authority}");
        let described = self.description.settings.iter();
        let mut settings: Vec<_> = described
            .map(|(name, value)| (name.clone(), text_of(value).replace(SERVER, &server)))
            .collect();
        for (name, value) in &self.subject.settings {
            settings.retain(|(known, _)| known != name);
            settings.push((name.clone(), value.replace(SERVER, &server)));
        }
        settings
    }

    /// Refuses a `base-url` of anybody but the kit's server, since the grant adds its host. What leads there by
    /// `{server}` leads to nobody where that stands for the address of nobody.
    fn check_base_url(&self) -> Result<(), KitError> {
        let here = self.company.authority();
        let settings = self.settings(&here);
        let base = settings.iter().find(|(name, _)| name == "base-url");
        let origin = |text: &str| Url::parse(text).map(|url| url.origin());
        match base {
            Some((_, base)) if origin(base) != origin(&format!("http://{here}")) => {
                Err(KitError::Elsewhere)
            }
            _ => Ok(()),
        }
    }

    /// The provider as an operator would configure it, whose company is at `authority`.
    fn config(&self, authority: &str) -> ProviderConfig {
        let credentials = self.credentials.iter();
        ProviderConfig {
            name: self.subject.name.clone(),
            component_name: self.subject.name.clone(),
            component: Vec::new(),
            settings: self.settings(authority),
            credentials: credentials
                .map(|(name, text)| (name.clone(), Secret::new(text.clone())))
                .collect(),
            // Nothing else, whatever the manifest asks for: nobody is called with made-up credentials.
            allow_hosts: Some(vec![authority.to_owned()]),
            terminal: false,
            // As the operator has to say where the company signs nothing.
            unsigned: self.description.is_unsigned(),
            own: self.subject.own,
        }
    }

    async fn trial(&self, limits: &Limits, authority: &str) -> Result<ProviderTrial, StartError> {
        self.workbench.load(limits, &self.config(authority)).await
    }

    /// A message with a code.
    fn message(&self) -> Message {
        Message {
            id: MessageId::new(self.clock.now(), &SystemEntropy),
            channel: "sms".to_owned(),
            to: PHONE.to_owned(),
            country: "US".to_owned(),
            text: format!("Your verification code is: {CODE}"),
            template: "verification".to_owned(),
            variables: Vec::new(),
            code: Some(Secret::new(CODE.to_owned())),
            locale: Some("en".to_owned()),
            purpose: "verification".to_owned(),
            validity: Duration::from_secs(600),
            status_callback: Some(format!("{PUBLIC_URL}{PATH}")),
        }
    }

    /// The first two cases: what the component says of itself, and whether it can be configured so. Without
    /// these there are no others.
    async fn load(&mut self) -> Option<(ProviderManifest, ProviderTrial)> {
        const WHOLE: &str = "a component of the world countersign:provider/provider@0.1.0";
        self.report.component.clone_from(&self.subject.name);
        let (manifest, observed) = match self.workbench.describe(&self.subject.name).await {
            Ok(described) => described,
            Err(error) => {
                let help = "`countersign component inspect` shows what it imports and exports";
                self.push("manifest", failed(WHOLE, error.to_string(), help));
                return None;
            }
        };
        self.report.component = format!("{} {}", manifest.name, manifest.version);
        let authority = self.company.authority();
        let limits = self.subject.limits.clone();
        // As where the operator grants what the manifest asks for.
        let config = ProviderConfig {
            allow_hosts: None,
            ..self.config(&authority)
        };
        let granted = self.workbench.load(&limits, &config).await.err();
        let judged = manifest::judge(&manifest, &observed, granted.as_ref());
        self.push("manifest", judged);
        match self.trial(&limits, &authority).await {
            Ok(trial) => Some((manifest, trial)),
            Err(error) => {
                let expected =
                    "it can be configured with the settings and credentials of the description";
                let help = "name in the manifest all that it reads, and in conformance.toml all that it needs";
                self.push("configuration", failed(expected, error.to_string(), help));
                None
            }
        }
    }

    /// Whether the manifest names all settings that were asked for.
    fn judge_settings(&mut self, manifest: &ProviderManifest) {
        const NAME: &str = "settings";
        if !self.is_wanted(NAME) {
            return;
        }
        let known = |name: &String| {
            manifest
                .settings
                .iter()
                .any(|setting| setting.name == *name)
        };
        let unknown: Vec<_> = self.asked.iter().filter(|name| !known(name)).collect();
        let outcome = match unknown[..] {
            [] => ok(format!(
                "{} asked for, all in the manifest",
                self.asked.len()
            )),
            [name, ..] => failed(
                "only settings that the manifest names",
                format!("it asks for `{name}`"),
                "name it in the manifest: the host refuses settings that it does not know",
            ),
        };
        self.push(NAME, outcome);
    }

    /// Whether what it writes to the log is anybody's to read.
    fn judge_lines(&mut self) {
        const NAME: &str = "log";
        if !self.is_wanted(NAME) {
            return;
        }
        let secrets = self.credentials.iter().map(|(name, text)| {
            let what = format!("the credential `{name}`");
            (what, text.as_str())
        });
        let secrets: Vec<_> = secrets
            .chain([
                ("the receiver's number".to_owned(), &PHONE[1..]),
                ("the code".to_owned(), CODE),
            ])
            .collect();
        let found = self.lines.iter().find_map(|(case, line)| {
            let (what, secret) = secrets.iter().find(|(_, secret)| line.contains(secret))?;
            let shown = scrub(&line.replace(secret, "•"));
            let shown: String = shown.chars().take(120).collect();
            Some(format!("{what}, in the case `{case}`: {shown}"))
        });
        let outcome = match found {
            None => ok(format!("{} lines", self.lines.len())),
            Some(came) => failed(
                "no number, code or credential in a line of the log",
                came,
                "log what the company says by its code, and never a message or an answer; the host takes out what it knows, and does not know all",
            ),
        };
        self.push(NAME, outcome);
    }

    /// Whether all that is left out is a case.
    fn judge_skips(&mut self) {
        let known = |name: &String| self.report.cases.iter().any(|case| case.name == *name);
        let unknown: Vec<_> = self
            .description
            .skip
            .keys()
            .filter(|name| !known(name))
            .collect();
        for name in unknown {
            let came = format!("no case is called `{name}`");
            let outcome = failed(
                "names of cases in [skip]",
                came,
                "take it out of conformance.toml",
            );
            self.push("skip", outcome);
        }
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1_000.0
}
