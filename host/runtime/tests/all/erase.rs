//! What is left of a number that was erased, looked at as only the host can: with its keys.

use std::sync::Arc;

use countersign_queue::Erased;
use countersign_runtime::{
    CallContext, CallError, Caller, MessageSearch, Revealed, SendRequest, SendVerdict,
    VerifyRequest, VerifyVerdict,
};
use countersign_store::{Body, read_events};
use countersign_types::{Event, MessageId, UnixMillis};
use futures_util::future::join_all;

use crate::bench::{Bench, NOW, context, patient};
use crate::rows::Taken;

const PHONE: &str = "+12025550123";

impl Bench {
    async fn send_code(&self) -> SendVerdict {
        let request = SendRequest {
            phone: PHONE.into(),
            ..SendRequest::default()
        };
        let sent = self.runtime.otp_send(&context(), request, None).await;
        sent.unwrap().0
    }

    async fn verify(&self, code: &str) -> VerifyVerdict {
        let request = VerifyRequest {
            phone: PHONE.into(),
            code: code.into(),
            purpose: None,
        };
        let verdict = self.runtime.otp_verify(&context(), request, None).await;
        verdict.unwrap().0
    }

    async fn erase(&self) -> Erased {
        self.try_to_erase().await.unwrap()
    }

    async fn try_to_erase(&self) -> Result<Erased, CallError> {
        let number = self.runtime.parse_phone(PHONE).unwrap();
        let erased = self.runtime.erase_phone(&context(), &number, None).await;
        erased.map(|(erased, _)| erased)
    }

    /// How many records of `kind` the trail has.
    async fn recorded(&self, kind: &str) -> usize {
        let trail = self.runtime.messages_trail(None, 200).await.unwrap();
        let entries = trail.entries.iter();
        entries.filter(|entry| entry.kind == kind).count()
    }

    /// The first bytes of the keys of all rows that hold the number when everything is opened that the
    /// host's keys open.
    async fn holding_the_number(&self) -> Vec<String> {
        let digits = &PHONE.as_bytes()[1..];
        let mut found = Vec::new();
        // Through `beside` the rows of components come opened.
        for (key, row) in self.beside.scan(b"a", b"\xff", 10_000).await.unwrap() {
            let mut plain = key.clone();
            match row.unwrap().body {
                Body::Sections(sections) => {
                    for section in [sections.service, sections.host].into_iter().flatten() {
                        match self.keyring.unseal(&key, &section.value) {
                            Ok(opened) => plain.extend_from_slice(&opened),
                            Err(_) => plain.extend(section.value),
                        }
                    }
                }
                Body::Events { events, .. } => plain.extend(events.concat()),
                _ => {}
            }
            if plain.windows(digits.len()).any(|bytes| bytes == digits) {
                found.push(String::from_utf8_lossy(&key[..2]).into_owned());
            }
        }
        found
    }

    async fn messages(&self) -> usize {
        self.found_by(&context()).await.unwrap()
    }

    async fn found_by(&self, context: &CallContext) -> Result<usize, CallError> {
        let search = MessageSearch {
            number: Some(self.runtime.parse_phone(PHONE).unwrap()),
            from: UnixMillis(0),
            to: UnixMillis(u64::MAX),
            after: None,
            limit: 50,
        };
        let found = self.runtime.find_messages(context, &search, "test");
        found.await.map(|page| page.messages.len())
    }

    async fn kinds(&self) -> Vec<String> {
        let events = read_events(&*self.store.inner, 1, 1_000, self.runtime.now()).await;
        let events = events.unwrap().into_iter();
        events
            .map(|stored| postcard::from_bytes::<Event>(&stored.event).unwrap().kind)
            .collect()
    }
}

#[tokio::test]
async fn r41_no_row_holds_an_erased_number_even_when_it_is_opened() {
    let bench = Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await;
    let taken = Arc::new(Taken::default());
    assert!(matches!(bench.send_code().await, SendVerdict::Sent { .. }));
    bench.deliver(&taken).await;
    assert!(matches!(bench.send_code().await, SendVerdict::Sent { .. }));
    bench.verify("000000").await;
    // One is over, one waits.
    assert_eq!(bench.holding_the_number().await, ["j/", "n/"]);
    assert_eq!(bench.messages().await, 2);
    let told = bench.kinds().await;

    let erased = bench.erase().await;
    assert_eq!((erased.messages, erased.waiting), (1, 1));
    assert!(erased.is_all());
    assert!(bench.holding_the_number().await.is_empty());
    assert_eq!(bench.messages().await, 0);
    // What was told, from which sums are made, is still there.
    let since = [
        "number.erasing",
        "message.expired",
        "number.erased",
        "number.searched",
    ];
    let want = [told, since.map(str::to_owned).to_vec()].concat();
    assert_eq!(bench.kinds().await, want);
}

#[tokio::test]
async fn nothing_is_erased_where_that_cannot_be_recorded() {
    let bench = Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await;
    assert!(matches!(bench.send_code().await, SendVerdict::Sent { .. }));
    bench.store.inner.set_reserve(u64::MAX);
    let full = bench.try_to_erase().await;
    assert!(matches!(full, Err(CallError::StoreFull { .. })), "{full:?}");
    assert_eq!(bench.holding_the_number().await, ["j/"]);
    bench.store.inner.set_reserve(0);
    assert_eq!(bench.erase().await.waiting, 1);
}

