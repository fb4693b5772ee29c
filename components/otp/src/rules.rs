//! The rules of one-time passwords: who may have a code sent, and what an answer means.
//!
//! Everything here runs inside one transaction of the host: what is read and written belongs
//! together, and a refusal is a result like any other, whose count and event are kept.
//!
//! Where things are, per service and phone:
//!
//! | key | the service's section | the host's section |
//! |---|---|---|
//! | `p/{service}/{index}` | windows and guessing budget of all public purposes | challenge of the default purpose |
//! | `p/{service}/{index}/{purpose}` | nothing | challenge of another public purpose |
//! | `u/{service}/{user}/{index}/{purpose}` | windows and budget of this alone | challenge |
//! | `address/{service}/{index of the address}/{window}` | the `take` of a client address | nothing |

use crate::Undecided;
use crate::host::{Challenge, Event, Host, Instant, Job, Kind, Number, PhoneError, Verdict};
use crate::settings::{Settings, is_purpose};
use crate::windows::{Last, Window, Windows, longest_reached};

/// What is said for a wrong code and for one that nobody was sent: the two look alike.
pub const INVALID: &str = "Invalid or expired code";
/// What is said, to right and wrong codes alike, when there were too many.
pub const TOO_MANY: &str = "Too many attempts";
/// What is said of a number that has answered STOP.
pub const STOPPED: &str =
    "This number has answered STOP and gets no messages until it answers START";

const KEY_BYTES_MAX: usize = 256;
const CODE_BYTES_MAX: usize = 64;
const USER_BYTES_MAX: usize = 128;

/// What the host knows about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The namespace whose settings and limits apply.
    pub service: String,
    /// Whether another component asks: only such a call may name a user.
    pub nested: bool,
    /// A keyed hash of the end user's address where it is known.
    pub client_index: Option<String>,
}

/// A wish for a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendRequest {
    /// As the user typed it.
    pub phone: String,
    /// `None`: the service's default.
    pub purpose: Option<String>,
    /// BCP 47 tag.
    pub locale: Option<String>,
    /// The user of a login or an enrolment.
    pub user: Option<String>,
}

/// A code to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyRequest {
    /// As the user typed it.
    pub phone: String,
    /// As the user typed it.
    pub code: String,
    /// `None`: the service's default.
    pub purpose: Option<String>,
    /// The user of a login or an enrolment.
    pub user: Option<String>,
}

/// A guessing budget to be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgiveRequest {
    /// The number that codes were sent to.
    pub phone: String,
    /// What they were for.
    pub purpose: String,
    /// Whom they were for.
    pub user: String,
}

/// Why a request was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the user.
    pub text: String,
    /// The request's field that is to blame, where one is.
    pub field: Option<&'static str>,
    /// When a repeat can succeed, where waiting helps.
    pub retry_at: Option<Instant>,
}

/// What became of a wish for a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendVerdict {
    /// It is on its way.
    Sent {
        /// The message that carries it.
        message: String,
        /// When the code that was just sent ends.
        expires: Instant,
    },
    /// It is not.
    Refused(Refusal),
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyVerdict {
    /// It was right, and is used up.
    Accepted {
        /// The number in E.164.
        phone: String,
        /// ISO 3166-1 alpha-2, or `001`.
        country: String,
    },
    /// It was not accepted.
    Rejected(Refusal),
    /// The request itself is wrong.
    Refused(Refusal),
}

/// What a request is about: the settings, its number, and where its rows are. Or why there is no such
/// thing.
fn understand<H: Host>(
    host: &mut H,
    context: &Context,
    phone: &str,
    purpose: Option<&str>,
    user: Option<&str>,
) -> Result<Result<(Settings, Number, Place), Refusal>, Undecided> {
    let settings = Settings::read(&host.settings())?;
    let number = match host.parse(phone) {
        Ok(number) => number,
        Err(error) => return Ok(Err(no_such_phone(error))),
    };
    let place = Place::find(context, &settings, &number, purpose, user)?;
    Ok(match place {
        Some(place) => Ok((settings, number, place)),
        None => Err(no_such_purpose()),
    })
}

