use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::{
    Program,
    command::{Mount, expand, launch, outside},
    recovery::lost,
    status::{Doing, Ended, Line, State},
};

fn mounts() -> Vec<Mount> {
    let mount =
        |inside: &str, outside: &str| Mount { inside: inside.into(), outside: outside.into() };
    vec![mount("/data", "/D/v1"), mount("/data/deep", "/D/v2"), mount("/etc/s", "/D/s")]
}

#[test]
fn mount_paths_are_replaced_where_a_path_begins() {
    let table = [
        ("/data", "/D/v1"),
        ("/data/x", "/D/v1/x"),
        ("/data/deep/x", "/D/v2/x"),
        ("/data/deeper", "/D/v1/deeper"),
        ("/database", "/database"),
        ("--dir=/data/x,/etc/s/y", "--dir=/D/v1/x,/D/s/y"),
        ("cat /etc/s/p > /data/q", "cat /D/s/p > /D/v1/q"),
        ("file:///data/x", "file:///D/v1/x"),
        ("x/data/y", "x/data/y"),
        ("s3:host/data", "s3:host/data"),
        ("", ""),
    ];
    for (text, wanted) in table {
        assert_eq!(outside(text, &mounts()), wanted, "{text}");
    }
}

#[test]
fn variables_expand_as_in_kubernetes() {
    let env = [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "$(A)".to_owned())];
    let table = [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y$(A)"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$A $", "$A $"),
        ("$(A", "$(A"),
    ];
    for (text, wanted) in table {
        assert_eq!(expand(text, &env), wanted, "{text}");
    }
}

#[test]
fn a_container_becomes_a_process() {
    let program = Program { path: "/opt/worker".into(), args: vec!["run".into()] };
    let env = || vec![("X".to_owned(), "/data/x".to_owned())];
    let make = |container: Value| {
        let container: Container = serde_json::from_value(container).unwrap();
        launch(&container, &program, env(), &mounts(), "/home".as_ref())
    };
    let plain = make(json!({"name": "c", "args": ["--to", "$(X)"]}));
    assert_eq!(plain.program, std::path::Path::new("/opt/worker"));
    assert_eq!(plain.args, ["run", "--to", "/D/v1/x"]);
    assert_eq!(plain.env, [("X".to_owned(), "/D/v1/x".to_owned())]);
    assert_eq!(plain.dir, std::path::Path::new("/home"));
    let same = make(
        json!({"name": "c", "command": ["/usr/bin/worker", "a"], "args": ["b"], "workingDir": "/data"}),
    );
    assert_eq!(
        (same.program.to_str(), same.args),
        (Some("/opt/worker"), vec!["run".into(), "a".into(), "b".into()])
    );
    assert_eq!(same.dir, std::path::Path::new("/D/v1"));
    let other = make(json!({"name": "c", "command": ["sh", "-c"], "args": ["cat /data/x"]}));
    assert_eq!(
        (other.program.to_str(), other.args),
        (Some("sh"), vec!["-c".into(), "cat /D/v1/x".into()])
    );
}

fn ended(code: i32) -> Ended {
    Ended {
        code,
        signal: None,
        reason: "Error".into(),
        message: "why".into(),
        started: None,
        finished: chrono::DateTime::UNIX_EPOCH,
    }
}

#[test]
fn a_status_reads_as_the_kubelets() {
    let mut state = State::new(
        vec![Line::new("i", "img", "PodInitializing")],
        vec![Line::new("c", "img", "PodInitializing")],
    );
    let now = chrono::DateTime::UNIX_EPOCH;
    let condition = |status: &Value, name: &str| {
        let list = status["conditions"].as_array().unwrap();
        list.iter().find(|c| c["type"] == name).unwrap()["status"].clone()
    };
    let status = state.render(now);
    assert_eq!(status["phase"], "Pending");
    assert_eq!(status["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    state.init[0].doing = Doing::Terminated(ended(0));
    state.main[0].doing = Doing::Running { since: now };
    let status = state.render(now + chrono::TimeDelta::seconds(5));
    assert_eq!((&status["phase"], condition(&status, "Ready")), (&json!("Running"), json!("True")));
    assert_eq!(status["conditions"][1]["lastTransitionTime"], "1970-01-01T00:00:05Z");
    state.main[0].doing = Doing::Terminated(ended(3));
    state.over = true;
    let status = state.render(now);
    assert_eq!((&status["phase"], condition(&status, "Ready")), (&json!("Failed"), json!("False")));
    assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["message"], "why");
    state.main[0].doing = Doing::Terminated(ended(0));
    assert_eq!(state.render(now)["phase"], "Succeeded");
}

#[test]
fn only_what_had_begun_is_lost() {
    let pod = |status: Value| -> Pod { serde_json::from_value(json!({"status": status})).unwrap() };
    let container = |state: Value| json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state});
    let waiting =
        pod(json!({"phase": "Pending", "containerStatuses": [container(json!({"waiting": {}}))]}));
    assert_eq!(lost(&waiting, "t"), None);
    let done = pod(
        json!({"phase": "Succeeded", "containerStatuses": [container(json!({"terminated": {"exitCode": 0}}))]}),
    );
    assert_eq!(lost(&done, "t"), None);
    let running = pod(json!({
        "phase": "Running", "containerStatuses": [container(json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}))],
        "conditions": [{"type": "Ready", "status": "True"}],
    }));
    let status = lost(&running, "2026-01-02T00:00:00Z").unwrap();
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Failed"), &json!("NodeLost")));
    let terminated = &status["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&terminated["exitCode"], &terminated["startedAt"]),
        (&json!(137), &json!("2026-01-01T00:00:00Z"))
    );
    assert_eq!(status["conditions"][0]["status"], "False");
}
