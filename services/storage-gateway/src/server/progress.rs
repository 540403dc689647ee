//! Long operations as streams of answers: how far it is, then the result.
//!
//! The work is a task of its own, so that a client that does not read holds nothing up, least of all a lock; it ends with
//! the stream, however that ends.

use coffer_restic::{Observer, Progress, Unit};
use coffer_runtime::grpc::SPEAKS_EVERY;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Response, Status};

/// Answers about progress come at most this often.
const EVERY: Duration = Duration::from_millis(200);

/// What is told of work that has told nothing yet: it may wait for somebody else's lock.
const BEGUN: Progress = Progress { step: "begin", done: 0, total: 0, unit: Unit::Items };

pub(super) type Answers<T> = BoxStream<'static, Result<T, Status>>;

struct Work<T> {
    task: JoinSet<Result<T, Status>>,
    changes: watch::Receiver<Progress>,
    next: Instant,
}

/// Runs `work`, which is given an observer. Of many changes, only the newest is told, and again while there is no other:
/// whoever listens must know that we are there.
pub(super) fn watched<T, W>(
    work: impl FnOnce(Observer) -> W,
    tell: fn(Progress) -> T,
) -> Response<Answers<T>>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    watched_at(SPEAKS_EVERY, work, tell)
}

fn watched_at<T, W>(
    speaks_every: Duration,
    work: impl FnOnce(Observer) -> W,
    tell: fn(Progress) -> T,
) -> Response<Answers<T>>
where
    T: Send + 'static,
    W: Future<Output = Result<T, Status>> + Send + 'static,
{
    let (sender, changes) = watch::channel(BEGUN);
    let observer = Observer::new(move |progress| {
        sender.send_replace(progress);
    });
    let mut task = JoinSet::new();
    task.spawn(work(observer));
    let work = Work { task, changes, next: Instant::now() };
    let answers = futures::stream::unfold(Some(work), move |work| async move {
        let mut work = work?;
        tokio::select! {
            biased;
            Some(done) = work.task.join_next() => {
                let done = done.unwrap_or_else(|died| Err(Status::internal(format!("the operation died: {died}"))));
                Some((done, None))
            }
            progress = newest(&mut work.changes, work.next, speaks_every) => {
                work.next = Instant::now() + EVERY;
                Some((Ok(tell(progress)), Some(work)))
            }
        }
    });
    Response::new(answers.boxed())
}

/// The next change, but not before `earliest`; after a while without, the last one.
pub(super) async fn newest<T: Clone>(
    changes: &mut watch::Receiver<T>,
    earliest: Instant,
    at_least_every: Duration,
) -> T {
    tokio::time::sleep_until(earliest).await;
    let change = async {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    // Either way there is one to tell.
    let _ = tokio::time::timeout(at_least_every, change).await;
    changes.borrow_and_update().clone()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::sync::Notify;

    fn tell(progress: Progress) -> String {
        format!("{} of {}", progress.done, progress.total)
    }

    fn count(observer: &Observer, done: u64) {
        let unit = coffer_restic::Unit::Items;
        observer.tell(Progress { step: "count", done, total: 100, unit });
    }

    #[tokio::test]
    async fn the_newest_change_and_then_the_result() {
        let told = Arc::new(Notify::new());
        let go_on = told.clone();
        let work = |observer: Observer| async move {
            count(&observer, 1);
            go_on.notified().await;
            // More than anybody wants to be told.
            for done in 2..=100 {
                count(&observer, done);
            }
            Ok("done".to_owned())
        };
        let mut answers = watched(work, tell).into_inner();
        assert_eq!(answers.next().await.unwrap().unwrap(), "1 of 100");
        told.notify_one();
        let rest: Vec<String> = answers.map(Result::unwrap).collect().await;
        assert_eq!(rest, ["done"]);
    }

    #[tokio::test]
    async fn something_is_said_while_nothing_happens() {
        for forgets_the_observer in [false, true] {
            let work = |observer: Observer| async move {
                count(&observer, 7);
                let _kept = (!forgets_the_observer).then_some(observer);
                std::future::pending().await
            };
            let answers = watched_at(Duration::from_millis(1), work, tell).into_inner();
            let told: Vec<String> = answers.take(4).map(Result::unwrap).collect().await;
            assert_eq!(told[1..], ["7 of 100"; 3]);
        }
        let waits = |_: Observer| std::future::pending();
        let answers = watched_at(Duration::from_millis(1), waits, |progress| progress.step);
        let told: Vec<_> = answers.into_inner().take(2).map(Result::unwrap).collect().await;
        assert_eq!(told, ["begin", "begin"]);
    }

    #[tokio::test]
    async fn the_work_ends_with_the_stream() {
        let (alive, mut ended) = tokio::sync::mpsc::channel::<()>(1);
        let work = |_| async move {
            let _alive = alive;
            std::future::pending::<Result<String, Status>>().await
        };
        let mut answers = watched(work, tell).into_inner();
        assert!(futures::poll!(answers.next()).is_pending());
        drop(answers);
        assert!(ended.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_holds_nothing_up() {
        let (sender, ended) = tokio::sync::oneshot::channel();
        let work = |observer: Observer| async move {
            count(&observer, 1);
            sender.send(()).unwrap();
            Ok("done".to_owned())
        };
        let answers = watched(work, tell).into_inner();
        ended.await.unwrap();
        drop(answers);
    }
}
