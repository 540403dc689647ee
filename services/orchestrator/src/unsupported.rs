//! Kinds that are stored but not executed by this version. They say so, so that nobody waits for a backup that never
//! comes: by a condition and the phase `Invalid`.

use coffer_api::{
    BackupBatch, RestoreBatch, backup_configuration::InvokerPhase, condition,
    restore_session::RestorePhase, time::from_clock,
};

use crate::{
    apply::{self, Kept},
    context::{Context, Error},
    plan::{Action, Notice, Requeue},
};

fn message(instead: &str) -> String {
    format!("not supported by this version: {instead}")
}

async fn warn<K: Kept>(ctx: &Context, object: &K, message: String) -> Result<(), Error> {
    let notice = Notice { warning: true, reason: "Not Supported", message };
    apply::actions(ctx, object, &[Action::Emit(notice)]).await
}

/// One pass over a BackupBatch.
///
/// # Errors
/// When the cluster cannot be written; the pass is repeated.
pub async fn backup_batch(ctx: &Context, object: &BackupBatch) -> Result<Requeue, Error> {
    let message = message("give each member a BackupConfiguration of its own");
    let now = from_clock(ctx.clock.now());
    let mut status = object.status.clone().unwrap_or_default();
    if !condition::VALIDATION_PASSED.fails(&status.conditions) {
        warn(ctx, object, message.clone()).await?;
    }
    condition::set(&mut status.conditions, condition::VALIDATION_PASSED.is_false(message, now));
    status.phase = Some(InvokerPhase::Invalid);
    status.observed_generation = object.metadata.generation;
    apply::status(ctx, object, object.status.as_ref(), &status).await?;
    Ok(Requeue::OnChange)
}

/// One pass over a RestoreBatch.
///
/// # Errors
/// When the cluster cannot be written; the pass is repeated.
pub async fn restore_batch(ctx: &Context, object: &RestoreBatch) -> Result<Requeue, Error> {
    let message = message("give each member a RestoreSession of its own");
    let now = from_clock(ctx.clock.now());
    let mut status = object.status.clone().unwrap_or_default();
    if !condition::VALIDATION_PASSED.fails(&status.conditions) {
        warn(ctx, object, message.clone()).await?;
    }
    condition::set(&mut status.conditions, condition::VALIDATION_PASSED.is_false(message, now));
    status.phase = Some(RestorePhase::Invalid);
    apply::status(ctx, object, object.status.as_ref(), &status).await?;
    Ok(Requeue::OnChange)
}
