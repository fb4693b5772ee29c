//! What the documents say of the code, as far as a machine can check: files and tests that they name are
//! there, and no module of the host is left out of the code map.

use std::collections::BTreeMap;

/// The one that maps the code.
const MAP: &str = "ARCHITECTURE.md";
/// Whose words about files are checked.
const DOCUMENTS: [&str; 4] = [MAP, "SECURITY.md", "README.md", "docs/components.md"];

/// Whether a document speaks of it, and how.
#[derive(Default)]
pub(crate) struct Tree {
    documents: BTreeMap<String, String>,
    sources: BTreeMap<String, String>,
}

impl Tree {
    /// Remembers a file, by its path from the workspace's root.
    pub(crate) fn add(&mut self, file: &str, text: String) {
        if DOCUMENTS.contains(&file) {
            self.documents.insert(file.to_owned(), text);
        } else if file.ends_with(".rs") {
            self.sources.insert(file.to_owned(), text);
        }
    }

    /// What is wrong, one line each.
    pub(crate) fn findings(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (document, text) in &self.documents {
            for (index, line) in text.lines().enumerate() {
                let wrong = named(line).filter_map(|name| self.wrong(name));
                let number = index + 1;
                found.extend(wrong.map(|wrong| format!("{document}:{number}: {wrong}")));
            }
        }
        if let Some(map) = self.documents.get(MAP) {
            let unnamed = self.sources.keys().filter(|file| !is_mapped(file, map));
            found.extend(
                unnamed.map(|file| format!("{MAP}: `{file}` is in no row of the code map; add it")),
            );
        }
        found
    }

    /// Why `name`, such as `store/row.rs` or `row.rs::a_test`, means nothing.
    fn wrong(&self, name: &str) -> Option<String> {
        let (path, function) = match name.split_once("::") {
            Some((path, function)) => (path, Some(function)),
            None => (name, None),
        };
        let meant = self
            .sources
            .iter()
            .filter(|(file, _)| is_called(file, path));
        let texts: Vec<&String> = meant.map(|(_, text)| text).collect();
        if texts.is_empty() {
            return Some(format!("names `{path}`, and there is no such file"));
        }
        let function = function?;
        let is_there = |text: &&String| text.contains(&format!("fn {function}("));
        (!texts.iter().any(is_there))
            .then(|| format!("names `{name}`, and there is no such function in that file"))
    }
}

/// The Rust files that a line names in backquotes, some with a function.
fn named(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted.filter(|text| {
        let path = text.split("::").next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
        path.ends_with(".rs") && path.len() > ".rs".len() && text.chars().all(plain)
    })
}

/// Whether `file` can be called `path`: by its end, also without its folders `src` and a crate's parent.
fn is_called(file: &str, path: &str) -> bool {
    let is_end = |file: &str| {
        file.strip_suffix(path)
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    };
    is_end(file) || is_end(&file.replace("/src/", "/"))
}

/// Whether the code map has a word for a module of the host: its own, that of its folder, or that of the
/// module that it belongs to.
fn is_mapped(file: &str, map: &str) -> bool {
    let Some((_, inside)) = file
        .strip_prefix("host/")
        .and_then(|file| file.split_once("/src/"))
    else {
        return true;
    };
    let parts: Vec<&str> = inside.split('/').collect();
    let Some((last, folders)) = parts.split_last() else {
        return true;
    };
    // A crate's own door, and what is there for tests alone.
    if ["lib.rs", "main.rs", "mod.rs", "tests.rs", "testing.rs"].contains(last) {
        return true;
    }
    let says = |word: &str| {
        map.match_indices(word).any(|(at, _)| {
            let before = map[..at].chars().next_back();
            before.is_none_or(|c| !(c.is_ascii_alphanumeric() || c == '_'))
        })
    };
    says(last)
        || folders
            .iter()
            .any(|folder| says(&format!("{folder}/")) || says(&format!("{folder}.rs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(map: &str, sources: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        tree.add(MAP, map.to_owned());
        for (file, text) in sources {
            tree.add(file, (*text).to_owned());
        }
        tree
    }

    #[track_caller]
    fn check(map: &str, sources: &[(&str, &str)], want: &[&str]) {
        assert_eq!(tree(map, sources).findings(), want);
    }

    #[test]
    fn a_file_that_is_named_is_there() {
        let row = ("host/store/src/row.rs", "fn it_reads() {}");
        check("`row.rs`, `store/row.rs`", &[row], &[]);
        check("`row.rs::it_reads`, `host/store/src/row.rs`", &[row], &[]);
        check(
            "`row.rs`\n`store/rows.rs` and `queue/row.rs`",
            &[row],
            &[
                "ARCHITECTURE.md:2: names `store/rows.rs`, and there is no such file",
                "ARCHITECTURE.md:2: names `queue/row.rs`, and there is no such file",
            ],
        );
        check(
            "`row.rs::it_writes`",
            &[row],
            &[
                "ARCHITECTURE.md:1: names `row.rs::it_writes`, and there is no such function in that file",
            ],
        );
    }

    #[test]
    fn what_only_looks_like_a_file_is_none() {
        check("a `.rs` file, `*.rs`, `x.rs and y`, y.rs", &[], &[]);
    }

    #[test]
    fn every_module_of_the_host_is_in_the_code_map() {
        let file = "host/runtime/src/once.rs";
        let missing =
            "ARCHITECTURE.md: `host/runtime/src/once.rs` is in no row of the code map; add it";
        check("", &[(file, "")], &[missing]);
        check("`once.rs`", &[(file, "")], &[]);
        check(
            "`at_once.rs`",
            &[("host/x/src/at_once.rs", ""), (file, "")],
            &[missing],
        );
        let inside = ("host/runtime/src/provider/log.rs", "");
        check("`provider/`", &[inside], &[]);
        let part = ("host/runtime/src/otp/wit.rs", "");
        check("`otp.rs`", &[part, ("host/runtime/src/otp.rs", "")], &[]);
        for file in [
            "host/store/src/lib.rs",
            "host/store/src/row/tests.rs",
            "bench/src/load.rs",
        ] {
            check("", &[(file, "")], &[]);
        }
    }
}
