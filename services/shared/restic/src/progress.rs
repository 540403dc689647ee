//! How far a long operation is, told to whoever wants to know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A step of an operation and how much of it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, as people read it: "read the index".
    pub step: &'static str,
    /// How much is done.
    pub done: u64,
    /// How much there is; 0 while unknown.
    pub total: u64,
    /// What is counted.
    pub unit: Unit,
}

/// What a progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Objects: files, packs, snapshots, trees.
    Items,
    /// Bytes.
    Bytes,
}

/// Receives progress; by default nobody does. It is called often and from any thread: it must not wait.
#[derive(Clone, Default)]
pub struct Observer(Option<Arc<dyn Fn(Progress) + Send + Sync>>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

impl Observer {
    /// An observer that is called with each change.
    #[must_use]
    pub fn new(tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Tells whoever observes.
    pub fn tell(&self, progress: Progress) {
        if let Some(tell) = &self.0 {
            tell(progress);
        }
    }

    pub(crate) fn items(&self, step: &'static str, total: u64) -> Step {
        self.begin(step, total, Unit::Items)
    }

    pub(crate) fn bytes(&self, step: &'static str, total: u64) -> Step {
        self.begin(step, total, Unit::Bytes)
    }

    fn begin(&self, step: &'static str, total: u64, unit: Unit) -> Step {
        let begun = Step {
            observer: self.clone(),
            step,
            total: AtomicU64::new(total),
            unit,
            done: AtomicU64::new(0),
        };
        begun.tell();
        begun
    }
}

/// A step in progress.
#[derive(Debug)]
pub(crate) struct Step {
    observer: Observer,
    step: &'static str,
    total: AtomicU64,
    unit: Unit,
    done: AtomicU64,
}

impl Step {
    pub(crate) fn advance(&self, by: u64) {
        self.done.fetch_add(by, Ordering::Relaxed);
        self.tell();
    }

    /// There is more to do than was known.
    pub(crate) fn expect(&self, more: u64) {
        self.total.fetch_add(more, Ordering::Relaxed);
    }

    fn tell(&self) {
        let done = self.done.load(Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        self.observer.tell(Progress { step: self.step, done, total, unit: self.unit });
    }
}
