//! A set of fields of an object, as `FieldsV1` writes it: a tree whose edges are `f:<field>`,
//! `k:<key fields of a list entry>` and `v:<value of a set>`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::apiserver::schema::{ListKind, Structural};

/// One node of the tree, the root standing for the object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    /// The field itself is in the set, not only something below it.
    pub(super) owned: bool,
    pub(super) children: BTreeMap<String, Self>,
}

/// The fields that identify an object, or that the server keeps; nobody owns them.
const IDENTITY: [&str; 9] = [
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:clusterName",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
];

impl FieldSet {
    pub(super) fn owned() -> Self {
        Self { owned: true, children: BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.owned && self.children.is_empty()
    }

    /// Reads `fieldsV1`.
    pub(super) fn read(fields: &Value) -> Self {
        let mut set = Self::read_node(fields);
        set.owned = false;
        set
    }

    fn read_node(fields: &Value) -> Self {
        let Value::Object(map) = fields else { return Self::owned() };
        if map.is_empty() {
            return Self::owned();
        }
        let mut set = Self::default();
        for (name, child) in map {
            match name.as_str() {
                "." => set.owned = true,
                name => {
                    set.children.insert(normal(name), Self::read_node(child));
                }
            }
        }
        set
    }

    /// Writes `fieldsV1`.
    pub(super) fn write(&self) -> Value {
        let mut map = Map::new();
        if self.owned && !self.children.is_empty() {
            map.insert(".".into(), Value::Object(Map::new()));
        }
        for (name, child) in &self.children {
            map.insert(name.clone(), child.write());
        }
        Value::Object(map)
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut result = self.clone();
        result.add(other);
        result
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.owned |= other.owned;
        for (name, child) in &other.children {
            self.children.entry(name.clone()).or_default().add(child);
        }
    }

    pub(super) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, others| mine && !others, true)
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, others| mine && others, false)
    }

    fn combine(&self, other: &Self, keep: fn(bool, bool) -> bool, alone: bool) -> Self {
        let mut result = Self { owned: keep(self.owned, other.owned), children: BTreeMap::new() };
        for (name, child) in &self.children {
            let child = match other.children.get(name) {
                Some(others) => child.combine(others, keep, alone),
                None if alone => child.clone(),
                None => continue,
            };
            if !child.is_empty() {
                result.children.insert(name.clone(), child);
            }
        }
        result
    }

    /// Drops the fields that nobody owns.
    pub(super) fn without_identity(mut self) -> Self {
        self.owned = false;
        self.children.remove("f:apiVersion");
        self.children.remove("f:kind");
        if let Some(metadata) = self.children.get_mut("f:metadata") {
            metadata.owned = false;
            for name in IDENTITY {
                metadata.children.remove(name);
            }
            if metadata.is_empty() {
                self.children.remove("f:metadata");
            }
        }
        self
    }

    /// Every field in the set, as a message shows it: `.spec.containers[name="x"].image`.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, path: &str, paths: &mut Vec<String>) {
        if self.owned {
            paths.push(path.to_owned());
        }
        for (name, child) in &self.children {
            child.collect(&format!("{path}{}", shown(name)), paths);
        }
    }
}

/// One step of a path, as a message shows it.
fn shown(step: &str) -> String {
    if let Some(keys) = step.strip_prefix("k:")
        && let Ok(Value::Object(keys)) = serde_json::from_str(keys)
    {
        let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return format!("[{}]", keys.join(","));
    }
    if let Some(value) = step.strip_prefix("v:") {
        return format!("[={value}]");
    }
    match step.strip_prefix("f:") {
        Some(name) => format!(".{name}"),
        None => format!("[{step}]"),
    }
}

/// Key objects with sorted fields and no blanks, whoever wrote them.
fn normal(step: &str) -> String {
    match step.strip_prefix("k:").map(serde_json::from_str::<BTreeMap<String, Value>>) {
        Some(Ok(keys)) => match serde_json::to_string(&keys) {
            Ok(keys) => format!("k:{keys}"),
            Err(_) => step.to_owned(),
        },
        _ => step.to_owned(),
    }
}

/// The step that leads to a list entry; `None` when the list is one value, or a key is missing.
pub(super) fn entry(schema: &Structural, value: &Value) -> Option<String> {
    match &schema.list {
        ListKind::Atomic => None,
        ListKind::Set => Some(format!("v:{value}")),
        ListKind::Map(keys) => {
            let mut found = BTreeMap::new();
            for key in keys {
                let default =
                    schema.item().and_then(|i| i.member(key)).and_then(|k| k.default.as_ref());
                found.insert(key, value.get(key).or(default)?);
            }
            serde_json::to_string(&found).ok().map(|keys| format!("k:{keys}"))
        }
    }
}

/// The fields of a configuration that its manager owns.
pub(super) fn managed(schema: &Structural, object: &Value) -> FieldSet {
    of(schema, object).without_identity()
}

/// Every field of an object, down to scalars and to what merges as one value.
pub(super) fn of(schema: &Structural, object: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    walk(Some(schema), object, &mut set);
    set.owned = false;
    set
}

fn walk(schema: Option<&Structural>, value: &Value, set: &mut FieldSet) {
    match value {
        Value::Object(map) if !schema.is_some_and(|s| s.atomic_map) => {
            set.owned |= map.is_empty();
            for (name, member) in map {
                let child = set.children.entry(format!("f:{name}")).or_default();
                // The entries of a map are owned themselves, the fields of a struct are not.
                child.owned |= !schema.is_some_and(|s| s.properties.contains_key(name));
                walk(schema.and_then(|s| s.member(name)), member, child);
            }
        }
        Value::Array(list) => {
            let Some(schema) = schema.filter(|s| s.list != ListKind::Atomic && !list.is_empty())
            else {
                set.owned = true;
                return;
            };
            for item in list {
                let Some(step) = entry(schema, item) else { continue };
                let child = set.children.entry(step).or_default();
                walk(schema.item(), item, child);
                child.owned = true;
            }
        }
        _ => set.owned = true,
    }
}
