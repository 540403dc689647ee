//! The CronJob controller: a Job at every instant of a schedule.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use coffer_api::schedule::{Schedule, Written};
use futures::StreamExt;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
    runtime::{
        Controller,
        controller::{self, Action},
        watcher,
    },
};
use serde_json::{Value, json};

use super::{
    Runner,
    time::{instant, stamp},
};

/// No wait is longer: the clock of the machine may be set.
const LOOK: Duration = Duration::from_secs(300);

/// What is to be done for a CronJob.
#[derive(Debug, Default)]
struct Plan {
    create: Option<(Job, DateTime<Utc>)>,
    delete: Vec<String>,
    status: Option<Value>,
    requeue: Option<Duration>,
    /// The schedule is none.
    refused: Option<String>,
}

/// Runs until shutdown.
pub(super) async fn run(runner: Arc<Runner>) {
    let crons: Api<CronJob> = Api::all(runner.client.clone());
    let jobs: Api<Job> = Api::all(runner.client.clone());
    Controller::new(crons, watcher::Config::default())
        .owns(jobs, watcher::Config::default())
        .graceful_shutdown_on(runner.shutdown.clone().cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::clone(&runner))
        .for_each(async |result| match result {
            // One that was deleted meanwhile has nothing left to do.
            Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cron job controller");
            }
        })
        .await;
}

