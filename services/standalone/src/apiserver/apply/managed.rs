//! `metadata.managedFields`: which manager owns what, since when.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};

use super::{compare::Changes, fields::FieldSet};

/// How a manager writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    Apply,
    Update,
}

/// Who a manager is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    operation: Operation,
    manager: String,
    /// Of updates only: an applier stays the same in another version.
    api_version: String,
    subresource: String,
}

impl Key {
    pub(super) fn apply(manager: &str, subresource: Option<&str>) -> Self {
        Self {
            operation: Operation::Apply,
            manager: manager.into(),
            api_version: String::new(),
            subresource: subresource.unwrap_or_default().into(),
        }
    }

    pub(super) fn update(manager: &str, api_version: &str, subresource: Option<&str>) -> Self {
        Self {
            operation: Operation::Update,
            api_version: api_version.into(),
            ..Self::apply(manager, subresource)
        }
    }
}

/// As conflicts name it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {:?}", self.subresource)?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    api_version: String,
    time: Option<String>,
    fields: FieldSet,
}

/// All managers of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Managers(BTreeMap<Key, Entry>);

impl Managers {
    /// Reads them; entries that make no sense are passed over, as Kubernetes does.
    pub(super) fn read(object: &Value) -> Self {
        let list = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let mut managers = BTreeMap::new();
        for item in list.map_or(&[][..], Vec::as_slice) {
            let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
            let (manager, subresource) = (text("manager"), Some(text("subresource")));
            let key = match text("operation") {
                "Apply" => Key::apply(manager, subresource),
                "Update" => Key::update(manager, text("apiVersion"), subresource),
                _ => continue,
            };
            let Some(fields) = item.get("fieldsV1") else { continue };
            let fields = FieldSet::read(fields);
            let entry = Entry {
                api_version: text("apiVersion").into(),
                time: item.get("time").and_then(Value::as_str).map(str::to_owned),
                fields,
            };
            managers
                .entry(key)
                .and_modify(|known: &mut Entry| known.fields.add(&entry.fields))
                .or_insert(entry);
        }
        Self(managers)
    }

    /// Writes them: appliers first, then by time.
    pub(super) fn write(&self, object: &mut Value) {
        let mut entries: Vec<(&Key, &Entry)> =
            self.0.iter().filter(|(_, entry)| !entry.fields.is_empty()).collect();
        entries.sort_by(|(a, x), (b, y)| (a.operation, &x.time, a).cmp(&(b.operation, &y.time, b)));
        let list: Vec<Value> = entries
            .into_iter()
            .map(|(key, entry)| {
                let mut item = json!({
                    "manager": key.manager,
                    "operation": match key.operation {
                        Operation::Apply => "Apply",
                        Operation::Update => "Update",
                    },
                    "apiVersion": entry.api_version,
                });
                if let Some(time) = &entry.time {
                    item["time"] = json!(time);
                }
                item["fieldsType"] = json!("FieldsV1");
                item["fieldsV1"] = entry.fields.write();
                if !key.subresource.is_empty() {
                    item["subresource"] = json!(key.subresource);
                }
                item
            })
            .collect();
        if list.is_empty() {
            return;
        }
        let Some(object) = object.as_object_mut() else { return };
        let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        metadata["managedFields"] = Value::Array(list);
    }

    /// Gives a manager a new set of fields; the answer is its former one.
    pub(super) fn replace(
        &mut self,
        key: &Key,
        fields: FieldSet,
        api_version: &str,
        now: DateTime<Utc>,
    ) -> Option<FieldSet> {
        let entry = Entry { api_version: api_version.into(), time: Some(stamp(now)), fields };
        self.0.insert(key.clone(), entry).map(|entry| entry.fields)
    }

    /// Everything that anybody owns.
    pub(super) fn union(&self) -> FieldSet {
        let mut all = FieldSet::default();
        self.0.values().for_each(|entry| all.add(&entry.fields));
        all
    }

    /// What others own of what `key` changes.
    pub(super) fn conflicts(&self, key: &Key, changes: &Changes) -> Vec<(Key, FieldSet)> {
        let touched = changes.set();
        self.0
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(other, entry)| (other.clone(), entry.fields.intersection(&touched)))
            .filter(|(_, set)| !set.is_empty())
            .collect()
    }

    /// Takes from the others what `key` changed or removed.
    pub(super) fn give_up(&mut self, key: &Key, changes: &Changes) {
        let gone = changes.set().union(&changes.removed);
        for (other, entry) in &mut self.0 {
            if other != key {
                entry.fields = entry.fields.difference(&gone);
            }
        }
        self.0.retain(|other, entry| other == key || !entry.fields.is_empty());
    }

    /// Adds to an updater what it changed; its time moves only if it changed something.
    pub(super) fn record(
        &mut self,
        key: &Key,
        changes: &Changes,
        api_version: &str,
        now: DateTime<Utc>,
    ) {
        if changes.is_empty() {
            return;
        }
        let touched = changes.set();
        let entry = self.0.entry(key.clone()).or_insert_with(|| Entry {
            api_version: api_version.into(),
            time: None,
            fields: FieldSet::default(),
        });
        entry.fields = entry.fields.difference(&changes.removed).union(&touched);
        if !touched.is_empty() {
            entry.time = Some(stamp(now));
        }
    }

    /// Whether everybody owns the same as in `other`, whatever the times.
    pub(super) fn same_fields(&self, other: &Self) -> bool {
        let fields = |managers: &Self| -> BTreeMap<Key, FieldSet> {
            let owners = managers.0.iter().filter(|(_, entry)| !entry.fields.is_empty());
            owners.map(|(key, entry)| (key.clone(), entry.fields.clone())).collect()
        };
        fields(self) == fields(other)
    }
}

/// Removes `metadata.managedFields` from an object.
pub(super) fn detach(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

fn stamp(now: DateTime<Utc>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Secs, true)
}
