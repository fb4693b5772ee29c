//! `countersign:provider@0.1.0`: the Rust side of the WIT, in one place. It only converts between the
//! WIT and the host's own words.

use std::time::Duration;

use countersign_types::{Accepted, ErrorClass, Message, Price, SendError};
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use super::Call;
use super::grant::Need;
use crate::call::cut;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/provider/0.1",
        world: "countersign:provider/console-provider",
        imports: {
            "countersign:provider/http": async | trappable,
            default: trappable,
        },
        exports: { default: async },
        require_store_data_send: true,
    });
}

pub(super) use bindings::countersign::provider as wit;
use bindings::exports::countersign::provider::sender;

/// The world that third parties write components for. The console's has one import more.
pub(super) const WORLD: &str = "countersign:provider/provider@0.1.0";

/// What a provider has said of itself.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) settings: Vec<Need>,
    pub(super) credentials: Vec<Need>,
    pub(super) hosts: Vec<String>,
}

/// A linked provider.
pub(super) struct Pre(bindings::ConsoleProviderPre<Call>);

/// An instance.
pub(super) struct Exports(bindings::ConsoleProvider);

/// Offers what a provider may import.
pub(super) fn link(linker: &mut Linker<Call>, terminal: bool) -> wasmtime::Result<()> {
    wit::http::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    wit::signatures::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    wit::settings::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    wit::log::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    wit::types::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    if terminal {
        wit::terminal::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    }
    Ok(())
}

impl wit::types::Host for Call {}

impl Pre {
    pub(super) fn new(pre: InstancePre<Call>) -> wasmtime::Result<Pre> {
        bindings::ConsoleProviderPre::new(pre).map(Pre)
    }

    pub(super) async fn instantiate(&self, store: &mut Store<Call>) -> wasmtime::Result<Exports> {
        self.0.instantiate_async(store).await.map(Exports)
    }
}

impl Exports {
    pub(super) async fn describe(&self, store: &mut Store<Call>) -> wasmtime::Result<Manifest> {
        let sender = self.0.countersign_provider_sender();
        let manifest = sender.call_describe(store).await?;
        let needs = |settings: Vec<sender::Setting>| {
            settings
                .into_iter()
                .take(32)
                .map(|setting| Need {
                    name: setting.name,
                    description: setting.description,
                    required: setting.required,
                })
                .collect()
        };
        if manifest.hosts.len() > 16 {
            wasmtime::bail!("its manifest names more than 16 hosts");
        }
        Ok(Manifest {
            settings: needs(manifest.settings),
            credentials: needs(manifest.credentials),
            hosts: manifest.hosts,
        })
    }

    pub(super) async fn send(
        &self,
        store: &mut Store<Call>,
        message: &Message,
    ) -> wasmtime::Result<Result<Accepted, SendError>> {
        let message = sender::Message {
            id: message.id.to_string(),
            channel: message.channel.clone(),
            to: message.to.clone(),
            country: message.country.clone(),
            text: message.text.clone(),
            template: message.template.clone(),
            variables: message.variables.clone(),
            locale: message.locale.clone(),
            purpose: message.purpose.clone(),
            sender: None,
            validity: millis(message.validity),
            status_callback: message.status_callback.clone(),
            attributes: Vec::new(),
        };
        let sender = self.0.countersign_provider_sender();
        let answer = sender.call_send(store, &message).await?;
        Ok(match answer {
            Ok(accepted) => Ok(check(accepted)?),
            Err(error) => Err(send_error(error)),
        })
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn check(accepted: sender::Accepted) -> wasmtime::Result<Accepted> {
    let ids = &accepted.ids;
    let bounded = ids.iter().all(|id| (1..=128).contains(&id.len()));
    if !(1..=16).contains(&ids.len()) || !bounded {
        wasmtime::bail!("the ids of an accepted message are out of bounds");
    }
    Ok(Accepted {
        ids: accepted.ids,
        segments: accepted.segments,
        price: accepted.price.map(|price| Price {
            amount: price.amount.chars().take(32).collect(),
            currency: price.currency.chars().take(3).collect(),
        }),
    })
}

fn send_error(error: sender::SendError) -> SendError {
    SendError {
        class: match error.class {
            sender::ErrorClass::Permanent => ErrorClass::Permanent,
            sender::ErrorClass::Retryable => ErrorClass::Retryable,
            sender::ErrorClass::Throttled => ErrorClass::Throttled,
            sender::ErrorClass::Auth => ErrorClass::Auth,
            sender::ErrorClass::Blocked => ErrorClass::Blocked,
            sender::ErrorClass::UnknownOutcome => ErrorClass::UnknownOutcome,
        },
        retry_after_ms: error.retry_after,
        provider_code: error.provider_code.map(|code| cut(&code, 64).to_owned()),
        text: cut(&error.text, 512).to_owned(),
        failover: error
            .attributes
            .iter()
            .any(|(name, value)| name == "failover" && value == "allowed"),
    }
}
