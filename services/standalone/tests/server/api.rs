//! The API server as kube-rs sees it, in process: objects, patches, watches, deletion, restart.

use crate::support::{World, code, eventually, object, widget};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Secret, ServiceAccount};
use kube::api::{
    DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, WatchEvent,
    WatchParams,
};
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;

fn config_map(name: &str, value: &str) -> ConfigMap {
    object(json!({"metadata": {"name": name}, "data": {"key": value}}))
}

#[tokio::test]
async fn an_object_is_created_read_replaced_and_deleted() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let again = maps.create(&PostParams::default(), &config_map("a", "1")).await;
    assert_eq!(code(again), (409, "configmaps \"a\" already exists".into()));

    let mut first = maps.get("a").await.unwrap();
    let mut second = first.clone();
    first.data.as_mut().unwrap().insert("key".into(), "2".into());
    let first = maps.replace("a", &PostParams::default(), &first).await.unwrap();
    second.data.as_mut().unwrap().insert("key".into(), "3".into());
    let late = maps.replace("a", &PostParams::default(), &second).await;
    let (status, message) = code(late);
    assert_eq!(status, 409);
    assert!(message.ends_with("please apply your changes to the latest version and try again"));
    let same = maps.replace("a", &PostParams::default(), &first).await.unwrap();
    assert_eq!(same.resource_version(), first.resource_version(), "nothing changed");

    let elsewhere: Api<ConfigMap> = Api::namespaced(world.client.clone(), "nowhere");
    let lost = elsewhere.create(&PostParams::default(), &config_map("a", "1")).await;
    assert_eq!(code(lost), (404, "namespaces \"nowhere\" not found".into()));
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    maps.create(&dry, &config_map("dry", "1")).await.unwrap();
    assert_eq!(maps.get_opt("dry").await.unwrap(), None);
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(maps.get("a").await), (404, "configmaps \"a\" not found".into()));
    let named = object::<ConfigMap>(json!({"metadata": {"generateName": "gen-"}}));
    let named = maps.create(&PostParams::default(), &named).await.unwrap();
    assert!(named.name_any().starts_with("gen-") && named.name_any().len() == 9);
}

#[tokio::test]
async fn a_custom_kind_keeps_to_its_schema_and_splits_off_its_status() {
    let world = World::start().await.with_widgets().await;
    let widgets = world.widgets();
    let (status, message) =
        code(widgets.create(&PostParams::default(), &widget("w", json!({"size": "x"}))).await);
    assert_eq!(status, 422);
    assert!(message.contains("Widget.example.com \"w\" is invalid: spec.size"), "{message}");
    let (_, message) =
        code(widgets.create(&PostParams::default(), &widget("w", json!({"color": "red"}))).await);
    assert!(message.contains("spec.size: Required value"), "{message}");

    let extra = json!({"size": 1, "unknown": true});
    let made = widgets.create(&PostParams::default(), &widget("w", extra)).await.unwrap();
    assert_eq!(made.data["spec"], json!({"size": 1, "color": "red"}), "pruned and defaulted");
    assert_eq!(made.metadata.generation, Some(1));

    let status = json!({"status": {"phase": "Ready"}, "spec": {"size": 9}});
    let merge = Patch::Merge(&status);
    let patched = widgets.patch_status("w", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(
        (&patched.data["status"]["phase"], &patched.data["spec"]["size"]),
        (&json!("Ready"), &json!(1))
    );
    assert_eq!(patched.metadata.generation, Some(1), "status is no new generation");
    let both = json!({"status": {"phase": "Lost"}, "spec": {"size": 2}});
    let merge = Patch::Merge(&both);
    let patched = widgets.patch("w", &PatchParams::default(), &merge).await.unwrap();
    assert_eq!(
        (&patched.data["status"]["phase"], &patched.data["spec"]["size"]),
        (&json!("Ready"), &json!(2))
    );
    assert_eq!(patched.metadata.generation, Some(2));
    let strategic = Patch::Strategic(&both);
    assert_eq!(code(widgets.patch("w", &PatchParams::default(), &strategic).await).0, 415);
}

#[tokio::test]
async fn server_side_apply_knows_who_owns_what() {
    let world = World::start().await.with_widgets().await;
    let widgets = world.widgets();
    let apply = |manager: &str| PatchParams::apply(manager);
    let one = widget("w", json!({"size": 1}));
    let made = widgets.patch("w", &apply("one"), &Patch::Apply(&one)).await.unwrap();
    let again = widgets.patch("w", &apply("one"), &Patch::Apply(&one)).await.unwrap();
    assert_eq!(made.resource_version(), again.resource_version(), "a repeat is free");
    let two = widget("w", json!({"size": 2}));
    let (status, message) = code(widgets.patch("w", &apply("two"), &Patch::Apply(&two)).await);
    assert_eq!(status, 409);
    assert!(
        message.contains("conflict with \"one\"") && message.contains(".spec.size"),
        "{message}"
    );
    let forced = widgets.patch("w", &apply("two").force(), &Patch::Apply(&two)).await.unwrap();
    assert_eq!(forced.data["spec"]["size"], 2);
    let status = object::<kube::api::DynamicObject>(json!({"apiVersion": "example.com/v1",
        "kind": "Widget", "metadata": {"name": "w"}, "status": {"phase": "Ready"}}));
    let patched = widgets.patch_status("w", &apply("one"), &Patch::Apply(&status)).await.unwrap();
    assert_eq!(patched.data["status"]["phase"], "Ready");

    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "default");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"},
        "stringData": {"a": "b"}});
    let made = secrets.patch("s", &apply("one"), &Patch::Apply(&secret)).await.unwrap();
    assert_eq!(made.data.unwrap()["a"].0, b"b");
}

