//! BackupConfiguration: is everything there, is the spec one that can be executed, and is a session due?

pub mod decide;
pub mod gather;
pub(crate) mod run;

use coffer_api::BackupConfiguration;
use kube::ResourceExt as _;

use crate::{
    apply,
    context::{Context, Error},
    gather::Source,
    plan::{Action, Notice, Requeue},
};

/// Kind of the invoker, as sessions name it.
pub(crate) const KIND: &str = "BackupConfiguration";

/// Makes the session that is due. Many may be due at once, and what there is to say of them can wait: the pass says it.
///
/// # Errors
/// When the session cannot be made; the pass tries again.
pub async fn make_due(ctx: &Context, object: &BackupConfiguration) -> Result<(), Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let sessions = gather::session_names(ctx, Source::Caches, KIND, &namespace, &name).await?;
    let actions = run::due(KIND, object, &sessions, ctx.clock.now(), &ctx.settings);
    apply::actions(ctx, object, &actions).await
}

/// One pass over a BackupConfiguration.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &BackupConfiguration) -> Result<Requeue, Error> {
    let facts = gather::gather(ctx, Source::Caches, object).await?;
    let plan = decide::decide(object, &facts, ctx.clock.now(), &ctx.settings);
    if let Err(error) = apply::actions(ctx, object, &plan.actions).await {
        let triggers = |action: &Action| matches!(action, Action::ApplyTrigger(_));
        let (true, true, Some(status)) =
            (error.is_refusal(), plan.actions.iter().any(triggers), plan.status)
        else {
            return Err(error);
        };
        let now = ctx.clock.now();
        let why = error.describe();
        let notice =
            Notice { warning: true, reason: "CronJob Creation Failed", message: why.clone() };
        apply::actions(ctx, object, &[Action::Emit(notice)]).await?;
        let status = decide::refused(object, status, &why, now);
        apply::status(ctx, object, object.status.as_ref(), &status).await?;
        return Ok(Requeue::At(now + ctx.settings.start_grace));
    }
    if let Some(status) = &plan.status {
        apply::status(ctx, object, object.status.as_ref(), status).await?;
    }
    Ok(plan.requeue)
}
