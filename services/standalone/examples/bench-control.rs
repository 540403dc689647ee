//! `make bench-control`: an orchestrator with 10,000 BackupConfigurations, in a process of its own, against the API server of
//! `coffer up`. How long it takes to look at all of them, how late a session is made when a thousand are due in one minute,
//! and how much memory that takes. The table goes to standard output and to `target/bench/control.json`.
//!
//! No Job is run: all places but one are taken by nobody, so that what is measured is the orchestrator and not the disk.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, TimeDelta, Timelike as _, Utc};
use coffer_api::{BackupConfiguration, BackupSession};
use coffer_orchestrator::{Config, Settings, queue::Limits};
use coffer_runtime::{Runtime, grant::Signer};
use coffer_standalone::apiserver::{ApiServer, Options};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use serde_json::{Value, json};

/// BackupConfigurations.
const ALL: usize = 10_000;
/// Those that are due in one minute.
const DUE: usize = 1_000;
/// Namespaces, each with a Repository and an AppBinding for each of its BackupConfigurations.
const NAMESPACES: usize = 100;
/// Requests at a time while the objects are made.
const AT_A_TIME: usize = 32;
/// Longest that a phase may take.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let done = match args.as_slice() {
        [_, what, kubeconfig] if what == "orchestrator" => {
            orchestrator(Path::new(kubeconfig)).await
        }
        _ => bench(&args[0]).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-control failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let options = kube::config::KubeConfigOptions::default();
    Ok(Client::try_from(kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?)?)
}

/// The orchestrator's process.
async fn orchestrator(kubeconfig: &Path) -> Result<()> {
    let runtime = Runtime::new();
    let nowhere = "http://127.0.0.1:1".to_owned();
    let config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into(),
        tls: None,
        catalog: nowhere.clone(),
        storage_gateway: nowhere.clone(),
        metrics_gateway: nowhere,
        signer: Signer::generate()?,
        admission: None,
        settings: Settings {
            limits: Limits { cluster: 1, namespace: 0, repository: 0 },
            // The first session waits for a catalog that never answers, and holds the only place.
            start_grace: Duration::from_secs(3600),
            missing_retry: Duration::from_secs(60),
            ..Settings::default()
        },
    };
    let app = coffer_orchestrator::build(config, client(kubeconfig).await?, &runtime).await?;
    Ok(app.run().await?)
}

struct Figure {
    case: &'static str,
    ours: f64,
    unit: &'static str,
    goal: Option<f64>,
}

async fn bench(program: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = ApiServer::open(folder.path(), Options::default()).await?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let kubeconfig = server.write_kubeconfig(listener.local_addr()?)?;
    let stop = tokio_util::sync::CancellationToken::new();
    let serving = tokio::spawn({
        let (server, stop) = (server.clone(), stop.clone());
        async move { server.serve(listener, stop.cancelled_owned()).await }
    });
    let made = measure(program, &kubeconfig, server.client()).await;
    stop.cancel();
    serving.await??;
    let figures = made?;
    println!("{:<58} {:>10} {:>8}  unit", "case", "ours", "goal");
    for figure in &figures {
        let goal = figure.goal.map_or_else(String::new, |goal| format!("{goal:.0}"));
        println!("{:<58} {:>10.1} {goal:>8}  {}", figure.case, figure.ours, figure.unit);
    }
    let rows: Vec<Value> = figures
        .iter()
        .map(|f| json!({"case": f.case, "ours": f.ours, "unit": f.unit, "goal": f.goal}))
        .collect();
    std::fs::create_dir_all("target/bench")?;
    std::fs::write("target/bench/control.json", serde_json::to_string_pretty(&rows)?)?;
    Ok(())
}

async fn measure(program: &str, kubeconfig: &Path, client: Client) -> Result<Vec<Figure>> {
    eprintln!("makes {ALL} BackupConfigurations in {NAMESPACES} namespaces");
    let definitions = coffer_api::crds::all();
    for definition in definitions {
        let api = Api::all(client.clone());
        api.create(&PostParams::default(), &definition).await?;
    }
    let objects = (0..NAMESPACES).flat_map(|namespace| {
        let name = format!("team-{namespace}");
        [
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "storage", "namespace": name},
                "stringData": {"RESTIC_PASSWORD": "x"}}),
            json!({"apiVersion": "stash.appscode.com/v1alpha1", "kind": "Repository",
                "metadata": {"name": "repo", "namespace": name},
                "spec": {"backend": {"storageSecretName": "storage", "s3": {"endpoint": "e", "bucket": "b"}}}}),
        ]
    });
    for object in objects {
        create(&client, object).await?;
    }
    let all = futures::stream::iter(0..ALL).map(|number| {
        let (namespace, name) = (format!("team-{}", number % NAMESPACES), format!("redis-{number}"));
        let client = &client;
        async move {
            create(client, json!({"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"clientConfig": {"url": "redis://127.0.0.1:1"}}})).await?;
            create(client, json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "BackupConfiguration",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"schedule": "0 0 1 1 *", "task": {"name": "t"}, "repository": {"name": "repo"},
                    "target": {"alias": name, "ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": name}},
                    "retentionPolicy": {"name": "x", "keepLast": 5, "prune": true}}})).await
        }
    });
    all.buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;

    let mut child = Command::new(program).arg("orchestrator").arg(kubeconfig).spawn()?;
    let measured = figures(&client, child.id()).await;
    child.kill()?;
    child.wait()?;
    measured
}

