//! The providers as operators see them: how each is used, and how it has been doing.

use countersign_delivery::{Health, ProviderHealth};
use serde::Serialize;

use crate::config::{Config, Provider};
use crate::story::Trouble;

/// What the configuration says of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Configured {
    pub(crate) name: String,
    component: String,
    concurrency: usize,
    rate: Option<f64>,
    callbacks: Option<String>,
}

impl Configured {
    /// All of `config`, in its order.
    pub(crate) fn all(config: &Config) -> Vec<Configured> {
        let providers = config.providers.iter();
        providers
            .map(|provider| Configured {
                name: provider.name.clone(),
                component: provider.component.component_name(),
                concurrency: provider.concurrency,
                rate: provider.rate,
                callbacks: callbacks(config, provider),
            })
            .collect()
    }
}

/// Where a provider calls: nowhere without a public address, and the terminal calls nobody.
pub(crate) fn callbacks(config: &Config, provider: &Provider) -> Option<String> {
    let url = config.public_url.as_ref()?;
    (!provider.is_console()).then(|| url.webhook(&provider.name))
}

/// One provider.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shown {
    name: String,
    component: String,
    /// `closed`: it is asked when its turn comes; `open`: others of a route go first; `half-open`: one
    /// message has been let through.
    state: &'static str,
    /// How many messages in a row it has failed at.
    failures: u32,
    /// When a message may be let through, where it is not closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    probe_at: Option<String>,
    /// When it last took a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at: Option<String>,
    /// When it last did not, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
    concurrency: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callbacks: Option<String>,
}

#[derive(Debug, Serialize)]
struct LastError {
    at: String,
    #[serde(flatten)]
    error: Trouble,
}

impl Shown {
    /// All of `configured`, each with what is known of it.
    pub(crate) fn all(configured: &[Configured], health: &Health) -> Vec<Shown> {
        let shown = |one: &Configured| Shown::of(one.clone(), health.of(&one.name));
        configured.iter().map(shown).collect()
    }

    fn of(configured: Configured, health: ProviderHealth) -> Shown {
        Shown {
            name: configured.name,
            component: configured.component,
            state: health.state.word(),
            failures: health.failures,
            probe_at: health.probe.map(|at| at.to_string()),
            taken_at: health.taken.map(|at| at.to_string()),
            last_error: health.failed.map(|(at, error)| LastError {
                at: at.to_string(),
                error: error.into(),
            }),
            concurrency: configured.concurrency,
            rate: configured.rate,
            callbacks: configured.callbacks,
        }
    }
}
