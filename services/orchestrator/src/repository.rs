//! Repository: who uses it, and what happens to its data when it goes. Its figures come from sessions.

pub mod decide;
pub mod gather;

use coffer_api::Repository;

use crate::{
    apply,
    context::{Context, Error},
    plan::{Action, Notice, Requeue},
};

/// One pass over a Repository.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &Repository) -> Result<Requeue, Error> {
    let facts = gather::gather(ctx, object).await?;
    let plan = decide::decide(object, &facts, ctx.clock.now(), &ctx.settings);
    if let Some(call) = &plan.call
        && let Err(why) = apply::call(ctx, object, call).await
    {
        // The data must not be left behind silently: the object stays until it is gone, or the user changes their mind.
        let notice = Notice {
            warning: true,
            reason: "Wipe Out Failed",
            message: format!(
                "{why}; set spec.wipeOut to false to delete the Repository without its data"
            ),
        };
        apply::actions(ctx, object, &[Action::Emit(notice)]).await?;
        return Ok(Requeue::At(ctx.clock.now() + ctx.settings.start_grace));
    }
    apply::actions(ctx, object, &plan.actions).await?;
    if let Some(status) = &plan.status {
        apply::status(ctx, object, object.status.as_ref(), status).await?;
    }
    Ok(plan.requeue)
}
