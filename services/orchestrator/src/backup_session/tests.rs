//! Decisions about BackupSessions, as tables.

use super::*;
use crate::{
    gather::{Preparation, Prepared},
    plan::{Call, Done},
};
use coffer_api::{
    BackupConfiguration, Repository,
    backup_session::{HostBackupPhase, TargetPhase},
    condition::Status as Truth,
    session::Redis,
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use serde_json::{Value, json};

const BACKED_UP: &str = r#"{"version":1,"result":"backedUp","snapshotId":"0123456789abcdef","path":"/dump.rdb","method":"replication","bytes":1536,"dataAdded":2048,"dataAddedPacked":100,"filesNew":2,"keys":{"string":3},"counted":true,"serverVersion":"7.0.15","repositoryCreated":true,"durationMs":61500}"#;
const FAILED: &str = r#"{"version":1,"result":"failed","class":"Denied","error":"connect to orders:6379: WRONGPASS","durationMs":10}"#;

/// A world that a test changes by verbs.
struct World {
    object: BackupSession,
    facts: Facts,
    now: DateTime<Utc>,
}

fn config() -> BackupConfiguration {
    serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
        "metadata": {"name": "orders", "namespace": "demo", "uid": "u-1", "generation": 1},
        "spec": {"schedule": "@hourly", "task": {"name": "t"}, "repository": {"name": "repo"},
            "target": {"ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": "orders"}},
            "retentionPolicy": {"name": "three", "keepLast": 3, "prune": true}},
        "status": {"phase": "Ready", "observedGeneration": 1}}))
    .unwrap()
}

fn repository() -> Repository {
    serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
        "metadata": {"name": "repo", "namespace": "demo"},
        "spec": {"backend": {"s3": {"endpoint": "e", "bucket": "b"}}}}))
    .unwrap()
}

fn session(name: &str, created: &str) -> BackupSession {
    serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupSession",
        "metadata": {"name": name, "namespace": "demo", "uid": name, "creationTimestamp": created},
        "spec": {"invoker": {"kind": "BackupConfiguration", "name": "orders"}}}))
    .unwrap()
}

fn with_phase(name: &str, created: &str, phase: SessionPhase) -> BackupSession {
    let mut session = session(name, created);
    session.status = Some(BackupSessionStatus { phase: Some(phase), ..Default::default() });
    session
}

fn world() -> World {
    let preparation = Preparation {
        app_type: "redis".into(),
        redis: Redis {
            host: "orders".into(),
            port: 6379,
            username: None,
            password: None,
            tls: None,
        },
        containers: serde_json::from_value(json!([{"name": "c", "image": "worker:1"}])).unwrap(),
        volumes: vec![],
        wait_timeout_seconds: 300,
    };
    World {
        object: session("orders-1", "2026-11-23T10:00:00Z"),
        facts: Facts {
            invoker: Some(config()),
            repository: Some(repository()),
            prepared: Some(Prepared::Ready(Box::new(preparation))),
            app_type: "redis".into(),
            ..Facts::default()
        },
        now: "2026-11-23T10:00:30Z".parse().unwrap(),
    }
}

impl World {
    fn decide(&self) -> Plan<BackupSessionStatus> {
        decide(&self.object, &self.facts, self.now, &Settings::default())
    }

    fn pass(&mut self) -> Plan<BackupSessionStatus> {
        let plan = self.decide();
        if plan.status.is_some() {
            self.object.status.clone_from(&plan.status);
        }
        plan
    }

    fn status(&self) -> &BackupSessionStatus {
        self.object.status.as_ref().unwrap()
    }

    /// The Job is made, and its container is like this.
    fn started(mut self, state: Value) -> Self {
        assert!(self.pass().actions.iter().any(is_start));
        let created = "2026-11-23T10:00:30Z";
        let job: Job = serde_json::from_value(
            json!({"metadata": {"name": "j", "uid": "j", "creationTimestamp": created}}),
        )
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "creationTimestamp": created},
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "worker:1", "imageID": "",
                "ready": true, "restartCount": 0, "state": state}]}})).unwrap();
        self.facts.worker.job = Some(job);
        self.facts.worker.pods = vec![pod];
        self
    }

    fn left(self, code: i32, message: &str) -> Self {
        let mut world = self.started(json!({"terminated": {"exitCode": code, "message": message}}));
        world.pass();
        world
    }

    /// Answers the call that is due, and keeps the record.
    fn answer(&mut self, answer: Result<Done, String>) -> Call {
        let call = self.pass().call.expect("a call is due");
        self.object.status =
            Some(finish::record(&self.object, &self.facts, &call, &answer, self.now));
        call
    }

    fn succeeded(&self) -> (Truth, String) {
        let last = self.status().conditions.last().unwrap();
        assert_eq!(last.kind, "Succeeded");
        (last.status, last.reason.clone())
    }

    fn host_error(&self) -> String {
        self.status().targets[0].stats[0].error.clone().unwrap()
    }
}

