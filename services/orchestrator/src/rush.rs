//! First all sessions that are due are made, then they are started: a thousand that are due in one minute are not to wait
//! for each other's start.

use std::{collections::HashSet, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::cache::index::Name;

/// Longest that a start waits for the others to be made.
const PATIENCE: Duration = Duration::from_secs(2);

/// The invokers whose instant has come, and whose pass has not ended.
#[derive(Default)]
pub struct Rush {
    due: Mutex<HashSet<(&'static str, Name)>>,
    over: Notify,
}

impl Rush {
    /// Its instant has come. What is no invoker makes no session.
    pub fn begin(&self, kind: &'static str, name: Name) {
        if matches!(kind, "BackupConfiguration" | "BackupBatch") {
            self.due.lock().insert((kind, name));
        }
    }

    /// Its pass has ended, or there is none.
    pub fn end(&self, kind: &'static str, name: Name) {
        let mut due = self.due.lock();
        if due.remove(&(kind, name)) && due.is_empty() {
            self.over.notify_waiters();
        }
    }

    /// Waits until nobody is due any more, but not for ever: there may always be somebody.
    pub async fn over(&self) {
        let over = self.over.notified();
        if !self.due.lock().is_empty() {
            // Late is better than never.
            let _ = tokio::time::timeout(PATIENCE, over).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn name(name: &str) -> Name {
        ("demo".to_owned(), name.to_owned())
    }

    #[tokio::test]
    async fn a_start_waits_until_all_that_are_due_were_made() {
        let rush = Rush::default();
        rush.begin("BackupSession", name("a"));
        assert!(rush.over().now_or_never().is_some());
        rush.begin("BackupConfiguration", name("a"));
        rush.begin("BackupConfiguration", name("b"));
        let mut over = Box::pin(rush.over());
        assert!(over.as_mut().now_or_never().is_none());
        rush.end("BackupConfiguration", name("a"));
        rush.end("BackupConfiguration", name("never due"));
        assert!(over.as_mut().now_or_never().is_none());
        rush.end("BackupConfiguration", name("b"));
        assert!(over.now_or_never().is_some());
    }
}
