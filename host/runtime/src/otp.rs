//! The otp service as the server calls it.

use countersign_store::{Commit, CommitError, Need};
use countersign_types::{Event, PhoneNumber, Priority, UnixMillis};

use crate::Runtime;
use crate::bindings::service::countersign::service::otp_types as wit;
use crate::call::{CallContext, CallError, Host, busy, cut, store_full};
use crate::once::Once;
use crate::phone::{self, Parsed};
use crate::runtime::Subject;

/// What is said of a number that no provider takes messages to.
pub const NO_ROUTE: &str = "No message can be sent to this number";

/// What is said of a number that has answered STOP, here and by the component `otp`.
pub const STOPPED: &str =
    "This number has answered STOP and gets no messages until it answers START";

/// Asks for a code to be sent.
#[derive(Clone, Debug, Default)]
pub struct SendRequest {
    /// As the user typed it.
    pub phone: String,
    /// `None`: the first configured one.
    pub purpose: Option<String>,
    /// BCP 47.
    pub locale: Option<String>,
}

/// Asks whether a code is right.
#[derive(Clone, Debug, Default)]
pub struct VerifyRequest {
    /// As the user typed it.
    pub phone: String,
    /// As the user typed it.
    pub code: String,
    /// `None`: the first configured one.
    pub purpose: Option<String>,
}

/// The component's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the user, in English.
    pub text: String,
    /// The request's field that is to blame.
    pub field: Option<String>,
    /// When a repeat can succeed, where waiting helps.
    pub retry_at: Option<UnixMillis>,
}

/// What became of a send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendVerdict {
    /// The message is in the queue, durably.
    Sent {
        /// Its name.
        message_id: String,
        /// When its code ends.
        expires: UnixMillis,
    },
    /// No message was made.
    Refused(Refusal),
}

/// What became of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyVerdict {
    /// The code was right, and is used up.
    Accepted {
        /// E.164.
        phone: String,
        /// ISO 3166-1 alpha-2.
        country: String,
    },
    /// The code was not accepted.
    Rejected(Refusal),
    /// The request itself is wrong.
    Refused(Refusal),
}

pub(crate) fn refusal(refusal: &wit::Refusal) -> Refusal {
    let field = refusal.field.as_deref();
    Refusal {
        text: cut(&refusal.text, 256).to_owned(),
        field: field.map(|field| cut(field, 64).to_owned()),
        retry_at: refusal.retry_at.map(UnixMillis),
    }
}

fn sent(verdict: &wit::SendVerdict) -> SendVerdict {
    match verdict {
        wit::SendVerdict::Sent(sent) => SendVerdict::Sent {
            message_id: sent.message_id.clone(),
            expires: UnixMillis(sent.expires),
        },
        wit::SendVerdict::Refused(refused) => SendVerdict::Refused(refusal(refused)),
    }
}

fn verified(verdict: &wit::VerifyVerdict) -> VerifyVerdict {
    match verdict {
        wit::VerifyVerdict::Accepted(accepted) => VerifyVerdict::Accepted {
            phone: accepted.phone.clone(),
            country: accepted.country.clone(),
        },
        wit::VerifyVerdict::Rejected(rejected) => VerifyVerdict::Rejected(refusal(rejected)),
        wit::VerifyVerdict::Refused(refused) => VerifyVerdict::Refused(refusal(refused)),
    }
}

/// Whom a call is about: the number, however it is spelled.
fn subject(host: &Host, text: &str) -> Subject {
    let mut phones = Parsed::default();
    let name = match phones.parse(text, host.default_region.as_deref()) {
        Ok(number) => phone::index(&host.keyring, &number),
        // It will be refused; it waits for nobody but its like.
        Err(_) => format!("no number: {text}"),
    };
    Subject {
        name,
        phones,
        ..Subject::default()
    }
}

impl Runtime {
    /// Sends a code; returns the instant of the verdict, too. To be awaited to its end even where the
    /// client has gone: a call that is dropped half-way may lose the count of a try.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn otp_send(
        &self,
        context: &CallContext,
        request: SendRequest,
        once: Option<Once<'_, SendVerdict>>,
    ) -> Result<(SendVerdict, UnixMillis), CallError> {
        let mut subject = subject(self.host(), &request.phone);
        let region = self.host().default_region.as_deref();
        if let Ok(number) = subject.phones.parse(&request.phone, region)
            && !self.has_route(&number, Priority::Urgent)
        {
            return self.refuse_without_route(context, &number).await;
        }
        let request = wit::SendRequest {
            phone: request.phone,
            purpose: request.purpose,
            locale: request.locale,
            user: None,
        };
        let versions = self.versions(&subject);
        let (verdict, instant) = self
            .call_about(
                &versions,
                &versions.otp,
                subject,
                context,
                "send",
                once.map(|once| once.of(sent)),
                |exports, store, context| {
                    let request = request.clone();
                    Box::pin(async move {
                        let guest = exports.countersign_service_otp();
                        guest.call_send(store, &context, &request).await
                    })
                },
            )
            .await?;
        Ok((sent(&verdict), instant))
    }

    /// Tells that no code was made for `number`, in an event as the component's refusals are. Returns when
    /// that is durable. The request's key stays free: with another route it may be carried out.
    async fn refuse_without_route(
        &self,
        context: &CallContext,
        number: &PhoneNumber,
    ) -> Result<(SendVerdict, UnixMillis), CallError> {
        let host = self.host();
        let instant = host.instants.now();
        let event = Event {
            kind: "verification.refused".to_owned(),
            at: instant,
            service: context.service.clone(),
            source: "host".to_owned(),
            message: None,
            // Numbers of no country have none.
            country: (number.country.len() == 2).then(|| number.country.clone()),
            attributes: vec![("reason".to_owned(), "no-route".to_owned())],
        };
        let commit = Commit {
            instant,
            need: Need::Call,
            // Serialising plain data into a `Vec` cannot fail.
            events: vec![postcard::to_allocvec(&event).unwrap_or_default()],
            ..Commit::default()
        };
        match host.store.commit(commit).await {
            Ok(_) => {}
            Err(CommitError::Full) => return Err(store_full()),
            Err(CommitError::Store(error)) => return Err(error.into()),
            // It has read nothing that could have changed.
            Err(_) => return Err(busy()),
        }
        let refusal = Refusal {
            text: NO_ROUTE.to_owned(),
            field: Some("phoneNumber".to_owned()),
            retry_at: None,
        };
        Ok((SendVerdict::Refused(refusal), instant))
    }

    /// Checks a code; returns the instant of the verdict, too. To be awaited to its end even where the client has gone.
    ///
    /// # Errors
    ///
    /// See [`CallError`].
    pub async fn otp_verify(
        &self,
        context: &CallContext,
        request: VerifyRequest,
        once: Option<Once<'_, VerifyVerdict>>,
    ) -> Result<(VerifyVerdict, UnixMillis), CallError> {
        let subject = subject(self.host(), &request.phone);
        let request = wit::VerifyRequest {
            phone: request.phone,
            code: request.code,
            purpose: request.purpose,
            user: None,
        };
        let versions = self.versions(&subject);
        let (verdict, instant) = self
            .call_about(
                &versions,
                &versions.otp,
                subject,
                context,
                "verify",
                once.map(|once| once.of(verified)),
                |exports, store, context| {
                    let request = request.clone();
                    Box::pin(async move {
                        let guest = exports.countersign_service_otp();
                        guest.call_verify(store, &context, &request).await
                    })
                },
            )
            .await?;
        Ok((verified(&verdict), instant))
    }
}
