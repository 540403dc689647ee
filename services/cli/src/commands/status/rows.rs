//! Objects → rows and the detailed view. Pure.
use std::{collections::BTreeMap, fmt::Write};

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession, Repository,
    backup_session::SessionPhase,
    condition::{BACKUP_DISRUPTED, BACKUP_SKIPPED, Condition, DEADLINE_EXCEEDED, Status},
    schedule::{Schedule, Written},
    time::to_clock,
};
use kube::ResourceExt;
use serde::Serialize;

use crate::{figures, output, output::Column};

/// What the cluster said.
pub(super) struct Facts {
    pub(super) configurations: Vec<BackupConfiguration>,
    pub(super) sessions: Vec<BackupSession>,
    pub(super) repositories: BTreeMap<(String, String), Repository>,
}

/// A BackupConfiguration and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) name: String,
    phase: String,
    paused: bool,
    schedule: String,
    task: String,
    target: String,
    last_session: Option<String>,
    last_phase: Option<String>,
    last_success: Option<DateTime<Utc>>,
    next_run: Option<DateTime<Utc>>,
    repository: String,
    integrity: Option<bool>,
    size: Option<String>,
    snapshots: Option<i64>,
    #[serde(skip)]
    success_age: String,
    #[serde(skip)]
    next_age: String,
}

macro_rules! columns {
    ($($before:expr,)*) => {
        &[
            $($before,)*
            Column { header: "NAME", wide: false, cell: |row: &Row| row.name.clone() },
            Column { header: "PHASE", wide: false, cell: |row| row.phase.clone() },
            Column { header: "SCHEDULE", wide: false, cell: |row| row.schedule.clone() },
            Column { header: "NEXT-RUN", wide: false, cell: |row| row.next_age.clone() },
            Column { header: "LAST-PHASE", wide: false, cell: |row| row.last_phase.clone().unwrap_or_default() },
            Column { header: "LAST-SUCCESS", wide: false, cell: |row| row.success_age.clone() },
            Column { header: "REPOSITORY", wide: false, cell: |row| row.repository.clone() },
            Column { header: "INTEGRITY", wide: false, cell: |row| integrity(row.integrity).to_owned() },
            Column { header: "SIZE", wide: false, cell: |row| row.size.clone().unwrap_or_default() },
            Column {
                header: "SNAPSHOTS", wide: true,
                cell: |row| row.snapshots.map(|count| count.to_string()).unwrap_or_default(),
            },
            Column { header: "TARGET", wide: true, cell: |row| row.target.clone() },
            Column { header: "TASK", wide: true, cell: |row| row.task.clone() },
            Column {
                header: "LAST-SESSION", wide: true, cell: |row| row.last_session.clone().unwrap_or_default(),
            },
        ]
    };
}

/// Of one namespace.
pub(super) const COLUMNS: &[Column<Row>] = columns!();
/// Of all.
pub(super) const WITH_NAMESPACE: &[Column<Row>] =
    columns!(Column { header: "NAMESPACE", wide: false, cell: |row: &Row| row.namespace.clone() },);

fn integrity(integrity: Option<bool>) -> &'static str {
    match integrity {
        Some(true) => "ok",
        Some(false) => "BROKEN",
        None => "-",
    }
}

/// Namespace and name of the Repository that a configuration names.
pub(super) fn repository_of(configuration: &BackupConfiguration) -> Option<(String, String)> {
    let reference = configuration.spec.repository.as_ref()?;
    let own = || configuration.namespace().unwrap_or_default();
    let namespace =
        if reference.namespace.is_empty() { own() } else { reference.namespace.clone() };
    Some((namespace, reference.name.clone()))
}

/// One row a configuration, by namespace and name.
pub(super) fn rows(facts: &Facts, now: DateTime<Utc>) -> Vec<Row> {
    let mut rows: Vec<Row> =
        facts.configurations.iter().map(|configuration| row(facts, configuration, now)).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    rows
}