/// Sends a code to a phone: the one that is under way if it has time left, a new one otherwise.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written.
pub fn send<H: Host>(
    host: &mut H,
    context: &Context,
    request: &SendRequest,
) -> Result<SendVerdict, Undecided> {
    let (purpose, user) = (request.purpose.as_deref(), request.user.as_deref());
    let asked = understand(host, context, &request.phone, purpose, user)?;
    let (settings, number, place) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return Ok(SendVerdict::Refused(refusal)),
    };
    if !can_receive(number.kind) {
        let refusal = refusal_of("phoneNumber", "This kind of number cannot receive codes");
        return Ok(refuse(host, &place, &number, "number-kind", refusal));
    }

    let now = host.now();
    let (mut windows, set_back) = load(host, &place, now)?;
    if let Some((reason, window, room_at)) = reached(&settings, &windows, now) {
        if set_back {
            store(host, &place, &windows, now);
        }
        let refusal = wait(window, room_at);
        return Ok(refuse(host, &place, &number, reason, refusal));
    }
    // Last, so that nothing is taken from an address for a send that its phone's limits refuse.
    if let Some((window, room_at)) = take_from_address(host, context, &settings) {
        let refusal = wait(window, room_at);
        return Ok(refuse(host, &place, &number, "address-limit", refusal));
    }

    windows.sends.push(now);
    windows.prune(&settings, now);
    let (expires, reused) = choose_code(host, &place, &settings, now);
    let text = match host.text(&place.purpose, request.locale.as_deref()) {
        Some(text) => settings.with_last_lines(&text),
        None => settings.text,
    };
    let job = Job {
        to: number.e164.clone(),
        text,
        locale: request.locale.clone(),
        purpose: place.purpose.clone(),
        challenge: place.challenge.clone(),
        deadline: expires,
    };
    let Ok(message) = host.enqueue(job) else {
        // It counts as a send, so that nobody can ask without end who has answered so.
        store(host, &place, &windows, now);
        let refusal = refusal_of("phoneNumber", STOPPED);
        return Ok(refuse(host, &place, &number, "stopped", refusal));
    };
    windows.last = last(&message, &place);
    store(host, &place, &windows, now);
    host.emit(Event {
        kind: "verification.sent",
        message: Some(message.clone()),
        country: country(&number),
        attributes: vec![("purpose", place.purpose), ("reused", reused.to_string())],
    });
    Ok(SendVerdict::Sent { message, expires })
}

/// Checks a code.
///
/// # Errors
/// [`Undecided`]: nothing was decided, and nothing is written but the try, if it was counted.
pub fn verify<H: Host>(
    host: &mut H,
    context: &Context,
    request: &VerifyRequest,
) -> Result<VerifyVerdict, Undecided> {
    let (purpose, user) = (request.purpose.as_deref(), request.user.as_deref());
    let asked = understand(host, context, &request.phone, purpose, user)?;
    let (settings, number, place) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return Ok(VerifyVerdict::Refused(refusal)),
    };

    let now = host.now();
    let (mut windows, set_back) = load(host, &place, now)?;
    if let Some((_, room_at)) = longest_reached(&settings.misses, &windows.misses, now) {
        if set_back {
            store(host, &place, &windows, now);
        }
        let refusal = too_many(room_at);
        return Ok(reject(host, &place, &number, "guessing-budget", refusal));
    }
    match host.check(&place.challenge, &typed_code(&request.code)) {
        Verdict::Accepted => {
            windows.misses.clear();
            let sent = windows.last.take_if(|last| last.purpose == place.purpose);
            windows.prune(&settings, now);
            store(host, &place, &windows, now);
            host.emit(Event {
                kind: "verification.approved",
                message: sent.map(|last| format!("{:032x}", last.message)),
                country: country(&number),
                attributes: vec![("purpose", place.purpose)],
            });
            Ok(VerifyVerdict::Accepted {
                phone: number.e164,
                country: number.country,
            })
        }
        Verdict::Locked(until) => {
            let refusal = too_many(until);
            Ok(reject(host, &place, &number, "locked", refusal))
        }
        verdict @ (Verdict::Wrong | Verdict::Absent) => {
            // A miss without a challenge costs no budget, or strangers could spend it. It writes
            // the row all the same, so that its time does not tell who was sent a code.
            if verdict == Verdict::Wrong {
                windows.misses.push(now);
            }
            windows.prune(&settings, now);
            store(host, &place, &windows, now);
            let refusal = Refusal {
                text: INVALID.into(),
                field: None,
                retry_at: None,
            };
            Ok(reject(host, &place, &number, "code", refusal))
        }
    }
}

