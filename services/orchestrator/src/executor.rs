//! What a Job and its pod say about the worker: still starting, at work, done, or dead and of what. Pure.
//!
//! A worker that leaves its outcome as termination message is believed; every other end has a reason here, so that a
//! session never waits for somebody who will not come back.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use coffer_api::{
    outcome::{Outcome, Result as Ended},
    time::to_clock,
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus,
    },
};

/// Reasons for waiting that no waiting will cure.
const HOPELESS: [&str; 2] = ["ErrImageNeverPull", "InvalidImageName"];
/// Reasons for waiting that may pass, or may not.
const DOUBTFUL: [&str; 7] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "ImageInspectError",
    "RegistryUnavailable",
];
/// Where a log's last lines are cut.
const LOG_CHARS: usize = 1000;

/// What became of the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Not at work yet; if it is for the doubtful reason given, not longer than until then.
    Starting {
        /// When patience ends.
        until: Option<DateTime<Utc>>,
    },
    /// At work.
    Running,
    /// It left its outcome.
    Ended(Box<Outcome>),
    /// It left none, or cannot start.
    Dead {
        /// Why, for people.
        reason: String,
        /// Stopped from outside: deleted, evicted, preempted.
        disrupted: bool,
    },
}

/// What there is to see of a session's worker.
#[derive(Clone, Debug, Default)]
pub struct Worker {
    /// Its Job; none when that is gone.
    pub job: Option<Job>,
    /// The Job's pods.
    pub pods: Vec<Pod>,
    /// While the newest pod has not started: the warning that is the last word on it, `REASON: MESSAGE`. A volume that
    /// cannot be mounted is told nowhere else.
    pub warning: Option<String>,
}

/// Looks at the Job of a session and its pods.
#[must_use]
pub fn observe(name: &str, worker: &Worker, now: DateTime<Utc>, grace: Duration) -> Observed {
    let Worker { job, pods, warning } = worker;
    let job = job.as_ref();
    let Some(job) = job else {
        return disrupted(format!("Job {name} was deleted before it was done"));
    };
    let patience = |since: Option<DateTime<Utc>>| {
        since.unwrap_or(now) + TimeDelta::from_std(grace).unwrap_or(TimeDelta::zero())
    };
    let Some(pod) = newest(pods) else {
        let until = patience(job.metadata.creation_timestamp.as_ref().map(to_clock));
        return match failure(job) {
            Some(_) => disrupted(format!(
                "the pod of Job {name} is gone: it was deleted, or its node was lost"
            )),
            None if now >= until => dead(match warning {
                Some(warning) => format!("no pod was made for Job {name}: {warning}"),
                None => format!(
                    "no pod was made for Job {name} within {grace:?}: see `kubectl describe job {name}`, a quota may forbid it"
                ),
            }),
            None => Observed::Starting { until: Some(until) },
        };
    };
    let ours = Ours::of(job);
    if let Some(ended) = ended(pod, &ours) {
        return ended;
    }
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    if status.phase.as_deref() == Some("Failed") {
        return match terminated_badly(&status, |_| true) {
            Some((container, state)) if status.reason.is_none() => failed(pod, container, state),
            Some(_) | None => pod_failure(pod_name, &status),
        };
    }
    if let Some(message) = failure(job) {
        return dead(format!("Job {name} failed: {message}"));
    }
    if pod.metadata.deletion_timestamp.is_some() && status.phase.as_deref() != Some("Succeeded") {
        return disrupted(format!("pod {pod_name} was deleted before it was done"));
    }
    if status.phase.as_deref() == Some("Succeeded") {
        return dead(format!("pod {pod_name} ended without leaving a result"));
    }
    // A pod is Pending for as long as any container is, be it one that others injected.
    if all(&status).any(|c| ours.has(c) && c.state.as_ref().is_some_and(|s| s.running.is_some())) {
        return Observed::Running;
    }
    let until = patience(pod.metadata.creation_timestamp.as_ref().map(to_clock));
    match doubt(pod, warning.as_deref()) {
        Some(Doubt { reason, hopeless }) if hopeless || now >= until => dead(reason),
        Some(Doubt { .. }) => Observed::Starting { until: Some(until) },
        None if status.phase.as_deref() == Some("Running") => Observed::Running,
        // A warning changes no object that is watched: it is looked for once when patience ends, and then now and again.
        None if is_starting(pod) => {
            let again = now + TimeDelta::from_std(grace).unwrap_or(TimeDelta::zero());
            Observed::Starting { until: Some(if now < until { until } else { again }) }
        }
        None => Observed::Starting { until: None },
    }
}

