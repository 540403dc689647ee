//! A configuration into an object, and out of it again.

use serde_json::{Map, Value};

use super::fields::{FieldSet, entry};
use crate::apiserver::schema::{ListKind, Structural};

/// Whether every entry of a keyed list names its keys, and names them once.
pub(super) fn check(schema: &Structural, value: &Value, path: &str) -> Result<(), String> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(name, member)| {
            let child = schema.member(name);
            child.map_or(Ok(()), |child| check(child, member, &format!("{path}.{name}")))
        }),
        Value::Array(list) => {
            let mut seen = Vec::new();
            for (index, item) in list.iter().enumerate() {
                if let ListKind::Map(keys) = &schema.list {
                    let Some(step) = entry(schema, item) else {
                        let missing = keys.iter().find(|key| item.get(key.as_str()).is_none());
                        return Err(format!(
                            "failed to create typed patch object: {path}: element {index}: \
                             associative list with keys has an element that omits key field \
                             {:?} (and doesn't have default value)",
                            missing.map_or("", String::as_str)
                        ));
                    };
                    if seen.contains(&step) {
                        return Err(format!(
                            "failed to create typed patch object: {path}: duplicate entries for \
                             key [{}]",
                            step.trim_start_matches("k:")
                        ));
                    }
                    seen.push(step);
                }
                if let Some(child) = schema.item() {
                    check(child, item, &format!("{path}[{index}]"))?;
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// An explicit null in a configuration says nothing.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Merges a configuration into an object.
pub(super) fn merge(schema: &Structural, object: &mut Value, applied: &Value) {
    merge_at(Some(schema), object, applied);
}

fn merge_at(schema: Option<&Structural>, object: &mut Value, applied: &Value) {
    match (object, applied) {
        (Value::Object(object), Value::Object(applied))
            if !schema.is_some_and(|s| s.atomic_map) =>
        {
            for (name, value) in applied {
                let child = schema.and_then(|s| s.member(name));
                match object.get_mut(name) {
                    Some(current) => merge_at(child, current, value),
                    None => {
                        object.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(object), Value::Array(applied))
            if schema.is_some_and(|s| s.list != ListKind::Atomic) =>
        {
            merge_list(schema, object, applied);
        }
        (object, applied) => *object = applied.clone(),
    }
}

/// The applied entries in their order; entries that only the object has stay where they were
/// among them.
fn merge_list(schema: Option<&Structural>, object: &mut Vec<Value>, applied: &[Value]) {
    let Some(schema) = schema else { return };
    let named = |item: &Value| entry(schema, item).unwrap_or_default();
    let live: Vec<(String, Value)> = object.drain(..).map(|item| (named(&item), item)).collect();
    let wanted: Vec<String> = applied.iter().map(named).collect();
    let mut result = Vec::with_capacity(live.len() + applied.len());
    let mut next = 0;
    for (position, (name, value)) in wanted.iter().zip(applied).enumerate() {
        while let Some((own, item)) = live.get(next) {
            if !wanted.contains(own) {
                result.push(item.clone());
            } else if !wanted[..position].contains(own) {
                break;
            }
            next += 1;
        }
        let mut item =
            live.iter().find(|(own, _)| own == name).map_or(Value::Null, |l| l.1.clone());
        merge_at(schema.item(), &mut item, value);
        result.push(item);
    }
    let rest = live.into_iter().skip(next).filter(|(own, _)| !wanted.contains(own));
    result.extend(rest.map(|(_, item)| item));
    *object = result;
}

/// Removes what `last` had and nobody has any more.
pub(super) fn remove(schema: &Structural, object: &mut Value, last: &FieldSet, owned: &FieldSet) {
    remove_at(Some(schema), object, last, owned);
}

fn remove_at(schema: Option<&Structural>, value: &mut Value, last: &FieldSet, owned: &FieldSet) {
    match value {
        Value::Object(map) => {
            for (step, child) in &last.children {
                let Some(name) = step.strip_prefix("f:") else { continue };
                match owned.children.get(step) {
                    None => {
                        map.shift_remove(name);
                    }
                    Some(owners) => {
                        if let Some(member) = map.get_mut(name) {
                            remove_at(schema.and_then(|s| s.member(name)), member, child, owners);
                        }
                    }
                }
            }
        }
        Value::Array(list) => {
            let Some(schema) = schema.filter(|s| s.list != ListKind::Atomic) else { return };
            list.retain_mut(|item| {
                let Some(step) = entry(schema, item) else { return true };
                let Some(child) = last.children.get(&step) else { return true };
                let Some(owners) = owned.children.get(&step) else { return false };
                let keys = keys_of(schema, item);
                remove_at(schema.item(), item, child, owners);
                if let Value::Object(item) = item {
                    item.extend(keys);
                }
                true
            });
        }
        _ => {}
    }
}

/// The fields that identify an entry: they stay as long as it does.
fn keys_of(schema: &Structural, item: &Value) -> Map<String, Value> {
    match &schema.list {
        ListKind::Map(keys) => {
            keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone()))).collect()
        }
        ListKind::Atomic | ListKind::Set => Map::new(),
    }
}
