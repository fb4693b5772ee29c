//! What a provider may import, offered by the host's functions.

use wasmtime::component::{HasSelf, Linker};

use super::super::{Call, words};
use super::wit::{http, log, settings, signatures, terminal, types};

/// Offers what a provider may import.
pub(in super::super) fn link(linker: &mut Linker<Call>, terminal: bool) -> wasmtime::Result<()> {
    http::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    signatures::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    settings::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    log::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    types::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    if terminal {
        terminal::add_to_linker::<_, HasSelf<Call>>(linker, |call| call)?;
    }
    Ok(())
}

impl types::Host for Call {}

impl http::Host for Call {
    async fn send(
        &mut self,
        request: http::Request,
    ) -> wasmtime::Result<Result<http::Response, http::Failure>> {
        Ok(match self.request(request.into()).await? {
            Ok(response) => Ok(http::Response {
                status: response.status,
                headers: response.headers,
                body: response.body,
                attributes: Vec::new(),
            }),
            Err(failure) => Err(http::Failure {
                text: failure.text,
                maybe_sent: failure.maybe_sent,
                attributes: Vec::new(),
            }),
        })
    }
}

impl signatures::Host for Call {
    fn verify_hmac(
        &mut self,
        algorithm: signatures::Hash,
        key: signatures::Key,
        data: Vec<u8>,
        given: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        self.holds_hmac(algorithm.into(), &key.into(), &data, &given)
    }

    fn verify_digest(
        &mut self,
        algorithm: signatures::Hash,
        key: signatures::Key,
        data: Vec<u8>,
        given: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        self.holds_digest(algorithm.into(), &key.into(), &data, &given)
    }

    fn verify_secret(&mut self, key: signatures::Key, given: Vec<u8>) -> wasmtime::Result<bool> {
        self.holds_secret(&key.into(), &given)
    }

    fn verify_ed25519(
        &mut self,
        key: signatures::Key,
        data: Vec<u8>,
        given: Vec<u8>,
    ) -> wasmtime::Result<bool> {
        self.holds_ed25519(&key.into(), &data, &given)
    }
}

impl settings::Host for Call {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.setting(&name))
    }
}

impl log::Host for Call {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            log::Level::Error => words::Level::Error,
            log::Level::Warn => words::Level::Warn,
            log::Level::Info => words::Level::Info,
            log::Level::Debug => words::Level::Debug,
        };
        self.say(level, &message);
        Ok(())
    }
}

impl terminal::Host for Call {
    fn print(&mut self, text: String) -> wasmtime::Result<()> {
        self.write_out(&text)
    }
}

impl From<http::Request> for words::Request {
    fn from(request: http::Request) -> words::Request {
        words::Request {
            method: match request.method {
                http::Method::Get => words::Method::Get,
                http::Method::Post => words::Method::Post,
                http::Method::Put => words::Method::Put,
                http::Method::Patch => words::Method::Patch,
                http::Method::Delete => words::Method::Delete,
            },
            url: request.url,
            headers: request.headers,
            body: match request.body {
                http::Body::Empty => words::Body::Empty,
                http::Body::Bytes(bytes) => words::Body::Bytes(bytes),
                http::Body::Form(fields) => words::Body::Form(fields),
            },
            authorization: request.authorization.into(),
            timeout_ms: request.timeout,
        }
    }
}

impl From<http::Authorization> for words::Authorization {
    fn from(authorization: http::Authorization) -> words::Authorization {
        use words::Authorization as Word;

        match authorization {
            http::Authorization::None => Word::None,
            http::Authorization::Basic(basic) => {
                Word::Basic(basic.username.into(), basic.password.into())
            }
            http::Authorization::Bearer(name) => Word::Bearer(name),
            http::Authorization::Header(header) => Word::Header(words::Header {
                name: header.name,
                prefix: header.prefix,
                credential: header.credential,
            }),
            http::Authorization::Signed(signed) => Word::Signed(words::Signed {
                name: signed.name,
                prefix: signed.prefix,
                algorithm: signed.algorithm.into(),
                key: signed.key.into(),
                before: signed.before,
                with_body: signed.with_body,
                encoding: match signed.encoding {
                    http::TextEncoding::Hex => words::TextEncoding::Hex,
                    http::TextEncoding::Base64 => words::TextEncoding::Base64,
                },
            }),
            http::Authorization::Sigv4(keys) => Word::Sigv4(words::Sigv4 {
                access_key_id: keys.access_key_id.into(),
                secret_access_key: keys.secret_access_key,
                session_token: keys.session_token,
                region: keys.region,
                service: keys.service,
            }),
            http::Authorization::ClientCredentials(asked) => {
                Word::ClientCredentials(words::ClientCredentials {
                    token_url: asked.token_url,
                    client_id: asked.client_id.into(),
                    client_secret: asked.client_secret,
                    scope: asked.scope,
                    parameters: asked.parameters,
                })
            }
            http::Authorization::Fields(fields) => Word::Fields(
                fields
                    .into_iter()
                    .map(|field| words::Field {
                        name: field.name,
                        credential: field.credential,
                    })
                    .collect(),
            ),
        }
    }
}

impl From<http::Text> for words::Text {
    fn from(text: http::Text) -> words::Text {
        match text {
            http::Text::Plain(text) => words::Text::Plain(text),
            http::Text::Credential(name) => words::Text::Credential(name),
        }
    }
}

impl From<signatures::Hash> for words::Hash {
    fn from(hash: signatures::Hash) -> words::Hash {
        match hash {
            signatures::Hash::Md5 => words::Hash::Md5,
            signatures::Hash::Sha1 => words::Hash::Sha1,
            signatures::Hash::Sha256 => words::Hash::Sha256,
            signatures::Hash::Sha384 => words::Hash::Sha384,
            signatures::Hash::Sha512 => words::Hash::Sha512,
        }
    }
}

impl From<signatures::Key> for words::Key {
    fn from(key: signatures::Key) -> words::Key {
        words::Key {
            credential: key.credential,
            encoding: match key.encoding {
                signatures::KeyEncoding::Text => words::KeyEncoding::Text,
                signatures::KeyEncoding::Hex => words::KeyEncoding::Hex,
                signatures::KeyEncoding::Base64 => words::KeyEncoding::Base64,
            },
        }
    }
}
