//! Requests and manifests, in fewer words.

use serde_json::Value;

use crate::{
    Authorization, Body, Host, Key, KeyEncoding, Manifest, Method, Request, SendError, Setting,
    misconfigured,
};

/// A GET that wants JSON.
#[must_use]
pub fn get(url: String, authorization: Authorization) -> Request {
    request(Method::Get, url, Body::Empty, authorization)
}

/// A POST of a form that wants JSON.
#[must_use]
pub fn post_form(
    url: String,
    form: Vec<(String, String)>,
    authorization: Authorization,
) -> Request {
    request(Method::Post, url, Body::Form(form), authorization)
}

/// A POST of JSON that wants JSON.
#[must_use]
pub fn post_json(url: String, body: &Value, authorization: Authorization) -> Request {
    let body = Body::Bytes(body.to_string().into_bytes());
    let mut request = request(Method::Post, url, body, authorization);
    let media_type = ("content-type".into(), "application/json".into());
    request.headers.push(media_type);
    request
}

fn request(method: Method, url: String, body: Body, authorization: Authorization) -> Request {
    Request {
        method,
        url,
        headers: vec![("accept".into(), "application/json".into())],
        body,
        authorization,
        timeout: None,
        attributes: Vec::new(),
    }
}

/// Where the API is: the setting `base-url`, else `default`; without a slash at the end.
#[must_use]
pub fn base_url(host: &impl Host, default: &str) -> String {
    let base = host.setting("base-url");
    let base = base.as_deref().unwrap_or(default);
    base.trim_end_matches('/').into()
}

/// The setting `name`.
///
/// # Errors
/// When it is not set.
pub fn wanted(host: &impl Host, name: &str) -> Result<String, SendError> {
    host.setting(name)
        .ok_or_else(|| misconfigured(&format!("setting `{name}` is missing")))
}

/// The key whose bytes are the text of the credential.
#[must_use]
pub fn sign_key(credential: &str) -> Key {
    Key {
        credential: credential.into(),
        encoding: KeyEncoding::Text,
    }
}

/// A setting or a credential of a manifest.
#[must_use]
pub fn setting(name: &str, description: &str, required: bool) -> Setting {
    Setting {
        name: name.into(),
        description: description.into(),
        required,
        attributes: Vec::new(),
    }
}

/// A manifest of this version; `fetch_status` says that the company can be asked.
#[must_use]
pub fn manifest(
    name: &str,
    settings: Vec<Setting>,
    credentials: Vec<Setting>,
    hosts: &[&str],
    fetch_status: bool,
) -> Manifest {
    let asked = fetch_status.then(|| ("fetch-status".into(), "supported".into()));
    Manifest {
        name: name.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        settings,
        credentials,
        hosts: hosts.iter().map(|host| (*host).into()).collect(),
        attributes: asked.into_iter().collect(),
    }
}
