//! Amounts: decimal text as exact millionths, and rates between currencies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Millionths of a currency's unit.
pub type Micros = u64;

/// Decimal places of an amount.
pub const AMOUNT_PLACES: u32 = 6;
/// Decimal places of a rate.
pub const RATE_PLACES: u32 = 9;

/// The three capital letters of ISO 4217.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Currency([u8; 3]);

impl Currency {
    /// No currency: what ISO 4217 has for that.
    pub const NONE: Self = Self(*b"XXX");

    /// Reads one; `None` where `text` does not have its form.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let letters: [u8; 3] = text.as_bytes().try_into().ok()?;
        letters
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(letters))
    }

    /// Its letters.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// Reads a decimal number such as `0.0079` as a whole number of its `places`th decimals; what is behind
/// them is rounded, half up. `None` where it is no such number, or too large.
#[must_use]
pub fn decimal(text: &str, places: u32) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let digit = |place: u32| {
        let digit = fraction.as_bytes().get(place as usize);
        u64::from(digit.map_or(0, |digit| digit - b'0'))
    };
    let mut number: u64 = whole.parse().ok()?;
    for place in 0..places {
        number = number.checked_mul(10)?.checked_add(digit(place))?;
    }
    number.checked_add(u64::from(digit(places) >= 5))
}

/// What one unit of each currency is worth in the reporting one, in units of `RATE_PLACES`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// The reporting currency.
    pub currency: Currency,
    /// Those of the others.
    pub others: BTreeMap<Currency, u64>,
}

/// Amounts by currency.
pub type Amounts = BTreeMap<Currency, u128>;

impl Rates {
    /// The sum of `amounts` in the reporting currency, rounded once, half up. Amounts of a currency
    /// without a rate are not in it.
    #[must_use]
    pub fn convert<'a>(
        &self,
        amounts: impl IntoIterator<Item = (&'a Currency, &'a u128)>,
    ) -> Micros {
        let one = 10u128.pow(RATE_PLACES);
        let sum = amounts.into_iter().fold(0u128, |sum, (currency, amount)| {
            let rate = self.rate(*currency).unwrap_or(0);
            sum.saturating_add(amount.saturating_mul(u128::from(rate)))
        });
        Micros::try_from(sum.saturating_add(one / 2) / one).unwrap_or(Micros::MAX)
    }

    /// What one unit of `currency` is worth; `None` where nobody has said so.
    #[must_use]
    pub fn rate(&self, currency: Currency) -> Option<u64> {
        if currency == self.currency {
            return Some(10u64.pow(RATE_PLACES));
        }
        self.others.get(&currency).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_read_exactly_and_rounded_behind_its_places() {
        for (text, want) in [
            ("0.0079", Some(7_900)),
            ("12", Some(12_000_000)),
            ("0.0000004", Some(0)),
            ("0.0000005", Some(1)),
            ("0.00000049999999", Some(0)),
            ("1.9999999", Some(2_000_000)),
            ("18446744073709.551615", Some(u64::MAX)),
            ("18446744073709.551616", None),
            ("", None),
            (".5", None),
            ("5.", None),
            ("-1", None),
            ("1e3", None),
            ("1.2.3", None),
        ] {
            assert_eq!(decimal(text, AMOUNT_PLACES), want, "{text}");
        }
    }

    #[test]
    fn a_sum_of_currencies_is_rounded_once() {
        let read = |text| Currency::read(text).expect("a currency");
        let (usd, eur, gbp) = (read("USD"), read("EUR"), read("GBP"));
        let rates = Rates {
            currency: usd,
            others: BTreeMap::from([(eur, 1_300_000_000)]),
        };
        // 1 + 1.3 × 0.000001 twice is 1.0000026, not 1.000002.
        let amounts = Amounts::from([(usd, 1_000_000), (eur, 2), (gbp, 99)]);
        assert_eq!(rates.convert(&amounts), 1_000_003);
        assert_eq!(rates.rate(gbp), None);
        assert_eq!(rates.convert(&Amounts::new()), 0);
    }

    #[test]
    fn a_currency_is_three_capital_letters() {
        assert_eq!(
            Currency::read("USD").map(|one| one.text()),
            Some("USD".into())
        );
        for text in ["", "US", "usd", "US1", "USDT"] {
            assert_eq!(Currency::read(text), None, "{text}");
        }
    }
}
