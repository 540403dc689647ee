//! The service over real gRPC, against the smallest API server that lists and watches: what the whole-system suites do
//! not look at, namely who is let in, when it is ready, and which code an error has.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use coffer_catalog::args::Config;
use coffer_catalog::{Catalog, build};
use coffer_proto::catalog::v1::catalog_client::CatalogClient;
use coffer_proto::catalog::v1::{ListTasksRequest, ResolveRequest};
use coffer_runtime::authority::Authority;
use coffer_runtime::{Runtime, Secret, grpc};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Code;

/// Objects by their path in the API. `listed` false: lists do not end, as when the API server is slow.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: Vec<(&'static str, Value)>,
    hidden: Vec<(&'static str, Value)>,
    hung: bool,
}

impl Cluster {
    fn client(&self) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        if request.method() == Method::POST {
            let review: Value =
                serde_json::from_slice(&request.collect().await.unwrap().to_bytes()).unwrap();
            return reply(StatusCode::CREATED, judge(&path, review));
        }
        let plural = path.strip_prefix("/apis/stash.appscode.com/v1beta1/").unwrap().to_owned();
        if query.contains("watch=true") || (self.0.lock().unwrap().hung && !plural.contains('/')) {
            std::future::pending::<()>().await;
        }
        let state = self.0.lock().unwrap();
        if let Some((plural, name)) = plural.split_once('/') {
            let all = state.objects.iter().chain(&state.hidden);
            let mut found =
                all.filter(|(kind, object)| *kind == plural && object["metadata"]["name"] == name);
            return match found.next() {
                Some((_, object)) => reply(StatusCode::OK, object.clone()),
                None => reply(
                    StatusCode::NOT_FOUND,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                           "message": format!("{plural} {name} not found"), "code": 404}),
                ),
            };
        }
        let items: Vec<_> =
            state.objects.iter().filter(|(kind, _)| *kind == plural).map(|(_, o)| o).collect();
        reply(
            StatusCode::OK,
            json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "List",
                   "metadata": {"resourceVersion": "1"}, "items": items}),
        )
    }
}

/// The token `anna` is Anna's, who may get and list tasks; `bert` is somebody without rights.
fn judge(path: &str, mut review: Value) -> Value {
    let status = if path.ends_with("tokenreviews") {
        let token = review["spec"]["token"].as_str().unwrap();
        let known = token == "anna" || token == "bert";
        json!({"authenticated": known, "user": {"username": token}})
    } else {
        let spec = &review["spec"];
        assert_eq!(spec["resourceAttributes"]["resource"], "tasks");
        json!({"allowed": spec["user"] == "anna", "reason": "no RBAC rule says so"})
    };
    review["status"] = status;
    review
}

fn reply(status: StatusCode, body: Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": kind,
           "metadata": {"name": name, "resourceVersion": "1"}, "spec": spec})
}

fn cluster() -> Cluster {
    let cluster = Cluster::default();
    cluster.0.lock().unwrap().objects = vec![
        (
            "functions",
            object(
                "Function",
                "dump",
                json!({"image": "i", "args": ["--db=${DB:=all}", "${HOST}"]}),
            ),
        ),
        ("tasks", object("Task", "backup", json!({"steps": [{"name": "dump"}]}))),
        (
            "tasks",
            object("Task", "another", json!({"steps": [{"name": "gone"}, {"name": "dump"}]})),
        ),
    ];
    cluster
}

struct World {
    runtime: Runtime,
    address: SocketAddr,
    authority: Authority,
    serving: tokio::task::JoinHandle<Result<(), grpc::Error>>,
}

async fn start(cluster: &Cluster) -> World {
    let authority = Authority::generate().unwrap();
    let runtime = Runtime::new();
    let config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)).into(),
        tls: Some(authority.options("catalog", &["127.0.0.1"]).unwrap()),
    };
    let catalog: Catalog = build(config, cluster.client(), &runtime).await.unwrap();
    let address = catalog.address();
    let serving = tokio::spawn(catalog.run());
    World { runtime, address, authority, serving }
}

