//! Between the contracts and our own types.

use chrono::{DateTime, Utc};
use coffer_api::{
    backup_session::{BackupSessionStatus, HostBackupPhase},
    condition::{self, Condition, Status as Truth},
    outcome::{Outcome, Result as Ended},
    restore_session::{HostRestorePhase, RestoreSessionStatus},
    target::RepositoryRef,
    time::to_clock,
};
use coffer_proto::orchestrator::v1 as proto;
use coffer_runtime::grant::SessionRef;
use kube::ResourceExt;
use tonic::Status;

use crate::{
    progress::{Report, Transfer},
    sessions::{Record, Restore, Triggered, View},
    summary,
};

/// The session that a request names.
///
/// # Errors
/// Says what is missing.
pub fn reference(wire: Option<proto::SessionRef>) -> Result<SessionRef, Status> {
    let wire = wire.ok_or_else(|| Status::invalid_argument("ref is missing"))?;
    let kind = match wire.kind() {
        proto::SessionKind::Backup => "BackupSession",
        proto::SessionKind::Restore => "RestoreSession",
        proto::SessionKind::Unspecified => {
            return Err(Status::invalid_argument("ref.kind is missing: backup or restore"));
        }
    };
    if wire.namespace.is_empty() || wire.name.is_empty() {
        return Err(Status::invalid_argument("ref.namespace and ref.name are required"));
    }
    Ok(SessionRef { kind: kind.to_owned(), namespace: wire.namespace, name: wire.name })
}

/// What a worker reports.
#[must_use]
pub fn report(wire: proto::ReportRequest) -> Report {
    let proto::ReportRequest { session: _, stage, bytes, total_bytes, keys, total_keys, waiting } =
        wire;
    Report { stage, bytes, total_bytes, keys, total_keys, waiting }
}

/// What a client wants backed up.
///
/// # Errors
/// When nothing is named, or too much.
pub fn triggered(wire: &proto::TriggerBackupRequest) -> Result<Triggered, Status> {
    match (wire.backup_configuration.as_str(), wire.backup_batch.as_str()) {
        ("", "") => {
            Err(Status::invalid_argument("backup_configuration or backup_batch is required"))
        }
        (name, "") => Ok(Triggered::Configuration(name.to_owned())),
        ("", name) => Ok(Triggered::Batch(name.to_owned())),
        _ => {
            Err(Status::invalid_argument("name a backup_configuration or a backup_batch, not both"))
        }
    }
}

/// What a client wants restored.
#[must_use]
pub fn restore(wire: proto::TriggerRestoreRequest) -> Restore {
    let proto::TriggerRestoreRequest {
        namespace,
        name,
        repository,
        repository_namespace,
        target,
        target_namespace,
        alias,
        snapshot,
        source_host,
        task,
        params,
        request_id,
    } = wire;
    Restore {
        namespace,
        name,
        repository: RepositoryRef { name: repository, namespace: repository_namespace },
        target,
        target_namespace,
        alias,
        snapshot,
        source_host,
        task,
        params: params.into_iter().collect(),
        request_id,
    }
}

/// A session as the contract shows it.
#[must_use]
pub fn session(view: View) -> proto::Session {
    let View { record, repository, transfer, outcome } = view;
    let reference = record.reference();
    let transfer = transfer.map(to_transfer);
    let result = outcome.as_ref().and_then(result);
    match record {
        Record::Backup(session) => {
            let status = session.status.clone().unwrap_or_default();
            let targets = &status.targets;
            let names: Vec<&str> = targets.iter().map(|t| t.reference.name.as_str()).collect();
            let made = targets.iter().flat_map(|t| &t.stats).flat_map(|host| &host.snapshots);
            let short: Vec<&str> = made.map(|snapshot| snapshot.name.as_str()).collect();
            // A batch has an outcome for each member, and what is known here is that of the first.
            let outcome = outcome.filter(|_| targets.len() == 1);
            let result = result.filter(|_| targets.len() == 1);
            let conditions =
                status.conditions.iter().chain(targets.iter().flat_map(|t| &t.conditions));
            proto::Session {
                r#ref: Some(to_ref(proto::SessionKind::Backup, reference)),
                phase: status.phase.map_or("", |phase| phase.as_str()).to_owned(),
                message: backup_message(&status),
                invoker: session.spec.invoker.name.clone(),
                target: names.join(", "),
                repository,
                snapshot_id: snapshot_id(outcome.as_ref()).unwrap_or_else(|| short.join(", ")),
                created: created(&session.metadata),
                finished: finished(&status.conditions, status.session_duration.is_some()),
                transfer,
                conditions: holding(conditions),
                result,
            }
        }
        Record::Restore(session) => {
            let status = session.status.clone().unwrap_or_default();
            let spec = &session.spec;
            proto::Session {
                r#ref: Some(to_ref(proto::SessionKind::Restore, reference)),
                phase: status.phase.map_or("", |phase| phase.as_str()).to_owned(),
                message: restore_message(&status),
                invoker: session.name_any(),
                target: spec.target.as_ref().map(|t| t.reference.name.clone()).unwrap_or_default(),
                repository: spec.repository.as_ref().map(|r| r.name.clone()).unwrap_or_default(),
                snapshot_id: snapshot_id(outcome.as_ref()).unwrap_or_default(),
                created: created(&session.metadata),
                finished: finished(&status.conditions, status.session_duration.is_some()),
                transfer,
                conditions: holding(status.conditions.iter()),
                result,
            }
        }
    }
}

