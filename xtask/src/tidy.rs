//! The rules that a machine can check. Each looks at one file's text and says line and reason.
//!
//! The words that are looked for are put together here from pieces, so that this file passes too.

use std::fmt;

/// A broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    file: String,
    line: usize,
    text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.file, self.line, self.text)
    }
}

/// All findings in one file. `file` is its path from the workspace's root, with slashes.
pub(crate) fn check(file: &str, text: &str) -> Vec<Finding> {
    // Made by cargo, which names its registry there.
    if file == "Cargo.lock" || text.contains('\0') {
        return Vec::new();
    }
    let mut found: Vec<(usize, String)> = Vec::new();
    if file.ends_with(".wit") {
        found.extend(undocumented(text));
    }
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        found.extend(
            registry(line).map(|host| (number, format!("names the package registry `{host}`"))),
        );
        found.extend(
            machine_path(line)
                .map(|path| (number, format!("has a path of one machine, `{path}…`"))),
        );
        found.extend(unfinished(line).map(|word| (number, format!("is unfinished: `{word}`"))));
    }
    found.sort();
    found
        .into_iter()
        .map(|(line, text)| Finding {
            file: file.to_owned(),
            line,
            text,
        })
        .collect()
}

/// Items of a WIT file without a `///` line above them.
fn undocumented(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut documented = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("///") {
            documented = true;
            continue;
        }
        // A gate such as `@since(…)` stands between an item and its documentation.
        if line.starts_with('@') && !line.contains('{') {
            continue;
        }
        if let Some(item) = wit_item(line)
            && !documented
        {
            found.push((index + 1, format!("`{item}` has no `///` line")));
        }
        documented = false;
    }
    found
}

/// The item that begins on this line of WIT.
fn wit_item(line: &str) -> Option<String> {
    let line = line
        .strip_prefix("export ")
        .or_else(|| line.strip_prefix("import "))
        .unwrap_or(line);
    let mut words = line
        .split(|c: char| c.is_whitespace() || "{=;:(".contains(c))
        .filter(|word| !word.is_empty());
    let first = words.next()?;
    let kinds = [
        "interface",
        "world",
        "record",
        "enum",
        "variant",
        "flags",
        "resource",
        "type",
    ];
    // `type: string` is a field that happens to be called so.
    let keyword = line[first.len()..].starts_with(char::is_whitespace);
    if kinds.contains(&first) && keyword {
        return Some(format!("{first} {}", words.next()?));
    }
    let (name, rest) = line.split_once(':')?;
    let rest = rest.trim_start();
    let rest = rest.strip_prefix("static ").unwrap_or(rest);
    let rest = rest.strip_prefix("async ").unwrap_or(rest).trim_start();
    rest.strip_prefix("func")?
        .trim_start()
        .starts_with('(')
        .then(|| format!("{}: func", name.trim()))
}

/// The package registry that a line names: which one is used is the machine's business.
fn registry(line: &str) -> Option<String> {
    let hosts = [
        ["index.", "crates.io"],
        ["static.", "crates.io"],
        ["registry.", "npmjs.org"],
        ["registry.", "yarnpkg.com"],
        ["pypi", ".org"],
        ["files.", "pythonhosted.org"],
        ["proxy.", "golang.org"],
        ["registry-1.", "docker.io"],
    ];
    hosts
        .into_iter()
        .map(|pieces| pieces.concat())
        .find(|host| line.contains(host))
}

/// A path that exists on one machine only.
fn machine_path(line: &str) -> Option<String> {
    let folders = ["work", "root", "home", "Users"].map(|name| format!("/{name}/"));
    // Part of a longer path or of an address it means something else.
    let longer = |c: char| c.is_ascii_alphanumeric() || "_-.~/".contains(c);
    folders.into_iter().find(|folder| {
        line.match_indices(folder.as_str())
            .any(|(at, _)| !line[..at].ends_with(longer))
    })
}

/// A mark of work that is not done.
fn unfinished(line: &str) -> Option<String> {
    let marks = [["to", "do!("], ["unimpl", "emented!("], ["#[", "ignore"]];
    marks
        .into_iter()
        .map(|pieces| pieces.concat())
        .find(|mark| line.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_lines(file: &str, text: &str, want: &[usize]) {
        let lines: Vec<usize> = check(file, text)
            .iter()
            .map(|finding| finding.line)
            .collect();
        assert_eq!(lines, want, "{:?}", check(file, text));
    }

    #[test]
    fn every_wit_item_has_a_doc_line() {
        let documented = "\
/// A package's first file.
interface storage {
  use types.{instant};
  /// Reads.
  get: func(key: string) -> option<list<u8>>;
  /// Several lines
  /// are fine.
  @since(version = 0.1.0)
  put: func(
    key: string,
  );
  /// A pair.
  record entry { key: string, value: list<u8> }
  /// A name.
  type id = string;
}
/// The world.
world service {
  import storage;
  export other;
  /// Called once.
  export describe: func() -> id;
}
";
        check_lines("wit/service/storage.wit", documented, &[]);
        let bare: String = documented
            .lines()
            .filter(|line| !line.trim().starts_with("///"))
            .fold(String::new(), |text, line| text + line + "\n");
        check_lines("wit/service/storage.wit", &bare, &[1, 3, 5, 8, 9, 11, 14]);
        // The rule is one of WIT.
        check_lines("docs/storage.md", &bare, &[]);
    }

    #[test]
    fn a_doc_line_belongs_to_the_item_right_below_it() {
        check_lines("a.wit", "/// Of another.\n\nenum state { live }\n", &[3]);
        check_lines("a.wit", "// Only a comment.\nenum state { live }\n", &[2]);
    }

    #[test]
    fn fields_and_cases_are_no_items() {
        let text = "/// A thing.\nrecord thing {\n  type: string,\n  func-name: string,\n  kind: option<kind>,\n}\n";
        check_lines("a.wit", text, &[]);
    }

    #[test]
    fn no_registry_is_named() {
        let host = ["index.", "crates.io"].concat();
        check_lines("README.md", &format!("one\nsparse+https://{host}/\n"), &[2]);
        check_lines("README.md", "a crate of crates.io\n", &[]);
        check_lines("Cargo.lock", &format!("source = \"https://{host}\"\n"), &[]);
    }

    #[test]
    fn no_path_of_one_machine_is_named() {
        for name in ["work", "root", "home", "Users"] {
            check_lines("a.rs", &format!("see \"/{name}/x\"\n"), &[1]);
            check_lines("a.rs", &format!("/{name}/x\n"), &[1]);
            check_lines(
                "a.rs",
                &format!("../{name}/x and docs/{name}/x and https://a.example/{name}/x\n"),
                &[],
            );
        }
    }

    #[test]
    fn nothing_is_left_unfinished() {
        for mark in [["to", "do!("], ["unimpl", "emented!("], ["#[", "ignore"]] {
            check_lines("a.rs", &format!("fn f() {{ {}) }}\n", mark.concat()), &[1]);
        }
        check_lines("a.rs", "// what is to do\n", &[]);
    }

    #[test]
    fn a_finding_says_where_and_why() {
        let findings = check("a.wit", "interface x {}\n");
        assert_eq!(
            findings[0].to_string(),
            "a.wit:1: `interface x` has no `///` line"
        );
    }
}
