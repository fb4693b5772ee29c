//! The control socket: how the command line reaches a server that holds the store.
//!
//! One request and one answer a connection, each one line of JSON; what takes long is told of step by step
//! before the answer. Whoever may enter the data folder and owns the process is the administrator; there
//! is no other check, and no network.
//!
//! `words` is what is said, `socket` how it is carried, `office` what does it.

mod office;
mod socket;
mod words;

pub(crate) use office::{Access, Closed, Office, Served};
pub(crate) use socket::{ControlError, ask, ask_and_hear, bind, remove, serve};
pub(crate) use words::{
    About, Answer, BackupShown, KeyShown, KeysRequest, Refused, Request, RotatedShown,
    backup_refused, with_cause,
};
