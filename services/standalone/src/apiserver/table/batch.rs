//! The rows of Jobs and CronJobs.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    Heading, age,
    builtin::{aged, joined, labels, list, named, text},
};

pub(super) fn job_headings() -> Vec<Heading> {
    let shown = ["Name", "Status", "Completions", "Duration", "Age"];
    let shown = shown.map(|name| Heading::new(name, "string"));
    [shown.to_vec(), ["Containers", "Images", "Selector"].map(Heading::wide).to_vec()].concat()
}

pub(super) fn job_cells(job: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let (spec, status) = (&job["spec"], &job["status"]);
    let succeeded = status["succeeded"].as_i64().unwrap_or(0);
    let completions = match (spec["completions"].as_i64(), spec["parallelism"].as_i64()) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        _ => format!("{succeeded}/1"),
    };
    vec![
        named(job),
        json!(job_word(job)),
        json!(completions),
        json!(duration(job, now)),
        aged(job, now),
        containers(&spec["template"]["spec"], "name"),
        containers(&spec["template"]["spec"], "image"),
        labels(&spec["selector"]["matchLabels"]),
    ]
}

fn job_word(job: &Value) -> &'static str {
    let holds = |kind: &str| {
        let conditions = list(&job["status"]["conditions"]);
        conditions.iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    if holds("Complete") {
        "Complete"
    } else if holds("Failed") {
        "Failed"
    } else if !job["metadata"]["deletionTimestamp"].is_null() {
        "Terminating"
    } else if holds("Suspended") {
        "Suspended"
    } else if holds("FailureTarget") {
        "FailureTarget"
    } else if holds("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn duration(job: &Value, now: DateTime<Utc>) -> String {
    let time = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        DateTime::parse_from_rfc3339(text).ok().map(|t| t.with_timezone(&Utc))
    };
    let status = &job["status"];
    match (time(&status["startTime"]), time(&status["completionTime"])) {
        (None, _) => String::new(),
        (Some(start), end) => age::human(end.unwrap_or(now).signed_duration_since(start)),
    }
}

fn containers(pod: &Value, field: &str) -> Value {
    joined(list(&pod["containers"]).iter().map(|container| text(&container[field])))
}

pub(super) fn cron_headings() -> Vec<Heading> {
    let text = |name| Heading::new(name, "string");
    let mut headings = vec![
        text("Name"),
        text("Schedule"),
        text("Timezone"),
        text("Suspend"),
        Heading::new("Active", "integer"),
        text("Last Schedule"),
        text("Age"),
    ];
    headings.extend(["Containers", "Images", "Selector"].map(Heading::wide));
    headings
}

pub(super) fn cron_cells(cron: &Value, now: DateTime<Utc>) -> Vec<Value> {
    let (spec, status) = (&cron["spec"], &cron["status"]);
    let last = status["lastScheduleTime"].as_str();
    let pod = &spec["jobTemplate"]["spec"]["template"]["spec"];
    vec![
        named(cron),
        spec["schedule"].clone(),
        json!(spec["timeZone"].as_str().unwrap_or("<none>")),
        json!(if spec["suspend"] == true { "True" } else { "False" }),
        json!(list(&status["active"]).len()),
        json!(last.map_or_else(|| "<none>".to_owned(), |last| age::since(last, now))),
        aged(cron, now),
        containers(pod, "name"),
        containers(pod, "image"),
        labels(&spec["jobTemplate"]["spec"]["selector"]["matchLabels"]),
    ]
}
