//! Commands in running containers, through the client that the orchestrator's hooks use.

use coffer_standalone::apiserver::User;
use k8s_openapi::api::{
    core::v1::{Pod, ServiceAccount},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::{AttachParams, AttachedProcess, DeleteParams, PostParams},
};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};

use crate::{
    runner::{World, alive, phase, until},
    support::{code, object},
};

/// A Pod of one container that runs until it is told to stop, and is up.
async fn running(world: &World, name: &str) -> Api<Pod> {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 0,
            "volumes": [{"name": "data", "emptyDir": {}}],
            "containers": [{
                "name": "main", "image": "shell", "workingDir": "/data",
                "args": ["while :; do sleep 3600; done"],
                "env": [{"name": "GREETING", "value": "hello"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
        },
    });
    world.create::<Pod>(pod).await;
    until("the Pod runs", async || {
        let pod = world.api::<Pod>().get(name).await.unwrap();
        phase("Running")(&serde_json::to_value(pod).unwrap())
    })
    .await;
    world.api()
}

fn asked() -> AttachParams {
    AttachParams::default().container("main").stdin(false)
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    stream.unwrap().read_to_string(&mut text).await.unwrap();
    text
}

/// Output, error output and status of a command.
async fn ended(mut process: AttachedProcess) -> (String, String, Value) {
    let status = process.take_status().unwrap();
    let (out, err) = (process.stdout(), process.stderr());
    let (out, err, status) = tokio::join!(read(out), read(err), status);
    (out, err, serde_json::to_value(status.unwrap()).unwrap())
}

async fn sh(pods: &Api<Pod>, script: &str) -> (String, String, Value) {
    ended(pods.exec("p", ["sh", "-c", script], &asked()).await.unwrap()).await
}

#[tokio::test]
async fn a_command_runs_as_the_container_does() {
    let world = World::start().await;
    let pods = running(&world, "p").await;

    let (out, err, status) =
        sh(&pods, "echo $GREETING; pwd; echo x > /data/made; cat made; echo bad >&2").await;
    let [greeting, dir, made] = out.lines().collect::<Vec<_>>()[..] else { panic!("{out:?}") };
    assert_eq!((greeting, made, err.as_str()), ("hello", "x", "bad\n"));
    assert!(dir.starts_with(world.path("pods").to_str().unwrap()), "{dir}");
    assert_eq!(status["status"], "Success", "{status}");

    // Words stay as they are: also empty ones, and what would be a variable in a specification.
    let words = ["printf", "[%s]", "", "$(GREETING)", "a b"];
    let (out, _, _) = ended(pods.exec("p", words, &asked()).await.unwrap()).await;
    assert_eq!(out, "[][$(GREETING)][a b]");

    // As a kubelet words it: clients take the code from there.
    let (_, _, status) = sh(&pods, "exit 3").await;
    assert_eq!(
        (&status["status"], &status["reason"]),
        (&json!("Failure"), &json!("NonZeroExitCode"))
    );
    assert_eq!(status["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
    let (_, _, status) = sh(&pods, "kill -9 $$").await;
    assert_eq!(status["details"]["causes"][0]["message"], "137");
    let process = pods.exec("p", ["no-such-program"], &asked()).await.unwrap();
    let (_, _, status) = ended(process).await;
    assert_eq!(status["code"], 500);
    let why = status["message"].as_str().unwrap();
    assert!(why.contains("exec: \"no-such-program\": executable file not found in $PATH"), "{why}");

    // More than any buffer holds, and a process that stays behind with the output open.
    let (out, _, status) = sh(&pods, "sleep 3600 & head -c 3000000 /dev/zero").await;
    assert_eq!((out.len(), &status["status"]), (3_000_000, &json!("Success")));

    let mut process = pods.exec("p", ["cat"], &asked().stdin(true)).await.unwrap();
    let mut stdin = process.stdin().unwrap();
    let sent = "line\n".repeat(50_000);
    let write = async {
        stdin.write_all(sent.as_bytes()).await.unwrap();
        drop(stdin.shutdown().await);
        drop(stdin);
    };
    let ((), (out, _, _)) = tokio::join!(write, ended(process));
    assert_eq!(out, sent);
    world.stop().await;
}

#[tokio::test]
async fn a_command_ends_with_its_client_and_its_container() {
    let world = World::start().await;
    let pods = running(&world, "p").await;
    let start = async || {
        let words = ["sh", "-c", "echo $$; exec sleep 3600"];
        let mut process = pods.exec("p", words, &asked()).await.unwrap();
        let mut lines = BufReader::new(process.stdout().unwrap()).lines();
        let pid = lines.next_line().await.unwrap().unwrap();
        assert!(alive(&pid));
        (process, pid)
    };
    let (process, pid) = start().await;
    drop(process);
    until("the command ended with its client", async || !alive(&pid)).await;

    let (mut process, pid) = start().await;
    let status = process.take_status().unwrap();
    pods.delete("p", &DeleteParams::default()).await.unwrap();
    until("the command ended with its container", async || !alive(&pid)).await;
    let status = serde_json::to_value(status.await.unwrap()).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "137");

    // The server does not close over a command either.
    until("the Pod is gone", async || pods.get_opt("p").await.unwrap().is_none()).await;
    running(&world, "p").await;
    let (_process, pid) = start().await;
    world.stop().await;
    assert!(!alive(&pid));
}

#[tokio::test]
async fn what_cannot_run_is_refused_before() {
    let world = World::start().await;
    let pods = running(&world, "p").await;
    let refused = async |name: &str, words: &[&str], params: &AttachParams| {
        code(pods.exec(name, words.to_vec(), params).await.map(|_| ()))
    };
    let two = json!({
        "metadata": {"name": "done"},
        "spec": {"restartPolicy": "Never", "containers": [
            {"name": "main", "image": "shell", "args": ["exit 0"]},
            {"name": "other", "image": "shell", "args": ["exit 0"]},
        ]},
    });
    world.create::<Pod>(two).await;
    until("the Pod is done", async || {
        let pod = serde_json::to_value(pods.get("done").await.unwrap()).unwrap();
        phase("Succeeded")(&pod)
    })
    .await;
    let none = AttachParams::default().stdin(false);
    for (pod, words, params, status, why) in [
        ("gone", &["true"][..], asked(), 404, "pods \"gone\" not found"),
        ("p", &[], asked(), 400, "at least one command"),
        ("p", &["true"], asked().container("x"), 400, "container x is not valid for pod p"),
        ("done", &["true"], none, 400, "a container name must be specified"),
        ("done", &["true"], asked(), 400, "container \"main\" of pod \"done\" is not running"),
        ("p", &["sh"], AttachParams::interactive_tty().stdout(true), 400, "without -t"),
    ] {
        let (found, text) = refused(pod, words, &params).await;
        assert!(found == status && text.contains(why), "{pod} {words:?}: {found} {text}");
    }

    // Seeing a Pod is not the right to run something in it, nor is `get` of the subresource.
    let post = PostParams::default();
    world
        .api::<ServiceAccount>()
        .create(&post, &object(json!({"metadata": {"name": "robot"}})))
        .await
        .unwrap();
    let binding = json!({"metadata": {"name": "r"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    world.api::<RoleBinding>().create(&post, &object(binding)).await.unwrap();
    let roles: Api<Role> = world.api();
    let robot = User::service_account("default", "robot", "");
    let robot = Client::new(world.server.service_as(Some(robot)), "default");
    let robot: Api<Pod> = Api::namespaced(robot, "default");
    for (verbs, may) in [(json!(["get"]), false), (json!(["get", "create"]), true)] {
        let role = json!({"metadata": {"name": "r"}, "rules": [
            {"apiGroups": [""], "resources": ["pods/exec"], "verbs": verbs},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]},
        ]});
        drop(roles.delete("r", &DeleteParams::default()).await);
        roles.create(&post, &object(role)).await.unwrap();
        let answer = robot.exec("p", ["true"], &asked()).await;
        if may {
            assert_eq!(ended(answer.unwrap()).await.2["status"], "Success");
        } else {
            let (status, text) = code(answer.map(|_| ()));
            assert!(
                status == 403 && text.contains("create") && text.contains("pods/exec"),
                "{text}"
            );
        }
    }
    world.stop().await;
}
