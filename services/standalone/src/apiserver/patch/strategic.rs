//! Strategic merge: a merge patch that knows which lists are keyed, and a few directives.
//!
//! The directives: `$patch: delete | replace | merge` in a map or in an entry of a keyed list,
//! `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>` and `$retainKeys`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Error;
use crate::apiserver::schema::{Strategy, Structural};

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

/// Merges `patch` into `target`.
pub(super) fn merge(
    schema: Option<&Structural>,
    target: &mut Value,
    patch: &Value,
) -> Result<(), Error> {
    let Value::Object(patch) = patch else {
        return Err(Error::Malformed("a strategic merge patch must be an object".into()));
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    match target {
        Value::Object(target) => merge_map(schema, target, patch),
        _ => Ok(()),
    }
}

fn merge_map(
    schema: Option<&Structural>,
    target: &mut Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), Error> {
    match directive(patch)? {
        Some(Directive::Delete) => {
            target.clear();
            return Ok(());
        }
        Some(Directive::Replace) => {
            target.clear();
            target.extend(content(patch).map(|(k, v)| (k.clone(), v.clone())));
            return Ok(());
        }
        Some(Directive::Merge) | None => {}
    }
    if let Some(keep) = patch.get(RETAIN) {
        let keep = list(RETAIN, keep)?;
        target.retain(|key, _| keep.iter().any(|k| k.as_str() == Some(key)));
    }
    for (key, gone) in patch {
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            let gone = list(key, gone)?;
            if let Some(Value::Array(values)) = target.get_mut(field) {
                values.retain(|value| !gone.contains(value));
            }
        }
    }
    for (key, value) in content(patch) {
        let child = schema.and_then(|s| s.member(key));
        let order = patch.get(&format!("{ORDER}{key}"));
        merge_member(child, target, key, value, order)?;
    }
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(ORDER)
            && !patch.contains_key(field)
            && let Some(Value::Array(values)) = target.get_mut(field)
        {
            let child = schema.and_then(|s| s.member(field));
            let before = values.clone();
            reorder(child, values, &before, list(key, order)?);
        }
    }
    Ok(())
}

fn merge_member(
    schema: Option<&Structural>,
    target: &mut Map<String, Value>,
    key: &str,
    patch: &Value,
    order: Option<&Value>,
) -> Result<(), Error> {
    match (patch, target.get_mut(key)) {
        (Value::Null, _) => {
            target.shift_remove(key);
        }
        (Value::Object(patch), Some(Value::Object(current))) => {
            let deleted = matches!(directive(patch)?, Some(Directive::Delete));
            merge_map(schema, current, patch)?;
            if deleted {
                target.shift_remove(key);
            }
        }
        (Value::Object(patch), _) => {
            if !matches!(directive(patch)?, Some(Directive::Delete)) {
                let mut fresh = Map::new();
                merge_map(schema, &mut fresh, patch)?;
                target.insert(key.to_owned(), Value::Object(fresh));
            }
        }
        (Value::Array(patch), current) => {
            let mut values = match current {
                Some(Value::Array(values)) => std::mem::take(values),
                _ => Vec::new(),
            };
            let before = values.clone();
            merge_list(schema, &mut values, patch)?;
            if let Some(order) = order {
                reorder(schema, &mut values, &before, list(ORDER, order)?);
            }
            target.insert(key.to_owned(), Value::Array(values));
        }
        (scalar, _) => {
            target.insert(key.to_owned(), scalar.clone());
        }
    }
    Ok(())
}

fn merge_list(
    schema: Option<&Structural>,
    values: &mut Vec<Value>,
    patch: &[Value],
) -> Result<(), Error> {
    match schema.map(|s| &s.strategy) {
        None | Some(Strategy::Replace) => {
            *values = patch.to_vec();
            Ok(())
        }
        Some(Strategy::Merge) => {
            for value in patch {
                if !values.contains(value) {
                    values.push(value.clone());
                }
            }
            Ok(())
        }
        Some(Strategy::MergeKey(key)) => {
            merge_keyed(schema.and_then(Structural::item), key, values, patch)
        }
    }
}

