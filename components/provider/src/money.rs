//! Prices, which companies write in many ways.

use serde_json::Value;

use crate::Price;

const AMOUNT_BYTES_MAX: usize = 32;

/// A price, of text or a number. A charge that is written as a negative number is a price; what is no
/// decimal number, or has no currency of three letters, is none.
#[must_use]
pub fn price(amount: Option<&Value>, currency: Option<&str>) -> Option<Price> {
    let amount = match amount? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    let amount = amount.strip_prefix('-').unwrap_or(&amount);
    let currency = currency?.to_ascii_uppercase();
    let is_currency = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
    (is_decimal(amount) && is_currency).then(|| Price {
        amount: amount.into(),
        currency,
    })
}

/// Whether `text` is a decimal number without a sign: `0.0079`.
fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= AMOUNT_BYTES_MAX && digits(whole) && digits(fraction)
}

/// The digits behind the point that sums are made of; companies write at most eight.
const PLACES: usize = 12;

/// The sum of `prices`, exact; none, where there are none, their currencies differ, or one has more than
/// twelve digits behind its point.
#[must_use]
pub fn sum(prices: &[Price]) -> Option<Price> {
    let currency = prices.first()?.currency.clone();
    let mut all = 0u128;
    for price in prices.iter() {
        if price.currency != currency {
            return None;
        }
        all = all.checked_add(scaled(&price.amount)?)?;
    }
    let one = 10u128.pow(PLACES as u32);
    let fraction = format!("{:0PLACES$}", all % one);
    let fraction = fraction.trim_end_matches('0');
    let whole = all / one;
    let amount = if fraction.is_empty() {
        whole.to_string()
    } else {
        format!("{whole}.{fraction}")
    };
    Some(Price { amount, currency })
}

/// `times` times `price`.
#[must_use]
pub fn times(price: Price, times: u32) -> Option<Price> {
    // Not one by one: a company that writes a large number costs no time.
    let all = scaled(&price.amount)?.checked_mul(times.into())?;
    let one = 10u128.pow(PLACES as u32);
    let amount = format!("{}.{:0PLACES$}", all / one, all % one);
    sum(&[Price { amount, ..price }])
}

fn scaled(amount: &str) -> Option<u128> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if fraction.len() > PLACES {
        return None;
    }
    format!("{whole}{fraction:0<PLACES$}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(amount: Value, currency: Option<&str>, want: Option<(&str, &str)>) {
        let want = want.map(|(amount, currency)| Price {
            amount: amount.into(),
            currency: currency.into(),
        });
        assert_eq!(price(Some(&amount), currency), want, "{amount}");
    }

    #[test]
    fn a_charge_is_a_positive_price() {
        check("-0.00750".into(), Some("USD"), Some(("0.00750", "USD")));
        check("1".into(), Some("eur"), Some(("1", "EUR")));
        check((-0.5).into(), Some("EUR"), Some(("0.5", "EUR")));
        check(0.0079.into(), Some("EUR"), Some(("0.0079", "EUR")));
    }

    #[test]
    fn what_is_no_price_is_left_out() {
        assert_eq!(price(None, Some("USD")), None);
        check(Value::Null, Some("USD"), None);
        check("0.1".into(), None, None);
        check("0.1".into(), Some("dollars"), None);
        for amount in ["", "-", "--1", "1.", ".5", "1.2.3", "1e-3", "NaN", "+1"] {
            check(amount.into(), Some("USD"), None);
        }
        check(1e-9.into(), Some("USD"), None);
        check("1".repeat(33).into(), Some("USD"), None);
    }

    fn euro(amount: &str) -> Price {
        Price {
            amount: amount.into(),
            currency: "EUR".into(),
        }
    }

    #[test]
    fn sums_are_exact() {
        let check = |amounts: &[&str], want: Option<&str>| {
            let prices: Vec<_> = amounts.iter().map(|amount| euro(amount)).collect();
            assert_eq!(sum(&prices), want.map(euro), "{amounts:?}");
        };
        check(&["0.03330000", "0.03330000"], Some("0.0666"));
        check(&["0.1", "0.2"], Some("0.3"));
        check(&["0.5", "0.5"], Some("1"));
        check(&["0.000000000001"], Some("0.000000000001"));
        check(&["0.0000000000001"], None);
        check(&[], None);
        let dollar = Price {
            currency: "USD".into(),
            ..euro("1")
        };
        assert_eq!(sum(&[euro("1"), dollar]), None);
        assert_eq!(times(euro("0.0079"), 3), Some(euro("0.0237")));
        assert_eq!(times(euro("1"), 0), Some(euro("0")));
        assert_eq!(times(euro(&"9".repeat(30)), u32::MAX), None);
    }
}
