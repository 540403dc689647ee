//! The compiled schema itself: one node a field, everything that compilation can settle settled.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::{Number, Value};

use super::rule::Rule;

/// The JSON type that a node demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Type {
    /// Nothing is demanded.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
    /// A Kubernetes quantity: text, or a plain number.
    Quantity,
}

/// How the entries of a list are told apart when it is merged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum ListKind {
    /// The list is one value.
    #[default]
    Atomic,
    /// Entries are their own identity.
    Set,
    /// Entries are objects, told apart by these fields.
    Map(Vec<String>),
}

/// What a strategic merge patch does with a list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Strategy {
    #[default]
    Replace,
    /// Primitive entries: a union.
    Merge,
    /// Object entries, told apart by this field.
    MergeKey(String),
}

/// Entries of a map beside the named properties.
#[derive(Debug, Clone)]
pub(crate) enum Additional {
    Anything,
    Schema(Box<Structural>),
}

/// A number with its bound's meaning.
#[derive(Debug, Clone)]
pub(crate) struct Bound {
    pub(crate) limit: Number,
    pub(crate) exclusive: bool,
}

/// The rules for a node's value beyond its shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rules {
    pub(crate) enumeration: Option<Vec<Value>>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) format: Option<String>,
    pub(crate) minimum: Option<Bound>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) length: (Option<u64>, Option<u64>),
    pub(crate) items: (Option<u64>, Option<u64>),
    pub(crate) properties: (Option<u64>, Option<u64>),
    pub(crate) unique_items: bool,
    pub(crate) required: Vec<String>,
    pub(crate) one_of: Vec<Structural>,
    pub(crate) any_of: Vec<Structural>,
    pub(crate) all_of: Vec<Structural>,
    pub(crate) not: Option<Box<Structural>>,
    /// In CEL.
    pub(crate) cel: Vec<Rule>,
}

/// The compiled schema of a field, with everything below it.
#[derive(Debug, Clone, Default)]
pub struct Structural {
    pub(crate) kind: Type,
    pub(crate) nullable: bool,
    pub(crate) properties: BTreeMap<String, Self>,
    pub(crate) additional: Option<Additional>,
    pub(crate) items: Option<Box<Self>>,
    pub(crate) default: Option<Value>,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded_resource: bool,
    /// The map is one value when merged (`x-kubernetes-map-type: atomic`).
    pub(crate) atomic_map: bool,
    pub(crate) list: ListKind,
    pub(crate) strategy: Strategy,
    /// A strategic merge patch may name the keys to keep.
    pub(crate) builtin: bool,
    pub(crate) rules: Rules,
}

impl Structural {
    /// The schema of a member: a named property, or an entry of a map.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Some(Additional::Schema(schema)) => Some(schema),
            Some(Additional::Anything) | None => None,
        })
    }

    /// The schema of a list's entries.
    pub(crate) fn item(&self) -> Option<&Self> {
        self.items.as_deref()
    }
}
