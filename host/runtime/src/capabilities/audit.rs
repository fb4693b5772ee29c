//! `countersign:service/audit`: what happened to users, in the call's transaction.

use super::{Access, bounded, count, events};
use crate::audit::{self, AuditEntry};
use crate::bindings::two_factor::countersign::service::audit::{Entry, Host};
use crate::call::{Run, misuse};

impl Host for Access<'_> {
    async fn record(&mut self, entry: Entry) -> wasmtime::Result<()> {
        let view = self.view()?;
        view.may_write()?;
        count("events", &mut view.run.used.events, events::EVENTS_MAX)?;
        bounded("a record's kind", &entry.kind, 1, 64)?;
        let digits = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if entry.user.len() != 32 || !entry.user.bytes().all(digits) {
            return misuse("a user's index has 32 hexadecimal digits");
        }
        events::check_attributes(&entry.attributes)?;
        let Run {
            host,
            transaction,
            context,
            stack,
            ..
        } = &mut *view.run;
        let record = AuditEntry {
            at: transaction.instant(),
            kind: entry.kind,
            by: context.caller.clone(),
            service: context.service.clone(),
            source: stack.last().cloned().unwrap_or_default(),
            attributes: entry.attributes,
        };
        let kept = host.audit_kept;
        let recorded = audit::record(transaction, &host.keyring, kept, &entry.user, record);
        match recorded.await {
            Ok(()) => Ok(()),
            Err(error) => Err(view.run.failed(error)),
        }
    }
}
