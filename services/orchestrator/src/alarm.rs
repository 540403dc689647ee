//! Wakes reconcilers at instants of the clock that was passed in. The controller's own requeue knows only the machine's
//! clock, and a stepped clock must make schedules fire.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use chrono::{DateTime, Utc};
use coffer_runtime::Clock;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One instant an object at most, so it is bounded by the objects.
pub struct Alarm<K> {
    due: Arc<Mutex<HashMap<K, DateTime<Utc>>>>,
    changed: Arc<Notify>,
    clock: Clock,
}

impl<K> Clone for Alarm<K> {
    fn clone(&self) -> Self {
        Self { due: self.due.clone(), changed: self.changed.clone(), clock: self.clock.clone() }
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Alarm<K> {
    /// Nobody is woken yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { due: Arc::default(), changed: Arc::default(), clock }
    }

    /// Wakes `key` at `instant`, and at no other; `None` not at all.
    pub fn set(&self, key: K, instant: Option<DateTime<Utc>>) {
        match instant {
            Some(instant) => self.due.lock().insert(key, instant),
            None => self.due.lock().remove(&key),
        };
        self.changed.notify_one();
    }

    /// Yields each key when its instant has come. For one reader.
    pub fn rings(self) -> impl Stream<Item = K> + Send {
        futures::stream::unfold(self, |alarm| async move {
            let key = alarm.next().await;
            Some((key, alarm))
        })
    }

    async fn next(&self) -> K {
        loop {
            let now = self.clock.now();
            let first = {
                let mut due = self.due.lock();
                let first =
                    due.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (key.clone(), *at));
                if let Some((key, at)) = &first
                    && *at <= now
                {
                    due.remove(key);
                    return key.clone();
                }
                first.map(|(_, at)| at)
            };
            match first {
                Some(at) => tokio::select! {
                    () = self.clock.sleep_until(at) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, StreamExt as _};
    use std::time::Duration;

    #[tokio::test]
    async fn rings_when_the_clock_passes_the_instant() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let alarm = Alarm::new(clock.clone());
        let mut rings = Box::pin(alarm.clone().rings());
        let at = |seconds| Some(DateTime::from_timestamp(seconds, 0).unwrap());
        alarm.set("late", at(20));
        alarm.set("early", at(10));
        alarm.set("never", at(5));
        alarm.set("never", None);
        assert!(rings.next().now_or_never().is_none());
        clock.step(Duration::from_secs(10));
        assert_eq!(rings.next().await, Some("early"));
        assert!(rings.next().now_or_never().is_none());
        clock.step(Duration::from_secs(60));
        assert_eq!(rings.next().await, Some("late"));
    }
}
