//! What `countersign component inspect` shows of a file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_runtime::{
    Inspection, InstallError, Limits, ProviderManifest, ProviderNeed, Workbench, WorldShape,
    inspect,
};
use countersign_types::{SystemClock, SystemEntropy, one_line};
use serde_json::{Value, json};

use super::super::Failure;
use super::super::ask::AskError;
use crate::components;

/// A file, its world, and what a provider says of itself.
pub(super) struct Inspected {
    found: Inspection,
    world: Option<&'static WorldShape>,
    refused: Option<InstallError>,
    /// Of a provider that fits its world; or why it cannot say.
    manifest: Option<Result<ProviderManifest, String>>,
    limits: Limits,
}

impl Inspected {
    /// Looks at `file`. A provider that fits its world is compiled and asked what it wants.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no component.
    pub(super) fn of(file: &Path, limits: Limits) -> Result<Inspected, Failure> {
        let bytes = components::read(file, u64::from(u32::MAX))?;
        let found = inspect(&bytes).map_err(|error| components::unfit(&error))?;
        let world = WorldShape::that_exports(&found.exports);
        let refused = world.and_then(|world| world.check(&found).err());
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let manifest = match world {
            Some(world) if refused.is_none() && world.is_of_providers() => {
                Some(describe(&name, bytes, &limits)?)
            }
            _ => None,
        };
        Ok(Inspected {
            found,
            world,
            refused,
            manifest,
            limits,
        })
    }

    pub(super) fn as_json(&self) -> String {
        let refused = self.refused.as_ref().map(|error| {
            json!({ "code": error.code(), "message": error.to_string(), "help": error.help() })
        });
        let (manifest, failed) = match &self.manifest {
            None => (Value::Null, None),
            Some(Ok(manifest)) => (manifest_json(manifest), None),
            Some(Err(reason)) => (Value::Null, Some(reason)),
        };
        let shown = json!({
            "sha256": self.found.sha256.to_string(),
            "bytes": self.found.bytes,
            "world": self.world.map(|world| world.name),
            "fits": self.world.is_some() && self.refused.is_none(),
            "refused": refused,
            "imports": self.found.imports,
            "exports": self.found.exports,
            "manifest": manifest,
            "describeFailed": failed,
            "limits": self.limits_json(),
        });
        format!("{shown}\n")
    }

    /// What the file says steers no terminal.
    pub(super) fn for_people(&self) -> String {
        let list = |names: &[String]| {
            let names = names.iter();
            names
                .map(|name| format!("  {}\n", one_line(name)))
                .collect::<String>()
        };
        let verdict = match (self.world, &self.refused) {
            (None, _) => "It exports nothing that a world of this release asks for.\n".to_owned(),
            (Some(world), None) => format!("It fits the world {}.\n", world.name),
            (Some(world), Some(error)) => format!(
                "It does not fit the world {}: {}.\nTo do: {}.\n",
                world.name,
                one_line(&error.to_string()),
                one_line(&error.help())
            ),
        };
        let manifest = match &self.manifest {
            None => String::new(),
            Some(Ok(manifest)) => manifest_lines(manifest),
            Some(Err(reason)) => {
                let reason = one_line(reason);
                format!("It cannot say what it is, so it will not be loaded: {reason}.\n")
            }
        };
        format!(
            "{}  {} bytes\nimports, all that it can reach:\n{}exports:\n{}{verdict}{manifest}{}",
            self.found.sha256,
            self.found.bytes,
            list(&self.found.imports),
            list(&self.found.exports),
            self.limits_lines()
        )
    }

    fn is_provider(&self) -> bool {
        self.world.is_some_and(WorldShape::is_of_providers)
    }

