//! Decisions about BackupConfigurations, as tables.

use super::*;
use coffer_api::{BackupConfiguration, backup_configuration::InvokerPhase, condition::Status};
use serde_json::json;
use std::time::Duration;

/// A world that a test changes by verbs.
struct World {
    object: BackupConfiguration,
    facts: Facts,
    now: DateTime<Utc>,
    /// Whether it was when it was last looked at.
    paused: bool,
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn world() -> World {
    let object = serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
        "metadata": {"name": "orders", "namespace": "demo", "uid": "u-1", "generation": 4,
            "creationTimestamp": "2026-11-23T08:00:00Z", "finalizers": ["stash.appscode.com"],
            "labels": {"team": "shop"}},
        "spec": {"schedule": "@hourly", "task": {"name": "redis-backup-7.0.5"}, "repository": {"name": "repo"},
            "target": {"ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": "orders"}},
            "retentionPolicy": {"name": "three", "keepLast": 3, "prune": true}}}))
    .unwrap();
    let repository = serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
        "metadata": {"name": "repo", "namespace": "demo"},
        "spec": {"backend": {"storageSecretName": "s", "s3": {"endpoint": "e", "bucket": "b"}}}}))
    .unwrap();
    let binding = serde_json::from_value(json!({
        "apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
        "metadata": {"name": "orders", "namespace": "demo"},
        "spec": {"clientConfig": {"url": "redis://o:1"}}}))
    .unwrap();
    World {
        object,
        facts: Facts {
            repository: Lookup::Found(repository),
            secret: Lookup::Found(()),
            namespace_labels: Default::default(),
            target: Lookup::Found(binding),
            neighbours: vec![],
            sessions: vec![],
        },
        now: at("2026-11-23T08:10:00Z"),
        paused: false,
    }
}

impl World {
    fn decide(&self) -> Plan<BackupConfigurationStatus> {
        decide(&self.object, &self.facts, self.now, &Settings::default())
    }

    /// Decides, and keeps what was decided as the status.
    fn pass(&mut self) -> Plan<BackupConfigurationStatus> {
        let plan = self.decide();
        self.object.status.clone_from(&plan.status);
        plan
    }

    fn at(mut self, now: &str) -> Self {
        self.now = at(now);
        self
    }

    fn spec(mut self, change: serde_json::Value) -> Self {
        let mut spec = serde_json::to_value(&self.object.spec).unwrap();
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        self.object.spec = serde_json::from_value(spec).unwrap();
        self
    }

    fn ready(mut self) -> Self {
        assert_eq!(self.pass().status.unwrap().phase, Some(InvokerPhase::Ready));
        self
    }
}

fn made(plan: &Plan<BackupConfigurationStatus>) -> Vec<String> {
    made_by(&plan.actions)
}

fn made_by(actions: &[Action]) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::CreateSession(session) => Some(session.name_any()),
        _ => None,
    };
    actions.iter().filter_map(name).collect()
}

