//! Interfaces that are released, and do not change any more.

/// Each folder with the hash of its files. A new version has a folder of its own; when it is frozen in its
/// turn it gets a line here, and no line that is here ever changes.
const FROZEN: [(&str, u64); 1] = [("wit/provider/0.1", 0x2019_d052_baeb_2253)];

/// The files of frozen folders as they are found, in the order of their names.
pub(crate) struct Frozen {
    folders: Vec<(&'static str, u64, u64)>,
}

impl Frozen {
    pub(crate) fn new() -> Frozen {
        Frozen::of(&FROZEN)
    }

    fn of(frozen: &[(&'static str, u64)]) -> Frozen {
        let folders = frozen.iter();
        let folders = folders.map(|&(folder, want)| (folder, want, FNV_BASIS));
        Frozen {
            folders: folders.collect(),
        }
    }

    /// Looks at a file. Files come in the order of their names, as git lists them.
    pub(crate) fn add(&mut self, file: &str, text: &str) {
        for (folder, _, found) in &mut self.folders {
            let name = file.strip_prefix(*folder);
            if let Some(name) = name.and_then(|name| name.strip_prefix('/')) {
                for part in [name, "\0", text, "\0"] {
                    *found = fnv(*found, part.as_bytes());
                }
            }
        }
    }

    /// Which folders are not as they were.
    pub(crate) fn findings(&self) -> Vec<String> {
        let changed = self.folders.iter().filter(|(_, want, found)| want != found);
        changed
            .map(|(folder, _, found)| {
                format!(
                    "{folder} is frozen and has changed (its hash is {found:#018x}): components that \
                     others have built must go on working, so take the change back and make the next \
                     version's folder beside it; docs/components.md, \"The frozen interface\", says how"
                )
            })
            .collect()
    }
}

const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: against mistakes, not against somebody who wants to deceive.
fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> u64 {
        let mut frozen = Frozen::of(&[("wit/a/0.1", 0)]);
        for (file, text) in files {
            frozen.add(file, text);
        }
        frozen.folders[0].2
    }

    #[test]
    fn a_letter_a_name_and_a_file_more_or_less_are_found() {
        let was = found(&[("wit/a/0.1/x.wit", "one"), ("wit/a/0.1/y.wit", "two")]);
        for files in [
            &[("wit/a/0.1/x.wit", "one"), ("wit/a/0.1/y.wit", "twO")][..],
            &[("wit/a/0.1/x.wit", "one"), ("wit/a/0.1/z.wit", "two")],
            &[("wit/a/0.1/x.wit", "one")],
            &[
                ("wit/a/0.1/x.wit", "one"),
                ("wit/a/0.1/y.wit", "two"),
                ("wit/a/0.1/z.wit", ""),
            ],
            &[("wit/a/0.1/x.wit", "onetwo"), ("wit/a/0.1/y.wit", "")],
        ] {
            assert_ne!(found(files), was, "{files:?}");
        }
        // What lies elsewhere does not count.
        let more = found(&[
            ("wit/a/0.1/x.wit", "one"),
            ("wit/a/0.1/y.wit", "two"),
            ("wit/a/0.10/z.wit", "three"),
        ]);
        assert_eq!(more, was);
    }

    #[test]
    fn a_change_is_told_with_what_to_do() {
        let mut frozen = Frozen::of(&[("wit/a/0.1", FNV_BASIS)]);
        assert!(frozen.findings().is_empty());
        frozen.add("wit/a/0.1/x.wit", "one");
        let told = frozen.findings();
        assert!(told[0].contains("the next version's folder"), "{told:?}");
    }
}
