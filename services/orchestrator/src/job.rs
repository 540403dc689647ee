//! From a resolved Task to a Job: one container a step, all but the last as init containers. Pure.

use std::collections::BTreeMap;

use coffer_api::{
    runtime_settings::{ContainerSettings, EmptyDirSettings, PodSettings, RuntimeSettings},
    session,
};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Container, EmptyDirVolumeSource, EnvVar, PersistentVolumeClaim, PodSecurityContext,
            PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::interim;

/// The scratch volume and where every container finds it.
const SCRATCH: (&str, &str) = ("stash-tmp-dir", "/stash-tmp");
/// `nobody`: a worker needs no user of its own.
const NOBODY: i64 = 65_534;
/// Everybody in the pod may read the session, whatever user the settings choose; the volume is this pod's alone.
const READABLE: i32 = 0o444;
/// Annotation of Jobs and pods: the session they belong to.
pub const SESSION: &str = "coffer.appscode.com/session";

/// What a Job is made of.
pub struct Parts<'a> {
    /// Its name, and that of the session Secret.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Name of the session.
    pub session: &'a str,
    /// The session.
    pub owner: OwnerReference,
    /// Labels of Job and pod.
    pub labels: BTreeMap<String, String>,
    /// The resolved containers, in order; at least one.
    pub containers: Vec<Container>,
    /// The Task's volumes.
    pub volumes: Vec<Volume>,
    /// The claim that every container gets.
    pub claim: Option<&'a PersistentVolumeClaim>,
    /// What the user wants of the pod.
    pub settings: Option<&'a RuntimeSettings>,
    /// The scratch directory.
    pub temp_dir: Option<&'a EmptyDirSettings>,
    /// Account to run as, when the settings name none.
    pub service_account: String,
    /// Pull policy of containers that name none.
    pub image_pull_policy: &'a str,
    /// How long it may run, in seconds.
    pub seconds: i64,
}

