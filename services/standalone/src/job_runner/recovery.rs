//! What an earlier run left behind: processes nobody watches, Pods that seem to run.

use chrono::Utc;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::fs;

use super::{Runner, process::Record, time::stamp};

const MESSAGE: &str = "the local Job runner ended while this Pod ran, and its processes with it";

/// Kills left processes, and fails the Pods that had begun. Pods that had not begun run as usual.
pub(super) async fn settle(runner: &Runner) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(runner.client.clone());
    let pods = pods.list(&ListParams::default()).await?.items;
    let mut records = fs::read_dir(runner.layout.processes()).await?;
    while let Some(entry) = records.next_entry().await? {
        let uid = entry.file_name().to_string_lossy().into_owned();
        kill(&entry.path()).await;
        if !pods.iter().any(|pod| pod.uid().as_deref() == Some(&uid)) {
            fs::remove_dir_all(entry.path()).await?;
        }
    }
    for pod in pods {
        let Some(status) = lost(&pod, &stamp(Utc::now())) else { continue };
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(runner.client.clone(), &namespace);
        let patch = Patch::Merge(json!({"status": status}));
        match api.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            result => {
                result?;
            }
        }
    }
    Ok(())
}

async fn kill(pod: &std::path::Path) {
    let Ok(mut records) = fs::read_dir(pod.join("processes")).await else { return };
    while let Ok(Some(entry)) = records.next_entry().await {
        if let Some(record) = Record::read(&entry.path()).await
            && record.kill().await
        {
            tracing::warn!(record = %entry.path().display(), "killed a process of the last run");
        }
        // A record that stays names a process number that may be another's by then.
        let _ = fs::remove_file(entry.path()).await;
    }
}

/// The status of a Pod that had begun; `None` for others.
pub(super) fn lost(pod: &Pod, now: &str) -> Option<Value> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let begun = lists.iter().any(|list| {
        list.iter().flatten().any(|container| {
            let state = container.state.as_ref();
            let waits = state.is_none_or(|state| state.waiting.is_some());
            !waits || container.restart_count > 0
        })
    });
    if !begun || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let [init, main] = lists.map(|list| {
        list.as_ref().map(|list| list.iter().map(|one| ended(one, now)).collect::<Vec<_>>())
    });
    let mut conditions = serde_json::to_value(&status.conditions).unwrap_or_default();
    for condition in conditions.as_array_mut().into_iter().flatten() {
        let ready = condition["type"] == "Ready" || condition["type"] == "ContainersReady";
        if ready && condition["status"] != "False" {
            condition["status"] = json!("False");
            condition["reason"] = json!("PodFailed");
            condition["lastTransitionTime"] = json!(now);
        }
    }
    let mut lost = json!({
        "phase": "Failed", "reason": "NodeLost", "message": MESSAGE, "conditions": conditions,
    });
    if let Some(init) = init {
        lost["initContainerStatuses"] = json!(init);
    }
    if let Some(main) = main {
        lost["containerStatuses"] = json!(main);
    }
    Some(lost)
}

fn ended(container: &ContainerStatus, now: &str) -> Value {
    let mut value = serde_json::to_value(container).unwrap_or_default();
    if value["state"]["terminated"].is_null() {
        let started = value["state"]["running"]["startedAt"].clone();
        value["state"] = json!({"terminated": {
            "exitCode": 137, "reason": "ContainerStatusUnknown", "message": MESSAGE,
            "startedAt": if started.is_null() { json!(now) } else { started },
            "finishedAt": now,
        }});
        value["ready"] = json!(false);
        value["started"] = json!(false);
    }
    value
}
