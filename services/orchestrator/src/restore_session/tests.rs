//! Decisions about RestoreSessions, as tables.

use super::*;
use crate::{
    gather::{Preparation, Prepared},
    plan::{Call, Done, Lookup, Requeue},
};
use coffer_api::session::Redis;
use serde_json::{Value, json};

const RESTORED: &str = r#"{"version":1,"result":"restored","snapshotId":"0123456789abcdef","path":"/dump.rdb","bytes":10,"restored":{"string":3},"expired":1,"replaced":2,"functions":0,"durationMs":1500}"#;

struct World {
    object: RestoreSession,
    facts: Facts,
    now: DateTime<Utc>,
}

fn world(spec: Value) -> World {
    let mut whole = json!({"repository": {"name": "repo"}, "task": {"name": "t"},
        "target": {"ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": "orders"}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let object = serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "RestoreSession",
        "metadata": {"name": "r", "namespace": "demo", "uid": "r", "creationTimestamp": "2026-11-23T10:00:00Z",
            "finalizers": ["stash.appscode.com"]},
        "spec": whole}))
    .unwrap();
    let repository = serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
        "metadata": {"name": "repo", "namespace": "demo"},
        "spec": {"backend": {"s3": {"endpoint": "e", "bucket": "b"}}}}))
    .unwrap();
    let binding = serde_json::from_value(json!({
        "apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
        "metadata": {"name": "orders", "namespace": "demo"},
        "spec": {"type": "redis", "clientConfig": {"url": "redis://o:1"}}}))
    .unwrap();
    let preparation = Preparation {
        app_type: "redis".into(),
        redis: Redis { host: "o".into(), port: 1, ..Redis::default() },
        containers: serde_json::from_value(json!([{"name": "c", "image": "worker:1"}])).unwrap(),
        volumes: vec![],
        wait_timeout_seconds: 300,
    };
    World {
        object,
        facts: Facts {
            repository: Lookup::Found(repository),
            secret: Lookup::Found(()),
            target: Lookup::Found(binding),
            prepared: Some(Prepared::Ready(Box::new(preparation))),
            ..Facts::default()
        },
        now: "2026-11-23T10:00:30Z".parse().unwrap(),
    }
}

impl World {
    fn pass(&mut self) -> Plan<RestoreSessionStatus> {
        let plan = decide(&self.object, &self.facts, self.now, &Settings::default());
        if plan.status.is_some() {
            self.object.status.clone_from(&plan.status);
        }
        plan
    }

    fn status(&self) -> &RestoreSessionStatus {
        self.object.status.as_ref().unwrap()
    }

    fn left(self, code: i32, message: &str) -> Self {
        let mut world = self.with(json!({"terminated": {"exitCode": code, "message": message}}));
        world.pass();
        world
    }

    /// The Job is made, and its container is like this.
    fn with(mut self, state: Value) -> Self {
        self.pass();
        self.facts.worker.job =
            serde_json::from_value(json!({"metadata": {"name": "j", "uid": "j"}})).unwrap();
        self.facts.worker.pods = vec![serde_json::from_value(json!({"metadata": {"name": "p"},
            "status": {"phase": "Running", "containerStatuses": [{"name": "c", "image": "worker:1", "imageID": "",
                "ready": true, "restartCount": 0, "state": state}]}})).unwrap()];
        self
    }

    fn push(&mut self, answer: Result<Done, String>) -> Vec<crate::metrics::Family> {
        let call = self.pass().call.expect("a push is due");
        let Call::Push { families, .. } = call.clone() else { panic!("no push is due") };
        self.object.status = Some(follow::record(&self.object, &call, &answer, self.now));
        families
    }
}

#[test]
fn a_batchs_restore_waits_no_longer_than_the_batch() {
    for (of_batch, end) in [(false, RestorePhase::Pending), (true, RestorePhase::Failed)] {
        let mut world = world(json!({"timeOut": "10m"}));
        world.facts.repository = Lookup::Missing;
        if of_batch {
            let owner = json!([{"apiVersion": "stash.appscode.com/v1beta1", "kind": "RestoreBatch",
                "name": "all", "uid": "b", "controller": true}]);
            world.object.metadata.owner_references = serde_json::from_value(owner).unwrap();
        }
        world.pass();
        assert_eq!(world.status().phase, Some(RestorePhase::Pending));
        world.now = "2026-11-23T10:09:59Z".parse().unwrap();
        world.pass();
        assert_eq!(world.status().phase, Some(RestorePhase::Pending));
        world.now = "2026-11-23T10:10:00Z".parse().unwrap();
        world.pass();
        if of_batch {
            world.push(Ok(Done::Pushed));
            let error = world.status().stats[0].error.as_deref().unwrap();
            assert!(error.ends_with("the session's deadline (spec.timeOut): it had not started"));
        }
        assert_eq!(world.status().phase, Some(end));
    }
}