/// The Job.
#[must_use]
pub fn build(parts: Parts<'_>) -> Job {
    let Parts {
        name,
        namespace,
        session,
        owner,
        labels,
        containers,
        mut volumes,
        claim,
        settings,
        temp_dir,
        service_account,
        image_pull_policy,
        seconds,
    } = parts;
    let settings = settings.cloned().unwrap_or_default();
    let for_containers = settings.container.unwrap_or_default();
    let mut steps: Vec<Container> = containers
        .into_iter()
        .map(|step| container(step, &for_containers, image_pull_policy))
        .collect();
    if let Some((volume, mount)) = claim.map(interim::volume) {
        volumes.push(volume);
        for step in &mut steps {
            step.volume_mounts.get_or_insert_default().push(mount.clone());
        }
    }
    let last = steps.pop();
    volumes.push(scratch(temp_dir));
    volumes.push(Volume {
        name: session::VOLUME.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            default_mode: Some(READABLE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let annotations = BTreeMap::from([(SESSION.to_owned(), session.to_owned())]);
    let (spec, mut pod_annotations) = pod(
        PodSpec {
            containers: last.into_iter().collect(),
            init_containers: (!steps.is_empty()).then_some(steps),
            volumes: Some(volumes),
            restart_policy: Some("Never".to_owned()),
            ..PodSpec::default()
        },
        settings.pod.unwrap_or_default(),
        service_account,
    );
    pod_annotations.extend(annotations.clone());
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels.clone()),
            annotations: Some(annotations),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(seconds),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(pod_annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(spec),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn scratch(settings: Option<&EmptyDirSettings>) -> Volume {
    let settings = settings.cloned().unwrap_or_default();
    Volume {
        name: SCRATCH.0.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some(settings.medium).filter(|medium| !medium.is_empty()),
            size_limit: settings.size_limit,
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn container(mut step: Container, settings: &ContainerSettings, pull: &str) -> Container {
    let ContainerSettings {
        resources,
        liveness_probe,
        readiness_probe,
        lifecycle,
        security_context,
        env,
        env_from,
        nice,
        ionice,
    } = settings.clone();
    step.image_pull_policy.get_or_insert_with(|| pull.to_owned());
    // A worker that dies before it can write its outcome leaves the end of its log.
    step.termination_message_policy = Some("FallbackToLogsOnError".to_owned());
    if let Some(wanted) = resources {
        let own = step.resources.get_or_insert_default();
        if wanted.limits.as_ref().is_some_and(|limits| !limits.is_empty()) {
            own.limits = wanted.limits;
        }
        if wanted.requests.as_ref().is_some_and(|requests| !requests.is_empty()) {
            own.requests = wanted.requests;
        }
        if wanted.claims.is_some() {
            own.claims = wanted.claims;
        }
    }
    step.liveness_probe = liveness_probe.or(step.liveness_probe);
    step.readiness_probe = readiness_probe.or(step.readiness_probe);
    step.lifecycle = lifecycle.or(step.lifecycle);
    step.security_context = security_context.or(step.security_context);
    let variables = step.env.get_or_insert_default();
    let number =
        |name: &str, value: Option<i32>| value.map(|value| variable(name, value.to_string()));
    let nice = nice.and_then(|nice| number("NICE_ADJUSTMENT", nice.adjustment));
    let ionice = ionice.into_iter().flat_map(|io| {
        [number("IONICE_CLASS", io.class), number("IONICE_CLASS_DATA", io.class_data)]
    });
    let session_dir = variable(session::DIR_ENV, session::MOUNT_PATH.to_owned());
    for new in env.into_iter().chain(nice).chain(ionice.flatten()).chain([session_dir]) {
        match variables.iter_mut().find(|old| old.name == new.name) {
            Some(old) => *old = new,
            None => variables.push(new),
        }
    }
    if !env_from.is_empty() {
        step.env_from.get_or_insert_default().extend(env_from);
    }
    let mounts = step.volume_mounts.get_or_insert_default();
    mounts.push(mount(SCRATCH.0, SCRATCH.1, None));
    mounts.push(mount(session::VOLUME, session::MOUNT_PATH, Some(true)));
    step
}

fn variable(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn mount(name: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    }
}

/// Applies the user's settings; gives the pod and its annotations.
#[must_use]
pub fn pod(
    mut spec: PodSpec,
    settings: PodSettings,
    service_account: String,
) -> (PodSpec, BTreeMap<String, String>) {
    let PodSettings {
        pod_annotations,
        node_selector,
        service_account_name,
        service_account_annotations: _,
        automount_service_account_token,
        node_name,
        security_context,
        image_pull_secrets,
        affinity,
        scheduler_name,
        tolerations,
        priority_class_name,
        priority,
        readiness_gates,
        runtime_class_name,
        enable_service_links,
        topology_spread_constraints,
    } = settings;
    let text = |value: String| Some(value).filter(|value| !value.is_empty());
    fn many<T>(all: Vec<T>) -> Option<Vec<T>> {
        (!all.is_empty()).then_some(all)
    }
    spec.service_account_name = text(service_account_name).or(Some(service_account));
    spec.automount_service_account_token = Some(automount_service_account_token.unwrap_or(false));
    spec.node_selector = (!node_selector.is_empty()).then_some(node_selector);
    spec.node_name = text(node_name);
    spec.security_context = security_context.or_else(|| {
        Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(NOBODY),
            ..PodSecurityContext::default()
        })
    });
    spec.image_pull_secrets = many(image_pull_secrets);
    spec.affinity = affinity;
    spec.scheduler_name = text(scheduler_name);
    spec.tolerations = many(tolerations);
    spec.priority_class_name = text(priority_class_name);
    spec.priority = priority;
    spec.readiness_gates = many(readiness_gates);
    spec.runtime_class_name = runtime_class_name;
    spec.enable_service_links = enable_service_links;
    spec.topology_spread_constraints = many(topology_spread_constraints);
    (spec, pod_annotations)
}

#[cfg(test)]
mod tests;
