//! Jobs and pods in every state that ends a session, or does not.

use super::*;
use serde_json::{Value, json};

const GRACE: Duration = Duration::from_secs(300);

fn now() -> DateTime<Utc> {
    "2026-11-23T10:00:00Z".parse().unwrap()
}

fn job() -> Job {
    serde_json::from_value(json!({
        "metadata": {"name": "j", "creationTimestamp": "2026-11-23T09:59:00Z"},
        "spec": {"template": {"spec": {
            "initContainers": [{"name": "update-status"}], "containers": [{"name": "redis-backup-0"}]}}}}))
    .unwrap()
}

fn pod(created: &str, status: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "j-x", "creationTimestamp": created}, "status": status}),
    )
    .unwrap()
}

fn container(state: Value) -> Value {
    json!([{"name": "redis-backup-0", "image": "worker:1", "imageID": "", "ready": false, "restartCount": 0, "state": state}])
}

fn exited(code: i32, reason: &str, message: &str) -> Pod {
    let state = json!({"terminated": {"exitCode": code, "reason": reason, "message": message}});
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    pod("2026-11-23T09:59:00Z", json!({"phase": phase, "containerStatuses": container(state)}))
}

fn waiting(reason: &str, created: &str) -> Pod {
    let state = json!({"waiting": {"reason": reason, "message": "no such image"}});
    pod(created, json!({"phase": "Pending", "containerStatuses": container(state)}))
}

fn look(pods: &[Pod]) -> Observed {
    look_with(pods, None)
}

fn look_with(pods: &[Pod], warning: Option<&str>) -> Observed {
    let warning = warning.map(str::to_owned);
    let worker = Worker { job: Some(job()), pods: pods.to_vec(), warning };
    observe("j", &worker, now(), GRACE)
}

fn reason(pods: &[Pod]) -> (String, bool) {
    match look(pods) {
        Observed::Dead { reason, disrupted } => (reason, disrupted),
        other => panic!("{other:?}"),
    }
}

const DONE: &str = r#"{"version":1,"result":"backedUp","snapshotId":"ab","path":"dump.rdb","method":"replication","bytes":1,"dataAdded":1,"dataAddedPacked":1,"filesNew":1,"keys":{},"counted":true,"serverVersion":"7","repositoryCreated":false,"durationMs":5}"#;

#[test]
fn an_outcome_is_believed() {
    let done = exited(0, "Completed", DONE);
    assert!(matches!(look(std::slice::from_ref(&done)), Observed::Ended(_)));
    let worker = Worker { job: Some(job()), pods: vec![done], warning: None };
    assert!(outcome(&worker).is_some());
    let failed =
        r#"{"version":1,"result":"failed","class":"Denied","error":"WRONGPASS","durationMs":5}"#;
    assert!(matches!(look(&[exited(1, "Error", failed)]), Observed::Ended(_)));
    let (text, _) = reason(&[exited(3, "Error", DONE)]);
    assert!(text.contains("exited with code 3 after it had reported success"), "{text}");
}

#[test]
fn every_other_end_has_a_reason() {
    for (code, why, message, part) in [
        (0, "Completed", "", "without leaving a result: its image worker:1"),
        (2, "Error", "panicked at main", "exited with code 2: panicked at main"),
        (137, "OOMKilled", "", "OOMKilled"),
        (137, "Error", "", "was killed by signal 9"),
        (1, "ContainerCannotRun", "exec: no such file", "(ContainerCannotRun): exec: no such file"),
    ] {
        let (text, disrupted) = reason(&[exited(code, why, message)]);
        assert!(text.contains(part) && !disrupted, "{code} {why}: {text}");
    }
}

#[test]
fn what_comes_from_outside_is_a_disruption() {
    let evicted = pod(
        "2026-11-23T09:59:00Z",
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
    );
    assert_eq!(
        reason(&[evicted]),
        ("pod j-x failed: Evicted: The node was low on resource: memory.".to_owned(), true)
    );
    let Observed::Dead { reason, disrupted } = observe("j", &Worker::default(), now(), GRACE)
    else {
        panic!()
    };
    assert!(reason.contains("Job j was deleted") && disrupted);
    let mut failed = job();
    failed.status = serde_json::from_value(json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]})).unwrap();
    let Observed::Dead { reason, disrupted } =
        observe("j", &Worker { job: Some(failed), ..Worker::default() }, now(), GRACE)
    else {
        panic!()
    };
    assert!(reason.contains("the pod of Job j is gone") && disrupted, "{reason}");
}

