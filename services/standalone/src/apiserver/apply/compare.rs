//! What an update changed, field by field.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fields::{FieldSet, entry};
use crate::apiserver::schema::{ListKind, Structural};

/// The difference of two objects.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    /// What is new or different.
    pub(super) fn set(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    pub(super) fn without_identity(self) -> Self {
        Self {
            added: self.added.without_identity(),
            modified: self.modified.without_identity(),
            removed: self.removed.without_identity(),
        }
    }
}

/// Compares two objects of one schema.
pub(super) fn compare(schema: &Structural, before: &Value, after: &Value) -> Changes {
    let mut changes = Changes::default();
    both(Some(schema), before, after, &mut changes);
    changes
}

fn both(schema: Option<&Structural>, before: &Value, after: &Value, changes: &mut Changes) {
    if before == after {
        return;
    }
    match (before, after) {
        (Value::Object(old), Value::Object(new))
            if !(schema.is_some_and(|s| s.atomic_map) || old.is_empty() && new.is_empty()) =>
        {
            for (name, value) in old {
                let child = schema.and_then(|s| s.member(name));
                at(&format!("f:{name}"), changes, |changes| match new.get(name) {
                    Some(other) => both(child, value, other, changes),
                    None => one(child, value, &mut changes.removed),
                });
            }
            for (name, value) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
                let child = schema.and_then(|s| s.member(name));
                at(&format!("f:{name}"), changes, |changes| one(child, value, &mut changes.added));
            }
        }
        (Value::Array(old), Value::Array(new))
            if schema.is_some_and(|s| s.list != ListKind::Atomic) =>
        {
            entries(schema, old, new, changes);
        }
        _ => changes.modified.owned = true,
    }
}

fn entries(schema: Option<&Structural>, old: &[Value], new: &[Value], changes: &mut Changes) {
    let Some(schema) = schema else { return };
    let index = |list: &[Value]| -> BTreeMap<String, Value> {
        list.iter().filter_map(|item| Some((entry(schema, item)?, item.clone()))).collect()
    };
    let (old, new) = (index(old), index(new));
    for (step, value) in &old {
        at(step, changes, |changes| match new.get(step) {
            Some(other) => both(schema.item(), value, other, changes),
            None => one(schema.item(), value, &mut changes.removed),
        });
    }
    for (step, value) in new.iter().filter(|(step, _)| !old.contains_key(*step)) {
        at(step, changes, |changes| one(schema.item(), value, &mut changes.added));
    }
}

/// Everything of a value that is on one side only: the field itself and all below it.
fn one(schema: Option<&Structural>, value: &Value, set: &mut FieldSet) {
    set.owned = true;
    match value {
        Value::Object(map) if !schema.is_some_and(|s| s.atomic_map) => {
            for (name, member) in map {
                let child = set.children.entry(format!("f:{name}")).or_default();
                one(schema.and_then(|s| s.member(name)), member, child);
            }
        }
        Value::Array(list) => {
            let Some(schema) = schema else { return };
            for item in list {
                if let Some(step) = entry(schema, item) {
                    one(schema.item(), item, set.children.entry(step).or_default());
                }
            }
        }
        _ => {}
    }
}

/// Goes one step down in all three sets, and leaves no empty nodes behind.
fn at(step: &str, changes: &mut Changes, walk: impl FnOnce(&mut Changes)) {
    let mut below = Changes::default();
    walk(&mut below);
    for (set, child) in [
        (&mut changes.added, below.added),
        (&mut changes.modified, below.modified),
        (&mut changes.removed, below.removed),
    ] {
        if !child.is_empty() {
            set.children.insert(step.to_owned(), child);
        }
    }
}
