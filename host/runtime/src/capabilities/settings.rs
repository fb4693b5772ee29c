//! `countersign:service/settings`: what the operator has set.

use super::Access;
use crate::bindings::service::countersign::service::settings::Host;

impl Host for Access<'_> {
    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let run = self.view()?.run;
        let component = run.stack.last().map_or("", String::as_str);
        Ok(run.host.settings_of(component).to_vec())
    }
}
