//! What a request is authorized by: credentials that the provider names and the host puts in.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Grants;
use super::http::{HEADER_BYTES_MAX, header_name, not_sent};
use super::signatures;
use super::sigv4;
use super::words::{Authorization, Failure, Field, Header, Signed, Text, TextEncoding};

const CREDENTIAL_NAME_BYTES_MAX: usize = 64;
const CREDENTIAL_PREFIX_BYTES_MAX: usize = 64;
const SIGNED_BEFORE_BYTES_MAX: usize = 4_096;
const FIELDS_MAX: usize = 8;

/// What the name of a header has as one of its words, between hyphens, where it is there to carry a
/// credential: `api-key`, `apikey`, `access-token`, `ocp-apim-subscription-key`.
const CREDENTIAL_WORDS: [&str; 8] = [
    "authorization",
    "auth",
    "key",
    "apikey",
    "accesskey",
    "token",
    "secret",
    "signature",
];

/// What a field of a form is called that is there to carry a credential, without hyphens and underscores.
/// None of them is one whose value a company would pass on to somebody, or keep for its customers to read: a
/// text, a sender, an address, a name. Who a caller is is a setting.
const CREDENTIAL_FIELDS: [&str; 20] = [
    "pass",
    "password",
    "passwd",
    "pwd",
    "psw",
    "key",
    "apikey",
    "userkey",
    "passkey",
    "authkey",
    "accesskey",
    "secret",
    "apisecret",
    "secretkey",
    "clientsecret",
    "auth",
    "token",
    "apitoken",
    "authtoken",
    "accesstoken",
];

/// Names that have such a word and are something else: for the machines on the way, or repeated by
/// servers as a matter of course.
const NO_CREDENTIAL: [&str; 9] = [
    "idempotency-key",
    "sec-",
    "proxy-",
    "x-forwarded",
    "x-real-ip",
    "x-original",
    "x-http-method",
    "x-request-id",
    "x-correlation-id",
];

/// A request as it is going to be sent, but for what authorizes it.
pub(super) struct Unsigned<'a> {
    pub(super) method: &'a str,
    pub(super) url: &'a Url,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// Milliseconds since 1970.
    pub(super) at: u64,
    /// What was given out for client credentials.
    pub(super) token: Option<&'a str>,
}

/// The headers that authorize `request`, marked so that nobody prints them.
pub(super) fn headers(
    grants: &Grants,
    authorization: &Authorization,
    request: &Unsigned<'_>,
) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
    let one = |name: HeaderName, value: String| sensitive(&value).map(|value| vec![(name, value)]);
    match authorization {
        // Those of a form are in its body by now.
        Authorization::None | Authorization::Fields(_) => Ok(Vec::new()),
        Authorization::Basic(username, password) => {
            let username = text(grants, username)?;
            Ok(vec![basic(&username, &text(grants, password)?)?])
        }
        Authorization::Bearer(name) => {
            let token = credential(grants, name)?;
            one(AUTHORIZATION, format!("Bearer {token}"))
        }
        Authorization::Header(Header {
            name,
            prefix,
            credential: secret,
        }) => {
            check_prefix(prefix)?;
            let value = format!("{prefix}{}", credential(grants, secret)?);
            one(credential_header(name)?, value)
        }
        Authorization::Signed(signed) => {
            let (name, value) = signature(grants, signed, request.body)?;
            one(name, value)
        }
        Authorization::Sigv4(asked) => {
            let keys = sigv4::Keys {
                id: text(grants, &asked.access_key_id)?,
                secret: credential(grants, &asked.secret_access_key)?,
                token: match &asked.session_token {
                    Some(name) => Some(credential(grants, name)?),
                    None => None,
                },
                region: &asked.region,
                service: &asked.service,
            };
            let headers = sigv4::headers(&keys, request).map_err(not_sent)?;
            let headers = headers.into_iter();
            headers
                .map(|(name, value)| Ok((name, sensitive(&value)?)))
                .collect()
        }
        Authorization::ClientCredentials(_) => match request.token {
            Some(token) => one(AUTHORIZATION, format!("Bearer {token}")),
            None => Err(not_sent("no token was given out")),
        },
    }
}