/// True while no container of the pod has begun: its place, its volumes and its images are being seen to.
#[must_use]
pub fn is_starting(pod: &Pod) -> bool {
    let status = pod.status.clone().unwrap_or_default();
    let waits = |c: &ContainerStatus| {
        c.state.as_ref().is_none_or(|s| s.running.is_none() && s.terminated.is_none())
    };
    status.phase.as_deref().is_none_or(|phase| phase == "Pending") && all(&status).all(waits)
}

/// The outcome that the newest pod left, if any.
#[must_use]
pub fn outcome(worker: &Worker) -> Option<Outcome> {
    let ours = worker.job.as_ref().map_or(Ours(None), Ours::of);
    match ended(newest(&worker.pods)?, &ours)? {
        Observed::Ended(outcome) => Some(*outcome),
        Observed::Starting { .. } | Observed::Running | Observed::Dead { .. } => None,
    }
}

/// Whether a container that is told this flag may have begun: what it did is not known when it left no outcome.
#[must_use]
pub fn may_have_begun(worker: &Worker, flag: &str, value: &str) -> bool {
    let pod = worker.job.as_ref().and_then(|job| job.spec.as_ref()?.template.spec.as_ref());
    let told = |container: &Container| {
        let words: Vec<_> = container.command.iter().chain(&container.args).flatten().collect();
        let (one, two) = (format!("{flag}={value}"), [flag, value]);
        words.iter().any(|word| **word == one) || words.windows(2).any(|pair| pair == two)
    };
    let all = pod.map(|pod| pod.init_containers.iter().flatten().chain(&pod.containers));
    all.is_some_and(|mut all| all.any(told))
        && newest(&worker.pods).is_none_or(|pod| !is_starting(pod))
}

/// The container that keeps a pod from starting, and why.
struct Doubt {
    reason: String,
    hopeless: bool,
}

fn dead(reason: String) -> Observed {
    Observed::Dead { reason, disrupted: false }
}

fn disrupted(reason: String) -> Observed {
    Observed::Dead { reason, disrupted: true }
}

/// The pod that counts.
#[must_use]
pub fn newest(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(to_clock))
}

/// The message of a Job that the Job controller gave up.
fn failure(job: &Job) -> Option<String> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let failed = conditions.iter().find(|c| c.type_ == "Failed" && c.status == "True")?;
    let parts = [failed.reason.clone(), failed.message.clone()];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join(": "))
}

/// The containers that the Job asked for. A pod may have others: a service mesh adds its proxy, which may well end badly,
/// and which says nothing about a backup.
struct Ours(Option<Vec<String>>);

impl Ours {
    fn of(job: &Job) -> Self {
        let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let all = pod.map(|pod| pod.init_containers.iter().flatten().chain(&pod.containers));
        Self(all.map(|all| all.map(|container| container.name.clone()).collect()))
    }

    /// Without a Job there is nothing to go by.
    fn has(&self, container: &ContainerStatus) -> bool {
        self.0.as_ref().is_none_or(|names| names.contains(&container.name))
    }
}

/// Every container in the order in which they run.
fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = status.init_container_statuses.iter().flatten();
    init.chain(status.container_statuses.iter().flatten())
}

fn terminated_badly(
    status: &PodStatus,
    is_meant: impl Fn(&ContainerStatus) -> bool,
) -> Option<(&ContainerStatus, &ContainerStateTerminated)> {
    let mut ended = all(status).filter_map(|c| Some((c, terminated(c)?)));
    ended.find(|(container, state)| is_meant(container) && state.exit_code != 0)
}

/// How our containers ended, once the last one has, or one before it failed.
fn ended(pod: &Pod, ours: &Ours) -> Option<Observed> {
    let status = pod.status.as_ref()?;
    // The Functions of a Task run one after another; whoever fails ends the pod.
    if let Some((container, state)) = terminated_badly(status, |c| ours.has(c)) {
        return Some(failed(pod, container, state));
    }
    let finished = |c: &'_ &ContainerStatus| ours.has(c) && terminated(c).is_some();
    let container = status.container_statuses.iter().flatten().rfind(finished)?;
    // Not every step is a worker of ours: the result is the last one that was left.
    let init = status.init_container_statuses.iter().flatten().filter(finished);
    let mut steps = [container].into_iter().chain(init);
    let left = steps.find_map(|c| parse(terminated(c)?.message.as_deref()));
    Some(left.unwrap_or_else(|| {
        let state = terminated(container).map(describe).unwrap_or_default();
        dead(format!(
            "container {} {state} without leaving a result: its image {} is no Coffer worker, or is too old",
            container.name, container.image
        ))
    }))
}

