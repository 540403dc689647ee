//! The real kubectl against the server over TLS: one long session, as a person would have it, and commands in a container.
#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of tests may fail")]

#[path = "support/runner.rs"]
mod runner;
mod support;

use std::process::Stdio;
use std::time::Duration;

use support::{World, eventually, widget_definition};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::oneshot;

/// How long one command may take; long, since a machine that is busy is no defect.
const PATIENCE: Duration = Duration::from_secs(90);

struct Kubectl {
    kubeconfig: std::path::PathBuf,
    home: tempfile::TempDir,
}

impl Kubectl {
    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command
            .args(line)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("HOME", self.home.path())
            // The default since 1.31.
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Runs a command with a document on its input: whether it succeeded, and all it printed.
    async fn run(&self, line: &[&str], input: &str) -> (bool, String) {
        let mut child = self.command(line).spawn().expect("kubectl is in the PATH");
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output());
        let output = output.await.expect("kubectl answers in time").unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    async fn ok_with(&self, line: &str, input: &str) -> String {
        let words = words(line);
        let (success, text) = self.run(&words, input).await;
        assert!(success, "kubectl {line}: {text}");
        text
    }

    async fn ok(&self, line: &str) -> String {
        self.ok_with(line, "").await
    }

    async fn fails_with(&self, line: &str, input: &str) -> String {
        let (success, text) = self.run(&words(line), input).await;
        assert!(!success, "kubectl {line} succeeded: {text}");
        text
    }
}

/// Words are separated by spaces; quotes keep them together.
fn words(line: &str) -> Vec<&str> {
    line.split('\'')
        .enumerate()
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_whitespace().collect(),
            _ => vec![part],
        })
        .collect()
}

/// Asserts that the text has each of the parts.
#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

