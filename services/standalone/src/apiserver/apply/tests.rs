use chrono::TimeZone;
use kube::core::GroupVersionKind;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn schema() -> Structural {
    Structural::compile(&json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "properties": {
            "schedule": {"type": "string"},
            "paused": {"type": "boolean"},
            "target": {"type": "object", "properties": {"kind": {"type": "string"}, "name": {"type": "string"}}},
            "params": {"type": "object", "additionalProperties": {"type": "string"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "steps": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {"name": {"type": "string"}, "run": {"type": "string"}, "as": {"type": "string"}}},
            },
        },
    }}}))
    .unwrap()
}

fn config(spec: Value) -> Value {
    json!({"apiVersion": "stash.appscode.com/v1beta1", "kind": "B", "metadata": {"name": "x"}, "spec": spec})
}

fn at(second: u32) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 1, 0, 0, second).unwrap()
}

fn apply(live: Option<&Value>, spec: Value, manager: &str, second: u32) -> Result<Value, Error> {
    server_side(&schema(), live, &config(spec), manager, false, at(second), None)
}

fn owners(object: &Value) -> Vec<(String, Value)> {
    let list = object["metadata"]["managedFields"].as_array().unwrap();
    list.iter()
        .map(|m| {
            (
                format!("{} {}", m["manager"].as_str().unwrap(), m["operation"].as_str().unwrap()),
                m["fieldsV1"].clone(),
            )
        })
        .collect()
}

#[test]
fn a_configuration_owns_what_it_says() {
    let object = apply(
        None,
        json!({"schedule": "* * * * *", "params": {"a": "1"}, "plain": ["x"], "set": ["x"], "steps": [{"name": "s", "run": "r"}], "target": {}}),
        "me",
        0,
    )
    .unwrap();
    assert_eq!(
        owners(&object),
        [(
            "me Apply".to_owned(),
            json!({"f:spec": {
                "f:params": {"f:a": {}}, "f:plain": {}, "f:schedule": {}, "f:set": {"v:\"x\"": {}},
                "f:steps": {"k:{\"name\":\"s\"}": {".": {}, "f:name": {}, "f:run": {}}}, "f:target": {},
            }})
        )]
    );
    let managed = &object["metadata"]["managedFields"][0];
    assert_eq!(managed["time"], "2026-01-01T00:00:00Z");
    assert_eq!(managed["apiVersion"], "stash.appscode.com/v1beta1");
    assert_eq!(managed["fieldsType"], "FieldsV1");
}

#[test]
fn what_is_no_longer_applied_goes_unless_somebody_else_has_it() {
    let first = apply(None, json!({"schedule": "s", "paused": true, "target": {"kind": "K", "name": "n"}, "steps": [{"name": "a", "run": "1"}, {"name": "b"}]}), "me", 0).unwrap();
    let second = apply(
        Some(&first),
        json!({"target": {"name": "n"}, "steps": [{"name": "b", "as": "x"}, {"name": "c"}]}),
        "other",
        1,
    )
    .unwrap();
    assert_eq!(
        second["spec"]["steps"],
        json!([{"name": "a", "run": "1"}, {"name": "b", "as": "x"}, {"name": "c"}])
    );
    let third = apply(Some(&second), json!({"schedule": "s"}), "me", 2).unwrap();
    assert_eq!(
        third["spec"],
        json!({"schedule": "s", "target": {"name": "n"}, "steps": [{"name": "b", "as": "x"}, {"name": "c"}]})
    );
    assert_eq!(third["metadata"]["name"], "x");
    assert_eq!(
        owners(&third)[0].1["f:spec"],
        json!({"f:steps": {"k:{\"name\":\"b\"}": {".": {}, "f:as": {}, "f:name": {}}, "k:{\"name\":\"c\"}": {".": {}, "f:name": {}}}, "f:target": {"f:name": {}}})
    );
}

#[test]
fn nothing_new_changes_nothing() {
    let first = apply(None, json!({"schedule": "s", "steps": [{"name": "a"}]}), "me", 0).unwrap();
    assert_eq!(
        apply(Some(&first), json!({"schedule": "s", "steps": [{"name": "a"}]}), "me", 9).unwrap(),
        first
    );
}

