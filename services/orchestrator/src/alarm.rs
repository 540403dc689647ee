//! Wakes reconcilers at instants of the clock that was passed in. The controller's own requeue knows only the machine's
//! clock, and a stepped clock must make schedules fire.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use coffer_runtime::Clock;
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// One instant an object at most, so it is bounded by the objects.
pub struct Alarm<K> {
    due: Arc<Mutex<Due<K>>>,
    changed: Arc<Notify>,
    clock: Clock,
}

impl<K> Clone for Alarm<K> {
    fn clone(&self) -> Self {
        Self { due: self.due.clone(), changed: self.changed.clone(), clock: self.clock.clone() }
    }
}

/// An instant, and a number that tells those of one instant apart.
type At = (DateTime<Utc>, u64);

struct Due<K> {
    /// The next one first: with ten thousand, a search for it at each ring would be most of the work.
    queue: BTreeMap<At, K>,
    at: HashMap<K, At>,
    set: u64,
}

impl<K: Clone + Eq + Hash> Due<K> {
    fn set(&mut self, key: K, instant: Option<DateTime<Utc>>) {
        if let Some(at) = self.at.remove(&key) {
            self.queue.remove(&at);
        }
        if let Some(instant) = instant {
            let at = (instant, self.set);
            self.set += 1;
            self.at.insert(key.clone(), at);
            self.queue.insert(at, key);
        }
    }

    /// Those whose instant has come.
    fn take(&mut self, now: DateTime<Utc>) -> Vec<K> {
        let mut taken = vec![];
        while let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            self.at.remove(&key);
            taken.push(key);
        }
        taken
    }

    /// When the next one is due.
    fn next(&self) -> Option<DateTime<Utc>> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }
}

impl<K: Clone + Eq + Hash + Send + 'static> Alarm<K> {
    /// Nobody is woken yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let due = Due { queue: BTreeMap::new(), at: HashMap::new(), set: 0 };
        Self { due: Arc::new(Mutex::new(due)), changed: Arc::default(), clock }
    }

    /// Wakes `key` at `instant`, and at no other; `None` not at all.
    pub fn set(&self, key: K, instant: Option<DateTime<Utc>>) {
        self.due.lock().set(key, instant);
        self.changed.notify_one();
    }

    /// Yields the keys whose instant has come, all of them together. For one reader.
    pub fn rings(self) -> impl Stream<Item = Vec<K>> + Send {
        futures::stream::unfold(self, |alarm| async move {
            let due = alarm.wait().await;
            Some((due, alarm))
        })
    }

    async fn wait(&self) -> Vec<K> {
        loop {
            let (due, next) = {
                let mut due = self.due.lock();
                (due.take(self.clock.now()), due.next())
            };
            if !due.is_empty() {
                return due;
            }
            match next {
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
        alarm.set("as early", at(10));
        alarm.set("never", at(5));
        alarm.set("never", None);
        assert!(rings.next().now_or_never().is_none());
        clock.step(Duration::from_secs(10));
        assert_eq!(rings.next().await, Some(vec!["early", "as early"]));
        assert!(rings.next().now_or_never().is_none());
        clock.step(Duration::from_secs(60));
        assert_eq!(rings.next().await, Some(vec!["late"]));
    }
}