fn running() -> Value {
    json!({"running": {}})
}

fn names_of(plan: &Plan<BackupSessionStatus>) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| {
            let text = format!("{action:?}");
            text.split(['(', ' ', '{']).next().unwrap().to_owned()
        })
        .collect()
}

#[test]
fn a_session_starts_with_account_secret_and_job() {
    let mut world = world();
    let plan = world.pass();
    assert_eq!(names_of(&plan), ["ApplyServiceAccount", "CreateSessionSecret", "CreateJob"]);
    let status = world.status();
    assert_eq!(status.phase, Some(SessionPhase::Running));
    assert_eq!(status.targets[0].total_hosts, Some(1));
    assert_eq!(status.targets[0].reference.namespace, "demo");
    assert_eq!(status.targets[0].pre_backup_actions, ["InitializeBackendRepository"]);
    assert_eq!(status.targets[0].post_backup_actions.len(), 3);
    // Without a timeOut, a day from its creation.
    let ends = to_clock(status.session_deadline.as_ref().unwrap());
    assert_eq!(ends.to_rfc3339(), "2026-11-24T10:00:00+00:00");
    let Action::CreateSessionSecret(secret) = &plan.actions[1] else { panic!() };
    assert_eq!(secret.grant.expires, ends);
    assert_eq!(secret.grant.session.name, "orders-1");
    assert_eq!(secret.document.host, "host-0");
    assert_eq!(secret.secret.immutable, Some(true));
    assert_eq!(secret.secret.metadata.owner_references.as_ref().unwrap()[0].uid, "orders-1");
}

#[test]
fn sessions_are_skipped_for_a_reason() {
    let skipped = |change: fn(&mut World)| {
        let mut world = world();
        change(&mut world);
        let status = world.decide().status.unwrap();
        let message = condition::BACKUP_SKIPPED.find(&status.conditions).map(|c| c.message.clone());
        (status.phase, message.unwrap_or_default())
    };
    let (phase, why) = skipped(|w| {
        let status = w.facts.invoker.as_mut().unwrap().status.as_mut().unwrap();
        status.phase = Some(coffer_api::backup_configuration::InvokerPhase::NotReady);
        let missing = condition::REPOSITORY_FOUND
            .is_false("Repository demo/repo is not found", from_clock(w.now));
        status.conditions.push(missing);
    });
    assert_eq!(phase, Some(SessionPhase::Skipped));
    assert_eq!(why, "BackupConfiguration orders is NotReady: Repository demo/repo is not found");
    let (phase, why) = skipped(|w| {
        w.facts.siblings =
            vec![with_phase("orders-0", "2026-11-23T09:00:00Z", SessionPhase::Running)];
    });
    assert_eq!(
        (phase, why.as_str()),
        (Some(SessionPhase::Skipped), "BackupSession orders-0 is still running")
    );
    // Nobody has looked at the invoker's present spec yet: wait.
    let (phase, _) = skipped(|w| w.facts.invoker.as_mut().unwrap().metadata.generation = Some(2));
    assert_eq!(phase, Some(SessionPhase::Pending));
    // An older one of the same invoker is about to start.
    let (phase, _) =
        skipped(|w| w.facts.siblings = vec![session("orders-0", "2026-11-23T09:59:00Z")]);
    assert_eq!(phase, Some(SessionPhase::Pending));
    let (phase, _) =
        skipped(|w| w.facts.siblings = vec![session("orders-2", "2026-11-23T10:00:10Z")]);
    assert_eq!(phase, Some(SessionPhase::Running));
}

#[test]
fn a_job_that_was_made_is_followed_whatever_changed_since() {
    // We were killed between making the Job and writing that down; meanwhile the invoker went bad.
    let mut world = world();
    world.facts.worker.job =
        Some(serde_json::from_value(json!({"metadata": {"name": "j"}})).unwrap());
    world.facts.prepared = None;
    let observed = world.facts.invoker.as_mut().unwrap().status.as_mut().unwrap();
    observed.phase = Some(coffer_api::backup_configuration::InvokerPhase::Invalid);
    let plan = world.pass();
    assert!(plan.actions.is_empty());
    assert_eq!(stage(&world.object), Stage::Started);
    assert_eq!(world.status().phase, Some(SessionPhase::Running));
}

