//! Expands every string of an object, wherever it stands, and says where an expansion failed.

use crate::template::{self, Variables};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The most text that one object may become. A gRPC answer holds no more, and the work stays bounded.
const LARGEST_BYTES: usize = 2 * 1024 * 1024;

/// An object cannot be expanded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One of its strings cannot.
    #[error("{path}")]
    Field {
        /// For example `spec.args[3]`.
        path: String,
        /// Why not.
        #[source]
        source: template::Error,
    },
    /// Two keys of a map are the same once they are expanded.
    #[error("{path}: the key {key:?} stands there twice")]
    Twice {
        /// The map.
        path: String,
        /// The key.
        key: String,
    },
    /// All strings together become too long.
    #[error("{path}: the object becomes larger than {LARGEST_BYTES} bytes")]
    TooLarge {
        /// The field that was too much.
        path: String,
    },
    /// The expanded object is no longer of its kind.
    #[error("{path}")]
    Shape {
        /// The object.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// A copy of `object` with every string expanded, keys of maps included. `path` is what errors call it.
///
/// # Errors
/// When a string cannot be expanded.
pub fn expand<T>(object: &T, path: &str, variables: &Variables) -> Result<T, Error>
where
    T: Serialize + DeserializeOwned,
{
    let shape = |source| Error::Shape { path: path.to_owned(), source };
    let value = serde_json::to_value(object).map_err(shape)?;
    let mut walk = Walk { variables, left: LARGEST_BYTES };
    serde_json::from_value(walk.value(value, path)?).map_err(shape)
}

/// The variables that the strings of `object` refer to, keys of maps included; none of a string that cannot be expanded.
pub fn names(object: &impl Serialize) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    add_names(&serde_json::to_value(object).unwrap_or_default(), &mut names);
    names
}

fn add_names(value: &Value, names: &mut BTreeSet<String>) {
    // What cannot be expanded is an error of `expand`.
    match value {
        Value::String(text) => drop(template::add_names(text, names)),
        Value::Array(items) => items.iter().for_each(|item| add_names(item, names)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            drop(template::add_names(name, names));
            add_names(value, names);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

struct Walk<'a> {
    variables: &'a Variables,
    left: usize,
}

impl Walk<'_> {
    /// Recursion is as deep as the types are: a Function's have no free-form part.
    fn value(&mut self, value: Value, path: &str) -> Result<Value, Error> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(&text, path)?),
            Value::Array(items) => {
                let items = items.into_iter().enumerate();
                let expanded =
                    items.map(|(index, item)| self.value(item, &format!("{path}[{index}]")));
                Value::Array(expanded.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => Value::Object(self.fields(fields, path)?),
            value @ (Value::Null | Value::Bool(_) | Value::Number(_)) => value,
        })
    }

    fn fields(
        &mut self,
        fields: Map<String, Value>,
        path: &str,
    ) -> Result<Map<String, Value>, Error> {
        let mut expanded = Map::new();
        for (name, value) in fields {
            let inner = format!("{path}.{name}");
            let key = self.text(&name, &inner)?;
            if expanded.contains_key(&key) {
                return Err(Error::Twice { path: path.to_owned(), key });
            }
            expanded.insert(key, self.value(value, &inner)?);
        }
        Ok(expanded)
    }

    fn text(&mut self, text: &str, path: &str) -> Result<String, Error> {
        let expanded = template::expand(text, self.variables)
            .map_err(|source| Error::Field { path: path.to_owned(), source })?;
        self.left = self
            .left
            .checked_sub(expanded.len())
            .ok_or_else(|| Error::TooLarge { path: path.to_owned() })?;
        Ok(expanded)
    }
}