async fn figures(client: &Client, pid: u32) -> Result<Vec<Figure>> {
    let begun = Instant::now();
    until(client, "all are Ready", |config| {
        let status = config.status.as_ref();
        status
            .is_some_and(|status| status.phase.is_some_and(|phase| format!("{phase:?}") == "Ready"))
    })
    .await?;
    let first = begun.elapsed();
    eprintln!("all are Ready after {first:?}; makes {DUE} due in one minute");

    // A change of every object takes a pass each.
    let soon = Utc::now() + TimeDelta::seconds(180);
    let due = soon.with_second(0).and_then(|at| at.with_nanosecond(0)).context("no such minute")?;
    let schedule = due.format("%M %H %d %m *").to_string();
    let begun = Instant::now();
    let patches = futures::stream::iter(0..ALL).map(|number| {
        let spec = if number < DUE {
            json!({"schedule": schedule})
        } else {
            json!({"backupHistoryLimit": 2})
        };
        let api: Api<BackupConfiguration> =
            Api::namespaced(client.clone(), &format!("team-{}", number % NAMESPACES));
        async move {
            let patch = Patch::Merge(json!({"spec": spec}));
            api.patch(&format!("redis-{number}"), &PatchParams::default(), &patch).await.map(|_| ())
        }
    });
    patches.buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
    until(client, "all changes were seen", |config| {
        let status = config.status.as_ref();
        status.is_some_and(|status| status.observed_generation == config.metadata.generation)
    })
    .await?;
    let second = begun.elapsed();
    let idle = resident(pid)?;
    eprintln!("all changes were seen after {second:?}; due at {due}");
    ensure!(Utc::now() < due, "the changes took longer than there was time: {second:?}");
    let mut lags = lags(client, due).await?;
    lags.sort_by(f64::total_cmp);
    let at = |percent: usize| lags[(lags.len() * percent / 100).min(lags.len() - 1)] * 1000.0;
    #[allow(clippy::cast_precision_loss, reason = "a count of thousands")]
    let rate = |time: Duration| ALL as f64 / time.as_secs_f64();
    Ok(vec![
        Figure {
            case: "from due to session made, 1,000 due in one minute, p50",
            ours: at(50),
            unit: "ms",
            goal: None,
        },
        Figure {
            case: "from due to session made, 1,000 due in one minute, p99",
            ours: at(99),
            unit: "ms",
            goal: Some(1000.0),
        },
        Figure {
            case: "BackupConfigurations made Ready at the start",
            ours: rate(first),
            unit: "per s",
            goal: None,
        },
        Figure {
            case: "reconciles: changed BackupConfigurations looked at",
            ours: rate(second),
            unit: "per s",
            goal: None,
        },
        Figure {
            case: "memory of the orchestrator with 10,000, idle",
            ours: idle,
            unit: "MB",
            goal: Some(200.0),
        },
        Figure {
            case: "memory of the orchestrator with 10,000, most",
            ours: peak(pid)?,
            unit: "MB",
            goal: Some(200.0),
        },
    ])
}

/// When each session was seen, in seconds after it was due.
async fn lags(client: &Client, due: DateTime<Utc>) -> Result<Vec<f64>> {
    let api: Api<BackupSession> = Api::all(client.clone());
    let mut seen: BTreeMap<String, f64> = BTreeMap::new();
    let events = watcher(api, watcher::Config::default());
    let mut events = std::pin::pin!(events);
    let ends = due + TimeDelta::from_std(PATIENCE)?;
    while seen.len() < DUE {
        let left = (ends - Utc::now()).to_std().unwrap_or_default();
        let event = tokio::time::timeout(left, events.next()).await;
        let event = event.with_context(|| format!("{} of {DUE} sessions were made", seen.len()))?;
        if let Some(watcher::Event::Apply(session) | watcher::Event::InitApply(session)) =
            event.transpose()?
        {
            let late = (Utc::now() - due).num_microseconds().unwrap_or(i64::MAX);
            let name = session.metadata.name.unwrap_or_default();
            #[allow(clippy::cast_precision_loss, reason = "microseconds of a minute")]
            seen.entry(name).or_insert(late as f64 / 1e6);
        }
    }
    Ok(seen.into_values().collect())
}

async fn until(
    client: &Client,
    what: &str,
    is_done: impl Fn(&BackupConfiguration) -> bool,
) -> Result<()> {
    let api: Api<BackupConfiguration> = Api::all(client.clone());
    let begun = Instant::now();
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    let mut done = std::collections::BTreeSet::new();
    while done.len() < ALL {
        let left = PATIENCE.saturating_sub(begun.elapsed());
        let event = tokio::time::timeout(left, events.next()).await;
        let event = event.with_context(|| format!("{what}: {} of {ALL}", done.len()))?;
        if let Some(watcher::Event::Apply(config) | watcher::Event::InitApply(config)) =
            event.transpose()?
            && is_done(&config)
        {
            done.insert(config.metadata.name.unwrap_or_default());
        }
    }
    Ok(())
}

async fn create(client: &Client, value: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(value)?;
    let types = object.types.clone().context("an object without a kind")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let plural = match kind.kind.as_str() {
        "Repository" => "repositories".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
    let api: Api<DynamicObject> = match object.metadata.namespace.clone() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

fn resident(pid: u32) -> Result<f64> {
    kilobytes(pid, "VmRSS")
}

fn peak(pid: u32) -> Result<f64> {
    kilobytes(pid, "VmHWM")
}

/// A line of `/proc/PID/status`, in megabytes.
fn kilobytes(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let number = line.split_whitespace().nth(1).context("no number")?;
    Ok(number.parse::<f64>()? * 1024.0 / 1e6)
}
