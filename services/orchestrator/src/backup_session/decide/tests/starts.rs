//! Before its Job is made: what a session waits for, why it is skipped, and what it begins with.

use super::*;
use crate::queue::Turn;

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
    // However long it was in line before.
    for turns in 0..2 {
        waiting.now += TimeDelta::minutes(50);
        waiting.facts.turn = Some(Turn::Wait("3 sessions are before it".into()));
        waiting.pass();
        assert_eq!(waiting.status().conditions.len(), 1, "{turns}");
        waiting.facts.turn = Some(Turn::Go);
        waiting.pass();
        assert_eq!(waiting.status().phase, Some(SessionPhase::Pending));
        let because = waiting.status().conditions.last().unwrap().message.clone();
        assert_eq!(because, "the catalog does not answer");
        waiting.now += TimeDelta::seconds(299);
        waiting.facts.prepared = Some(Prepared::NotYet("the catalog does not answer yet".into()));
        waiting.pass();
        assert_eq!(stage(&waiting.object), Stage::Waiting);
        waiting.facts.prepared = Some(Prepared::NotYet("the catalog does not answer".into()));
    }
    waiting.now += TimeDelta::seconds(1);
    waiting.pass();
    assert_eq!(stage(&waiting.object), Stage::Settled);
    assert_eq!(waiting.status().conditions.len(), 1);

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
