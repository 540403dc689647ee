//! The CronJob that makes a BackupConfiguration's sessions under `scheduler: cronjob`: rendered here, and the program that
//! it runs. It needs rights of its own, and no others: to read its invoker and to make a BackupSession. The rendering is
//! pure.

use anyhow::Context as _;
use clap::Parser;
use coffer_api::{
    BackupConfiguration, BackupSession, names,
    runtime_settings::{ContainerSettings, RuntimeSettings},
};
use coffer_runtime::{Clock, args::CommonArgs};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, JobSpec, JobTemplateSpec},
        core::v1::{Container, PodSpec, PodTemplateSpec, ServiceAccount},
        rbac::v1::{RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Resource, ResourceExt, api::PostParams};

use crate::{backup_session::draft, job, rbac, settings::Settings};

/// The ClusterRole that a CronJob's account is bound to, in its own namespace.
pub const ROLE: &str = "coffer-trigger";
/// The word by which this program knows that it is to make a session.
pub const COMMAND: &str = "create-backupsession";

/// A CronJob and what it needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Its account; none when the user names one.
    pub account: Option<ServiceAccount>,
    /// The account's rights.
    pub binding: RoleBinding,
    /// The CronJob.
    pub cron_job: CronJob,
}

/// Renders it; none for an object that was never stored.
#[must_use]
pub fn render(
    config: &BackupConfiguration,
    schedule: &str,
    settings: &Settings,
) -> Option<Trigger> {
    let owner = config.controller_owner_ref(&())?;
    let namespace = config.namespace().unwrap_or_default();
    let name = names::cron_job(&config.name_any());
    let labels = names::backup_labels(config.labels());
    let RuntimeSettings { container, pod } =
        config.spec.runtime_settings.clone().unwrap_or_default();
    let pod = pod.unwrap_or_default();
    let account =
        rbac::service_account(&namespace, name.clone(), owner.clone(), labels.clone(), Some(&pod));
    // Of a container's settings those that a program of a second has a use for.
    let ContainerSettings { resources, security_context, env, env_from, .. } =
        container.unwrap_or_default();
    let some = |list: Vec<_>| (!list.is_empty()).then_some(list);
    let container = Container {
        name: "stash-trigger".to_owned(),
        image: Some(settings.trigger_image.clone()),
        image_pull_policy: Some(settings.image_pull_policy.clone()),
        command: Some(vec!["/usr/local/bin/coffer-orchestrator".to_owned()]),
        args: Some(vec![
            COMMAND.to_owned(),
            format!("--invoker-name={}", config.name_any()),
            "--invoker-kind=BackupConfiguration".to_owned(),
            format!("--namespace={namespace}"),
        ]),
        resources,
        security_context,
        env: some(env),
        env_from: (!env_from.is_empty()).then_some(env_from),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        restart_policy: Some("Never".to_owned()),
        ..PodSpec::default()
    };
    let (mut spec, annotations) = job::pod(spec, pod, name.clone());
    // Unlike a worker, it calls the API server.
    spec.automount_service_account_token = Some(true);
    let account_name = spec.service_account_name.clone().unwrap_or_default();
    let meta = ObjectMeta {
        name: Some(name),
        namespace: Some(namespace.clone()),
        labels: Some(labels.clone()),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    let of_pods = ObjectMeta {
        labels: Some(labels.clone()),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    };
    let template = PodTemplateSpec { metadata: Some(of_pods), spec: Some(spec) };
    let cron_job = CronJob {
        metadata: meta.clone(),
        spec: CronJobSpec {
            schedule: schedule.to_owned(),
            time_zone: config.spec.time_zone.clone().filter(|zone| !zone.is_empty()),
            suspend: Some(config.spec.paused),
            starting_deadline_seconds: config.spec.starting_deadline_seconds,
            concurrency_policy: Some("Forbid".to_owned()),
            // What succeeded has left its session; what failed is kept to be looked at.
            successful_jobs_history_limit: Some(0),
            job_template: JobTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
                spec: Some(JobSpec { template, ..JobSpec::default() }),
            },
            ..CronJobSpec::default()
        },
        status: None,
    };
    let binding = RoleBinding {
        metadata: meta,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "ClusterRole".to_owned(),
            name: ROLE.to_owned(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: account_name,
            namespace: Some(namespace),
            ..Subject::default()
        }]),
    };
    Some(Trigger { account, binding, cron_job })
}