impl World {
    async fn ready(&self) {
        tokio::time::timeout(Duration::from_secs(10), async {
            while !self.runtime.readiness.is_ready() {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }

    fn service(&self, name: &str) -> CatalogClient<grpc::Authorized> {
        self.client(&self.authority.options(name, &[]).unwrap(), None)
    }

    fn user(&self, token: &str) -> CatalogClient<grpc::Authorized> {
        self.client(&self.authority.client_options(), Some(token))
    }

    fn client(
        &self,
        tls: &coffer_runtime::tls::TlsOptions,
        token: Option<&str>,
    ) -> CatalogClient<grpc::Authorized> {
        let channel = grpc::connect(&format!("https://{}", self.address), Some(tls)).unwrap();
        let token = token.map(Secret::new);
        CatalogClient::new(grpc::with_token(channel, token.as_ref()).unwrap())
    }

    async fn stop(self) {
        self.runtime.shutdown.trigger();
        self.serving.await.unwrap().unwrap();
    }
}

fn resolve(task: &str) -> ResolveRequest {
    ResolveRequest {
        task: task.to_owned(),
        params: [("HOST".to_owned(), "h".to_owned())].into(),
        ..ResolveRequest::default()
    }
}

#[tokio::test]
async fn the_orchestrator_and_users_with_rights_get_answers() {
    let world = start(&cluster()).await;
    world.ready().await;
    for mut client in [world.service("orchestrator"), world.user("anna")] {
        let answer = client.resolve(resolve("backup")).await.unwrap().into_inner();
        let container: Value = serde_json::from_str(&answer.steps[0].container).unwrap();
        assert_eq!(container["args"], json!(["--db=all", "h"]));
        let tasks = client.list_tasks(ListTasksRequest {}).await.unwrap().into_inner().tasks;
        let names: Vec<_> = tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["another", "backup"]);
        assert_eq!(tasks[0].functions, ["gone", "dump"]);
    }
    for (mut client, code) in [
        (world.service("storage-gateway"), Code::PermissionDenied),
        (world.user("bert"), Code::PermissionDenied),
        (world.user("nobody"), Code::Unauthenticated),
        (world.client(&world.authority.client_options(), None), Code::Unauthenticated),
    ] {
        assert_eq!(client.resolve(resolve("backup")).await.unwrap_err().code(), code);
        assert_eq!(client.list_tasks(ListTasksRequest {}).await.unwrap_err().code(), code);
    }
    world.stop().await;
}

#[tokio::test]
async fn errors_have_their_code_and_name_what_is_missing() {
    let world = start(&cluster()).await;
    world.ready().await;
    let mut client = world.service("orchestrator");
    for (request, code, parts) in [
        (resolve("nope"), Code::NotFound, vec!["\"nope\""]),
        (resolve(""), Code::InvalidArgument, vec!["no task is named"]),
        (resolve("another"), Code::NotFound, vec!["\"gone\"", "\"another\""]),
        (
            ResolveRequest { params: [].into(), ..resolve("backup") },
            Code::InvalidArgument,
            vec!["HOST", "\"dump\"", "spec.args[1]"],
        ),
        (
            ResolveRequest {
                params: [("HOST", "h"), ("HSOT", "h")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                ..resolve("backup")
            },
            Code::InvalidArgument,
            vec!["\"backup\" knows no param HSOT", "known are", "HOST"],
        ),
    ] {
        let status = client.resolve(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        for part in parts {
            assert!(status.message().contains(part), "{part} in {}", status.message());
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn what_the_watch_has_not_seen_yet_is_asked_for() {
    let cluster = cluster();
    cluster.0.lock().unwrap().hidden = vec![
        ("tasks", object("Task", "fresh", json!({"steps": [{"name": "fresh"}]}))),
        ("functions", object("Function", "fresh", json!({"image": "fresh"}))),
    ];
    let world = start(&cluster).await;
    world.ready().await;
    let fresh = ResolveRequest { params: [].into(), ..resolve("fresh") };
    let answer = world.service("orchestrator").resolve(fresh).await.unwrap();
    assert_eq!(answer.into_inner().steps[0].function, "fresh");
    world.stop().await;
}

#[tokio::test]
async fn it_is_not_ready_before_everything_is_read() {
    let cluster = cluster();
    cluster.0.lock().unwrap().hung = true;
    let world = start(&cluster).await;
    let mut client = world.service("orchestrator");
    let status = client.list_tasks(ListTasksRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(world.runtime.readiness.pending().len(), 2);
    // Single objects are there all the same.
    client.resolve(resolve("backup")).await.unwrap();
    world.stop().await;
}
