//! The address by which providers reach this server.

use std::fmt;

use url::{Host, Url};

/// An address without a query and without a slash at its end, as the operator has written it: what
/// providers sign is this text and no other spelling of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicUrl(String);

impl PublicUrl {
    /// Reads the setting; else says what it must be.
    pub(super) fn parse(text: &str) -> Result<PublicUrl, &'static str> {
        let url =
            Url::parse(text).map_err(|_| "must be an address such as https://sms.example.com")?;
        let loopback = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => return Err("must name a host, such as https://sms.example.com"),
        };
        match url.scheme() {
            "https" => {}
            "http" if loopback => {}
            _ => return Err("must begin with https:// (http:// is for loopback addresses only)"),
        }
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err("must have no user, `?` or `#` in it");
        }
        Ok(PublicUrl(text.trim_end_matches('/').to_owned()))
    }

    /// Whether browsers come by `https`.
    pub(crate) fn is_secure(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Where the provider `name` sends its receipts. The name is made of letters, digits and hyphens,
    /// none of which is encoded in a path.
    pub(crate) fn webhook(&self, name: &str) -> String {
        format!("{self}/webhooks/{name}")
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, webhook: Option<&str>) {
        let url = PublicUrl::parse(text).ok();
        let webhook_of = url.map(|url| url.webhook("twilio-main"));
        assert_eq!(webhook_of.as_deref(), webhook, "{text}");
    }

    #[test]
    fn providers_are_told_the_address_as_it_was_written() {
        let plain = "https://sms.example.test/webhooks/twilio-main";
        check("https://sms.example.test", Some(plain));
        check("https://sms.example.test/", Some(plain));
        let port = "https://sms.example.test:443/a/webhooks/twilio-main";
        check("https://sms.example.test:443/a/", Some(port));
        let loopback = "http://127.0.0.1:8080/webhooks/twilio-main";
        check("http://127.0.0.1:8080", Some(loopback));
        assert!(PublicUrl::parse("http://[::1]:1").is_ok());
        assert!(PublicUrl::parse("http://localhost:1").is_ok());
    }

    #[test]
    fn what_a_provider_cannot_call_is_refused() {
        for text in [
            "sms.example.test",
            "http://sms.example.test",
            "http://10.0.0.1",
            "ftp://127.0.0.1",
            "https://user@sms.example.test",
            "https://sms.example.test/?a=1",
            "https://sms.example.test/#a",
            "mailto:a@b",
            "",
        ] {
            check(text, None);
        }
    }
}
