//! How many keys to ask for at a time, so that the server's other clients do not notice.
//!
//! A server has one thread for commands, and what a connection sends in one go it answers before it turns
//! to the next connection. So the time that a round of ours takes is what others wait at worst, and twice that where the
//! next round already waits, too. The server tells it (`TIME` before and behind the round); what we measure ourselves,
//! less the way, would count our own work and waiting for a processor. From it follows what a key costs, on the average
//! of the last rounds, and from that the size of the next; when the server gets slower for whatever reason, the rounds
//! get smaller, and at their smallest pauses are made.

use std::time::{Duration, Instant};

use coffer_rdb::resp::Reply;

use crate::options::Pace;
use crate::redis::{Client, Error};

/// A round of the gentle pace takes the server so long: well below the millisecond that other clients' slowest requests
/// take.
const GENTLE: Duration = Duration::from_micros(400);
/// A round of the full pace: long enough that the way to the server does not count.
const FULL: Duration = Duration::from_millis(8);
/// Keys in a round.
const FEWEST: u32 = 4;
const MOST: u32 = 1024;
const FIRST: u32 = 32;
/// Rounds over which a key's cost is averaged, about.
const MEMORY: u32 = 16;
/// A round that took longer than so many times what was expected was held up by something else.
const OUTLIER: u32 = 4;
/// The way is measured so often.
const PROBES: usize = 5;
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Decides on the next round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pacer {
    pace: Pace,
    /// What a round is to take the server.
    target: Duration,
    /// From here to the server and back.
    way: Duration,
    /// What a key takes the server.
    cost: Duration,
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

    fn new(pace: Pace, way: Duration) -> Self {
        let target = match pace {
            Pace::Gentle => GENTLE,
            Pace::Full => FULL,
        };
        Self { pace, target, way, cost: target / FIRST }
    }

    /// Keys in the next round.
    pub(super) fn keys(&self) -> usize {
        let keys = self.target.as_nanos() / self.cost.as_nanos().max(1);
        u32::try_from(keys).unwrap_or(MOST).clamp(FEWEST, MOST) as usize
    }

    /// Rounds on their way. With two the server goes on while we take an answer apart, but whoever comes meanwhile may
    /// have to wait for both.
    pub(super) const fn in_flight(&self) -> usize {
        match self.pace {
            Pace::Gentle => 1,
            Pace::Full => 2,
        }
    }

    /// How long the server was busy, by its own clock or, where it does not tell, by ours.
    pub(super) fn busy(&self, told: [Option<Duration>; 2], took: Duration) -> Duration {
        let [begun, ended] = told;
        let by_its_clock = begun.zip(ended).and_then(|(begun, ended)| ended.checked_sub(begun));
        // A clock that stands still, or was set back, tells nothing.
        let by_its_clock = by_its_clock.filter(|busy| !busy.is_zero() && *busy <= took);
        by_its_clock.unwrap_or_else(|| took.saturating_sub(self.way))
    }

    /// Learns from a round of so many small keys; gives the pause before the next.
    pub(super) fn learn(&mut self, keys: usize, busy: Duration) -> Duration {
        let Some(cost) = u32::try_from(keys).ok().and_then(|keys| busy.checked_div(keys)) else {
            return Duration::ZERO;
        };
        let cost = cost.clamp(self.target / MOST, self.cost * OUTLIER);
        self.cost = (self.cost * (MEMORY - 1) + cost) / MEMORY;
        let smallest = self.keys() == FEWEST as usize && busy > self.target;
        if smallest && self.pace == Pace::Gentle { busy.min(LONGEST_PAUSE) } else { Duration::ZERO }
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
        let per_key = |keys: usize, micros: u64| Duration::from_micros(keys as u64 * micros);
        let round = |pacer: &mut Pacer, micros| {
            let keys = pacer.keys();
            pacer.learn(keys, per_key(keys, micros))
        };
        // 3 µs a key: rounds settle where they take the target.
        for _ in 0..200 {
            round(&mut pacer, 3);
        }
        let (settled, meant) = (pacer.keys(), (GENTLE.as_micros() / 3) as usize);
        assert!(settled.abs_diff(meant) <= meant / 20, "{settled}");
        // One that was held up is no reason to go slower for long.
        pacer.learn(settled, Duration::from_millis(20));
        assert!(pacer.keys() > settled * 3 / 4, "{}", pacer.keys());
        // The server becomes a thousand times slower: small rounds, and pauses.
        let mut pause = Duration::ZERO;
        for _ in 0..200 {
            pause = round(&mut pacer, 3000);
        }
        assert_eq!(pacer.keys(), FEWEST as usize);
        assert_eq!(pause, Duration::from_millis(12));
        let mut full = Pacer::new(Pace::Full, way);
        for _ in 0..200 {
            assert_eq!(round(&mut full, 3), Duration::ZERO);
        }
        assert_eq!(full.keys(), MOST as usize);
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
