//! `countersign:service/otp` as an import: a call of the otp component inside the caller's
//! transaction, in otp's own key space.
//!
//! The run moves into an instance of otp and back. Its `err` rolls back to where it began, counted
//! tries excepted; its trap ends the whole call and is blamed on it.

use super::Access;
use crate::bindings::otp_import::countersign::service::otp::Host;
use crate::bindings::service::countersign::service::otp_types::{
    ForgiveRequest, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict,
};
use crate::bindings::service::countersign::service::types::Context;
use crate::call::misuse;
use crate::service::{Call, OtpComponent, nested};

impl Host for Access<'_> {
    async fn send(
        &mut self,
        _context: Context,
        request: SendRequest,
    ) -> wasmtime::Result<Result<SendVerdict, String>> {
        let otp = otp_of(self.0)?;
        // The guest's own idea of its context is not believed.
        nested(self.0, &otp, async |instance, store, context| {
            let guest = instance.countersign_service_otp();
            guest.call_send(store, &context, &request).await
        })
        .await
    }

    async fn verify(
        &mut self,
        _context: Context,
        request: VerifyRequest,
    ) -> wasmtime::Result<Result<VerifyVerdict, String>> {
        let otp = otp_of(self.0)?;
        nested(self.0, &otp, async |instance, store, context| {
            let guest = instance.countersign_service_otp();
            guest.call_verify(store, &context, &request).await
        })
        .await
    }

    async fn forgive(
        &mut self,
        _context: Context,
        request: ForgiveRequest,
    ) -> wasmtime::Result<Result<(), String>> {
        let otp = otp_of(self.0)?;
        nested(self.0, &otp, async |instance, store, context| {
            let guest = instance.countersign_service_otp();
            guest.call_forgive(store, &context, &request).await
        })
        .await
    }
}

fn otp_of(call: &Call) -> wasmtime::Result<std::sync::Arc<crate::service::Service<OtpComponent>>> {
    match call.run.as_ref() {
        Some(run) => Ok(run.versions.otp.clone()),
        None => misuse("an import was used outside a call"),
    }
}
