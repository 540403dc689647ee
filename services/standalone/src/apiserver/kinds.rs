//! Which kinds are served: the built-in table and the custom kinds of installed definitions.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use kube::core::GroupVersionKind;
use parking_lot::RwLock;
use serde_json::Value;

use super::builtin::Builtin;
use super::schema::Structural;
use super::store::{Key, Store};
use super::table::Column;
use super::{builtin, crd, events, object, openapi};

/// Where the rules of a kind come from.
#[derive(Debug, Clone)]
pub enum Rules {
    /// The built-in table.
    Builtin(&'static Builtin),
    /// A CustomResourceDefinition.
    Custom,
}

/// One version of a kind.
#[derive(Debug, Clone)]
pub struct Version {
    /// `v1`, `v1alpha1`.
    pub name: String,
    /// Whether it has the status subresource.
    pub status: bool,
    /// The schema that its objects keep to.
    pub schema: Option<Arc<Structural>>,
    /// The schema as the definition spells it, of custom kinds.
    pub raw_schema: Option<Value>,
    /// The printer columns of custom kinds.
    pub columns: Option<Vec<Column>>,
    /// Sent as a warning with every answer in this version.
    pub deprecation: Option<String>,
}

/// A kind that is served.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the names are those of CustomResourceDefinitionNames")]
pub struct Kind {
    pub group: String,
    pub plural: String,
    pub singular: String,
    pub name: String,
    pub list_name: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    /// Whether `metadata.generation` counts the changes of the specification.
    pub generation: bool,
    /// Served versions, the preferred one first.
    pub versions: Vec<Arc<Version>>,
    /// The version in which objects are stored.
    pub stored: String,
    /// The `resource` of the objects' keys in the store.
    pub resource: Arc<str>,
    pub rules: Rules,
}

impl Kind {
    /// `jobs.batch`, or `pods` for the core group: how messages name a resource.
    pub fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// The served version of that name.
    pub fn version(&self, name: &str) -> Option<&Arc<Version>> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// `group/version`, or the version for the core group.
    pub fn api_version(&self, version: &str) -> String {
        match self.group.as_str() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// Group, version and kind.
    pub fn gvk(&self, version: &str) -> GroupVersionKind {
        GroupVersionKind::gvk(&self.group, version, &self.name)
    }

    /// The key of one of its objects.
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        Key::new(&self.resource, namespace, name)
    }

    /// Whether the kind exists only to be posted, and is never stored.
    pub fn create_only(&self) -> bool {
        matches!(self.rules, Rules::Builtin(builtin) if builtin.create_only)
    }

    /// The built-in entry, if it is one.
    pub fn builtin(&self) -> Option<&'static Builtin> {
        match self.rules {
            Rules::Builtin(builtin) => Some(builtin),
            Rules::Custom => None,
        }
    }

    /// Whether the kind is the core `Event` seen through the events.k8s.io group.
    pub fn is_event_view(&self) -> bool {
        self.group == events::GROUP && self.plural == "events"
    }

    /// A stored object as this version shows it. There are no conversion webhooks: versions of a
    /// custom kind differ in name only.
    pub fn present<'a>(&self, version: &str, stored: &'a Value) -> Cow<'a, Value> {
        let mut shown = match self.is_event_view() {
            true => Cow::Owned(events::from_core(stored)),
            false => Cow::Borrowed(stored),
        };
        if shown["apiVersion"].as_str() != Some(&self.api_version(version)) {
            shown.to_mut()["apiVersion"] = self.api_version(version).into();
        }
        shown
    }
}

/// All kinds at one moment.
#[derive(Debug, Default)]
pub struct Kinds {
    all: Vec<Arc<Kind>>,
    by_resource: HashMap<(String, String), Arc<Kind>>,
}

impl Kinds {
    fn new(all: Vec<Arc<Kind>>) -> Self {
        let by_resource = all
            .iter()
            .map(|kind| ((kind.group.clone(), kind.plural.clone()), Arc::clone(kind)))
            .collect();
        Self { all, by_resource }
    }

    /// The kind of a resource.
    pub fn get(&self, group: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_resource.get(&(group.to_owned(), plural.to_owned())).cloned()
    }

    /// The kind whose objects are stored under that resource.
    pub fn stored_as(&self, resource: &str) -> Option<Arc<Kind>> {
        self.all.iter().find(|kind| *kind.resource == *resource && !kind.is_event_view()).cloned()
    }

    /// The kind that an `apiVersion` and a `kind` name.
    pub fn by_name(&self, api_version: &str, name: &str) -> Option<Arc<Kind>> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.all.iter().find(|kind| kind.group == group && kind.name == name).cloned()
    }

    /// Every kind, built-in ones first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.all.iter()
    }

    /// The list that the OpenAPI documents are made from.
    pub fn for_openapi(&self) -> Vec<openapi::Kind> {
        self.all
            .iter()
            .flat_map(|kind| {
                kind.versions.iter().map(|version| openapi::Kind {
                    gvk: kind.gvk(&version.name),
                    plural: kind.plural.clone(),
                    namespaced: kind.namespaced,
                    status: version.status,
                    schema: version.raw_schema.clone(),
                })
            })
            .collect()
    }
}

/// The current kinds; made anew when a definition has changed, so that a definition is served at
/// once and there is no second copy of the truth to keep in step.
#[derive(Debug)]
pub struct Registry {
    current: RwLock<(u64, Arc<Kinds>)>,
    builtin: Vec<Arc<Kind>>,
    compiled: RwLock<HashMap<String, (u64, Arc<Kind>)>>,
}

impl Registry {
    /// Knows the built-in kinds; custom ones are read from the store when first asked.
    pub fn new() -> Self {
        let builtin: Vec<Arc<Kind>> = builtin::kinds().into_iter().map(Arc::new).collect();
        let current = RwLock::new((u64::MAX, Arc::new(Kinds::new(builtin.clone()))));
        Self { current, builtin, compiled: RwLock::default() }
    }

    /// The kinds as of now.
    pub fn current(&self, store: &Store) -> Arc<Kinds> {
        let changed = store.read(|state| state.changed(crd::RESOURCE));
        {
            let current = self.current.read();
            if current.0 == changed {
                return Arc::clone(&current.1);
            }
        }
        let mut current = self.current.write();
        let (changed, definitions) =
            store.read(|state| (state.changed(crd::RESOURCE), state.list(crd::RESOURCE, None)));
        let mut all = self.builtin.clone();
        let mut compiled = self.compiled.write();
        let mut kept = HashMap::new();
        for definition in definitions {
            let uid = object::uid(&definition.value).to_owned();
            let known = compiled.get(&uid).filter(|(version, _)| *version == definition.version);
            let kind = match known {
                Some((_, kind)) => Some(Arc::clone(kind)),
                None => crd::served_kind(&definition.value).map(Arc::new),
            };
            if let Some(kind) = kind {
                kept.insert(uid, (definition.version, Arc::clone(&kind)));
                all.push(kind);
            }
        }
        *compiled = kept;
        *current = (changed, Arc::new(Kinds::new(all)));
        Arc::clone(&current.1)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}
