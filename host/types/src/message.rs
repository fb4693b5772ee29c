//! A message on its way to a provider, and what became of it.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{MessageId, Secret};

/// A telephone number that has been parsed and judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhoneNumber {
    /// ITU-T E.164: `+` and 7 to 15 digits.
    pub e164: String,
    /// ISO 3166-1 alpha-2, or `001` for numbers of no country.
    pub country: String,
    /// What kind of line it is, as far as its digits tell.
    pub kind: NumberKind,
}

/// A number in E.164, in the one form of those that reach the same phone: what keys are made of.
///
/// A mobile in Argentina has two numbers that are both valid: from abroad a 9 comes after the country
/// code, and the ten digits behind it are one phone's, with the 9 and without. With limits for each it
/// would have twice as much. Messages go to the number as it was given. (Mexico's old 1 after the
/// country code is no such case: with it a number is not valid any more.)
pub fn one_phone(e164: &str) -> Cow<'_, str> {
    const NATIONAL_DIGITS: usize = 10;
    match e164.strip_prefix("+549") {
        Some(national) if national.len() == NATIONAL_DIGITS => format!("+54{national}").into(),
        _ => e164.into(),
    }
}

/// Kinds of numbers as libphonenumber tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the industry's own words")]
pub enum NumberKind {
    Mobile,
    FixedLine,
    FixedLineOrMobile,
    TollFree,
    PremiumRate,
    SharedCost,
    Personal,
    Voip,
    Pager,
    Uan,
    Voicemail,
    Unknown,
}

impl NumberKind {
    /// The word for answers and routes, as in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            NumberKind::Mobile => "mobile",
            NumberKind::FixedLine => "fixed-line",
            NumberKind::FixedLineOrMobile => "fixed-line-or-mobile",
            NumberKind::TollFree => "toll-free",
            NumberKind::PremiumRate => "premium-rate",
            NumberKind::SharedCost => "shared-cost",
            NumberKind::Personal => "personal",
            NumberKind::Voip => "voip",
            NumberKind::Pager => "pager",
            NumberKind::Uan => "uan",
            NumberKind::Voicemail => "voicemail",
            NumberKind::Unknown => "unknown",
        }
    }

    /// Whether messages may be sent to such numbers: not where the receiver pays or earns by the message,
    /// nor where nobody can read one. The component `otp` has the same rule.
    pub fn can_receive(self) -> bool {
        match self {
            NumberKind::PremiumRate
            | NumberKind::SharedCost
            | NumberKind::TollFree
            | NumberKind::Pager
            | NumberKind::Uan
            | NumberKind::Voicemail => false,
            NumberKind::Mobile
            | NumberKind::FixedLine
            | NumberKind::FixedLineOrMobile
            | NumberKind::Personal
            | NumberKind::Voip
            | NumberKind::Unknown => true,
        }
    }
}

/// Who goes first where not all can go at once; the first is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Priority {
    /// Somebody waits in front of a screen: a code, a login.
    Urgent,
    /// An order, an appointment, an alarm.
    Normal,
    /// Anything that may wait.
    Bulk,
}

impl Priority {
    /// The word for answers and metrics, as in the WIT.
    pub fn word(self) -> &'static str {
        match self {
            Priority::Urgent => "urgent",
            Priority::Normal => "normal",
            Priority::Bulk => "bulk",
        }
    }
}

/// A message that is ready for a provider: the text contains the code, so it is never stored or
/// logged.
#[derive(Clone)]
pub struct Message {
    /// The same for every attempt at this message.
    pub id: MessageId,
    /// How it is carried: `sms`.
    pub channel: String,
    /// The receiver, for `sms` in E.164.
    pub to: String,
    /// ISO 3166-1 alpha-2 of the receiver.
    pub country: String,
    /// What the receiver reads.
    pub text: String,
    /// The name of the template that `text` was made from.
    pub template: String,
    /// The template's values, without the code.
    pub variables: Vec<(String, String)>,
    /// The code that is in `text`, where there is one.
    pub code: Option<Secret<String>>,
    /// BCP 47.
    pub locale: Option<String>,
    /// What it is for.
    pub purpose: String,
    /// How much longer it is of use.
    pub validity: Duration,
    /// Where the provider is to send its receipts; `None`: none are wanted.
    pub status_callback: Option<String>,
}