#[test]
fn a_conflict_names_manager_and_field() {
    let mut object = config(json!({"schedule": "s", "paused": false}));
    track_update(&schema(), None, &mut object, "kubectl-client-side-apply", None, at(0));
    assert_eq!(owners(&object)[0].1["f:spec"], json!({".": {}, "f:paused": {}, "f:schedule": {}}));
    let error = apply(Some(&object), json!({"schedule": "t"}), "me", 1).unwrap_err();
    let status = error.status("stash.appscode.com", "B", "x");
    let wanted = "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using \
                  stash.appscode.com/v1beta1: .spec.schedule";
    assert_eq!(error.to_string(), wanted);
    assert_eq!(status["message"], wanted);
    assert_eq!(status["code"], 409);
    assert_eq!(status["details"]["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(status["details"]["causes"][0]["field"], ".spec.schedule");
    let error =
        apply(Some(&object), json!({"schedule": "t", "paused": true}), "me", 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using \
         stash.appscode.com/v1beta1:\n- .spec.paused\n- .spec.schedule"
    );
    // The same value is shared, not fought over.
    let shared = apply(Some(&object), json!({"schedule": "s"}), "me", 1).unwrap();
    assert_eq!(owners(&shared).len(), 2);
    // Force takes the field.
    let forced = server_side(
        &schema(),
        Some(&object),
        &config(json!({"schedule": "t"})),
        "me",
        true,
        at(1),
        None,
    )
    .unwrap();
    assert_eq!(forced["spec"]["schedule"], "t");
    assert_eq!(owners(&forced)[0], ("me Apply".into(), json!({"f:spec": {"f:schedule": {}}})));
    assert_eq!(owners(&forced)[1].1["f:spec"], json!({".": {}, "f:paused": {}}));
}

#[test]
fn kubectl_takes_over_from_its_client_side_apply() {
    let mut object = config(json!({"schedule": "s"}));
    let last = object.to_string();
    object["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": last});
    track_update(&schema(), None, &mut object, "kubectl-client-side-apply", None, at(0));
    assert!(apply(Some(&object), json!({"schedule": "t"}), "somebody", 1).is_err());
    assert_eq!(
        apply(Some(&object), json!({"schedule": "t"}), "kubectl", 1).unwrap()["spec"]["schedule"],
        "t"
    );
}

#[test]
fn updates_are_recorded_by_manager_and_subresource() {
    let first = apply(None, json!({"schedule": "s"}), "me", 0).unwrap();
    let mut second = first.clone();
    second["status"] = json!({"phase": "Ready"});
    track_update(&schema(), Some(&first), &mut second, "orchestrator", Some("status"), at(5));
    assert_eq!(
        owners(&second)[1],
        ("orchestrator Update".into(), json!({"f:status": {".": {}, "f:phase": {}}}))
    );
    assert_eq!(second["metadata"]["managedFields"][1]["subresource"], "status");
    // An update that changes nothing moves no time.
    let mut third = second.clone();
    track_update(&schema(), Some(&second), &mut third, "orchestrator", Some("status"), at(9));
    assert_eq!(third, second);
    // An update takes the field from the applier.
    let mut fourth = third.clone();
    fourth["spec"]["schedule"] = json!("u");
    track_update(&schema(), Some(&third), &mut fourth, "edit", None, at(10));
    assert_eq!(
        owners(&fourth).iter().map(|o| o.0.as_str()).collect::<Vec<_>>(),
        ["orchestrator Update", "edit Update"]
    );
    // Without managed fields in the request, the stored ones go on.
    let mut fifth = fourth.clone();
    managed::detach(&mut fifth);
    track_update(&schema(), Some(&fourth), &mut fifth, "edit", None, at(11));
    assert_eq!(fifth, fourth);
}

#[test]
fn built_in_kinds_merge_by_their_keys() {
    let job = Structural::builtin(&GroupVersionKind::gvk("batch", "v1", "Job")).unwrap();
    let config = |env: Value| json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": [{"name": "c", "env": env}]}}}});
    let first = server_side(
        &job,
        None,
        &config(json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}])),
        "one",
        false,
        at(0),
        None,
    )
    .unwrap();
    let second = server_side(
        &job,
        Some(&first),
        &config(json!([{"name": "C", "value": "3"}])),
        "two",
        false,
        at(0),
        None,
    )
    .unwrap();
    let third = server_side(
        &job,
        Some(&second),
        &config(json!([{"name": "B", "value": "2"}])),
        "one",
        false,
        at(0),
        None,
    )
    .unwrap();
    assert_eq!(
        third.pointer("/spec/template/spec/containers/0/env"),
        Some(&json!([{"name": "B", "value": "2"}, {"name": "C", "value": "3"}])),
    );
}

