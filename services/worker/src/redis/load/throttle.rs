//! No more keys and bytes in a second than were asked for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What was not used may be caught up with for so long: a fifth of a second's worth at once.
const BURST: Duration = Duration::from_millis(200);

/// Rates, and when they allow the next key.
#[derive(Debug)]
pub(super) struct Throttle {
    keys_per_second: Option<u64>,
    bytes_per_second: Option<u64>,
    due: Instant,
}

impl Throttle {
    pub(super) fn new(keys_per_second: Option<u64>, bytes_per_second: Option<u64>) -> Self {
        Self { keys_per_second, bytes_per_second, due: Instant::now() }
    }

    /// Whether it has anything to say.
    pub(super) const fn is_set(&self) -> bool {
        self.keys_per_second.is_some() || self.bytes_per_second.is_some()
    }

    /// When a key of that size may go.
    fn next(&mut self, bytes: usize, now: Instant) -> Instant {
        let due = self.due.max(now.checked_sub(BURST).unwrap_or(now));
        let share = |rate: Option<u64>, amount: u64| {
            let nanos = rate.map_or(0, |rate| amount.saturating_mul(1_000_000_000) / rate.max(1));
            Duration::from_nanos(nanos)
        };
        let span = share(self.keys_per_second, 1).max(share(self.bytes_per_second, bytes as u64));
        self.due = due + span;
        due
    }

    /// Whether a key of that size has to wait, and until when.
    pub(super) fn wait_for(&mut self, bytes: usize) -> Option<Instant> {
        let now = Instant::now();
        Some(self.next(bytes, now)).filter(|due| *due > now)
    }

    pub(super) async fn until(due: Instant) {
        sleep_until(due).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_slower_of_both_rates_counts() {
        let start = Instant::now();
        let mut throttle = Throttle::new(Some(100), Some(1000));
        let mut last = start;
        // 50 keys of 100 bytes: 5000 bytes at 1000 a second, less the burst.
        for _ in 0..51 {
            last = throttle.next(100, start);
        }
        let span = last + BURST - start;
        assert!((span.as_secs_f64() - 5.0).abs() < 0.21, "{span:?}");
        // What was idle for long does not come back as a flood.
        let later = start + Duration::from_secs(60);
        assert!(throttle.next(100, later) >= later - BURST);
        assert!(!Throttle::new(None, None).is_set());
    }
}
