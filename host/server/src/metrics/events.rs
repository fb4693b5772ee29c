//! What is counted from the events of commits: the steps of messages, verifications, and factors.
//!
//! An event is read before its commit and counted after it. Whatever a component may write into one
//! ends here in one of a few words.

use countersign_types::{Counter, EventView, Histogram};

use super::{Labels, Page, label};

/// What a message may have come to, as the last part of an event's kind.
const STATUSES: [&str; 9] = [
    "accepted",
    "sent",
    "delivered",
    "undelivered",
    "failed",
    "expired",
    "unknown",
    "read",
    "replayed",
];
const ACCEPTED: usize = 0;
const SENT: usize = 1;

/// What is counted by country.
const STEPS: [&str; 5] = ["accepted", "delivered", "undelivered", "failed", "approved"];
const APPROVED: usize = 4;

/// What has become of a wish to send or to verify, and why. The last of each verdict with several
/// reasons is for words that are not known.
const VERDICTS: [(&str, &str); 14] = [
    ("sent", "none"),
    ("approved", "none"),
    ("forgiven", "none"),
    ("rejected", "code"),
    ("rejected", "locked"),
    ("rejected", "guessing-budget"),
    ("rejected", "other"),
    ("refused", "send-limit"),
    ("refused", "address-limit"),
    ("refused", "guessing-budget"),
    ("refused", "number-kind"),
    ("refused", "no-route"),
    ("refused", "stopped"),
    ("refused", "other"),
];

/// What happens to users and their factors.
const FACTOR_EVENTS: [&str; 20] = [
    "enrolment.sent",
    "enrolment.begun",
    "enrolment.failed",
    "enrolment.rejected",
    "enrolment.refused",
    "factor.enabled",
    "factor.changed",
    "factor.disabled",
    "login.sent",
    "login.succeeded",
    "login.failed",
    "login.rejected",
    "login.locked",
    "backup-code.used",
    "backup-codes.issued",
    "failures.repeated",
    "user.unlocked",
    "user.reset",
    "user.deleted",
    "user.moved-in",
];

/// The providers that a label may name, beside those that are configured: none was asked, or one that
/// is no longer configured.
const NO_PROVIDER: [&str; 2] = ["none", "other"];

const LETTERS: usize = 26;
/// Two letters, and no country.
const COUNTRIES: usize = LETTERS * LETTERS + 1;
const NOWHERE: usize = LETTERS * LETTERS;

/// Microseconds: how long users wait until their message is with a provider.
const WAITS: &[u64] = &[
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
];

/// Microseconds: how long a message is on its way to the receiver.
const ARRIVALS: &[u64] = &[
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    900_000_000,
    3_600_000_000,
];

/// What one event adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    Message {
        status: usize,
        provider: usize,
        country: usize,
        /// How long it could have gone until a provider had it, where that is the news.
        waited_ms: Option<u64>,
        /// How long it was on its way from there, where it has arrived.
        arrived_ms: Option<u64>,
    },
    Verification {
        verdict: usize,
        country: usize,
    },
    Factor(usize),
    Other,
}

#[derive(Debug)]
pub(super) struct EventCounts {
    all: Counter,
    providers: Vec<String>,
    /// For each status one for each provider.
    messages: [Vec<Counter>; STATUSES.len()],
    waits: Histogram,
    arrivals: Histogram,
    countries: Box<[[Counter; STEPS.len()]]>,
    verdicts: [Counter; VERDICTS.len()],
    factors: [Counter; FACTOR_EVENTS.len()],
}

impl EventCounts {
    pub(super) fn new(mut providers: Vec<String>) -> EventCounts {
        providers.extend(NO_PROVIDER.map(str::to_owned));
        let each = || providers.iter().map(|_| Counter::default()).collect();
        EventCounts {
            all: Counter::default(),
            messages: std::array::from_fn(|_| each()),
            waits: Histogram::new(WAITS),
            arrivals: Histogram::new(ARRIVALS),
            countries: (0..COUNTRIES).map(|_| Default::default()).collect(),
            verdicts: Default::default(),
            factors: Default::default(),
            providers,
        }
    }

    /// What an event is to be counted as.
    pub(super) fn read(&self, event: &[u8]) -> Tally {
        let Ok(event) = postcard::from_bytes::<EventView>(event) else {
            return Tally::Other;
        };
        let tally = match event.source {
            "host" => self.message(&event).or_else(|| verification(&event)),
            "otp" => verification(&event),
            "two-factor" => position(&FACTOR_EVENTS, event.kind).map(Tally::Factor),
            _ => None,
        };
        tally.unwrap_or(Tally::Other)
    }

