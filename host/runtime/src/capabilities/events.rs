//! `countersign:service/events`: facts in the call's transaction.

use countersign_types::{Event, MessageId};

use super::{Access, bounded, count};
use crate::bindings::service::countersign::service::events;
use crate::call::misuse;

pub(super) const EVENTS_MAX: u32 = 16;
const ATTRIBUTES_MAX: usize = 16;

/// Traps unless they are within their bounds: those of an event, or of a record of the audit trail.
pub(super) fn check_attributes(attributes: &[(String, String)]) -> wasmtime::Result<()> {
    if attributes.len() > ATTRIBUTES_MAX {
        return misuse(format!("more than {ATTRIBUTES_MAX} attributes in an event"));
    }
    for (name, value) in attributes {
        bounded("an attribute's name", name, 1, 32)?;
        bounded("an attribute's value", value, 0, 128)?;
    }
    Ok(())
}

impl events::Host for Access<'_> {
    fn emit(&mut self, event: events::Event) -> wasmtime::Result<()> {
        let view = self.view()?;
        view.may_write()?;
        count("events", &mut view.run.used.events, EVENTS_MAX)?;
        bounded("an event's kind", &event.kind, 1, 64)?;
        if let Some(country) = &event.country {
            bounded("a country", country, 2, 3)?;
        }
        check_attributes(&event.attributes)?;
        let message: Option<MessageId> = match event.message.map(|id| id.parse()).transpose() {
            Ok(message) => message,
            Err(_) => return misuse("an event about what is no message id"),
        };
        let event = Event {
            kind: event.kind,
            at: view.run.transaction.instant(),
            service: view.run.context.service.clone(),
            source: view.run.stack.last().cloned().unwrap_or_default(),
            message,
            country: event.country,
            attributes: event.attributes,
        };
        // Serialising plain data into a `Vec` cannot fail.
        let bytes = postcard::to_allocvec(&event).unwrap_or_default();
        view.run.transaction.emit(bytes);
        Ok(())
    }
}
