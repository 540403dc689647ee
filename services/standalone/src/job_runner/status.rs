//! A Pod's state as the kubelet would write it. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::time::stamp;

/// The last words of a container are cut here.
pub(super) const MESSAGE_BYTES: usize = 4096;

/// A container that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) signal: Option<i32>,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) started: Option<DateTime<Utc>>,
    pub(super) finished: DateTime<Utc>,
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doing {
    Waiting { reason: String, message: String },
    Running { since: DateTime<Utc> },
    Terminated(Ended),
}

/// One container's line in the status.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) image: String,
    /// The program and its process.
    pub(super) identity: Option<(String, i32)>,
    pub(super) restarts: i32,
    pub(super) doing: Doing,
    pub(super) before: Option<Ended>,
}

impl Line {
    pub(super) fn new(name: &str, image: &str, reason: &str) -> Self {
        Self {
            name: name.into(),
            image: image.into(),
            identity: None,
            restarts: 0,
            doing: Doing::Waiting { reason: reason.into(), message: String::new() },
            before: None,
        }
    }

    pub(super) fn ended(&self) -> Option<&Ended> {
        match &self.doing {
            Doing::Terminated(ended) => Some(ended),
            Doing::Waiting { .. } | Doing::Running { .. } => None,
        }
    }
}

/// The state of a Pod.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) init: Vec<Line>,
    pub(super) main: Vec<Line>,
    /// Why it has no place yet.
    pub(super) unscheduled: Option<String>,
    pub(super) started: Option<DateTime<Utc>>,
    /// Nothing runs any more, and nothing will.
    pub(super) over: bool,
    /// Why the Pod as a whole failed: reason and message.
    pub(super) failed: Option<(String, String)>,
    /// condition → since when it is as it is
    conditions: BTreeMap<&'static str, (bool, DateTime<Utc>)>,
}

impl State {
    pub(super) fn new(init: Vec<Line>, main: Vec<Line>) -> Self {
        Self {
            init,
            main,
            unscheduled: None,
            started: None,
            over: false,
            failed: None,
            conditions: BTreeMap::new(),
        }
    }

    pub(super) fn phase(&self) -> &'static str {
        let failed = |line: &Line| line.ended().is_some_and(|ended| ended.code != 0);
        if self.over {
            let done = self.main.iter().all(|line| line.ended().is_some_and(|e| e.code == 0));
            return if self.failed.is_none() && done && !self.init.iter().any(failed) {
                "Succeeded"
            } else {
                "Failed"
            };
        }
        let begun =
            |line: &Line| line.before.is_some() || !matches!(line.doing, Doing::Waiting { .. });
        if self.main.iter().any(begun) { "Running" } else { "Pending" }
    }

    /// The status object. `now` is when conditions change that change.
    pub(super) fn render(&mut self, now: DateTime<Utc>) -> Value {
        let initialized =
            self.init.iter().all(|line| line.ended().is_some_and(|ended| ended.code == 0));
        let running = |line: &Line| matches!(line.doing, Doing::Running { .. });
        let ready = initialized && !self.over && self.main.iter().all(running);
        let scheduled = self.unscheduled.is_none();
        let why_not_ready = if self.over { "PodCompleted" } else { "ContainersNotReady" };
        let conditions = [
            ("PodScheduled", scheduled, self.unscheduled.as_ref().map(|_| "Unschedulable")),
            ("Initialized", initialized, (!initialized).then_some("ContainersNotInitialized")),
            ("ContainersReady", ready, (!ready).then_some(why_not_ready)),
            ("Ready", ready, (!ready).then_some(why_not_ready)),
        ];
        let mut list = Vec::new();
        for (name, holds, reason) in conditions {
            let since = self.conditions.entry(name).or_insert((holds, now));
            if since.0 != holds {
                *since = (holds, now);
            }
            let mut condition = json!({
                "type": name,
                "status": if holds { "True" } else { "False" },
                "lastTransitionTime": stamp(since.1),
            });
            if let Some(reason) = reason {
                condition["reason"] = json!(reason);
            }
            if let (false, "PodScheduled", Some(message)) = (holds, name, &self.unscheduled) {
                condition["message"] = json!(message);
            }
            list.push(condition);
        }
        let (reason, message) = self.failed.clone().unzip();
        json!({
            "phase": self.phase(),
            "reason": reason,
            "message": message,
            "conditions": list,
            "startTime": self.started.map(stamp),
            "hostIP": "127.0.0.1",
            "podIP": self.started.map(|_| "127.0.0.1"),
            "podIPs": self.started.map(|_| json!([{"ip": "127.0.0.1"}])),
            "qosClass": "BestEffort",
            "initContainerStatuses": lines(&self.init, true),
            "containerStatuses": lines(&self.main, false),
        })
    }
}

fn lines(lines: &[Line], init: bool) -> Value {
    if lines.is_empty() {
        return Value::Null;
    }
    lines.iter().map(|one| line(one, init)).collect()
}

fn line(line: &Line, init: bool) -> Value {
    let running = matches!(line.doing, Doing::Running { .. });
    let done = line.ended().is_some_and(|ended| ended.code == 0);
    let (program, process) = line.identity.clone().unzip();
    let state = match &line.doing {
        Doing::Waiting { reason, message } => {
            json!({"waiting": text(json!({"reason": reason}), "message", message)})
        }
        Doing::Running { since } => json!({"running": {"startedAt": stamp(*since)}}),
        Doing::Terminated(ended) => json!({"terminated": terminated(ended)}),
    };
    json!({
        "name": line.name,
        "image": line.image,
        "imageID": program.unwrap_or_default(),
        "containerID": process.map(|process| format!("process://{process}")),
        "ready": if init { done } else { running },
        "started": running,
        "restartCount": line.restarts,
        "state": state,
        "lastState": line.before.as_ref().map_or(json!({}), |e| json!({"terminated": terminated(e)})),
    })
}

fn terminated(ended: &Ended) -> Value {
    let mut value = json!({
        "exitCode": ended.code, "reason": ended.reason, "finishedAt": stamp(ended.finished),
        "startedAt": stamp(ended.started.unwrap_or(ended.finished)),
    });
    if let Some(signal) = ended.signal {
        value["signal"] = json!(signal);
    }
    text(value, "message", &ended.message)
}

fn text(mut value: Value, key: &str, text: &str) -> Value {
    if !text.is_empty() {
        value[key] = json!(text);
    }
    value
}
