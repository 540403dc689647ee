//! The life of one Pod: a place, its volumes, init containers in order, containers side by side.

mod container;

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::sync::watch;

use super::{
    Runner,
    environment::Sources,
    events,
    place::Unready,
    reporter::Reporter,
    status::{Doing, Line, State},
    volumes::{self, Volumes},
};

/// Why a Pod is to end before its containers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    Deleted { grace: Duration },
    Shutdown,
    Deadline,
}

/// A Pod under way.
struct Running {
    runner: Arc<Runner>,
    pod: Pod,
    spec: PodSpec,
    uid: String,
    namespace: String,
    reporter: Reporter,
    sources: Sources,
    stop: watch::Receiver<Option<Stop>>,
}

/// How the work of a Pod, or of one of its containers, came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Succeeded,
    Failed,
    /// Somebody stopped it.
    Stopped,
}

/// Which list a container is in, and where.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Init(usize),
    Main(usize),
}

/// Runs a Pod to its end and leaves its final status; a deleted one is removed.
pub(super) async fn run(
    runner: Arc<Runner>,
    pod: Pod,
    stopper: watch::Sender<Option<Stop>>,
    stop: watch::Receiver<Option<Stop>>,
) {
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let namespace = pod.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(runner.client.clone(), &namespace);
    let spec = pod.spec.clone().unwrap_or_default();
    if spec.node_name.is_none() {
        let bind = Patch::Merge(json!({"spec": {"nodeName": super::NODE}}));
        if let Err(error) = api.patch(&name, &PatchParams::default(), &bind).await {
            tracing::warn!(pod = name, %error, "cannot bind the Pod; it runs all the same");
        }
    }
    let line =
        |c: &Container, reason| Line::new(&c.name, c.image.as_deref().unwrap_or_default(), reason);
    let init: Vec<Line> =
        spec.init_containers.iter().flatten().map(|c| line(c, "PodInitializing")).collect();
    let first = if init.is_empty() { "ContainerCreating" } else { "PodInitializing" };
    let main = spec.containers.iter().map(|c| line(c, first)).collect();
    let running = Running {
        reporter: Reporter::new(api.clone(), name.clone(), uid.clone(), State::new(init, main)),
        sources: Sources::new(runner.client.clone(), &namespace),
        runner,
        spec,
        uid: uid.clone(),
        namespace,
        pod,
        stop: stop.clone(),
    };
    let deadline = running.spec.active_deadline_seconds.and_then(|s| u64::try_from(s).ok());
    let limit = async {
        match deadline {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
        stopper.send_if_modified(|stop| {
            let fresh = stop.is_none();
            stop.get_or_insert(Stop::Deadline);
            fresh
        });
        std::future::pending::<()>().await;
    };
    let lived = tokio::select! {
        lived = running.live() => lived,
        () = limit => Life::Stopped,
    };
    running.end(lived).await;
    if matches!(*stop.borrow(), Some(Stop::Deleted { .. })) {
        remove(&api, &name, uid).await;
    }
}

/// Tells the API server that nothing of the Pod runs any more.
async fn remove(api: &Api<Pod>, name: &str, uid: String) {
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
        Err(error) => tracing::error!(pod = name, %error, "cannot remove a Pod that has ended"),
        Ok(_) => {}
    }
}

