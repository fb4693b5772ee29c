//! The one door to randomness.

use std::sync::Mutex;

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng, TryRng};

/// A source of random bytes that nobody can predict. Given to everything that draws, so that a
/// simulation can replay.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give: then no code, id or key may be made, and
    /// going on would be worse than stopping (OWASP ASVS 5.0, 11.5.1).
    fn fill(&self, bytes: &mut [u8]);
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        SysRng
            .try_fill_bytes(bytes)
            .expect("the operating system's random generator answers");
    }
}

/// A generator that repeats itself for the same seed: for simulations, and for a call whose re-runs
/// must see the same bytes.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// A generator that starts from `seed`.
    pub fn new(seed: [u8; 32]) -> SeededEntropy {
        SeededEntropy(Mutex::new(StdRng::from_seed(seed)))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .fill_bytes(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let draw = |seed| {
            let mut bytes = [0; 16];
            SeededEntropy::new([seed; 32]).fill(&mut bytes);
            bytes
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn the_system_gives_something() {
        let mut bytes = [0; 32];
        SystemEntropy.fill(&mut bytes);
        assert_ne!(bytes, [0; 32]);
    }
}
