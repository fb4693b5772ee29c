//! The components that a configuration names: read, and compiled with those that come with the program
//! or were installed.

use std::path::PathBuf;
use std::sync::Arc;

use countersign_runtime::{ProviderConfig, Runtime};
use countersign_types::{SystemClock, SystemEntropy};

use super::ServeError;
use crate::config::{self, ComponentSource, Provider, PublicUrl, Services};
use crate::services::{self, Parts, ServicesError, Started};

/// A component that is larger is a mistake.
const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Reads and compiles the components.
pub(super) async fn start_runtime(
    providers: Vec<Provider>,
    services: Services,
    public_url: Option<PublicUrl>,
    parts: Parts,
) -> Result<Started, ServeError> {
    let providers = providers.into_iter().map(provider_config);
    let providers = providers.collect::<Result<_, _>>()?;
    let public_url = public_url.map(|url| url.to_string());
    let started = services::start(services, parts, providers, public_url);
    started.await.map_err(|error| match error {
        ServicesError::Start(error) => ServeError::Runtime(error),
        ServicesError::Component(error) => ServeError::Installed(error),
    })
}

/// What would keep a start from using the components of `providers`, all of it. Nothing is kept.
pub(crate) async fn check_components(
    providers: Vec<Provider>,
    given: config::Limits,
) -> Vec<ServeError> {
    let mut errors = Vec::new();
    let mut readable = Vec::new();
    for provider in providers {
        match provider_config(provider) {
            Ok(provider) => readable.push(provider),
            Err(error) => errors.push(error),
        }
    }
    let checked = Runtime::check(
        services::limits(given),
        Arc::new(SystemClock),
        Arc::new(SystemEntropy),
        readable,
    );
    errors.extend(checked.await.into_iter().map(ServeError::Runtime));
    errors
}

fn provider_config(provider: Provider) -> Result<ProviderConfig, ServeError> {
    Ok(ProviderConfig {
        terminal: provider.is_console(),
        own: matches!(provider.component, ComponentSource::BuiltIn(_)),
        component_name: provider.component.component_name(),
        component: component_bytes(&provider.component)?,
        name: provider.name,
        settings: provider.settings,
        credentials: provider.credentials,
        allow_hosts: provider.allow_hosts,
        unsigned: provider.unsigned,
    })
}

fn component_bytes(source: &ComponentSource) -> Result<Vec<u8>, ServeError> {
    let path = match source {
        ComponentSource::BuiltIn(name) => match services::built_in(name) {
            Some(bytes) => return Ok(bytes.to_vec()),
            None => PathBuf::from(name),
        },
        ComponentSource::File(path) => path.clone(),
    };
    let read = std::fs::metadata(&path).and_then(|found| {
        if found.len() > COMPONENT_BYTES_MAX {
            let reason = format!("it has more than {COMPONENT_BYTES_MAX} bytes");
            return Err(std::io::Error::other(reason));
        }
        std::fs::read(&path)
    });
    read.map_err(|source| ServeError::Component { path, source })
}
