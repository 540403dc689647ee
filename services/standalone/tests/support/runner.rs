//! The Job runner with an API server, as its tests have it.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "the helpers of tests may fail")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::{path::PathBuf, time::Duration};

use coffer_standalone::{
    apiserver::{self, ApiServer},
    job_runner::{self, Containers, ImageMap, Options, Program},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::{
    Api, Client, Resource,
    api::{ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take; long, since a machine that is busy is no defect.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An API server and a runner on a directory of their own.
pub struct World {
    dir: TempDir,
    pub server: ApiServer,
    containers: Containers,
    pub client: Client,
    shutdown: CancellationToken,
    runner: Option<JoinHandle<anyhow::Result<()>>>,
}

impl World {
    pub async fn start() -> Self {
        let mut world = Self::without_runner().await;
        world.run(4);
        world
    }

    pub async fn without_runner() -> Self {
        let dir = TempDir::new().unwrap();
        let containers = Containers::default();
        let options =
            apiserver::Options { containers: containers.clone(), ..apiserver::Options::default() };
        let server = ApiServer::open(dir.path(), options).await.unwrap();
        let client = server.client();
        Self { dir, server, containers, client, shutdown: CancellationToken::new(), runner: None }
    }

    pub fn run(&mut self, max_parallel: usize) {
        let shell = Program { path: "/bin/sh".into(), args: vec!["-c".into()] };
        self.shutdown = CancellationToken::new();
        self.runner = Some(tokio::spawn(job_runner::run(Options {
            client: self.client.clone(),
            data_dir: self.dir.path().to_owned(),
            images: ImageMap::default().with("shell", shell),
            containers: self.containers.clone(),
            shutdown: self.shutdown.clone(),
            max_parallel,
        })));
    }

    pub async fn stop_runner(&mut self) {
        self.shutdown.cancel();
        if let Some(runner) = self.runner.take() {
            tokio::time::timeout(PATIENCE, runner).await.unwrap().unwrap().unwrap();
        }
    }

    pub async fn stop(mut self) {
        self.stop_runner().await;
        self.server.close().await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn create<K>(&self, object: Value) -> K
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
    pub async fn job(&self, name: &str, script: &str, more: Value) -> Job {
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
    pub async fn pod(&self, job: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let pods: Api<Pod> = self.api();
        let selector = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        eventually(format!("the Pod of {job}"), async || {
            let list = pods.list(&selector).await.unwrap().items;
            let pod = serde_json::to_value(list.first()?).unwrap();
            Some(if wanted(&pod) { Looked::Found(pod) } else { Looked::Not(pod) })
        })
        .await
    }

    pub async fn finished(&self, job: &str) -> Value {
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

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub enum Looked {
    Found(Value),
    Not(Value),
}

/// Looks again and again until it finds; then fails with what it saw last.
pub async fn eventually(what: String, look: impl AsyncFn() -> Option<Looked>) -> Value {
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

pub async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    eventually(what.to_owned(), async || {
        Some(if holds().await { Looked::Found(Value::Null) } else { Looked::Not(Value::Null) })
    })
    .await;
}

pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let list = object["status"]["conditions"].as_array()?;
    list.iter().find(|c| c["type"] == kind && c["status"] == "True")
}

pub fn phase(wanted: &str) -> impl Fn(&Value) -> bool {
    move |pod| pod["status"]["phase"] == wanted
}

pub fn waits(reason: &str) -> impl Fn(&Value) -> bool {
    move |pod| pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
}

pub fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    // A zombie that nobody has waited for runs no more.
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