async fn reconcile(cron: Arc<CronJob>, runner: Arc<Runner>) -> Result<Action, kube::Error> {
    let namespace = cron.namespace().unwrap_or_default();
    let jobs: Api<Job> = Api::namespaced(runner.client.clone(), &namespace);
    let uid = cron.uid().unwrap_or_default();
    let mut owned = jobs.list(&ListParams::default()).await?.items;
    owned.retain(|job| job.owner_references().iter().any(|owner| owner.uid == uid));
    let Plan { create, delete, status, requeue, refused } = decide(&cron, &owned, Utc::now());
    if let Some(why) = refused {
        tracing::warn!(cron_job = cron.name_any(), why, "schedule not understood");
    }
    let background = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    };
    for job in delete {
        gone(jobs.delete(&job, &background).await.map(|_| ()), 404)?;
    }
    if let Some((job, _)) = &create {
        gone(jobs.create(&PostParams::default(), job).await.map(|_| ()), 409)?;
    }
    if let Some(status) = status {
        let crons: Api<CronJob> = Api::namespaced(runner.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        gone(crons.patch_status(&cron.name_any(), &params, &patch).await.map(|_| ()), 404)?;
    }
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

/// Takes an answer with this code for a success.
fn gone(result: Result<(), kube::Error>, code: u16) -> Result<(), kube::Error> {
    match result {
        Err(kube::Error::Api(status)) if status.code == code => Ok(()),
        other => other,
    }
}

/// Pure: from the CronJob, its Jobs and the time to a plan.
fn decide(cron: &CronJob, jobs: &[Job], now: DateTime<Utc>) -> Plan {
    let mut plan = Plan::default();
    let spec = &cron.spec;
    if cron.metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let holds = |job: &Job, kind: &str| {
        let conditions = job.status.iter().flat_map(|s| s.conditions.iter().flatten());
        conditions.into_iter().any(|c| c.type_ == kind && c.status == "True")
    };
    let (done, active): (Vec<&Job>, Vec<&Job>) =
        jobs.iter().partition(|job| holds(job, "Complete") || holds(job, "Failed"));
    for (kind, limit, usual) in [
        ("Complete", spec.successful_jobs_history_limit, 3),
        ("Failed", spec.failed_jobs_history_limit, 1),
    ] {
        let limit = usize::try_from(limit.unwrap_or(usual)).unwrap_or(0);
        let mut those: Vec<&&Job> = done.iter().filter(|job| holds(job, kind)).collect();
        those.sort_by_key(|job| {
            std::cmp::Reverse(job.metadata.creation_timestamp.as_ref().map(instant))
        });
        plan.delete.extend(those.iter().skip(limit).map(|job| job.name_any()));
    }
    let stored = cron.status.as_ref();
    let last = stored.and_then(|s| s.last_schedule_time.as_ref()).map(instant);
    let mut scheduled = None;
    match schedule(spec.schedule.as_str(), spec.time_zone.as_deref()) {
        Err(why) => plan.refused = Some(why),
        Ok(_) if spec.suspend == Some(true) => {}
        Ok(schedule) => {
            let created = cron.metadata.creation_timestamp.as_ref().map_or(now, instant);
            let deadline = spec.starting_deadline_seconds.and_then(|s| u64::try_from(s).ok());
            let deadline = deadline.map_or(Duration::MAX, Duration::from_secs);
            let due = schedule.due(last.unwrap_or(created), now, deadline).now;
            let waits = schedule.next(now).map(|at| at.signed_duration_since(now));
            let wait = waits.and_then(|wait| wait.to_std().ok()).unwrap_or(LOOK);
            plan.requeue = Some(wait.saturating_add(Duration::from_millis(5)).min(LOOK));
            let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
            if let Some(due) = due
                && (policy != "Forbid" || active.is_empty())
            {
                if policy == "Replace" {
                    plan.delete.extend(active.iter().map(|job| job.name_any()));
                }
                plan.create = Some((job(cron, due), due));
                scheduled = Some(due);
            }
        }
    }
    plan.status = status(cron, &active, &done, scheduled, &plan);
    plan
}

/// The schedule in its zone.
fn schedule(text: &str, time_zone: Option<&str>) -> Result<Schedule, String> {
    let written = Written { text, time_zone, ..Written::default() };
    Schedule::parse(written).map_err(|error| error.to_string())
}

/// The Job of an instant, named after it as Kubernetes does.
fn job(cron: &CronJob, due: DateTime<Utc>) -> Job {
    let template = cron.spec.job_template.clone();
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = Some(format!("{}-{}", cron.name_any(), due.timestamp() / 60));
    metadata.namespace = cron.namespace();
    metadata.owner_references = cron.controller_owner_ref(&()).map(|owner| vec![owner]);
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert("batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(), stamp(due));
    Job { metadata, spec: template.spec, status: None }
}

fn status(
    cron: &CronJob,
    active: &[&Job],
    done: &[&Job],
    scheduled: Option<DateTime<Utc>>,
    plan: &Plan,
) -> Option<Value> {
    let reference = |name: &str, uid: Option<String>| {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "name": name,
            "namespace": cron.namespace(), "uid": uid,
        })
    };
    let still = active.iter().filter(|job| !plan.delete.contains(&job.name_any()));
    let list: Vec<Value> = still.map(|job| reference(&job.name_any(), job.uid())).collect();
    let successes = done.iter().filter_map(|job| job.status.as_ref()?.completion_time.as_ref());
    let stored = serde_json::to_value(cron.status.clone().unwrap_or_default()).unwrap_or_default();
    let mut value = stored.clone();
    value["active"] = if list.is_empty() { Value::Null } else { json!(list) };
    if let Some(last) = successes.map(instant).max() {
        value["lastSuccessfulTime"] = json!(stamp(last));
    }
    if let Some(scheduled) = scheduled {
        value["lastScheduleTime"] = json!(stamp(scheduled));
    }
    let null = |value: &Value, key: &str| value.get(key).is_none_or(Value::is_null);
    let same = ["active", "lastSuccessfulTime", "lastScheduleTime"]
        .iter()
        .all(|key| value.get(key) == stored.get(key) || (null(&value, key) && null(&stored, key)));
    (!same).then_some(value)
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;

    use super::*;

    fn at(minute: u32) -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 1, 1, 0, minute, 30).unwrap()
    }

    fn cron(spec: Value, last: Option<DateTime<Utc>>) -> CronJob {
        let mut cron = json!({
            "metadata": {"name": "c", "namespace": "n", "uid": "u", "creationTimestamp": stamp(at(0))},
            "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": {}}}},
            "status": {"lastScheduleTime": last.map(stamp)},
        });
        for (key, value) in spec.as_object().unwrap() {
            cron["spec"][key] = value.clone();
        }
        serde_json::from_value(cron).unwrap()
    }

    fn made(name: &str, condition: &str, minute: u32) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": stamp(at(minute))},
            "status": {"conditions": [{"type": condition, "status": "True"}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_job_is_made_when_the_schedule_says_so() {
        assert!(decide(&cron(json!({}), None), &[], at(4)).create.is_none());
        let plan = decide(&cron(json!({}), None), &[], at(7));
        let (job, due) = plan.create.unwrap();
        assert_eq!(due, Utc.with_ymd_and_hms(2026, 1, 1, 0, 5, 0).unwrap());
        assert_eq!(job.name_any(), format!("c-{}", due.timestamp() / 60));
        assert_eq!(plan.requeue, Some(Duration::from_millis(150_005)));
        assert!(decide(&cron(json!({}), Some(due)), &[], at(7)).create.is_none());
        // Of several missed instants the last one counts.
        let (_, due) = decide(&cron(json!({}), Some(due)), &[], at(52)).create.unwrap();
        assert_eq!(due, Utc.with_ymd_and_hms(2026, 1, 1, 0, 50, 0).unwrap());
        assert!(decide(&cron(json!({"suspend": true}), None), &[], at(7)).create.is_none());
        assert!(
            decide(&cron(json!({"startingDeadlineSeconds": 60}), None), &[], at(7))
                .create
                .is_none()
        );
    }

    #[test]
    fn policies_and_limits_hold() {
        let running = [made("r", "Suspended", 1)];
        assert!(
            decide(&cron(json!({"concurrencyPolicy": "Forbid"}), None), &running, at(7))
                .create
                .is_none()
        );
        let plan = decide(&cron(json!({"concurrencyPolicy": "Replace"}), None), &running, at(7));
        assert_eq!((plan.create.is_some(), plan.delete), (true, vec!["r".to_owned()]));
        let done = [
            made("a", "Complete", 1),
            made("b", "Complete", 2),
            made("f", "Failed", 1),
            made("g", "Failed", 3),
        ];
        let plan = decide(&cron(json!({"successfulJobsHistoryLimit": 1}), None), &done, at(4));
        assert_eq!(plan.delete, ["a", "f"]);
    }

    #[test]
    fn a_schedule_that_is_none_is_refused() {
        let plan = decide(&cron(json!({"schedule": "61 * * * *"}), None), &[], at(7));
        assert!(plan.refused.unwrap().contains("no minute"));
        let plan = decide(&cron(json!({"timeZone": "Mars/Base"}), None), &[], at(7));
        assert!(plan.refused.unwrap().contains("Mars/Base"));
    }
}