/// Gives the guessing budget of a user's phone and purpose back.
///
/// # Errors
/// [`Undecided`]: the caller must not ask for this.
pub fn forgive<H: Host>(
    host: &mut H,
    context: &Context,
    request: &ForgiveRequest,
) -> Result<(), Undecided> {
    let (purpose, user) = (request.purpose.as_str(), request.user.as_str());
    let asked = understand(host, context, &request.phone, Some(purpose), Some(user))?;
    let Ok((settings, number, place)) = asked else {
        return Err(Undecided::Call("a budget of what is no number"));
    };
    let now = host.now();
    let (mut windows, _) = load(host, &place, now)?;
    windows.misses.clear();
    windows.prune(&settings, now);
    store(host, &place, &windows, now);
    host.emit(Event {
        kind: "verification.forgiven",
        message: None,
        country: country(&number),
        attributes: vec![("purpose", place.purpose)],
    });
    Ok(())
}

/// Where a call's state is.
struct Place {
    /// The row of windows and budget.
    row: String,
    /// The row of the challenge.
    challenge: String,
    subject: String,
    purpose: String,
}

impl Place {
    /// `None`: a purpose that public requests may not name.
    fn find(
        context: &Context,
        settings: &Settings,
        number: &Number,
        purpose: Option<&str>,
        user: Option<&str>,
    ) -> Result<Option<Self>, Undecided> {
        let Context { service, .. } = context;
        let index = &number.index;
        let default = settings.default_purpose();
        let purpose = purpose.unwrap_or(default);
        // With no slash in the service and in the purpose, and an index of fixed length, two
        // different users or services never share a key, whatever a user is called.
        if service.is_empty() || service.contains('/') {
            return Err(Undecided::Call(
                "the service's name is empty or has a slash",
            ));
        }
        let place = if let Some(user) = user {
            if !context.nested {
                return Err(Undecided::Call("only another component may name a user"));
            }
            if !(1..=USER_BYTES_MAX).contains(&user.len()) || user.contains(char::is_control) {
                return Err(Undecided::Call(
                    "a user is 1 to 128 bytes without control characters",
                ));
            }
            if !is_purpose(purpose) {
                return Err(Undecided::Call(
                    "a purpose is 1 to 64 letters, digits, `-`, `_` or `.`",
                ));
            }
            let row = format!("u/{service}/{user}/{index}/{purpose}");
            Self {
                challenge: row.clone(),
                row,
                subject: format!("{user}/{index}"),
                purpose: purpose.into(),
            }
        } else {
            if !settings.purposes.iter().any(|known| known == purpose) {
                return Ok(None);
            }
            let row = format!("p/{service}/{index}");
            Self {
                challenge: if purpose == default {
                    row.clone()
                } else {
                    format!("{row}/{purpose}")
                },
                row,
                subject: index.clone(),
                purpose: purpose.into(),
            }
        };
        if place.challenge.len() > KEY_BYTES_MAX {
            return Err(Undecided::Call(
                "service, user and purpose together are too long for a key",
            ));
        }
        Ok(Some(place))
    }
}

/// The windows of a row as of `now`, and whether the clock was set back since they were written.
fn load<H: Host>(host: &mut H, place: &Place, now: Instant) -> Result<(Windows, bool), Undecided> {
    let mut windows = match host.get(&place.row) {
        Some(row) => Windows::decode(&row).ok_or(Undecided::Row)?,
        None => Windows::default(),
    };
    let set_back = windows.follow_clock_back(now);
    Ok((windows, set_back))
}

fn store<H: Host>(host: &mut H, place: &Place, windows: &Windows, now: Instant) {
    host.put(&place.row, &windows.encode(), windows.expires(now));
}

/// What is remembered of a message, so that it can be counted as one whose code was accepted.
fn last(message: &str, place: &Place) -> Option<Last> {
    Some(Last {
        message: u128::from_str_radix(message, 16).ok()?,
        purpose: place.purpose.clone(),
    })
}

/// What forbids another send to the phone, for how long: its windows, and a spent guessing budget,
/// with which the code could not be checked.
fn reached(
    settings: &Settings,
    windows: &Windows,
    now: Instant,
) -> Option<(&'static str, Window, Instant)> {
    let sends = longest_reached(&settings.sends, &windows.sends, now)
        .map(|(window, room_at)| ("send-limit", window, room_at));
    let misses = longest_reached(&settings.misses, &windows.misses, now)
        .map(|(window, room_at)| ("guessing-budget", window, room_at));
    [sends, misses]
        .into_iter()
        .flatten()
        .max_by_key(|&(_, _, room_at)| room_at)
}

