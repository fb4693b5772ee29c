//! The one door to the environment.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::ConfigError;

/// The environment as it was when the program started. It holds secrets, so it does not print.
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The process's own.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one door to the environment"
    )]
    pub(crate) fn of_process() -> Environment {
        Environment(std::env::vars_os().collect())
    }

    /// The text of the variable `name`. An empty variable counts as one that is not set, as
    /// container files have no other way to leave one out.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub(crate) fn get(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        Ok(self.get_even_empty(name)?.filter(|text| !text.is_empty()))
    }

    /// As [`get`](Environment::get), for a variable where empty is a mistake.
    ///
    /// # Errors
    ///
    /// When it is not UTF-8.
    pub(crate) fn get_even_empty(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.0.get(std::ffi::OsStr::new(name)) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| ConfigError::NotText {
            variable: name.to_owned(),
        })?;
        Ok(Some(text))
    }

    /// The names of all variables that begin with `COUNTERSIGN_`.
    pub(crate) fn own_names(&self) -> impl Iterator<Item = &str> {
        self.0
            .keys()
            .filter_map(|name| name.to_str())
            .filter(|name| name.starts_with("COUNTERSIGN_"))
    }

    /// Whether messages may be coloured (<https://no-color.org>).
    pub(crate) fn colour(&self) -> bool {
        self.0
            .get(std::ffi::OsStr::new("NO_COLOR"))
            .is_none_or(|value| value.is_empty())
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(variables: [(&str, &str); N]) -> Environment {
        Environment::from(variables.as_slice())
    }
}

#[cfg(test)]
impl From<&[(&str, &str)]> for Environment {
    fn from(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| (name.into(), value.into());
        Environment(variables.iter().map(owned).collect())
    }
}
