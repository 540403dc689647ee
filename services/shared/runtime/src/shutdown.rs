//! When to stop, and who is still busy.
//!
//! Two stages: `trigger` asks (stop accepting, finish what runs), `abort` insists (connections are cut, tasks are dropped
//! at their next await). Every task has a name, so that a drain that takes too long can say who holds it up.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A stop that can be waited for. Clones are the same stop.
#[derive(Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    abort: CancellationToken,
    tasks: TaskTracker,
    busy: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Follows this shutdown, but can be triggered and drained alone. Its tasks are its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { stop: self.stop.child_token(), abort: self.abort.child_token(), ..Self::default() }
    }

    /// Asks everyone to stop.
    pub fn trigger(&self) {
        self.stop.cancel();
    }

    /// Cuts connections and drops tasks, as a killed process would.
    pub fn abort(&self) {
        self.stop.cancel();
        self.abort.cancel();
    }

    /// True once the stop was asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits for the stop to be asked for.
    pub async fn triggered(&self) {
        self.stop.cancelled().await;
    }

    /// Cancelled when the stop is asked for.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Cancelled when nothing is waited for any more.
    #[must_use]
    pub fn abort_token(&self) -> CancellationToken {
        self.abort.clone()
    }

    /// Runs a task that [`Shutdown::drain`] waits for. The task itself has to watch [`Shutdown::triggered`]; on abort it
    /// is dropped, and its handle yields `None`.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let guard = Busy::enter(name, &self.busy);
        let abort = self.abort.clone();
        self.tasks.spawn(async move {
            let _guard = guard;
            abort.run_until_cancelled(task).await
        })
    }

    /// Waits until every task has ended, at most `limit`; then aborts what is left.
    ///
    /// # Errors
    /// Names the tasks that had to be aborted.
    pub async fn drain(&self, limit: Duration) -> Result<(), Unfinished> {
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_ok() {
            return Ok(());
        }
        let tasks: Vec<_> = self.busy.lock().keys().copied().collect();
        self.abort();
        self.tasks.wait().await;
        Err(Unfinished { tasks, limit })
    }
}

/// Tasks that did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("still busy {limit:?} after the stop: {}", tasks.join(", "))]
pub struct Unfinished {
    /// Their names.
    pub tasks: Vec<&'static str>,
    limit: Duration,
}

struct Busy {
    name: &'static str,
    all: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl Busy {
    fn enter(name: &'static str, all: &Arc<Mutex<BTreeMap<&'static str, usize>>>) -> Self {
        *all.lock().entry(name).or_default() += 1;
        Self { name, all: all.clone() }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(count) = all.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                all.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drain_waits_for_tasks() {
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let task = shutdown.spawn("worker", async move {
            stop.triggered().await;
            7
        });
        shutdown.trigger();
        shutdown.drain(Duration::from_secs(5)).await.unwrap();
        assert_eq!(task.await.unwrap(), Some(7));
    }

    #[tokio::test]
    async fn drain_names_and_aborts_who_does_not_stop() {
        let shutdown = Shutdown::new();
        let task = shutdown.spawn("stubborn", std::future::pending::<()>());
        shutdown.trigger();
        let error = shutdown.drain(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.tasks, ["stubborn"]);
        assert_eq!(task.await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_child_stops_with_its_parent_but_not_the_other_way() {
        let parent = Shutdown::new();
        let (one, two) = (parent.child(), parent.child());
        one.trigger();
        assert!(one.is_triggered() && !parent.is_triggered() && !two.is_triggered());
        parent.abort();
        assert!(two.is_triggered() && two.abort_token().is_cancelled());
    }
}
