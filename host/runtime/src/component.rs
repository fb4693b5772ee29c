//! From bytes to a component that can be linked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cache::Cache;
use crate::version::Sha256;

/// Why a component was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no WebAssembly component, and no core module that can be made one.
    #[error("`{name}` is no WebAssembly component: {reason}")]
    Malformed {
        /// The component's configured name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// It needs something that its world does not offer, or lacks something that it must export.
    #[error("`{name}` does not fit the world `{world}`: {reason}")]
    DoesNotFit {
        /// The component's configured name.
        name: String,
        /// The world.
        world: &'static str,
        /// Which import or export it is.
        reason: String,
    },
    /// It could not say what it is.
    #[error("`{name}` failed when it was asked to describe itself: {reason}")]
    Describe {
        /// The component's configured name.
        name: String,
        /// What happened.
        reason: String,
    },
}

/// A component that can be linked, and which one it is.
pub(crate) struct Compiled {
    pub(crate) sha256: Sha256,
    pub(crate) component: Component,
}

/// Makes components of bytes, out of the cache where it has them.
pub(crate) struct Compiler {
    pub(crate) engine: Engine,
    cache: Option<Cache>,
    cached: AtomicUsize,
    /// What [`prepare`](Compiler::prepare) has compiled.
    prepared: Mutex<HashMap<Sha256, Component>>,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, cache: Option<Cache>) -> Compiler {
        Compiler {
            engine,
            cache,
            cached: AtomicUsize::new(0),
            prepared: Mutex::default(),
        }
    }

    /// Compiles `components` beside each other, on as many threads as there are processors, so that
    /// [`compile`](Compiler::compile) has each of them at once; one that is there twice is compiled
    /// once. What cannot be compiled is left to `compile`, which says why.
    pub(crate) fn prepare<'a>(&self, components: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
        let waiting: HashMap<Sha256, (&str, &[u8])> = components
            .into_iter()
            .map(|(name, bytes)| (Sha256::of(bytes), (name, bytes)))
            .collect();
        let waiting: Vec<_> = waiting.into_iter().collect();
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some((sha256, (name, bytes))) =
                waiting.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Ok(component) = self.component(name, *sha256, bytes) {
                    self.prepared().insert(*sha256, component);
                }
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        std::thread::scope(|scope| {
            for _ in 1..threads.min(waiting.len()) {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Forgets what was prepared.
    pub(crate) fn forget_prepared(&self) {
        self.prepared().clear();
    }

    fn prepared(&self) -> MutexGuard<'_, HashMap<Sha256, Component>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles `bytes`: a component, or a core module that carries its component type, as
    /// `wit-bindgen` leaves it in modules for plain `wasm32`.
    pub(crate) fn compile(&self, name: &str, bytes: &[u8]) -> Result<Compiled, LoadError> {
        let sha256 = Sha256::of(bytes);
        let prepared = self.prepared().get(&sha256).cloned();
        let component = match prepared {
            Some(component) => component,
            None => self.component(name, sha256, bytes)?,
        };
        Ok(Compiled { sha256, component })
    }

    fn component(&self, name: &str, sha256: Sha256, bytes: &[u8]) -> Result<Component, LoadError> {
        let Some(cache) = &self.cache else {
            return compile(&self.engine, name, bytes);
        };
        let entry = cache.entry(&self.engine, sha256);
        if let Some(component) = cache.load(&self.engine, &entry) {
            self.cached.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(component = name, "compiled code was taken from the cache");
            return Ok(component);
        }
        let component = compile(&self.engine, name, bytes)?;
        tracing::debug!(component = name, "compiled");
        if let Err(error) = cache.store(&entry, &component) {
            tracing::warn!(component = name, %error, "compiled code cannot be kept for the next start");
        }
        Ok(component)
    }

    /// How many components came out of the cache.
    #[cfg(test)]
    pub(crate) fn cached(&self) -> usize {
        self.cached.load(Ordering::Relaxed)
    }

    /// Where `bytes` would lie in the cache.
    #[cfg(test)]
    pub(crate) fn entry(&self, bytes: &[u8]) -> Option<crate::cache::Entry> {
        Some(self.cache.as_ref()?.entry(&self.engine, Sha256::of(bytes)))
    }
}

fn compile(engine: &Engine, name: &str, bytes: &[u8]) -> Result<Component, LoadError> {
    let malformed = |reason: String| LoadError::Malformed {
        name: name.to_owned(),
        reason,
    };
    let bytes = as_component(bytes).map_err(malformed)?;
    Component::from_binary(engine, &bytes).map_err(|error| malformed(format!("{error:#}")))
}

/// A core module that carries its component type, as a component; what is one already stays as it is.
pub(crate) fn as_component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    if !wasmparser::Parser::is_core_wasm(bytes) {
        return Ok(Cow::Borrowed(bytes));
    }
    wit_component::ComponentEncoder::default()
        .module(bytes)
        .and_then(|encoder| encoder.validate(true).encode())
        .map(Cow::Owned)
        .map_err(|error| format!("{error:#}"))
}

/// What went wrong, in one line, with its causes.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    // The back trace of a trap comes as context before its cause; the cause is what helps.
    let mut texts: Vec<String> = error
        .chain()
        .map(|cause| cause.to_string())
        .filter(|text| !text.starts_with("error while executing at wasm backtrace"))
        .collect();
    texts.dedup();
    texts.join(": ")
}