const WIDGET: &str = "apiVersion: example.com/v1\nkind: Widget\n\
    metadata: {name: w, labels: {app: a}}\nspec: {size: 3}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_works_as_with_any_cluster() {
    let world = World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kubeconfig = world.server.write_kubeconfig(address).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = world.server.clone();
    let serving = tokio::spawn(async move {
        server.serve(listener, async { drop(stopped.await) }).await.unwrap();
    });
    let kubectl = Kubectl { kubeconfig, home: tempfile::tempdir().unwrap() };

    look_around(&kubectl).await;
    custom_kind(&kubectl).await;
    patches(&kubectl).await;
    refusals(&kubectl).await;
    built_in_kinds(&kubectl).await;
    access(&kubectl).await;
    jobs_and_logs(&kubectl, &world).await;
    watching(&kubectl).await;
    deleting(&kubectl).await;

    // A watch that is open ends with the server, and does not hold it up.
    let mut watch = kubectl.command(&["get", "ns", "-w"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it ends").unwrap();
    world.server.close().await;
}

/// Which kubectl this is: the minor version.
async fn minor(kubectl: &Kubectl) -> u32 {
    let text = kubectl.ok("version --client -o json").await;
    let version: serde_json::Value = serde_json::from_str(&text).unwrap();
    let minor = version["clientVersion"]["minor"].as_str().unwrap();
    minor.trim_end_matches('+').parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_runs_commands_in_containers() {
    let world = runner::World::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kubeconfig = world.server.write_kubeconfig(listener.local_addr().unwrap()).unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = world.server.clone();
    let serving = tokio::spawn(async move {
        server.serve(listener, async { drop(stopped.await) }).await.unwrap();
    });
    let kubectl = Kubectl { kubeconfig, home: tempfile::tempdir().unwrap() };
    kubectl.ok("run p --image=shell -- 'while :; do sleep 3600; done'").await;
    kubectl.ok("wait --for=condition=ready pod/p --timeout=60s").await;

    if minor(&kubectl).await < 29 {
        // It speaks SPDY only, and hears what to do.
        has(&kubectl.fails_with("exec p -- true", "").await, &["WebSockets only", "1.31"]);
    } else {
        assert_eq!(kubectl.ok("exec p -- printenv HOSTNAME").await, "p\n");
        assert_eq!(kubectl.ok_with("exec -i p -- cat", "a\nb\n").await, "a\nb\n");
        let mut command = kubectl.command(&words("exec p -- sh -c 'echo why >&2; exit 3'"));
        let failed = command.output().await.unwrap();
        assert_eq!(failed.status.code(), Some(3));
        has(&String::from_utf8_lossy(&failed.stderr), &["why\n", "exit code 3"]);
        has(&kubectl.fails_with("exec p -- no-such-program", "").await, &["not found in $PATH"]);
        has(&kubectl.fails_with("exec -c x p -- true", "").await, &["x"]);
    }
    stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it ends").unwrap();
    world.stop().await;
}

async fn look_around(kubectl: &Kubectl) {
    has(&kubectl.ok("version").await, &["Server Version: ", "v1.34"]);
    has(&kubectl.ok("get ns").await, &["default", "Active"]);
    has(&kubectl.ok("api-versions").await, &["batch/v1", "rbac.authorization.k8s.io/v1"]);
    has(&kubectl.ok("api-resources").await, &["configmaps", "cm", "cronjobs", "leases"]);
    has(&kubectl.ok("explain job.spec.backoffLimit").await, &["<integer>", "retries"]);
    assert_eq!(kubectl.ok("get --raw /readyz").await, "ok");
}

async fn custom_kind(kubectl: &Kubectl) {
    let definition = widget_definition().to_string();
    has(&kubectl.ok_with("apply -f -", &definition).await, &["created"]);
    has(&kubectl.ok_with("apply -f -", &definition).await, &["unchanged"]);
    kubectl.ok("wait --for=condition=established crd/widgets.example.com --timeout=5s").await;
    has(&kubectl.ok_with("apply -f -", WIDGET).await, &["widget.example.com/w created"]);
    has(&kubectl.ok_with("apply -f -", WIDGET).await, &["unchanged"]);
    let table = kubectl.ok("get wd").await;
    has(&table, &["NAME", "SIZE", "PHASE", "w      3"]);
    has(&kubectl.ok("get wd w -o yaml").await, &["color: red", "generation: 1"]);
    assert_eq!(kubectl.ok("get wd w -o name").await, "widget.example.com/w\n");
    has(&kubectl.ok("describe wd w").await, &["Size:   3", "Color:  red"]);
    has(&kubectl.ok("explain widget.spec.size").await, &["How large the widget is."]);
    has(&kubectl.ok("get all").await, &["widget.example.com/w"]);
    has(&kubectl.ok("get wd -l 'app in (a,b)'").await, &["w "]);
    has(&kubectl.ok("get wd -l app!=a").await, &["No resources found"]);
    has(&kubectl.ok("get wd --field-selector metadata.name=w").await, &["w "]);
}

async fn patches(kubectl: &Kubectl) {
    let size = "get wd w -o 'jsonpath={.spec.size}'";
    kubectl.ok("patch wd w --type merge -p '{\"spec\":{\"size\":5}}'").await;
    assert_eq!(kubectl.ok(size).await, "5");
    let patch = r#"[{"op":"replace","path":"/spec/size","value":6}]"#;
    kubectl.ok(&format!("patch wd w --type json -p '{patch}'")).await;
    assert_eq!(kubectl.ok(size).await, "6");
    let conflict = kubectl.fails_with("apply --server-side --field-manager=o -f -", WIDGET).await;
    has(&conflict, &["conflict with \"kubectl-patch\"", ".spec.size"]);
    let forced = "apply --server-side --force-conflicts --field-manager=o -f -";
    has(&kubectl.ok_with(forced, WIDGET).await, &["serverside-applied"]);
    assert_eq!(kubectl.ok(size).await, "3");
    kubectl.ok("label wd w extra=1").await;
    kubectl.ok("annotate wd w note=x").await;
    let labels = kubectl.ok("get wd w --show-labels").await;
    has(&labels, &["app=a,extra=1"]);
    // Flags that kubectl has since 1.24.
    if kubectl.ok("patch --help").await.contains("--subresource") {
        let status =
            "patch wd w --subresource=status --type merge -p '{\"status\":{\"phase\":\"Ready\"}}'";
        kubectl.ok(status).await;
        kubectl.ok("wait wd/w --for=jsonpath={.status.phase}=Ready --timeout=5s").await;
    }
}

async fn refusals(kubectl: &Kubectl) {
    // Without the client's own validation, which old versions do first and in other words.
    let apply = "apply --validate=false -f -";
    let wrong = WIDGET.replace("size: 3", "size: x");
    has(&kubectl.fails_with(apply, &wrong).await, &["The Widget \"w\" is invalid", "integer"]);
    let wrong = WIDGET.replace("size: 3", "size: 3, color: green");
    has(&kubectl.fails_with(apply, &wrong).await, &["Unsupported value: \"green\""]);
    let unknown = WIDGET.replace("size: 3", "size: 3, bogus: 1");
    has(&kubectl.fails_with("apply -f -", &unknown).await, &["unknown field \"", "bogus\""]);
    if kubectl.ok("create --help").await.contains("token") {
        let warned = kubectl.ok_with("apply --validate=warn -f -", &unknown).await;
        has(&warned, &["Warning: unknown field \"spec.bogus\""]);
    }
    let job = r#"{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"j"},"spec":{"parallelism":"x"}}"#;
    let refused = kubectl.fails_with("create --validate=false -f -", job).await;
    has(&refused, &["cannot unmarshal string into Go struct field spec.parallelism of type int32"]);
    has(&kubectl.fails_with("get pods nope", "").await, &["pods \"nope\" not found"]);
    has(&kubectl.fails_with("get cm -n nowhere x", "").await, &["not found"]);
}

async fn built_in_kinds(kubectl: &Kubectl) {
    kubectl.ok("create secret generic s --from-literal=a=b").await;
    kubectl.ok("patch secret s -p '{\"stringData\":{\"c\":\"d\"}}'").await;
    let data = kubectl.ok("get secret s -o 'jsonpath={.data}'").await;
    assert_eq!(data, r#"{"a":"Yg==","c":"ZA=="}"#);
    has(&kubectl.ok("describe secret s").await, &["a:  1 bytes", "Opaque"]);
    kubectl.ok("create configmap c --from-literal=a=before").await;
    let mut edit = kubectl.command(&["edit", "cm", "c"]);
    let edited = edit.env("KUBE_EDITOR", "sed -i s/before$/edited/").output().await.unwrap();
    assert!(edited.status.success(), "{}", String::from_utf8_lossy(&edited.stderr));
    has(&kubectl.ok("get cm c -o yaml").await, &["a: edited"]);
    kubectl.ok("create service clusterip svc --tcp=80").await;
    has(&kubectl.ok("get svc").await, &["80/TCP"]);
    let dry = kubectl.ok("create cm dry --dry-run=server -o yaml").await;
    has(&dry, &["name: dry"]);
    has(&kubectl.fails_with("get cm dry", "").await, &["not found"]);
    let uid = kubectl.ok("get wd w -o 'jsonpath={.metadata.uid}'").await;
    let event = serde_json::json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Widget", "name": "w", "namespace": "default", "uid": uid},
        "reason": "Tested", "message": "all is well", "type": "Normal",
    });
    kubectl.ok_with("create -f -", &event.to_string()).await;
    has(&kubectl.ok("get events").await, &["Tested", "widget/w", "all is well"]);
    has(&kubectl.ok("describe wd w").await, &["Tested", "all is well"]);
}

async fn access(kubectl: &Kubectl) {
    kubectl.ok("create sa robot").await;
    if kubectl.ok("create --help").await.contains("token") {
        assert!(kubectl.ok("create token robot").await.len() > 20);
    }
    kubectl.ok("create role reader --verb=get --resource=secrets").await;
    kubectl.ok("create rolebinding rb --role=reader --serviceaccount=default:robot").await;
    let robot = "--as=system:serviceaccount:default:robot";
    assert_eq!(kubectl.ok(&format!("auth can-i get secrets {robot}")).await, "yes\n");
    let (_, answer) = kubectl.run(&["auth", "can-i", "list", "secrets", robot], "").await;
    assert!(answer.starts_with("no"), "{answer}");
    kubectl.ok(&format!("get secret s {robot}")).await;
    has(&kubectl.fails_with(&format!("get secrets {robot}"), "").await, &["(Forbidden)"]);
}

async fn jobs_and_logs(kubectl: &Kubectl, world: &World) {
    kubectl.ok("create job j --image=busybox -- echo hi").await;
    has(&kubectl.ok("get jobs").await, &["j ", "0/1"]);
    has(&kubectl.ok("describe job j").await, &["busybox"]);
    // Until 1.20, kubectl makes CronJobs of a version that no server of today has.
    if kubectl.ok("create --help").await.contains("token") {
        kubectl.ok("create cronjob cj --image=busybox --schedule '0 * * * *' -- echo hi").await;
        kubectl.ok("create job from --from=cronjob/cj").await;
        has(&kubectl.ok("get cronjob").await, &["0 * * * *"]);
    }
    kubectl.ok("run p --image=busybox").await;
    has(&kubectl.fails_with("logs p", "").await, &["waiting to start"]);
    let log = world.server.log_file("default", "p", "p");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "one\ntwo\n").unwrap();
    assert_eq!(kubectl.ok("logs p").await, "one\ntwo\n");
    assert_eq!(kubectl.ok("logs p --tail=1").await, "two\n");
    let mut follow = kubectl.command(&["logs", "-f", "p"]).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("one"));
    std::fs::write(&log, "one\ntwo\nthree\n").unwrap();
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> =
        kube::Api::default_namespaced(world.server.client());
    let done = kube::api::Patch::Merge(serde_json::json!({"status": {"phase": "Succeeded"}}));
    pods.patch_status("p", &kube::api::PatchParams::default(), &done).await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("two"));
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("three"));
    assert_eq!(lines.next_line().await.unwrap(), None, "it ends with the container");
    assert!(follow.wait().await.unwrap().success());
}

