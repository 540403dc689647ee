//! What a Job needs next. Pure: from the Job, its Pods and the time to a plan.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::Pod,
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::owner;
use crate::job_runner::{
    NODE,
    time::{instant, stamp},
};

/// The first pause after a failed Pod; doubled for each further one.
const BACKOFF: TimeDelta = TimeDelta::seconds(10);
const BACKOFF_MOST: TimeDelta = TimeDelta::seconds(600);

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<Pod>,
    /// Names of Pods.
    pub(super) delete: Vec<String>,
    /// A merge patch of the status, if it is to change.
    pub(super) status: Option<Value>,
    /// The Job itself goes: its time to live is over.
    pub(super) remove: bool,
    /// When to look again without a change.
    pub(super) requeue: Option<Duration>,
}

/// The Pods of a Job, told apart.
struct Census<'a> {
    active: Vec<&'a Pod>,
    ready: usize,
    terminating: usize,
    succeeded: usize,
    failed: usize,
    last_failure: Option<DateTime<Utc>>,
    restarts: i32,
}

impl<'a> Census<'a> {
    fn take(pods: &'a [Pod]) -> Self {
        let phase =
            |pod: &&Pod| pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        let with = |wanted: &str| pods.iter().filter(|pod| phase(pod) == wanted).count();
        let under_way =
            || pods.iter().filter(|p| !matches!(phase(p).as_str(), "Succeeded" | "Failed"));
        let (terminating, active): (Vec<&Pod>, Vec<&Pod>) =
            under_way().partition(|pod| pod.metadata.deletion_timestamp.is_some());
        let ready = |pod: &&&Pod| {
            let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        };
        let failures = pods.iter().filter(|pod| phase(pod) == "Failed");
        Self {
            ready: active.iter().filter(ready).count(),
            terminating: terminating.len(),
            succeeded: with("Succeeded"),
            failed: with("Failed"),
            last_failure: failures.filter_map(finished).max(),
            restarts: active.iter().map(|pod| restarts(pod)).sum(),
            active,
        }
    }
}

fn restarts(pod: &Pod) -> i32 {
    let Some(status) = &pod.status else { return 0 };
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().map(|container| container.restart_count).sum()
}

/// When the last container of a Pod ended.
fn finished(pod: &Pod) -> Option<DateTime<Utc>> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let ends = lists.into_iter().flatten().flatten().filter_map(|container| {
        container.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(instant)
    });
    ends.max().or_else(|| pod.metadata.creation_timestamp.as_ref().map(instant))
}

/// Decides.
///
/// # Errors
/// When the status that is stored cannot be represented.
pub(super) fn decide(
    job: &Job,
    pods: &[Pod],
    now: DateTime<Utc>,
) -> Result<Plan, serde_json::Error> {
    let spec = job.spec.clone().unwrap_or_default();
    let mine = spec.managed_by.as_deref().is_none_or(|by| by == "kubernetes.io/job-controller");
    if job.metadata.deletion_timestamp.is_some() || !mine {
        return Ok(Plan::default());
    }
    let stored = serde_json::to_value(job.status.clone().unwrap_or_default())?;
    let mut status = Status { value: stored.clone(), now };
    let mut plan = Plan::default();
    if status.holds("Complete") || status.holds("Failed") {
        plan.outlived(&spec, &status, now);
        return Ok(plan);
    }
    let census = Census::take(pods);
    let names = || census.active.iter().map(|pod| pod.name_any()).collect::<Vec<_>>();
    let failed = census.failed.max(status.count("failed"));
    let succeeded = census.succeeded.max(status.count("succeeded"));

    if spec.suspend == Some(true) {
        plan.delete = names();
        status.set("Suspended", true, "JobSuspended", "Job suspended");
        status.value["startTime"] = Value::Null;
    } else {
        if status.has("Suspended") {
            status.set("Suspended", false, "JobResumed", "Job resumed");
        }
        if status.value["startTime"].is_null() {
            status.value["startTime"] = json!(stamp(now));
        }
        let verdict = status.failing().or_else(|| failure(&spec, &status, failed, &census, now));
        if let Some((reason, message)) = verdict {
            plan.delete = names();
            status.set("FailureTarget", true, &reason, &message);
            if census.active.is_empty() && census.terminating == 0 {
                status.set("Failed", true, &reason, &message);
            }
        } else if complete(&spec, succeeded, &census) {
            plan.delete = names();
            let (reason, message) =
                ("CompletionsReached", "Reached expected number of succeeded pods");
            status.set("SuccessCriteriaMet", true, reason, message);
            if census.active.is_empty() && census.terminating == 0 {
                status.set("Complete", true, reason, message);
                status.value["completionTime"] = json!(stamp(now));
            }
        } else {
            plan.fill(job, &spec, pods, &census, succeeded, failed, now);
            plan.watch_deadline(&spec, &status, now);
        }
    }

    let active = census.active.len() + plan.create.len() - plan.delete.len();
    let number = |count: usize| if count == 0 { Value::Null } else { json!(count) };
    status.value["active"] = number(active);
    status.value["succeeded"] = number(succeeded);
    status.value["failed"] = number(failed);
    status.value["terminating"] = json!(census.terminating + plan.delete.len());
    status.value["ready"] = json!(if plan.delete.is_empty() { census.ready } else { 0 });
    if without_nulls(&status.value) != without_nulls(&stored) {
        plan.status = Some(status.value);
    }
    Ok(plan)
}

