//! The task that owns one lock from its first attempt to its deletion.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Locker, Mode, locked_by, look, write};
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::store::FileKind;

/// How long a release may take before we leave the lock to its staleness.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);
/// How often a lock file is written again that the listing does not show.
const UNSEEN_LIMIT: u32 = 3;

/// A lock we hold. Dropping it has its file deleted soon; [`Lock::release`] waits for that.
#[derive(Debug)]
pub(crate) struct Lock {
    watch: LockWatch,
    end: DropGuard,
    task: JoinHandle<()>,
}

/// Whether a lock stood without a gap since it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    Unbroken,
    /// Somebody removed it: an exclusive operation may have run meanwhile.
    Broken,
}

/// A view of a held lock, for those who must not write once it is lost.
#[derive(Clone, Debug)]
pub(crate) struct LockWatch {
    state: Arc<Mutex<State>>,
    give_up: TimeDelta,
}

#[derive(Debug)]
struct State {
    current: Option<Id>,
    refreshed: DateTime<Utc>,
    removed_by_others: bool,
    last_problem: Option<String>,
}

impl LockWatch {
    /// Fails once the lock can no longer be relied upon.
    pub(crate) fn ensure_held(&self) -> Result<()> {
        let state = self.state.lock();
        let age = Utc::now().signed_duration_since(state.refreshed);
        if age <= self.give_up {
            return Ok(());
        }
        let cause = state.last_problem.as_deref().unwrap_or("the process was suspended");
        let problem = format!("it was not refreshed for {} minutes ({cause})", age.num_minutes());
        Err(Error::LockLost { problem })
    }
}

impl Lock {
    /// Takes a lock, waiting for conflicting ones as long as the locker says.
    pub(crate) async fn acquire(locker: &Locker, mode: Mode) -> Result<Self> {
        Ok(Self::acquire_while(locker, mode, async || Ok(())).await?.0)
    }

    /// Like [`acquire`](Self::acquire), with something to do meanwhile that needs the lock.
    ///
    /// A lock file counts only when, a while after it was written, no conflicting one has turned up. In
    /// that time nobody else can have worked either: his file was there first, and we fail; or it was
    /// not, and he does. So what is read in that time is as good as what is read later, and `work` begins
    /// with the writing of the file. It is done again if the attempt failed that it began with.
    pub(crate) async fn acquire_while<T, W>(
        locker: &Locker,
        mode: Mode,
        work: impl Fn() -> W,
    ) -> Result<(Self, T)>
    where
        W: Future<Output = Result<T>>,
    {
        let end = CancellationToken::new();
        let state = Arc::new(Mutex::new(State {
            current: None,
            refreshed: Utc::now(),
            removed_by_others: false,
            last_problem: None,
        }));
        let (ready, mut is_ready) = oneshot::channel();
        let (written, mut is_written) = watch::channel(0);
        let holder = Holder {
            locker: locker.clone(),
            mode,
            state: Arc::clone(&state),
            end: end.clone(),
            leftovers: Vec::new(),
        };
        let task = tokio::spawn(holder.run(ready, written));
        let watch = LockWatch { state, give_up: locker.timing.give_up };
        let lock = Self { watch, end: end.drop_guard(), task };
        let mut done = None;
        let attempt = loop {
            tokio::select! {
                biased;
                taken = &mut is_ready => {
                    break taken.map_err(|died| Error::internal("take a lock", died))??;
                }
                Ok(()) = is_written.changed() => {
                    let attempt = *is_written.borrow_and_update();
                    done = Some((attempt, work().await));
                }
            }
        };
        let done = match done {
            Some((with, done)) if with == attempt => done,
            _ => work().await,
        };
        match done {
            Ok(done) => Ok((lock, done)),
            // What comes next must not meet our lock.
            Err(error) => {
                lock.release().await;
                Err(error)
            }
        }
    }

    pub(crate) fn watch(&self) -> LockWatch {
        self.watch.clone()
    }

    /// Asks the store whether the lock stood all the time.
    pub(crate) async fn continuity(&self, locker: &Locker) -> Result<Continuity> {
        self.watch.ensure_held()?;
        // A refresh may replace the file between the two steps: then ask for the new one.
        loop {
            let (current, removed) = {
                let state = self.watch.state.lock();
                (state.current, state.removed_by_others)
            };
            let Some(id) = current.filter(|_| !removed) else { return Ok(Continuity::Broken) };
            if locker.vault.store.exists(&FileKind::Lock.name(&id)).await? {
                return Ok(Continuity::Unbroken);
            }
            if self.watch.state.lock().current == Some(id) {
                return Ok(Continuity::Broken);
            }
        }
    }

    /// Deletes the lock and waits until that is done. A lock that cannot be deleted is logged: the
    /// work it guarded is done, and it turns stale by itself.
    pub(crate) async fn release(self) {
        let Self { watch: _, end, task } = self;
        drop(end);
        if tokio::time::timeout(RELEASE_LIMIT, task).await.is_err() {
            tracing::warn!("the repository lock is not released yet; the store does not answer");
        }
    }
}

/// Does `work` and then releases the lock, so that whoever comes next does not meet it.
pub(crate) async fn during<T>(
    lock: Option<Lock>,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let done = work.await;
    if let Some(lock) = lock {
        lock.release().await;
    }
    done
}

