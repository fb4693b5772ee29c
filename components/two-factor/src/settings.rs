//! What an operator can set: names, defaults and bounds, each in one place.

use std::ops::RangeInclusive;

use crate::Undecided;
use crate::host::{Duration, HashCost, MissLimit};

/// 60 seconds.
pub const MINUTE: Duration = 60_000;
/// 60 minutes.
pub const HOUR: Duration = 60 * MINUTE;
/// 24 hours.
pub const DAY: Duration = 24 * HOUR;
/// How long a proof is good for at most, as the host promises.
pub const PROOF_LIFE: Duration = 5 * MINUTE;

const MISSES: RangeInclusive<u32> = 1..=100;
const SENDS: RangeInclusive<u32> = 1..=1_000;
const TEXT_BYTES_MAX: usize = 1_600;

const BACKUP_CODE: &str = "A backup code was used to log in to your account. Codes left: {left}. \
                           If this was not you, change your password.";
const NUMBER: &str = "The phone number for logging in to your account was changed. If this was not \
                      you, contact support.";
const DISABLED: &str = "A second factor was removed from your account. If this was not you, contact \
                        support.";
const FAILURES: &str = "Wrong login codes were entered for your account several times. If this was \
                        not you, change your password.";

/// What the operator has set, with the defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `digits`, which is otp's: 6 to 10, by default 6. How many a message's code has.
    pub digits: usize,
    /// `sends-per-minute` (3), `sends-per-hour` (10), `sends-per-day` (50), which are otp's, each 1 to
    /// 1,000: here the codes for enrolling that one user is sent, to whatever numbers, and as often
    /// the secrets for authenticator apps that are made for one user.
    pub sends: [(Duration, usize, &'static str); 3],
    /// `enrolments-per-number-per-day` (50), 1 to 1,000: codes for enrolling that one number is sent,
    /// whoever asks.
    pub per_number: u64,
    /// `enrolment-seconds` (1,800), 60 to 3,600: how long a phone or an app stays pending.
    pub pending: Duration,
    /// `totp-misses-per-quarter-hour` (5), `totp-misses-per-day` (30), each 1 to 100.
    pub app_caps: [MissLimit; 2],
    /// `backup-misses-per-quarter-hour` (5), `backup-misses-per-day` (30), each 1 to 100.
    pub backup_caps: [MissLimit; 2],
    /// `backup-codes` (10), 1 to 20: how many there are in a set.
    pub backup_codes: u8,
    /// `backup-memory-kib` (19,456), 1,024 to 262,144, and `backup-passes` (2), 1 to 16: what one
    /// argon2id hash costs (OWASP Password Storage Cheat Sheet).
    pub hash_cost: HashCost,
    /// `misses-before-notice` (5), 1 to 100: after how many wrong codes in an hour, of all kinds
    /// together, the user is told.
    pub misses_before_notice: usize,
    /// The texts of notices; none is sent where one is empty.
    pub notices: Notices,
}

/// What users are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notices {
    /// `notice-backup-code`, with the placeholder `{left}`.
    pub backup_code: String,
    /// `notice-number`, to the number before.
    pub number: String,
    /// `notice-disabled`.
    pub disabled: String,
    /// `notice-failures`.
    pub failures: String,
}

impl Settings {
    /// Reads the settings by name. Names that this component does not know are left to the others
    /// of the service.
    ///
    /// # Errors
    /// [`Undecided::Setting`] for a value that is out of its bounds: a limit that was set wrongly
    /// must not be a limit left out.
    pub fn read(all: &[(String, String)]) -> Result<Self, Undecided> {
        let given = Given(all);
        let caps = |quarter, day| -> Result<[MissLimit; 2], Undecided> {
            Ok([
                MissLimit {
                    misses: given.number(quarter, MISSES, 5)?,
                    window: 15 * MINUTE,
                },
                MissLimit {
                    misses: given.number(day, MISSES, 30)?,
                    window: DAY,
                },
            ])
        };
        let sends = |name, default| -> Result<usize, Undecided> {
            Ok(given.number(name, SENDS, default)? as usize)
        };
        Ok(Self {
            digits: given.number("digits", 6..=10, 6)?,
            sends: [
                (MINUTE, sends("sends-per-minute", 3)?, "minute"),
                (HOUR, sends("sends-per-hour", 10)?, "hour"),
                (DAY, sends("sends-per-day", 50)?, "day"),
            ],
            per_number: given.number("enrolments-per-number-per-day", 1..=1_000, 50)?,
            pending: 1_000 * given.number("enrolment-seconds", 60..=3_600, 1_800)?,
            app_caps: caps("totp-misses-per-quarter-hour", "totp-misses-per-day")?,
            backup_caps: caps("backup-misses-per-quarter-hour", "backup-misses-per-day")?,
            backup_codes: given.number("backup-codes", 1..=20, 10)?,
            hash_cost: HashCost {
                memory: given.number("backup-memory-kib", 1_024..=262_144, 19_456)?,
                passes: given.number("backup-passes", 1..=16, 2)?,
            },
            misses_before_notice: given.number("misses-before-notice", 1..=100, 5)?,
            notices: Notices {
                backup_code: given.text("notice-backup-code", BACKUP_CODE, &["{left}"])?,
                number: given.text("notice-number", NUMBER, &[])?,
                disabled: given.text("notice-disabled", DISABLED, &[])?,
                failures: given.text("notice-failures", FAILURES, &[])?,
            },
        })
    }
}