/// Takes a send from every limit of the client's address, the shorter window first: what a full
/// hour refuses then costs only the minute, which is free again long before the hour is.
fn take_from_address<H: Host>(
    host: &mut H,
    context: &Context,
    settings: &Settings,
) -> Option<(Window, Instant)> {
    let index = context.client_index.as_ref()?;
    settings.address_sends.iter().find_map(|limit| {
        let window = limit.window;
        let key = format!("address/{}/{index}/{}", context.service, window.name());
        let taken = host.take(&key, u64::from(limit.max), window.length());
        Some((window, taken.err()?))
    })
}

/// Makes sure that there is a code to send. Returns when it ends, and whether it is the one that
/// went out before.
fn choose_code<H: Host>(
    host: &mut H,
    place: &Place,
    settings: &Settings,
    now: Instant,
) -> (Instant, bool) {
    let live = host.status(&place.challenge).filter(|status| status.live);
    if let Some(status) = live
        && status.expires >= now.saturating_add(settings.same_code)
    {
        // Messages overtake each other: with one code it does not matter which is read.
        return (status.expires, true);
    }
    let challenge = Challenge {
        purpose: place.purpose.clone(),
        subject: place.subject.clone(),
        digits: settings.digits,
        valid: settings.valid,
        tries: settings.tries,
        replaces: live.is_some(),
    };
    host.open(&place.challenge, challenge);
    (now.saturating_add(settings.valid), false)
}

/// What the user typed without blanks and hyphens. What no code can be stays wrong, and counts.
fn typed_code(text: &str) -> String {
    let code: String = text
        .chars()
        .filter(|&char| !char.is_whitespace() && char != '-')
        .take(CODE_BYTES_MAX + 1)
        .collect();
    if code.len() > CODE_BYTES_MAX {
        String::new()
    } else {
        code
    }
}

/// Whether codes may be sent to such numbers: not where the receiver pays or earns by the message,
/// nor where nobody can read one.
fn can_receive(kind: Kind) -> bool {
    match kind {
        Kind::PremiumRate
        | Kind::SharedCost
        | Kind::TollFree
        | Kind::Pager
        | Kind::Uan
        | Kind::Voicemail => false,
        Kind::Mobile
        | Kind::FixedLine
        | Kind::FixedLineOrMobile
        | Kind::Personal
        | Kind::Voip
        | Kind::Unknown => true,
    }
}

fn country(number: &Number) -> Option<String> {
    (number.country.len() == 2).then(|| number.country.clone())
}

fn refusal_of(field: &'static str, text: &str) -> Refusal {
    Refusal {
        text: text.into(),
        field: Some(field),
        retry_at: None,
    }
}

fn no_such_phone(error: PhoneError) -> Refusal {
    let text = match error {
        PhoneError::Extension => "Invalid phone number: it has an extension",
        PhoneError::NoCountry => "Invalid phone number: add the country code, for example +1",
        PhoneError::NotANumber
        | PhoneError::TooShort
        | PhoneError::TooLong
        | PhoneError::Invalid => "Invalid phone number",
    };
    refusal_of("phoneNumber", text)
}

fn no_such_purpose() -> Refusal {
    refusal_of("purpose", "Unknown purpose")
}

fn wait(window: Window, room_at: Instant) -> Refusal {
    Refusal {
        text: format!("{TOO_MANY}. Please wait 1 {}.", window.name()),
        field: None,
        retry_at: Some(room_at),
    }
}

fn too_many(until: Instant) -> Refusal {
    Refusal {
        text: TOO_MANY.into(),
        field: None,
        retry_at: Some(until),
    }
}

fn refuse<H: Host>(
    host: &mut H,
    place: &Place,
    number: &Number,
    reason: &'static str,
    refusal: Refusal,
) -> SendVerdict {
    emit_refusal(host, "verification.refused", place, number, reason);
    SendVerdict::Refused(refusal)
}

fn reject<H: Host>(
    host: &mut H,
    place: &Place,
    number: &Number,
    reason: &'static str,
    refusal: Refusal,
) -> VerifyVerdict {
    emit_refusal(host, "verification.rejected", place, number, reason);
    VerifyVerdict::Rejected(refusal)
}

fn emit_refusal<H: Host>(
    host: &mut H,
    kind: &'static str,
    place: &Place,
    number: &Number,
    reason: &'static str,
) {
    host.emit(Event {
        kind,
        message: None,
        country: country(number),
        attributes: vec![
            ("purpose", place.purpose.clone()),
            ("reason", reason.into()),
        ],
    });
}
