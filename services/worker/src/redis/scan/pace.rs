//! How many keys to ask for at a time, so that the server's other clients do not notice.
//!
//! A server has one thread for commands, and what a connection sends in one go it answers before it turns
//! to the next connection. So the time that a round of ours takes is what others wait at worst. The time is
//! measured, less that of the way, and the next round is made larger or smaller; when the server gets
//! slower for whatever reason, the rounds get smaller, and at their smallest pauses are made.

use std::time::{Duration, Instant};

use crate::options::Pace;
use crate::redis::{Client, Error};

/// A round of the gentle pace takes the server so long: well below the millisecond that other clients'
/// slowest requests may take.
const GENTLE: Duration = Duration::from_micros(350);
/// A round of the full pace: long enough that the way to the server does not count.
const FULL: Duration = Duration::from_millis(8);
/// Keys in a round.
const FEWEST: usize = 4;
const MOST: usize = 1024;
const FIRST: usize = 32;
/// The way is measured so often.
const PROBES: usize = 5;
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Decides on the next round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pacer {
    target: Duration,
    /// From here to the server and back.
    way: Duration,
    keys: usize,
}

impl Pacer {
    /// Measures the way.
    pub(super) async fn measure(client: &mut Client, pace: Pace) -> Result<Self, Error> {
        let mut way = Duration::MAX;
        for _ in 0..PROBES {
            let begun = Instant::now();
            client.ask(&[b"PING"]).await?;
            way = way.min(begun.elapsed());
        }
        Ok(Self::new(pace, way))
    }

    const fn new(pace: Pace, way: Duration) -> Self {
        let target = match pace {
            Pace::Gentle => GENTLE,
            Pace::Full => FULL,
        };
        Self { target, way, keys: FIRST }
    }

    /// Keys in the next round.
    pub(super) const fn keys(&self) -> usize {
        self.keys
    }

    /// Learns from a round of as many small keys as were allowed; gives the pause before the next.
    pub(super) fn learn(&mut self, took: Duration) -> Duration {
        let busy = took.saturating_sub(self.way);
        if busy <= self.target {
            self.keys = (self.keys + self.keys / 8 + 1).min(MOST);
            return Duration::ZERO;
        }
        let smallest = self.keys == FEWEST;
        self.keys = (self.keys - self.keys / 4).max(FEWEST);
        if smallest && self.target == GENTLE { busy.min(LONGEST_PAUSE) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_the_servers_speed() {
        let way = Duration::from_micros(100);
        let mut pacer = Pacer::new(Pace::Gentle, way);
        // 3 µs a key: rounds settle where they take the target.
        let per_key = |keys: usize, micros: u64| way + Duration::from_micros(keys as u64 * micros);
        for _ in 0..200 {
            pacer.learn(per_key(pacer.keys(), 3));
        }
        assert!((60..=120).contains(&pacer.keys()), "{}", pacer.keys());
        // The server becomes a thousand times slower: small rounds, and pauses.
        let mut pause = Duration::ZERO;
        for _ in 0..50 {
            pause = pacer.learn(per_key(pacer.keys(), 3000));
        }
        assert_eq!(pacer.keys(), FEWEST);
        assert_eq!(pause, Duration::from_millis(12));
        let mut full = Pacer::new(Pace::Full, way);
        for _ in 0..200 {
            assert_eq!(full.learn(per_key(full.keys(), 3)), Duration::ZERO);
        }
        assert_eq!(full.keys(), MOST);
    }
}
