//! Threads that compute for all streams, and take what waits in the order it came.
//!
//! A thread that is done takes the next computation itself. Were it handed out by permits and tasks, three wake-ups
//! beside busy processors would lie between two computations, and the processors would be idle meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rayon_core::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Some threads, which begin with the first computation.
#[derive(Debug)]
pub(super) struct Crew {
    size: usize,
    threads: OnceLock<Result<ThreadPool, Arc<ThreadPoolBuildError>>>,
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug, thiserror::Error)]
#[error("the computation panicked")]
struct Panicked;

impl Crew {
    pub(super) fn new(size: usize) -> Self {
        Self { size, threads: OnceLock::new(), waiting: Arc::default() }
    }

    /// Whether a computation waits for a thread.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Runs `work` as soon as a thread is free.
    ///
    /// Dropping the future before the work began prevents it; once begun it runs to its end.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let threads = self.threads.get_or_init(|| start(self.size)).as_ref();
        let threads = threads.map_err(|refused| Error::internal(operation, Arc::clone(refused)))?;
        let (done, result) = oneshot::channel();
        let waiting = Arc::clone(&self.waiting);
        waiting.fetch_add(1, Ordering::Relaxed);
        threads.spawn_fifo(move || {
            waiting.fetch_sub(1, Ordering::Relaxed);
            if !done.is_closed() {
                // Nobody takes the result any more where the stream was given up meanwhile.
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        let result = result.await.map_err(|lost| Error::internal(operation, lost))?;
        result.map_err(|_| Error::internal(operation, Panicked))
    }
}

fn start(size: usize) -> Result<ThreadPool, Arc<ThreadPoolBuildError>> {
    let name = |at| format!("compute-{at}");
    ThreadPoolBuilder::new().num_threads(size).thread_name(name).build().map_err(Arc::new)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::FutureExt as _;
    use futures::future::join_all;
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn computations_run_in_the_order_they_came_and_not_if_nobody_waits() {
        let crew = Crew::new(1);
        let (open, gate) = mpsc::channel::<()>();
        let mut first = Box::pin(crew.run("wait", move || gate.recv()));
        assert!(first.as_mut().now_or_never().is_none());

        let order = Arc::new(Mutex::new(Vec::new()));
        let mut others = Vec::new();
        for number in 0..10 {
            let order = Arc::clone(&order);
            let mut other = Box::pin(crew.run("note", move || order.lock().push(number)));
            assert!(other.as_mut().now_or_never().is_none());
            others.push(other);
        }
        assert!(crew.is_wanted());
        drop(others.remove(3));
        open.send(()).unwrap();
        first.await.unwrap().unwrap();
        join_all(others).await;
        assert_eq!(*order.lock(), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
        assert!(!crew.is_wanted());
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_computation_alone() {
        let crew = Crew::new(1);
        let error = crew.run("divide", || [1][one()]).await.unwrap_err();
        assert!(error.to_string().contains("divide"), "{error}");
        assert_eq!(crew.run("add", || 1 + 1).await.unwrap(), 2);
    }

    /// Unknown to the compiler, which would refuse an index that is always out of bounds.
    fn one() -> usize {
        std::hint::black_box(1)
    }
}
