//! BackupConfiguration: is everything there, is the spec one that can be executed, and is a session due?

pub mod decide;
pub mod gather;

use coffer_api::BackupConfiguration;

use crate::{
    apply,
    context::{Context, Error},
    plan::Requeue,
};

/// One pass over a BackupConfiguration.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &BackupConfiguration) -> Result<Requeue, Error> {
    let facts = gather::gather(ctx, object).await?;
    let plan = decide::decide(object, &facts, ctx.clock.now(), &ctx.settings);
    apply::actions(ctx, object, &plan.actions).await?;
    if let Some(status) = &plan.status {
        apply::status(ctx, object, object.status.as_ref(), status).await?;
    }
    Ok(plan.requeue)
}
