//! Decisions about RestoreBatches whose members' names are taken.

use super::*;
use serde_json::json;

fn batch() -> RestoreBatch {
    serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "RestoreBatch",
        "metadata": {"name": "all", "namespace": "demo", "uid": "new", "creationTimestamp": "2026-11-23T10:00:00Z"},
        "spec": {"repository": {"name": "repo"}, "timeOut": "10m", "members": [
            {"target": {"ref": {"apiVersion": "appcatalog.appscode.com/v1alpha1", "kind": "AppBinding", "name": "orders"}}}]}}))
    .unwrap()
}

/// A restore of the member's name that succeeded.
fn restored(owner: &str) -> RestoreSession {
    serde_json::from_value(json!({
        "apiVersion": "stash.appscode.com/v1beta1", "kind": "RestoreSession",
        "metadata": {"name": "all-0", "namespace": "demo", "uid": "r", "ownerReferences": [
            {"apiVersion": "stash.appscode.com/v1beta1", "kind": "RestoreBatch", "name": "all", "uid": owner, "controller": true}]},
        "spec": {}, "status": {"phase": "Succeeded"}}))
    .unwrap()
}

fn pass(object: &mut RestoreBatch, members: &[Option<RestoreSession>], now: &str) -> Vec<Action> {
    let plan = decide(object, members, now.parse().unwrap(), &Settings::default());
    object.status = plan.status;
    plan.actions
}

#[test]
fn what_an_earlier_batch_of_the_name_came_to_is_not_this_ones_end() {
    let phase = |object: &RestoreBatch| object.status.as_ref().unwrap().phase.unwrap();
    let (old, own) = ([Some(restored("old"))], [Some(restored("new"))]);
    let mut object = batch();
    // What the garbage collector has not come to yet is waited for: the name is asked for until it is free.
    let actions = pass(&mut object, &old, "2026-11-23T10:00:05Z");
    assert!(matches!(&actions[..], [Action::CreateRestore(_)]), "{actions:?}");
    assert_eq!(phase(&object), RestorePhase::Pending);
    pass(&mut object, &own, "2026-11-23T10:05:00Z");
    assert_eq!(phase(&object), RestorePhase::Succeeded);
    // One that stays is somebody's. No status was ever written, since the member could not be made.
    let mut object = batch();
    assert!(pass(&mut object, &old, "2026-11-23T10:10:00Z").is_empty());
    assert_eq!(phase(&object), RestorePhase::Failed);
}