#[tokio::test]
async fn a_watch_tells_every_change_and_resumes_where_it_was() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    let start = maps.list(&ListParams::default()).await.unwrap();
    let version = start.metadata.resource_version.unwrap();
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &config_map(name, "1")).await.unwrap();
    }
    let labels = json!({"metadata": {"labels": {"app": "x"}}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
    maps.delete("b", &DeleteParams::default()).await.unwrap();
    let gone = json!({"metadata": {"labels": {"app": null}}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&gone)).await.unwrap();

    let told = |params: WatchParams, count: usize| {
        let (maps, version) = (maps.clone(), version.clone());
        async move {
            let events = maps.watch(&params, &version).await.unwrap().take(count);
            let words = events.map_ok(|event| match event {
                WatchEvent::Added(map) => format!("+{}", map.name_any()),
                WatchEvent::Modified(map) => format!("~{}", map.name_any()),
                WatchEvent::Deleted(map) => format!("-{}", map.name_any()),
                other => format!("{other:?}"),
            });
            words.try_collect::<Vec<String>>().await.unwrap()
        }
    };
    assert_eq!(told(WatchParams::default(), 5).await, ["+a", "+b", "~a", "-b", "~a"]);
    // With a selector, an object that gains or loses the label comes and goes.
    assert_eq!(told(WatchParams::default().labels("app=x"), 2).await, ["+a", "-a"]);
    assert_eq!(told(WatchParams::default().fields("metadata.name=b"), 2).await, ["+b", "-b"]);
}

#[tokio::test]
async fn a_version_that_is_forgotten_is_gone_and_watchers_start_again() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let world = world.restart().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    let mut stream = maps.watch(&WatchParams::default(), "1").await.unwrap().boxed();
    match stream.try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
        }
        other => panic!("{other:?}"),
    }
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = watcher(maps.clone(), config).boxed();
        let mut names = Vec::new();
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                watcher::Event::InitApply(map) => names.push(map.name_any()),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(names, ["a"]);
    }
}

