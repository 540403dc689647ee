//! Calls of any length, whose end is not a matter of time but of life: the server says something at least every
//! [`SPEAKS_EVERY`], and a client that hears nothing for [`SILENCE_LIMIT`] gives up. A deadline for the whole would cut off
//! the longest work, which then begins anew each time.

use crate::Clock;
use futures::{Stream, StreamExt as _};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tonic::Status;

/// A server at long work says something at least this often.
pub const SPEAKS_EVERY: Duration = Duration::from_secs(10);
/// Twelve times as long: a machine may be short of processors for a while.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(120);

/// The beginning of a call, or one of its answers.
///
/// # Errors
/// The call's own, and `DEADLINE_EXCEEDED` when nothing comes within [`SILENCE_LIMIT`].
pub async fn heard<T>(
    clock: &Clock,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    tokio::select! {
        biased;
        answer = answer => answer,
        () = clock.sleep(SILENCE_LIMIT) => Err(Status::deadline_exceeded(format!(
            "nothing was heard for {SILENCE_LIMIT:?}, and the call was given up; the service's log may tell why"
        ))),
    }
}

/// Reads answers until `result` finds one in them; dropping the future cancels the call.
///
/// # Errors
/// As [`heard`], and `INTERNAL` when the answers end before.
pub async fn last<T, R>(
    clock: &Clock,
    answers: impl Stream<Item = Result<T, Status>>,
    mut result: impl FnMut(T) -> Option<R>,
) -> Result<R, Status> {
    let mut answers = pin!(answers);
    while let Some(answer) = heard(clock, async { answers.next().await.transpose() }).await? {
        if let Some(result) = result(answer) {
            return Ok(result);
        }
    }
    Err(Status::internal("the call ended without a result"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use futures::stream;
    use tonic::Code;

    const ALMOST: Duration = Duration::from_secs(119);

    fn result(answer: u32) -> Option<u32> {
        (answer >= 100).then_some(answer)
    }

    #[tokio::test]
    async fn a_call_may_take_as_long_as_it_says_something() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let (sender, answers) = futures::channel::mpsc::unbounded();
        let mut reading = pin!(last(&clock, answers, result));
        for answer in 1..100 {
            assert!(futures::poll!(&mut reading).is_pending());
            clock.step(ALMOST);
            assert!(futures::poll!(&mut reading).is_pending());
            sender.unbounded_send(Ok(answer)).unwrap();
        }
        sender.unbounded_send(Ok(100)).unwrap();
        assert_eq!(reading.await.unwrap(), 100);
    }

    #[tokio::test]
    async fn silence_is_an_end() {
        let clock = Clock::stepped(DateTime::UNIX_EPOCH);
        let answers = stream::iter([Ok(1)]).chain(stream::pending());
        let mut reading = pin!(last(&clock, answers, result));
        assert!(futures::poll!(&mut reading).is_pending());
        clock.step(ALMOST);
        assert!(futures::poll!(&mut reading).is_pending());
        clock.step(SILENCE_LIMIT - ALMOST);
        let status = reading.await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    }

    #[tokio::test]
    async fn failures_and_early_ends_are_told() {
        let clock = Clock::real();
        let failing = stream::iter([Ok(1), Err(Status::data_loss("damaged"))]);
        assert_eq!(last(&clock, failing, result).await.unwrap_err().code(), Code::DataLoss);
        let short = stream::iter([Ok(1), Ok(2)]);
        assert_eq!(last(&clock, short, result).await.unwrap_err().code(), Code::Internal);
    }
}