#[test]
fn a_malformed_configuration_is_refused() {
    let error = apply(None, json!({"steps": [{"run": "r"}]}), "me", 0).unwrap_err();
    assert!(error.to_string().contains(".spec.steps: element 0: associative list with keys has an element that omits key field \"name\""), "{error}");
    let error = apply(None, json!({"steps": [{"name": "a"}, {"name": "a"}]}), "me", 0).unwrap_err();
    assert!(error.to_string().contains("duplicate entries"), "{error}");
    let mut owned = config(json!({}));
    owned["metadata"]["managedFields"] = json!([]);
    assert!(server_side(&schema(), None, &owned, "me", false, at(0), None).is_err());
}

fn specs() -> impl Strategy<Value = Value> {
    let steps = proptest::collection::btree_map(0..4u8, proptest::option::of("[a-c]"), 0..4);
    let params = proptest::collection::btree_map("[a-c]", "[x-z]", 0..3);
    let set = proptest::collection::btree_set("[a-d]", 0..3);
    let schedule = proptest::option::of("[a-b]");
    (steps, params, set, schedule).prop_map(|(steps, params, set, schedule)| {
        let steps: Vec<Value> = steps
            .into_iter()
            .map(|(name, run)| match run {
                Some(run) => json!({"name": format!("s{name}"), "run": run}),
                None => json!({"name": format!("s{name}")}),
            })
            .collect();
        let mut spec = json!({"steps": steps, "params": params, "set": set});
        if let Some(schedule) = schedule {
            spec["schedule"] = json!(schedule);
        }
        spec
    })
}

fn force(live: Option<&Value>, spec: &Value, manager: &str) -> Value {
    server_side(&schema(), live, &config(spec.clone()), manager, true, at(0), None).unwrap()
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in specs(), second in specs()) {
        let once = force(Some(&force(None, &first, "a")), &second, "b");
        prop_assert_eq!(force(Some(&once), &second, "b"), once);
    }

    #[test]
    fn an_only_manager_decides_alone(first in specs(), second in specs()) {
        let after = force(Some(&force(None, &first, "a")), &second, "a");
        let fresh = force(None, &second, "a");
        let spec = |object: &Value| {
            let mut spec = object["spec"].clone();
            for list in ["steps", "set"] {
                let list = spec[list].as_array_mut().unwrap();
                list.sort_by_key(ToString::to_string);
            }
            spec
        };
        prop_assert_eq!(spec(&after), spec(&fresh));
        prop_assert_eq!(&after["metadata"], &fresh["metadata"]);
    }

    #[test]
    fn leaving_gives_back_what_was(first in specs(), second in specs()) {
        let alone = force(None, &first, "a");
        let shared = force(Some(&alone), &second, "b");
        let left = force(Some(&shared), &json!({}), "b");
        for (name, value) in first["params"].as_object().unwrap() {
            // What both set went to b by force when it differed, and left with b.
            let same = second["params"].get(name).is_none_or(|other| other == value);
            prop_assert_eq!(left["spec"]["params"].get(name).is_some(), same);
        }
        for name in second["params"].as_object().unwrap().keys() {
            if first["params"].get(name).is_none() {
                prop_assert!(left["spec"]["params"].get(name).is_none());
            }
        }
    }
}
