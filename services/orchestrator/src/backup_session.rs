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

pub mod decide;
pub mod draft;
pub mod finish;
pub mod follow;
pub mod gather;
pub mod hooks;
pub mod start;

use coffer_api::{BackupSession, names};
use kube::ResourceExt;

use crate::{
    apply,
    context::{Context, Error},
    plan::{Action, Call, Child, Notice, Requeue},
    queue::{Kind, Turn},
};

use decide::Stage;

/// One pass over a BackupSession.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &BackupSession) -> Result<Requeue, Error> {
    // Boxed: what a session reads is large, and every controller task would carry room for it.
    let facts = Box::pin(gather::gather(ctx, object)).await?;
    let plan = decide::decide(object, &facts, ctx.clock.now(), &ctx.settings);
    let old = object.status.as_ref();
    if let Err(error) = apply::actions(ctx, object, &plan.actions).await {
        if !error.is_refusal() || !plan.actions.iter().any(decide::is_start) {
            return Err(error);
        }
        // The API server will refuse the same Job again: the session ends, saying why. What was made for it goes.
        let job = names::backup_job(&object.name_any(), 0);
        let secret = Child {
            namespace: object.namespace().unwrap_or_default(),
            name: names::session_secret(&job),
        };
        apply::actions(ctx, object, &[Action::DeleteSecret(secret)]).await?;
        let status = start::refused(object, &facts, &error.describe(), ctx.clock.now());
        apply::status(ctx, object, old, &status).await?;
        ctx.turns.leave(Kind::Backup, object);
        return Ok(Requeue::OnChange);
    }
    let mut status = plan.status;
    if let Some(call) = &plan.call {
        let answer = apply::call(ctx, call).await;
        if let (Call::Hook(hook), Err(why)) = (call, &answer) {
            let reason = hook.moment.condition().failed;
            let notice = Notice { warning: true, reason, message: why.clone() };
            apply::actions(ctx, object, &[Action::Emit(notice)]).await?;
        }
        status = Some(finish::record(object, &facts, call, &answer, ctx.clock.now()));
    }
    if let Some(status) = &status {
        apply::status(ctx, object, old, status).await?;
    }
    let status = status.as_ref().or(old);
    match decide::stage_of(status) {
        Stage::Started => ctx.turns.hold(Kind::Backup, object, facts.place.clone()),
        // In line; or it waits for something else, and others go first.
        Stage::Waiting if hooks::begun(status) => {}
        Stage::Waiting if matches!(facts.turn, Some(Turn::Wait(_))) => {}
        Stage::Waiting | Stage::Settled | Stage::Final => ctx.turns.leave(Kind::Backup, object),
    }
    Ok(plan.requeue)
}

/// A name as a label's value, which has 63 characters at most.
#[must_use]
pub fn label(name: &str) -> &str {
    name.get(..63).unwrap_or(name).trim_end_matches(['-', '.', '_'])
}