#[test]
fn a_session_that_waits_says_for_what() {
    let mut world = world();
    world.facts.rivals = vec![with_phase("cache-1", "2026-11-23T09:00:00Z", SessionPhase::Running)];
    world.pass();
    assert_eq!(world.succeeded(), (Truth::Unknown, "Pending".to_owned()));
    let message = &world.status().conditions[0].message;
    assert_eq!(message, "waits for BackupSession demo/cache-1, which has the same target");
    world.facts.rivals.clear();
    world.facts.turn = Some(crate::queue::Turn::Wait("waits for its turn".into()));
    let plan = world.pass();
    assert_eq!(world.succeeded(), (Truth::Unknown, "Pending".to_owned()));
    assert_eq!(world.status().conditions[0].message, "waits for its turn");
    assert_eq!(plan.requeue, Requeue::At(world.now + TimeDelta::seconds(60)));
    // Its time ran out before it could start.
    world.now += TimeDelta::days(1);
    world.pass();
    assert!(world.host_error().ends_with("it had not started"), "{}", world.host_error());
}

#[test]
fn invokers_that_share_a_target_take_turns() {
    for (created, phase, expected) in [
        ("2026-11-23T09:59:00Z", SessionPhase::Pending, SessionPhase::Pending),
        ("2026-11-23T10:00:10Z", SessionPhase::Running, SessionPhase::Pending),
        ("2026-11-23T10:00:10Z", SessionPhase::Pending, SessionPhase::Running),
    ] {
        let mut world = world();
        world.facts.rivals = vec![with_phase("cache-1", created, phase)];
        assert_eq!(world.decide().status.unwrap().phase, Some(expected), "{created} {phase:?}");
    }
}

#[test]
fn what_cannot_start_fails_with_its_reason() {
    let mut world = world();
    world.facts.prepared = Some(Prepared::Refused("Task t is not found".into()));
    world.pass();
    assert_eq!(world.status().targets[0].phase, Some(TargetPhase::Failed));
    let conditions = &world.status().targets[0].conditions;
    assert_eq!(
        condition::BACKUP_EXECUTOR_ENSURED.find(conditions).unwrap().message,
        "Task t is not found"
    );
    world.answer(Ok(Done::Cleaned));
    world.answer(Ok(Done::Pushed));
    assert_eq!(world.status().phase, Some(SessionPhase::Failed));
    assert_eq!(world.status().session_duration.as_deref(), Some("30s"));

    let mut waiting = self::world();
    waiting.facts.prepared = Some(Prepared::NotYet("the catalog does not answer".into()));
    assert_eq!(waiting.decide().status.unwrap().phase, Some(SessionPhase::Pending));
    waiting.now += TimeDelta::minutes(5);
    assert_eq!(stage(&waiting.object), Stage::Waiting);
    waiting.pass();
    assert_eq!(stage(&waiting.object), Stage::Settled);

    let mut orphan = self::world();
    orphan.facts = Facts::default();
    orphan.pass();
    orphan.pass();
    assert_eq!(orphan.status().phase, Some(SessionPhase::Failed));
    let message = &orphan.status().targets[0].conditions[0].message;
    assert!(message.contains("BackupConfiguration demo/orders is not found"), "{message}");
    assert_eq!(orphan.status().targets[0].reference.kind, "EmptyTarget");
}

#[test]
fn an_append_only_repository_keeps_everything_and_the_backup_succeeds() {
    let mut repository = repository();
    repository.spec.append_only = true;
    let mut world = world();
    world.facts.repository = Some(repository);
    let mut world = world.left(0, BACKED_UP);
    world.pass();
    let status = world.status();
    let kept = condition::RETENTION_POLICY_APPLIED.find(&status.conditions).unwrap();
    assert!(condition::RETENTION_POLICY_APPLIED.holds(&status.conditions));
    assert!(kept.message.contains("append-only: every snapshot is kept"), "{kept:?}");
    // What comes next is the check, not a forget.
    assert!(matches!(world.answer(Ok(Done::Checked { errors: vec![] })), Call::Check { .. }));
}