fn without_nulls(value: &Value) -> Value {
    let mut value = value.clone();
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, member| !member.is_null());
    }
    value
}

/// Why the Job has failed now: reason and message.
fn failure(
    spec: &JobSpec,
    status: &Status,
    failed: usize,
    census: &Census<'_>,
    now: DateTime<Utc>,
) -> Option<(String, String)> {
    let because = |reason: &str, message: &str| Some((reason.to_owned(), message.to_owned()));
    if spec.completion_mode.as_deref() == Some("Indexed") {
        return because("Unsupported", "the local Job runner does not run indexed Jobs");
    }
    let limit = usize::try_from(spec.backoff_limit.unwrap_or(6)).unwrap_or(0);
    let restarts = usize::try_from(census.restarts).unwrap_or(0);
    let in_place = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref())
        == Some("OnFailure");
    let restarted_enough = in_place && if limit == 0 { restarts > 0 } else { restarts >= limit };
    if failed > limit || restarted_enough {
        return because("BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline(spec, status).is_some_and(|end| now >= end) {
        return because("DeadlineExceeded", "Job was active longer than specified deadline");
    }
    None
}

fn deadline(spec: &JobSpec, status: &Status) -> Option<DateTime<Utc>> {
    let start = status.time("startTime")?;
    start.checked_add_signed(TimeDelta::try_seconds(spec.active_deadline_seconds?)?)
}

fn complete(spec: &JobSpec, succeeded: usize, census: &Census<'_>) -> bool {
    match spec.completions {
        Some(wanted) => succeeded >= usize::try_from(wanted).unwrap_or(0),
        None => succeeded > 0 && census.active.is_empty(),
    }
}

