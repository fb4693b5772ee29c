//! `countersign:provider@0.1.0`: the Rust side of the WIT, in one place. It only converts between the
//! WIT and the host's own words.

use std::time::Duration;

use countersign_types::{
    Accepted, ErrorClass, Message, Price, SendError, Status, StatusUpdate, UnixMillis, Wish,
};
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use super::replies::Told;
use super::{Call, CallbackRequest, ProviderManifest, ProviderNeed};

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

/// Why a component did not take a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Unsigned,
    Malformed,
}

/// How many updates and how many replies a callback may carry, and how many ids may be asked for at once.
const UPDATES_MAX: usize = 1_000;
const IDS_MAX: usize = 100;
/// How many settings, and how many credentials, a manifest may name.
const NEEDS_MAX: usize = 32;
/// A text of 1,600 UTF-16 units has 24 parts, each with an id of its own at some providers.
const ACCEPTED_IDS_MAX: usize = 32;
/// How long a reply's number and the sender that it went to may be.
const PHONE_BYTES_MAX: usize = 64;
const ID_BYTES: std::ops::RangeInclusive<usize> = 1..=128;

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
    pub(super) async fn describe(
        &self,
        store: &mut Store<Call>,
    ) -> wasmtime::Result<ProviderManifest> {
        let sender = self.0.countersign_provider_sender();
        let manifest = sender.call_describe(store).await?;
        let needs = |settings: Vec<sender::Setting>| {
            settings
                .into_iter()
                .map(|setting| ProviderNeed {
                    name: setting.name,
                    description: setting.description,
                    required: setting.required,
                })
                .collect()
        };
        if manifest.settings.len() > NEEDS_MAX || manifest.credentials.len() > NEEDS_MAX {
            wasmtime::bail!("its manifest names more than {NEEDS_MAX} settings or credentials");
        }
        if manifest.hosts.len() > 16 {
            wasmtime::bail!("its manifest names more than 16 hosts");
        }
        Ok(ProviderManifest {
            name: manifest.name,
            version: manifest.version,
            settings: needs(manifest.settings),
            credentials: needs(manifest.credentials),
            hosts: manifest.hosts,
            tells_status: says(&manifest.attributes, "fetch-status", "supported"),
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

    /// What the component makes of a request to `url`, as the provider called it.
    pub(super) async fn parse_callback(
        &self,
        store: &mut Store<Call>,
        url: String,
        request: CallbackRequest,
    ) -> wasmtime::Result<Result<(Vec<StatusUpdate>, Vec<Told>), Refused>> {
        let request = sender::Callback {
            method: request.method,
            url,
            headers: request.headers,
            body: request.body,
        };
        let sender = self.0.countersign_provider_sender();
        Ok(match sender.call_parse_callback(store, &request).await? {
            Ok(news) => Ok((check_updates(news.updates)?, check_replies(news.replies)?)),
            Err(sender::CallbackError::Unsigned) => Err(Refused::Unsigned),
            Err(sender::CallbackError::Malformed) => Err(Refused::Malformed),
        })
    }

    /// The present state of messages; of more ids than one call may ask for, that of the first.
    pub(super) async fn fetch_status(
        &self,
        store: &mut Store<Call>,
        ids: &[String],
    ) -> wasmtime::Result<Result<Vec<StatusUpdate>, SendError>> {
        let ids = &ids[..ids.len().min(IDS_MAX)];
        let sender = self.0.countersign_provider_sender();
        Ok(match sender.call_fetch_status(store, ids).await? {
            Ok(updates) => Ok(check_updates(updates)?),
            Err(error) => Err(send_error(error)),
        })
    }
}

/// Whether `attributes` say `value` of `name`.
fn says(attributes: &[(String, String)], name: &str, value: &str) -> bool {
    attributes
        .iter()
        .any(|(known, said)| known == name && said == value)
}

fn check_updates(updates: Vec<sender::StatusUpdate>) -> wasmtime::Result<Vec<StatusUpdate>> {
    if updates.len() > UPDATES_MAX {
        wasmtime::bail!("more than {UPDATES_MAX} updates");
    }
    updates.into_iter().map(status_update).collect()
}

fn check_replies(replies: Vec<sender::Reply>) -> wasmtime::Result<Vec<Told>> {
    if replies.len() > UPDATES_MAX {
        wasmtime::bail!("more than {UPDATES_MAX} replies");
    }
    replies.into_iter().map(reply).collect()
}

fn reply(reply: sender::Reply) -> wasmtime::Result<Told> {
    if reply.phone.len() > PHONE_BYTES_MAX || reply.to.len() > PHONE_BYTES_MAX {
        wasmtime::bail!("the number of a reply is out of bounds");
    }
    Ok(Told {
        phone: reply.phone,
        text: reply.text,
        wish: reply.wish.map(|wish| match wish {
            sender::Wish::Stop => Wish::Stop,
            sender::Wish::Start => Wish::Start,
        }),
    })
}

fn status_update(update: sender::StatusUpdate) -> wasmtime::Result<StatusUpdate> {
    if !ID_BYTES.contains(&update.id.len()) {
        wasmtime::bail!("the id of an update is out of bounds");
    }
    Ok(StatusUpdate {
        id: update.id,
        status: match update.status {
            sender::Status::Queued => Status::Queued,
            sender::Status::Sent => Status::Sent,
            sender::Status::Delivered => Status::Delivered,
            sender::Status::Undelivered => Status::Undelivered,
            sender::Status::Failed => Status::Failed,
            sender::Status::Read => Status::Read,
            sender::Status::Unknown => Status::Unknown,
        },
        error: update.error.map(send_error),
        at: update.at.map(UnixMillis),
        price: update.price.and_then(price),
        segments: update.segments,
    })
}

/// What is no price is left out: a report must not add it up.
fn price(price: sender::Price) -> Option<Price> {
    Price::new(price.amount, price.currency)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn check(accepted: sender::Accepted) -> wasmtime::Result<Accepted> {
    let ids = &accepted.ids;
    let bounded = ids.iter().all(|id| ID_BYTES.contains(&id.len()));
    if !(1..=ACCEPTED_IDS_MAX).contains(&ids.len()) || !bounded {
        wasmtime::bail!("the ids of an accepted message are out of bounds");
    }
    Ok(Accepted {
        ids: accepted.ids,
        segments: accepted.segments,
        price: accepted.price.and_then(price),
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
        // Cut when they have been cleaned.
        provider_code: error.provider_code,
        text: error.text,
        failover: says(&error.attributes, "failover", "allowed"),
    }
}