#[test]
fn what_is_missing_is_shown_in_order() {
    type Case<'a> = (fn(&mut World), &'a [(&'a str, Status)], InvokerPhase);
    let missing: [Case<'_>; 5] = [
        (
            |_| {},
            &[
                ("RepositoryFound", Status::True),
                ("BackendSecretFound", Status::True),
                ("ValidationPassed", Status::True),
                ("BackupTargetFound", Status::True),
                ("CronJobCreated", Status::True),
            ],
            InvokerPhase::Ready,
        ),
        (
            |w| w.facts.repository = Lookup::Missing,
            &[("RepositoryFound", Status::False)],
            InvokerPhase::NotReady,
        ),
        (
            |w| w.facts.repository = Lookup::Unknown("forbidden".into()),
            &[("RepositoryFound", Status::Unknown)],
            InvokerPhase::NotReady,
        ),
        (
            |w| w.facts.secret = Lookup::Missing,
            &[("RepositoryFound", Status::True), ("BackendSecretFound", Status::False)],
            InvokerPhase::NotReady,
        ),
        (
            |w| w.facts.target = Lookup::Missing,
            &[
                ("RepositoryFound", Status::True),
                ("BackendSecretFound", Status::True),
                ("ValidationPassed", Status::True),
                ("BackupTargetFound", Status::False),
            ],
            InvokerPhase::NotReady,
        ),
    ];
    for (change, expected, phase) in missing {
        let mut world = world();
        change(&mut world);
        let plan = world.decide();
        let status = plan.status.unwrap();
        let (ready, shown) = status.conditions.split_last().unwrap();
        let shown: Vec<_> = shown.iter().map(|c| (c.kind.as_str(), c.status)).collect();
        assert_eq!(shown, expected);
        assert_eq!(ready.kind, "Ready");
        assert_eq!(ready.status == Status::True, phase == InvokerPhase::Ready);
        if let Some(refused) = status.conditions.iter().find(|c| c.status != Status::True) {
            assert_eq!((&ready.reason, &ready.message), (&refused.reason, &refused.message));
        }
        assert!(status.conditions.iter().all(|c| c.observed_generation == Some(4)));
        assert_eq!(status.phase, Some(phase));
        assert_eq!(status.observed_generation, Some(4));
        let soon = Requeue::At(world.now + Duration::from_secs(5));
        assert_eq!(plan.requeue == soon, phase != InvokerPhase::Ready, "{expected:?}");
    }
}

#[test]
fn a_spec_that_cannot_be_executed_is_invalid() {
    for (change, part) in [
        (json!({"schedule": "every day"}), "has 2 fields"),
        (json!({"schedule": ""}), "the schedule is empty"),
        (json!({"timeZone": "Mars/Base"}), "timeZone \"Mars/Base\" is none"),
        (json!({"startingDeadlineSeconds": -1}), "spec.startingDeadlineSeconds"),
        (json!({"backupHistoryLimit": -1}), "spec.backupHistoryLimit"),
        (json!({"timeOut": "9999999999h"}), "spec.timeOut: \"9999999999h\" is too long"),
        (
            json!({"retryConfig": {"maxRetry": 1, "delay": "9999999999h"}}),
            "spec.retryConfig.delay: \"9999999999h\" is too long",
        ),
        (
            json!({"retentionPolicy": {"name": "x", "keepDaily": -2, "prune": false}}),
            "spec.retentionPolicy.keepDaily is -2",
        ),
        (json!({"driver": "VolumeSnapshotter"}), "driver VolumeSnapshotter"),
        (json!({"task": null}), "no Task is named"),
        (json!({"target": null}), "spec.target.ref is missing"),
        (json!({"timeOut": "1d"}), "spec.timeOut"),
        (json!({"retryConfig": {"delay": "soon"}}), "spec.retryConfig.delay"),
        (json!({"hooks": {"preBackup": {"exec": {"command": ["true"]}}}}), "spec.hooks"),
    ] {
        let status = world().spec(change.clone()).decide().status.unwrap();
        let condition = condition::VALIDATION_PASSED.find(&status.conditions).unwrap();
        assert!(condition.message.contains(part), "{change}: {}", condition.message);
        assert_eq!(status.phase, Some(InvokerPhase::Invalid), "{change}");
    }
    let mut elsewhere = world();
    if let Lookup::Found(repository) = &mut elsewhere.facts.repository {
        repository.metadata.namespace = Some("storage".into());
    }
    assert_eq!(elsewhere.decide().status.unwrap().phase, Some(InvokerPhase::Invalid));
    // Nothing is forgotten without a rule; that is said, not refused.
    let all = world().spec(json!({"retentionPolicy": {"name": "all", "prune": false}})).decide();
    let conditions = all.status.unwrap().conditions;
    let note = condition::VALIDATION_PASSED.find(&conditions).unwrap();
    assert!(note.message.contains("every snapshot is kept") && note.status == Status::True);
}

#[test]
fn one_host_of_a_repository_is_one_target() {
    let neighbour = |created: &str, target: &str| Neighbour {
        order: (Some(at(created)), "demo".into(), "cache".into()),
        target: ("demo".into(), target.into()),
    };
    let phase = |other: Neighbour| {
        let mut world = world();
        world.facts.neighbours = vec![other];
        let plan = world.decide();
        let status = plan.status.unwrap();
        let message =
            condition::VALIDATION_PASSED.find(&status.conditions).unwrap().message.clone();
        (status.phase.unwrap(), message, plan.requeue)
    };
    let (found, message, requeue) = phase(neighbour("2026-11-23T07:00:00Z", "cache"));
    assert_eq!(found, InvokerPhase::Invalid);
    assert!(
        message.contains("host host-0 of the Repository is that of AppBinding demo/cache"),
        "{message}"
    );
    assert!(matches!(requeue, Requeue::At(_)), "the other one may go");
    // Whoever was there first goes on, and one target may have several schedules.
    assert_eq!(phase(neighbour("2026-11-23T09:00:00Z", "cache")).0, InvokerPhase::Ready);
    assert_eq!(phase(neighbour("2026-11-23T07:00:00Z", "orders")).0, InvokerPhase::Ready);
}

#[test]
fn a_due_instant_makes_one_session() {
    let mut world = world().ready();
    assert_eq!(world.pass().requeue, Requeue::At(at("2026-11-23T09:00:00Z")));
    world = world.at("2026-11-23T09:00:00Z");
    let plan = world.decide();
    assert_eq!(made(&plan), ["orders-1795424400"]);
    // A crash before the status is written repeats it under the same name.
    assert_eq!(made(&world.decide()), ["orders-1795424400"]);
    world.pass();
    assert_eq!(made(&world.decide()), [""; 0]);
    let message = &condition::CRON_JOB_CREATED
        .find(&world.object.status.as_ref().unwrap().conditions)
        .unwrap()
        .message;
    assert!(message.ends_with("next run 2026-11-23T10:00:00Z"), "{message}");

    let Action::CreateSession(session) = &plan.actions[0] else { panic!() };
    let labels = session.labels();
    for (key, value) in [
        ("team", "shop"),
        ("app.kubernetes.io/component", "stash-backup"),
        ("stash.appscode.com/invoker-type", "BackupConfiguration"),
        ("stash.appscode.com/invoker-name", "orders"),
        ("stash.appscode.com/target-kind", "AppBinding"),
        ("stash.appscode.com/target-name", "orders"),
        ("stash.appscode.com/target-namespace", "demo"),
    ] {
        assert_eq!(labels.get(key).map(String::as_str), Some(value), "{key}");
    }
    let owner = &session.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("BackupConfiguration", Some(true)));
    assert_eq!(session.spec.retry_left, Some(0));
}

#[test]
fn what_is_due_is_made_before_anything_else_is_looked_at() {
    let due = |world: &World| {
        let World { object, facts, now, .. } = world;
        made_by(&run::due(KIND, object, &facts.sessions, *now, &Settings::default()))
    };
    let mut world = world().ready().at("2026-11-23T08:59:59Z");
    assert_eq!(due(&world), [""; 0]);
    world = world.at("2026-11-23T09:00:00Z");
    assert_eq!(due(&world), ["orders-1795424400"]);
    // The pass that follows makes no other one, and tells what it found.
    world.facts.sessions = vec!["orders-1795424400".into()];
    world.facts.secret = Lookup::Missing;
    let plan = world.pass();
    assert_eq!((made(&plan), due(&world)), (vec![], vec![]));
    assert_eq!(plan.status.unwrap().phase, Some(InvokerPhase::NotReady));

    // Left to the pass: what was missed, what never came into force, what is paused or about to go.
    let nine = || self::world().ready().at("2026-11-23T09:00:00Z");
    assert_eq!(due(&nine().at("2026-11-23T10:00:00Z")), [""; 0]);
    assert_eq!(due(&self::world().at("2026-11-23T09:00:00Z")), [""; 0]);
    assert_eq!(due(&nine().spec(json!({"paused": true}))), [""; 0]);
    assert_eq!(due(&nine().spec(json!({"schedule": "0 9 * * *"}))), [""; 0]);
    let mut going = nine();
    going.object.metadata.deletion_timestamp = Some(from_clock(going.now));
    assert_eq!(due(&going), [""; 0]);
}

#[test]
fn missed_runs_are_made_up_for_once() {
    // Down from 08:10 to 13:30: only the latest instant.
    assert_eq!(made(&world().ready().at("2026-11-23T13:30:00Z").decide()), ["orders-1795438800"]);
    // What was not made is told, once.
    let mut late = world().ready().at("2026-11-23T13:30:00Z");
    let told = |plan: &Plan<BackupConfigurationStatus>| {
        let texts = plan.actions.iter().filter_map(|action| match action {
            Action::Emit(notice) => Some(notice.message.clone()),
            _ => None,
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(
        told(&late.pass()),
        [
            "4 runs from 2026-11-23T09:00:00Z to 2026-11-23T12:00:00Z were missed; the one of 2026-11-23T13:00:00Z is made now"
        ]
    );
    assert_eq!(told(&late.pass()), [""; 0]);
    // Its own deadline is shorter than that of everybody.
    let strict = world().spec(json!({"startingDeadlineSeconds": 60})).ready();
    let strict = strict.at("2026-11-23T09:02:00Z").decide();
    assert_eq!(made(&strict), [""; 0]);
    assert!(told(&strict)[0].starts_with("the run of 2026-11-23T09:00:00Z was missed; none"));
    // One that somebody triggered a second ago is none of the schedule's.
    let mut triggered = world().ready().at("2026-11-23T09:00:02Z");
    triggered.facts.sessions = vec![format!("orders-{}", at("2026-11-23T09:00:01Z").timestamp())];
    assert_eq!(made(&triggered.decide()), ["orders-1795424400"]);
    // A session for it exists, but the status was never written.
    let mut again = world().ready().at("2026-11-23T13:30:00Z");
    again.facts.sessions = vec!["orders-1795438800".into(), "orders-manual-1".into()];
    assert_eq!(made(&again.decide()), [""; 0]);
    // Down for longer than the starting deadline.
    let yearly = json!({"schedule": "@yearly"});
    assert_eq!(made(&world().spec(yearly).ready().at("2027-01-03T00:00:00Z").decide()), [""; 0]);
    // Paused meanwhile, and resumed: nothing that was due before counts.
    let mut paused = world().ready().spec(json!({"paused": true})).at("2026-11-23T08:20:00Z");
    let plan = paused.pass();
    assert_eq!(plan.requeue, Requeue::OnChange);
    assert_eq!(plan.status.unwrap().phase, Some(InvokerPhase::Ready));
    paused = paused.at("2026-11-23T11:30:00Z");
    assert_eq!(made(&paused.pass()), [""; 0]);
    let mut resumed = paused.spec(json!({"paused": false}));
    assert_eq!(made(&resumed.pass()), [""; 0]);
    assert_eq!(made(&resumed.at("2026-11-23T12:00:00Z").decide()), ["orders-1795435200"]);
    // A changed schedule begins anew.
    let changed = world().ready().spec(json!({"schedule": "5 * * * *"})).at("2026-11-23T08:15:00Z");
    assert_eq!(made(&changed.decide()), [""; 0]);
}

#[test]
fn a_cron_job_makes_the_sessions_when_that_is_asked_for() {
    let mut world = world().spec(json!({"scheduler": "cronjob"})).ready();
    let plan = world.pass();
    let [Action::ApplyTrigger(trigger)] = &plan.actions[..] else { panic!("{plan:?}") };
    let spec = &trigger.cron_job.spec;
    assert_eq!((spec.schedule.as_str(), spec.suspend), ("0 * * * *", Some(false)));
    assert_eq!(plan.requeue, Requeue::OnChange);
    // The orchestrator makes none.
    world = world.at("2026-11-23T09:00:00Z");
    assert_eq!(made(&world.decide()), [""; 0]);
    // Back again: the CronJob goes, and what it made is not made again.
    let mut back = world.spec(json!({"scheduler": "orchestrator"}));
    let plan = back.pass();
    let [Action::DeleteTrigger(child)] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(child.name, "stash-trigger-orders");
    assert!(back.decide().actions.is_empty());
    assert_eq!(made(&back.at("2026-11-23T10:00:00Z").decide()).len(), 1);
    // What a CronJob cannot do is refused.
    let status = self::world()
        .spec(json!({"scheduler": "cronjob", "schedule": "30 0 2 * * *"}))
        .decide()
        .status
        .unwrap();
    assert_eq!(status.phase, Some(InvokerPhase::Invalid));
}

#[test]
fn a_time_zone_is_that_of_the_schedule() {
    let mut world =
        world().spec(json!({"schedule": "30 2 * * *", "timeZone": "Europe/Berlin"})).ready();
    assert_eq!(world.pass().requeue, Requeue::At(at("2026-11-24T01:30:00Z")));
    let conditions = world.object.status.clone().unwrap().conditions;
    let message = &condition::CRON_JOB_CREATED.find(&conditions).unwrap().message;
    assert!(message.contains("in Europe/Berlin; next run 2026-11-24T01:30:00Z"), "{message}");
    assert_eq!(made(&world.at("2026-11-24T01:30:00Z").decide()).len(), 1);
}

#[test]
fn a_schedule_in_force_stays_so_when_something_goes() {
    let mut world = world().ready();
    world.facts.repository = Lookup::Missing;
    world = world.at("2026-11-23T09:00:01Z");
    let plan = world.decide();
    assert_eq!(made(&plan).len(), 1);
    assert_eq!(plan.status.unwrap().phase, Some(InvokerPhase::NotReady));
}

/// A month of an hourly schedule, with pauses and down times, beside a model that only knows the hours.
#[test]
fn a_month_goes_by() {
    let mut world = world().ready();
    let (start, mut random) = (world.now, 7_u64);
    let mut next = || {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random >> 33
    };
    let hour = |at: DateTime<Utc>| at.timestamp().div_euclid(3600);
    let (mut sessions, mut expected) = (vec![], vec![]);
    // The hour up to which nothing is owed any more.
    let mut settled = hour(start);
    while world.now < start + chrono::TimeDelta::days(30) {
        // Mostly minutes pass; now and then the orchestrator is down for up to a day and a half.
        let minutes = if next() % 40 == 0 { next() % 2200 } else { 1 + next() % 25 };
        world.now += chrono::TimeDelta::minutes(i64::try_from(minutes).unwrap());
        if next() % 30 == 0 {
            world.object.spec.paused = !world.object.spec.paused;
            world.object.metadata.generation = world.object.metadata.generation.map(|g| g + 1);
        }
        let paused = world.object.spec.paused;
        // What was due while it was paused is gone, and so is what was due when the pause began.
        let was_paused = std::mem::replace(&mut world.paused, paused);
        let owed = hour(world.now);
        if owed > settled && !paused && !was_paused && world.now.timestamp() - owed * 3600 <= 86_400
        {
            expected.push(format!("orders-{}", owed * 3600));
        }
        settled = owed;
        let made = made(&world.pass());
        assert!(made.len() <= 1);
        sessions.extend(made);
        world.facts.sessions.clone_from(&sessions);
    }
    assert_eq!(sessions, expected);
    assert!(sessions.len() > 100, "{}", sessions.len());
}

#[test]
fn finalizers_come_first_and_go_last() {
    let mut fresh = world();
    fresh.object.metadata.finalizers = None;
    assert!(matches!(fresh.decide().actions[..], [Action::AddFinalizer("stash.appscode.com")]));
    assert!(fresh.decide().status.is_none());
    let mut gone = world();
    gone.object.metadata.deletion_timestamp = Some(from_clock(gone.now));
    assert!(matches!(gone.decide().actions[..], [Action::RemoveFinalizer("stash.appscode.com")]));
}