/// A provider took the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The provider's own ids; empty where the provider's component died after a 2xx had arrived.
    pub ids: Vec<String>,
    /// Number of SMS segments, where the provider says so.
    pub segments: Option<u32>,
    /// What it costs, where the provider says so at once.
    pub price: Option<Price>,
}

/// What a message costs the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Decimal, never negative.
    pub amount: String,
    /// ISO 4217.
    pub currency: String,
}

/// The digits before and behind its point that a price has at most: what more says may be a code (6 to
/// 10) or a number (7 to 15), which must not get into events.
const WHOLE_DIGITS_MAX: usize = 5;
const FRACTION_DIGITS_MAX: usize = 12;

impl Price {
    /// A price as a provider tells it; `None` where `amount` is no decimal number such as `0.0079`, or
    /// is longer than any message's price, or `currency` does not have the form of ISO 4217.
    pub fn new(amount: String, currency: String) -> Option<Price> {
        let (whole, fraction) = amount.split_once('.').unwrap_or((&amount, "0"));
        let is_number = |part: &str, digits_max: usize| {
            (1..=digits_max).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
        };
        let is_decimal =
            is_number(whole, WHOLE_DIGITS_MAX) && is_number(fraction, FRACTION_DIGITS_MAX);
        let is_currency = currency.len() == 3 && currency.bytes().all(|b| b.is_ascii_uppercase());
        (is_decimal && is_currency).then_some(Price { amount, currency })
    }
}

/// Why a provider did not take the message. The class is what the queue acts on; the rest is for
/// people and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendError {
    /// What the queue acts on.
    pub class: ErrorClass,
    /// How long the provider asks to wait.
    pub retry_after_ms: Option<u64>,
    /// The provider's own code.
    pub provider_code: Option<String>,
    /// For the operator; free of codes and numbers.
    pub text: String,
    /// Whether another provider may be able to, though this one never will.
    pub failover: bool,
}

/// Classes of failed sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ErrorClass {
    /// This number or message can never work. No retry.
    Permanent,
    /// Certainly not sent.
    Retryable,
    /// Slow down.
    Throttled,
    /// The operator's account: key, sender, balance.
    Auth,
    /// Opted out, filtered, or not permitted.
    Blocked,
    /// The provider may have it. Resent for one-time codes only.
    UnknownOutcome,
}

impl ErrorClass {
    /// The word for logs, events and metrics, as in the WIT.
    pub fn word(self) -> &'static str {
        match self {
            ErrorClass::Permanent => "permanent",
            ErrorClass::Retryable => "retryable",
            ErrorClass::Throttled => "throttled",
            ErrorClass::Auth => "auth",
            ErrorClass::Blocked => "blocked",
            ErrorClass::UnknownOutcome => "unknown-outcome",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_decimal_and_a_currency() {
        let price = |amount: &str, currency: &str| Price::new(amount.into(), currency.into());
        for amount in ["0", "0.0079", "12.50", "99999", "0.000000000001"] {
            assert!(price(amount, "USD").is_some(), "{amount}");
        }
        for amount in [
            "",
            "-0.1",
            "+1",
            ".5",
            "1.",
            "1.2.3",
            "1e3",
            "NaN",
            "0.0000000000001",
            // A code and a number.
            "481234",
            "481234.0",
            "12025550123",
        ] {
            assert_eq!(price(amount, "USD"), None, "{amount}");
        }
        for currency in ["", "usd", "US", "USDT", "€"] {
            assert_eq!(price("1", currency), None, "{currency}");
        }
    }
}
