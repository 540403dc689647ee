//! A lock as those see it who work under it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::holder::Holder;
use super::{LockInfo, Locker, Mode, locked_by};
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::store::FileKind;

/// How long a release may take before we leave the lock to its staleness.
const RELEASE_LIMIT: Duration = Duration::from_secs(60);

/// A lock we hold. Dropping it has its file deleted soon; [`Lock::release`] waits for that.
#[derive(Debug)]
pub(crate) struct Lock {
    watch: LockWatch,
    end: DropGuard,
    task: JoinHandle<()>,
}

/// Whether a lock kept others out since it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continuity {
    Unbroken,
    /// Perhaps not: an exclusive operation may have run meanwhile.
    Broken,
}

/// A view of a held lock, for those who must not write once it is lost.
#[derive(Clone, Debug)]
pub(crate) struct LockWatch {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) settled: watch::Receiver<Settled>,
    mode: Mode,
    give_up: TimeDelta,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) current: Option<Id>,
    pub(super) refreshed: DateTime<Utc>,
    /// Somebody removed it, or it may not have kept others out.
    pub(super) removed_by_others: bool,
    pub(super) last_problem: Option<String>,
}

/// What came of the second look, a while after the lock file was written.
#[derive(Clone, Debug)]
pub(super) enum Settled {
    NotYet,
    Yes,
    /// The other one did not give way in this time.
    Refused(Box<LockInfo>, Duration),
    Lost(String),
    Failed(String, Kind),
}

impl Settled {
    /// Fails if it is known, and not good.
    fn check(&self) -> Result<()> {
        match self {
            Self::NotYet | Self::Yes => Ok(()),
            Self::Refused(other, waited) => Err(locked_by(other, *waited)),
            Self::Lost(problem) => Err(Error::LockLost { problem: problem.clone() }),
            Self::Failed(reason, kind) => {
                Err(Error::Stopped { reason: reason.clone(), kind: *kind })
            }
        }
    }
}

impl LockWatch {
    /// Fails once the lock can no longer be relied upon. Who only adds may go on when somebody has removed it, and asks
    /// for the [`Continuity`] before the commit; who takes away may not.
    pub(crate) fn ensure_held(&self) -> Result<()> {
        self.settled.borrow().check()?;
        let state = self.state.lock();
        if self.mode == Mode::Exclusive && state.removed_by_others {
            let problem =
                "others removed it, and may be writing; nothing more was taken away".into();
            return Err(Error::LockLost { problem });
        }
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
    /// Takes a lock, waiting for conflicting ones as long as the locker says, and until it has settled.
    pub(crate) async fn acquire(locker: &Locker, mode: Mode) -> Result<Self> {
        Self::take(locker, mode, false).await
    }

    /// Takes a shared lock, and does not wait for it to settle where there is no need.
    ///
    /// A lock counts when, a while after its file was written, no conflicting one is seen. Whoever wants the repository
    /// for himself and wrote his file before our first look is seen by us in it; whoever did so later sees ours when he
    /// looks the second time, if it was there by then, and gives way. So a shared lock whose file follows the look at once
    /// keeps the others out from then on. Who commits asks for its [`continuity`](Self::continuity) all the same.
    pub(crate) async fn begin(locker: &Locker) -> Result<Self> {
        Self::take(locker, Mode::Shared, true).await
    }

    async fn take(locker: &Locker, mode: Mode, early: bool) -> Result<Self> {
        let end = CancellationToken::new();
        let state = Arc::new(Mutex::new(State {
            current: None,
            refreshed: Utc::now(),
            removed_by_others: false,
            last_problem: None,
        }));
        let (ready, is_ready) = oneshot::channel();
        let (settles, settled) = watch::channel(Settled::NotYet);
        let holder = Holder {
            locker: locker.clone(),
            mode,
            early,
            state: Arc::clone(&state),
            end: end.clone(),
            leftovers: Vec::new(),
        };
        let task = tokio::spawn(holder.run(ready, settles));
        let watch = LockWatch { state, settled, mode, give_up: locker.timing.give_up };
        let lock = Self { watch, end: end.drop_guard(), task };
        is_ready.await.map_err(|died| Error::internal("take a lock", died))??;
        Ok(lock)
    }

    /// Does `work` under a shared lock that was begun. If it fails, the lock is released.
    pub(crate) async fn begin_with<T>(
        locker: &Locker,
        work: impl Future<Output = Result<T>>,
    ) -> Result<(Self, T)> {
        let lock = Self::begin(locker).await?;
        match work.await {
            Ok(done) => Ok((lock, done)),
            // What comes next must not meet our lock.
            Err(error) => {
                lock.release().await;
                Err(error)
            }
        }
    }

    /// Waits for the second look.
    pub(crate) async fn settled(&self) -> Result<()> {
        let mut settled = self.watch.settled.clone();
        let known = settled.wait_for(|settled| !matches!(settled, Settled::NotYet)).await;
        known.map_err(|died| Error::internal("take a lock", died))?.check()
    }

    pub(crate) fn watch(&self) -> LockWatch {
        self.watch.clone()
    }

    /// Asks the store whether the lock stood all the time, once it has settled.
    pub(crate) async fn continuity(&self, locker: &Locker) -> Result<Continuity> {
        self.settled().await?;
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
