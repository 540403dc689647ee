//! After the end: attempts and history.

use super::*;

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
    assert_eq!(deleted(Some(-1), running), [""; 0]);
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
