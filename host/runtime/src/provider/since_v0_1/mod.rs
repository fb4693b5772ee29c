//! `countersign:provider@0.1.0`, which is frozen: the Rust side of its WIT, in one place. It converts
//! between the WIT and the host's own [words](super::words), checks the bounds that the WIT names, and
//! does nothing else, so that another version can stand beside it.

use std::ops::RangeInclusive;
use std::time::Duration;

use countersign_types::{
    Accepted, Answer, ErrorClass, Message, Price, SendError, Status, StatusUpdate, UnixMillis, Wish,
};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::words::{ProviderManifest, Refused, Told, Written};
use super::{Call, CallbackRequest, ProviderNeed};

mod imports;

pub(super) use imports::link;

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

use bindings::countersign::provider as wit;
use bindings::exports::countersign::provider::sender;

/// The world that third parties write components for. The console's has one import more.
pub(super) const WORLD: &str = "countersign:provider/provider@0.1.0";

/// How many updates and how many replies a callback may carry, and how many ids may be asked for at once.
const UPDATES_MAX: usize = 1_000;
const IDS_MAX: usize = 100;
/// A text of 1,600 UTF-16 units has 24 parts, each with an id of its own at some providers.
const ACCEPTED_IDS_MAX: usize = 32;
/// An SMS has at most so many parts: the header of each counts them in one byte.
const SEGMENTS_MAX: u32 = 255;
/// How long a reply's number and the sender that it went to may be.
const PHONE_BYTES_MAX: usize = 64;
const ID_BYTES: RangeInclusive<usize> = 1..=128;
/// Of a component's name and version, and of the name of a setting, a credential and an attribute.
const NAME_BYTES: RangeInclusive<usize> = 1..=64;
const SETTINGS_MAX: usize = 32;
const HOSTS_MAX: usize = 16;
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_BYTES_MAX: usize = 1_024;

/// A linked provider.
pub(super) struct Pre(bindings::ConsoleProviderPre<Call>);

/// An instance.
pub(super) struct Exports(bindings::ConsoleProvider);

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
        for name in [&manifest.name, &manifest.version] {
            if !NAME_BYTES.contains(&name.len()) {
                wasmtime::bail!("the name or the version in its manifest is out of bounds");
            }
        }
        if manifest.hosts.len() > HOSTS_MAX {
            wasmtime::bail!("its manifest names more than {HOSTS_MAX} hosts");
        }
        check_attributes(&manifest.attributes)?;
        Ok(ProviderManifest {
            name: manifest.name,
            version: manifest.version,
            settings: needs(manifest.settings)?,
            credentials: needs(manifest.credentials)?,
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
            code: message.code.as_ref().map(|code| code.expose().clone()),
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
            Ok(taken) => Ok(accepted(taken)?),
            Err(error) => Err(send_error(error)?),
        })
    }

    /// What the component makes of a request to `url`, as the provider called it.
    pub(super) async fn parse_callback(
        &self,
        store: &mut Store<Call>,
        url: String,
        request: CallbackRequest,
    ) -> wasmtime::Result<Result<Told, Refused>> {
        let request = sender::Callback {
            method: request.method,
            url,
            headers: request.headers,
            body: request.body,
            attributes: Vec::new(),
        };
        let sender = self.0.countersign_provider_sender();
        Ok(match sender.call_parse_callback(store, &request).await? {
            Ok(news) => {
                check_attributes(&news.attributes)?;
                Ok(Told {
                    updates: updates(news.updates)?,
                    replies: replies(news.replies)?,
                    answer: news.answer.map(answer).transpose()?,
                })
            }
            Err(sender::CallbackError::Unsigned) => Err(Refused::Unsigned),
            Err(sender::CallbackError::Malformed) => Err(Refused::Malformed),
            Err(sender::CallbackError::Unavailable) => Err(Refused::Unavailable),
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
            Ok(told) => Ok(updates(told)?),
            Err(error) => Err(send_error(error)?),
        })
    }
}

/// Whether `attributes` say `value` of `name`.
fn says(attributes: &[(String, String)], name: &str, value: &str) -> bool {
    attributes
        .iter()
        .any(|(known, said)| known == name && said == value)
}

fn check_attributes(attributes: &[(String, String)]) -> wasmtime::Result<()> {
    let bounded = attributes.iter().all(|(name, value)| {
        NAME_BYTES.contains(&name.len()) && value.len() <= ATTRIBUTE_BYTES_MAX
    });
    if attributes.len() > ATTRIBUTES_MAX || !bounded {
        wasmtime::bail!("attributes are out of bounds");
    }
    Ok(())
}

