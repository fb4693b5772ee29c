//! The files of new projects. Each stands in `templates/` as it is written, but for the following: a name
//! that ends in `.in` loses that, so that Cargo and Git do not take it for theirs here; `{{name}}` becomes
//! the project's name and `{{snake_name}}` the same with `_` for `-`; in a path, `__name__` becomes the
//! latter.

/// A file: its path in the project, and what is in it.
pub(super) type File = (&'static str, &'static str);

/// What a project in some language is made of.
#[derive(Debug)]
pub(super) struct Template {
    /// As people write it.
    pub(super) language: &'static str,
    /// Its files, beside the WIT.
    pub(super) files: &'static [File],
    /// What to type next, in the project's folder.
    pub(super) next: &'static [&'static str],
}

macro_rules! files {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("templates/", $folder, "/", $path)))),+]
    };
}

macro_rules! wit {
    ($($file:literal),+ $(,)?) => {
        &[$((
            concat!("wit/", $file),
            include_str!(concat!("../../../../../wit/provider/0.1/", $file)),
        )),+]
    };
}

/// The interfaces, of every project.
pub(super) const WIT: &[File] = wit!(
    "http.wit",
    "log.wit",
    "sender.wit",
    "settings.wit",
    "signatures.wit",
    "terminal.wit",
    "types.wit",
    "world.wit",
);

pub(super) const RUST: Template = Template {
    language: "Rust",
    files: files!("rust":
        "Cargo.toml.in",
        "README.md",
        "build.rs",
        "conformance.toml",
        "gitignore.in",
        "src/api.rs",
        "src/lib.rs",
    ),
    next: &[
        "rustup target add wasm32-wasip2",
        "cargo test",
        "cargo build --release --target wasm32-wasip2",
        "countersign provider test target/wasm32-wasip2/release/{{snake_name}}.wasm",
    ],
};

pub(super) const JAVASCRIPT: Template = Template {
    language: "JavaScript",
    files: files!("js":
        "README.md",
        "build.js",
        "conformance.toml",
        "gitignore.in",
        "package-lock.json",
        "package.json",
        "src/api.js",
        "src/fetch.js",
        "src/provider.js",
        "test/host.js",
        "test/imports.js",
        "test/provider.test.js",
    ),
    next: &[
        "npm install && npm run build",
        "npm test",
        "countersign provider test {{name}}.wasm",
    ],
};

pub(super) const PYTHON: Template = Template {
    language: "Python",
    files: files!("python":
        "README.md",
        "build.py",
        "conformance.toml",
        "gitignore.in",
        "requirements.txt",
        "src/api.py",
        "src/app.py",
        "src/fetch.py",
        "tests/__init__.py",
        "tests/host.py",
        "tests/test_app.py",
    ),
    next: &[
        "python3 build.py",
        "python3 -m unittest",
        "countersign provider test {{name}}.wasm",
    ],
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// The files below `folder`, by their paths in it.
    fn below(folder: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                found.extend(
                    below(&path)
                        .into_iter()
                        .map(|file| format!("{name}/{file}")),
                );
            } else {
                found.insert(name);
            }
        }
        found
    }

    #[test]
    fn every_file_of_a_template_and_of_the_wit_is_in_a_project() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        for (folder, files) in [
            ("src/cli/provider/templates/rust", RUST.files),
            ("src/cli/provider/templates/js", JAVASCRIPT.files),
            ("src/cli/provider/templates/python", PYTHON.files),
            ("../../wit/provider/0.1", WIT),
        ] {
            let listed: BTreeSet<String> = files
                .iter()
                .map(|(path, _)| path.trim_start_matches("wit/").to_owned())
                .collect();
            assert_eq!(listed, below(&source.join(folder)), "{folder}");
        }
    }

    /// So that what the kit says of one is true of the others.
    #[test]
    fn all_projects_speak_the_same_api() {
        let described = |template: &Template| {
            let mut files = template.files.iter();
            files.find(|(path, _)| *path == "conformance.toml").copied()
        };
        assert!(described(&RUST).is_some());
        assert_eq!(described(&JAVASCRIPT), described(&RUST));
        assert_eq!(described(&PYTHON), described(&RUST));
    }
}
