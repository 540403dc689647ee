use chrono::{TimeDelta, TimeZone};

use super::*;

fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 2, 0, 0, 0).unwrap()
}

fn shown(table: &Value) -> Vec<(String, Value)> {
    let headings = table["columnDefinitions"].as_array().unwrap().iter();
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter();
    assert_eq!(headings.len(), cells.len());
    headings
        .zip(cells)
        .filter(|(h, _)| h["priority"] == 0)
        .map(|(h, c)| (h["name"].as_str().unwrap().to_owned(), c.clone()))
        .collect()
}

fn row(group: &str, kind: &str, object: Value) -> Vec<(String, Value)> {
    let gvk = GroupVersionKind::gvk(group, "v1", kind);
    shown(&render(&gvk, None, &[object], IncludeObject::Metadata, &json!({}), now()))
}

fn wanted(cells: &[(&str, Value)]) -> Vec<(String, Value)> {
    cells.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn ages_round_as_kubectl_does() {
    let table = [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (10_860, "3h1m"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (176_400, "2d1h"),
        (691_200, "8d"),
        (63_071_999, "729d"),
        (63_072_000, "2y"),
        (63_158_400, "2y1d"),
        (252_288_000, "8y"),
    ];
    for (seconds, wanted) in table {
        assert_eq!(age::human(TimeDelta::seconds(seconds)), wanted, "{seconds}");
    }
}

#[test]
fn paths_find_values() {
    let object = json!({
        "spec": {"list": [{"name": "a", "n": 1}, {"name": "b", "n": 2}]},
        "metadata": {"annotations": {"a.b/c": "x"}},
    });
    let table = [
        (".spec.list[0].name", vec![json!("a")]),
        ("{.spec.list[-1].n}", vec![json!(2)]),
        ("$.spec.list[*].n", vec![json!(1), json!(2)]),
        (r#".spec.list[?(@.name=="b")].n"#, vec![json!(2)]),
        (".spec.list[?(@.name != 'b')].n", vec![json!(1)]),
        (".spec.list[?(@.n == 2)].name", vec![json!("b")]),
        (".spec.list[?(@.missing)].name", vec![]),
        (".metadata.annotations['a.b/c']", vec![json!("x")]),
        (r".metadata.annotations.a\.b/c", vec![json!("x")]),
        (".spec.none.at[3].all", vec![]),
    ];
    for (path, wanted) in table {
        let found: Vec<Value> =
            JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
        assert_eq!(found, wanted, "{path}");
    }
    assert_eq!(JsonPath::parse(".a[?(@.b=="), None);
    assert_eq!(JsonPath::parse(".a[b"), None);
}

#[test]
fn custom_columns_come_from_the_definition() {
    let columns: Vec<Column> = serde_json::from_value(json!([
        {"name": "Paused", "type": "boolean", "jsonPath": ".spec.paused"},
        {"name": "Count", "type": "integer", "jsonPath": ".status.count"},
        {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ]))
    .unwrap();
    let object = json!({
        "metadata": {"name": "x", "creationTimestamp": "2026-01-01T23:55:00Z"},
        "spec": {"paused": false}, "status": {"count": 3},
    });
    let gvk = GroupVersionKind::gvk("g", "v1", "K");
    let table = render(
        &gvk,
        Some(&columns),
        std::slice::from_ref(&object),
        IncludeObject::Object,
        &json!({"resourceVersion": "7"}),
        now(),
    );
    assert_eq!(
        shown(&table),
        wanted(&[
            ("Name", json!("x")),
            ("Paused", json!(false)),
            ("Count", json!(3)),
            ("Phase", Value::Null),
            ("Age", json!("5m"))
        ])
    );
    assert_eq!(table["rows"][0]["object"], object);
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    let table = render(&gvk, None, &[object], IncludeObject::None, &json!({}), now());
    assert_eq!(shown(&table), wanted(&[("Name", json!("x")), ("Age", json!("5m"))]));
    assert!(table["rows"][0].get("object").is_none());
}

#[test]
fn built_in_kinds_have_their_columns() {
    let metadata = json!({"name": "x", "creationTimestamp": "2026-01-01T23:00:00Z"});
    let secret = json!({"metadata": metadata, "type": "Opaque", "data": {"a": "", "b": ""}});
    assert_eq!(
        row("", "Secret", secret),
        wanted(&[
            ("Name", json!("x")),
            ("Type", json!("Opaque")),
            ("Data", json!(2)),
            ("Age", json!("60m"))
        ])
    );
    let job = json!({
        "metadata": metadata, "spec": {"completions": 1, "template": {"spec": {"containers": []}}},
        "status": {"startTime": "2026-01-01T23:00:00Z", "completionTime": "2026-01-01T23:00:07Z", "succeeded": 1,
            "conditions": [{"type": "Complete", "status": "True"}]},
    });
    assert_eq!(
        row("batch", "Job", job),
        wanted(&[
            ("Name", json!("x")),
            ("Status", json!("Complete")),
            ("Completions", json!("1/1")),
            ("Duration", json!("7s")),
            ("Age", json!("60m"))
        ])
    );
    let event = json!({
        "metadata": metadata, "type": "Warning", "reason": "Failed", "message": "m\n", "lastTimestamp": "2026-01-01T23:59:50Z",
        "involvedObject": {"kind": "BackupSession", "name": "b"},
    });
    assert_eq!(
        row("", "Event", event),
        wanted(&[
            ("Last Seen", json!("10s")),
            ("Type", json!("Warning")),
            ("Reason", json!("Failed")),
            ("Object", json!("backupsession/b")),
            ("Message", json!("m"))
        ])
    );
}

#[test]
fn a_pod_is_called_by_its_worst_state() {
    let word = |spec: Value, status: Value| {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        row("", "Pod", pod)[2].1.clone()
    };
    let two = json!({"containers": [{}], "initContainers": [{}, {}]});
    let one = json!({"containers": [{}]});
    let done = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let waiting = json!({"state": {"waiting": {"reason": "PodInitializing"}}});
    let table = [
        (&two, json!({"phase": "Pending", "initContainerStatuses": [done, waiting]}), "Init:1/2"),
        (
            &two,
            json!({"phase": "Failed", "initContainerStatuses": [{"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
            "Init:Error",
        ),
        (
            &one,
            json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}),
            "ImagePullBackOff",
        ),
        (&one, json!({"phase": "Succeeded", "containerStatuses": [done]}), "Completed"),
        (
            &one,
            json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
            "ExitCode:3",
        ),
        (&one, json!({"phase": "Failed", "reason": "DeadlineExceeded"}), "DeadlineExceeded"),
        (
            &one,
            json!({"phase": "Running", "containerStatuses": [{"ready": true, "state": {"running": {}}}]}),
            "Running",
        ),
    ];
    for (spec, status, wanted) in table {
        assert_eq!(word(spec.clone(), status), wanted);
    }
}