    fn message(&self, event: &EventView) -> Option<Tally> {
        let status = position(&STATUSES, event.kind.strip_prefix("message.")?)?;
        let known = self.providers.len() - NO_PROVIDER.len();
        let provider = match event.attribute("provider") {
            None => known,
            Some(name) => {
                let found = self.providers[..known].iter().position(|one| one == name);
                found.unwrap_or(known + 1)
            }
        };
        let millis = |name: &str| event.attribute(name)?.parse().ok();
        Some(Tally::Message {
            status,
            provider,
            country: country(event.country),
            waited_ms: millis("queue-ms"),
            arrived_ms: millis("delivery-ms"),
        })
    }

    /// Counts what has been committed.
    pub(super) fn count(&self, tally: Tally) {
        self.all.add_one();
        match tally {
            Tally::Message {
                status,
                provider,
                country,
                waited_ms,
                arrived_ms,
            } => {
                self.messages[status][provider].add_one();
                for (ms, spans) in [(waited_ms, &self.waits), (arrived_ms, &self.arrivals)] {
                    if let Some(ms) = ms {
                        spans.record(ms.saturating_mul(1_000));
                    }
                }
                if let Some(step) = position(&STEPS, STATUSES[status]) {
                    self.countries[country][step].add_one();
                }
            }
            Tally::Verification { verdict, country } => {
                self.verdicts[verdict].add_one();
                if VERDICTS[verdict].0 == STEPS[APPROVED] {
                    self.countries[country][APPROVED].add_one();
                }
            }
            Tally::Factor(event) => self.factors[event].add_one(),
            Tally::Other => {}
        }
    }

    pub(super) fn add_to(&self, page: &mut Page) {
        page.counter(
            "countersign_events",
            "Events that were committed.",
            [(Labels::new(), self.all.value())],
        );
        let messages = STATUSES.iter().zip(&self.messages);
        page.counter(
            "countersign_messages",
            "Messages that came to a status, by the provider that has them.",
            messages.flat_map(|(status, counts)| {
                let by_provider = self.providers.iter().zip(counts).enumerate();
                // Nobody has accepted messages yet, and those that were sent have a provider.
                let known = self.providers.len() - NO_PROVIDER.len();
                let possible = by_provider.filter(move |(at, _)| match *status {
                    status if status == STATUSES[ACCEPTED] => *at == known,
                    status if status == STATUSES[SENT] => *at != known,
                    _ => true,
                });
                possible.map(move |(_, (provider, count))| {
                    let labels = vec![label("status", status), label("provider", provider)];
                    (labels, count.value())
                })
            }),
        );
        page.seconds_histogram(
            "countersign_message_wait",
            "From when a message could go until a provider had it.",
            [(Labels::new(), self.waits.spread())],
        );
        page.seconds_histogram(
            "countersign_message_arrival",
            "From there until the receiver had it, by the receipts.",
            [(Labels::new(), self.arrivals.spread())],
        );
        page.counter(
            "countersign_country_steps",
            "Steps of messages and approved verifications, by country; a country is there from its first step on.",
            self.seen_countries().flat_map(|(country, counts)| {
                STEPS.iter().zip(counts).map(move |(step, count)| {
                    let labels = vec![label("country", &country), label("step", step)];
                    (labels, count.value())
                })
            }),
        );
        page.counter(
            "countersign_verifications",
            "Wishes to send a code or to have one checked, by verdict.",
            VERDICTS
                .iter()
                .zip(&self.verdicts)
                .map(|((verdict, reason), count)| {
                    let labels = vec![label("verdict", verdict), label("reason", reason)];
                    (labels, count.value())
                }),
        );
        page.counter(
            "countersign_two_factor_events",
            "What happened to users and their factors.",
            FACTOR_EVENTS
                .iter()
                .zip(&self.factors)
                .map(|(event, count)| (vec![label("event", event)], count.value())),
        );
    }

    fn seen_countries(&self) -> impl Iterator<Item = (String, &[Counter; STEPS.len()])> {
        let all = self.countries.iter().enumerate();
        let seen = all.filter(|(_, counts)| counts.iter().any(|count| count.value() > 0));
        seen.map(|(country, counts)| (country_code(country), counts))
    }
}

fn position(words: &[&str], word: &str) -> Option<usize> {
    words.iter().position(|one| *one == word)
}

fn verification(event: &EventView) -> Option<Tally> {
    let is = event.kind.strip_prefix("verification.")?;
    let reason = event.attribute("reason").unwrap_or("none");
    let same = |&(verdict, why): &(&str, &str)| verdict == is && why == reason;
    let other = |&(verdict, why): &(&str, &str)| verdict == is && why == "other";
    let found = VERDICTS.iter().position(same);
    Some(Tally::Verification {
        verdict: found.or_else(|| VERDICTS.iter().position(other))?,
        country: country(event.country),
    })
}

