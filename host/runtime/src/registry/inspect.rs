//! What a component asks for and offers, told from its bytes alone, and whether its world has that.
//!
//! Nothing is compiled and nothing of it runs. What is left for the linker are the types of single
//! functions.

use wasmparser::{
    ComponentExternalKind, ComponentTypeRef, Encoding, Parser, Payload, Validator, WasmFeatures,
};

use super::error::InstallError;
use crate::Sha256;
use crate::call::ANALYTICS;
use crate::component::as_component;

/// A component as its bytes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it is named by.
    pub sha256: Sha256,
    /// How many bytes it has.
    pub bytes: u64,
    /// What it imports, in the order of the file.
    pub imports: Vec<String>,
    /// What it exports, in the order of the file.
    pub exports: Vec<String>,
}

/// A world that components are made for.
#[derive(Debug, PartialEq, Eq)]
pub struct WorldShape {
    /// Its name with its version.
    pub name: &'static str,
    /// The package of its interfaces.
    package: &'static str,
    /// What may be imported of the package.
    offers: &'static [&'static str],
    /// The interface that must be exported.
    exports: &'static str,
    /// Whether `describe` must be exported as well; of a provider it is in the interface.
    describes: bool,
    /// Which packages of WASI 0.2 are linked.
    wasi: &'static [&'static str],
}

/// The released version of both packages.
const VERSION: &str = "0.1.0";

const SERVICE: &str = "countersign:service";
const PROVIDER: &str = "countersign:provider";
const WASI: [&str; 5] = [
    "wasi:cli",
    "wasi:clocks",
    "wasi:filesystem",
    "wasi:io",
    "wasi:random",
];

const OTP: WorldShape = WorldShape {
    name: "countersign:service/otp-service@0.1.0",
    package: SERVICE,
    offers: &[
        "codes",
        "events",
        "log",
        "otp-types",
        "phone",
        "queue",
        "settings",
        "storage",
        "types",
    ],
    exports: "otp",
    describes: true,
    wasi: &WASI,
};

const TWO_FACTOR: WorldShape = WorldShape {
    name: "countersign:service/two-factor-service@0.1.0",
    offers: &[
        "audit",
        "backup",
        "codes",
        "events",
        "log",
        "otp",
        "otp-types",
        "phone",
        "queue",
        "settings",
        "storage",
        "totp",
        "types",
    ],
    exports: "two-factor",
    ..OTP
};

const FIGURES: WorldShape = WorldShape {
    name: "countersign:service/analytics-service@0.1.0",
    exports: "analytics",
    ..OTP
};

const PROVIDERS: WorldShape = WorldShape {
    name: "countersign:provider/provider@0.1.0",
    package: PROVIDER,
    offers: &["http", "log", "settings", "signatures", "types"],
    exports: "sender",
    describes: false,
    wasi: &[
        "wasi:cli",
        "wasi:clocks",
        "wasi:filesystem",
        "wasi:io",
        "wasi:random",
        // They refuse at each call; some languages import them into everything.
        "wasi:sockets",
    ],
};

const CONSOLE: WorldShape = WorldShape {
    name: "countersign:provider/console-provider@0.1.0",
    offers: &["http", "log", "settings", "signatures", "terminal", "types"],
    ..PROVIDERS
};

