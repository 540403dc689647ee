use chrono::{DateTime, TimeDelta, TimeZone};
use serde_json::Value;

use super::*;
use crate::job_runner::time::stamp;

fn start() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, 0).unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut job = json!({
        "metadata": {"name": "j", "namespace": "n", "uid": "u"},
        "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 1, "template": {"spec": {"containers": [{"name": "c"}], "restartPolicy": "Never"}}},
        "status": status,
    });
    for (key, value) in spec.as_object().unwrap() {
        job["spec"][key] = value.clone();
    }
    serde_json::from_value(job).unwrap()
}

fn pod(name: &str, phase: &str, ended: Option<DateTime<Utc>>) -> Pod {
    let state = match ended {
        Some(ended) => json!({"terminated": {"exitCode": 1, "finishedAt": stamp(ended)}}),
        None => json!({"running": {}}),
    };
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "status": {"phase": phase, "containerStatuses": [
            {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}
        ]},
    }))
    .unwrap()
}

fn conditions(plan: &Plan) -> Vec<String> {
    let status = plan.status.as_ref().unwrap();
    let list = status["conditions"].as_array().into_iter().flatten();
    list.map(|c| {
        format!(
            "{}={} {}",
            c["type"].as_str().unwrap(),
            c["status"].as_str().unwrap(),
            c["reason"].as_str().unwrap()
        )
    })
    .collect()
}

#[test]
fn a_new_job_gets_its_pod() {
    let plan = decide(&job(json!({}), json!({})), &[], start()).unwrap();
    let [pod] = plan.create.as_slice() else { panic!("{plan:?}") };
    assert!(pod.name_any().starts_with("j-") && pod.name_any().len() == 7, "{}", pod.name_any());
    assert_eq!(pod.labels()["job-name"], "j");
    assert_eq!(pod.labels()["batch.kubernetes.io/controller-uid"], "u");
    let owner = &pod.owner_references()[0];
    assert_eq!((owner.kind.as_str(), owner.controller), ("Job", Some(true)));
    let status = plan.status.unwrap();
    assert_eq!(status["active"], 1);
    assert_eq!(status["startTime"], stamp(start()));
    // The same question has the same answer.
    let again = decide(&job(json!({}), json!({})), &[], start()).unwrap();
    assert_eq!(again.create[0].name_any(), pod.name_any());
}

#[test]
fn a_finished_pod_completes_the_job() {
    let running = json!({"active": 1, "startTime": stamp(start())});
    let plan = decide(&job(json!({}), running), &[pod("a", "Succeeded", None)], start()).unwrap();
    assert!(plan.create.is_empty());
    assert_eq!(
        conditions(&plan),
        ["SuccessCriteriaMet=True CompletionsReached", "Complete=True CompletionsReached"]
    );
    let status = plan.status.unwrap();
    assert_eq!((&status["succeeded"], &status["active"]), (&json!(1), &Value::Null));
    assert_eq!(status["completionTime"], stamp(start()));
}

#[test]
fn failures_are_retried_up_to_the_limit() {
    let running = json!({"active": 1, "startTime": stamp(start())});
    let one = [pod("a", "Failed", Some(start()))];
    let soon =
        decide(&job(json!({}), running.clone()), &one, start() + TimeDelta::seconds(3)).unwrap();
    assert!(soon.create.is_empty());
    assert_eq!(soon.requeue, Some(Duration::from_secs(7)));
    let later =
        decide(&job(json!({}), running.clone()), &one, start() + TimeDelta::seconds(10)).unwrap();
    assert_eq!(later.create.len(), 1);
    let two = [pod("a", "Failed", Some(start())), pod("b", "Failed", Some(start()))];
    let plan = decide(&job(json!({}), running.clone()), &two, start()).unwrap();
    assert_eq!(
        conditions(&plan),
        ["FailureTarget=True BackoffLimitExceeded", "Failed=True BackoffLimitExceeded"]
    );
    assert_eq!(plan.status.unwrap()["failed"], 2);
    let none = decide(&job(json!({"backoffLimit": 0}), running), &one, start()).unwrap();
    assert_eq!(conditions(&none)[1], "Failed=True BackoffLimitExceeded");
}

#[test]
fn a_deadline_ends_the_pods_first() {
    let spec = json!({"activeDeadlineSeconds": 60});
    let running = json!({"active": 1, "startTime": stamp(start())});
    let active = [pod("a", "Running", None)];
    let before =
        decide(&job(spec.clone(), running.clone()), &active, start() + TimeDelta::seconds(50))
            .unwrap();
    assert_eq!(before.requeue, Some(Duration::from_secs(10)));
    let after =
        decide(&job(spec.clone(), running), &active, start() + TimeDelta::seconds(60)).unwrap();
    assert_eq!(after.delete, ["a"]);
    assert_eq!(conditions(&after), ["FailureTarget=True DeadlineExceeded"]);
    let last =
        decide(&job(spec, after.status.unwrap()), &[], start() + TimeDelta::seconds(61)).unwrap();
    assert_eq!(conditions(&last)[1], "Failed=True DeadlineExceeded");
    assert!(last.create.is_empty());
}

#[test]
fn suspension_stops_and_resumes() {
    let running = json!({"active": 1, "startTime": stamp(start())});
    let active = [pod("a", "Running", None)];
    let plan = decide(&job(json!({"suspend": true}), running), &active, start()).unwrap();
    assert_eq!(plan.delete, ["a"]);
    assert_eq!(conditions(&plan), ["Suspended=True JobSuspended"]);
    let status = plan.status.unwrap();
    assert!(status["startTime"].is_null());
    let plan = decide(&job(json!({}), status), &[], start()).unwrap();
    assert_eq!(conditions(&plan), ["Suspended=False JobResumed"]);
    assert_eq!(plan.create.len(), 1);
}

#[test]
fn a_finished_job_lives_as_long_as_it_says() {
    let done = json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": stamp(start())}]});
    let spec = json!({"ttlSecondsAfterFinished": 30});
    let plan =
        decide(&job(spec.clone(), done.clone()), &[], start() + TimeDelta::seconds(10)).unwrap();
    assert_eq!((plan.remove, plan.requeue), (false, Some(Duration::from_secs(20))));
    assert!(
        decide(&job(spec, done.clone()), &[], start() + TimeDelta::seconds(30)).unwrap().remove
    );
    let plan = decide(&job(json!({}), done), &[], start() + TimeDelta::days(99)).unwrap();
    assert!(!plan.remove && plan.status.is_none() && plan.create.is_empty());
}

#[test]
fn parallel_jobs_have_as_many_pods_as_they_may() {
    let spec = json!({"completions": 5, "parallelism": 3});
    let running = json!({"startTime": stamp(start())});
    let plan = decide(&job(spec.clone(), running.clone()), &[], start()).unwrap();
    assert_eq!(plan.create.len(), 3);
    let pods = [
        pod("a", "Succeeded", None),
        pod("b", "Succeeded", None),
        pod("c", "Succeeded", None),
        pod("d", "Running", None),
    ];
    let plan = decide(&job(spec, running.clone()), &pods, start()).unwrap();
    assert_eq!(plan.create.len(), 1);
    let indexed = job(json!({"completionMode": "Indexed"}), running);
    assert_eq!(conditions(&decide(&indexed, &[], start()).unwrap())[1], "Failed=True Unsupported");
}
