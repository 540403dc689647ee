//! After the transfer: retention, integrity, the repository's figures, history, the session's figures. One call a pass,
//! in this order; each leaves its condition. Pure, the calls are made by the driver.

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession,
    backup_session::{
        BackupSessionStatus, BackupTargetStatus, HostBackupPhase, HostBackupStats, SessionPhase,
    },
    condition::{self, Condition},
    outcome::{Outcome, Result as Ended},
    session::{self, Target},
    time::{from_clock, to_clock},
};
use kube::ResourceExt;

use crate::{
    executor::{self, Worker},
    metrics, phase,
    plan::{Answer, Call, Done, Plan, Requeue},
    variables,
};

use super::{
    decide::{age, conclude},
    gather::Facts,
    hooks::{self, After},
    start::target_of,
};

/// Decides what is next for a session whose data is settled.
pub(super) fn finish(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
) -> Plan<BackupSessionStatus> {
    let mut status = object.status.clone().unwrap_or_default();
    let absent = |kind: condition::Kind| kind.find(&status.conditions).is_none();
    let Some(config) = &facts.invoker else {
        // The invoker is gone, its repository is not known: nothing can be pushed or kept in order.
        let gone = condition::METRICS_PUSHED
            .is_false("nothing was pushed: the invoker is not found", from_clock(now));
        return ended(object, status, gone, now);
    };
    // The hooks of a batch's targets belong to them, the hook of a single target tells of the whole session.
    if facts.batch.is_some()
        && let Some(plan) = post_hooks(object, facts, &status, now)
    {
        return plan;
    }
    if transferred(&status) {
        match repository_step(object, facts, config, &status) {
            Step::Call(call) => return Plan::call(call),
            Step::Set(kind, message) => {
                condition::set(&mut status.conditions, kind.is_true(message, from_clock(now)));
                conclude(object, &mut status, now);
                return Plan::status(status, Requeue::OnChange);
            }
            Step::Done => {}
        }
    }
    if let Some(plan) = post_hooks(object, facts, &status, now) {
        return plan;
    }
    match hooks::after_all(object, &status, facts, now) {
        Some(After::Run(hook)) => return Plan::call(hook),
        Some(After::Not(why)) => {
            let done = condition::GLOBAL_POST_BACKUP_HOOK.is_true(why, from_clock(now));
            return ended(object, status, done, now);
        }
        None => {}
    }
    if absent(condition::BACKUP_HISTORY_CLEANED) {
        return Plan::call(clean_history(object, facts));
    }
    if absent(condition::METRICS_PUSHED) {
        return Plan::call(push(object, facts, config, &status, now));
    }
    conclude(object, &mut status, now);
    Plan::status(status, Requeue::OnChange)
}

/// Decides about a target that is over while others are not: its hook runs now.
pub(super) fn one_is_over(
    object: &BackupSession,
    facts: &Facts,
    now: DateTime<Utc>,
) -> Plan<BackupSessionStatus> {
    let status = object.status.clone().unwrap_or_default();
    post_hook(object, facts, &status, facts.at, now).unwrap_or_else(Plan::nothing)
}

fn post_hooks(
    object: &BackupSession,
    facts: &Facts,
    status: &BackupSessionStatus,
    now: DateTime<Utc>,
) -> Option<Plan<BackupSessionStatus>> {
    (0..status.targets.len()).find_map(|at| post_hook(object, facts, status, at, now))
}

fn post_hook(
    object: &BackupSession,
    facts: &Facts,
    status: &BackupSessionStatus,
    at: usize,
    now: DateTime<Utc>,
) -> Option<Plan<BackupSessionStatus>> {
    Some(match hooks::after(object, status, facts, at, now)? {
        After::Run(hook) => Plan::call(hook),
        After::Not(why) => {
            let mut status = status.clone();
            let done = condition::POST_BACKUP_HOOK.is_true(why, from_clock(now));
            condition::set(&mut status.targets[at].conditions, done);
            conclude(object, &mut status, now);
            Plan::status(status, Requeue::OnChange)
        }
    })
}