fn to_ref(kind: proto::SessionKind, reference: SessionRef) -> proto::SessionRef {
    proto::SessionRef { kind: kind.into(), namespace: reference.namespace, name: reference.name }
}

fn to_transfer(transfer: Transfer) -> proto::Transfer {
    let Transfer { report, bytes_per_second, eta_seconds } = transfer;
    proto::Transfer {
        stage: report.stage,
        bytes: report.bytes,
        total_bytes: report.total_bytes,
        keys: report.keys,
        total_keys: report.total_keys,
        bytes_per_second,
        eta_seconds,
        waiting: report.waiting,
    }
}

fn result(outcome: &Outcome) -> Option<proto::Result> {
    let duration_ms = outcome.duration_ms;
    match &outcome.result {
        Ended::BackedUp(done) => Some(proto::Result {
            bytes: done.bytes,
            uploaded_bytes: done.data_added_packed,
            keys: done.keys.values().sum(),
            duration_ms,
            ..proto::Result::default()
        }),
        Ended::Restored(done) => Some(proto::Result {
            bytes: done.bytes,
            keys: done.restored.values().sum(),
            keys_skipped: done.skipped,
            keys_expired: done.expired,
            keys_replaced: done.replaced,
            duration_ms,
            ..proto::Result::default()
        }),
        Ended::Failed(_) => None,
    }
}

fn snapshot_id(outcome: Option<&Outcome>) -> Option<String> {
    match &outcome?.result {
        Ended::BackedUp(done) => Some(done.snapshot_id.clone()),
        Ended::Restored(done) => Some(done.snapshot_id.clone()),
        Ended::Failed(_) => None,
    }
}

/// Why it is in its phase: a skip, the host's error, then whatever condition says no.
fn backup_message(status: &BackupSessionStatus) -> String {
    if let Some(skipped) = condition::BACKUP_SKIPPED.find(&status.conditions) {
        return skipped.message.clone();
    }
    let targets = status.targets.iter();
    let error = targets.clone().flat_map(|target| &target.stats).find_map(|host| {
        host.error.clone().filter(|_| host.phase == Some(HostBackupPhase::Failed))
    });
    error
        .or_else(|| refusal(targets.flat_map(|target| &target.conditions)))
        .or_else(|| refusal(status.conditions.iter()))
        .unwrap_or_default()
}

fn restore_message(status: &RestoreSessionStatus) -> String {
    let error = status.stats.iter().find_map(|host| {
        host.error.clone().filter(|_| host.phase == Some(HostRestorePhase::Failed))
    });
    error.or_else(|| refusal(status.conditions.iter())).unwrap_or_default()
}

fn refusal<'a>(mut conditions: impl Iterator<Item = &'a Condition>) -> Option<String> {
    conditions
        .find(|condition| condition.status != Truth::True && condition.reason != summary::RUNNING)
        .map(|condition| condition.message.clone())
}

fn holding<'a>(conditions: impl Iterator<Item = &'a Condition>) -> Vec<String> {
    conditions.filter(|c| c.status == Truth::True).map(|c| c.kind.clone()).collect()
}

fn created(
    meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Option<prost_types::Timestamp> {
    meta.creation_timestamp.as_ref().map(|time| timestamp(to_clock(time)))
}

/// The last thing that happens to a session is a push, or a skip.
fn finished(conditions: &[Condition], is_final: bool) -> Option<prost_types::Timestamp> {
    let last = condition::METRICS_PUSHED
        .find(conditions)
        .or_else(|| condition::BACKUP_SKIPPED.find(conditions))
        .filter(|_| is_final)?;
    Some(timestamp(to_clock(&last.last_transition_time)))
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.timestamp(), nanos: 0 }
}

#[cfg(test)]
mod tests {
    use coffer_api::outcome::Restored;

    use super::*;

    #[test]
    fn keys_that_were_skipped_are_told_from_those_that_expired() {
        let done = Restored { skipped: 2, expired: 3, replaced: 4, ..Restored::default() };
        let outcome =
            Outcome { version: 1, duration_ms: 5, result: Ended::Restored(done), warnings: vec![] };
        let result = result(&outcome).unwrap();
        assert_eq!((result.keys_skipped, result.keys_expired, result.keys_replaced), (2, 3, 4));
    }
}
