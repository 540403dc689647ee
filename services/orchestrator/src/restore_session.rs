//! RestoreSession: one restore. It runs once, and keeps waiting for what is missing before that; one of a batch as long as
//! the batch may take, and one whose hook was run already no longer than for an image.

pub mod decide;
pub mod follow;
pub mod gather;
mod hooks;
pub mod start;

use coffer_api::{RestoreSession, names};
use kube::ResourceExt;

use crate::{
    apply,
    backup_session::decide::is_start,
    context::{Context, Error},
    plan::{Action, Child, Requeue},
    queue::{Kind, Turn},
    turns,
};

use decide::Stage;

/// One pass over a RestoreSession.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &RestoreSession) -> Result<Requeue, Error> {
    let facts = gather::gather(ctx, object).await?;
    let plan = decide::decide(object, &facts, ctx.clock.now(), &ctx.settings);
    let old = object.status.as_ref();
    if let Err(error) = apply::actions(ctx, object, &plan.actions).await {
        if !error.is_refusal() || !plan.actions.iter().any(is_start) {
            return Err(error);
        }
        // The API server will refuse the same Job again: the session ends, saying why. What was made for it goes.
        let secret = Child {
            namespace: object.namespace().unwrap_or_default(),
            name: names::session_secret(&names::restore_job(&object.name_any(), 0)),
        };
        apply::actions(ctx, object, &[Action::DeleteSecret(secret)]).await?;
        let status = start::refused(object, &error.describe(), ctx.clock.now());
        apply::status(ctx, object, old, &status).await?;
        ctx.turns.leave(Kind::Restore, object, 0);
        return Ok(Requeue::OnChange);
    }
    let mut status = plan.status;
    if let Some(call) = &plan.call {
        let answer = apply::call(ctx, object, call).await;
        status = Some(follow::record(object, call, &answer, ctx.clock.now()));
    }
    if let Some(status) = &status {
        apply::status(ctx, object, old, status).await?;
    }
    let status = status.as_ref().or(old);
    match decide::stage_of(status) {
        Stage::Started => {
            let namespace = object.namespace().unwrap_or_default();
            let place = turns::repository(object.spec.repository.as_ref(), &namespace);
            ctx.turns.hold(Kind::Restore, object, 0, place);
        }
        Stage::Waiting if hooks::begun(status) => {}
        Stage::Waiting if matches!(facts.turn, Some(Turn::Wait(_))) => {}
        Stage::Waiting | Stage::Settled | Stage::Final => ctx.turns.leave(Kind::Restore, object, 0),
    }
    Ok(plan.requeue)
}
