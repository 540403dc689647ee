//! Watches Pods and keeps one task for each that is to run.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    Runner,
    pod::{self, Stop},
};

/// A Pod that has, or had, a task.
struct Held {
    name: String,
    namespace: String,
    stop: watch::Sender<Option<Stop>>,
    done: CancellationToken,
}

/// Runs until shutdown, then until every Pod has been stopped.
pub(super) async fn run(runner: Arc<Runner>) {
    let pods: Api<Pod> = Api::all(runner.client.clone());
    let mut events = pin!(watcher(pods, watcher::Config::default()).default_backoff());
    let mut keeper =
        Keeper { runner: Arc::clone(&runner), held: HashMap::new(), tasks: JoinSet::new() };
    let mut listed = HashSet::new();
    loop {
        let event = tokio::select! {
            () = runner.shutdown.cancelled() => break,
            Some(_) = keeper.tasks.join_next() => continue,
            event = events.next() => event,
        };
        match event {
            Some(Ok(watcher::Event::Init)) => listed.clear(),
            Some(Ok(watcher::Event::InitApply(pod))) => {
                listed.insert(pod.uid().unwrap_or_default());
                keeper.see(pod);
            }
            Some(Ok(watcher::Event::InitDone)) => {
                let gone: Vec<String> =
                    keeper.held.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                gone.iter().for_each(|uid| keeper.gone(uid));
            }
            Some(Ok(watcher::Event::Apply(pod))) => keeper.see(pod),
            Some(Ok(watcher::Event::Delete(pod))) => keeper.gone(&pod.uid().unwrap_or_default()),
            Some(Err(error)) => tracing::warn!(%error, "the watch on Pods broke; it is renewed"),
            None => break,
        }
    }
    for held in keeper.held.values() {
        tell(&held.stop, Stop::Shutdown);
    }
    while keeper.tasks.join_next().await.is_some() {}
}

struct Keeper {
    runner: Arc<Runner>,
    /// By uid. Ended Pods stay until they are gone, since an older event may still be under way.
    held: HashMap<String, Held>,
    tasks: JoinSet<()>,
}

impl Keeper {
    fn see(&mut self, pod: Pod) {
        let uid = pod.uid().unwrap_or_default();
        let deleting = pod.metadata.deletion_timestamp.is_some();
        if let Some(held) = self.held.get(&uid) {
            if deleting {
                let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(0);
                let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
                tell(&held.stop, Stop::Deleted { grace });
            }
            return;
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) || node.is_some_and(|n| n != super::NODE) {
            return;
        }
        let stop = deleting.then_some(Stop::Deleted { grace: Duration::ZERO });
        let (sender, receiver) = watch::channel(stop);
        let done = CancellationToken::new();
        self.held.insert(
            uid,
            Held {
                name: pod.name_any(),
                namespace: pod.namespace().unwrap_or_default(),
                stop: sender.clone(),
                done: done.clone(),
            },
        );
        let runner = Arc::clone(&self.runner);
        self.tasks.spawn(async move {
            let _done = done.drop_guard();
            Box::pin(pod::run(runner, pod, sender, receiver)).await;
        });
    }

    /// The Pod is no more: its processes end at once, its files go.
    fn gone(&mut self, uid: &str) {
        let Some(held) = self.held.remove(uid) else { return };
        tell(&held.stop, Stop::Deleted { grace: Duration::ZERO });
        let (runner, uid) = (Arc::clone(&self.runner), uid.to_owned());
        self.tasks.spawn(async move {
            held.done.cancelled().await;
            runner.layout.forget(&uid, &held.namespace, &held.name).await;
        });
    }
}

/// Later words only shorten the time that is left.
fn tell(stop: &watch::Sender<Option<Stop>>, word: Stop) {
    stop.send_if_modified(|current| {
        let newer = match (&current, &word) {
            (None, _) => true,
            (Some(Stop::Deleted { grace: old }), Stop::Deleted { grace: new }) => new < old,
            (Some(_), Stop::Deleted { .. }) => true,
            (Some(_), _) => false,
        };
        if newer {
            *current = Some(word);
        }
        newer
    });
}
