//! The Job controller: as many Pods as a Job needs, and its status from theirs.

mod decide;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use futures::StreamExt;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy},
    runtime::{
        Controller,
        controller::{self, Action},
        watcher,
    },
};
use serde_json::json;

use self::decide::{Plan, decide};
use super::Runner;

/// A write that failed; the Job is looked at again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The Pods of a Job could not be listed.
    #[error("list the Pods of Job {job}")]
    List { job: String, source: kube::Error },
    /// A Pod could not be created.
    #[error("create Pod {pod}")]
    Create { pod: String, source: kube::Error },
    /// A Pod or the Job could not be deleted.
    #[error("delete {what}")]
    Delete { what: String, source: kube::Error },
    /// The status could not be written.
    #[error("write the status of Job {job}")]
    Status { job: String, source: kube::Error },
    /// What was read is not what Kubernetes objects are.
    #[error("read Job {job}")]
    Convert { job: String, source: serde_json::Error },
}

/// Runs until shutdown.
pub(super) async fn run(runner: Arc<Runner>) {
    let jobs: Api<Job> = Api::all(runner.client.clone());
    let pods: Api<Pod> = Api::all(runner.client.clone());
    Controller::new(jobs, watcher::Config::default())
        .owns(pods, watcher::Config::default())
        .graceful_shutdown_on(runner.shutdown.clone().cancelled_owned())
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_secs(1)), Arc::clone(&runner))
        .for_each(async |result| match result {
            Ok((job, _)) => tracing::trace!(job = job.name, "reconciled"),
            Err(controller::Error::ObjectNotFound(job)) => {
                tracing::trace!(job = job.name, "deleted meanwhile");
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "job controller");
            }
        })
        .await;
}

async fn reconcile(job: Arc<Job>, runner: Arc<Runner>) -> Result<Action, Error> {
    let name = job.name_any();
    let namespace = job.namespace().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(runner.client.clone(), &namespace);
    let uid = job.uid().unwrap_or_default();
    // Read afresh: what the watch has not shown yet must not be made twice.
    let mut owned = pods
        .list(&ListParams::default())
        .await
        .map_err(|source| Error::List { job: name.clone(), source })?
        .items;
    owned.retain(|pod| pod.owner_references().iter().any(|owner| owner.uid == uid));
    let plan = decide(&job, &owned, Utc::now())
        .map_err(|source| Error::Convert { job: name.clone(), source })?;
    apply(&runner, &job, &pods, plan).await
}

/// Pods first: a status that counts a Pod must not be there before it.
async fn apply(runner: &Runner, job: &Job, pods: &Api<Pod>, plan: Plan) -> Result<Action, Error> {
    let Plan { create, delete, status, remove, requeue } = plan;
    let name = job.name_any();
    let jobs: Api<Job> =
        Api::namespaced(runner.client.clone(), &job.namespace().unwrap_or_default());
    for pod in delete {
        match pods.delete(&pod, &DeleteParams::default()).await {
            Err(source) if !is(&source, 404) => {
                return Err(Error::Delete { what: format!("Pod {pod}"), source });
            }
            _ => {}
        }
    }
    for pod in create {
        match pods.create(&PostParams::default(), &pod).await {
            // The name is derived: somebody, most likely this runner, was here before.
            Err(source) if !is(&source, 409) => {
                return Err(Error::Create { pod: pod.name_any(), source });
            }
            _ => {}
        }
    }
    if let Some(status) = status {
        let patch = Patch::Merge(json!({"metadata": {"uid": job.uid()}, "status": status}));
        match jobs.patch_status(&name, &PatchParams::default(), &patch).await {
            Err(source) if !is(&source, 404) => return Err(Error::Status { job: name, source }),
            _ => {}
        }
    }
    if remove {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match jobs.delete(&name, &params).await {
            Err(source) if !is(&source, 404) => {
                return Err(Error::Delete { what: format!("Job {name}"), source });
            }
            _ => {}
        }
    }
    Ok(requeue.map_or_else(Action::await_change, Action::requeue))
}

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// The owner reference that a Job puts on its Pods.
fn owner(job: &Job) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference> {
    job.controller_owner_ref(&()).map(|mut owner| {
        owner.block_owner_deletion = Some(true);
        owner
    })
}
