//! The conditions of a restore in their order, and its Job once they hold. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    Repository, RestoreSession,
    condition::{self, Condition, SUCCEEDED},
    names,
    restore_session::RestoreSessionStatus,
    session::{self, Session},
    time::{from_clock, to_clock},
};
use coffer_runtime::grant::{Grant, Operation, RepositoryRef, SessionRef};
use kube::{Resource, ResourceExt};

use crate::{
    apply::CANCELLED_BY,
    backup_session::{
        launch::{seconds_until, secret},
        start::LINE,
    },
    gather::{Preparation, Prepared},
    interim, job, patience,
    plan::{Action, Lookup, Plan, Requeue, SessionSecret},
    policy,
    queue::Turn,
    rbac, rules,
    settings::Settings,
    summary,
};

use super::{
    decide::{conclude, deadline, is_of_batch},
    follow,
    gather::Facts,
    hooks,
};

/// Decides about a restore without a Job.
pub(super) fn start(
    object: &RestoreSession,
    facts: &Facts,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<RestoreSessionStatus> {
    if let Some(who) = object.annotations().get(CANCELLED_BY) {
        return follow::cancelled_before_start(object, who, now);
    }
    let mut status = object.status.clone().unwrap_or_default();
    if facts.worker.job.is_some() {
        // It was made, and we were stopped before that was written down.
        let ends = deadline(object, now, settings);
        return Plan::status(started(object, status, ends, now), Requeue::At(ends));
    }
    if is_of_batch(object) && now >= deadline(object, now, settings) {
        return follow::too_late(object, now);
    }
    let unanswered = patience::take(&mut status.conditions, condition::RESTORE_EXECUTOR_ENSURED);
    let missing = conditions(object, facts, now, &mut status.conditions);
    let again = Requeue::At(now + settings.missing_retry);
    let grace = TimeDelta::from_std(settings.start_grace).unwrap_or_default();
    let wait = |mut status: RestoreSessionStatus, requeue| {
        conclude(object, &mut status, now);
        Plan::status(status, requeue)
    };
    if !matches!(missing, Next::Start) && hooks::begun(Some(&status)) {
        // What the hook began must have an end: what vanished since then is waited for, but not without one.
        let Some(gone) = summary::first_refusal(&status.conditions).cloned() else {
            return wait(status, again);
        };
        let ends = to_clock(&gone.last_transition_time) + grace;
        if now < ends {
            return wait(status, again.or_at(ends));
        }
        let why = format!("the preRestore hook was run, and then: {}", gone.message);
        let failed = condition::RESTORE_EXECUTOR_ENSURED.is_false(why, from_clock(now));
        condition::set(&mut status.conditions, failed);
        return wait(status, Requeue::OnChange);
    }
    match missing {
        Next::Missing => return wait(status, again),
        Next::Invalid => return wait(status, Requeue::OnChange),
        Next::Start => {}
    }
    let tell = |why: &str, status, requeue| {
        let mut plan = wait(status, requeue);
        if let Some(status) = &mut plan.status {
            let (summary, at) = (summary::waiting(why), from_clock(now));
            let generation = object.metadata.generation;
            condition::sum_up(&mut status.conditions, SUCCEEDED, summary, generation, at);
        }
        plan
    };
    if let Some(Turn::Wait(why)) = &facts.turn {
        return tell(why, status, Requeue::At(now + LINE));
    }
    let (Lookup::Found(repository), Some(prepared)) = (&facts.repository, &facts.prepared) else {
        return wait(status, again);
    };
    match prepared {
        Prepared::Ready(preparation) => match hooks::before(object, now, settings) {
            Some(hook) => Plan::call(hook),
            None => launch(object, status, repository, preparation, now, settings),
        },
        Prepared::NotYet(why) if now < unanswered.unwrap_or(now) + grace => {
            let since = unanswered.unwrap_or(now);
            patience::note(&mut status.conditions, condition::RESTORE_EXECUTOR_ENSURED, since);
            tell(why, status, again)
        }
        Prepared::Refused(why) | Prepared::NotYet(why) => {
            let failed = condition::RESTORE_EXECUTOR_ENSURED.is_false(why, from_clock(now));
            condition::set(&mut status.conditions, failed);
            wait(status, Requeue::OnChange)
        }
    }
}

/// The status of a restore whose Job the API server refuses.
#[must_use]
pub fn refused(object: &RestoreSession, why: &str, now: DateTime<Utc>) -> RestoreSessionStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let failed = condition::RESTORE_EXECUTOR_ENSURED.is_false(why, from_clock(now));
    condition::set(&mut status.conditions, failed);
    conclude(object, &mut status, now);
    status
}

