//! What each step of the main job costs the store, by the row: the budget of `ARCHITECTURE.md`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use countersign_delivery::{
    BreakerTerms, Delivery, DeliveryConfig, Health, ProviderTerms, Route, Routes, Sender,
};
use countersign_queue::Open;
use countersign_runtime::{
    CallContext, Limits, SendRequest, SendVerdict, VerifyRequest, VerifyVerdict,
};
use countersign_store::Body;
use countersign_types::{Accepted, Message, SendError, Status, StatusUpdate, SystemEntropy};

use crate::bench::{Bench, NOW, context};

/// Takes every message and keeps it.
#[derive(Default)]
pub(crate) struct Taken(pub(crate) Mutex<Vec<Message>>);

#[async_trait]
impl Sender for Taken {
    async fn send(&self, _: &str, message: &Message) -> Result<Accepted, SendError> {
        self.0.lock().unwrap().push(message.clone());
        Ok(Accepted {
            ids: vec!["SM1".into()],
            ..Accepted::default()
        })
    }
}

impl Taken {
    /// The code in the first message that it took.
    pub(crate) fn code(&self) -> String {
        let text = self.0.lock().unwrap()[0].text.clone();
        let first = text.lines().next().unwrap();
        first.rsplit(' ').next().unwrap().to_owned()
    }
}

impl Bench {
    /// The code that is live at the probe's row `key`: what only a message would tell.
    pub(crate) async fn code(&self, key: &str) -> String {
        let taken = Arc::new(Taken::default());
        self.run(&format!("send {key}")).await.unwrap();
        self.deliver(&taken).await;
        let text = taken.0.lock().unwrap()[0].text.clone();
        text.strip_prefix("code ").unwrap().to_owned()
    }

    /// Delivers the next message.
    pub(crate) async fn deliver(&self, taken: &Arc<Taken>) {
        self.deliver_and_tell(taken, None).await;
    }

    /// Delivers the next message, and says where its receipts go.
    pub(crate) async fn deliver_and_tell(&self, taken: &Arc<Taken>, status_callback: Option<&str>) {
        let terms = ProviderTerms {
            concurrency: 1,
            rate: None,
            status_callback: status_callback.map(str::to_owned),
        };
        let config = DeliveryConfig {
            routes: Routes::new(
                vec![Route {
                    providers: vec!["p".into()],
                    ..Route::default()
                }],
                Health::new(BreakerTerms::default(), self.clock.clone()),
            ),
            providers: HashMap::from([("p".to_owned(), terms)]),
            in_hand: 8,
            backoff_base: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
        };
        let delivery = Delivery::new(
            self.queue.clone(),
            self.keyring.clone(),
            self.clock.clone(),
            Arc::new(SystemEntropy),
            taken.clone(),
            config,
        );
        let taken = self.queue.next(&Open).await.unwrap();
        delivery.deliver(taken.claim).await.unwrap();
    }
}

#[tokio::test]
async fn a_send_writes_two_rows_a_delivery_three_and_a_verification_one() {
    let bench = Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await;
    let phone = "+12025550123".to_owned();
    let request = SendRequest {
        phone: phone.clone(),
        ..SendRequest::default()
    };
    let context = context();
    let sent = bench.runtime.otp_send(&context, request, None).await;
    let (sent, _) = sent.unwrap();
    assert!(matches!(sent, SendVerdict::Sent { .. }), "{sent:?}");
    assert_eq!(
        bench.store.last_commit(),
        (2, 2),
        "challenge with windows; message with job"
    );
    let taken = Arc::new(Taken::default());
    bench.deliver(&taken).await;
    assert_eq!(
        bench.store.last_commit(),
        (3, 1),
        "the job goes, the message stays and can be found by its number"
    );
    let code = taken.code();
    let check = |code: String| {
        let request = VerifyRequest {
            phone: phone.clone(),
            code,
            purpose: None,
        };
        let runtime = bench.runtime.clone();
        let context = context.clone();
        async move {
            let verdict = runtime.otp_verify(&context, request, None).await;
            verdict.unwrap().0
        }
    };
    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert!(matches!(
        check(wrong.to_owned()).await,
        VerifyVerdict::Rejected(_)
    ));
    assert_eq!(
        bench.store.last_commit(),
        (1, 1),
        "tries and budget in one row"
    );
    assert!(matches!(
        check(code.clone()).await,
        VerifyVerdict::Accepted { .. }
    ));
    assert_eq!(bench.store.last_commit(), (1, 1));
    assert!(matches!(check(code).await, VerifyVerdict::Rejected(_)));
    assert_eq!(
        bench.store.last_commit(),
        (1, 1),
        "what is refused costs the same"
    );
}

