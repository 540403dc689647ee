//! Waiting for a condition: no test sleeps for a time that somebody guessed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `probe` until it gives something, at most for `limit`. An error of the probe ends the wait at once.
///
/// # Errors
/// When the limit passes, naming `what`, or when the probe fails.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(value) = probe().await? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain until {what}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
