//! The `otp` service of countersign, a WebAssembly component: sends one-time codes and checks them.
//!
//! [`rules`] decides, over the trait [`host::Host`]; the glue below lends it the component's
//! imports. There is never a code in here before the user has typed it: the host makes it when the
//! message leaves, and compares it.

pub mod bound;
pub mod host;
pub mod rules;
pub mod settings;
pub mod windows;

#[cfg(test)]
mod model;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Why a call could not be decided. The host writes nothing, tells the operator and answers 500.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The operator has to change a setting.
    #[error("setting `{name}` {must}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// What it must be.
        must: String,
    },
    /// The phone's row is not one that this version writes or reads.
    #[error("the row of this phone is damaged")]
    Row,
    /// The caller must not ask for this.
    #[error("{0}")]
    Call(&'static str),
}

#[cfg(target_family = "wasm")]
#[expect(
    unsafe_code,
    reason = "the exports that wit-bindgen generates are raw symbols"
)]
mod component {
    //! The component's exports, and its imports as a [`Host`].

    mod bindings {
        #![allow(missing_docs, reason = "generated from the WIT, which is documented")]
        wit_bindgen::generate!({
            path: ["../../wit/service"],
            world: "countersign:service/otp-service",
        });
    }

    use std::time::{SystemTime, UNIX_EPOCH};

    use bindings::countersign::service::types::{Caller, Context, Manifest};
    use bindings::countersign::service::{
        codes, events, otp_types, phone, queue, settings, storage,
    };
    use bindings::exports::countersign::service::otp;

    use crate::host::{self, Host, Instant};
    use crate::{rules, windows};

    /// The name of the text with a code.
    const TEMPLATE: &str = "verification";

    struct Component;

    impl bindings::Guest for Component {
        fn describe() -> Manifest {
            Manifest {
                name: "otp".into(),
                version: env!("CARGO_PKG_VERSION").into(),
                state_writes: windows::STATE.into(),
                state_reads: windows::STATES.iter().copied().map(Into::into).collect(),
                read_only: Vec::new(),
            }
        }
    }

    impl otp::Guest for Component {
        fn send(
            context: Context,
            request: otp_types::SendRequest,
        ) -> Result<otp_types::SendVerdict, String> {
            let request = rules::SendRequest {
                phone: request.phone,
                purpose: request.purpose,
                locale: request.locale,
                user: request.user,
            };
            match rules::send(&mut Imports, &context.into(), &request) {
                Ok(verdict) => Ok(verdict.into()),
                Err(undecided) => Err(undecided.to_string()),
            }
        }

        fn verify(
            context: Context,
            request: otp_types::VerifyRequest,
        ) -> Result<otp_types::VerifyVerdict, String> {
            let request = rules::VerifyRequest {
                phone: request.phone,
                code: request.code,
                purpose: request.purpose,
                user: request.user,
            };
            match rules::verify(&mut Imports, &context.into(), &request) {
                Ok(verdict) => Ok(verdict.into()),
                Err(undecided) => Err(undecided.to_string()),
            }
        }

        fn forgive(context: Context, request: otp_types::ForgiveRequest) -> Result<(), String> {
            let request = rules::ForgiveRequest {
                phone: request.phone,
                purpose: request.purpose,
                user: request.user,
            };
            rules::forgive(&mut Imports, &context.into(), &request)
                .map_err(|undecided| undecided.to_string())
        }
    }

    bindings::export!(Component with_types_in bindings);

    struct Imports;