impl Plan {
    /// Makes the Pods that are missing, unless a failure is too fresh.
    #[allow(clippy::too_many_arguments, reason = "all of it is what the rule is about")]
    fn fill(
        &mut self,
        job: &Job,
        spec: &JobSpec,
        pods: &[Pod],
        census: &Census<'_>,
        succeeded: usize,
        failed: usize,
        now: DateTime<Utc>,
    ) {
        let count = |n: Option<i32>, usual| n.map_or(usual, |n| usize::try_from(n).unwrap_or(0));
        let parallelism = count(spec.parallelism, 1);
        let wanted = match spec.completions {
            Some(completions) => {
                count(Some(completions), 1).saturating_sub(succeeded).min(parallelism)
            }
            // A work queue: after the first success no new Pods are made.
            None if succeeded > 0 => census.active.len().min(parallelism),
            None => parallelism,
        };
        let surplus = census.active.len().saturating_sub(wanted);
        self.delete = census.active.iter().take(surplus).map(|pod| pod.name_any()).collect();
        let missing = wanted.saturating_sub(census.active.len());
        if missing == 0 {
            return;
        }
        if let Some(last) = census.last_failure {
            let doublings = u32::try_from(failed.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
            let pause = (BACKOFF * 2_i32.pow(doublings)).min(BACKOFF_MOST);
            let rest = (last + pause).signed_duration_since(now);
            if rest > TimeDelta::zero() {
                self.requeue = rest.to_std().ok();
                return;
            }
        }
        // Names follow from the Job and the number of the attempt, so that a repeat is harmless.
        let attempt = pods.len().max(succeeded + failed);
        self.create = (0..missing).map(|more| pod(job, spec, attempt + more)).collect();
    }

    fn watch_deadline(&mut self, spec: &JobSpec, status: &Status, now: DateTime<Utc>) {
        let rest = deadline(spec, status)
            .map(|end| end.signed_duration_since(now).to_std().unwrap_or(Duration::ZERO));
        self.requeue = match (self.requeue, rest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// A finished Job goes when its time to live is over.
    fn outlived(&mut self, spec: &JobSpec, status: &Status, now: DateTime<Utc>) {
        let Some(seconds) = spec.ttl_seconds_after_finished else { return };
        let Some(finished) = status.finished() else { return };
        let rest = (finished + TimeDelta::seconds(seconds.into())).signed_duration_since(now);
        match rest.to_std() {
            Ok(rest) if !rest.is_zero() => self.requeue = Some(rest),
            _ => self.remove = true,
        }
    }
}

/// A Pod of a Job.
fn pod(job: &Job, spec: &JobSpec, attempt: usize) -> Pod {
    let (name, uid) = (job.name_any(), job.uid().unwrap_or_default());
    let template = spec.template.clone();
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = Some(format!("{}-{}", prefix(&name), suffix(&uid, attempt)));
    metadata.namespace = job.namespace();
    metadata.owner_references = owner(job).map(|owner| vec![owner]);
    let labels = metadata.labels.get_or_insert_default();
    for key in ["job-name", "batch.kubernetes.io/job-name"] {
        labels.entry(key.to_owned()).or_insert_with(|| name.clone());
    }
    for key in ["controller-uid", "batch.kubernetes.io/controller-uid"] {
        labels.entry(key.to_owned()).or_insert_with(|| uid.clone());
    }
    let mut pod = template.spec.unwrap_or_default();
    pod.node_name.get_or_insert_with(|| NODE.to_owned());
    Pod { metadata, spec: Some(pod), status: None }
}

/// A Pod's name has at most 63 characters, of which the suffix takes 6.
fn prefix(name: &str) -> &str {
    name.get(..57).unwrap_or(name).trim_end_matches(['-', '.'])
}

/// Five characters in the manner of Kubernetes: no vowels, nothing that looks like another.
fn suffix(uid: &str, attempt: usize) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hasher = DefaultHasher::new();
    (uid, attempt).hash(&mut hasher);
    let mut rest = hasher.finish();
    let base = 27_u64;
    std::iter::repeat_with(|| {
        let digit = usize::try_from(rest % base).unwrap_or(0);
        rest /= base;
        char::from(ALPHABET[digit])
    })
    .take(5)
    .collect()
}

/// A Job's status while it is worked out.
struct Status {
    value: Value,
    now: DateTime<Utc>,
}

impl Status {
    fn conditions(&self) -> &[Value] {
        self.value["conditions"].as_array().map_or(&[], Vec::as_slice)
    }

    fn has(&self, kind: &str) -> bool {
        self.conditions().iter().any(|condition| condition["type"] == kind)
    }

    fn holds(&self, kind: &str) -> bool {
        self.conditions().iter().any(|c| c["type"] == kind && c["status"] == "True")
    }

    /// The failure that was decided while Pods still ran.
    fn failing(&self) -> Option<(String, String)> {
        let target = self.conditions().iter().find(|c| c["type"] == "FailureTarget")?;
        let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        Some((text("reason"), text("message")))
    }

    fn finished(&self) -> Option<DateTime<Utc>> {
        let ends = ["Complete", "Failed"];
        let end = self
            .conditions()
            .iter()
            .find(|c| c["status"] == "True" && ends.iter().any(|end| c["type"] == *end))?;
        parse(&end["lastTransitionTime"])
    }

    fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        if self.conditions().iter().any(|c| c["type"] == kind && c["status"] == status) {
            return;
        }
        let time = stamp(self.now);
        let condition = json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastProbeTime": time, "lastTransitionTime": time,
        });
        let mut conditions = self.conditions().to_vec();
        match conditions.iter_mut().find(|c| c["type"] == kind) {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
        self.value["conditions"] = Value::Array(conditions);
    }

    fn count(&self, field: &str) -> usize {
        self.value[field].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    fn time(&self, field: &str) -> Option<DateTime<Utc>> {
        parse(&self.value[field])
    }
}

fn parse(time: &Value) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(time.as_str()?).ok()?;
    Some(time.with_timezone(&Utc))
}
