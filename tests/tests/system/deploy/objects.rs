//! The objects under `deploy/`, read and looked at.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A document of a file under `deploy/`.
pub(crate) struct Object {
    pub(crate) file: String,
    pub(crate) value: Value,
}

impl Object {
    pub(crate) fn text(&self, pointer: &str) -> &str {
        self.value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> &str {
        self.text("/kind")
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Fails for a field that the kind does not have: it would be dropped without a word.
    pub(crate) fn is<K: DeserializeOwned + Serialize>(&self) -> K {
        let subject = format!("{} {} in {}", self.kind(), self.name(), self.file);
        let typed: K = serde_json::from_value(self.value.clone())
            .unwrap_or_else(|error| panic!("{subject}: {error}"));
        let back = serde_json::to_value(&typed).unwrap();
        assert_kept(&self.value, &back, &subject);
        typed
    }
}

/// All of `written` is in `read`; empty things may be gone.
pub(crate) fn assert_kept(written: &Value, read: &Value, place: &str) {
    match (written, read) {
        (Value::Object(written), read) => {
            for (key, value) in written {
                let empty = value.as_str() == Some("")
                    || value.as_object().is_some_and(serde_json::Map::is_empty);
                let found = read.get(key);
                assert!(found.is_some() || empty, "{place}.{key} is no field of this kind");
                if let Some(found) = found {
                    assert_kept(value, found, &format!("{place}.{key}"));
                }
            }
        }
        (Value::Array(written), Value::Array(read)) => {
            assert_eq!(written.len(), read.len(), "{place}");
            for (index, (written, read)) in written.iter().zip(read).enumerate() {
                assert_kept(written, read, &format!("{place}[{index}]"));
            }
        }
        (written, read) => assert_eq!(written, read, "{place}"),
    }
}

pub(crate) fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

pub(crate) fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let documents = serde_yaml::Deserializer::from_str(&text);
    documents
        .map(|document| {
            Value::deserialize(document)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .filter(|value| !value.is_null())
        .collect()
}

/// Every object under `deploy/` but the kustomizations.
pub(crate) fn objects() -> &'static [Object] {
    static OBJECTS: OnceLock<Vec<Object>> = OnceLock::new();
    OBJECTS.get_or_init(|| {
        let deploy = root().join("deploy");
        let mut paths = Vec::new();
        files(&deploy, &mut paths);
        paths.retain(|path| path.file_name().is_some_and(|name| name != "kustomization.yaml"));
        paths.sort();
        let in_file = |path: &PathBuf| {
            let file = path.strip_prefix(&deploy).unwrap().display().to_string();
            documents(path).into_iter().map(move |value| Object { file: file.clone(), value })
        };
        paths.iter().flat_map(in_file).collect()
    })
}

pub(crate) fn of_kind(kind: &str) -> Vec<&'static Object> {
    objects().iter().filter(|object| object.kind() == kind).collect()
}

pub(crate) fn named(kind: &str) -> BTreeSet<String> {
    of_kind(kind).iter().map(|object| object.name().to_owned()).collect()
}