fn needs(settings: Vec<sender::Setting>) -> wasmtime::Result<Vec<ProviderNeed>> {
    if settings.len() > SETTINGS_MAX {
        wasmtime::bail!("its manifest names more than {SETTINGS_MAX} settings or credentials");
    }
    let settings = settings.into_iter();
    settings
        .map(|setting| {
            if !NAME_BYTES.contains(&setting.name.len()) {
                wasmtime::bail!("the name of a setting in its manifest is out of bounds");
            }
            check_attributes(&setting.attributes)?;
            Ok(ProviderNeed {
                name: setting.name,
                description: setting.description,
                required: setting.required,
            })
        })
        .collect()
}

fn updates(updates: Vec<sender::StatusUpdate>) -> wasmtime::Result<Vec<StatusUpdate>> {
    if updates.len() > UPDATES_MAX {
        wasmtime::bail!("more than {UPDATES_MAX} updates");
    }
    updates.into_iter().map(status_update).collect()
}

fn replies(replies: Vec<sender::Reply>) -> wasmtime::Result<Vec<Written>> {
    if replies.len() > UPDATES_MAX {
        wasmtime::bail!("more than {UPDATES_MAX} replies");
    }
    replies.into_iter().map(reply).collect()
}

fn reply(reply: sender::Reply) -> wasmtime::Result<Written> {
    let id = reply.id.as_ref();
    if reply.phone.len() > PHONE_BYTES_MAX
        || reply.to.len() > PHONE_BYTES_MAX
        || !id.is_none_or(|id| ID_BYTES.contains(&id.len()))
    {
        wasmtime::bail!("the number or the id of a reply is out of bounds");
    }
    check_attributes(&reply.attributes)?;
    Ok(Written {
        id: reply.id,
        at: reply.at.map(UnixMillis),
        phone: reply.phone,
        text: reply.text,
        wish: reply.wish.map(|wish| match wish {
            sender::Wish::Stop => Wish::Stop,
            sender::Wish::Start => Wish::Start,
        }),
    })
}

fn answer(answer: sender::Answer) -> wasmtime::Result<Answer> {
    let known = Answer::MEDIA_TYPES;
    let Some(media_type) = known.into_iter().find(|known| *known == answer.media_type) else {
        wasmtime::bail!("a callback may not be answered with that media type");
    };
    if answer.body.len() > Answer::BODY_BYTES_MAX {
        wasmtime::bail!("the answer to a callback is out of bounds");
    }
    Ok(Answer {
        media_type,
        body: answer.body,
    })
}

fn status_update(update: sender::StatusUpdate) -> wasmtime::Result<StatusUpdate> {
    if !ID_BYTES.contains(&update.id.len()) {
        wasmtime::bail!("the id of an update is out of bounds");
    }
    check_attributes(&update.attributes)?;
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
        error: update.error.map(send_error).transpose()?,
        at: update.at.map(UnixMillis),
        price: update.price.and_then(price),
        segments: update.segments.filter(is_plausible),
    })
}

/// What is no price is left out: a report must not add it up.
fn price(price: sender::Price) -> Option<Price> {
    Price::new(price.amount, price.currency)
}

/// Whether a message may have so many segments. They get into events, where no code may be.
fn is_plausible(segments: &u32) -> bool {
    *segments <= SEGMENTS_MAX
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn accepted(accepted: sender::Accepted) -> wasmtime::Result<Accepted> {
    let ids = &accepted.ids;
    let bounded = ids.iter().all(|id| ID_BYTES.contains(&id.len()));
    if !(1..=ACCEPTED_IDS_MAX).contains(&ids.len()) || !bounded {
        wasmtime::bail!("the ids of an accepted message are out of bounds");
    }
    check_attributes(&accepted.attributes)?;
    Ok(Accepted {
        ids: accepted.ids,
        segments: accepted.segments.filter(is_plausible),
        price: accepted.price.and_then(price),
    })
}

fn send_error(error: sender::SendError) -> wasmtime::Result<SendError> {
    check_attributes(&error.attributes)?;
    Ok(SendError {
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_neither_a_price_nor_a_number_of_segments() {
        for (amount, segments, want) in [
            ("0.0079", 255, (Some("0.0079"), Some(255))),
            ("481234", 481_234, (None, None)),
        ] {
            let price = || sender::Price {
                amount: amount.to_owned(),
                currency: "EUR".to_owned(),
            };
            let taken = accepted(sender::Accepted {
                ids: vec!["1".to_owned()],
                segments: Some(segments),
                price: Some(price()),
                attributes: Vec::new(),
            });
            let told = status_update(sender::StatusUpdate {
                id: "1".to_owned(),
                status: sender::Status::Sent,
                error: None,
                at: None,
                price: Some(price()),
                segments: Some(segments),
                attributes: Vec::new(),
            });
            let (taken, told) = (taken.expect("taken"), told.expect("told"));
            for (price, segments) in [(taken.price, taken.segments), (told.price, told.segments)] {
                let amount = price.map(|price| price.amount);
                assert_eq!((amount.as_deref(), segments), want);
            }
        }
    }
}
