//! Ready once every start-up latch is released. A component takes a latch before it starts and releases it when it can
//! do its work (its watch has delivered, its store is loaded); `/ready` names the ones still held.

use parking_lot::Mutex;
use std::sync::Arc;

/// The latches of one service.
#[derive(Clone, Default)]
pub struct Readiness {
    held: Arc<Mutex<Vec<&'static str>>>,
}

impl Readiness {
    /// No latches yet: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Holds readiness back until the latch is released.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.held.lock().push(name);
        Latch { name, readiness: self.clone() }
    }

    /// The names of the latches still held.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        self.held.lock().clone()
    }

    /// True when nothing is held.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.held.lock().is_empty()
    }
}

/// One reason not to be ready. Dropping it without [`Latch::release`] leaves the service unready: a component that died
/// during start-up never became ready.
#[must_use = "readiness is held back until the latch is released"]
pub struct Latch {
    name: &'static str,
    readiness: Readiness,
}

impl Latch {
    /// The component can do its work.
    pub fn release(self) {
        let mut held = self.readiness.held.lock();
        if let Some(position) = held.iter().position(|name| *name == self.name) {
            held.swap_remove(position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_when_every_latch_is_released() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let first = readiness.latch("watch");
        let second = readiness.latch("watch");
        first.release();
        assert_eq!(readiness.pending(), ["watch"]);
        second.release();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_component_that_died_keeps_the_service_unready() {
        let readiness = Readiness::new();
        drop(readiness.latch("store"));
        assert_eq!(readiness.pending(), ["store"]);
    }
}
