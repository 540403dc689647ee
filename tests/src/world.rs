//! A whole Coffer with everything around it: `coffer up` as users run it, a real Redis, a repository in a folder.
//! Every test has its own; nothing is shared, everything is gone with the value.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use coffer_api::{
    BackupConfiguration, BackupSession, Repository, RestoreSession,
    backup_session::{BackupSessionStatus, SessionPhase},
    restore_session::{RestorePhase, RestoreSessionStatus},
};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ConfigMap};
use kube::{
    Api, Client, Config, Resource,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    coffer::{Coffer, Output},
    confined::Confinement,
    redis_server::{self, RedisServer},
    restic_program::ResticProgram,
    wait,
};

/// Namespace of everything that a test makes.
pub const NAMESPACE: &str = "demo";
/// Password of the repository.
pub const RESTIC_PASSWORD: &str = "restic-secret";
/// How long a session may take in a test. Long, since on a busy machine a wait that ends early proves nothing.
pub const SESSION_LIMIT: Duration = Duration::from_secs(120);

/// A whole Coffer.
pub struct World {
    /// The system.
    pub coffer: Coffer,
    /// The Redis that is backed up.
    pub redis: RedisServer,
    /// The Kubernetes API, as the user of the kubeconfig.
    pub client: Client,
    folder: tempfile::TempDir,
    program: PathBuf,
}

impl World {
    /// Starts Redis and Coffer. `program` is the `coffer` to run: `env!("CARGO_BIN_EXE_coffer-under-test")`.
    ///
    /// # Errors
    /// When either does not start.
    pub async fn start(program: &str) -> Result<Self> {
        Self::with_redis(program, redis_server::Options::default()).await
    }

    /// The same with a Redis of one's own.
    ///
    /// # Errors
    /// When either does not start.
    pub async fn with_redis(program: &str, options: redis_server::Options) -> Result<Self> {
        Self::build(program, options, |_| Ok(Confinement::none()), &[]).await
    }

    /// The same, of which Coffer meets a fault of its storage; `confine` is told the world's folder.
    ///
    /// # Errors
    /// When either does not start.
    pub async fn confined(
        program: &str,
        confine: impl FnOnce(&Path) -> Result<Confinement>,
    ) -> Result<Self> {
        Self::build(program, redis_server::Options::default(), confine, &[]).await
    }

    /// The same with further flags of `coffer up`.
    ///
    /// # Errors
    /// When either does not start.
    pub async fn with_flags(program: &str, flags: &[String]) -> Result<Self> {
        let options = redis_server::Options::default();
        Self::build(program, options, |_| Ok(Confinement::none()), flags).await
    }

    async fn build(
        program: &str,
        options: redis_server::Options,
        confine: impl FnOnce(&Path) -> Result<Confinement>,
        flags: &[String],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let redis = RedisServer::start(options).await?;
        let program = PathBuf::from(program);
        let confinement = confine(folder.path())?;
        let coffer = Coffer::up_with(&program, folder.path(), &confinement, flags).await?;
        let client = client(&coffer).await?;
        Ok(Self { coffer, redis, client, folder, program })
    }

