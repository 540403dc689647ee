//! The task that owns one lock from its first attempt to its deletion.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::handle::{Settled, State};
use super::{Locker, Look, Mode, locked_by, look, tell_of, write};
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::store::FileKind;

/// How often a lock file is written again that the listing does not show.
const UNSEEN_LIMIT: u32 = 3;
const UNSEEN: &str = "the store's listing does not show it, so that others could not see it either";
/// How many times as long as it takes to settle another lock is given to go away, at least.
const GIVES_WAY: u32 = 25;

pub(super) struct Holder {
    pub(super) locker: Locker,
    pub(super) mode: Mode,
    /// Whether a lock may be given out before it has settled.
    pub(super) early: bool,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) end: CancellationToken,
    /// Lock files of ours that a refresh could not delete.
    pub(super) leftovers: Vec<Id>,
}

impl Holder {
    pub(super) async fn run(
        mut self,
        ready: oneshot::Sender<Result<()>>,
        settled: watch::Sender<Settled>,
    ) {
        match self.obtain().await {
            Ok(known) => {
                settled.send_replace(known);
                // If nobody waits any more: on to the deletion.
                if ready.send(Ok(())).is_ok() {
                    if matches!(*settled.borrow(), Settled::NotYet) {
                        let known = self.settle().await;
                        settled.send_replace(known);
                    }
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

    /// Takes the lock, and tells whether it has settled or is still to.
    async fn obtain(&mut self) -> Result<Settled> {
        let timing = self.locker.timing;
        let started = Instant::now();
        let (mut retry, mut unseen) = (timing.first_retry, 0);
        let (mut told, mut cleared) = (None, None);
        loop {
            let looked = Clocks::now();
            let mut seen = look(&self.locker, self.mode, &self.leftovers).await?;
            if seen.conflict.is_none() {
                let id = self.write().await?;
                if self.early && looked.elapsed() < timing.settle {
                    return Ok(Settled::NotYet);
                }
                self.pause(timing.settle).await?;
                seen = self.look_again(id).await?;
                if seen.conflict.is_none() && seen.ours {
                    return Ok(Settled::Yes);
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
                    return Err(Error::LockLost { problem: UNSEEN.into() });
                }
                continue;
            };
            if other.stale && cleared.replace(other.id) != Some(other.id) {
                clear_stale(&self.locker).await;
                continue;
            }
            let waited = started.elapsed();
            let left = self.locker.wait.saturating_sub(waited);
            if left.is_zero() {
                return Err(locked_by(&other, waited));
            }
            tell_of(&self.locker, &other, &mut told);
            // Two of us that collided must not collide again in step.
            let jitter = retry.mul_f64(rand::random_range(0.75..1.25));
            self.pause(jitter.min(left)).await?;
            retry = (retry * 2).min(timing.max_retry);
        }
    }

    /// Looks the second time, while others work under the lock. Who is in the way came later than ours, and has to give
    /// way; he is waited for as long as for one who was there before. Where all is not as it should be, nothing that was
    /// done meanwhile is relied on.
    async fn settle(&mut self) -> Settled {
        let timing = self.locker.timing;
        let started = Instant::now();
        // No longer than a lock file is left without a refresh.
        let limit = self.locker.wait.max(timing.settle * GIVES_WAY).min(timing.refresh);
        let (mut pause, mut unseen) = (timing.settle, 0);
        let mut told = None;
        loop {
            let Some(id) = self.state.lock().current else { return Settled::NotYet };
            if self.pause(pause).await.is_err() {
                return Settled::NotYet;
            }
            let waited = started.elapsed();
            let looked = match self.look_again(id).await {
                Ok(Look { conflict: None, ours: true }) => return Settled::Yes,
                Ok(Look { conflict: Some(other), ours: true }) => {
                    tell_of(&self.locker, &other, &mut told);
                    // He should not have begun. Whether he has is for the store to say.
                    self.state.lock().removed_by_others = true;
                    if waited >= limit {
                        return Settled::Refused(Box::new(other), waited);
                    }
                    Ok(())
                }
                Ok(Look { ours: false, .. }) => {
                    unseen += 1;
                    if unseen == UNSEEN_LIMIT {
                        return Settled::Lost(UNSEEN.into());
                    }
                    self.state.lock().removed_by_others = true;
                    self.refresh().await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = looked {
                if waited >= limit {
                    return Settled::Failed(error.chain(), error.kind());
                }
                // It may do so later.
                let error = error.chain();
                tracing::warn!(error, "the store does not tell whether the repository lock stands");
            }
            pause = (pause * 2).min(timing.max_retry);
        }
    }

    async fn write(&self) -> Result<Id> {
        let id = write(&self.locker.vault, &self.locker.identity, self.mode).await?;
        let mut state = self.state.lock();
        state.current = Some(id);
        state.refreshed = Utc::now();
        Ok(id)
    }

    async fn look_again(&self, id: Id) -> Result<Look> {
        let ours: Vec<Id> = self.leftovers.iter().copied().chain([id]).collect();
        look(&self.locker, self.mode, &ours).await
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
        let timing = self.locker.timing;
        let mut due = Instant::now() + timing.refresh;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            let pause = if self.mode == Mode::Exclusive { left.min(timing.watch) } else { left };
            if self.pause(pause).await.is_err() {
                return;
            }
            if Instant::now() < due {
                self.watch().await;
                continue;
            }
            due = Instant::now();
            match self.refresh().await {
                Ok(()) => due += timing.refresh,
                Err(error) => {
                    let problem = error.chain();
                    tracing::warn!(error = problem, "could not refresh the repository lock");
                    self.state.lock().last_problem = Some(problem);
                    // It is tried again sooner.
                    due += timing.refresh / 10;
                }
            }
        }
    }

    /// Looks whether our file stands. What is deleted under a lock that others have removed may be what they need.
    async fn watch(&self) {
        let Some(id) = self.state.lock().current else { return };
        match self.locker.vault.store.exists(&FileKind::Lock.name(&id)).await {
            Ok(stands) => self.state.lock().removed_by_others |= !stands,
            // Whether it is still to be relied upon shows at the next refresh.
            Err(error) => tracing::debug!(error = error.chain(), "could not look for our lock"),
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

/// Nobody would remove it else, and every backup or every prune would wait for it in vain.
async fn clear_stale(locker: &Locker) {
    match super::remove(locker, false).await {
        Ok(0) => {}
        Ok(removed) => tracing::warn!(removed, "removed stale repository locks"),
        Err(error) => tracing::warn!(error = error.chain(), "stale repository locks stay"),
    }
}

/// A moment by both clocks: one stands still with a suspended machine, the other can be set back.
struct Clocks(Instant, DateTime<Utc>);

impl Clocks {
    fn now() -> Self {
        Self(Instant::now(), Utc::now())
    }

    /// The longer of both.
    fn elapsed(&self) -> Duration {
        let by_the_wall = Utc::now().signed_duration_since(self.1).to_std();
        self.0.elapsed().max(by_the_wall.unwrap_or(Duration::MAX))
    }
}