impl WorldShape {
    /// The world of the component of that name: whatever is no service is a provider.
    pub fn of(component: &str) -> &'static WorldShape {
        match component {
            "otp" => &OTP,
            "two-factor" => &TWO_FACTOR,
            ANALYTICS => &FIGURES,
            "provider-console" => &CONSOLE,
            _ => &PROVIDERS,
        }
    }

    /// The world that a component with these exports was made for.
    pub fn that_exports(exports: &[String]) -> Option<&'static WorldShape> {
        let has = |world: &&&WorldShape| {
            let mut interfaces = exports.iter().filter_map(|name| Interface::parse(name));
            interfaces.any(|found| found.package == world.package && found.name == world.exports)
        };
        [&OTP, &TWO_FACTOR, &FIGURES, &PROVIDERS]
            .iter()
            .find(has)
            .copied()
    }

    /// Whether it is that of components which speak a company's API.
    pub fn is_of_providers(&self) -> bool {
        self.package == PROVIDER
    }

    /// The interfaces that it offers, those of WASI left out.
    pub fn offered(&self) -> Vec<String> {
        let names = self.offers.iter();
        names
            .map(|name| format!("{}/{name}@{VERSION}", self.package))
            .collect()
    }

    /// Whether it offers all that a component asks for, and gets what it must.
    ///
    /// # Errors
    ///
    /// The first import or export that does not fit.
    pub fn check(&'static self, found: &Inspection) -> Result<(), InstallError> {
        for import in &found.imports {
            self.check_import(import)?;
        }
        let interfaces = found
            .exports
            .iter()
            .filter_map(|name| Interface::parse(name));
        let mut ours = interfaces
            .filter(|export| export.package == self.package && export.name == self.exports);
        let wanted = format!("{}/{}@{VERSION}", self.package, self.exports);
        match ours.next() {
            Some(export) if export.version != VERSION => {
                return Err(self.wrong_version(export.whole, VERSION));
            }
            Some(_) => {}
            None => return Err(self.missing(wanted)),
        }
        if self.describes && !found.exports.iter().any(|name| name == "describe") {
            return Err(self.missing("describe".to_owned()));
        }
        Ok(())
    }

    fn check_import(&'static self, import: &str) -> Result<(), InstallError> {
        let not_offered = || InstallError::NotOffered {
            import: import.to_owned(),
            world: self,
        };
        let Some(found) = Interface::parse(import) else {
            return Err(not_offered());
        };
        if found.package == self.package {
            return match self.offers.contains(&found.name) {
                // A newer package may have more; that is told first.
                _ if found.version != VERSION => Err(self.wrong_version(import, VERSION)),
                true => Ok(()),
                false => Err(not_offered()),
            };
        }
        if !self.wasi.contains(&found.package) {
            return Err(not_offered());
        }
        // Within 0.2 a newer one is taken by its semantic version; the linker knows the functions.
        if found.version.starts_with("0.2.") {
            Ok(())
        } else {
            Err(self.wrong_version(import, "0.2"))
        }
    }

    fn wrong_version(&'static self, found: &str, offered: &'static str) -> InstallError {
        InstallError::WrongVersion {
            found: found.to_owned(),
            offered,
            world: self,
        }
    }

    fn missing(&'static self, export: String) -> InstallError {
        InstallError::Missing {
            export,
            world: self,
        }
    }
}

/// `package:namespace/name@version`.
struct Interface<'a> {
    whole: &'a str,
    package: &'a str,
    name: &'a str,
    version: &'a str,
}

impl Interface<'_> {
    fn parse(whole: &str) -> Option<Interface<'_>> {
        let (package, rest) = whole.split_once('/')?;
        let (name, version) = rest.split_once('@').unwrap_or((rest, ""));
        Some(Interface {
            whole,
            package,
            name,
            version,
        })
    }
}