fn row(facts: &Facts, configuration: &BackupConfiguration, now: DateTime<Utc>) -> Row {
    let spec = &configuration.spec;
    let namespace = configuration.namespace().unwrap_or_default();
    let sessions = sessions_of(facts, &namespace, &configuration.name_any());
    let last = sessions.first();
    let repository_key = repository_of(configuration);
    let repository = repository_key.as_ref().and_then(|key| facts.repositories.get(key));
    let status = repository.and_then(|repository| repository.status.as_ref());

    // Sessions are pruned; the Repository remembers longer, but speaks for this configuration only if no other uses it.
    let users = status.map_or(0, |status| {
        status.references.iter().filter(|reference| reference.kind == "BackupConfiguration").count()
    });
    let of_session =
        sessions.iter().find(|session| phase(session) == Some(SessionPhase::Succeeded));
    let of_repository =
        status.filter(|_| users <= 1).and_then(|status| status.last_backup_time.as_ref());
    let last_success =
        of_session.and_then(|session| created(session)).or_else(|| of_repository.map(to_clock));

    let seed =
        format!("{}/{}", configuration.namespace().unwrap_or_default(), configuration.name_any());
    let time_zone = spec.time_zone.as_deref();
    let written = Written { text: &spec.schedule, time_zone, seed: &seed };
    let schedule = Schedule::parse(written).ok().filter(|_| !spec.paused);
    let next_run = schedule.and_then(|schedule| schedule.next(now));
    let next_age = match (spec.paused, next_run) {
        (true, _) => "paused".to_owned(),
        (false, None) if !spec.schedule.is_empty() => "?".to_owned(),
        (false, next) => figures::soon(next, now),
    };
    let target = spec.target.as_ref().map(|target| {
        let reference = &target.reference;
        format!("{}/{}", reference.kind.to_lowercase(), reference.name)
    });
    Row {
        name: configuration.name_any(),
        phase: configuration
            .status
            .as_ref()
            .and_then(|status| status.phase)
            .map(|phase| format!("{phase:?}"))
            .unwrap_or_default(),
        paused: spec.paused,
        schedule: spec.schedule.clone(),
        task: spec.task.as_ref().map(|task| task.name.clone()).unwrap_or_default(),
        target: target.unwrap_or_default(),
        last_session: last.map(|session| session.name_any()),
        last_phase: last
            .map(|session| phase(session).map_or("Pending", SessionPhase::as_str).to_owned()),
        last_success,
        next_run,
        repository: match &repository_key {
            Some((other, name)) if *other != namespace => format!("{other}/{name}"),
            Some((_, name)) => name.clone(),
            None => String::new(),
        },
        integrity: status.and_then(|status| status.integrity),
        size: status.and_then(|status| status.total_size.clone()),
        snapshots: status.and_then(|status| status.snapshot_count),
        success_age: figures::ago(last_success, now),
        next_age,
        namespace,
    }
}

/// The sessions of a configuration, the newest first.
fn sessions_of<'a>(facts: &'a Facts, namespace: &str, name: &str) -> Vec<&'a BackupSession> {
    let mut sessions: Vec<_> = facts
        .sessions
        .iter()
        .filter(|session| {
            let invoker = &session.spec.invoker;
            session.namespace().as_deref() == Some(namespace)
                && invoker.kind == "BackupConfiguration"
                && invoker.name == name
        })
        .collect();
    sessions.sort_by_key(|session| std::cmp::Reverse((created(session), session.name_any())));
    sessions
}

fn phase(session: &BackupSession) -> Option<SessionPhase> {
    session.status.as_ref()?.phase
}

fn created(session: &BackupSession) -> Option<DateTime<Utc>> {
    session.metadata.creation_timestamp.as_ref().map(to_clock)
}

