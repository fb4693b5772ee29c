//! What an operator can set for the service.
//!
//! | name | value |
//! |---|---|
//! | `currency` | the reporting currency, by default `USD` |
//! | `rates` | what one unit of other currencies is worth in it: `EUR=1.08 GBP=1.27` |
//! | `prices/{provider}` | what a segment costs, by country, `*` for all others: `USD *=0.05 US=0.0079` |

use std::collections::BTreeMap;

use crate::Undecided;
use crate::cells::Country;
use crate::money::{AMOUNT_PLACES, Currency, Micros, RATE_PLACES, Rates, decimal};

/// What the operator has set, with the defaults for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The reporting currency, and what others are worth.
    pub rates: Rates,
    /// Price tables, by provider.
    pub prices: BTreeMap<String, Prices>,
}

/// What a segment costs with one provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prices {
    /// What they are in.
    pub currency: Currency,
    default: Option<Micros>,
    countries: BTreeMap<Country, Micros>,
}

impl Prices {
    /// The price of a segment to `country`, where it is known.
    #[must_use]
    pub fn of(&self, country: Country) -> Option<Micros> {
        self.countries.get(&country).copied().or(self.default)
    }

    fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let mut prices = Self {
            currency: Currency::read(words.next()?)?,
            default: None,
            countries: BTreeMap::new(),
        };
        for word in words {
            let (country, price) = word.split_once('=')?;
            let price = decimal(price, AMOUNT_PLACES)?;
            if country == "*" {
                prices.default = Some(price);
            } else {
                prices.countries.insert(Country::read(country)?, price);
            }
        }
        Some(prices)
    }
}

impl Settings {
    /// Reads the settings by name. Names that this component does not know are left to others.
    ///
    /// # Errors
    /// [`Undecided::Setting`] for a value that is not well formed: a wrong rate must not be a rate left
    /// out.
    pub fn read(all: &[(String, String)]) -> Result<Self, Undecided> {
        let wrong = |name: &str, must| Undecided::Setting {
            name: name.to_owned(),
            must,
        };
        let mut currency = Currency::read("USD").unwrap_or(Currency::NONE);
        let mut others = BTreeMap::new();
        let mut prices = BTreeMap::new();
        for (name, value) in all {
            if name == "currency" {
                let must = "must be three capital letters (ISO 4217)";
                currency = Currency::read(value).ok_or_else(|| wrong(name, must))?;
            } else if name == "rates" {
                let must = "must be rates such as `EUR=1.08 GBP=1.27`";
                others = read_rates(value).ok_or_else(|| wrong(name, must))?;
            } else if let Some(provider) = name.strip_prefix("prices/") {
                let must = "must be a currency and prices, such as `USD *=0.05 US=0.0079`";
                let table = Prices::read(value).ok_or_else(|| wrong(name, must))?;
                prices.insert(provider.to_owned(), table);
            }
        }
        Ok(Self {
            rates: Rates { currency, others },
            prices,
        })
    }
}

fn read_rates(text: &str) -> Option<BTreeMap<Currency, u64>> {
    let rates = text.split_whitespace().map(|word| {
        let (currency, rate) = word.split_once('=')?;
        Some((Currency::read(currency)?, decimal(rate, RATE_PLACES)?))
    });
    rates.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(all: &[(&str, &str)]) -> Result<Settings, Undecided> {
        let all = all.iter().map(|&(name, value)| (name.into(), value.into()));
        Settings::read(&all.collect::<Vec<_>>())
    }

    #[test]
    fn a_price_is_that_of_the_country_or_of_all_others() {
        let settings = read(&[
            ("digits", "6"),
            ("currency", "EUR"),
            ("rates", "USD=0.923456789 GBP=1.2"),
            ("prices/main", "USD *=0.05 US=0.0079"),
            ("prices/other", "GBP DE=0.07"),
        ])
        .expect("good");
        let read = |text| Currency::read(text).expect("a currency");
        assert_eq!(settings.rates.currency, read("EUR"));
        assert_eq!(settings.rates.rate(read("USD")), Some(923_456_789));
        let country = |text| Country::read(text).expect("a country");
        let main = &settings.prices["main"];
        assert_eq!(main.currency, read("USD"));
        assert_eq!(main.of(country("US")), Some(7_900));
        assert_eq!(main.of(country("DE")), Some(50_000));
        assert_eq!(main.of(Country::NONE), Some(50_000));
        let other = &settings.prices["other"];
        assert_eq!(other.of(country("US")), None);
    }

    #[test]
    fn a_value_that_is_not_well_formed_is_named() {
        for (name, value) in [
            ("currency", "usd"),
            ("rates", "EUR"),
            ("rates", "EUR=-1"),
            ("rates", "EURO=1"),
            ("prices/p", ""),
            ("prices/p", "US=1"),
            ("prices/p", "USD USA=1"),
            ("prices/p", "USD US=x"),
        ] {
            let refused = read(&[(name, value)]).expect_err(value);
            assert!(refused.to_string().contains(name), "{refused}");
        }
    }
}
