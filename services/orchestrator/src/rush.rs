//! First all sessions that are due are made, then their invokers are looked at, then they are started: a thousand that are due
//! in one minute are not to wait for each other's start. Here is who is not that far yet.

use std::{collections::HashSet, time::Duration};

use coffer_runtime::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::index::Name;

/// Longest that a start waits for others to be made.
const PATIENCE: Duration = Duration::from_secs(2);
/// So many times as long it waits for its own invoker.
const OWN: usize = 10;

/// The invokers whose instant has come, and whose pass has not ended.
pub struct Rush {
    due: Mutex<HashSet<(&'static str, Name)>>,
    over: Notify,
    clock: Clock,
}

impl Rush {
    /// Nobody is due.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { due: Mutex::default(), over: Notify::new(), clock }
    }

    /// Their instant has come.
    pub fn begin(&self, kind: &'static str, names: impl Iterator<Item = Name>) {
        self.due.lock().extend(names.map(|name| (kind, name)));
    }

    /// Its pass has ended, or there is none.
    pub fn end(&self, kind: &'static str, name: Name) {
        let mut due = self.due.lock();
        if due.remove(&(kind, name)) && due.is_empty() {
            self.over.notify_waiters();
        }
    }

    /// Waits until nobody is due any more. Not for ever, since there may always be somebody; longest for the session's own
    /// invoker, whose pass says whether the session is to be skipped.
    pub async fn over(&self, kind: &str, invoker: &Name) {
        for _ in 0..OWN {
            let over = self.over.notified();
            if self.due.lock().is_empty() {
                return;
            }
            tokio::select! {
                () = over => return,
                () = self.clock.sleep(PATIENCE) => {}
            }
            let is_own = |(k, name): &(&str, Name)| *k == kind && name == invoker;
            if !self.due.lock().iter().any(is_own) {
                // Late is better than never.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use futures::FutureExt as _;

    fn name(name: &str) -> Name {
        ("demo".to_owned(), name.to_owned())
    }

    #[tokio::test]
    async fn a_start_waits_until_all_that_are_due_were_made() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let (rush, kind) = (Rush::new(clock.clone()), "BackupConfiguration");
        let over = async |invoker| rush.over(kind, &name(invoker)).await;
        assert!(over("a").now_or_never().is_some());
        rush.begin(kind, [name("a"), name("b")].into_iter());
        let mut all = Box::pin(over("a"));
        assert!(all.as_mut().now_or_never().is_none());
        rush.end(kind, name("a"));
        rush.end(kind, name("never due"));
        assert!(all.as_mut().now_or_never().is_none());
        rush.end(kind, name("b"));
        assert!(all.now_or_never().is_some());

        // Longer for its own invoker than for others.
        rush.begin(kind, [name("b")].into_iter());
        let (mut others, mut own) = (Box::pin(over("a")), Box::pin(over("b")));
        assert!(others.as_mut().now_or_never().is_none() && own.as_mut().now_or_never().is_none());
        clock.step(PATIENCE);
        assert!(others.now_or_never().is_some() && own.as_mut().now_or_never().is_none());
        rush.end(kind, name("b"));
        assert!(own.now_or_never().is_some());
    }
}
