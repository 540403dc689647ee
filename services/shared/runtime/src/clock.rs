//! The time, as something that is passed in. Tests step it; nobody else calls `Utc::now` or sleeps.

use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio::sync::watch;

/// The longest real sleep in one piece, so that a wall clock that is set forward is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// Tells the time and waits for it. Clones tell the same time.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Real,
    Stepped(watch::Sender<DateTime<Utc>>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real)
    }

    /// A clock that stands at `start` until it is stepped.
    #[must_use]
    pub fn stepped(start: DateTime<Utc>) -> Self {
        Self(Source::Stepped(watch::Sender::new(start)))
    }

    /// The present instant.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            Source::Real => Utc::now(),
            Source::Stepped(now) => *now.borrow(),
        }
    }

    /// Moves a stepped clock forward and wakes whoever is due. The real clock is not moved.
    pub fn step(&self, by: Duration) {
        if let Source::Stepped(now) = &self.0 {
            now.send_modify(|now| *now += by);
        }
    }

    /// Waits until the given instant; returns at once when it has passed. Dropping the future stops waiting.
    pub async fn sleep_until(&self, instant: DateTime<Utc>) {
        match &self.0 {
            Source::Real => loop {
                let Ok(left) = (instant - Utc::now()).to_std() else { return };
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(LONGEST_NAP)).await;
            },
            Source::Stepped(now) => {
                let mut changes = now.subscribe();
                // `self` holds a sender, so the channel cannot close while we wait.
                let _ = changes.wait_for(|now| *now >= instant).await;
            }
        }
    }

    /// Waits for a span of this clock's time.
    pub async fn sleep(&self, span: Duration) {
        let instant = self.now().checked_add_signed(
            chrono::TimeDelta::from_std(span).unwrap_or(chrono::TimeDelta::MAX),
        );
        self.sleep_until(instant.unwrap_or(DateTime::<Utc>::MAX_UTC)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn stepping_wakes_sleepers_that_are_due() {
        let start = DateTime::UNIX_EPOCH;
        let clock = Clock::stepped(start);
        let mut early = Box::pin(clock.sleep(Duration::from_secs(10)));
        let mut late = Box::pin(clock.sleep(Duration::from_secs(11)));
        assert!((&mut early).now_or_never().is_none());
        assert!((&mut late).now_or_never().is_none());

        clock.clone().step(Duration::from_secs(10));
        early.await;
        assert!((&mut late).now_or_never().is_none());
        assert_eq!(clock.now(), start + Duration::from_secs(10));

        clock.step(Duration::from_secs(1));
        late.await;
        clock.sleep_until(start).await;
    }

    #[tokio::test]
    async fn the_real_clock_sleeps_for_real() {
        let clock = Clock::real();
        let before = clock.now();
        clock.sleep(Duration::from_millis(5)).await;
        assert!(clock.now() - before >= chrono::TimeDelta::milliseconds(5));
        clock.sleep_until(before).await;
    }
}
