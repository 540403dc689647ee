//! The Job runner against the in-process API server, with shell scripts for containers.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use coffer_standalone::{
    apiserver::{self, ApiServer},
    job_runner::{self, ImageMap, Options, Program},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

/// An API server and a runner on a directory of their own.
struct World {
    dir: TempDir,
    server: ApiServer,
    client: Client,
    shutdown: CancellationToken,
    runner: Option<JoinHandle<anyhow::Result<()>>>,
}

impl World {
    async fn start() -> Self {
        let mut world = Self::without_runner().await;
        world.run(4);
        world
    }

    async fn without_runner() -> Self {
        let dir = TempDir::new().unwrap();
        let server = ApiServer::open(dir.path(), apiserver::Options::default()).await.unwrap();
        let client = server.client();
        Self { dir, server, client, shutdown: CancellationToken::new(), runner: None }
    }

    fn run(&mut self, max_parallel: usize) {
        let shell = Program { path: "/bin/sh".into(), args: vec!["-c".into()] };
        self.shutdown = CancellationToken::new();
        self.runner = Some(tokio::spawn(job_runner::run(Options {
            client: self.client.clone(),
            data_dir: self.dir.path().to_owned(),
            images: ImageMap::default().with("shell", shell),
            shutdown: self.shutdown.clone(),
            max_parallel,
        })));
    }

    async fn stop_runner(&mut self) {
        self.shutdown.cancel();
        if let Some(runner) = self.runner.take() {
            tokio::time::timeout(PATIENCE, runner).await.unwrap().unwrap().unwrap();
        }
    }

    async fn stop(mut self) {
        self.stop_runner().await;
        self.server.close().await;
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    /// A Job of one container that runs a script.
    async fn job(&self, name: &str, script: &str, more: Value) -> Job {
        let mut job = json!({
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "main", "image": "shell:1", "args": [script]}],
            }}},
        });
        json_patch::merge(&mut job, &more);
        if let Some(main) = more.pointer("/main") {
            json_patch::merge(&mut job["spec"]["template"]["spec"]["containers"][0], main);
        }
        self.create(job).await
    }

    /// The only Pod of a Job, once it is as wanted.
    async fn pod(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let pods: Api<Pod> = self.api();
        let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        eventually(format!("the Pod of {job}"), async || {
            let list = pods.list(&selector).await.unwrap().items;
            let pod = serde_json::to_value(list.first()?).unwrap();
            Some(if wanted(&pod) { Looked::Found(pod) } else { Looked::Not(pod) })
        })
        .await
    }

    async fn finished(&self, job: &str) -> Value {
        let jobs: Api<Job> = self.api();
        eventually(format!("the end of {job}"), async || {
            let job = serde_json::to_value(jobs.get(job).await.unwrap()).unwrap();
            if condition(&job, "Complete").or_else(|| condition(&job, "Failed")).is_some() {
                Some(Looked::Found(job))
            } else {
                Some(Looked::Not(job))
            }
        })
        .await
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

enum Looked {
    Found(Value),
    Not(Value),
}

/// Looks again and again until it finds; then fails with what it saw last.
async fn eventually(what: String, look: impl AsyncFn() -> Option<Looked>) -> Value {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        let seen = match look().await {
            Some(Looked::Found(value)) => return value,
            Some(Looked::Not(value)) => value,
            None => Value::Null,
        };
        assert!(tokio::time::Instant::now() < deadline, "{what} did not come; last: {seen:#}");
    }
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    eventually(what.to_owned(), async || {
        Some(if holds().await { Looked::Found(Value::Null) } else { Looked::Not(Value::Null) })
    })
    .await;
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let list = object["status"]["conditions"].as_array()?;
    list.iter().find(|c| c["type"] == kind && c["status"] == "True")
}

fn phase(wanted: &str) -> impl Fn(&Value) -> bool {
    move |pod| pod["status"]["phase"] == wanted
}

fn waits(reason: &str) -> impl Fn(&Value) -> bool {
    move |pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // A zombie that nobody has waited for runs no more.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

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

    // Those that wait go when they are deleted.
    let (jobs, pods): (Api<Job>, Api<Pod>) = (world.api(), world.api());
    for job in ["image", "volume"] {
        jobs.delete(job, &DeleteParams::background()).await.unwrap();
    }
    until("the Pods to go", async || {
        pods.list(&ListParams::default()).await.unwrap().items.len() == 1
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