/// The place of a country: two capital letters, else that of no country. So there is an end to them,
/// whatever a component calls a country.
fn country(code: Option<&str>) -> usize {
    match code.map(str::as_bytes) {
        Some(&[first @ b'A'..=b'Z', second @ b'A'..=b'Z']) => {
            usize::from(first - b'A') * LETTERS + usize::from(second - b'A')
        }
        _ => NOWHERE,
    }
}

fn country_code(place: usize) -> String {
    if place == NOWHERE {
        return "none".to_owned();
    }
    let letter = |number: usize| char::from(b'A' + u8::try_from(number).unwrap_or(0));
    [place / LETTERS, place % LETTERS]
        .map(letter)
        .iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use countersign_types::{Event, MessageId, SystemEntropy, UnixMillis};

    use super::*;

    fn event(source: &str, kind: &str, country: Option<&str>, facts: &[(&str, &str)]) -> Vec<u8> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let event = Event {
            kind: kind.to_owned(),
            at: UnixMillis(1_000_700),
            service: "default".to_owned(),
            source: source.to_owned(),
            message: Some(MessageId::new(UnixMillis(1_000_000), &SystemEntropy)),
            country: country.map(str::to_owned),
            attributes: facts.iter().map(owned).collect(),
        };
        postcard::to_allocvec(&event).expect("plain data")
    }

    fn lines(counts: &EventCounts) -> Vec<String> {
        let mut page = Page::default();
        counts.add_to(&mut page);
        let text = page.text().expect("written");
        let counted = text.lines().filter(|line| {
            !line.starts_with('#') && !line.ends_with(" 0") && !line.ends_with(" 0.0")
        });
        counted
            .filter(|line| !line.contains("_bucket"))
            .map(str::to_owned)
            .collect()
    }

    #[track_caller]
    fn check(event: Vec<u8>, want: &[&str]) {
        let counts = EventCounts::new(vec!["one".to_owned()]);
        counts.count(counts.read(&event));
        let want: Vec<_> = ["countersign_events_total 1"].iter().chain(want).collect();
        assert_eq!(lines(&counts).iter().collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_step_of_a_message_counts_by_status_provider_and_country() {
        check(
            event(
                "host",
                "message.sent",
                Some("US"),
                &[("provider", "one"), ("queue-ms", "700")],
            ),
            &[
                r#"countersign_messages_total{status="sent",provider="one"} 1"#,
                "countersign_message_wait_seconds_sum 0.7",
                "countersign_message_wait_seconds_count 1",
            ],
        );
        check(
            event(
                "host",
                "message.delivered",
                Some("ZZ"),
                &[("provider", "gone"), ("delivery-ms", "2500")],
            ),
            &[
                r#"countersign_messages_total{status="delivered",provider="other"} 1"#,
                "countersign_message_arrival_seconds_sum 2.5",
                "countersign_message_arrival_seconds_count 1",
                r#"countersign_country_steps_total{country="ZZ",step="delivered"} 1"#,
            ],
        );
        check(
            event("host", "message.accepted", None, &[]),
            &[
                r#"countersign_messages_total{status="accepted",provider="none"} 1"#,
                r#"countersign_country_steps_total{country="none",step="accepted"} 1"#,
            ],
        );
    }

    #[test]
    fn a_verification_counts_by_verdict_and_reason() {
        check(
            event(
                "otp",
                "verification.approved",
                Some("DE"),
                &[("purpose", "x")],
            ),
            &[
                r#"countersign_country_steps_total{country="DE",step="approved"} 1"#,
                r#"countersign_verifications_total{verdict="approved",reason="none"} 1"#,
            ],
        );
        check(
            event(
                "otp",
                "verification.rejected",
                None,
                &[("reason", "locked")],
            ),
            &[r#"countersign_verifications_total{verdict="rejected",reason="locked"} 1"#],
        );
    }

    #[test]
    fn no_word_of_a_component_becomes_a_label() {
        check(
            event(
                "otp",
                "verification.refused",
                None,
                &[("reason", "+12025550123")],
            ),
            &[r#"countersign_verifications_total{verdict="refused",reason="other"} 1"#],
        );
        for strange in ["us", "USA", "1", "ÄÖ", "A\""] {
            check(
                event("host", "message.accepted", Some(strange), &[]),
                &[
                    r#"countersign_messages_total{status="accepted",provider="none"} 1"#,
                    r#"countersign_country_steps_total{country="none",step="accepted"} 1"#,
                ],
            );
        }
        // A component may call its own events whatever it likes.
        check(event("otp", "message.delivered", Some("US"), &[]), &[]);
        check(event("two-factor", "verification.approved", None, &[]), &[]);
        check(event("otp", "verification.made-up", None, &[]), &[]);
        check(b"no event at all".to_vec(), &[]);
    }

    #[test]
    fn every_country_has_a_place_of_its_own() {
        for code in ["AA", "US", "ZZ"] {
            assert_eq!(country_code(country(Some(code))), code);
        }
        assert_eq!(country_code(country(None)), "none");
    }
}
