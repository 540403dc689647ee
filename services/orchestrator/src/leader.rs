//! Takes the Lease, keeps it while the controllers run, and gives it back. Beside `apply.rs` and
//! `admission/keep.rs` the only file that writes to the cluster, and only the Lease.
//!
//! Who loses it stops at once, without finishing anything: another one acts by then, and every pass can be repeated. Who
//! waits for it is alive and not ready, so that callers reach the one that acts.

use std::{future::Future, sync::Arc};

use chrono::{DateTime, Utc};
use coffer_runtime::{Runtime, fault};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, api::PostParams};
use parking_lot::Mutex;

use crate::{
    context::Context,
    lease::{self, Rules, Sight, Step},
};

/// Whether this process may write. Clones tell the same.
#[derive(Clone)]
pub struct Leadership(Arc<Mutex<Term>>);

enum Term {
    /// There is no Lease: nobody else is there.
    Unbounded,
    /// Until then, unless it is renewed.
    Until(DateTime<Utc>),
}

impl Leadership {
    /// Of a process that is alone, or of one that does not hold the Lease yet.
    #[must_use]
    pub fn new(rules: Option<&Rules>) -> Self {
        let term = rules.map_or(Term::Unbounded, |_| Term::Until(DateTime::<Utc>::MIN_UTC));
        Self(Arc::new(Mutex::new(term)))
    }

    /// May it write at this instant?
    #[must_use]
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        match *self.0.lock() {
            Term::Unbounded => true,
            Term::Until(end) => now < end,
        }
    }

    fn extend(&self, end: DateTime<Utc>) {
        *self.0.lock() = Term::Until(end);
    }
}

/// How leading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As it should: the work is done, or was never begun.
    Done,
    /// The Lease is another's, or could not be renewed.
    Lost,
}

/// Does the work while it holds the Lease; without one, just does it.
pub async fn lead(ctx: &Context, runtime: &Runtime, work: impl Future<Output = ()>) -> End {
    let Some(rules) = ctx.settings.lease.clone() else {
        work.await;
        return End::Done;
    };
    let api = Api::namespaced(ctx.client.clone(), &rules.namespace);
    let office = Office { ctx, rules, api };
    let stop = runtime.shutdown.token();
    let mut sight = None;
    if stop.run_until_cancelled(office.campaign(&mut sight)).await.is_none() {
        return End::Done;
    }
    let identity = &office.rules.identity;
    tracing::info!(identity, "this orchestrator holds the Lease");
    tokio::select! {
        () = work => {
            office.resign().await;
            End::Done
        }
        () = office.hold(&mut sight) => {
            tracing::error!(identity, "the Lease was lost: this orchestrator stops");
            End::Lost
        }
    }
}

struct Office<'a> {
    ctx: &'a Context,
    rules: Rules,
    api: Api<Lease>,
}

impl Office<'_> {
    /// Waits until the Lease is ours.
    async fn campaign(&self, sight: &mut Option<Sight>) {
        loop {
            let now = self.ctx.clock.now();
            let again = match self.attempt(sight, now).await {
                Ok(None) => return,
                Ok(Some(again)) => again,
                Err(error) => {
                    let error = fault::chain(&error);
                    tracing::warn!(error, lease = self.rules.name, "the Lease cannot be taken");
                    now + self.rules.pause()
                }
            };
            self.ctx.clock.sleep_until(again).await;
        }
    }

    /// Renews the Lease; returns when it is lost.
    async fn hold(&self, sight: &mut Option<Sight>) {
        loop {
            let now = self.ctx.clock.now();
            self.ctx.clock.sleep_until(now + self.rules.pause()).await;
            let now = self.ctx.clock.now();
            match self.attempt(sight, now).await {
                // Also when somebody else wrote it first: it is ours until our time is over.
                Ok(None | Some(_)) => {}
                Err(error) => {
                    let error = fault::chain(&error);
                    tracing::warn!(error, lease = self.rules.name, "the Lease cannot be renewed");
                }
            }
            if !self.ctx.leadership.holds(self.ctx.clock.now()) {
                return;
            }
        }
    }

    /// One look at the Lease: none when it is ours now, else when to look again.
    async fn attempt(
        &self,
        sight: &mut Option<Sight>,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, kube::Error> {
        let Rules { name, .. } = &self.rules;
        let found = self.api.get_opt(name).await?;
        let params = PostParams::default();
        let written = match lease::decide(found.as_ref(), sight, &self.rules, now) {
            Step::Wait(again) => return Ok(Some(again)),
            Step::Create(lease) => self.api.create(&params, &lease).await,
            Step::Replace(lease) => self.api.replace(name, &params, &lease).await,
        };
        match written {
            Ok(_) => {
                self.ctx.leadership.extend(self.rules.valid_until(now));
                Ok(None)
            }
            // Somebody else was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Ok(Some(now + self.rules.pause()))
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the Lease back, so that the next one need not wait for its end.
    async fn resign(&self) {
        self.ctx.leadership.extend(DateTime::<Utc>::MIN_UTC);
        let Ok(Some(lease)) = self.api.get_opt(&self.rules.name).await else { return };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
        if holder == Some(&self.rules.identity) {
            let free = lease::released(lease);
            let written = self.api.replace(&self.rules.name, &PostParams::default(), &free).await;
            if let Err(error) = written {
                let error = fault::chain(&error);
                tracing::warn!(error, "the Lease is not given back and runs out by itself");
            }
        }
    }
}