#[test]
fn patience_has_an_end() {
    let young = "2026-11-23T09:58:00Z";
    let old = "2026-11-23T09:55:00Z";
    let (text, _) = reason(&[waiting("ErrImageNeverPull", young)]);
    assert!(text.contains("worker:1: ErrImageNeverPull: no such image"), "{text}");
    let until = "2026-11-23T10:03:00Z".parse().unwrap();
    assert_eq!(
        look(&[waiting("ImagePullBackOff", young)]),
        Observed::Starting { until: Some(until) }
    );
    assert!(reason(&[waiting("ImagePullBackOff", old)]).0.contains("ImagePullBackOff"));
    // Whether a volume can be mounted is told by Events alone; a large image is no reason to give up.
    let again = now() + TimeDelta::seconds(300);
    let slow = waiting("ContainerCreating", old);
    assert_eq!(look(std::slice::from_ref(&slow)), Observed::Starting { until: Some(again) });
    let warning = Some("FailedMount: MountVolume.SetUp failed for volume \"d\": not found");
    assert_eq!(
        look_with(&[waiting("ContainerCreating", young)], warning),
        Observed::Starting { until: Some(until) }
    );
    let Observed::Dead { reason: why, disrupted: false } = look_with(&[slow], warning) else {
        panic!()
    };
    assert!(why.contains("pod j-x does not start: FailedMount: MountVolume.SetUp"), "{why}");
    let unscheduled = |created| {
        pod(
            created,
            json!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}]}),
        )
    };
    assert!(matches!(look(&[unscheduled(young)]), Observed::Starting { until: Some(_) }));
    assert!(reason(&[unscheduled(old)]).0.contains("0/3 nodes are available"));
    assert!(matches!(look(&[]), Observed::Starting { until: Some(_) }));
    let running =
        json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}))});
    assert_eq!(look(&[pod(young, running)]), Observed::Running);
}

/// A pod with our worker and a proxy that somebody injected beside it or before it.
fn meshed(phase: &str, ours: &Value, proxy: &Value, before: bool) -> Pod {
    let mut all = container(ours.clone());
    let mut injected = container(proxy.clone())[0].clone();
    injected["name"] = json!("istio-proxy");
    injected["image"] = json!("proxy:1");
    let mut status = json!({"phase": phase});
    if before {
        status["initContainerStatuses"] = json!([injected]);
    } else if let Some(all) = all.as_array_mut() {
        all.push(injected);
    }
    status["containerStatuses"] = all;
    pod("2026-11-23T09:50:00Z", status)
}

#[test]
fn only_our_own_containers_decide() {
    let ended = |code: i32, message: &str| json!({"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }, "message": message}});
    let (running, stopped) = (json!({"running": {}}), ended(143, ""));
    let pulls = json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}});
    for before in [false, true] {
        // A proxy that is told to stop once the worker is done, or before, or never.
        for (phase, proxy) in
            [("Failed", &stopped), ("Running", &running), ("Succeeded", &ended(0, ""))]
        {
            let done = meshed(phase, &ended(0, DONE), proxy, before);
            assert!(matches!(look(&[done]), Observed::Ended(_)), "{phase} {before}");
        }
        let none = meshed("Succeeded", &ended(0, ""), &ended(0, DONE), before);
        assert!(reason(&[none]).0.contains("container redis-backup-0 exited with code 0 without"));
        let works = meshed("Running", &running, &stopped, before);
        assert_eq!(look(&[works]), Observed::Running, "{before}");
        let works = meshed("Running", &running, &ended(0, ""), before);
        assert_eq!(look(&[works]), Observed::Running, "{before}");
        // The pod is Pending for the proxy's sake.
        let works = meshed("Pending", &running, &pulls, before);
        assert_eq!(look(&[works]), Observed::Running, "{before}");
        // What keeps ours from starting is told of, whosever it is.
        let waits = json!({"waiting": {"reason": "PodInitializing"}});
        let (text, _) = reason(&[meshed("Pending", &waits, &pulls, before)]);
        assert!(text.contains("container istio-proxy cannot start from image proxy:1"), "{text}");
        let (text, _) = reason(&[meshed("Failed", &waits, &ended(1, "no iptables"), before)]);
        assert!(text.contains("container istio-proxy exited with code 1: no iptables"), "{text}");
    }
}