fn parse(message: Option<&str>) -> Option<Observed> {
    let outcome = Outcome::from_message(message?.trim()).ok()?;
    Some(Observed::Ended(Box::new(outcome)))
}

fn terminated(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let ContainerState { terminated, .. } = status.state.as_ref()?;
    terminated.as_ref()
}

fn failed(pod: &Pod, container: &ContainerStatus, state: &ContainerStateTerminated) -> Observed {
    let status = pod.status.clone().unwrap_or_default();
    let how = format!("container {} {}", container.name, describe(state));
    let message = state.message.as_deref().unwrap_or_default().trim();
    match Outcome::from_message(message) {
        Ok(outcome) if matches!(outcome.result, Ended::Failed(_)) => {
            return Observed::Ended(Box::new(outcome));
        }
        Ok(_) => return dead(format!("{how} after it had reported success")),
        Err(_) => {}
    }
    if let Some(reason) = status.reason.as_deref() {
        return pod_reason(&how, reason, status.message.as_deref());
    }
    if let Some((reason, message)) = disruption(pod) {
        return disrupted(format!("{how}: {reason}: {message}"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return disrupted(format!("{how}: its pod was deleted"));
    }
    let chars: Vec<char> = message.chars().collect();
    let log: String = chars[chars.len().saturating_sub(LOG_CHARS)..].iter().collect();
    if log.is_empty() { dead(how) } else { dead(format!("{how}: {log}")) }
}

/// `was killed for lack of memory`, `was killed by signal 9`, `exited with code 2`.
fn describe(state: &ContainerStateTerminated) -> String {
    let reason = state.reason.as_deref().unwrap_or_default();
    let signal = state.signal.or_else(|| {
        // As shells and container runtimes report it.
        (state.exit_code > 128 && state.exit_code < 160).then_some(state.exit_code - 128)
    });
    match (reason, signal) {
        ("OOMKilled", _) => {
            "was killed for lack of memory (OOMKilled): raise runtimeSettings.container.resources.limits.memory".to_owned()
        }
        ("" | "Error" | "Completed", Some(signal)) => format!("was killed by signal {signal}"),
        ("" | "Error" | "Completed", None) => format!("exited with code {}", state.exit_code),
        (reason, Some(signal)) => format!("was killed by signal {signal} ({reason})"),
        (reason, None) => format!("exited with code {} ({reason})", state.exit_code),
    }
}

fn pod_failure(name: &str, status: &PodStatus) -> Observed {
    let subject = format!("pod {name} failed");
    match status.reason.as_deref() {
        Some(reason) => pod_reason(&subject, reason, status.message.as_deref()),
        None => dead(match &status.message {
            Some(message) => format!("{subject}: {message}"),
            None => format!("{subject} without saying why"),
        }),
    }
}

fn pod_reason(subject: &str, reason: &str, message: Option<&str>) -> Observed {
    let text = match message.filter(|m| !m.is_empty()) {
        Some(message) => format!("{subject}: {reason}: {message}"),
        None => format!("{subject}: {reason}"),
    };
    let outside = ["Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"];
    if outside.contains(&reason) { disrupted(text) } else { dead(text) }
}

/// The pod's own word on why it was stopped from outside.
fn disruption(pod: &Pod) -> Option<(String, String)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == "DisruptionTarget" && c.status == "True")?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

fn doubt(pod: &Pod, warning: Option<&str>) -> Option<Doubt> {
    let status = pod.status.as_ref()?;
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    for container in all(status) {
        let Some(waiting) = container.state.as_ref().and_then(|s| s.waiting.as_ref()) else {
            continue;
        };
        let reason = waiting.reason.as_deref().unwrap_or_default();
        let hopeless = HOPELESS.contains(&reason);
        if hopeless || DOUBTFUL.contains(&reason) {
            let message = waiting.message.as_deref().unwrap_or_default();
            return Some(Doubt {
                reason: format!(
                    "container {} cannot start from image {}: {reason}{}{message}",
                    container.name,
                    container.image,
                    if message.is_empty() { "" } else { ": " },
                ),
                hopeless,
            });
        }
    }
    let unscheduled = status.conditions.iter().flatten().find(|c| {
        c.type_ == "PodScheduled"
            && c.status == "False"
            && c.reason.as_deref() == Some("Unschedulable")
    });
    let reason = match (unscheduled, warning) {
        (Some(condition), _) => format!(
            "pod {name} cannot be scheduled: {}",
            condition.message.as_deref().unwrap_or("Unschedulable"),
        ),
        (None, Some(warning)) if is_starting(pod) => {
            format!("pod {name} does not start: {warning}")
        }
        (None, _) => return None,
    };
    Some(Doubt { reason, hopeless: false })
}

#[cfg(test)]
mod tests;