/// The status after a call.
#[must_use]
pub fn record(
    object: &BackupSession,
    facts: &Facts,
    call: &Call,
    answer: &Answer,
    now: DateTime<Utc>,
) -> BackupSessionStatus {
    let mut status = object.status.clone().unwrap_or_default();
    let kind = match call {
        Call::Forget { .. } => condition::RETENTION_POLICY_APPLIED,
        Call::Check { .. } => condition::REPOSITORY_INTEGRITY_VERIFIED,
        Call::Figures { .. } => condition::REPOSITORY_METRICS_PUSHED,
        Call::CleanHistory { .. } => condition::BACKUP_HISTORY_CLEANED,
        Call::Hook(hook) => hook.moment.condition(),
        Call::Push { .. } | Call::Wipe { .. } => condition::METRICS_PUSHED,
    };
    let at = from_clock(now);
    let condition = match answer {
        Ok(Done::Forgot { kept, removed }) => {
            let dry = matches!(call, Call::Forget { policy, .. } if policy.dry_run);
            let removed = if dry {
                format!("{removed} would be removed (dryRun)")
            } else {
                format!("{removed} removed")
            };
            kind.is_true(format!("{kept} snapshots kept, {removed}"), at)
        }
        Ok(Done::Checked { errors }) if errors.is_empty() => {
            kind.is_true("no errors were found", at)
        }
        Ok(Done::Checked { errors }) => kind.is_false(
            format!(
                "the repository is damaged: {}; `coffer check --read-data` tells more",
                errors.join("; ")
            ),
            at,
        ),
        Ok(Done::Figures { size, snapshots }) => {
            kind.is_true(format!("{snapshots} snapshots, {size}"), at)
        }
        Ok(Done::Cleaned) => match call {
            Call::CleanHistory { sessions, .. } if !sessions.is_empty() => {
                kind.is_true(format!("deleted {}", sessions.join(", ")), at)
            }
            _ => kind.is_true("nothing to delete", at),
        },
        Ok(Done::Hooked(what)) => kind.is_true(what, at),
        Ok(Done::Pushed | Done::Wiped { .. }) => kind.is_true("pushed", at),
        Err(why) => kind.is_false(why, at),
    };
    let conditions = match call {
        Call::Hook(hook) if hook.at.is_some() => {
            target_of(&mut status, object, facts);
            let at = hook.at.unwrap_or_default();
            &mut status.targets[at].conditions
        }
        _ => &mut status.conditions,
    };
    condition::set(conditions, condition);
    conclude(object, &mut status, now);
    status
}

/// Sessions that history no longer keeps: as many as the user wrote stay, this one among them. The newest one with a
/// result stays even behind skipped ones, unless nothing is to be kept.
pub(super) fn clean_history(object: &BackupSession, facts: &Facts) -> Call {
    let limit = facts.invoker.as_ref().and_then(|config| config.spec.backup_history_limit);
    // A negative limit is refused before a session begins. One that was written since takes nothing away.
    let limit = usize::try_from(limit.unwrap_or(1)).unwrap_or(usize::MAX);
    let mut sessions: Vec<&BackupSession> = facts.siblings.iter().collect();
    let order = |session: &BackupSession| {
        let created = session.metadata.creation_timestamp.as_ref().map(to_clock);
        (std::cmp::Reverse(created), std::cmp::Reverse(session.name_any()))
    };
    sessions.sort_by_key(|session| order(session));
    let phase = |session: &BackupSession| session.status.as_ref().and_then(|status| status.phase);
    let has_result = |session: &BackupSession| {
        session.name_any() == object.name_any() && phase(object) != Some(SessionPhase::Skipped)
            || matches!(phase(session), Some(SessionPhase::Succeeded | SessionPhase::Failed))
    };
    let newest = sessions.iter().find(|session| has_result(session)).map(|s| s.name_any());
    let old = sessions.iter().skip(limit).filter(|session| {
        let own = session.name_any() == object.name_any();
        let kept = limit > 0 && newest.as_deref() == Some(session.name_any().as_str());
        !own && !kept && phase(session).is_some_and(SessionPhase::is_final)
    });
    Call::CleanHistory {
        namespace: object.namespace().unwrap_or_default(),
        sessions: old.map(|session| session.name_any()).collect(),
    }
}