impl Running {
    /// Until every container has ended or the Pod is stopped.
    async fn live(&self) -> Life {
        let places = Arc::clone(&self.runner.places);
        let place = match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => {
                let message = format!(
                    "0/1 nodes are available: the {} places of the local Job runner are taken",
                    self.runner.max_parallel
                );
                self.reporter.update(|state| state.unscheduled = Some(message)).await;
                tokio::select! {
                    place = places.acquire_owned() => place.ok(),
                    _ = self.stopped() => None,
                }
            }
        };
        if place.is_none() {
            return Life::Stopped;
        }
        self.reporter
            .update(|state| {
                state.unscheduled = None;
                state.started = Some(Utc::now());
            })
            .await;
        let Some(volumes) = self.volumes().await else { return Life::Stopped };
        for (index, container) in self.spec.init_containers.iter().flatten().enumerate() {
            let life = self.supervise(Slot::Init(index), container, &volumes).await;
            if life != Life::Succeeded {
                return life;
            }
        }
        let containers = self.spec.containers.iter().enumerate();
        let lives = containers.map(|(i, c)| self.supervise(Slot::Main(i), c, &volumes));
        let lives = join_all(lives).await;
        let worst = [Life::Stopped, Life::Failed].into_iter().find(|life| lives.contains(life));
        worst.unwrap_or(Life::Succeeded)
    }

    /// The final status. A Pod that was stopped while it waited has failed; one that only waited
    /// when the runner ended stays Pending, and the next run takes it up.
    async fn end(&self, lived: Life) {
        let stop = *self.stop.borrow();
        let begun = self.reporter.read(|state| {
            let lines = || state.init.iter().chain(&state.main);
            lines()
                .any(|line| !matches!(line.doing, Doing::Waiting { .. }) || line.before.is_some())
        });
        let failed = match stop.filter(|_| lived == Life::Stopped) {
            Some(Stop::Shutdown) if !begun => return,
            Some(Stop::Shutdown) => Some((
                "Terminated",
                "Pod was terminated because the local Job runner was shut down.",
            )),
            Some(Stop::Deadline) => Some((
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            )),
            Some(Stop::Deleted { .. }) | None => None,
        };
        self.reporter
            .update(|state| {
                state.over = true;
                state.failed = failed.map(|(reason, message)| (reason.into(), message.into()));
            })
            .await;
    }

    /// Sets up the volumes, as long as it takes; `None` when the Pod is stopped meanwhile.
    async fn volumes(&self) -> Option<Volumes> {
        let mut pause = Pause::default();
        let mut told = String::new();
        loop {
            let unready = match volumes::prepare(
                &self.runner.client,
                &self.runner.layout,
                &self.pod,
                &self.sources,
            )
            .await
            {
                Ok(volumes) => return Some(volumes),
                Err(unready) => unready,
            };
            self.reporter
                .update(|state| {
                    let all = state.init.iter_mut().chain(&mut state.main);
                    all.for_each(|line| line.doing = waiting(&unready));
                })
                .await;
            if told != unready.message {
                told.clone_from(&unready.message);
                events::warn(&self.runner.client, &self.pod, "FailedMount", &told).await;
            }
            self.wait(&unready, &mut pause).await?;
        }
    }

    async fn line(&self, slot: Slot, change: impl FnOnce(&mut Line)) {
        self.reporter
            .update(|state| {
                let line = match slot {
                    Slot::Init(index) => state.init.get_mut(index),
                    Slot::Main(index) => state.main.get_mut(index),
                };
                if let Some(line) = line {
                    change(line);
                }
            })
            .await;
    }

    /// Waits before another try; `None` when the Pod is stopped meanwhile.
    async fn wait(&self, unready: &Unready, pause: &mut Pause) -> Option<()> {
        let next = async {
            if unready.retry {
                tokio::time::sleep(pause.next()).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = next => Some(()),
            _ = self.stopped() => None,
        }
    }

    async fn stopped(&self) -> Stop {
        let mut stop = self.stop.clone();
        match stop.wait_for(Option::is_some).await.map(|stop| *stop) {
            Ok(Some(stop)) => stop,
            Ok(None) | Err(_) => Stop::Shutdown,
        }
    }
}

fn waiting(unready: &Unready) -> Doing {
    Doing::Waiting { reason: unready.reason.into(), message: unready.message.clone() }
}

/// How long to wait for what is missing: from a fifth of a second to five seconds.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn next(&mut self) -> Duration {
        self.0 = (self.0 + 1).min(25);
        Duration::from_millis(200) * self.0
    }
}
