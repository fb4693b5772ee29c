//! `countersign provider new`: a project that builds a provider component, with tests and all that its
//! tools need.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use miette::Diagnostic;
use serde_json::json;

use super::templates::{self, Template};

/// As long as it is a good name for a folder, a package and a provider.
const NAME_BYTES_MAX: usize = 32;

/// What a project is written in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Language {
    /// Rust, with wit-bindgen.
    Rust,
    /// JavaScript, with componentize-js.
    Js,
    /// Python, with componentize-py.
    Python,
}

impl Language {
    fn template(self) -> &'static Template {
        match self {
            Language::Rust => &templates::RUST,
            Language::Js => &templates::JAVASCRIPT,
            Language::Python => &templates::PYTHON,
        }
    }
}

/// Why there is no new project.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub(super) enum NewError {
    #[error("the folder `{}` is not empty", folder.display())]
    #[diagnostic(
        code(countersign::provider::not_empty),
        help("name another one with --into")
    )]
    NotEmpty { folder: PathBuf },
    #[error("cannot write `{}`", path.display())]
    #[diagnostic(code(countersign::provider::unwritable))]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The name of a project: 1 to 32 lower-case letters, digits and hyphens, a letter first.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let begins = text.starts_with(|first: char| first.is_ascii_lowercase());
    let ends = !text.ends_with('-') && !text.contains("--");
    match begins && ends && text.len() <= NAME_BYTES_MAX && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err(
            "must be 1 to 32 lower-case letters, digits and single hyphens, with a letter first, such as acme-sms",
        ),
    }
}

/// What was written.
pub(super) struct Project {
    name: String,
    template: &'static Template,
    folder: PathBuf,
    files: Vec<String>,
}

/// Writes a project into `folder`, which is made where there is none.
///
/// # Errors
///
/// When there is something in the folder already, or it cannot be written.
pub(super) fn write(name: &str, language: Language, folder: &Path) -> Result<Project, NewError> {
    let template = language.template();
    let unwritable = |path: &Path, source| NewError::Unwritable {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(folder).map_err(|source| unwritable(folder, source))?;
    let mut present = fs::read_dir(folder).map_err(|source| unwritable(folder, source))?;
    if present.next().is_some() {
        return Err(NewError::NotEmpty {
            folder: folder.to_owned(),
        });
    }
    let mut files = Vec::new();
    for (path, text) in template.files.iter().chain(templates::WIT) {
        let path = path.strip_suffix(".in").unwrap_or(path);
        let path = match path {
            "gitignore" => ".gitignore".to_owned(),
            path => path.replace("__name__", &snake(name)),
        };
        let file = folder.join(&path);
        let parent = file.parent().unwrap_or(folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&file, filled(text, name)))
            .map_err(|source| unwritable(&file, source))?;
        files.push(path);
    }
    Ok(Project {
        name: name.to_owned(),
        template,
        folder: folder.to_owned(),
        files,
    })
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn filled(text: &str, name: &str) -> String {
    text.replace("{{name}}", name)
        .replace("{{snake_name}}", &snake(name))
}

impl Project {
    pub(super) fn for_people(&self) -> String {
        let folder = self.folder.display();
        let mut lines = format!(
            "{} is a provider in {}, in {folder}. Its README.md says more; next:\n\n  cd {folder}\n",
            self.name, self.template.language
        );
        for command in self.template.next {
            lines += &format!("  {}\n", filled(command, &self.name));
        }
        lines
    }

    pub(super) fn as_json(&self) -> String {
        let next = self.template.next.iter();
        let next: Vec<_> = next.map(|command| filled(command, &self.name)).collect();
        let shown = json!({
            "name": self.name,
            "language": self.template.language,
            "folder": self.folder,
            "files": self.files,
            "next": next,
        });
        format!("{shown}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_everywhere() {
        for text in ["a", "acme-sms", "sms2", &"x".repeat(32)] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "2sms",
            "-a",
            "a-",
            "a--b",
            "Acme",
            "a_b",
            "a/b",
            "ä",
            &"x".repeat(33),
        ] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_project_has_its_name_and_the_wit() {
        for (language, manifest, words) in [
            (Language::Rust, "Cargo.toml", "release/acme_sms.wasm"),
            (Language::Js, "package-lock.json", "acme-sms.wasm"),
            (Language::Python, "build.py", "acme-sms.wasm"),
        ] {
            let parent = tempfile::tempdir().expect("a folder");
            let folder = parent.path().join("new");
            let project = write("acme-sms", language, &folder).expect("written");
            for file in [".gitignore", manifest, "wit/sender.wit", "conformance.toml"] {
                assert!(project.files.iter().any(|path| path == file), "{file}");
            }
            for path in &project.files {
                let text = fs::read_to_string(folder.join(path)).expect("text");
                assert!(!text.contains("{{"), "{path}");
            }
            let manifest = fs::read_to_string(folder.join(manifest)).expect("text");
            assert!(manifest.contains("acme-sms"), "{manifest}");
            assert!(project.for_people().contains(words), "{language:?}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("Cargo.toml");
        fs::write(&file, "mine").expect("written");
        let refused = write("a", Language::Rust, folder.path());
        assert!(matches!(refused, Err(NewError::NotEmpty { .. })));
        assert_eq!(fs::read_to_string(&file).expect("text"), "mine");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
        let inside = write("a", Language::Rust, &file);
        assert!(matches!(inside, Err(NewError::Unwritable { .. })));
    }
}