enum Next {
    /// Something is missing, and may appear.
    Missing,
    /// The spec is refused.
    Invalid,
    /// Everything is there.
    Start,
}

fn conditions(
    object: &RestoreSession,
    facts: &Facts,
    now: DateTime<Utc>,
    all: &mut Vec<Condition>,
) -> Next {
    let at = from_clock(now);
    let generation = object.metadata.generation;
    let mut set = |new: Condition| condition::set(all, new.of(generation));
    let namespace = object.namespace().unwrap_or_default();
    let reference = object.spec.repository.clone().unwrap_or_default();
    let repository_name = format!("{}/{}", reference.namespace_or(&namespace), reference.name);
    set(match &facts.repository {
        Lookup::Found(_) => condition::REPOSITORY_FOUND
            .is_true(format!("Repository {repository_name} exists"), at.clone()),
        Lookup::Missing if reference.name.is_empty() => condition::REPOSITORY_FOUND
            .is_false("spec.repository is missing: name a Repository", at.clone()),
        Lookup::Missing => condition::REPOSITORY_FOUND.is_false(
            format!(
                "Repository {repository_name} is not found: create it, or change spec.repository"
            ),
            at.clone(),
        ),
        Lookup::Unknown(why) => condition::REPOSITORY_FOUND.is_unknown(why, at.clone()),
    });
    let Lookup::Found(repository) = &facts.repository else { return Next::Missing };
    let secret_name = format!(
        "{}/{}",
        repository.namespace().unwrap_or_default(),
        repository.spec.backend.storage_secret_name
    );
    set( match &facts.secret {
        Lookup::Found(()) => condition::BACKEND_SECRET_FOUND.is_true(format!("Secret {secret_name} exists"), at.clone()),
        Lookup::Missing => condition::BACKEND_SECRET_FOUND.is_false(
            format!("Secret {secret_name} is not found: create it, or change spec.backend.storageSecretName of Repository {repository_name}"),
            at.clone(),
        ),
        Lookup::Unknown(why) => condition::BACKEND_SECRET_FOUND.is_unknown(why, at.clone()),
    });
    if facts.secret.found().is_none() {
        return Next::Missing;
    }
    if let Err(why) = validate(object, Some(repository), facts, &namespace) {
        set(condition::VALIDATION_PASSED.is_false(why, at));
        return Next::Invalid;
    }
    set(condition::VALIDATION_PASSED.is_true("the spec can be executed", at.clone()));
    let target = object.spec.target.clone().unwrap_or_default().reference;
    let target_name = format!("{}/{}", target.namespace_or(&namespace), target.name);
    set(match &facts.target {
        Lookup::Found(_) => {
            condition::RESTORE_TARGET_FOUND.is_true(format!("AppBinding {target_name} exists"), at)
        }
        Lookup::Missing => condition::RESTORE_TARGET_FOUND.is_false(
            format!("AppBinding {target_name} is not found: create it, or change spec.target.ref"),
            at,
        ),
        Lookup::Unknown(why) => condition::RESTORE_TARGET_FOUND.is_unknown(why, at),
    });
    if facts.target.found().is_some() { Next::Start } else { Next::Missing }
}

/// What can be said without executing it.
pub(crate) fn validate(
    object: &RestoreSession,
    repository: Option<&Repository>,
    facts: &Facts,
    namespace: &str,
) -> Result<(), String> {
    let spec = &object.spec;
    let alias = spec.target.as_ref().map_or("", |target| target.alias.as_str());
    policy::all([
        repository.map_or(Ok(()), |r| policy::may_use(r, namespace, &facts.namespace_labels)),
        repository.map_or(Ok(()), policy::one_backend),
        policy::driver(spec.driver),
        policy::target(spec.target.as_ref().map(|target| &target.reference)),
        rules::choose(spec.rules_in_force(), alias).map(|_| ()),
        policy::time_out(spec.time_out.as_deref()),
        policy::restore_hooks(spec.hooks.as_ref(), facts.target.found()),
    ])
}

