//! Currencies, rates and prices, judged at the start and handed on as the component `analytics` reads them.

use countersign_runtime::is_region;

use super::settings::{Decimal, Prices};
use super::{ConfigError, Merged, Provider};

/// What the component may be handed as one value.
const VALUE_BYTES_MAX: usize = 4_096;
/// How many values it may be handed, rates and currency among them.
const TABLES_MAX: usize = 60;

/// The settings of the component, as text.
///
/// # Errors
///
/// When a currency, a country or a number is none, or a currency has no rate.
pub(super) fn read(merged: &Merged) -> Result<Vec<(String, String)>, ConfigError> {
    let given = &merged.settings.analytics;
    currency(merged, "analytics.currency", &given.currency)?;
    let mut pairs = vec![("currency".to_owned(), given.currency.clone())];
    let mut rates = Vec::new();
    for (name, rate) in &given.rates {
        let key = format!("analytics.rates.{name}");
        currency(merged, &key, name)?;
        rates.push(format!("{name}={}", decimal(merged, &key, rate, 9)?));
    }
    if !rates.is_empty() {
        let rates = bounded(merged, "analytics.rates", rates.join(" "))?;
        pairs.push(("rates".to_owned(), rates));
    }
    if given.prices.len() > TABLES_MAX {
        let must = format!("must have at most {TABLES_MAX} tables");
        return Err(merged.wrong("analytics.prices", must, None));
    }
    for (provider, prices) in &given.prices {
        let key = format!("analytics.prices.{provider}");
        let text = bounded(merged, &key, table(merged, &key, prices)?)?;
        pairs.push((format!("prices/{provider}"), text));
    }
    Ok(pairs)
}

/// A price table that is nobody's is most likely misspelt.
///
/// # Errors
///
/// When a table is of no configured provider.
pub(super) fn check_providers(merged: &Merged, providers: &[Provider]) -> Result<(), ConfigError> {
    let is_known = |name: &str| providers.iter().any(|known| known.name == name);
    let mut tables = merged.settings.analytics.prices.keys();
    match tables.find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let must = "must be the prices of a provider that is configured";
            Err(merged.wrong(&format!("analytics.prices.{name}"), must, None))
        }
    }
}

fn table(merged: &Merged, key: &str, prices: &Prices) -> Result<String, ConfigError> {
    let given = &merged.settings.analytics;
    let of = prices.currency.as_ref().unwrap_or(&given.currency);
    let currency_key = format!("{key}.currency");
    currency(merged, &currency_key, of)?;
    if *of != given.currency && !given.rates.contains_key(of) {
        let must = format!(
            "must be `{}` or have a rate in analytics.rates",
            given.currency
        );
        return Err(merged.wrong(&currency_key, must, Some(of.clone())));
    }
    let mut words = vec![of.clone()];
    let default = prices.default.iter().map(|price| ("*", price));
    let countries = prices.countries.iter();
    for (country, price) in default.chain(countries.map(|(name, price)| (&**name, price))) {
        let key = format!("{key}.{country}");
        if country != "*" && !is_region(country) {
            let must = "must be named by a country's two capital letters (ISO 3166-1 alpha-2)";
            return Err(merged.wrong(&key, must, None));
        }
        words.push(format!("{country}={}", decimal(merged, &key, price, 6)?));
    }
    Ok(words.join(" "))
}

fn currency(merged: &Merged, key: &str, text: &str) -> Result<(), ConfigError> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    let must = "must be a currency's three capital letters (ISO 4217), such as USD";
    Err(merged.wrong(key, must, Some(text.to_owned())))
}

/// A number with at most `places` decimals, below a million.
fn decimal(
    merged: &Merged,
    key: &str,
    given: &Decimal,
    places: usize,
) -> Result<String, ConfigError> {
    let text = given.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, "0"));
    let digits = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if digits(whole, 6) && digits(fraction, places) {
        return Ok(text);
    }
    let must = format!("must be a number below a million with at most {places} decimals");
    Err(merged.wrong(key, must, Some(text)))
}

fn bounded(merged: &Merged, key: &str, text: String) -> Result<String, ConfigError> {
    if text.len() <= VALUE_BYTES_MAX {
        return Ok(text);
    }
    let must = format!(
        "must have fewer entries: they take {} bytes of {VALUE_BYTES_MAX}",
        text.len()
    );
    Err(merged.wrong(key, must, None))
}
