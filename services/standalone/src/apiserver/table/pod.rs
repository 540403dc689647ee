//! The row of a Pod: one word for what state it is in.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Heading, age,
    builtin::{aged, list, named, text},
};

pub(super) fn headings() -> Vec<Heading> {
    let shown = ["Name", "Ready", "Status", "Restarts", "Age"];
    let wide = ["IP", "Node", "Nominated Node", "Readiness Gates"];
    let shown = shown.map(|name| Heading::new(name, "string"));
    [shown.to_vec(), wide.map(Heading::wide).to_vec()].concat()
}

pub(super) fn cells(pod: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let status = &pod["status"];
    let containers = list(&pod["spec"]["containers"]).len();
    let statuses = list(&status["containerStatuses"]);
    let ready = statuses.iter().filter(|s| s["ready"] == true).count();
    let or_none = |value: &Value| json!(value.as_str().unwrap_or("<none>"));
    vec![
        named(pod),
        json!(format!("{ready}/{containers}")),
        json!(word(pod)),
        json!(restarts(status, now)),
        aged(pod, now),
        or_none(&status["podIP"]),
        or_none(&pod["spec"]["nodeName"]),
        or_none(&status["nominatedNodeName"]),
        json!("<none>"),
    ]
}

/// The STATUS column: the worst thing that can be said about the Pod.
fn word(pod: &Value) -> String {
    let status = &pod["status"];
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating".into();
    }
    if let Some(word) = initializing(pod) {
        return word;
    }
    let mut word = status["reason"].as_str().map_or_else(|| text(&status["phase"]), str::to_owned);
    let mut running = false;
    for container in list(&status["containerStatuses"]).iter().rev() {
        let state = &container["state"];
        match (reason(&state["waiting"]), ended(&state["terminated"])) {
            (Some(reason), _) | (None, Some(reason)) => word = reason,
            (None, None) => running |= container["ready"] == true && state["running"].is_object(),
        }
    }
    if word == "Completed" && running { "Running".into() } else { word }
}

/// `Init:1/2` and the like, while an init container has not succeeded.
fn initializing(pod: &Value) -> Option<String> {
    let total = list(&pod["spec"]["initContainers"]).len();
    for (index, container) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        let state = &container["state"];
        if state["terminated"]["exitCode"] == 0 {
            continue;
        }
        if let Some(reason) = ended(&state["terminated"]) {
            return Some(format!("Init:{reason}"));
        }
        return match reason(&state["waiting"]) {
            Some(reason) if reason != "PodInitializing" => Some(format!("Init:{reason}")),
            _ => Some(format!("Init:{index}/{total}")),
        };
    }
    None
}

fn reason(state: &Value) -> Option<String> {
    state["reason"].as_str().filter(|r| !r.is_empty()).map(str::to_owned)
}

fn ended(state: &Value) -> Option<String> {
    if !state.is_object() {
        return None;
    }
    let signal = state["signal"].as_i64().unwrap_or(0);
    Some(reason(state).unwrap_or_else(|| match signal {
        0 => format!("ExitCode:{}", state["exitCode"]),
        signal => format!("Signal:{signal}"),
    }))
}

fn restarts(status: &Value, now: DateTime<Utc>) -> String {
    let all = || list(&status["containerStatuses"]).iter();
    let count: i64 = all().filter_map(|s| s["restartCount"].as_i64()).sum();
    let last = all().filter_map(|s| s["lastState"]["terminated"]["finishedAt"].as_str()).max();
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age::since(last, now)),
        _ => count.to_string(),
    }
}