/// The view of one configuration.
pub(super) fn detail(facts: &Facts, row: &Row, now: DateTime<Utc>) -> String {
    let mut out = String::new();
    let mut field = |name: &str, value: &str| {
        let value = if value.is_empty() { "-" } else { value };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<15}{value}", format!("{name}:"));
    };
    field("Name", &row.name);
    field("Namespace", &row.namespace);
    field("Phase", &row.phase);
    field("Schedule", &row.schedule);
    let next = row.next_run.map(|next| format!("{} ({})", figures::instant(next), row.next_age));
    field("Next run", next.as_deref().unwrap_or(&row.next_age));
    let success =
        row.last_success.map(|at| format!("{} ({} ago)", figures::instant(at), row.success_age));
    field("Last success", success.as_deref().unwrap_or("never, as far as is known"));
    field("Target", &row.target);
    field("Task", &row.task);
    field("Repository", &row.repository);
    field("  Integrity", integrity(row.integrity));
    field("  Size", row.size.as_deref().unwrap_or_default());
    field("  Snapshots", &row.snapshots.map(|count| count.to_string()).unwrap_or_default());

    let configuration =
        facts.configurations.iter().find(|configuration| configuration.name_any() == row.name);
    let conditions = configuration.and_then(|configuration| configuration.status.as_ref());
    if let Some(status) = conditions.filter(|status| !status.conditions.is_empty()) {
        section(
            &mut out,
            "Conditions",
            &["TYPE", "STATUS", "REASON", "MESSAGE"],
            status.conditions.iter().map(condition),
        );
    }
    let sessions = sessions_of(facts, &row.namespace, &row.name);
    if !sessions.is_empty() {
        let rows = sessions.into_iter().map(|session| session_row(session, now));
        section(
            &mut out,
            "Sessions",
            &["NAME", "PHASE", "DURATION", "AGE", "SNAPSHOT", "MESSAGE"],
            rows,
        );
    }
    out
}

fn section(
    out: &mut String,
    title: &str,
    header: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) {
    let _ = writeln!(out, "\n{title}:");
    let header = header.iter().map(|&name| name.to_owned()).collect();
    for line in output::table(header, rows).lines() {
        let _ = writeln!(out, "  {line}");
    }
}

fn condition(condition: &Condition) -> Vec<String> {
    let Condition { kind, status, reason, message, .. } = condition;
    vec![kind.clone(), format!("{status:?}"), reason.clone(), message.clone()]
}

fn session_row(session: &BackupSession, now: DateTime<Utc>) -> Vec<String> {
    let status = session.status.clone().unwrap_or_default();
    let stats = status.targets.iter().flat_map(|target| &target.stats);
    let snapshot = stats
        .clone()
        .flat_map(|stats| &stats.snapshots)
        .next()
        .map(|snapshot| snapshot.name.clone());
    // Why it failed: what the worker said, else the first step that went wrong.
    let error = stats.clone().find_map(|stats| stats.error.clone());
    let conditions =
        status.targets.iter().flat_map(|target| &target.conditions).chain(&status.conditions);
    let wrong = conditions
        .clone()
        .find(|condition| condition.status == Status::False)
        .or_else(|| conditions.clone().find(|condition| is_wrong_when_true(condition)))
        .map(|condition| condition.message.clone());
    vec![
        session.name_any(),
        phase(session).map_or("Pending", SessionPhase::as_str).to_owned(),
        status.session_duration.clone().unwrap_or_default(),
        figures::ago(created(session), now),
        snapshot.unwrap_or_default(),
        error.or(wrong).unwrap_or_default(),
    ]
}

fn is_wrong_when_true(condition: &Condition) -> bool {
    let kinds = [BACKUP_SKIPPED, DEADLINE_EXCEEDED, BACKUP_DISRUPTED];
    condition.status == Status::True && kinds.iter().any(|kind| kind.name == condition.kind)
}

#[cfg(test)]
mod tests;