#[test]
fn conditions_come_in_order_and_what_is_missing_is_waited_for() {
    type Change = fn(&mut World);
    let cases: [(Change, usize, RestorePhase); 4] = [
        (|w| w.facts.repository = Lookup::Missing, 1, RestorePhase::Pending),
        (|w| w.facts.secret = Lookup::Missing, 2, RestorePhase::Pending),
        (|w| w.facts.target = Lookup::Missing, 4, RestorePhase::Pending),
        (|_| {}, 5, RestorePhase::Running),
    ];
    let order = [
        "RepositoryFound",
        "BackendSecretFound",
        "ValidationPassed",
        "RestoreTargetFound",
        "RestoreExecutorEnsured",
    ];
    for (change, count, phase) in cases {
        let mut world = world(json!({}));
        change(&mut world);
        let plan = world.pass();
        let shown: Vec<&str> = world.status().conditions.iter().map(|c| c.kind.as_str()).collect();
        assert_eq!(shown[..shown.len() - 1], order[..count]);
        assert_eq!(shown.last(), Some(&"Succeeded"));
        assert_eq!(world.status().phase, Some(phase));
        if phase == RestorePhase::Pending {
            assert_eq!(plan.requeue, Requeue::At(world.now + TimeDelta::seconds(5)));
        }
    }
}

#[test]
fn what_is_refused_is_invalid() {
    for (spec, part) in [
        (json!({"hooks": {"preRestore": {"exec": {"command": ["true"]}}}}), "spec.hooks"),
        (json!({"rules": [{"snapshots": ["a", "b"]}]}), "2 snapshots (a, b)"),
        (json!({"driver": "VolumeSnapshotter"}), "VolumeSnapshotter"),
        (json!({"timeOut": "x"}), "spec.timeOut"),
    ] {
        let mut world = world(spec.clone());
        world.pass();
        assert_eq!(world.status().phase, Some(RestorePhase::Invalid), "{spec}");
        let message =
            &condition::VALIDATION_PASSED.find(&world.status().conditions).unwrap().message;
        assert!(message.contains(part), "{spec}: {message}");
    }
    let mut elsewhere = world(json!({}));
    if let Lookup::Found(repository) = &mut elsewhere.facts.repository {
        repository.metadata.namespace = Some("storage".into());
    }
    elsewhere.pass();
    assert_eq!(elsewhere.status().phase, Some(RestorePhase::Invalid));
}

#[test]
fn a_restore_gets_a_grant_for_its_snapshot_only() {
    let mut world = world(json!({"rules": [{"snapshots": ["4bc21d6f"]}], "timeOut": "20m"}));
    let plan = world.pass();
    let Action::CreateSessionSecret(secret) = &plan.actions[1] else { panic!() };
    assert_eq!(secret.grant.snapshot.as_deref(), Some("4bc21d6f"));
    assert_eq!(secret.grant.expires, world.now + TimeDelta::minutes(20));
    assert_eq!(secret.document.restore.as_ref().unwrap().snapshot, "4bc21d6f");
    assert_eq!(secret.document.host, "");
}

#[test]
fn success_is_a_success_in_the_metrics_too() {
    let mut world = world(json!({})).left(0, RESTORED);
    assert_eq!(world.status().stats[0].phase, Some(HostRestorePhase::Succeeded));
    assert_eq!(world.status().phase, Some(RestorePhase::Running));
    let families = world.push(Ok(Done::Pushed));
    let value = |name: &str| families.iter().find(|f| f.name == name).unwrap().value;
    assert!((value("stash_appscode_com_restoresession_success") - 1.0).abs() < f64::EPSILON);
    assert!((value("stash_restore_host_restore_duration_seconds") - 1.5).abs() < f64::EPSILON);
    assert_eq!(world.status().phase, Some(RestorePhase::Succeeded));
    assert_eq!(world.status().session_duration.as_deref(), Some("30s"));
    let plan = world.pass();
    assert!(
        plan.status.is_none() && plan.actions.is_empty() && plan.call.is_none(),
        "it runs once"
    );
}

#[test]
fn what_a_worker_waits_for_is_in_the_status_until_it_begins() {
    let mut world = world(json!({})).with(json!({"running": {}}));
    for waiting in ["", "waiting for the exclusive lock of root@host, process 7", ""] {
        world.facts.waiting = Some(waiting.to_owned()).filter(|waiting| !waiting.is_empty());
        world.pass();
        let last = world.status().conditions.last().unwrap();
        let told = if waiting.is_empty() { "at work" } else { waiting };
        assert_eq!((last.reason.as_str(), last.message.as_str()), ("Running", told));
    }
}