enum Step {
    Call(Call),
    Set(condition::Kind, &'static str),
    Done,
}

/// True when every host's data is stored, whatever went wrong afterwards.
pub(super) fn transferred(status: &BackupSessionStatus) -> bool {
    !status.targets.is_empty() && status.targets.iter().all(is_stored)
}

fn is_stored(target: &BackupTargetStatus) -> bool {
    let stored = |host: &HostBackupStats| host.phase == Some(HostBackupPhase::Succeeded);
    !target.stats.is_empty() && target.stats.iter().all(stored)
}

/// The first step on the repository that has no condition yet; after one that failed there is none.
fn repository_step(
    object: &BackupSession,
    facts: &Facts,
    config: &BackupConfiguration,
    status: &BackupSessionStatus,
) -> Step {
    let namespace = object.namespace().unwrap_or_default();
    let reference = config.spec.repository.clone().unwrap_or_default();
    let repository = session::Repository {
        namespace: reference.namespace_or(&namespace).to_owned(),
        name: reference.name.clone(),
    };
    for kind in [
        condition::RETENTION_POLICY_APPLIED,
        condition::REPOSITORY_INTEGRITY_VERIFIED,
        condition::REPOSITORY_METRICS_PUSHED,
    ] {
        if kind.fails(&status.conditions) {
            return Step::Done;
        }
        if kind.holds(&status.conditions) {
            continue;
        }
        if kind == condition::RETENTION_POLICY_APPLIED {
            let policy = config.spec.retention_policy.clone();
            if policy.is_empty() {
                return Step::Set(kind, "the policy has no keep rule: every snapshot is kept");
            }
            let append_only = facts.repository.as_ref().is_some_and(|r| r.spec.append_only);
            if append_only && !policy.dry_run {
                return Step::Set(
                    kind,
                    "the repository is append-only: every snapshot is kept, whatever the retention policy says",
                );
            }
            return Step::Call(Call::Forget { repository, policy });
        }
        if kind == condition::REPOSITORY_INTEGRITY_VERIFIED {
            return Step::Call(Call::Check { repository });
        }
        let labels = labels(facts, config, &namespace);
        return Step::Call(Call::Figures {
            group: metrics::group(facts.kind(), &namespace, &config.name_any()),
            labels: match &facts.repository {
                Some(found) => metrics::repository(labels, found),
                None => labels,
            },
            backup_time: object
                .metadata
                .creation_timestamp
                .as_ref()
                .map(to_clock)
                .unwrap_or_default(),
            repository,
        });
    }
    Step::Done
}

fn labels(facts: &Facts, config: &BackupConfiguration, namespace: &str) -> metrics::Labels {
    let repository = config.spec.repository.as_ref().map_or("", |r| r.name.as_str());
    metrics::invoker(facts.kind(), namespace, &config.name_any(), repository)
}

fn push(
    object: &BackupSession,
    facts: &Facts,
    config: &BackupConfiguration,
    status: &BackupSessionStatus,
    now: DateTime<Utc>,
) -> Call {
    let namespace = object.namespace().unwrap_or_default();
    // What the phase will be once this push has succeeded.
    let mut prospective = status.clone();
    let pushed = condition::METRICS_PUSHED.is_true("", from_clock(now));
    condition::set(&mut prospective.conditions, pushed);
    let succeeded = phase::backup(&prospective) == SessionPhase::Succeeded;
    let labels = labels(facts, config, &namespace);
    let members = facts.members();
    let mut families: Vec<metrics::Family> = vec![];
    for (at, member) in members.iter().enumerate() {
        let own = (&facts.worker, &facts.app_type);
        let end = facts.ends.get(at).map(|(worker, app_type)| (worker, app_type));
        let (worker, app_type) = end.unwrap_or(own);
        let target = member.spec.target.clone().unwrap_or_default();
        let app = Target {
            kind: target.reference.kind.clone(),
            namespace: target.reference.namespace_or(&namespace).to_owned(),
            name: target.reference.name.clone(),
            app_type: app_type.clone(),
        };
        let session = metrics::Session {
            target: metrics::target(labels.clone(), &app),
            labels: labels.clone(),
            host: variables::host(&target.alias),
            succeeded,
            transferred: status.targets.get(at).is_some_and(is_stored),
            targets: u32::try_from(members.len()).unwrap_or(u32::MAX),
            seconds: age(object, now).as_secs_f64(),
            now: seconds(now),
        };
        // What is told of the session as a whole is told once.
        for family in metrics::backup(&session, figures(worker)) {
            let told = |f: &metrics::Family| f.name == family.name && f.labels == family.labels;
            if !families.iter().any(told) {
                families.push(family);
            }
        }
    }
    Call::Push { group: metrics::group(facts.kind(), &namespace, &config.name_any()), families }
}

fn figures(worker: &Worker) -> Option<metrics::BackupFigures> {
    match executor::outcome(worker)? {
        Outcome { result: Ended::BackedUp(done), duration_ms, .. } => {
            Some(metrics::BackupFigures {
                seconds: std::time::Duration::from_millis(duration_ms).as_secs_f64(),
                bytes: done.bytes,
                uploaded: done.data_added,
                files: (done.files_new.max(2), done.files_new),
            })
        }
        Outcome { result: Ended::Restored(_) | Ended::Failed(_), .. } => None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "Unix seconds are exact in a double")]
fn seconds(now: DateTime<Utc>) -> f64 {
    now.timestamp() as f64
}

fn ended(
    object: &BackupSession,
    mut status: BackupSessionStatus,
    last: Condition,
    now: DateTime<Utc>,
) -> Plan<BackupSessionStatus> {
    condition::set(&mut status.conditions, last);
    conclude(object, &mut status, now);
    Plan::status(status, Requeue::OnChange)
}