    impl Host for Imports {
        #[expect(
            clippy::disallowed_methods,
            reason = "the door to the host's clock, which WASI hands in"
        )]
        fn now(&self) -> Instant {
            // Never before 1970, and in range for 500 million years.
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as u64)
        }

        fn settings(&self) -> Vec<(String, String)> {
            settings::all()
        }

        fn text(&self, purpose: &str, locale: Option<&str>) -> Option<String> {
            settings::text(TEMPLATE, purpose, locale)
        }

        fn parse(&mut self, text: &str) -> Result<host::Number, host::PhoneError> {
            match phone::parse(text, None) {
                Ok(number) => Ok(number.into()),
                Err(error) => Err(error.into()),
            }
        }

        fn get(&mut self, key: &str) -> Option<Vec<u8>> {
            storage::get(key)
        }

        fn put(&mut self, key: &str, value: &[u8], expires: Instant) {
            storage::put(key, value, Some(expires));
        }

        fn take(&mut self, key: &str, max: u64, window: host::Duration) -> Result<(), Instant> {
            storage::take(key, 1, max, window)
        }

        fn status(&mut self, key: &str) -> Option<host::Status> {
            let status = codes::status(key)?;
            Some(host::Status {
                live: status.state == codes::State::Live,
                expires: status.expires,
            })
        }

        fn open(&mut self, key: &str, challenge: host::Challenge) {
            codes::open(
                key,
                &codes::Challenge {
                    purpose: challenge.purpose,
                    subject: challenge.subject,
                    digits: challenge.digits,
                    valid: challenge.valid,
                    tries: challenge.tries,
                    replaces: challenge.replaces,
                },
            );
        }

        fn check(&mut self, key: &str, code: &str) -> host::Verdict {
            match codes::check(key, code) {
                codes::Verdict::Accepted(_) => host::Verdict::Accepted,
                codes::Verdict::Wrong(_) => host::Verdict::Wrong,
                codes::Verdict::Locked(until) => host::Verdict::Locked(until),
                codes::Verdict::Absent => host::Verdict::Absent,
            }
        }

        fn enqueue(&mut self, job: host::Job) -> Result<String, host::Stopped> {
            let added = queue::enqueue(&queue::Job {
                channel: "sms".into(),
                to: job.to,
                template: TEMPLATE.into(),
                text: job.text,
                variables: Vec::new(),
                locale: job.locale,
                purpose: job.purpose,
                challenge: Some(job.challenge),
                not_before: None,
                deadline: job.deadline,
                priority: queue::Priority::Urgent,
            });
            added.map_err(|queue::NotAdded::Stopped| host::Stopped)
        }

        fn emit(&mut self, event: host::Event) {
            events::emit(&events::Event {
                kind: event.kind.into(),
                message: event.message,
                country: event.country,
                attributes: event
                    .attributes
                    .into_iter()
                    .map(|(name, value)| (name.into(), value))
                    .collect(),
            });
        }
    }

    impl From<Context> for rules::Context {
        fn from(context: Context) -> Self {
            Self {
                service: context.service,
                nested: matches!(context.caller, Caller::Component(_)),
                client_index: context.client_index,
            }
        }
    }

    impl From<phone::Number> for host::Number {
        fn from(number: phone::Number) -> Self {
            Self {
                e164: number.e164,
                country: number.country,
                kind: number.kind.into(),
                index: number.index,
            }
        }
    }

    impl From<phone::Kind> for host::Kind {
        fn from(kind: phone::Kind) -> Self {
            match kind {
                phone::Kind::Mobile => Self::Mobile,
                phone::Kind::FixedLine => Self::FixedLine,
                phone::Kind::FixedLineOrMobile => Self::FixedLineOrMobile,
                phone::Kind::TollFree => Self::TollFree,
                phone::Kind::PremiumRate => Self::PremiumRate,
                phone::Kind::SharedCost => Self::SharedCost,
                phone::Kind::Personal => Self::Personal,
                phone::Kind::Voip => Self::Voip,
                phone::Kind::Pager => Self::Pager,
                phone::Kind::Uan => Self::Uan,
                phone::Kind::Voicemail => Self::Voicemail,
                phone::Kind::Unknown => Self::Unknown,
            }
        }
    }

    impl From<phone::PhoneError> for host::PhoneError {
        fn from(error: phone::PhoneError) -> Self {
            match error {
                phone::PhoneError::NotANumber => Self::NotANumber,
                phone::PhoneError::NoCountry => Self::NoCountry,
                phone::PhoneError::TooShort => Self::TooShort,
                phone::PhoneError::TooLong => Self::TooLong,
                phone::PhoneError::Invalid => Self::Invalid,
                phone::PhoneError::Extension => Self::Extension,
            }
        }
    }

    impl From<rules::SendVerdict> for otp_types::SendVerdict {
        fn from(verdict: rules::SendVerdict) -> Self {
            match verdict {
                rules::SendVerdict::Sent { message, expires } => Self::Sent(otp_types::Sent {
                    message_id: message,
                    expires,
                }),
                rules::SendVerdict::Refused(refusal) => Self::Refused(refusal.into()),
            }
        }
    }

    impl From<rules::VerifyVerdict> for otp_types::VerifyVerdict {
        fn from(verdict: rules::VerifyVerdict) -> Self {
            match verdict {
                rules::VerifyVerdict::Accepted { phone, country } => {
                    Self::Accepted(otp_types::Accepted { phone, country })
                }
                rules::VerifyVerdict::Rejected(refusal) => Self::Rejected(refusal.into()),
                rules::VerifyVerdict::Refused(refusal) => Self::Refused(refusal.into()),
            }
        }
    }

    impl From<rules::Refusal> for otp_types::Refusal {
        fn from(refusal: rules::Refusal) -> Self {
            Self {
                text: refusal.text,
                field: refusal.field.map(Into::into),
                retry_at: refusal.retry_at,
            }
        }
    }
}
