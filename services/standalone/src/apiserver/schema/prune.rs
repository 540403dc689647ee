//! Unknown fields out, defaults in.

use serde_json::{Map, Value};

use super::{
    compile::join,
    node::{Additional, Structural, Type},
};

/// The members that every resource may have, whatever its schema says.
const RESOURCE: [&str; 3] = ["apiVersion", "kind", "metadata"];

impl Structural {
    /// Removes unknown fields, and returns their paths (`spec.foo`) in order. `apiVersion`, `kind`
    /// and `metadata` of a resource stay. In built-in parts (metadata included) an explicit null is
    /// dropped too, since there it means the same as nothing.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut removed = Vec::new();
        self.prune_at(object, "", &mut removed);
        removed
    }

    fn prune_at(&self, value: &mut Value, path: &str, removed: &mut Vec<String>) {
        match value {
            Value::Object(map) => self.prune_map(map, path, removed),
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    for (index, item) in list.iter_mut().enumerate() {
                        items.prune_at(item, &format!("{path}[{index}]"), removed);
                    }
                }
            }
            _ => {}
        }
    }

    fn prune_map(&self, map: &mut Map<String, Value>, path: &str, removed: &mut Vec<String>) {
        if self.kind == Type::Any && !self.knows_members() {
            return; // no shape is given: everything is allowed
        }
        map.retain(|name, value| {
            if self.builtin && value.is_null() {
                return false;
            }
            if let Some(child) = self.member(name) {
                child.prune_at(value, &join(path, name), removed);
                return true;
            }
            let keep = self.preserve_unknown
                || matches!(self.additional, Some(Additional::Anything))
                || (self.embedded_resource && RESOURCE.contains(&name.as_str()));
            if !keep {
                removed.push(join(path, name));
            }
            keep
        });
    }

    fn knows_members(&self) -> bool {
        !self.properties.is_empty() || self.additional.is_some()
    }

    /// Sets the defaults that the schema names, also inside values that are there.
    pub fn default(&self, object: &mut Value) {
        match object {
            Value::Object(map) => {
                for (name, child) in &self.properties {
                    if let Some(default) = &child.default
                        && map.get(name).is_none_or(|v| v.is_null() && !child.nullable)
                    {
                        map.insert(name.clone(), default.clone());
                    }
                }
                for (name, value) in map.iter_mut() {
                    if let Some(child) = self.member(name) {
                        child.default(value);
                    }
                }
            }
            Value::Array(list) => {
                if let Some(items) = &self.items {
                    list.iter_mut().for_each(|item| items.default(item));
                }
            }
            _ => {}
        }
    }
}
