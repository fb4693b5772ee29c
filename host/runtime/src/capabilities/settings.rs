//! `countersign:service/settings`: what the operator has set.

use super::{Access, bounded};
use crate::bindings::service::countersign::service::settings::Host;

impl Host for Access<'_> {
    fn all(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let run = self.view()?.run;
        let component = run.stack.last().map_or("", String::as_str);
        Ok(run.host.settings_of(component).to_vec())
    }

    fn text(
        &mut self,
        template: String,
        purpose: String,
        locale: Option<String>,
    ) -> wasmtime::Result<Option<String>> {
        bounded("a template's name", &template, 1, 64)?;
        bounded("a purpose", &purpose, 1, 64)?;
        if let Some(locale) = &locale {
            bounded("a locale", locale, 1, 35)?;
        }
        let run = self.view()?.run;
        let texts = &run.host.texts;
        let found = texts.find(&template, Some(&purpose), locale.as_deref());
        Ok(found.map(|found| found.text.clone()))
    }
}