/// Reads and validates a component, or a core module that carries its component type.
///
/// # Errors
///
/// [`InstallError::Malformed`], with the place where that is known.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InstallError> {
    // One line is enough for people, and for a log.
    let malformed = |reason: String| InstallError::Malformed {
        reason: reason.lines().next().unwrap_or_default().to_owned(),
    };
    if !bytes.starts_with(b"\0asm") {
        let reason = "its first four bytes are not those of WebAssembly";
        return Err(malformed(reason.to_owned()));
    }
    let component = as_component(bytes).map_err(malformed)?;
    let read = |error: wasmparser::BinaryReaderError| malformed(error.to_string());
    let mut validator = Validator::new_with_features(WasmFeatures::default());
    validator.validate_all(&component).map_err(read)?;
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(&component) {
        match payload.map_err(read)? {
            Payload::Version { encoding, .. } if depth == 0 && encoding != Encoding::Component => {
                return Err(malformed("it is no component".to_owned()));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    let import = import.map_err(read)?;
                    // A name for a type of another import, by which nothing can be reached.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        imports.push(import.name.name.to_owned());
                    }
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    let export = export.map_err(read)?;
                    if export.kind != ComponentExternalKind::Type {
                        exports.push(export.name.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Inspection {
        sha256: Sha256::of(bytes),
        bytes: bytes.len() as u64,
        imports,
        exports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(imports: &[&str], exports: &[&str]) -> Inspection {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Inspection {
            sha256: Sha256([0; 32]),
            bytes: 1,
            imports: owned(imports),
            exports: owned(exports),
        }
    }

    #[test]
    fn each_built_in_component_fits_its_own_world_and_no_other() {
        let built_in = [
            ("otp", countersign_embedded::OTP),
            ("two-factor", countersign_embedded::TWO_FACTOR),
            ("analytics", countersign_embedded::ANALYTICS),
            ("provider-twilio", countersign_embedded::PROVIDER_TWILIO),
            ("provider-console", countersign_embedded::PROVIDER_CONSOLE),
        ];
        for (name, bytes) in built_in {
            let found = inspect(bytes).expect("valid");
            assert_eq!(found.sha256, Sha256::of(bytes));
            for world in ["otp", "two-factor", "analytics", "provider-twilio"] {
                let fits = WorldShape::of(world).check(&found);
                assert_eq!(fits.is_ok(), world == name, "{name} as {world}: {fits:?}");
            }
            assert!(WorldShape::of(name).check(&found).is_ok(), "{name}");
        }
    }

    #[track_caller]
    fn check(component: &str, found: &Inspection, words: &[&str]) {
        let error = WorldShape::of(component).check(found);
        let error = error.expect_err("refused");
        let text = format!("{error} {}", error.help());
        for word in words {
            assert!(text.contains(word), "`{word}` is not in: {text}");
        }
    }

    #[test]
    fn a_refusal_says_which_import_or_export_it_is_and_what_to_do() {
        let otp = ["countersign:service/otp@0.1.0", "describe"];
        let storage = "countersign:service/storage@0.1.0";
        assert!(
            WorldShape::of("otp")
                .check(&of(&[storage, "wasi:io/poll@0.2.9"], &otp))
                .is_ok()
        );
        check(
            "otp",
            &of(&["countersign:service/storage@0.2.0"], &otp),
            &["countersign:service/storage@0.2.0", "0.1.0", "wit/service"],
        );
        check(
            "otp",
            &of(&[], &["countersign:service/otp@0.3.0", "describe"]),
            &["countersign:service/otp@0.3.0", "0.1.0"],
        );
        check(
            "otp",
            &of(&["countersign:service/totp@0.1.0"], &otp),
            &["`countersign:service/totp@0.1.0`", "otp-service", storage],
        );
        check(
            "otp",
            &of(&["wasi:http/outgoing-handler@0.2.6"], &otp),
            &["`wasi:http/outgoing-handler@0.2.6`", "not offer"],
        );
        check(
            "otp",
            &of(&["wasi:io/poll@0.3.0"], &otp),
            &["wasi:io/poll@0.3.0", "0.2"],
        );
        check("otp", &of(&["print"], &otp), &["`print`"]);
        check("otp", &of(&[], &otp[..1]), &["describe"]);
        check(
            "otp",
            &of(&[], &["describe"]),
            &["countersign:service/otp@0.1.0"],
        );
        check(
            "acme",
            &of(
                &["countersign:provider/terminal@0.1.0"],
                &["countersign:provider/sender@0.1.0"],
            ),
            &["terminal"],
        );
    }

    #[test]
    fn what_is_cut_off_or_no_component_is_malformed() {
        let whole = countersign_embedded::OTP;
        for bytes in [
            &b""[..],
            b"\0asm",
            b"nonsense",
            &whole[..whole.len() / 2],
            &whole[..whole.len() - 1],
        ] {
            let refused = inspect(bytes);
            assert!(
                matches!(refused, Err(InstallError::Malformed { .. })),
                "{refused:?}"
            );
        }
        // A core module without a component type is a component that offers nothing.
        let empty = inspect(b"\0asm\x01\0\0\0").expect("valid");
        check("otp", &empty, &["countersign:service/otp@0.1.0"]);
    }
}
