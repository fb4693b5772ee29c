//! Words that several crates of countersign speak.
//!
//! Here lives what crosses crates: time and randomness with their one door each, names of messages,
//! telephone numbers, and the outcome of handing a message to a provider. What only one crate needs
//! is not here.

mod entropy;
mod event;
mod id;
mod measure;
mod message;
mod secret;
mod seldom;
mod status;
mod text;
mod time;

pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use event::{Event, EventView};
pub use id::{MessageId, hex};
pub use measure::{Counter, Histogram, Level, Risen, Spread};
pub use message::{
    Accepted, ErrorClass, Message, NumberKind, PhoneNumber, Price, Priority, SendError, one_phone,
};
pub use secret::Secret;
pub use seldom::Seldom;
pub use status::{Answer, News, Reply, Status, StatusUpdate, Wish};
pub use text::{is_control, one_line};
pub use time::{Clock, ManualClock, MonotonicMillis, NoTime, SystemClock, UnixMillis};
