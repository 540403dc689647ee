//! Decisions about BackupSessions, as tables.

mod again;
mod ends;
mod starts;

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
        redis: Redis { host: "orders".into(), port: 6379, ..Redis::default() },
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