#[tokio::test]
async fn that_an_erasing_begins_is_recorded_before_it_does_and_its_end_on_a_full_disk_too() {
    let bench = Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await;
    let SendVerdict::Sent { message_id, .. } = bench.send_code().await else {
        panic!("refused");
    };
    let id: MessageId = message_id.parse().unwrap();
    bench.deliver(&Arc::default()).await;
    // The disk fills up when the message is looked at that is to go.
    let (store, before) = (
        bench.store.inner.clone(),
        bench.store.commits.lock().unwrap().len(),
    );
    let message = [b"m/".as_slice(), &id.0].concat();
    bench.store.after_read_of(message, move |_| {
        store.set_reserve(u64::MAX);
        Box::pin(async {})
    });
    assert_eq!(bench.erase().await.messages, 1);
    let commits = bench.store.commits.lock().unwrap()[before..].to_vec();
    let prefixes = commits.iter().map(|commit| {
        let first = commit.writes.first();
        first.map_or(String::new(), |write| {
            String::from_utf8_lossy(&write.key[..2]).into_owned()
        })
    });
    let written: Vec<_> = prefixes.filter(|prefix| !prefix.is_empty()).collect();
    assert_eq!(written, ["a/", "d/", "a/"]);
    for kind in ["number.erasing", "number.erased"] {
        assert_eq!(bench.recorded(kind).await, 1, "{kind}");
    }
}

#[tokio::test]
async fn of_many_erasings_at_once_two_go_on_and_no_operator_is_kept_out() {
    let limits = patient();
    let searches = limits.subject_waiting + 1;
    let bench = Bench::with(limits, countersign_embedded::OTP, Vec::new()).await;
    let operator = CallContext {
        caller: Caller::Operator,
        ..context()
    };
    let erasings = join_all((0..100).map(|_| bench.try_to_erase()));
    let searches = join_all((0..searches).map(|_| bench.found_by(&operator)));
    let (erasings, searches) = tokio::join!(erasings, searches);
    for found in searches {
        found.unwrap();
    }
    let (erased, refused): (Vec<_>, Vec<_>) = erasings.into_iter().partition(Result::is_ok);
    assert_eq!(erased.len(), 2);
    for refused in refused {
        assert!(
            matches!(refused, Err(CallError::Erasing { .. })),
            "{refused:?}"
        );
    }
    for kind in ["number.erasing", "number.erased"] {
        assert_eq!(bench.recorded(kind).await, 2, "{kind}");
    }
    bench.erase().await;
}

#[tokio::test]
async fn erasing_gives_back_no_send_no_try_and_no_code() {
    let bench = Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await;
    let taken = Arc::new(Taken::default());
    for _ in 0..3 {
        assert!(matches!(bench.send_code().await, SendVerdict::Sent { .. }));
        bench.deliver(&taken).await;
    }
    let text = taken.0.lock().unwrap()[0].text.clone();
    let code = text
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        bench.verify(wrong).await;
        bench.erase().await;
    }
    let VerifyVerdict::Rejected(refusal) = bench.verify(&code).await else {
        panic!("a sixth try");
    };
    assert_eq!(refusal.text, "Too many attempts");
    assert!(matches!(bench.send_code().await, SendVerdict::Refused(_)));
}

#[tokio::test]
async fn each_search_by_a_number_is_in_the_trail_whatever_it_finds() {
    let bench = Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await;
    assert_eq!(bench.messages().await, 0);
    assert!(matches!(bench.send_code().await, SendVerdict::Sent { .. }));
    assert_eq!(bench.messages().await, 1);
    assert_eq!(
        bench.store.last_commit(),
        (1, 1),
        "the record and its event"
    );
    let by_time = MessageSearch {
        number: None,
        from: UnixMillis(0),
        to: UnixMillis(u64::MAX),
        after: None,
        limit: 50,
    };
    let context = context();
    let found = bench.runtime.find_messages(&context, &by_time, "test");
    assert_eq!(found.await.unwrap().messages.len(), 1);
    let trail = bench.runtime.messages_trail(None, 10).await.unwrap();
    let told = trail.entries.iter().map(|entry| {
        let of = |wanted: &str| {
            let mut known = entry.attributes.iter();
            known.find_map(|(name, value)| (name == wanted).then_some(value.as_str()))
        };
        assert!(!of("phone").unwrap().contains("2025550123"));
        (entry.kind.as_str(), of("way"), of("found"))
    });
    let kind = "number.searched";
    let want = [
        (kind, Some("test"), Some("1")),
        (kind, Some("test"), Some("0")),
    ];
    assert!(told.eq(want), "the newest first, and none by time alone");
}

#[tokio::test]
async fn each_look_at_a_whole_number_is_durable_before_it_is_seen() {
    let bench = Bench::with(patient(), countersign_embedded::OTP, Vec::new()).await;
    let SendVerdict::Sent { message_id, .. } = bench.send_code().await else {
        panic!("refused");
    };
    let id = message_id.parse().unwrap();
    for n in 1..=2 {
        let context = context();
        let looked = bench.runtime.reveal_number(&context, id, "http", None);
        let (revealed, at) = looked.await.unwrap();
        assert!(matches!(&revealed, Revealed::Number(number) if number.expose() == PHONE));
        assert!(!format!("{revealed:?}").contains("2025550123"));
        assert_eq!(
            bench.store.last_commit(),
            (1, 1),
            "the record and its event"
        );
        let trail = bench.runtime.messages_trail(None, 10).await.unwrap();
        assert_eq!(trail.entries.len(), n);
        assert_eq!((trail.entries[0].at, at), (NOW, NOW));
        assert_eq!(trail.entries[0].by, context.caller);
        assert!(
            trail.entries[0]
                .attributes
                .contains(&("message".into(), message_id.to_string()))
        );
    }
}
