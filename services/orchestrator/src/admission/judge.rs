//! What is refused: the rules of the reconcilers on what is there now, a Task that nobody knows, and a retention policy that
//! keeps everything because it is empty.
//!
//! What does not exist yet is no reason to refuse: manifests come in any order. A Task is, since a typing error in its name
//! is what people make, and Tasks are there before those who use them.

use coffer_api::{
    BackupBatch, BackupBlueprint, BackupConfiguration, RestoreBatch, RestoreSession,
    retention::RetentionPolicy,
    schedule::{Schedule, Written},
    target::TaskRef,
};
use coffer_proto::catalog::v1::ListTasksRequest;
use kube::ResourceExt;

use crate::{
    backup_batch, backup_configuration,
    backup_configuration::gather::Facts,
    context::{Context, Error},
    gather::Source,
    policy, restore_batch, restore_session,
};

/// Longest that the catalog may think.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// Whether an object is admitted, or why it cannot be told.
pub(super) type Judgement = Result<Result<(), String>, Error>;

pub(super) async fn backup_configuration(ctx: &Context, object: BackupConfiguration) -> Judgement {
    let namespace = object.namespace().unwrap_or_default();
    let facts = backup_configuration::gather::gather(ctx, Source::Server, &object).await?;
    let facts = first(facts);
    Ok(policy::all([
        backup_configuration::decide::validate(&object, &facts, &namespace).map(|_| ()),
        known(ctx, object.spec.task.as_ref()).await?,
        keeps_something(&object.spec.retention_policy),
    ]))
}

pub(super) async fn backup_batch(ctx: &Context, object: BackupBatch) -> Judgement {
    let facts = backup_batch::read(ctx, Source::Server, &object).await?;
    let facts: Vec<Facts> = facts.into_iter().map(first).collect();
    let mut rules = vec![
        backup_batch::decide::wrong(&object, &facts),
        keeps_something(&object.spec.retention_policy),
    ];
    for member in &object.spec.members {
        rules.push(known(ctx, member.task.as_ref()).await?);
    }
    Ok(policy::all(rules))
}

pub(super) fn backup_blueprint(object: &BackupBlueprint) -> Result<(), String> {
    let spec = &object.spec;
    let seed = object.name_any();
    let written = Written { text: &spec.schedule, time_zone: None, seed: &seed };
    // Variables stand in it for what an AppBinding says.
    let varies = spec.schedule.contains("${");
    let schedule = if varies { Ok(()) } else { Schedule::parse(written).map(|_| ()) };
    policy::all([
        schedule.map_err(|error| error.to_string()),
        policy::retention(&spec.retention_policy),
        keeps_something(&spec.retention_policy),
    ])
}

pub(super) async fn restore_session(ctx: &Context, object: RestoreSession) -> Judgement {
    let facts = restore_session::gather::admission(ctx, &object).await?;
    let namespace = object.namespace().unwrap_or_default();
    Ok(policy::all([
        restore_session::start::validate(&object, facts.repository.found(), &facts, &namespace),
        known(ctx, object.spec.task.as_ref()).await?,
    ]))
}

pub(super) async fn restore_batch(ctx: &Context, object: RestoreBatch) -> Judgement {
    let mut rules = vec![restore_batch::decide::check(&object)];
    for (number, member) in restore_batch::decide::members(&object).into_iter().enumerate() {
        let judged = Box::pin(restore_session(ctx, member)).await?;
        rules.push(judged.map_err(|why| format!("member {number}: {why}")));
    }
    Ok(policy::all(rules))
}

/// The others were there first, whatever their age: this one is still to be let in.
fn first(mut facts: Facts) -> Facts {
    for other in &mut facts.neighbours {
        other.order.0 = None;
    }
    facts
}

/// Whether the Task is one that the catalog knows.
async fn known(ctx: &Context, task: Option<&TaskRef>) -> Judgement {
    let Some(task) = task.filter(|task| !task.name.is_empty()) else { return Ok(Ok(())) };
    let mut request = tonic::Request::new(ListTasksRequest {});
    request.set_timeout(PATIENCE);
    let unsure = |status: tonic::Status| Error::Unsure {
        why: format!("the catalog does not say which Tasks there are: {}", status.message()),
    };
    let answer = ctx.catalog.clone().list_tasks(request).await.map_err(unsure)?;
    let tasks: Vec<String> = answer.into_inner().tasks.into_iter().map(|task| task.name).collect();
    if tasks.contains(&task.name) {
        return Ok(Ok(()));
    }
    Ok(Err(format!(
        "there is no Task {}: create it first, or name one of those that there are ({})",
        task.name,
        tasks.join(", ")
    )))
}

/// An empty policy forgets nothing for ever, and is not what anybody means.
fn keeps_something(policy: &RetentionPolicy) -> Result<(), String> {
    if policy.is_empty() {
        return Err("spec.retentionPolicy has no keep rule, so that every snapshot would be kept for ever: set \
                    keepLast, keepDaily or another"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_blueprint_has_a_schedule_and_keeps_something() {
        let blueprint = |schedule: &str, keep: i64| -> BackupBlueprint {
            serde_json::from_value(
                json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupBlueprint",
                "metadata": {"name": "b"}, "spec": {"schedule": schedule, "backend": {},
                "retentionPolicy": {"name": "k", "keepLast": keep, "prune": true}}}),
            )
            .unwrap()
        };
        assert_eq!(backup_blueprint(&blueprint("0 3 * * *", 3)), Ok(()));
        assert_eq!(backup_blueprint(&blueprint("${SCHEDULE}", 3)), Ok(()));
        let wrong = backup_blueprint(&blueprint("0 3 * *", 0)).unwrap_err();
        assert!(wrong.contains("0 3 * *") && wrong.contains("keep rule"), "{wrong}");
        assert!(backup_blueprint(&blueprint("@daily", -1)).unwrap_err().contains("negative"));
    }
}
