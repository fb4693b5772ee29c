//! Bugs to be found: each breaks one promise at a seam of the simulation. Nothing of the product knows
//! of them.

use countersign_store::committer::Rows;
use countersign_store::{Body, Commit, Need, Row, Sections, Write};
use countersign_types::Event;

use crate::Kind;
use crate::disk::Disk;
use crate::world::World;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// The committer is not told of one row that was read.
    LostUpdate,
    /// An accepted code is not used up.
    DoubleUse,
    /// A wrong code is not counted.
    UncountedTry,
    /// A send's commit loses the row of its job.
    JobWithoutRow,
    /// A send's commit loses everything but the row of its job.
    RowWithoutJob,
    /// The delivery's clock is two minutes slow.
    ExpiredSend,
    /// The disk says that it has synced, and has not.
    LostAcknowledgement,
    /// What wrote nothing is answered while what it has read is not durable.
    EarlyAnswer,
    /// What a receipt has told of a message is not kept.
    StepBack,
    /// A receipt that comes before its provider's answer is not kept.
    LostReceipt,
    /// That a request was done is not kept.
    DoneTwice,
    /// That a backup code was used is not kept.
    BackupCodeTwice,
    /// Which step of an app was accepted is not kept.
    AppStepTwice,
    /// How far events have been counted is not kept, now and then.
    CountedTwice,
}

impl Plant {
    /// All of them.
    pub const ALL: [Plant; 14] = [
        Plant::LostUpdate,
        Plant::DoubleUse,
        Plant::UncountedTry,
        Plant::JobWithoutRow,
        Plant::RowWithoutJob,
        Plant::ExpiredSend,
        Plant::LostAcknowledgement,
        Plant::EarlyAnswer,
        Plant::StepBack,
        Plant::LostReceipt,
        Plant::DoneTwice,
        Plant::BackupCodeTwice,
        Plant::AppStepTwice,
        Plant::CountedTwice,
    ];

    /// What the simulation must call it.
    pub fn kind(self) -> Kind {
        match self {
            Plant::LostUpdate => Kind::LostUpdate,
            Plant::DoubleUse | Plant::BackupCodeTwice | Plant::AppStepTwice => Kind::DoubleUse,
            Plant::UncountedTry => Kind::UncountedTry,
            Plant::JobWithoutRow => Kind::JobWithoutRow,
            Plant::RowWithoutJob => Kind::RowWithoutJob,
            Plant::ExpiredSend => Kind::ExpiredSend,
            Plant::LostAcknowledgement | Plant::EarlyAnswer => Kind::LostAcknowledgement,
            Plant::StepBack => Kind::StepBack,
            Plant::LostReceipt => Kind::LostReceipt,
            Plant::DoneTwice => Kind::DoneTwice,
            Plant::CountedTwice => Kind::Miscounted,
        }
    }

    /// Changes what is asked for.
    pub(crate) fn mislead(self, commit: &mut Commit) {
        match self {
            Plant::LostReceipt if commit.need == Need::Deliver => end_at_once(commit, b"r/"),
            Plant::DoneTwice => end_at_once(commit, b"i/"),
            _ => {}
        }
    }

    /// Changes a commit on its way to the committer.
    pub(crate) fn meddle(self, commit: &mut Commit, world: &World, disk: &Disk) {
        let events: Vec<Event> = commit
            .events
            .iter()
            .filter_map(|event| postcard::from_bytes(event).ok())
            .collect();
        let is = |kind: &str| events.iter().any(|event| event.kind == kind);
        match self {
            Plant::LostUpdate if !commit.reads.is_empty() => {
                let which = world.below(commit.reads.len() as u64);
                commit.reads.remove(which as usize);
            }
            Plant::DoubleUse if is("verification.approved") => {
                forget(commit, b"c/otp/", disk);
            }
            Plant::UncountedTry if is("verification.rejected") => {
                forget(commit, b"c/otp/", disk);
            }
            Plant::BackupCodeTwice if is("backup-code.used") => {
                forget(commit, b"c/two-factor/backup/", disk);
            }
            Plant::AppStepTwice if is("login.succeeded") => {
                forget(commit, b"c/two-factor/user/", disk);
            }
            Plant::StepBack if commit.need == Need::Deliver => forget(commit, b"m/", disk),
            Plant::JobWithoutRow if is("verification.sent") => {
                commit.writes.retain(|write| !is_job(&write.key));
            }
            Plant::RowWithoutJob if is("verification.sent") => {
                commit.writes.retain(|write| is_job(&write.key));
                commit.events.clear();
            }
            Plant::CountedTwice if world.once_in(4) => {
                let cursor = b"c/analytics/cursor";
                put_back(commit, cursor, disk, |new, old| new.service = old.service);
            }
            _ => {}
        }
    }
}

pub(crate) fn is_job(key: &[u8]) -> bool {
    key.starts_with(b"j/")
}

/// Lets rows end when they are written.
fn end_at_once(commit: &mut Commit, prefix: &[u8]) {
    for Write { key, body } in &mut commit.writes {
        if let Some(Body::Sections(Sections {
            host: Some(host), ..
        })) = body.as_mut().filter(|_| key.starts_with(prefix))
        {
            host.expires = Some(commit.instant);
        }
    }
}

/// Puts the host's sections back as they are stored.
fn forget(commit: &mut Commit, prefix: &[u8], disk: &Disk) {
    put_back(commit, prefix, disk, |new, old| new.host = old.host);
}

/// Puts something of rows back as it is stored; their versions go on.
fn put_back(
    commit: &mut Commit,
    prefix: &[u8],
    disk: &Disk,
    back: impl Fn(&mut Sections, Sections),
) {
    let writes = commit.writes.iter_mut();
    for Write { key, body } in writes.filter(|write| write.key.starts_with(prefix)) {
        let stored = disk.get(key).ok().flatten();
        let stored = stored.and_then(|bytes| Row::from_bytes(key, &bytes).ok());
        if let (Some(Body::Sections(new)), Some(Body::Sections(old))) =
            (body, stored.map(|row| row.body))
        {
            back(new, old);
        }
    }
}
