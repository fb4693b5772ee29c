//! `countersign template`: what messages look like, take and cost. Needs neither a server nor data.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use countersign_delivery::Language;
use countersign_runtime::is_region;
use serde_json::json;

use super::ask::print;
use super::{Failure, Place};
use crate::config::{Environment, Merged, Preview, Wish};

/// Look at the texts of messages: their languages, how many SMS they are, and what they cost.
#[derive(Debug, Args)]
pub(super) struct Template {
    #[command(subcommand)]
    action: Action,
    /// The configuration file [env: COUNTERSIGN_CONFIG].
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all texts, with ten letters in each placeholder, and what makes them longer than they need be.
    List,
    /// Show a message as a reader gets it, with a code that is nobody's.
    Show {
        /// The template's name; `verification` is the message with a code.
        name: String,
        /// The reader's language, such as de or pt-BR.
        #[arg(long, value_name = "TAG", value_parser = tag)]
        locale: Option<String>,
        /// What the code is for.
        #[arg(long, value_name = "WORD")]
        purpose: Option<String>,
        /// What fills a placeholder.
        #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
        /// The country it goes to (ISO 3166-1 alpha-2), for its price.
        #[arg(long, value_name = "COUNTRY", value_parser = country)]
        country: Option<String>,
    },
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn tag(text: &str) -> Result<String, &'static str> {
    let language =
        Language::parse(text).ok_or("must be a language tag such as de or pt-BR (BCP 47)")?;
    Ok(language.tag().to_owned())
}

fn country(text: &str) -> Result<String, &'static str> {
    match is_region(text) {
        true => Ok(text.to_owned()),
        false => Err("must be a country's two capital letters (ISO 3166-1 alpha-2), such as US"),
    }
}

impl Template {
    /// Shows what was asked for.
    pub(super) fn run(self, environment: &Environment) -> Result<(), Failure> {
        let place = Place {
            config: self.config,
            data: None,
        };
        let merged = Merged::load(&place.into(), environment)?;
        let text = match self.action {
            Action::List => {
                let previews = merged.previews()?;
                if self.json {
                    format!("{}\n", json!({ "templates": previews }))
                } else {
                    list(&previews)
                }
            }
            Action::Show {
                name,
                locale,
                purpose,
                set,
                country,
            } => {
                let wish = Wish {
                    name,
                    locale,
                    purpose,
                    values: set,
                    country,
                };
                let preview = merged.preview_of(&wish)??;
                if self.json {
                    format!("{}\n", json!(preview))
                } else {
                    one(&preview)
                }
            }
        };
        Ok(print(&text)?)
    }
}

const NONE: &str = "-";

fn list(previews: &[Preview]) -> String {
    let width = |of: fn(&Preview) -> usize, head: &str| {
        let widest = previews.iter().map(of).max();
        widest.unwrap_or(0).max(head.len())
    };
    let name = width(|preview| preview.name.len(), "name");
    let locale = width(|preview| shown(&preview.locale).len(), "locale");
    let purpose = width(|preview| shown(&preview.purpose).len(), "purpose");
    let mut lines = format!(
        "{:name$}  {:locale$}  {:purpose$}  encoding  units  SMS\n",
        "name", "locale", "purpose"
    );
    for preview in previews {
        lines += &format!(
            "{:name$}  {:locale$}  {:purpose$}  {:8}  {:>5}  {:>3}\n",
            preview.name,
            shown(&preview.locale),
            shown(&preview.purpose),
            preview.encoding,
            preview.units,
            preview.segments
        );
        for warning in &preview.warnings {
            lines += &format!("  {warning}\n");
        }
    }
    lines
}

fn one(preview: &Preview) -> String {
    let mut lines = format!(
        "{}, locale {}, purpose {}\n\n",
        preview.name,
        shown(&preview.locale),
        shown(&preview.purpose)
    );
    for line in preview.text.lines() {
        lines += &format!("  {line}\n");
    }
    lines += &format!(
        "\n{} SMS: {} units of {}\n",
        preview.segments, preview.units, preview.encoding
    );
    for cost in &preview.costs {
        lines += &format!("{} {} with {}\n", cost.amount, cost.currency, cost.provider);
    }
    for warning in &preview.warnings {
        lines += &format!("{warning}\n");
    }
    lines
}

fn shown(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or(NONE)
}