    fn limits_json(&self) -> Value {
        let limits = &self.limits;
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let mut shown = json!({
            "memoryBytes": limits.memory_bytes,
            "tableElements": limits.table_elements,
            "stackBytes": limits.stack_bytes,
            "logLines": limits.log_lines,
            "logLineBytes": limits.log_line_bytes,
        });
        let more = if self.is_provider() {
            json!({
                "timeMs": ms(limits.provider_time),
                "wallMs": ms(limits.provider_wall),
                "callbackTimeMs": ms(limits.callback_time),
                "httpRequests": limits.http_requests,
                "httpRequestMs": ms(limits.http_request),
                "httpBodyBytes": limits.http_body_bytes,
            })
        } else {
            json!({
                "timeMs": ms(limits.service_time),
                "wallMs": ms(limits.service_wall),
            })
        };
        if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
            shown.extend(more);
        }
        shown
    }

    fn limits_lines(&self) -> String {
        if self.world.is_none() {
            return String::new();
        }
        let limits = &self.limits;
        let (time, wall) = match self.is_provider() {
            true => (limits.provider_time, limits.provider_wall),
            false => (limits.service_time, limits.service_wall),
        };
        let mut lines =
            format!("limits:\n  a call      {time:?} of running, {wall:?} from start to end\n");
        if self.is_provider() {
            lines += &format!(
                "  a callback  {:?} of running\n  requests    {} in a call, {:?} each, bodies of {} KiB\n",
                limits.callback_time,
                limits.http_requests,
                limits.http_request,
                limits.http_body_bytes / 1024
            );
        }
        lines += &format!(
            "  memory      {} KiB, {} elements of tables, {} KiB of stack\n  log         {} lines of {} bytes in a call\n",
            limits.memory_bytes / 1024,
            limits.table_elements,
            limits.stack_bytes / 1024,
            limits.log_lines,
            limits.log_line_bytes
        );
        lines
    }
}

/// What the provider says of itself, or why it cannot.
fn describe(
    name: &str,
    bytes: Vec<u8>,
    limits: &Limits,
) -> Result<Result<ProviderManifest, String>, AskError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(AskError::System)?;
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    let described = runtime.block_on(async {
        let workbench = Workbench::new(limits.clone(), clock, entropy, bytes)?;
        workbench.describe(name).await
    });
    Ok(match described {
        Ok((manifest, _)) => Ok(manifest),
        Err(error) => Err(error.to_string()),
    })
}

fn manifest_json(manifest: &ProviderManifest) -> Value {
    let needs = |needs: &[ProviderNeed]| -> Vec<Value> {
        let needs = needs.iter();
        needs
            .map(|need| {
                json!({ "name": need.name, "description": need.description, "required": need.required })
            })
            .collect()
    };
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "settings": needs(&manifest.settings),
        "credentials": needs(&manifest.credentials),
        "hosts": manifest.hosts,
        "fetchStatus": manifest.tells_status,
    })
}

fn manifest_lines(manifest: &ProviderManifest) -> String {
    let all = manifest.settings.iter().chain(&manifest.credentials);
    let width = all.map(|need| need.name.len()).max().unwrap_or(0);
    let needs = |title: &str, needs: &[ProviderNeed]| {
        let lines = needs.iter().map(|need| {
            let wanted = if need.required {
                "needed  "
            } else {
                "optional"
            };
            let (name, description) = (one_line(&need.name), one_line(&need.description));
            format!("  {name:width$}  {wanted}  {description}\n")
        });
        [format!("{title}:\n")]
            .into_iter()
            .chain(lines)
            .collect::<String>()
    };
    let hosts = manifest.hosts.iter();
    let hosts: String = hosts
        .map(|host| format!("  {}\n", one_line(host)))
        .collect();
    let asks = match manifest.tells_status {
        true => "It can be asked what became of messages.\n",
        false => "It cannot be asked what became of messages.\n",
    };
    format!(
        "It is {} {}. {asks}{}{}hosts, which it may call unless allow-hosts names others:\n{hosts}",
        one_line(&manifest.name),
        one_line(&manifest.version),
        needs("settings", &manifest.settings),
        needs("credentials", &manifest.credentials)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::built_in;

    #[test]
    fn what_a_file_says_steers_no_terminal() {
        let evil = || "x\r\u{1b}]0;title\u{7}\u{1b}[2Jy".to_owned();
        let needs = || {
            vec![ProviderNeed {
                name: evil(),
                description: evil(),
                required: true,
            }]
        };
        let manifest = ProviderManifest {
            name: evil(),
            version: evil(),
            settings: needs(),
            credentials: needs(),
            hosts: vec![evil()],
            tells_status: false,
        };
        let mut found = inspect(built_in("provider-webhook").expect("built in")).expect("good");
        found.imports = vec![evil()];
        found.exports = vec![evil()];
        let mut inspected = Inspected {
            found,
            world: None,
            refused: None,
            manifest: Some(Ok(manifest)),
            limits: Limits::default(),
        };
        let steers = |c: char| countersign_types::is_control(c) && c != '\n';
        let shown = inspected.for_people();
        assert!(!shown.contains(steers), "{shown:?}");
        assert_eq!(shown.matches("x  ]0;title  [2Jy").count(), 9, "{shown:?}");
        inspected.manifest = Some(Err(evil()));
        let shown = inspected.for_people();
        assert!(!shown.contains(steers), "{shown:?}");
        assert_eq!(shown.matches("x  ]0;title  [2Jy").count(), 3, "{shown:?}");
    }
}
