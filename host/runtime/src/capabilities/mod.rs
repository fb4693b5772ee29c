//! What a service may use: one file for each interface of `countersign:service`.
//!
//! Each is a narrow view of the run: it touches its own part and nothing else. A value out of its
//! bounds is the component's bug and traps, with the reason.

mod audit;
mod backup;
pub(crate) mod codes;
mod events;
mod log;
mod misses;
mod otp;
mod phone;
mod queue;
mod settings;
mod storage;
mod totp;

use wasmtime::component::{HasData, Linker};

use crate::call::{Run, misuse};
use crate::service::Call;

/// The view that every capability has: the run of the call, and what the component has said of
/// itself.
pub(crate) struct View<'a> {
    pub(crate) run: &'a mut Run,
    pub(crate) call: &'a crate::service::Identity,
}

pub(crate) struct HasRun;

impl HasData for HasRun {
    type Data<'a> = Access<'a>;
}

/// A view that may not be there: outside a call (in `describe`, or while instantiating) there is no
/// run, and every capability traps.
pub(crate) struct Access<'a>(pub(crate) &'a mut Call);

fn access(call: &mut Call) -> Access<'_> {
    Access(call)
}

impl Access<'_> {
    pub(crate) fn view(&mut self) -> wasmtime::Result<View<'_>> {
        match self.0.run.as_deref_mut() {
            Some(run) => Ok(View {
                run,
                call: &self.0.identity,
            }),
            None => misuse("an import was used outside a call"),
        }
    }
}

/// Offers everything that each service may use.
pub(crate) fn link(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    use crate::bindings::service::countersign::service as wit;

    wit::storage::add_to_linker::<_, HasRun>(linker, access)?;
    wit::codes::add_to_linker::<_, HasRun>(linker, access)?;
    wit::queue::add_to_linker::<_, HasRun>(linker, access)?;
    wit::events::add_to_linker::<_, HasRun>(linker, access)?;
    wit::phone::add_to_linker::<_, HasRun>(linker, access)?;
    wit::settings::add_to_linker::<_, HasRun>(linker, access)?;
    wit::log::add_to_linker::<_, HasRun>(linker, access)?;
    wit::types::add_to_linker::<_, HasRun>(linker, access)?;
    wit::otp_types::add_to_linker::<_, HasRun>(linker, access)
}

/// Offers the otp component to other components.
pub(crate) fn link_otp(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    crate::bindings::otp_import::countersign::service::otp::add_to_linker::<_, HasRun>(
        linker, access,
    )
}

/// Offers what only two-factor uses.
pub(crate) fn link_two_factor(linker: &mut Linker<Call>) -> wasmtime::Result<()> {
    use crate::bindings::two_factor::countersign::service as wit;

    wit::totp::add_to_linker::<_, HasRun>(linker, access)?;
    wit::backup::add_to_linker::<_, HasRun>(linker, access)?;
    wit::audit::add_to_linker::<_, HasRun>(linker, access)
}

/// Traps unless `text` has `min` to `max` bytes.
pub(crate) fn bounded(what: &str, text: &str, min: usize, max: usize) -> wasmtime::Result<()> {
    if (min..=max).contains(&text.len()) {
        Ok(())
    } else {
        misuse(format!(
            "{what} has {} bytes; {min} to {max} are allowed",
            text.len()
        ))
    }
}

/// Traps when `used` has reached `max`, else counts one more.
pub(crate) fn count(what: &str, used: &mut u32, max: u32) -> wasmtime::Result<()> {
    if *used >= max {
        return misuse(format!("more than {max} {what} in one call"));
    }
    *used += 1;
    Ok(())
}

impl View<'_> {
    /// Traps in a function that has been declared to only read.
    pub(crate) fn may_write(&self) -> wasmtime::Result<()> {
        if self.run.read_only {
            return misuse("a function that is declared read-only wrote");
        }
        Ok(())
    }

    /// The physical key of `key`, which must be within its bounds, in a call that has not touched too
    /// much yet.
    pub(crate) fn key(&self, key: &str) -> wasmtime::Result<Vec<u8>> {
        bounded("a storage key", key, 1, 256)?;
        self.may_touch()?;
        Ok(self.run.key(key))
    }

    /// Traps when the call has touched as many rows as it may.
    pub(crate) fn may_touch(&self) -> wasmtime::Result<()> {
        if self.run.transaction.touched() >= KEYS_MAX {
            return misuse(format!("more than {KEYS_MAX} keys in one call"));
        }
        Ok(())
    }
}

/// How many rows one call may touch.
const KEYS_MAX: usize = 1_024;
