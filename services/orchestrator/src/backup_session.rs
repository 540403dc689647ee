//! BackupSession: one backup, from `Pending` to an end that is always reached.
//!
//! ```text
//!  Pending ── skipped? wait for others? prepare ──▶ Job ──▶ Running ── outcome, death, deadline, cancel ──▶ host settled
//!     decide.rs                     start.rs                          follow.rs                                │
//!                                                                                                              ▼
//!  final ◀── MetricsPushed ◀── history ◀── repository figures ◀── integrity ◀── retention (one call a pass) ── finish.rs
//! ```
//!
//! Every step leaves a condition and is skipped when it is there, so a restart at any instant goes on where it was.

pub mod batch;
pub mod decide;
pub mod draft;
pub mod finish;
pub mod follow;
pub mod gather;
pub mod hooks;
pub mod launch;
pub mod start;

use coffer_api::{BackupSession, names};
use kube::ResourceExt;

use crate::{
    apply,
    context::{Context, Error},
    plan::{Action, Child, Requeue},
    queue::{Kind, Turn},
};

use decide::Stage;

/// One pass over a BackupSession.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &BackupSession) -> Result<Requeue, Error> {
    if decide::stage(object) == Stage::Waiting {
        let invoker = &object.spec.invoker;
        let name = (object.namespace().unwrap_or_default(), invoker.name.clone());
        ctx.rush.over(&invoker.kind, &name).await;
    }
    let invoker = gather::invoker(ctx, object).await?;
    let old = object.status.as_ref();
    let mut object = object.clone();
    let written = object.clone();
    let passed = Box::pin(targets(ctx, &mut object, &invoker)).await;
    // Also what was done before something failed.
    if let Some(status) = &object.status {
        apply::status(ctx, &written, old, status).await?;
    }
    passed
}

/// A pass over each target that is not settled, as far as their order allows; or one over the session as a whole.
async fn targets(
    ctx: &Context,
    object: &mut BackupSession,
    invoker: &gather::Facts,
) -> Result<Requeue, Error> {
    let (members, sequential) =
        invoker.batch.as_ref().map_or((1, true), |batch| (batch.members.len(), batch.sequential));
    // A member that was taken out of the batch meanwhile has its Job all the same.
    let count = members.max(object.status.as_ref().map_or(0, |status| status.targets.len()));
    let whole = matches!(decide::stage(object), Stage::Settled | Stage::Final);
    let mut requeue = Requeue::OnChange;
    for at in 0..if whole { 1 } else { count.max(1) } {
        // Boxed: what a session reads is large, and every controller task would carry room for it.
        let facts = Box::pin(gather::gather(ctx, object, invoker, at)).await?;
        if let Requeue::At(instant) = Box::pin(pass(ctx, object, &facts)).await? {
            requeue = requeue.or_at(instant);
        }
        let status = object.status.as_ref();
        let target = status.and_then(|status| status.targets.get(at));
        // Settled, and its hook was run: the next one may begin. If that is still to come, the next pass sees to it.
        let owes = |status| hooks::after(object, status, &facts, at, ctx.clock.now()).is_some();
        let over = decide::target_stage(target) == Stage::Settled && !status.is_some_and(owes);
        let waits = decide::stage_of(status) == Stage::Waiting && !hooks::begun(status);
        let ended = matches!(decide::stage_of(status), Stage::Settled | Stage::Final);
        if ended || waits || (sequential && !over) {
            break;
        }
    }
    Ok(requeue)
}

/// One pass; the status that comes of it is the object's, and not written yet.
async fn pass(
    ctx: &Context,
    object: &mut BackupSession,
    facts: &gather::Facts,
) -> Result<Requeue, Error> {
    let plan = decide::decide(object, facts, ctx.clock.now(), &ctx.settings);
    if let Err(error) = apply::actions(ctx, object, &plan.actions).await {
        if !error.is_refusal() || !plan.actions.iter().any(decide::is_start) {
            return Err(error);
        }
        // The API server will refuse the same Job again: the session ends, saying why. What was made for it goes.
        let job = names::backup_job(&object.name_any(), facts.at);
        let secret = Child {
            namespace: object.namespace().unwrap_or_default(),
            name: names::session_secret(&job),
        };
        apply::actions(ctx, object, &[Action::DeleteSecret(secret)]).await?;
        object.status = Some(start::refused(object, facts, &error.describe(), ctx.clock.now()));
        ctx.turns.leave(Kind::Backup, object, facts.at);
        return Ok(Requeue::OnChange);
    }
    let mut status = plan.status;
    if let Some(call) = &plan.call {
        let answer = Box::pin(apply::call(ctx, object, call)).await;
        status = Some(finish::record(object, facts, call, &answer, ctx.clock.now()));
    }
    if status.is_some() {
        object.status = status;
    }
    let status = object.status.as_ref();
    if matches!(decide::stage_of(status), Stage::Settled | Stage::Final) {
        ctx.turns.forget(Kind::Backup, &object.namespace().unwrap_or_default(), &object.name_any());
        return Ok(plan.requeue);
    }
    let target = status.and_then(|status| status.targets.get(facts.at));
    match decide::target_stage(target) {
        Stage::Started => ctx.turns.hold(Kind::Backup, object, facts.at, facts.place.clone()),
        // A hook was run for it, and its Job comes next; or it is in line.
        Stage::Waiting if hooks::begun(status) => {}
        Stage::Waiting if matches!(facts.turn, Some(Turn::Wait(_))) => {}
        // It waits for something else, and others go first; or it is done.
        Stage::Waiting | Stage::Settled | Stage::Final => {
            ctx.turns.leave(Kind::Backup, object, facts.at);
        }
    }
    Ok(plan.requeue)
}

/// A name as a label's value, which has 63 characters at most.
#[must_use]
pub fn label(name: &str) -> &str {
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.', '_'])
}