#[tokio::test]
async fn lists_come_in_pages_and_by_selector() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    for n in 0..7 {
        let map: ConfigMap = object(json!({"metadata": {"name": format!("m{n}"),
            "labels": {"parity": if n % 2 == 0 { "even" } else { "odd" }}}}));
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let mut params = ListParams::default().limit(3);
    let mut names = Vec::new();
    loop {
        let page = maps.list(&params).await.unwrap();
        assert!(page.items.len() <= 3);
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    assert_eq!(names, ["m0", "m1", "m2", "m3", "m4", "m5", "m6"]);
    let odd = maps.list(&ListParams::default().labels("parity in (odd)")).await.unwrap();
    assert_eq!(odd.items.len(), 3);
    let wrong = maps.list(&ListParams::default().fields("spec.nothing=1")).await;
    assert_eq!(code(wrong), (400, "field label not supported: spec.nothing".into()));
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("parity=odd"))
        .await
        .unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 4);
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    let held: ConfigMap = object(json!({"metadata": {"name": "a",
        "finalizers": ["example.com/one", "example.com/two"]}}));
    maps.create(&PostParams::default(), &held).await.unwrap();
    let waiting = maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(waiting.left().unwrap().metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["example.com/one", "example.com/three"]}});
    let (status, message) =
        code(maps.patch("a", &PatchParams::default(), &Patch::Merge(&more)).await);
    assert_eq!(status, 422);
    assert!(message.contains("no new finalizers can be added"), "{message}");
    for left in [json!(["example.com/two"]), json!(null)] {
        assert!(maps.get_opt("a").await.unwrap().is_some());
        let patch = json!({"metadata": {"finalizers": left}});
        maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }
    assert_eq!(maps.get_opt("a").await.unwrap(), None);
    let precise = DeleteParams {
        preconditions: Some(kube::api::Preconditions {
            uid: Some("another".into()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert_eq!(code(maps.delete("a", &precise).await).0, 409);
}

fn owned(name: &str, owner: &ConfigMap, blocks: bool) -> ConfigMap {
    object(json!({"metadata": {"name": name, "ownerReferences": [{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner.name_any(),
        "uid": owner.uid().unwrap(), "blockOwnerDeletion": blocks,
    }]}}))
}

#[tokio::test]
async fn dependents_follow_their_owner_in_the_way_that_is_asked() {
    let world = World::start().await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "default");
    let post = PostParams::default();
    let there = async |name: &str| maps.get_opt(name).await.unwrap().is_some();
    for (policy, stays) in [
        (PropagationPolicy::Background, false),
        (PropagationPolicy::Foreground, false),
        (PropagationPolicy::Orphan, true),
    ] {
        let owner = maps.create(&post, &config_map("owner", "1")).await.unwrap();
        maps.create(&post, &owned("child", &owner, true)).await.unwrap();
        let child = maps.get("child").await.unwrap();
        maps.create(&post, &owned("grandchild", &child, false)).await.unwrap();
        let how = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        maps.delete("owner", &how).await.unwrap();
        eventually("the owner goes", || async { !there("owner").await }).await;
        if stays {
            let child = maps.get("child").await.unwrap();
            assert!(child.owner_references().is_empty(), "the child has forgotten its owner");
            assert!(there("grandchild").await);
        } else {
            eventually("the children go", || async {
                !there("child").await && !there("grandchild").await
            })
            .await;
        }
    }
    // An owner that is gone already, and one of two.
    let gone = maps.create(&post, &config_map("gone", "1")).await.unwrap();
    maps.delete("gone", &DeleteParams::default()).await.unwrap();
    maps.create(&post, &owned("late", &gone, false)).await.unwrap();
    eventually("a child of nobody goes", || async { !there("late").await }).await;
}

#[tokio::test]
async fn a_namespace_goes_with_all_that_is_in_it_and_a_definition_too() {
    let world = World::start().await.with_widgets().await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let post = PostParams::default();
    let namespace = object(json!({"metadata": {"name": "demo"}}));
    namespaces.create(&post, &namespace).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "demo");
    eventually("the default account", || async {
        accounts.get_opt("default").await.unwrap().is_some()
    })
    .await;
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "demo");
    let held: ConfigMap = object(json!({"metadata": {"name": "a", "finalizers": ["x.io/y"]}}));
    maps.create(&post, &held).await.unwrap();
    namespaces.delete("demo", &DeleteParams::default()).await.unwrap();
    let refused = maps.create(&post, &config_map("b", "1")).await;
    let (status, message) = code(refused);
    assert_eq!(status, 403);
    assert!(message.contains("because it is being terminated"), "{message}");
    assert!(namespaces.get_opt("demo").await.unwrap().is_some(), "held by its content");
    let free = json!({"metadata": {"finalizers": null}});
    eventually("the content is marked", || async {
        maps.get("a").await.unwrap().metadata.deletion_timestamp.is_some()
    })
    .await;
    maps.patch("a", &PatchParams::default(), &Patch::Merge(&free)).await.unwrap();
    eventually("the namespace goes", || async {
        namespaces.get_opt("demo").await.unwrap().is_none()
    })
    .await;

    world.widgets().create(&post, &widget("w", json!({"size": 1}))).await.unwrap();
    let definitions: Api<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> =
        Api::all(world.client.clone());
    definitions.delete("widgets.example.com", &DeleteParams::default()).await.unwrap();
    eventually("the definition goes", || async {
        definitions.get_opt("widgets.example.com").await.unwrap().is_none()
    })
    .await;
    assert_eq!(code(world.widgets().get("w").await).0, 404);
    let world = world.with_widgets().await;
    assert!(world.widgets().list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let world = World::start().await.with_widgets().await;
    let made =
        world.widgets().create(&PostParams::default(), &widget("w", json!({"size": 1}))).await;
    let (made, admin) = (made.unwrap(), world.server.admin_token().to_owned());
    let world = world.restart().await;
    let kept = world.widgets().get("w").await.unwrap();
    assert_eq!(kept, made);
    assert_eq!(world.server.admin_token(), admin);
    let next = json!({"spec": {"size": 2}});
    let next =
        world.widgets().patch("w", &PatchParams::default(), &Patch::Merge(&next)).await.unwrap();
    let number = |object: &kube::api::DynamicObject| {
        object.resource_version().unwrap().parse::<u64>().unwrap()
    };
    assert!(number(&next) > number(&made));
}

#[tokio::test]
async fn an_event_is_seen_through_both_groups() {
    let world = World::start().await;
    let other: Api<k8s_openapi::api::events::v1::Event> =
        Api::namespaced(world.client.clone(), "default");
    let event =
        object(json!({"metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reason": "Test", "note": "hello", "type": "Normal", "action": "Try",
        "reportingController": "test", "reportingInstance": "one",
        "regarding": {"kind": "ConfigMap", "name": "a", "namespace": "default"}}));
    other.create(&PostParams::default(), &event).await.unwrap();
    let core: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let found = core.list(&ListParams::default().fields("involvedObject.name=a")).await.unwrap();
    let messages: Vec<_> = found.items.iter().map(|event| event.message.as_deref()).collect();
    assert_eq!(messages, [Some("hello")]);
    assert_eq!(other.get("e").await.unwrap().note.as_deref(), Some("hello"));
}

#[tokio::test]
async fn discovery_tells_of_built_in_and_custom_kinds() {
    let world = World::start().await.with_widgets().await;
    for aggregated in [false, true] {
        let discovery = kube::Discovery::new(world.client.clone());
        let discovery = if aggregated {
            discovery.run_aggregated().await.unwrap()
        } else {
            discovery.run().await.unwrap()
        };
        let group = discovery.get("example.com").unwrap();
        let (resource, capabilities) = group.recommended_kind("Widget").unwrap();
        assert_eq!(resource.plural, "widgets");
        assert!(capabilities.supports_operation("watch"));
        assert!(capabilities.subresources.iter().any(|(sub, _)| sub.plural.ends_with("status")));
        assert!(discovery.get("batch").unwrap().recommended_kind("CronJob").is_some());
    }
    assert_eq!(world.client.apiserver_version().await.unwrap().minor, "34");
}
