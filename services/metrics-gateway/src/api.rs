//! The JSON of `/api/v1/*`: the same groups as in a scrape, for programs that want them by group.
use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value as Json, json};

use crate::{
    exposition::go_float,
    family::{Family, Labels, Value},
    groups::Group,
};

/// The answer of `/api/v1/metrics`.
pub fn metrics(groups: &[Group]) -> Json {
    let data: Vec<Json> = groups.iter().map(group_json).collect();
    json!({ "status": "success", "data": data })
}

/// The answer of `/api/v1/status`. Keys about Go stand empty, so that whoever reads them finds them.
pub fn status(started: DateTime<Utc>, flags: &BTreeMap<String, String>) -> Json {
    json!({
        "status": "success",
        "data": {
            "build_information": {
                "branch": "", "buildDate": "", "buildUser": "", "goVersion": "", "revision": "",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "flags": flags,
            "start_time": time(started),
        },
    })
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn group_json(group: &Group) -> Json {
    let stamps = group.stamps();
    let stamped_at = group.pushed.max(group.failed).unwrap_or_default();
    let families = group.families.values().map(|stored| (&stored.family, stored.at));
    let families: BTreeMap<&str, Json> = families
        .chain(stamps.iter().map(|family| (family, stamped_at)))
        .map(|(family, at)| (family.name.as_str(), family_json(family, at)))
        .collect();
    let mut out = Map::new();
    out.insert("labels".to_owned(), labels_json(&group.grouping));
    out.insert("last_push_successful".to_owned(), Json::Bool(group.pushed >= group.failed));
    out.extend(families.into_iter().map(|(name, family)| (name.to_owned(), family)));
    Json::Object(out)
}

fn labels_json(labels: &Labels) -> Json {
    let labels = labels.iter().map(|(name, value)| (name.to_owned(), Json::from(value)));
    Json::Object(labels.collect())
}

fn family_json(family: &Family, at: DateTime<Utc>) -> Json {
    let metrics: Vec<Json> = family
        .series
        .iter()
        .map(|series| {
            let labels = labels_json(&series.labels);
            match &series.value {
                Value::Number(value) => json!({ "labels": labels, "value": go_float(*value) }),
                Value::Summary { count, sum, quantiles } => {
                    let quantiles = quantiles.iter();
                    let quantiles: Map<String, Json> = quantiles
                        .map(|(q, value)| (go_float(*q), go_float(*value).into()))
                        .collect();
                    json!({
                        "labels": labels, "quantiles": quantiles,
                        "count": count.to_string(), "sum": go_float(*sum),
                    })
                }
                Value::Histogram { count, sum, buckets } => {
                    let buckets = buckets.iter();
                    let buckets: Map<String, Json> = buckets
                        .map(|(bound, below)| (go_float(*bound), below.to_string().into()))
                        .collect();
                    json!({
                        "labels": labels, "buckets": buckets,
                        "count": count.to_string(), "sum": go_float(*sum),
                    })
                }
            }
        })
        .collect();
    let mut out = Map::new();
    out.insert("time_stamp".to_owned(), time(at).into());
    out.insert("type".to_owned(), family.kind.to_string().into());
    out.extend(family.help.as_deref().map(|help| ("help".to_owned(), help.into())));
    out.insert("metrics".to_owned(), metrics.into());
    Json::Object(out)
}