#[test]
fn a_snapshot_is_told_of_and_then_looked_after() {
    let mut world = world().left(0, BACKED_UP);
    let status = world.status();
    let host = &status.targets[0].stats[0];
    assert_eq!((host.hostname.as_str(), host.phase), ("host-0", Some(HostBackupPhase::Succeeded)));
    assert_eq!(host.duration.as_deref(), Some("1m1.5s"));
    let snapshot = &host.snapshots[0];
    assert_eq!((snapshot.name.as_str(), snapshot.path.as_str()), ("01234567", "dump.rdb"));
    assert_eq!(
        (snapshot.total_size.as_str(), snapshot.uploaded.as_str()),
        ("1.500 KiB", "2.000 KiB")
    );
    assert_eq!(snapshot.processing_time, "1:01");
    assert_eq!(status.phase, Some(SessionPhase::Running));
    assert!(condition::BACKEND_REPOSITORY_INITIALIZED.holds(&status.conditions));

    assert!(matches!(world.answer(Ok(Done::Forgot { kept: 3, removed: 1 })), Call::Forget { .. }));
    assert!(matches!(world.answer(Ok(Done::Checked { errors: vec![] })), Call::Check { .. }));
    let figures = Done::Figures { size: "1.500 KiB".into(), snapshots: 3 };
    assert!(matches!(world.answer(Ok(figures)), Call::Figures { .. }));
    assert!(matches!(world.answer(Ok(Done::Cleaned)), Call::CleanHistory { .. }));
    assert_eq!(world.status().phase, Some(SessionPhase::Running));
    let Call::Push { families, group } = world.answer(Ok(Done::Pushed)) else { panic!() };
    assert_eq!(group, "backupconfiguration-demo-orders");
    let value = |name: &str| families.iter().find(|f| f.name == name).unwrap().value;
    assert!((value("stash_backup_session_success") - 1.0).abs() < f64::EPSILON);
    assert!(
        (value("stash_appscode_com_backupsession_host_data_size_bytes") - 1536.0).abs()
            < f64::EPSILON
    );
    assert_eq!(world.status().phase, Some(SessionPhase::Succeeded));
    let order: Vec<&str> = world.status().conditions.iter().map(|c| c.kind.as_str()).collect();
    assert_eq!(
        order,
        [
            "BackendRepositoryInitialized",
            "RetentionPolicyApplied",
            "RepositoryIntegrityVerified",
            "RepositoryMetricsPushed",
            "BackupHistoryCleaned",
            "MetricsPushed",
            "Succeeded"
        ]
    );
    assert_eq!(world.succeeded(), (Truth::True, "Succeeded".to_owned()));
    let rest = world.decide();
    assert!(rest.status.is_none() && rest.call.is_none() && rest.actions.is_empty());
}

#[test]
fn a_step_that_fails_ends_the_others_and_the_session() {
    for failing in ["retention", "damage", "figures", "push"] {
        let mut world = world().left(0, BACKED_UP);
        let no = || Err("not implemented by this version".to_owned());
        match failing {
            "retention" => drop(world.answer(no())),
            "damage" => {
                world.answer(Ok(Done::Forgot { kept: 1, removed: 0 }));
                world.answer(Ok(Done::Checked { errors: vec!["pack ab: hash differs".into()] }));
            }
            "figures" => {
                world.answer(Ok(Done::Forgot { kept: 1, removed: 0 }));
                world.answer(Ok(Done::Checked { errors: vec![] }));
                world.answer(no());
            }
            _ => {
                world.answer(Ok(Done::Forgot { kept: 1, removed: 0 }));
                world.answer(Ok(Done::Checked { errors: vec![] }));
                world.answer(Ok(Done::Figures { size: "1 B".into(), snapshots: 1 }));
            }
        }
        assert!(matches!(world.answer(Ok(Done::Cleaned)), Call::CleanHistory { .. }), "{failing}");
        let answer = if failing == "push" { no() } else { Ok(Done::Pushed) };
        let Call::Push { families, .. } = world.answer(answer) else { panic!("{failing}") };
        let success = families.iter().find(|f| f.name == "stash_backup_session_success").unwrap();
        assert_eq!(success.value > 0.5, failing == "push", "{failing}");
        assert_eq!(world.status().phase, Some(SessionPhase::Failed), "{failing}");
        // The data is there all the same.
        assert_eq!(world.status().targets[0].phase, Some(TargetPhase::Succeeded), "{failing}");
    }
    let mut keep_all = world();
    keep_all.facts.invoker.as_mut().unwrap().spec.retention_policy.keep_last = None;
    let mut keep_all = keep_all.left(0, BACKED_UP);
    assert!(keep_all.pass().call.is_none());
    assert!(condition::RETENTION_POLICY_APPLIED.holds(&keep_all.status().conditions));
}