async fn watching(kubectl: &Kubectl) {
    let mut watch = kubectl.command(&["get", "wd", "-w", "--no-headers"]).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let first = lines.next_line().await.unwrap().unwrap();
    assert!(first.starts_with("w "), "{first}");
    kubectl.ok("patch wd w --type merge -p '{\"spec\":{\"size\":77}}'").await;
    let next = tokio::time::timeout(Duration::from_secs(10), lines.next_line()).await.unwrap();
    has(&next.unwrap().unwrap(), &["77"]);
}

async fn deleting(kubectl: &Kubectl) {
    kubectl.ok("create ns gone").await;
    kubectl.ok("create cm x -n gone").await;
    has(&kubectl.ok("delete ns gone --timeout=20s").await, &["deleted"]);
    kubectl
        .ok("patch wd w --type merge -p '{\"metadata\":{\"finalizers\":[\"example.com/x\"]}}'")
        .await;
    kubectl.ok("delete wd w --wait=false").await;
    kubectl.ok("get wd w").await;
    kubectl.ok("patch wd w --type merge -p '{\"metadata\":{\"finalizers\":null}}'").await;
    // Until 1.21, kubectl calls it an error when nothing is left to wait for.
    let (gone, text) = kubectl.run(&words("wait --for=delete wd/w --timeout=10s"), "").await;
    assert!(gone || text.contains("no matching resources found"), "{text}");
    kubectl.ok("delete job j").await;
    kubectl.ok("delete crd widgets.example.com --timeout=20s").await;
    eventually("the kind is gone", || async {
        kubectl.run(&["get", "--raw", "/apis/example.com/v1"], "").await.1.contains("NotFound")
    })
    .await;
}