struct Given<'a>(&'a [(String, String)]);

impl Given<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(given, _)| given == name)?;
        Some(value)
    }

    fn number<N>(
        &self,
        name: &'static str,
        range: RangeInclusive<N>,
        default: N,
    ) -> Result<N, Undecided>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = self.get(name) else {
            return Ok(default);
        };
        match text.trim().parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(Undecided::Setting {
                name,
                must: format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            }),
        }
    }

    /// A text for a message. The host ends the call at a placeholder that nothing fills, so it is found
    /// here, with its name.
    fn text(
        &self,
        name: &'static str,
        default: &str,
        places: &[&str],
    ) -> Result<String, Undecided> {
        let text = self.get(name).unwrap_or(default);
        let bare = places
            .iter()
            .fold(text.to_owned(), |text, place| text.replace(place, ""));
        let must = if text.len() > TEXT_BYTES_MAX {
            format!("must have at most {TEXT_BYTES_MAX} bytes")
        } else if bare.contains(['{', '}']) {
            match places {
                [] => "must contain no braces".into(),
                places => format!("must contain no braces but {}", places.join(" and ")),
            }
        } else {
            return Ok(text.into());
        };
        Err(Undecided::Setting { name, must })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, String> {
        Settings::read(&[(name.into(), value.into())]).map_err(|error| error.to_string())
    }

    #[test]
    fn r08_nothing_set_means_the_documented_defaults() {
        let settings = Settings::read(&[]).expect("the defaults");
        let caps = [
            MissLimit {
                misses: 5,
                window: 15 * MINUTE,
            },
            MissLimit {
                misses: 30,
                window: DAY,
            },
        ];
        assert_eq!((settings.app_caps, settings.backup_caps), (caps, caps));
        let sends = [(MINUTE, 3, "minute"), (HOUR, 10, "hour"), (DAY, 50, "day")];
        assert_eq!(settings.sends, sends);
        assert_eq!((settings.digits, settings.backup_codes), (6, 10));
        assert_eq!(
            settings.hash_cost,
            HashCost {
                memory: 19_456,
                passes: 2
            }
        );
        assert_eq!(settings.pending, 30 * MINUTE);
        assert_eq!(settings.misses_before_notice, 5);
        assert_eq!(settings.per_number, 50);
        assert!(settings.notices.backup_code.contains("{left}"));
        for text in [
            &settings.notices.backup_code,
            &settings.notices.number,
            &settings.notices.disabled,
            &settings.notices.failures,
        ] {
            assert!(text.is_ascii() && text.len() <= 160, "one segment: {text}");
        }
    }

    #[test]
    fn every_number_is_taken_at_its_bounds_and_refused_one_past_them() {
        for (name, first, last) in [
            ("digits", 6, 10),
            ("sends-per-minute", 1, 1_000),
            ("sends-per-hour", 1, 1_000),
            ("sends-per-day", 1, 1_000),
            ("enrolments-per-number-per-day", 1, 1_000),
            ("enrolment-seconds", 60, 3_600),
            ("totp-misses-per-quarter-hour", 1, 100),
            ("totp-misses-per-day", 1, 100),
            ("backup-misses-per-quarter-hour", 1, 100),
            ("backup-misses-per-day", 1, 100),
            ("backup-codes", 1, 20),
            ("backup-memory-kib", 1_024, 262_144),
            ("backup-passes", 1, 16),
            ("misses-before-notice", 1, 100),
        ] {
            assert!(read(name, &first.to_string()).is_ok(), "{name}");
            assert!(read(name, &format!(" {last} ")).is_ok(), "{name}");
            let must = format!("setting `{name}` must be a whole number from {first} to {last}");
            for wrong in [&(first - 1).to_string(), &(last + 1).to_string(), "", "six"] {
                assert_eq!(read(name, wrong), Err(must.clone()), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_text_that_the_host_could_not_fill_is_refused() {
        assert!(read("notice-backup-code", "{left} left").is_ok());
        assert!(read("notice-number", "").is_ok(), "none is sent");
        for (name, text) in [
            ("notice-backup-code", "{left} {code}"),
            ("notice-number", "{left}"),
            ("notice-disabled", "{"),
            ("notice-failures", &"x".repeat(1_601)),
        ] {
            let error = read(name, text).expect_err(name);
            assert!(
                error.starts_with(&format!("setting `{name}` must")),
                "{error}"
            );
        }
    }

    #[test]
    fn settings_of_other_components_are_not_ours_to_judge() {
        let defaults = Settings::read(&[]).map_err(|error| error.to_string());
        assert_eq!(read("purposes", "a,b"), defaults);
    }
}