#[test]
fn a_failure_is_settled_without_touching_the_repository() {
    let mut world = world().left(1, FAILED);
    assert_eq!(world.host_error(), "connect to orders:6379: WRONGPASS");
    assert!(matches!(world.answer(Ok(Done::Cleaned)), Call::CleanHistory { .. }));
    assert!(matches!(world.answer(Ok(Done::Pushed)), Call::Push { .. }));
    assert_eq!(world.status().phase, Some(SessionPhase::Failed));
}

#[test]
fn a_job_that_does_not_end_is_ended() {
    // The deadline.
    let mut world = self::world().started(running());
    let ends = world.decide().requeue;
    let Requeue::At(ends) = ends else { panic!("{ends:?}") };
    world.now = ends;
    let plan = world.pass();
    assert_eq!(names_of(&plan), ["DeleteJob", "DeleteSecret", "ForgetProgress", "Emit"]);
    assert!(condition::DEADLINE_EXCEEDED.holds(&world.status().conditions));
    assert!(world.host_error().contains("not done by 2026-11-24T10:00:00Z"));

    // Somebody cancels it.
    let mut world = self::world().started(running());
    world.object.annotations_mut().insert(crate::apply::CANCELLED_BY.into(), "jane".into());
    assert_eq!(names_of(&world.pass())[0], "DeleteJob");
    assert_eq!(world.host_error(), "cancelled by jane");
    assert_eq!(world.succeeded(), (Truth::Unknown, "Running".to_owned()));
    world.answer(Ok(Done::Cleaned));
    world.answer(Ok(Done::Pushed));
    assert_eq!(world.succeeded(), (Truth::False, "Cancelled".to_owned()));
    assert_eq!(world.status().phase, Some(SessionPhase::Failed));
    // It is not tried again.
    world.object.spec.retry_left = Some(3);
    world.facts.invoker.as_mut().unwrap().spec.retry_config = Some(Default::default());
    assert!(world.decide().status.is_none());

    // Somebody deletes the Job.
    let mut world = self::world().started(running());
    world.facts.worker.job = None;
    world.facts.worker.pods.clear();
    world.pass();
    assert!(condition::BACKUP_DISRUPTED.holds(&world.status().targets[0].conditions));

    // The image is not there.
    let mut world = self::world().started(json!({"waiting": {"reason": "ErrImageNeverPull"}}));
    world.facts.worker.pods[0].status.as_mut().unwrap().phase = Some("Pending".into());
    world.pass();
    assert!(world.host_error().contains("worker:1: ErrImageNeverPull"), "{}", world.host_error());
}

#[test]
fn a_failed_session_is_tried_again() {
    let mut world = world().left(1, FAILED);
    world.answer(Ok(Done::Cleaned));
    world.answer(Ok(Done::Pushed));
    world.object.spec.retry_left = Some(2);
    assert!(world.decide().status.is_none(), "no retryConfig any more");
    world.facts.invoker.as_mut().unwrap().spec.retry_config =
        serde_json::from_value(json!({"maxRetry": 2, "delay": "5m"})).unwrap();
    let next = world.now + TimeDelta::minutes(5);
    assert_eq!(world.pass().requeue, Requeue::At(next));
    assert_eq!(world.pass().requeue, Requeue::At(next));
    world.now = next;
    let plan = world.pass();
    let Action::CreateSession(session) = &plan.actions[0] else { panic!() };
    assert_eq!(session.spec.retry_left, Some(1));
    assert_eq!(session.name_any(), format!("orders-{}", next.timestamp()));
    assert_eq!(world.status().retried, Some(true));
    assert!(world.decide().actions.is_empty());
}