    /// Starts Coffer again on the same data, after it was killed.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn restart_coffer(&mut self, confinement: &Confinement) -> Result<()> {
        self.coffer.kill();
        let folder = self.folder.path();
        self.coffer = Coffer::up_with(&self.program, folder, confinement, &[]).await?;
        self.client = client(&self.coffer).await?;
        Ok(())
    }

    /// A path in the world's own folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The repository, as the restic program sees it.
    #[must_use]
    pub fn restic(&self) -> ResticProgram {
        ResticProgram::new(&self.path("repository"), RESTIC_PASSWORD)
    }

    /// Applies YAML as `coffer apply` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let file = self.path("applied.yaml");
        std::fs::write(&file, yaml)?;
        self.coffer.run(&["apply", "-f", &file.display().to_string()], Output::Captured)
    }

    /// The objects of an ordinary backup: Secrets, the Repository `repo`, the AppBinding `orders`, and the
    /// BackupConfiguration `orders`, which is due once a year.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply_basics(&self) -> Result<()> {
        self.apply(&self.storage())?;
        self.apply(&self.app_binding("orders", &self.redis))?;
        self.apply(&configuration("orders", "0 0 1 1 *", ""))?;
        Ok(())
    }

    /// Namespace, storage Secret and Repository.
    #[must_use]
    pub fn storage(&self) -> String {
        format!(
            r#"apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: storage, namespace: {NAMESPACE}}}
stringData: {{RESTIC_PASSWORD: {RESTIC_PASSWORD}}}
---
apiVersion: stash.appscode.com/v1alpha1
kind: Repository
metadata: {{name: repo, namespace: {NAMESPACE}}}
spec:
  backend:
    storageSecretName: storage
    local: {{mountPath: /backup, hostPath: {{path: "{}"}}}}
"#,
            self.path("repository").display()
        )
    }

    /// An AppBinding for a server, with its Secret `NAME-auth`.
    #[must_use]
    pub fn app_binding(&self, name: &str, server: &RedisServer) -> String {
        format!(
            r#"apiVersion: v1
kind: Secret
metadata: {{name: {name}-auth, namespace: {NAMESPACE}}}
stringData: {{password: "{}"}}
---
apiVersion: appcatalog.appscode.com/v1alpha1
kind: AppBinding
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  type: redis
  clientConfig: {{url: "redis://127.0.0.1:{}"}}
  secret: {{name: {name}-auth}}
"#,
            server.password(),
            server.port
        )
    }

    /// Objects of a kind in the test's namespace.
    #[must_use]
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Waits until an object is as `done` wants it.
    ///
    /// # Errors
    /// When it is not within [`SESSION_LIMIT`]; the error shows the object.
    pub async fn until<K>(&self, name: &str, what: &str, done: impl Fn(&K) -> bool) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Serialize
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        let mut last = None;
        let found = wait::until(&format!("{name} {what}"), SESSION_LIMIT, async || {
            last = api.get_opt(name).await?;
            Ok(last.clone().filter(|object| done(object)))
        })
        .await;
        found.with_context(|| match &last {
            Some(object) => serde_json::to_string_pretty(object).unwrap_or_default(),
            None => format!("{name} is not there"),
        })
    }

    /// Waits until the BackupConfiguration is Ready.
    ///
    /// # Errors
    /// When it is not within [`SESSION_LIMIT`].
    pub async fn ready(&self, name: &str) -> Result<BackupConfiguration> {
        let ready = Some(coffer_api::backup_configuration::InvokerPhase::Ready);
        self.until(name, "is Ready", |c: &BackupConfiguration| {
            c.status.as_ref().is_some_and(|s| s.phase == ready)
        })
        .await
    }

    /// Creates a BackupSession by hand and waits until it is final.
    ///
    /// # Errors
    /// When it is not final within [`SESSION_LIMIT`].
    pub async fn back_up(&self, session: &str, configuration: &str) -> Result<BackupSessionStatus> {
        self.ready(configuration).await?;
        self.create_backup_session(session, configuration).await?;
        self.settled(session).await
    }

    /// Creates a BackupSession by hand.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create_backup_session(&self, session: &str, configuration: &str) -> Result<()> {
        let object: BackupSession = serde_json::from_value(serde_json::json!({
            "apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupSession",
            "metadata": {"name": session, "labels": {
                "stash.appscode.com/invoker-type": "BackupConfiguration",
                "stash.appscode.com/invoker-name": configuration}},
            "spec": {"invoker": {"apiGroup": "stash.appscode.com", "kind": "BackupConfiguration", "name": configuration}},
        }))?;
        self.api().create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// Waits until a BackupSession is final.
    ///
    /// # Errors
    /// When it is not within [`SESSION_LIMIT`].
    pub async fn settled(&self, session: &str) -> Result<BackupSessionStatus> {
        let done = |s: &BackupSession| {
            s.status.as_ref().and_then(|s| s.phase).is_some_and(SessionPhase::is_final)
        };
        self.until(session, "is final", done)
            .await?
            .status
            .context("a final session without status")
    }

    /// Restores `snapshot` into an AppBinding and waits until the session is final.
    ///
    /// # Errors
    /// When it is not final within [`SESSION_LIMIT`].
    pub async fn restore(
        &self,
        session: &str,
        target: &str,
        snapshot: &str,
    ) -> Result<RestoreSessionStatus> {
        self.apply(&restore_session(session, target, snapshot, ""))?;
        self.restored(session).await
    }

    /// Waits until a RestoreSession goes no further: it is final, or refused.
    ///
    /// # Errors
    /// When it does not within [`SESSION_LIMIT`].
    pub async fn restored(&self, session: &str) -> Result<RestoreSessionStatus> {
        let done = |s: &RestoreSession| {
            let phase = s.status.as_ref().and_then(|s| s.phase);
            phase.is_some_and(|phase| phase.is_final() || phase == RestorePhase::Invalid)
        };
        let session = self.until(session, "is final", done).await?;
        session.status.context("a final session without status")
    }

    /// The status of the Repository `repo`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn repository_status(&self) -> Result<coffer_api::repository::RepositoryStatus> {
        self.api::<Repository>().get("repo").await?.status.context("the Repository has no status")
    }

    /// Where a service listens, as clients are told.
    ///
    /// # Errors
    /// When they are not.
    pub async fn endpoint(&self, service: &str) -> Result<String> {
        let endpoints: Api<ConfigMap> = Api::namespaced(self.client.clone(), "coffer-system");
        let mut endpoints = endpoints.get("coffer-endpoints").await?.data.unwrap_or_default();
        endpoints.remove(service).with_context(|| format!("no {service} among the endpoints"))
    }

    /// What Prometheus would scrape from the metrics-gateway.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let url = self.endpoint("pushgateway").await?;
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        anyhow::ensure!(head.contains(" 200 "), "GET {url}/metrics: {head}");
        Ok(body.to_owned())
    }

    /// What `kubectl describe` shows.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn describe(&self, kind: &str, name: &str) -> Result<String> {
        self.kubectl(&["describe", kind, name])
    }

    /// Takes the admission webhook away, as an administrator may: what it would refuse must be told all the same.
    ///
    /// # Errors
    /// When kubectl fails.
    pub fn without_admission(&self) -> Result<()> {
        let webhook = ["delete", "validatingwebhookconfiguration", "coffer-admission"];
        self.kubectl_anywhere(&webhook).map(|_| ())
    }

    /// Runs kubectl in the test's namespace.
    ///
    /// # Errors
    /// When it fails, with what it wrote to standard error.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_anywhere(&[&["-n", NAMESPACE], args].concat())
    }

    /// Runs kubectl for objects that name their namespaces themselves.
    ///
    /// # Errors
    /// When it fails, with what it wrote to standard error.
    pub fn kubectl_anywhere(&self, args: &[&str]) -> Result<String> {
        let output = std::process::Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.coffer.kubeconfig())
            .args(args)
            .env("HOME", self.folder.path())
            .stdin(std::process::Stdio::null())
            .output()
            .context("run kubectl: is it installed?")?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// A BackupConfiguration of the AppBinding `orders` into `repo`; `more` goes into its spec.
#[must_use]
pub fn configuration(name: &str, schedule: &str, more: &str) -> String {
    format!(
        r#"apiVersion: stash.appscode.com/v1beta1
kind: BackupConfiguration
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  schedule: "{schedule}"
  task: {{name: redis-backup-7.0.5}}
  repository: {{name: repo}}
  target:
    ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: orders}}
  retentionPolicy: {{name: last-5, keepLast: 5, prune: true}}
{more}
"#
    )
}

/// A RestoreSession from `repo`; `more` goes into its spec.
#[must_use]
pub fn restore_session(name: &str, target: &str, snapshot: &str, more: &str) -> String {
    format!(
        r#"apiVersion: stash.appscode.com/v1beta1
kind: RestoreSession
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  task: {{name: redis-restore-7.0.5}}
  repository: {{name: repo}}
  target:
    ref: {{apiVersion: appcatalog.appscode.com/v1alpha1, kind: AppBinding, name: {target}}}
    rules: [{{snapshots: ["{snapshot}"]}}]
{more}
"#
    )
}

async fn client(coffer: &Coffer) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(coffer.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