#[tokio::test]
async fn no_key_of_a_send_holds_the_clients_address() {
    let bench = Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await;
    let address = "198.51.100.77";
    let request = SendRequest {
        phone: "+12025550123".into(),
        ..SendRequest::default()
    };
    let context = CallContext {
        client_address: Some(address.to_owned()),
        ..context()
    };
    let sent = bench.runtime.otp_send(&context, request, None).await;
    assert!(matches!(sent.unwrap().0, SendVerdict::Sent { .. }));
    let commits = bench.store.commits.lock().unwrap();
    let takes = commits.iter().flat_map(|commit| &commit.takes);
    let keys: Vec<_> = takes
        .map(|take| String::from_utf8_lossy(&take.key).into_owned())
        .collect();
    let index = bench.keyring.address_index(address);
    let key = |window| format!("c/otp/address/default/{index}/{window}");
    assert_eq!(keys, [key("minute"), key("hour")]);
    assert_ne!(index, bench.keyring.address_index("198.51.100.78"));
}

#[tokio::test]
async fn a_receipt_costs_one_row_and_asking_for_it_one_with_the_delivery() {
    let bench = Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await;
    let request = SendRequest {
        phone: "+12025550123".into(),
        ..SendRequest::default()
    };
    bench
        .runtime
        .otp_send(&context(), request, None)
        .await
        .unwrap();
    let taken = Arc::new(Taken::default());
    let callback = Some("https://sms.example.test/webhooks/p");
    bench.deliver_and_tell(&taken, callback).await;
    assert_eq!(
        bench.store.last_commit(),
        (4, 1),
        "the job goes; the message, by its number too, and whose id the provider's is"
    );
    let receipt = [StatusUpdate {
        id: "SM1".into(),
        status: Status::Delivered,
        error: None,
        at: None,
        price: None,
        segments: None,
    }];
    for cost in [(1, 1), (0, 0)] {
        bench.queue.receive("p", &receipt, NOW).await.unwrap();
        assert_eq!(
            bench.store.last_commit(),
            cost,
            "a repeated one is read only"
        );
    }
}

#[tokio::test]
async fn a_check_costs_the_same_commit_whether_or_not_there_is_a_challenge() {
    let bench = Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await;
    let request = VerifyRequest {
        phone: "+4915123456789".into(),
        code: "123456".into(),
        purpose: None,
    };
    let context = context();
    let verdict = bench.runtime.otp_verify(&context, request, None).await;
    let (verdict, _) = verdict.unwrap();
    assert!(matches!(verdict, VerifyVerdict::Rejected(_)));
    assert_eq!(bench.store.last_commit(), (1, 1));
}

#[tokio::test]
async fn no_row_of_a_send_holds_the_code_even_when_it_is_opened() {
    let bench = Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await;
    let request = SendRequest {
        phone: "+12025550123".into(),
        ..SendRequest::default()
    };
    let context = context();
    let sent = bench.runtime.otp_send(&context, request, None).await;
    sent.unwrap();
    let taken = Arc::new(Taken::default());
    bench.deliver(&taken).await;
    let text = taken.0.lock().unwrap()[0].text.clone();
    let code = text.lines().next().unwrap().rsplit(' ').next().unwrap();
    let mut opened = 0;
    for commit in bench.store.commits.lock().unwrap().iter() {
        for write in &commit.writes {
            let Some(Body::Sections(sections)) = &write.body else {
                continue;
            };
            for section in [&sections.service, &sections.host].into_iter().flatten() {
                let plain = bench.keyring.unseal(&write.key, &section.value);
                let plain = plain.map_or_else(|_| section.value.clone(), |plain| plain.to_vec());
                opened += 1;
                let held = plain
                    .windows(code.len())
                    .any(|bytes| bytes == code.as_bytes());
                assert!(
                    !held,
                    "{:?} holds the code",
                    String::from_utf8_lossy(&write.key)
                );
            }
        }
    }
    assert!(opened >= 4, "challenge, windows, job and message: {opened}");
}

#[tokio::test]
async fn counting_a_message_costs_six_rows_and_no_event() {
    let bench = Bench::with(Limits::default(), countersign_embedded::OTP, Vec::new()).await;
    let request = SendRequest {
        phone: "+12025550123".into(),
        ..SendRequest::default()
    };
    let sent = bench.runtime.otp_send(&context(), request, None).await;
    sent.unwrap();
    let folded = bench.runtime.fold(Some(1)).await.unwrap();
    assert_eq!((folded.next, folded.more), (3, false));
    assert_eq!(
        bench.store.last_commit(),
        (6, 0),
        "hour, day and month; the hours of the day and the days of the month; where it is"
    );
    let commits = bench.store.commits.lock().unwrap().len();
    bench.runtime.fold(Some(3)).await.unwrap();
    let after = bench.store.commits.lock().unwrap().len();
    assert_eq!(
        after, commits,
        "where there is nothing new nothing is asked"
    );
}