struct Holder {
    locker: Locker,
    mode: Mode,
    state: Arc<Mutex<State>>,
    end: CancellationToken,
    /// Lock files of ours that a refresh could not delete.
    leftovers: Vec<Id>,
}

impl Holder {
    async fn run(mut self, ready: oneshot::Sender<Result<u32>>, written: watch::Sender<u32>) {
        match self.obtain(written).await {
            // Nobody waits any more: fall through to the deletion.
            Ok(attempt) => {
                if ready.send(Ok(attempt)).is_ok() {
                    self.keep().await;
                }
            }
            Err(error) => drop(ready.send(Err(error))),
        }
        let current = self.state.lock().current.take();
        for id in self.leftovers.drain(..).chain(current) {
            if let Err(error) = self.locker.vault.store.delete(&FileKind::Lock.name(&id)).await {
                tracing::warn!(lock = %id, error = error.chain(), "could not delete our lock");
            }
        }
    }

    /// Takes the lock; gives the number of the attempt that succeeded.
    async fn obtain(&mut self, written: watch::Sender<u32>) -> Result<u32> {
        let timing = self.locker.timing;
        let started = Instant::now();
        let (mut retry, mut attempt, mut unseen) = (timing.first_retry, 0, 0);
        loop {
            let mut seen = look(&self.locker, self.mode, &self.leftovers).await?;
            if seen.conflict.is_none() {
                let id = write(&self.locker.vault, &self.locker.identity, self.mode).await?;
                {
                    let mut state = self.state.lock();
                    state.current = Some(id);
                    state.refreshed = Utc::now();
                }
                attempt += 1;
                written.send_replace(attempt);
                self.pause(timing.settle).await?;
                let ours: Vec<Id> = self.leftovers.iter().copied().chain([id]).collect();
                seen = look(&self.locker, self.mode, &ours).await?;
                if seen.conflict.is_none() && seen.ours {
                    return Ok(attempt);
                }
                self.state.lock().current = None;
                self.discard(id).await?;
            }
            let Some(other) = seen.conflict else {
                // Somebody removed our file at once, or the store shows less than it has. Either way
                // others cannot see it: we lock again, and do not rely on what came before.
                self.state.lock().removed_by_others = true;
                unseen += 1;
                if unseen == UNSEEN_LIMIT {
                    let problem = "the store's listing does not show it, so that others could not \
                                   see it either";
                    return Err(Error::LockLost { problem: problem.into() });
                }
                continue;
            };
            let waited = started.elapsed();
            let left = self.locker.wait.saturating_sub(waited);
            if left.is_zero() {
                return Err(locked_by(&other, waited));
            }
            tracing::debug!(holder = other.hostname, "waiting for a repository lock");
            // Two of us that collided must not collide again in step.
            let jitter = retry.mul_f64(rand::random_range(0.75..1.25));
            self.pause(jitter.min(left)).await?;
            retry = (retry * 2).min(timing.max_retry);
        }
    }

    /// Deletes a lock file of ours. One that the store lets nobody delete stays, and is ours to
    /// overlook.
    async fn discard(&mut self, id: Id) -> Result<()> {
        match self.locker.vault.store.delete(&FileKind::Lock.name(&id)).await {
            Err(error) if error.kind() == Kind::Denied => {
                self.leftovers.push(id);
                Ok(())
            }
            result => result,
        }
    }

    async fn pause(&self, duration: Duration) -> Result<()> {
        tokio::select! {
            () = self.end.cancelled() => {
                Err(Error::LockLost { problem: "whoever asked for it has left".into() })
            }
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }

    async fn keep(&mut self) {
        // A failed refresh is tried again sooner.
        let soon = self.locker.timing.refresh / 10;
        let mut next = self.locker.timing.refresh;
        while self.pause(next).await.is_ok() {
            next = match self.refresh().await {
                Ok(()) => self.locker.timing.refresh,
                Err(error) => {
                    let problem = error.chain();
                    tracing::warn!(error = problem, "could not refresh the repository lock");
                    self.state.lock().last_problem = Some(problem);
                    soon
                }
            };
        }
    }

    /// Replaces our lock file by a new one. A file that somebody removed is noted and replaced all
    /// the same: from then on we are protected again.
    async fn refresh(&mut self) -> Result<()> {
        let vault = &self.locker.vault;
        let Some(old) = self.state.lock().current else { return Ok(()) };
        let stood = vault.store.exists(&FileKind::Lock.name(&old)).await?;
        let new = write(vault, &self.locker.identity, self.mode).await?;
        {
            let mut state = self.state.lock();
            state.current = Some(new);
            // A refresh that comes too late must not hide that others could have called us stale.
            let late = Utc::now().signed_duration_since(state.refreshed) > super::STALE_AFTER;
            state.removed_by_others |= !stood || late;
            state.refreshed = Utc::now();
            state.last_problem = None;
        }
        for id in std::mem::take(&mut self.leftovers).into_iter().chain([old]) {
            // The new file stands, whatever becomes of the old one: it is tried again next time.
            if let Err(error) = self.locker.vault.store.delete(&FileKind::Lock.name(&id)).await {
                tracing::debug!(lock = %id, error = error.chain(), "an old lock file stays");
                self.leftovers.push(id);
            }
        }
        Ok(())
    }
}
