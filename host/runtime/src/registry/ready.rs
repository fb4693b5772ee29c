//! A version that was compiled, linked and asked what it is, and the place that it can take.

use std::sync::Arc;

use crate::Runtime;
use crate::call::{ANALYTICS, Host};
use crate::component::Compiled;
use crate::generation::{Generation, Live, Slot, Versioned};
use crate::provider::{Provider, ProviderConfig};
use crate::runtime::idle_max;
use crate::service::{AnalyticsComponent, OtpComponent, Service, TwoFactorComponent, World};

use super::error::InstallError;

/// A version that calls can be given.
pub(super) enum Ready {
    Otp(Arc<Service<OtpComponent>>),
    TwoFactor(Arc<Service<TwoFactorComponent>>),
    Analytics(Arc<Service<AnalyticsComponent>>),
    /// One for each `[[provider]]` entry that uses the component, with its name.
    Providers(Vec<(String, Arc<Provider>)>),
}

/// The state versions of a service's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct States {
    /// 0: it has none.
    pub(super) writes: u32,
    pub(super) reads: Vec<u32>,
}

impl States {
    fn of<W: World>(service: &Service<W>) -> States {
        let manifest = &service.identity().manifest;
        States {
            writes: manifest.state_writes,
            reads: manifest.state_reads.clone(),
        }
    }

    /// Those of the service that is live; of a provider none.
    pub(super) fn of_live(generation: &Generation, component: &str) -> States {
        match component {
            "otp" => States::of(generation.otp.live()),
            "two-factor" => States::of(generation.two_factor.live()),
            ANALYTICS => States::of(generation.analytics.live()),
            _ => States::default(),
        }
    }

    /// Whether rows of version `state` can be read. Providers have no rows, so they read none wrongly.
    pub(super) fn can_read(&self, state: u32) -> bool {
        self.writes == 0 || self.reads.contains(&state)
    }
}

impl Ready {
    /// Links a compiled version of `component` and asks it what it is. `default`: it is the one that
    /// comes with this program.
    ///
    /// # Errors
    ///
    /// Why it cannot be used.
    pub(super) async fn of(
        runtime: &Runtime,
        component: &str,
        compiled: &Compiled,
        default: bool,
    ) -> Result<Ready, InstallError> {
        let (engine, host) = (&runtime.compiler.engine, &runtime.host);
        match component {
            "otp" => {
                let linked = Service::link(engine, host, component, compiled)?;
                Ok(Ready::Otp(linked.ask().await?))
            }
            "two-factor" => {
                let linked = Service::link(engine, host, component, compiled)?;
                Ok(Ready::TwoFactor(linked.ask().await?))
            }
            ANALYTICS => {
                let linked = Service::link(engine, host, component, compiled)?;
                Ok(Ready::Analytics(linked.ask().await?))
            }
            _ => providers(runtime, component, compiled, default).await,
        }
    }

    /// The same, for the calls of another host.
    pub(super) fn again(&self, host: &Arc<Host>) -> Ready {
        match self {
            Ready::Otp(service) => Ready::Otp(service.again(host)),
            Ready::TwoFactor(service) => Ready::TwoFactor(service.again(host)),
            Ready::Analytics(service) => Ready::Analytics(service.again(host)),
            Ready::Providers(providers) => Ready::Providers(providers.clone()),
        }
    }

    pub(super) fn states(&self) -> States {
        match self {
            Ready::Otp(service) => States::of(service),
            Ready::TwoFactor(service) => States::of(service),
            Ready::Analytics(service) => States::of(service),
            Ready::Providers(_) => States::default(),
        }
    }

    /// Takes the place of the live version: calls that begin from now on use this one. With `trial` the
    /// other one is kept at hand.
    pub(super) fn put(self, live: &Live, trial: bool) {
        live.change(|next| self.each(next, &Change::Replace { trial }));
    }

    /// Gets `percent` of the subjects' calls.
    pub(super) fn try_out(self, live: &Live, percent: u8) {
        live.change(|next| self.each(next, &Change::TryOut { percent }));
    }

    /// Is what calls go back to while the live version is on trial.
    pub(super) fn keep_at_hand(self, live: &Live) {
        live.change(|next| self.each(next, &Change::KeepAtHand));
    }

    fn each(self, next: &mut Generation, change: &Change) {
        match self {
            Ready::Otp(service) => change.make(&mut next.otp, service),
            Ready::TwoFactor(service) => change.make(&mut next.two_factor, service),
            Ready::Analytics(service) => change.make(&mut next.analytics, service),
            Ready::Providers(providers) => {
                for (name, provider) in providers {
                    if let Some(slot) = next.providers.get_mut(&name) {
                        change.make(slot, provider);
                    }
                }
            }
        }
    }
}

/// What is done with a version in a component's slot, whatever kind of component it is.
enum Change {
    Replace { trial: bool },
    TryOut { percent: u8 },
    KeepAtHand,
}

impl Change {
    fn make<T: Versioned>(&self, slot: &mut Slot<T>, version: Arc<T>) {
        match *self {
            Change::Replace { trial } => slot.replace(version, trial),
            Change::TryOut { percent } => slot.try_out(version, percent),
            Change::KeepAtHand => slot.keep_at_hand(version),
        }
    }
}

async fn providers(
    runtime: &Runtime,
    component: &str,
    compiled: &Compiled,
    default: bool,
) -> Result<Ready, InstallError> {
    let host = &runtime.host;
    let link = |config: &ProviderConfig, idle_max| {
        Provider::link(
            &runtime.compiler.engine,
            &host.limits,
            &host.clock,
            &host.entropy,
            config,
            compiled,
            idle_max,
        )
    };
    let idle_max = idle_max(&host.limits, &runtime.providers);
    let entries = runtime.providers.iter();
    let mut ready = Vec::new();
    for entry in entries.filter(|entry| entry.component_name == component) {
        let config = ProviderConfig {
            // Another's component is not trusted to keep nothing of a message.
            own: entry.own && default,
            ..entry.clone()
        };
        let provider = link(&config, idle_max)?.ask(&config).await?;
        ready.push((entry.name.clone(), Arc::new(provider)));
    }
    if ready.is_empty() {
        // No entry says what it would be given, so only itself can be looked at.
        let config = ProviderConfig::bare(component);
        let provider = link(&config, 0)?;
        let answers = provider.answers().await;
        answers.map_err(|reason| InstallError::SelfTest { reason })?;
    }
    Ok(Ready::Providers(ready))
}
