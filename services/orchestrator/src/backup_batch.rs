//! BackupBatch: several targets with one schedule and one repository. Each member is looked at as if it were a
//! BackupConfiguration; what is said of its target stands among the `memberConditions`.

pub(crate) mod decide;

use coffer_api::{AppBinding, BackupBatch, names};
use kube::ResourceExt;

use crate::{
    apply,
    backup_configuration::{
        gather::{Facts, neighbours, session_names},
        run,
    },
    backup_session::batch,
    context::{Context, Error},
    gather::{self, Source},
    plan::{Action, Lookup, Requeue},
};

/// Makes the session that is due, as for a BackupConfiguration.
///
/// # Errors
/// When the session cannot be made; the pass tries again.
pub async fn make_due(ctx: &Context, object: &BackupBatch) -> Result<(), Error> {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    let sessions = session_names(ctx, Source::Caches, batch::KIND, &namespace, &name).await?;
    let members = batch::parts(object).members;
    let due = |member| run::due(batch::KIND, member, &sessions, ctx.clock.now(), &ctx.settings);
    let actions = members.first().map(due).unwrap_or_default();
    apply::actions(ctx, object, &actions).await
}

/// One pass over a BackupBatch.
///
/// # Errors
/// When the cluster cannot be read or written; the pass is repeated.
pub async fn reconcile(ctx: &Context, object: &BackupBatch) -> Result<Requeue, Error> {
    let ours = object.finalizers().iter().any(|name| name == names::FINALIZER);
    if object.metadata.deletion_timestamp.is_some() || !ours {
        // Sessions and what they made go by owner references.
        let action = match (ours, object.metadata.deletion_timestamp.is_some()) {
            (true, _) => Some(Action::RemoveFinalizer(names::FINALIZER)),
            (false, false) => Some(Action::AddFinalizer(names::FINALIZER)),
            (false, true) => None,
        };
        apply::actions(ctx, object, action.as_slice()).await?;
        return Ok(Requeue::OnChange);
    }
    let facts = Box::pin(read(ctx, Source::Caches, object)).await?;
    let plan = decide::decide(object, &facts, ctx.clock.now(), &ctx.settings);
    apply::actions(ctx, object, &plan.actions).await?;
    if let Some(status) = &plan.status {
        apply::status(ctx, object, object.status.as_ref(), status).await?;
    }
    Ok(plan.requeue)
}

/// What was found about each member.
pub(crate) async fn read(
    ctx: &Context,
    source: Source,
    object: &BackupBatch,
) -> Result<Vec<Facts>, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let reference = object.spec.repository.as_ref();
    let repository = gather::repository(ctx, source, &namespace, reference).await;
    let secret = match repository.found() {
        Some(repository) => gather::storage_secret(ctx, repository).await,
        None => Lookup::Missing,
    };
    let namespace_labels = gather::namespace_labels(ctx, repository.found(), &namespace).await?;
    let made = session_names(ctx, source, batch::KIND, &namespace, &object.name_any()).await?;
    let mut all = vec![];
    for member in batch::parts(object).members {
        let target = member.spec.target.as_ref().map(|target| &target.reference);
        let target: Lookup<AppBinding> = match target {
            Some(target) if target.is_app_binding() => {
                let home = target.namespace_or(&namespace);
                gather::look_up_in(ctx, source, home, &target.name).await
            }
            Some(_) | None => Lookup::Missing,
        };
        all.push(Facts {
            neighbours: neighbours(ctx, &member),
            repository: repository.clone(),
            secret: secret.clone(),
            namespace_labels: namespace_labels.clone(),
            target,
            sessions: made.clone(),
        });
    }
    Ok(all)
}
