//! The Job runner against the in-process API server, with shell scripts for containers.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use crate::runner::{PATIENCE, World, alive, condition, phase, until, waits};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, PersistentVolumeClaim, Pod, Secret},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams},
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_job_runs_with_all_that_its_pod_brings() {
    let world = World::start().await;
    world
        .create::<Secret>(
            json!({"metadata": {"name": "s"}, "stringData": {"password": "p w", "USER": "u"}}),
        )
        .await;
    let script = r#"
        set -e
        test "$(cat /shared/first)" = one
        test "$PASSWORD" = "p w"
        test "$pre_USER" = u
        test "$NAME" = "$HOSTNAME"
        test "$GREETING" = "hello $(A_NAME)"
        test "$(stat -c %a /secret/password)" = 600
        test "$(cat /secret/password)" = "p w"
        test "$(cat /one)" = u
        test "$PWD" = "$DIR"
        test -z "$CARGO"
        echo to stdout
        echo to stderr >&2
        printf '{"done":true}' > "$TERMINATION_LOG"
    "#
    .replace("$(A_NAME)", "world");
    world
        .job(
            "full",
            &script,
            json!({
                "spec": {"template": {"spec": {
                    "initContainers": [{
                        "name": "first", "image": "shell", "args": ["printf one > /init/first"],
                        "volumeMounts": [{"name": "shared", "mountPath": "/init"}],
                    }],
                    "volumes": [
                        {"name": "shared", "emptyDir": {}},
                        {"name": "secret", "secret": {"secretName": "s"}},
                    ],
                }}},
                "main": {
                    "workingDir": "/shared",
                    "volumeMounts": [
                        {"name": "shared", "mountPath": "/shared"},
                        {"name": "secret", "mountPath": "/secret", "readOnly": true},
                        {"name": "secret", "mountPath": "/one", "subPath": "USER"},
                    ],
                    "envFrom": [{"prefix": "pre_", "secretRef": {"name": "s"}}],
                    "env": [
                        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "s", "key": "password"}}},
                        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                        {"name": "WHO", "value": "world"},
                        {"name": "GREETING", "value": "hello $(WHO)"},
                        {"name": "DIR", "value": "/shared"},
                    ],
                },
            }),
        )
        .await;
    let job = world.finished("full").await;
    let pod = world.pod("full", |_| true).await;
    let logs: Api<Pod> = world.api();
    let log = logs
        .logs(
            pod["metadata"]["name"].as_str().unwrap(),
            &LogParams { container: Some("main".into()), ..LogParams::default() },
        )
        .await
        .unwrap();
    assert!(condition(&job, "Complete").is_some(), "{job:#}\n{pod:#}\n{log}");
    assert_eq!((&job["status"]["succeeded"], &job["status"]["active"]), (&json!(1), &Value::Null));
    assert!(job["status"]["startTime"].is_string() && job["status"]["completionTime"].is_string());
    assert_eq!(pod["status"]["phase"], "Succeeded");
    assert_eq!(pod["metadata"]["labels"]["job-name"], "full");
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(0), &json!("Completed")));
    assert_eq!(terminated["message"], r#"{"done":true}"#);
    assert_eq!(log, "to stdout\nto stderr\n");
    let mode = std::fs::metadata(world.path("pods")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    world.stop().await;
}

#[tokio::test]
async fn a_failure_tells_its_reason() {
    let world = World::start().await;
    let policy = json!({"main": {"terminationMessagePolicy": "FallbackToLogsOnError"}});
    world.job("bad", "echo it broke >&2; exit 3", policy).await;
    let failed = world.finished("bad").await;
    assert_eq!(condition(&failed, "Failed").unwrap()["reason"], "BackoffLimitExceeded");
    assert_eq!(failed["status"]["failed"], 1);
    let pod = world.pod("bad", phase("Failed")).await;
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["reason"]), (&json!(3), &json!("Error")));
    assert_eq!(terminated["message"], "it broke");
    // An init container that fails ends the Pod; a killed process says by what.
    let init = json!({"spec": {"template": {"spec": {
        "initContainers": [{"name": "i", "image": "shell", "args": ["kill -9 $$$$"]}],
    }}}});
    world.job("init", "true", init).await;
    world.finished("init").await;
    let pod = world.pod("init", phase("Failed")).await;
    let terminated = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!((&terminated["exitCode"], &terminated["signal"]), (&json!(137), &json!(9)));
    assert_eq!(
        pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"],
        "PodInitializing"
    );
    // A program that is not there.
    world.job("none", "", json!({"main": {"command": ["/no/such/program"]}})).await;
    world.finished("none").await;
    let pod = world.pod("none", phase("Failed")).await;
    let terminated = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(terminated["reason"], "StartError");
    assert!(
        terminated["message"].as_str().unwrap().starts_with("failed to start /no/such/program: ")
    );
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_start_waits_and_says_why() {
    let world = World::start().await;
    let message = |pod: &Value| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["message"].as_str().unwrap().to_owned()
    };
    world.job("image", "true", json!({"main": {"image": "example.com/other:2"}})).await;
    let pod = world.pod("image", waits("ImagePullBackOff")).await;
    assert_eq!(pod["status"]["phase"], "Pending");
    assert!(message(&pod).contains("example.com/other:2"), "{}", message(&pod));

    let volume = json!({"spec": {"template": {"spec": {
        "volumes": [{"name": "share", "nfs": {"server": "h", "path": "/"}}],
    }}}});
    world.job("volume", "true", volume).await;
    let pod = world.pod("volume", waits("CreateContainerConfigError")).await;
    assert!(message(&pod).contains("volume \"share\" is of kind nfs"), "{}", message(&pod));

    let secret = json!({"main": {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "late", "key": "k"}}}]}});
    world.job("secret", "test \"$X\" = v", secret).await;
    let pod = world.pod("secret", waits("CreateContainerConfigError")).await;
    assert_eq!(message(&pod), "secret \"late\" not found");
    world.create::<Secret>(json!({"metadata": {"name": "late"}, "stringData": {"k": "v"}})).await;
    assert!(condition(&world.finished("secret").await, "Complete").is_some());

    // A volume that cannot be mounted is told in an Event, as the kubelet does.
    let claim = json!({"spec": {"template": {"spec": {
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "late"}}],
    }}}});
    world.job("claim", "true", claim).await;
    world.pod("claim", waits("ContainerCreating")).await;
    until("the Event", async || {
        let about = ListParams::default().fields("reason=FailedMount,type=Warning");
        let events = world.api::<Event>().list(&about).await.unwrap();
        events.iter().any(|event| {
            event.message.as_deref().unwrap().contains("persistentvolumeclaim \"late\" not found")
        })
    })
    .await;
    let claim = json!({"metadata": {"name": "late"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}}}});
    world.create::<PersistentVolumeClaim>(claim).await;
    assert!(condition(&world.finished("claim").await, "Complete").is_some());

    // Those that wait go when they are deleted.
    let (jobs, pods): (Api<Job>, Api<Pod>) = (world.api(), world.api());
    for job in ["image", "volume"] {
        jobs.delete(job, &DeleteParams::background()).await.unwrap();
    }
    until("the Pods to go", async || {
        pods.list(&ListParams::default()).await.unwrap().items.len() == 2
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn deletion_ends_the_whole_process_group() {
    let world = World::start().await;
    let host = world.path("host");
    std::fs::create_dir(&host).unwrap();
    let mount = json!({
        "spec": {"template": {"spec": {"volumes": [{"name": "host", "hostPath": {"path": host, "type": "Directory"}}]}}},
        "main": {"volumeMounts": [{"name": "host", "mountPath": "/h"}]},
    });
    let script = "trap 'echo asked > /h/asked; exit 0' TERM; sh -c 'trap \"\" TERM; sleep 1000' & echo $! > /h/pid.new; mv /h/pid.new /h/pid; wait";
    world.job("long", script, mount).await;
    let pod = world.pod("long", phase("Running")).await;
    assert_eq!(pod["status"]["containerStatuses"][0]["ready"], true);
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    until("the process", async || host.join("pid").exists()).await;
    let pid = std::fs::read_to_string(host.join("pid")).unwrap();
    assert!(alive(&pid));
    let (jobs, pods): (Api<Job>, Api<Pod>) = (world.api(), world.api());
    until("ready to be counted", async || {
        jobs.get("long").await.unwrap().status.unwrap().ready == Some(1)
    })
    .await;
    jobs.delete("long", &DeleteParams::background()).await.unwrap();
    until("the Pod to go", async || {
        pods.list(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
    assert_eq!(std::fs::read_to_string(host.join("asked")).unwrap(), "asked\n");
    assert!(!alive(&pid));
    until("its files to go", async || !world.path("pods").join(&uid).exists()).await;
    world.stop().await;
}

#[tokio::test]
async fn deadlines_and_places_are_kept() {
    let mut world = World::without_runner().await;
    world.run(1);
    world.job("slow", "sleep 1000", json!({"spec": {"activeDeadlineSeconds": 1}})).await;
    world.pod("slow", phase("Running")).await;
    world.job("next", "true", json!({})).await;
    let waiting =
        world.pod("next", |pod| pod["status"]["conditions"][0]["reason"] == "Unschedulable").await;
    assert_eq!(waiting["status"]["phase"], "Pending");
    let failed = world.finished("slow").await;
    assert_eq!(condition(&failed, "Failed").unwrap()["reason"], "DeadlineExceeded");
    assert!(condition(&world.finished("next").await, "Complete").is_some());
    // Suspended, a Job has no Pods; resumed, it has one.
    world.job("later", "true", json!({"spec": {"suspend": true}})).await;
    let jobs: Api<Job> = world.api();
    until("the suspension", async || {
        condition(&serde_json::to_value(jobs.get("later").await.unwrap()).unwrap(), "Suspended")
            .is_some()
    })
    .await;
    let resume = Patch::Merge(json!({"spec": {"suspend": false}}));
    jobs.patch("later", &PatchParams::default(), &resume).await.unwrap();
    assert!(condition(&world.finished("later").await, "Complete").is_some());
    world.stop().await;
}

#[tokio::test]
async fn a_shutdown_leaves_settled_pods() {
    let mut world = World::start().await;
    world.job("long", "sleep 1000", json!({})).await;
    world.job("idle", "true", json!({"main": {"image": "other"}})).await;
    world.pod("long", phase("Running")).await;
    world.pod("idle", waits("ImagePullBackOff")).await;
    world.stop_runner().await;
    let pod = world.pod("long", phase("Failed")).await;
    assert_eq!(pod["status"]["reason"], "Terminated");
    assert_eq!(world.pod("idle", |_| true).await["status"]["phase"], "Pending");
    world.run(4);
    assert!(condition(&world.finished("long").await, "Failed").is_some());
    world.stop().await;
}

#[tokio::test]
async fn what_a_crash_left_is_killed_and_failed() {
    let mut world = World::without_runner().await;
    // As a runner leaves it that was killed: a Pod that runs, a process, a record of it.
    let pod: Pod = world
        .create(json!({"metadata": {"name": "p"}, "spec": {"nodeName": "localhost", "restartPolicy": "Never", "containers": [{"name": "c", "image": "shell"}]}}))
        .await;
    let status = json!({"status": {"phase": "Running", "containerStatuses": [{
        "name": "c", "image": "shell", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
    }]}});
    let pods: Api<Pod> = world.api();
    pods.patch_status("p", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let orphan = |started: u64| {
        let mut child = tokio::process::Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let pid = child.id().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let ticks: u64 =
            stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let _ = child.try_wait();
        (child, json!({"pid": pid, "started": ticks + started, "boot": boot.trim()}))
    };
    let (mut ours, record) = orphan(0);
    let (mut other, foreign) = orphan(1);
    let records = world.path("pods").join(pod.uid().unwrap()).join("processes");
    write(&records.join("c"), &record);
    write(&records.join("d"), &foreign);
    world.run(4);
    tokio::time::timeout(PATIENCE, ours.wait()).await.unwrap().unwrap();
    until("the Pod to fail", async || {
        let status = pods.get("p").await.unwrap().status.unwrap();
        status.phase.as_deref() == Some("Failed") && status.reason.as_deref() == Some("NodeLost")
    })
    .await;
    assert!(other.try_wait().unwrap().is_none(), "a process with a reused number was killed");
    other.kill().await.unwrap();
    world.stop().await;
}

fn write(path: &Path, value: &Value) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, value.to_string()).unwrap();
}

#[tokio::test]
async fn a_container_restarts_where_its_policy_says_so() {
    let world = World::start().await;
    let again =
        json!({"spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "OnFailure"}}}});
    world.job("again", "exit 1", again).await;
    let failed = world.finished("again").await;
    assert_eq!(condition(&failed, "Failed").unwrap()["reason"], "BackoffLimitExceeded");
    world.stop().await;
}