/// The fields of a form with the credentials that `fields` name.
pub(super) fn fields(
    grants: &Grants,
    fields: &[Field],
    form: &[(String, String)],
    headers: &HeaderMap,
) -> Result<Vec<(String, String)>, Failure> {
    // Or a component could ask in the name of another account, and leave the credential there.
    let other = headers
        .keys()
        .find(|name| carries_credential(name.as_str()));
    if let Some(name) = other {
        return Err(not_sent(format!(
            "beside credentials in fields the header `{name}` says who asks; one of the two has to go"
        )));
    }
    if fields.len() > FIELDS_MAX {
        return Err(not_sent(format!(
            "more than {FIELDS_MAX} fields with credentials"
        )));
    }
    let fields = fields.iter();
    fields
        .map(|Field { name, credential }| {
            let letters = name.chars().filter(|char| !matches!(char, '-' | '_'));
            let plain: String = letters.map(|char| char.to_ascii_lowercase()).collect();
            if !CREDENTIAL_FIELDS.contains(&&*plain) {
                return Err(not_sent(format!(
                    "no credential may stand in the field `{name}`; `password`, `api_key` and the like are \
                     for that"
                )));
            }
            if form.iter().any(|(given, _)| given == name) {
                return Err(not_sent(format!("the field `{name}` is there twice")));
            }
            let credential = self::credential(grants, credential)?;
            Ok((name.clone(), credential.to_owned()))
        })
        .collect()
}

/// HTTP Basic (RFC 7617).
pub(super) fn basic(username: &str, password: &str) -> Result<(HeaderName, HeaderValue), Failure> {
    let encoded = BASE64_STANDARD.encode(format!("{username}:{password}"));
    Ok((AUTHORIZATION, sensitive(&format!("Basic {encoded}"))?))
}

/// The credential called `name`.
pub(super) fn credential<'g>(grants: &'g Grants, name: &str) -> Result<&'g str, Failure> {
    let found = grants.credentials.get(name);
    found.ok_or_else(|| not_sent(format!("no credential `{name}` is configured")))
}

/// A part of a header that may be a credential.
pub(super) fn text(grants: &Grants, text: &Text) -> Result<String, Failure> {
    match text {
        Text::Plain(text) => Ok(text.clone()),
        Text::Credential(name) => credential(grants, name).map(str::to_owned),
    }
}

fn signature(
    grants: &Grants,
    signed: &Signed,
    body: &[u8],
) -> Result<(HeaderName, String), Failure> {
    check_prefix(&signed.prefix)?;
    if signed.before.len() > SIGNED_BEFORE_BYTES_MAX {
        return Err(not_sent("what is signed before the body is too long"));
    }
    let name = credential_header(&signed.name)?;
    let key = signatures::key(&grants.credentials, &signed.key).ok_or_else(|| {
        not_sent(format!(
            "no credential `{}` is configured that holds a key as it is said to",
            signed.key.credential
        ))
    })?;
    let code = signatures::hmac(
        signed.algorithm,
        key.expose(),
        &[
            signed.before.as_bytes(),
            if signed.with_body { body } else { &[] },
        ],
    );
    let code = match signed.encoding {
        TextEncoding::Hex => data_encoding::HEXLOWER.encode(&code),
        TextEncoding::Base64 => BASE64_STANDARD.encode(&code),
    };
    Ok((name, format!("{}{code}", signed.prefix)))
}

/// Whether a header's name says that it carries a credential.
fn carries_credential(name: &str) -> bool {
    name.split('-').any(|word| CREDENTIAL_WORDS.contains(&word))
}

fn check_prefix(prefix: &str) -> Result<(), Failure> {
    // Of a header that is not text nothing would be found in an answer that repeats it.
    if !prefix.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(not_sent(
            "what stands before a credential is ASCII that can be seen",
        ));
    }
    if prefix.len() > CREDENTIAL_PREFIX_BYTES_MAX {
        return Err(not_sent("what stands before a credential is too long"));
    }
    Ok(())
}

/// The name of a header in which the host may put a credential: `Authorization`, names that say that they
/// carry one, and names beginning with `X-`, which are a provider's own. Anywhere else a credential would
/// be read by somebody it is not for: as a cookie, as an address, by the machines on the way.
fn credential_header(name: &str) -> Result<HeaderName, Failure> {
    let parsed = header_name(name)?;
    let text = parsed.as_str();
    let meant = text.starts_with("x-") || carries_credential(text);
    let other = NO_CREDENTIAL.iter().any(|start| text.starts_with(start));
    if !meant || other || text.len() > CREDENTIAL_NAME_BYTES_MAX {
        return Err(not_sent(format!(
            "no credential may stand in the header `{parsed}`; `authorization`, `api-key` and `x-…` are \
             for that"
        )));
    }
    Ok(parsed)
}

fn sensitive(value: &str) -> Result<HeaderValue, Failure> {
    if value.len() > HEADER_BYTES_MAX {
        return Err(not_sent("the authorization is too long"));
    }
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| not_sent("a credential has characters that no header may have"))?;
    value.set_sensitive(true);
    Ok(value)
}
