//! Auto-backup: an AppBinding whose annotation names BackupBlueprints gets a Repository and a BackupConfiguration for each.
//!
//! Edits of a blueprint are applied again to everybody who uses it. When the annotation goes, so does the
//! BackupConfiguration; the Repository and its data stay. A blueprint that is missing or cannot be expanded takes nothing
//! away: what it made before stays as it is, and an Event says why.

pub mod decide;
pub mod gather;

use coffer_api::{AppBinding, app_binding::AppBindingSpec};

use crate::{
    apply,
    context::{Context, Error},
    plan::{Action, Notice, Requeue},
};

/// One pass over an AppBinding.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &AppBinding) -> Result<Requeue, Error> {
    let facts = gather::gather(ctx, object).await?;
    let plan = decide::decide(object, &facts);
    match apply::actions(ctx, object, &plan).await {
        Ok(()) => Ok(Requeue::OnChange),
        Err(error) if error.is_refusal() || matches!(error, Error::Foreign { .. }) => {
            let message = error.describe();
            let notice = Notice { warning: true, reason: "Auto Backup Failed", message };
            apply::actions(ctx, object, &[Action::Emit(notice)]).await?;
            Ok(Requeue::At(ctx.clock.now() + ctx.settings.start_grace))
        }
        Err(error) => Err(error),
    }
}

/// What is left to do for an AppBinding that is gone. In its own namespace the garbage collector does it.
///
/// # Errors
/// When the cluster cannot be read or written.
pub async fn gone(ctx: &Context, namespace: &str, name: &str) -> Result<(), Error> {
    let mut object = AppBinding::new(name, AppBindingSpec::default());
    object.metadata.namespace = Some(namespace.to_owned());
    let facts = gather::left(ctx, &object).await?;
    apply::actions(ctx, &object, &decide::decide(&object, &facts)).await
}