#[test]
fn history_keeps_as_many_as_the_user_wrote() {
    let all = |own: SessionPhase| {
        vec![
            with_phase("orders-5", "2026-11-23T10:00:00Z", own),
            with_phase("orders-4", "2026-11-23T09:00:00Z", SessionPhase::Skipped),
            with_phase("orders-3", "2026-11-23T08:00:00Z", SessionPhase::Succeeded),
            with_phase("orders-2", "2026-11-23T07:00:00Z", SessionPhase::Failed),
            with_phase("orders-1", "2026-11-23T06:00:00Z", SessionPhase::Running),
        ]
    };
    let deleted = |limit: Option<i32>, own: SessionPhase| {
        let mut facts = Facts { invoker: Some(config()), siblings: all(own), ..Facts::default() };
        facts.invoker.as_mut().unwrap().spec.backup_history_limit = limit;
        let Call::CleanHistory { sessions, .. } = finish::clean_history(&facts.siblings[0], &facts)
        else {
            panic!()
        };
        sessions
    };
    let running = SessionPhase::Running;
    assert_eq!(deleted(None, running), ["orders-4", "orders-3", "orders-2"]);
    assert_eq!(deleted(Some(2), running), ["orders-3", "orders-2"]);
    assert_eq!(deleted(Some(9), running), [""; 0]);
    assert_eq!(deleted(Some(0), running), ["orders-4", "orders-3", "orders-2"]);
    // After a skip the newest result stays.
    assert_eq!(deleted(Some(1), SessionPhase::Skipped), ["orders-4", "orders-2"]);
    assert_eq!(deleted(Some(0), SessionPhase::Skipped), ["orders-4", "orders-3", "orders-2"]);
}

/// A month of sessions that end well or badly, with attempts that follow and a history that is kept short, beside a model
/// that knows only instants.
#[test]
fn a_month_of_attempts_and_history() {
    const STEP: TimeDelta = TimeDelta::minutes(10);
    let mut config = config();
    config.spec.backup_history_limit = Some(3);
    config.spec.retry_config =
        serde_json::from_value(json!({"maxRetry": 2, "delay": "20m"})).unwrap();
    let mut random = 11_u64;
    let mut is_bad = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33).is_multiple_of(3)
    };
    let start: DateTime<Utc> = "2026-11-01T00:00:00Z".parse().unwrap();
    let (mut live, mut ended): (Vec<BackupSession>, Vec<(DateTime<Utc>, bool)>) = (vec![], vec![]);
    let created = |mut session: BackupSession, now: DateTime<Utc>| {
        session.metadata.creation_timestamp = Some(from_clock(now));
        session
    };
    let is_due = |now: DateTime<Utc>| now.timestamp() % 21_600 == 0;
    let mut now = start;
    while now < start + TimeDelta::days(30) {
        if is_due(now) {
            live.push(created(draft::scheduled("BackupConfiguration", &config, now), now));
        }
        for name in live.iter().map(ResourceExt::name_any).collect::<Vec<_>>() {
            let facts =
                Facts { invoker: Some(config.clone()), siblings: live.clone(), ..Facts::default() };
            let Some(session) = live.iter_mut().find(|s| s.name_any() == name) else { continue };
            if session.status.is_none() {
                let bad = is_bad();
                ended.push((now, bad));
                let phase = if bad { SessionPhase::Failed } else { SessionPhase::Succeeded };
                let phase = Some(phase);
                let Call::CleanHistory { sessions, .. } = finish::clean_history(session, &facts)
                else {
                    panic!()
                };
                session.status = Some(BackupSessionStatus { phase, ..Default::default() });
                live.retain(|session| !sessions.contains(&session.name_any()));
                continue;
            }
            let plan = decide(session, &facts, now, &Settings::default());
            if plan.status.is_some() {
                session.status = plan.status;
            }
            for action in plan.actions {
                let Action::CreateSession(next) = action else { panic!("{action:?}") };
                live.push(created(*next, now));
            }
        }
        let over = live.iter().filter(|session| session.status.is_some()).count();
        assert!(over <= 3, "{over} are kept");
        now += STEP;
    }

    // The model: every six hours an attempt; one that ends badly is followed by another, at most twice.
    let mut model = vec![];
    let mut results = ended.iter().map(|(_, bad)| *bad);
    let mut at = start;
    while at < start + TimeDelta::days(30) {
        for attempt in 0..3 {
            let Some(bad) = results.next() else { break };
            // Made in the pass in which its time has come, and ended in the next one.
            model.push((at, attempt, bad));
            if !bad {
                break;
            }
        }
        at += TimeDelta::hours(6);
    }
    assert_eq!(model.len(), ended.len());
    let mut before: Option<DateTime<Utc>> = None;
    for ((scheduled, attempt, _), (at, _)) in model.iter().zip(&ended) {
        match (attempt, before) {
            (0, _) => assert_eq!(at, scheduled),
            (_, Some(before)) => {
                let waited = *at - before;
                assert!(waited >= TimeDelta::minutes(20), "{waited}");
                assert!(waited <= TimeDelta::minutes(40), "{waited}");
            }
            (_, None) => panic!("an attempt that follows nothing"),
        }
        before = Some(*at);
    }
    assert!(ended.len() > 140, "{}", ended.len());
}
