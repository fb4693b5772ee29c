//! The address of the end user, where the application passes it on.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;

use super::problem::Refused;

const HEADER: &str = "x-countersign-client-address";

/// Canonical text of the address: IPv4 as it is, also where it came mapped into IPv6; IPv6 cut to its
/// /64 network, since a user has a whole one to pick addresses from.
///
/// # Errors
///
/// 400 where it is no address, or there are several.
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let address = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match (address, values.next()) {
        (Some(address), None) => Ok(Some(canonical(address))),
        _ => {
            let detail =
                "X-Countersign-Client-Address must be one IPv4 or IPv6 address, without a port.";
            Err(Refused::body(detail))
        }
    }
}

fn canonical(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64));
            format!("{network}/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[track_caller]
    fn check(text: &'static str, want: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_static(text));
        let found = of(&headers).ok();
        match want {
            Some(want) => assert_eq!(found, Some(Some(want.to_owned())), "{text}"),
            None => assert_eq!(found, None, "{text}"),
        }
    }

    #[test]
    fn one_user_has_one_address_however_it_is_spelt() {
        check("203.0.113.7", Some("203.0.113.7"));
        check(" 203.0.113.7 ", Some("203.0.113.7"));
        check("::ffff:203.0.113.7", Some("203.0.113.7"));
        check("::FFFF:cb00:7107", Some("203.0.113.7"));
        check("2001:db8:1:2::", Some("2001:db8:1:2::/64"));
        check(
            "2001:0DB8:1:2:aaaa:bbbb:cccc:dddd",
            Some("2001:db8:1:2::/64"),
        );
        check("2001:db8::1", Some("2001:db8::/64"));
        check("::1", Some("::/64"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "example.com",
            "203.0.113.7:80",
            "203.0.113.7, 10.0.0.1",
            "010.0.0.1",
            "[::1]",
            "fe80::1%eth0",
        ] {
            check(text, None);
        }
        let mut headers = HeaderMap::new();
        assert!(matches!(of(&headers), Ok(None)));
        headers.append(HEADER, HeaderValue::from_static("203.0.113.7"));
        headers.append(HEADER, HeaderValue::from_static("203.0.113.8"));
        assert!(of(&headers).is_err());
    }
}
