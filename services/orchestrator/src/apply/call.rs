//! The one call that a plan may have, made on behalf of `apply.rs`.

use coffer_api::{BackupSession, Repository, size, time};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{Kept, api, delete, events};
use crate::{
    calls,
    context::{Context, describe},
    gather, hook, metrics,
    plan::{Answer, Call, Child, Done, Notice},
};

/// Errors of a check that are shown; the rest is counted.
const SHOWN: usize = 5;

/// Makes a call of an object. Its failure is an answer; that of a hook is an Event of the object too.
pub async fn call<K: Kept>(ctx: &Context, object: &K, call: &Call) -> Answer {
    match call {
        Call::Forget { repository, policy } => {
            let answer = calls::forget(ctx, repository, policy).await?;
            let (kept, removed) = (answer.kept.len(), answer.removed.len());
            // A dry run removes nothing, and the status must not say that it did.
            let removed_for_real = if policy.dry_run { 0 } else { removed };
            let figures = json!({"snapshotsRemovedOnLastCleanup": removed_for_real});
            repository_status(ctx, &repository.namespace, &repository.name, figures).await?;
            Ok(Done::Forgot { kept, removed })
        }
        Call::Check { repository } => {
            let mut errors = calls::check(ctx, repository).await?.errors;
            let figures = json!({"integrity": errors.is_empty()});
            repository_status(ctx, &repository.namespace, &repository.name, figures).await?;
            if errors.len() > SHOWN {
                let more = errors.len() - SHOWN;
                errors.truncate(SHOWN);
                errors.push(format!("and {more} more"));
            }
            Ok(Done::Checked { errors })
        }
        Call::Figures { repository, group, labels, backup_time } => {
            let stats = calls::stats(ctx, repository).await?;
            let found = gather::get::<Repository>(ctx, &repository.namespace, &repository.name)
                .await
                .map_err(|error| error.describe())?;
            let status = found.and_then(|repository| repository.status).unwrap_or_default();
            let formatted = size::format(stats.total_size);
            let taken = time::from_clock(*backup_time);
            let first = status.first_backup_time.unwrap_or_else(|| taken.clone());
            let figures = json!({
                "totalSize": formatted,
                "snapshotCount": stats.snapshots,
                "lastBackupTime": taken,
                "firstBackupTime": first,
            });
            repository_status(ctx, &repository.namespace, &repository.name, figures).await?;
            let removed = status.snapshots_removed_on_last_cleanup.unwrap_or(0);
            let families = metrics::repository_figures(
                labels,
                status.integrity.unwrap_or(true),
                stats.total_size,
                stats.snapshots,
                u64::try_from(removed).unwrap_or(0),
            );
            calls::push(ctx, group, &families).await?;
            Ok(Done::Figures { size: formatted, snapshots: stats.snapshots })
        }
        Call::CleanHistory { namespace, sessions } => {
            for name in sessions {
                let child = Child { namespace: namespace.clone(), name: name.clone() };
                delete::<BackupSession>(ctx, &child).await.map_err(|error| error.describe())?;
            }
            Ok(Done::Cleaned)
        }
        Call::Push { group, families } => {
            calls::push(ctx, group, families).await.map(|()| Done::Pushed)
        }
        Call::Hook(hook) => {
            let answer = hook::run(ctx, hook).await;
            if let Err(why) = &answer {
                let reason = hook.moment.condition().failed;
                let notice = Notice { warning: true, reason, message: why.clone() };
                events::emit(ctx, object, &notice).await;
            }
            answer.map(Done::Hooked)
        }
        Call::Wipe { repository } => {
            calls::wipe(ctx, repository).await.map(|objects| Done::Wiped { objects })
        }
    }
}

/// Merges figures into a Repository's status. Each figure has one writer, so no other one is overwritten.
async fn repository_status(
    ctx: &Context,
    namespace: &str,
    name: &str,
    figures: Value,
) -> Result<(), String> {
    let patch = json!({ "status": figures });
    let patched = api::<Repository>(ctx, namespace)
        .patch_status(name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    patched.map(|_| ()).map_err(|error| {
        format!("write the status of Repository {namespace}/{name}: {}", describe(&error))
    })
}