#[test]
fn who_does_not_answer_is_waited_for_from_then_on() {
    let mut world = world(json!({}));
    world.now += TimeDelta::hours(2);
    for (seconds, phase) in
        [(0, RestorePhase::Pending), (299, RestorePhase::Pending), (1, RestorePhase::Pending)]
    {
        world.now += TimeDelta::seconds(seconds);
        let why = format!("the catalog does not answer: {seconds}");
        world.facts.prepared = Some(Prepared::NotYet(why.clone()));
        world.pass();
        assert_eq!(world.status().phase, Some(phase));
        if seconds == 1 {
            assert_eq!(stage(&world.object), Stage::Settled);
        } else {
            assert_eq!(stage(&world.object), Stage::Waiting);
            assert_eq!(world.status().conditions.last().unwrap().message, why);
        }
    }
    world.push(Ok(Done::Pushed));
    assert_eq!(world.status().phase, Some(RestorePhase::Failed));
}

#[test]
fn what_vanishes_behind_the_hook_is_not_waited_for_without_end() {
    type Vanish = fn(&mut World);
    let hooks = json!({"hooks": {"preRestore": {"httpGet": {"port": 80, "path": "/"}}}});
    let vanish: [(Vanish, &str); 4] = [
        (|w| w.facts.repository = Lookup::Missing, "Repository demo/repo is not found"),
        (|w| w.facts.secret = Lookup::Missing, "Secret demo/ is not found"),
        (|w| w.facts.target = Lookup::Missing, "AppBinding demo/orders is not found"),
        (|w| w.object.spec.time_out = Some("x".into()), "spec.timeOut"),
    ];
    for (vanish, part) in vanish {
        let mut world = world(hooks.clone());
        let call = world.pass().call.expect("the hook is due");
        assert!(matches!(call, Call::Hook(_)));
        let done = Ok(Done::Hooked("done".into()));
        world.object.status = Some(follow::record(&world.object, &call, &done, world.now));
        // It was hours ago that somebody asked for the restore.
        world.now += TimeDelta::hours(2);
        vanish(&mut world);
        for seconds in [0, 299] {
            world.now += TimeDelta::seconds(seconds);
            let plan = world.pass();
            assert_eq!(stage(&world.object), Stage::Waiting, "{part}");
            assert!(matches!(plan.requeue, Requeue::At(_)), "{part}");
        }
        world.now += TimeDelta::seconds(1);
        world.pass();
        let why = condition::RESTORE_EXECUTOR_ENSURED.find(&world.status().conditions).unwrap();
        let began = "the preRestore hook was run, and then: ";
        assert!(why.message.starts_with(began) && why.message.contains(part), "{why:?}");
        world.push(Ok(Done::Pushed));
        assert_eq!(world.status().phase, Some(RestorePhase::Failed), "{part}");
    }
}

#[test]
fn a_worker_that_died_as_the_targets_master_has_it_said_how_to_release_the_target() {
    let killed = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
    let starting = json!({"waiting": {"reason": "InvalidImageName"}});
    for (args, state, told) in [
        (json!(["restore-redis", "--load=replica"]), &killed, true),
        (json!(["restore-redis", "--load", "replica"]), &killed, true),
        (json!(["restore-redis", "--load=keys"]), &killed, false),
        (json!(["restore-redis", "--load=replica"]), &starting, false),
    ] {
        let mut world = world(json!({})).with(state.clone());
        let pod = world.facts.worker.pods[0].status.as_mut().unwrap();
        pod.phase = Some(if state == &starting { "Pending" } else { "Failed" }.to_owned());
        let containers = json!([{"name": "c", "image": "worker:1", "args": args}]);
        world.facts.worker.job.as_mut().unwrap().spec =
            serde_json::from_value(json!({"template": {"spec": {"containers": containers}}}))
                .unwrap();
        world.pass();
        let error = world.status().stats[0].error.clone().unwrap();
        assert_eq!(error.contains("make it a master with REPLICAOF NO ONE"), told, "{error}");
    }
}

#[test]
fn a_partial_restore_says_so() {
    let failed = r#"{"version":1,"result":"failed","class":"Unavailable","error":"write to orders: broken pipe","keysWritten":7,"durationMs":10}"#;
    let mut world = world(json!({})).left(1, failed);
    let error = world.status().stats[0].error.clone().unwrap();
    assert!(
        error.contains("broken pipe (the Redis is partly restored: 7 keys were written)"),
        "{error}"
    );
    world.push(Ok(Done::Pushed));
    assert_eq!(world.status().phase, Some(RestorePhase::Failed));
    let mut refused = self::world(json!({}));
    refused.facts.prepared = Some(Prepared::Refused("Task t is not found".into()));
    refused.pass();
    refused.push(Ok(Done::Pushed));
    assert_eq!(refused.status().phase, Some(RestorePhase::Failed));
}

#[test]
fn finalizers_come_first_and_go_last() {
    let mut fresh = world(json!({}));
    fresh.object.metadata.finalizers = None;
    assert!(matches!(fresh.pass().actions[..], [Action::AddFinalizer("stash.appscode.com")]));
    let mut gone = world(json!({}));
    gone.object.metadata.deletion_timestamp = Some(coffer_api::time::from_clock(gone.now));
    let plan = gone.pass();
    assert!(matches!(plan.actions.last(), Some(Action::RemoveFinalizer("stash.appscode.com"))));
}