fn launch(
    object: &RestoreSession,
    status: RestoreSessionStatus,
    repository: &Repository,
    preparation: &Preparation,
    now: DateTime<Utc>,
    settings: &Settings,
) -> Plan<RestoreSessionStatus> {
    let namespace = object.namespace().unwrap_or_default();
    let name = object.name_any();
    let spec = &object.spec;
    let target = spec.target.clone().unwrap_or_default();
    let job_name = names::restore_job(&name, 0);
    let ends = deadline(object, now, settings);
    let labels = names::restore_labels(&std::collections::BTreeMap::new());
    // Validated a moment ago; without a choice there is nothing to start.
    let (Ok(choice), Some(owner)) =
        (rules::choose(spec.rules_in_force(), &target.alias), object.controller_owner_ref(&()))
    else {
        return Plan::nothing();
    };
    let account = names::service_account("RestoreSession", &name, 0);
    let pod = spec.runtime_settings.as_ref().and_then(|settings| settings.pod.as_ref());
    let service_account =
        rbac::service_account(&namespace, account.clone(), owner.clone(), labels.clone(), pod);
    let template = spec.interim_volume_template.as_ref();
    let claim = template.map(|t| interim::claim(t, &namespace, &name, owner.clone()));
    let job = job::build(job::Parts {
        name: &job_name,
        namespace: &namespace,
        session: &name,
        owner: owner.clone(),
        labels: labels.clone(),
        containers: preparation.containers.clone(),
        volumes: preparation.volumes.clone(),
        claim: claim.as_ref(),
        settings: spec.runtime_settings.as_ref(),
        temp_dir: spec.temp_dir.as_ref(),
        service_account: account,
        image_pull_policy: &settings.image_pull_policy,
        seconds: seconds_until(ends, now),
    });
    let home = repository.namespace().unwrap_or_default();
    let restore = choice.restore();
    let grant = Grant {
        session: SessionRef {
            kind: "RestoreSession".to_owned(),
            namespace: namespace.clone(),
            name: name.clone(),
        },
        repository: RepositoryRef { namespace: home.clone(), name: repository.name_any() },
        operation: Operation::Restore,
        snapshot: Some(restore.snapshot.clone()),
        issued: now,
        expires: ends,
    };
    let document = Session {
        version: 1,
        kind: "RestoreSession".to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        invoker_kind: "RestoreSession".to_owned(),
        invoker_name: name,
        target: session::Target {
            kind: target.reference.kind.clone(),
            namespace: target.reference.namespace_or(&namespace).to_owned(),
            name: target.reference.name.clone(),
            app_type: preparation.app_type.clone(),
        },
        redis: preparation.redis.clone(),
        repository: session::Repository { namespace: home, name: repository.name_any() },
        host: target.alias.clone(),
        tags: vec![],
        restore: Some(restore),
        endpoints: settings.endpoints.clone(),
        // Put in when it is signed.
        grant: session::Sensitive::new(""),
        wait_timeout_seconds: preparation.wait_timeout_seconds,
    };
    let secret =
        SessionSecret { secret: secret(&namespace, &job_name, owner, labels), document, grant };

    let status = started(object, status, ends, now);
    let mut actions: Vec<Action> = service_account
        .into_iter()
        .map(|account| Action::ApplyServiceAccount(Box::new(account)))
        .collect();
    actions.extend(claim.map(|claim| Action::CreateClaim(Box::new(claim))));
    actions.push(Action::CreateSessionSecret(Box::new(secret)));
    actions.push(Action::CreateJob(Box::new(job)));
    Plan { actions, ..Plan::status(status, Requeue::At(ends)) }
}

/// The status of a restore whose Job exists.
fn started(
    object: &RestoreSession,
    mut status: RestoreSessionStatus,
    ends: DateTime<Utc>,
    now: DateTime<Utc>,
) -> RestoreSessionStatus {
    let job = names::restore_job(&object.name_any(), 0);
    let ensured = condition::RESTORE_EXECUTOR_ENSURED
        .is_true(format!("Job {job} was created"), from_clock(now));
    condition::set(&mut status.conditions, ensured);
    status.total_hosts = Some(1);
    status.session_deadline.get_or_insert_with(|| from_clock(ends));
    conclude(object, &mut status, now);
    status
}
