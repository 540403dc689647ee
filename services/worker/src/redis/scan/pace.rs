//! How many keys to ask for at a time, so that the server's other clients do not notice.
//!
//! A server has one thread for commands, and what a connection sends in one go it answers before it turns
//! to the next connection. So the time that a round of ours takes is what others wait at worst. The server
//! tells it (`TIME` before and behind the round); what we measure ourselves, less the way, would count our
//! own work and waiting for a processor. The next round is made larger or smaller by it; when the server
//! gets slower for whatever reason, the rounds get smaller, and at their smallest pauses are made.

use std::time::{Duration, Instant};

use coffer_rdb::resp::Reply;

use crate::options::Pace;
use crate::redis::{Client, Error};

/// A round of the gentle pace takes the server so long: well below the millisecond that other clients'
/// slowest requests may take, also when two rounds meet.
const GENTLE: Duration = Duration::from_micros(250);
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

    /// How long the server was busy, by its own clock or, where it does not tell, by ours.
    pub(super) fn busy(&self, told: [Option<Duration>; 2], took: Duration) -> Duration {
        let [begun, ended] = told;
        let by_its_clock = begun.zip(ended).and_then(|(begun, ended)| ended.checked_sub(begun));
        // A clock that stands still, or was set back, tells nothing.
        let by_its_clock = by_its_clock.filter(|busy| !busy.is_zero() && *busy <= took);
        by_its_clock.unwrap_or_else(|| took.saturating_sub(self.way))
    }

    /// Learns from a round of as many small keys as were allowed; gives the pause before the next.
    pub(super) fn learn(&mut self, busy: Duration) -> Duration {
        if busy <= self.target {
            self.keys = (self.keys + self.keys / 8 + 1).min(MOST);
            return Duration::ZERO;
        }
        let smallest = self.keys == FEWEST;
        self.keys = (self.keys - self.keys / 4).max(FEWEST);
        if smallest && self.target == GENTLE { busy.min(LONGEST_PAUSE) } else { Duration::ZERO }
    }
}

/// What `TIME` says, since 1970.
pub(super) fn time(reply: &Reply) -> Option<Duration> {
    let Reply::Array(Some(parts)) = reply else { return None };
    let number = |reply: &Reply| match reply {
        Reply::Bulk(Some(text)) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let [seconds, micros] = parts.as_slice() else { return None };
    Some(Duration::from_secs(number(seconds)?) + Duration::from_micros(number(micros)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_follow_the_servers_speed() {
        let way = Duration::from_micros(100);
        let mut pacer = Pacer::new(Pace::Gentle, way);
        // 3 µs a key: rounds settle where they take the target.
        let per_key = |keys: usize, micros: u64| Duration::from_micros(keys as u64 * micros);
        for _ in 0..200 {
            pacer.learn(per_key(pacer.keys(), 3));
        }
        assert!((50..=100).contains(&pacer.keys()), "{}", pacer.keys());
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

    #[test]
    fn the_servers_clock_counts_and_ours_only_without_it() {
        let pacer = Pacer::new(Pace::Gentle, Duration::from_micros(100));
        let at = |micros: u64| Some(Duration::from_micros(1_000_000 + micros));
        let took = Duration::from_micros(900);
        let busy = |told| pacer.busy(told, took).as_micros();
        assert_eq!(busy([at(10), at(260)]), 250);
        for told in [[None, at(260)], [at(260), at(260)], [at(260), at(10)], [at(0), at(5000)]] {
            assert_eq!(busy(told), 800, "{told:?}");
        }
        let reply = |parts: &[&'static str]| {
            let bulk = |text: &&'static str| Reply::Bulk(Some(text.as_bytes().into()));
            Reply::Array(Some(parts.iter().map(bulk).collect()))
        };
        assert_eq!(time(&reply(&["5", "7"])), Some(Duration::from_micros(5_000_007)));
        assert_eq!(time(&reply(&["5"])), None);
    }
}
