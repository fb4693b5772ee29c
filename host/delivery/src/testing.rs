//! What the tests of this crate share: a message that waits, and what goes wrong with it.

use std::time::Duration;

use countersign_queue::{ANONYMOUS, ChallengeRef, Counts, Job, Queue};
use countersign_store::Commit;
use countersign_types::{
    Entropy, ErrorClass, MessageId, NumberKind, Priority, SendError, UnixMillis,
};

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A message without a code that is accepted at `now`, due then, and has ten minutes.
pub(crate) fn notice(now: UnixMillis) -> Job {
    Job {
        channel: "sms".into(),
        to: "+12025550123".into(),
        country: "US".into(),
        line: NumberKind::FixedLineOrMobile,
        template: "notice".into(),
        text: "Hello {name}".into(),
        variables: vec![("name".into(), "Ann".into())],
        locale: None,
        service: "default".into(),
        purpose: "notice".into(),
        caller: ANONYMOUS.into(),
        challenge: None,
        accepted: now,
        due: now,
        deadline: now + 600 * SECOND,
        priority: Priority::Normal,
        attempts: Vec::new(),
        counts: Counts::default(),
    }
}

/// The same with a code, which is good for as long.
pub(crate) fn verification(now: UnixMillis) -> Job {
    let notice = notice(now);
    Job {
        template: "verification".into(),
        text: "Your verification code is: {code}\n\nValid for {minutes} minutes.".into(),
        purpose: "verification".into(),
        challenge: Some(ChallengeRef {
            id: [9; 16],
            key_id: 1,
            service: "default".into(),
            purpose: "verification".into(),
            subject: "s".into(),
            digits: 6,
            expires: notice.deadline,
        }),
        ..notice
    }
}

/// Why a provider did not take a message.
pub(crate) fn refusal(class: ErrorClass) -> SendError {
    SendError {
        class,
        retry_after_ms: None,
        provider_code: None,
        text: "no".into(),
        failover: false,
    }
}

/// The same, with a wish for `wait` before the next one.
pub(crate) fn refusal_for(class: ErrorClass, wait: Duration) -> SendError {
    SendError {
        retry_after_ms: u64::try_from(wait.as_millis()).ok(),
        ..refusal(class)
    }
}

/// Puts `job` into `queue` as of its acceptance.
pub(crate) async fn accept(queue: &Queue, entropy: &dyn Entropy, job: &Job) -> MessageId {
    let commit = Commit {
        instant: job.accepted,
        ..Commit::default()
    };
    let id = MessageId::new(job.accepted, entropy);
    let accepted = queue.accept(id, job, commit);
    accepted.await.expect("accepted");
    id
}
