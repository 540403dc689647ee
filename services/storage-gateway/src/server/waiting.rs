//! Calls that may have to wait before they begin: who hears it is told what for, until they do.

use super::progress::{Answers, newest};
use coffer_restic::LockInfo;
use coffer_runtime::grpc::SPEAKS_EVERY;
use futures::{StreamExt as _, stream};
use std::future::Future;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tonic::Status;

/// A wait that is over by then is not worth a word. Well below what a worker gives a gateway that says nothing.
const WORTH_A_WORD: Duration = Duration::from_secs(1);
/// What is told of a call that has met no lock.
const OPENS: &str = "waiting for the storage-gateway to open the repository";

/// For whoever waits for locks, and for whoever tells of it.
pub(super) fn pair() -> (impl Fn(&LockInfo) + Send + Sync + 'static, watch::Receiver<String>) {
    let (words, waits) = watch::channel(OPENS.to_owned());
    let hear = move |lock: &LockInfo| {
        words.send_replace(format!("waiting for {lock}"));
    };
    (hear, waits)
}

/// The answers of a call: what it waits for, as long as it does, and then its own.
pub(super) fn told<T: Send + 'static>(
    begin: impl Future<Output = Result<Answers<T>, Status>> + Send + 'static,
    mut waits: watch::Receiver<String>,
    tell: fn(String) -> T,
) -> Answers<T> {
    waits.mark_changed();
    let first = Instant::now() + WORTH_A_WORD;
    let words = stream::unfold((waits, first), move |(mut waits, earliest)| async move {
        let word = newest(&mut waits, earliest, SPEAKS_EVERY).await;
        Some((Ok(tell(word)), (waits, Instant::now())))
    });
    let (begins, begun) = oneshot::channel();
    let begin = async move {
        // Whoever reads the words reads what comes behind them.
        let _ = begins.send(begin.await);
    };
    let own = stream::once(begun).flat_map(|begun| match begun {
        Ok(Ok(answers)) => answers,
        Ok(Err(refused)) => stream::iter([Err(refused)]).boxed(),
        Err(died) => {
            stream::iter([Err(Status::internal(format!("the call died: {died}")))]).boxed()
        }
    });
    words.take_until(begin).chain(own).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_is_told_until_the_call_begins() {
        let (_hear, waits) = pair();
        let (begins, begun) = oneshot::channel();
        let begin = async move {
            begun.await.unwrap();
            Ok(stream::iter([Ok("first".to_owned()), Err(Status::data_loss("second"))]).boxed())
        };
        let mut answers = told(begin, waits, |word| word);
        assert_eq!(answers.next().await.unwrap().unwrap(), OPENS);
        begins.send(()).unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap(), "first");
        assert_eq!(answers.next().await.unwrap().unwrap_err().message(), "second");
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn a_call_that_begins_or_is_refused_at_once_tells_nothing_before() {
        let (_hear, waits) = pair();
        let begin = async { Ok(stream::iter([Ok("own".to_owned())]).boxed()) };
        let answers: Vec<_> = told(begin, waits, |word| word).collect().await;
        assert!(matches!(&answers[..], [Ok(own)] if own == "own"), "{answers:?}");
        let (_hear, waits) = pair();
        let refused = async { Err(Status::not_found("no repository")) };
        let answers: Vec<_> = told(refused, waits, |word| word).collect().await;
        assert!(matches!(&answers[..], [Err(_)]), "{answers:?}");
    }
}
