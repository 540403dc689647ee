//! The Job of a session that starts, its Secret, and the status that says so. Pure.

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession, Repository,
    backup_session::BackupSessionStatus,
    condition, names,
    session::{self, Session},
    time::from_clock,
};
use coffer_runtime::grant::{Grant, Operation, RepositoryRef, SessionRef};
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};

use crate::{
    gather::Preparation,
    interim, job,
    plan::{Action, Plan, Requeue, SessionSecret},
    rbac,
    settings::Settings,
    variables,
};

use super::{
    decide::{conclude, deadline},
    draft,
    gather::Facts,
    start::{answered, target_of},
};

pub(super) fn launch(
    object: &BackupSession,
    facts: &Facts,
    config: &BackupConfiguration,
    repository: &Repository,
    preparation: &Preparation,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<BackupSessionStatus> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let job_name = names::backup_job(&name, facts.at);
    let target = config.spec.target.clone().unwrap_or_default();
    let ends = deadline(object, facts, now, settings);
    let labels = names::backup_labels(config.labels());
    let Some(owner) = object.controller_owner_ref(&()) else { return Plan::nothing() };
    let account = names::service_account(facts.kind(), &config.name_any(), facts.at);
    let pod = config.spec.runtime_settings.as_ref().and_then(|settings| settings.pod.as_ref());
    let account_owner = draft::owner(facts.kind(), config);
    let service_account = account_owner.and_then(|owner| {
        rbac::service_account(&namespace, account.clone(), owner, labels.clone(), pod)
    });
    let template = config.spec.interim_volume_template.as_ref();
    let of = if facts.at == 0 { name.clone() } else { format!("{name}-{}", facts.at) };
    let claim = template.map(|t| interim::claim(t, &namespace, &of, owner.clone()));
    let job = job::build(job::Parts {
        name: &job_name,
        namespace: &namespace,
        session: &name,
        owner: owner.clone(),
        labels: labels.clone(),
        containers: preparation.containers.clone(),
        volumes: preparation.volumes.clone(),
        claim: claim.as_ref(),
        settings: config.spec.runtime_settings.as_ref(),
        temp_dir: config.spec.temp_dir.as_ref(),
        service_account: account,
        image_pull_policy: &settings.image_pull_policy,
        seconds: seconds_until(ends, now),
    });
    let home = repository.namespace().unwrap_or_default();
    let document = Session {
        version: 1,
        kind: "BackupSession".to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        invoker_kind: facts.kind().to_owned(),
        invoker_name: config.name_any(),
        target: session::Target {
            kind: target.reference.kind.clone(),
            namespace: target.reference.namespace_or(&namespace).to_owned(),
            name: target.reference.name.clone(),
            app_type: preparation.app_type.clone(),
        },
        redis: preparation.redis.clone(),
        repository: session::Repository { namespace: home.clone(), name: repository.name_any() },
        host: variables::host(&target.alias).to_owned(),
        tags: vec![format!("session={namespace}/{name}")],
        restore: None,
        endpoints: settings.endpoints.clone(),
        // Put in when it is signed.
        grant: session::Sensitive::new(""),
        wait_timeout_seconds: preparation.wait_timeout_seconds,
    };
    let grant = Grant {
        session: SessionRef {
            kind: "BackupSession".to_owned(),
            namespace: namespace.clone(),
            name,
        },
        repository: RepositoryRef { namespace: home, name: repository.name_any() },
        operation: Operation::Backup,
        snapshot: None,
        issued: now,
        expires: ends,
    };
    let secret =
        SessionSecret { secret: secret(&namespace, &job_name, owner, labels), document, grant };

    let status = started(object, facts, ends, now);
    let mut actions: Vec<Action> = service_account
        .into_iter()
        .map(|account| Action::ApplyServiceAccount(Box::new(account)))
        .collect();
    actions.extend(claim.map(|claim| Action::CreateClaim(Box::new(claim))));
    actions.push(Action::CreateSessionSecret(Box::new(secret)));
    actions.push(Action::CreateJob(Box::new(job)));
    Plan { actions, ..Plan::status(status, Requeue::At(ends)) }
}

/// The status of a session whose Job exists.
pub(super) fn started(
    object: &BackupSession,
    facts: &Facts,
    ends: DateTime<Utc>,
    now: DateTime<Utc>,
) -> BackupSessionStatus {
    let job_name = names::backup_job(&object.name_any(), facts.at);
    let mut status = answered(object);
    status.session_deadline.get_or_insert_with(|| from_clock(ends));
    let target = target_of(&mut status, object, facts);
    condition::set(
        &mut target.conditions,
        condition::BACKUP_EXECUTOR_ENSURED
            .is_true(format!("Job {job_name} was created"), from_clock(now)),
    );
    target.total_hosts = Some(1);
    // The first one finds the repository or makes it; what is done once for all is done after the last one.
    if facts.at == 0 {
        target.pre_backup_actions = vec!["InitializeBackendRepository".to_owned()];
    }
    if facts.at + 1 >= facts.members().len() {
        target.post_backup_actions =
            ["ApplyRetentionPolicy", "VerifyRepositoryIntegrity", "SendRepositoryMetrics"]
                .map(str::to_owned)
                .to_vec();
    }
    conclude(object, &mut status, now);
    status
}

/// How long a Job may run by itself, should nobody be there to stop it at its deadline.
#[must_use]
pub fn seconds_until(ends: DateTime<Utc>, now: DateTime<Utc>) -> i64 {
    const LENIENCE_SECONDS: i64 = 60;
    (ends - now).num_seconds().max(0) + LENIENCE_SECONDS
}

/// The session Secret without its content.
#[must_use]
pub fn secret(
    namespace: &str,
    job: &str,
    owner: OwnerReference,
    labels: std::collections::BTreeMap<String, String>,
) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(names::session_secret(job)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}