fn merge_keyed(
    item: Option<&Structural>,
    key: &str,
    values: &mut Vec<Value>,
    patch: &[Value],
) -> Result<(), Error> {
    let directive_of = |entry: &Value| entry.as_object().map_or(Ok(None), directive);
    let mut replace = false;
    for entry in patch {
        replace |= matches!(directive_of(entry)?, Some(Directive::Replace));
    }
    if replace {
        values.clear();
    }
    for entry in patch {
        let Value::Object(fields) = entry else {
            return Err(Error::Malformed(format!(
                "entries of a list keyed by {key} must be objects"
            )));
        };
        let Some(identity) = fields.get(key) else {
            if matches!(directive(fields)?, Some(Directive::Replace)) {
                continue;
            }
            return Err(Error::Malformed(format!(
                "map: {entry} does not contain declared merge key: {key}"
            )));
        };
        let position = values.iter().position(|value| value.get(key) == Some(identity));
        match (directive(fields)?, position) {
            (Some(Directive::Delete), Some(at)) => {
                values.remove(at);
            }
            (Some(Directive::Delete), None) => {}
            (_, Some(at)) => merge(item, &mut values[at], entry)?,
            (_, None) => {
                let mut fresh = Value::Object(Map::new());
                merge(item, &mut fresh, entry)?;
                values.push(fresh);
            }
        }
    }
    Ok(())
}

/// Puts the entries that `order` names into that order; the others keep their places relative to
/// what was `before`.
fn reorder(
    schema: Option<&Structural>,
    values: &mut Vec<Value>,
    before: &[Value],
    order: &[Value],
) {
    let key = match schema.map(|s| &s.strategy) {
        Some(Strategy::MergeKey(key)) => Some(key.as_str()),
        Some(Strategy::Merge) => None,
        None | Some(Strategy::Replace) => return,
    };
    let identity = |value: &Value| -> String {
        key.map_or(value, |key| value.get(key).unwrap_or(&Value::Null)).to_string()
    };
    let rank = |list: &[Value]| -> BTreeMap<String, usize> {
        list.iter().enumerate().map(|(i, v)| (identity(v), i)).collect()
    };
    let (wanted, was) = (rank(order), rank(before));
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        values.drain(..).partition(|v| wanted.contains_key(&identity(v)));
    named.sort_by_key(|v| wanted.get(&identity(v)).copied());
    let mut named = named.into_iter().peekable();
    for other in others {
        let place = was.get(&identity(&other));
        while let Some(next) = named.peek() {
            match (was.get(&identity(next)), place) {
                (Some(next), Some(place)) if next > place => break,
                _ => values.extend(named.next()),
            }
        }
        values.push(other);
    }
    values.extend(named);
}

enum Directive {
    Delete,
    Replace,
    Merge,
}

fn directive(patch: &Map<String, Value>) -> Result<Option<Directive>, Error> {
    match patch.get(PATCH) {
        None => Ok(None),
        Some(Value::String(name)) => match name.as_str() {
            "delete" => Ok(Some(Directive::Delete)),
            "replace" => Ok(Some(Directive::Replace)),
            "merge" => Ok(Some(Directive::Merge)),
            other => Err(Error::Malformed(format!("unknown patch type: {other}"))),
        },
        Some(other) => Err(Error::Malformed(format!("$patch must be text, found {other}"))),
    }
}

/// The members of a patch that are not directives.
fn content(patch: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    patch.iter().filter(|(key, _)| {
        *key != PATCH && *key != RETAIN && !key.starts_with(DELETE_FROM) && !key.starts_with(ORDER)
    })
}

fn list<'a>(key: &str, value: &'a Value) -> Result<&'a [Value], Error> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(Error::Malformed(format!("{key} must be a list, found {other}"))),
    }
}