/// Makes a BackupSession of an invoker; what a CronJob runs.
#[derive(Clone, Debug, Parser)]
#[command(name = "coffer-orchestrator create-backupsession", version)]
pub struct Args {
    /// What every process takes.
    #[command(flatten)]
    pub common: CommonArgs,
    /// Kind of the invoker
    #[arg(long, value_parser = ["BackupConfiguration"])]
    pub invoker_kind: String,
    /// Its name
    #[arg(long)]
    pub invoker_name: String,
    /// Its namespace
    #[arg(long)]
    pub namespace: String,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// Makes the session.
///
/// # Errors
/// When the invoker is not found, or the session cannot be made.
pub async fn run(args: &Args, client: kube::Client, clock: &Clock) -> anyhow::Result<()> {
    let Args { common: _, invoker_kind, invoker_name, namespace } = args;
    let configs: Api<BackupConfiguration> = Api::namespaced(client.clone(), namespace);
    let config = configs
        .get(invoker_name)
        .await
        .with_context(|| format!("read {invoker_kind} {namespace}/{invoker_name}"))?;
    let name = names::session(invoker_name, clock.now());
    let session =
        draft::named("BackupConfiguration", &config, name.clone(), draft::attempts(&config));
    let sessions: Api<BackupSession> = Api::namespaced(client, namespace);
    match sessions.create(&PostParams::default(), &session).await {
        Ok(_) => {}
        // Of the same second; it is as good as ours.
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        Err(error) => {
            return Err(error).with_context(|| format!("create BackupSession {namespace}/{name}"));
        }
    }
    tracing::info!(namespace, session = name, "a session was made");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cron_job_looks_like_this() {
        let config: BackupConfiguration = serde_json::from_value(json!({
            "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
            "metadata": {"name": "orders.v2", "namespace": "demo", "uid": "u-1", "labels": {"team": "shop"}},
            "spec": {"schedule": "30 2 * * *", "timeZone": "Europe/Berlin", "paused": true,
                "startingDeadlineSeconds": 60, "retentionPolicy": {"name": "x", "prune": false},
                "runtimeSettings": {"pod": {"podAnnotations": {"a": "b"}, "nodeSelector": {"disk": "ssd"}},
                    "container": {"resources": {"limits": {"cpu": "1"}}}}}}))
        .unwrap();
        let trigger = render(&config, "30 2 * * *", &Settings::default()).unwrap();
        insta::assert_yaml_snapshot!(trigger.cron_job);
        let (account, binding) = (trigger.account.unwrap(), trigger.binding);
        assert_eq!(account.metadata.name.as_deref(), Some("stash-trigger-orders-v2"));
        assert_eq!(binding.subjects.unwrap()[0].name, "stash-trigger-orders-v2");
        assert_eq!(binding.role_ref.name, "coffer-trigger");
        // Who names an account gets no other one, and it is bound all the same.
        let mut named = config;
        let pod = named.spec.runtime_settings.as_mut().unwrap().pod.as_mut().unwrap();
        pod.service_account_name = "mine".into();
        let trigger = render(&named, "30 2 * * *", &Settings::default()).unwrap();
        assert!(trigger.account.is_none());
        assert_eq!(trigger.binding.subjects.unwrap()[0].name, "mine");
    }

    #[test]
    fn the_program_takes_what_the_cron_job_says() {
        let words = [
            "x",
            "--invoker-name=orders",
            "--invoker-kind=BackupConfiguration",
            "--namespace=demo",
        ];
        assert_eq!(Args::try_parse_from(words).unwrap().invoker_name, "orders");
        assert!(
            Args::try_parse_from(["x", "--invoker-name=o", "--invoker-kind=Pod", "--namespace=d"])
                .is_err()
        );
    }
}
