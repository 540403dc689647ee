use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pod() -> GroupVersionKind {
    GroupVersionKind::gvk("", "v1", "Pod")
}

#[test]
fn strategic_merges_as_kubernetes_does() {
    let table = [
        // keyed list: merged by name, new ones at the end
        (
            json!({"spec": {"containers": [{"name": "a", "image": "1", "tty": true}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "2"}, {"name": "b", "image": "3"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "2", "tty": true}, {"name": "b", "image": "3"}]}}),
        ),
        // deletion from a keyed list, and a null
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}], "nodeName": "n"}}),
            json!({"spec": {"containers": [{"name": "a", "$patch": "delete"}], "nodeName": null}}),
            json!({"spec": {"containers": [{"name": "b"}]}}),
        ),
        // a list without a merge rule is replaced
        (
            json!({"spec": {"tolerations": [{"key": "a"}, {"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "c"}]}}),
            json!({"spec": {"tolerations": [{"key": "c"}]}}),
        ),
        // $patch: replace, of a map and of a list
        (
            json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a"}]}}),
            json!({"metadata": {"labels": {"b": "2", "$patch": "replace"}}, "spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}}),
            json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "z"}]}}),
        ),
        // primitive list: union, and deletion
        (
            json!({"metadata": {"finalizers": ["a", "b"]}}),
            json!({"metadata": {"finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}),
            json!({"metadata": {"finalizers": ["b", "c"]}}),
        ),
        // element order, with an entry that only the server has
        (
            json!({"spec": {"containers": [{"name": "a"}, {"name": "s"}, {"name": "b"}]}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}], "containers": [{"name": "b", "image": "x"}]}}),
            json!({"spec": {"containers": [{"name": "s"}, {"name": "b", "image": "x"}, {"name": "a"}]}}),
        ),
        // retainKeys
        (
            json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}}),
        ),
        // directives leave no trace in what is new
        (
            json!({}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "a", "env": [{"name": "X", "$patch": "delete"}], "tty": null}]}}),
            json!({"spec": {"containers": [{"name": "a", "env": []}]}}),
        ),
    ];
    for (before, patch, wanted) in table {
        let mut object = before;
        strategic(&pod(), &mut object, &patch).unwrap();
        assert_eq!(object, wanted, "patch {patch}");
    }
}

#[test]
fn refusals_leave_the_object_alone() {
    let before = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}]}});
    let mut object = before.clone();
    let nameless = json!({"spec": {"nodeName": "n", "containers": [{"image": "x"}]}});
    let error = strategic(&pod(), &mut object, &nameless).unwrap_err();
    assert_eq!(error.code(), 400);
    assert!(error.to_string().contains("does not contain declared merge key: name"), "{error}");
    let custom = GroupVersionKind::gvk("stash.appscode.com", "v1beta1", "BackupSession");
    assert_eq!(strategic(&custom, &mut object, &json!({})).unwrap_err().code(), 415);
    let operations = json!([
        {"op": "add", "path": "/spec/x", "value": 1},
        {"op": "test", "path": "/metadata/name", "value": "y"},
    ]);
    assert_eq!(json(&mut object, &operations).unwrap_err().code(), 422);
    assert_eq!(json(&mut object, &json!({"op": "add"})).unwrap_err().code(), 400);
    assert_eq!(object, before);
    json(&mut object, &json!([{"op": "remove", "path": "/metadata/name"}])).unwrap();
    assert_eq!(object["metadata"], json!({}));
}

fn containers() -> impl Strategy<Value = Value> {
    let one = (0..5u8, proptest::option::of(0..3u8)).prop_map(|(name, image)| match image {
        Some(image) => json!({"name": format!("c{name}"), "image": format!("i{image}")}),
        None => json!({"name": format!("c{name}")}),
    });
    proptest::collection::vec(one, 0..5).prop_map(|mut list| {
        let mut seen = Vec::new();
        list.retain(|c| {
            let fresh = !seen.contains(&c["name"]);
            seen.push(c["name"].clone());
            fresh
        });
        json!({"spec": {"containers": list}})
    })
}

proptest! {
    #[test]
    fn a_strategic_patch_twice_is_a_patch_once(before in containers(), patch in containers()) {
        let mut once = before;
        strategic(&pod(), &mut once, &patch).unwrap();
        let mut twice = once.clone();
        strategic(&pod(), &mut twice, &patch).unwrap();
        prop_assert_eq!(&once, &twice);
        for wanted in patch["spec"]["containers"].as_array().unwrap() {
            let found = once["spec"]["containers"].as_array().unwrap().iter().any(|c| {
                c["name"] == wanted["name"] && wanted.get("image").is_none_or(|i| c.get("image") == Some(i))
            });
            prop_assert!(found);
        }
    }
}
