//! From the Job to the end: what is followed, settled and looked after.

use super::*;

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
fn what_a_worker_waits_for_is_in_the_status_until_it_begins() {
    let mut world = world().started(json!({"running": {}}));
    let message = |world: &mut World| {
        let plan = world.pass();
        assert!(plan.actions.is_empty() && plan.call.is_none());
        world.status().conditions.last().unwrap().message.clone()
    };
    assert_eq!(message(&mut world), "at work");
    let lock = "waiting for the exclusive lock 1a2b3c4d of root@host, process 7";
    world.facts.waiting = Some(lock.to_owned());
    assert_eq!(message(&mut world), lock);
    assert_eq!(world.succeeded(), (Truth::Unknown, "Running".to_owned()));
    world.facts.waiting = None;
    assert_eq!(message(&mut world), "at work");
}
