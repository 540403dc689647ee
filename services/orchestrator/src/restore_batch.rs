//! RestoreBatch: several targets restored from one repository. Each member becomes a RestoreSession that the batch owns, in
//! the batch's order; what they come to is the batch's status. So there is one way to restore, and every session can be
//! looked at, followed and cancelled by itself.

pub(crate) mod decide;

use coffer_api::{RestoreBatch, RestoreSession};
use kube::ResourceExt;

use crate::{
    apply,
    context::{Context, Error},
    gather,
    plan::Requeue,
};

/// One pass over a RestoreBatch.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &RestoreBatch) -> Result<Requeue, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let mut members = vec![];
    for at in 0..object.spec.members.len() {
        let name = decide::child(object, at);
        let found: Option<RestoreSession> = gather::get(ctx, &namespace, &name).await?;
        members.push(found);
    }
    let plan = decide::decide(object, &members, ctx.clock.now(), &ctx.settings);
    apply::actions(ctx, object, &plan.actions).await?;
    let mut status = plan.status;
    if let Some(call) = &plan.call {
        let answer = Box::pin(apply::call(ctx, object, call)).await;
        status = Some(decide::record(object, call, &answer, ctx.clock.now()));
    }
    if let Some(status) = &status {
        apply::status(ctx, object, object.status.as_ref(), status).await?;
    }
    Ok(plan.requeue)
}
