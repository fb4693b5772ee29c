//! `countersign:service/settings`: what the operator has set.

use super::Access;
use crate::bindings::service::countersign::service::settings::Host;

impl Host for Access<'_> {
    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(self.view()?.run.host.settings.clone())
    }
}
