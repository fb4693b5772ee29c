//! Bugs to be found: each breaks one promise at a seam of the simulation. Nothing of the product knows
//! of them.

use countersign_store::committer::Rows;
use countersign_store::{Body, Commit, Row, Write};
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
}

impl Plant {
    /// All of them.
    pub const ALL: [Plant; 8] = [
        Plant::LostUpdate,
        Plant::DoubleUse,
        Plant::UncountedTry,
        Plant::JobWithoutRow,
        Plant::RowWithoutJob,
        Plant::ExpiredSend,
        Plant::LostAcknowledgement,
        Plant::EarlyAnswer,
    ];

    /// What the simulation must call it.
    pub fn kind(self) -> Kind {
        match self {
            Plant::LostUpdate => Kind::LostUpdate,
            Plant::DoubleUse => Kind::DoubleUse,
            Plant::UncountedTry => Kind::UncountedTry,
            Plant::JobWithoutRow => Kind::JobWithoutRow,
            Plant::RowWithoutJob => Kind::RowWithoutJob,
            Plant::ExpiredSend => Kind::ExpiredSend,
            Plant::LostAcknowledgement | Plant::EarlyAnswer => Kind::LostAcknowledgement,
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
            Plant::DoubleUse if is("verification.approved") => forget_challenges(commit, disk),
            Plant::UncountedTry if is("verification.rejected") => forget_challenges(commit, disk),
            Plant::JobWithoutRow if is("verification.sent") => {
                commit.writes.retain(|write| !is_job(&write.key));
            }
            Plant::RowWithoutJob if is("verification.sent") => {
                commit.writes.retain(|write| is_job(&write.key));
                commit.events.clear();
            }
            _ => {}
        }
    }
}

pub(crate) fn is_job(key: &[u8]) -> bool {
    key.starts_with(b"j/")
}

/// Puts the host's sections back as they are stored.
fn forget_challenges(commit: &mut Commit, disk: &Disk) {
    for Write { key, body } in &mut commit.writes {
        let stored = disk.get(key).ok().flatten();
        let stored = stored.and_then(|bytes| Row::from_bytes(key, &bytes).ok());
        if let (Some(Body::Sections(new)), Some(Body::Sections(old))) =
            (body, stored.map(|row| row.body))
        {
            new.host = old.host;
        }
    }
}
