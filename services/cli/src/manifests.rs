//! Manifests: files, folders and stdin → objects, each with the place it stands at.
//!
//! A file holds any number of YAML documents (JSON is YAML too); a `List` stands for its items. Nothing is applied before
//! everything has been read, so a typing error in the last file does not leave half of the others behind.
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use serde::Deserialize;
use serde_json::Value;

/// Files of a folder with these endings are manifests.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or `stdin`.
    pub file: String,
    /// Which document of it, from 1.
    pub document: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)
    }
}

/// An object to apply.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// Where it stands.
    pub place: Place,
    /// What kind it is.
    pub kind: GroupVersionKind,
    /// With `apiVersion`, `kind` and a name.
    pub object: DynamicObject,
}

/// Why manifests cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("read {file}")]
    Read {
        /// Which.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder without any.
    #[error("{0} holds no manifests (*.yaml, *.yml, *.json); -R looks into its folders too")]
    Empty(String),
    /// Not YAML.
    #[error("parse {place}")]
    Parse {
        /// Where.
        place: Place,
        /// Why.
        #[source]
        source: serde_yaml::Error,
    },
    /// YAML, but no object.
    #[error("{place}: {what}")]
    NotAnObject {
        /// Where.
        place: Place,
        /// What is missing.
        what: &'static str,
    },
    /// Metadata of a wrong shape.
    #[error("read the object in {place}")]
    Shape {
        /// Where.
        place: Place,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Reads all of them; `-` is stdin. Namespaces and CRDs come first, the rest in the order given.
///
/// # Errors
/// At the first that cannot be read.
pub fn read(
    paths: &[PathBuf],
    recursive: bool,
    stdin: impl io::Read,
) -> Result<Vec<Manifest>, Error> {
    let mut stdin = Some(stdin);
    let mut manifests = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            if let Some(mut stdin) = stdin.take() {
                let read = stdin.read_to_string(&mut text);
                read.map_err(|source| Error::Read { file: "stdin".to_owned(), source })?;
            }
            manifests.extend(parse("stdin", &text)?);
            continue;
        }
        for file in files(path, recursive)? {
            let shown = file.display().to_string();
            let text = fs::read_to_string(&file);
            let text = text.map_err(|source| Error::Read { file: shown.clone(), source })?;
            manifests.extend(parse(&shown, &text)?);
        }
    }
    // Stable: what others stand in or are instances of goes first.
    manifests.sort_by_key(|manifest| match manifest.kind.kind.as_str() {
        "Namespace" if manifest.kind.group.is_empty() => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    });
    Ok(manifests)
}

fn files(path: &Path, recursive: bool) -> Result<Vec<PathBuf>, Error> {
    let shown = path.display().to_string();
    let read = |source| Error::Read { file: shown.clone(), source };
    if !fs::metadata(path).map_err(read)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(read)? {
            let entry = entry.map_err(read)?.path();
            if entry.is_dir() {
                if recursive {
                    folders.push(entry);
                }
            } else if entry
                .extension()
                .is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
            {
                found.push(entry);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::Empty(shown));
    }
    found.sort();
    Ok(found)
}

/// The objects of one text.
///
/// # Errors
/// When a document is not an object of Kubernetes.
pub fn parse(file: &str, text: &str) -> Result<Vec<Manifest>, Error> {
    let mut manifests = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(text).enumerate() {
        let place = Place { file: file.to_owned(), document: index + 1 };
        let value = Value::deserialize(document)
            .map_err(|source| Error::Parse { place: place.clone(), source })?;
        // A document of comments only.
        if !value.is_null() {
            add(&mut manifests, &place, value)?;
        }
    }
    Ok(manifests)
}

fn add(manifests: &mut Vec<Manifest>, place: &Place, mut value: Value) -> Result<(), Error> {
    let not = |what| Error::NotAnObject { place: place.clone(), what };
    if !value.is_object() {
        return Err(not("not an object, but a list or a plain value"));
    }
    let is_list =
        value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    if is_list && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
        return items.into_iter().try_for_each(|item| add(manifests, place, item));
    }
    let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let types = TypeMeta {
        api_version: text("apiVersion").ok_or_else(|| not("apiVersion is missing"))?.to_owned(),
        kind: text("kind").ok_or_else(|| not("kind is missing"))?.to_owned(),
    };
    let kind = GroupVersionKind::try_from(&types)
        .map_err(|_| not("apiVersion is neither VERSION nor GROUP/VERSION"))?;
    let object: DynamicObject = serde_json::from_value(value)
        .map_err(|source| Error::Shape { place: place.clone(), source })?;
    if kind.group == "kustomize.config.k8s.io" {
        return Err(not(
            "a kustomization, which `kubectl apply -k` understands; apply the files that it names",
        ));
    }
    if object.metadata.name.as_deref().is_none_or(str::is_empty) {
        return Err(not("metadata.name is missing; generateName cannot be applied, only created"));
    }
    manifests.push(Manifest { place: place.clone(), kind, object });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(manifests: &[Manifest]) -> Vec<String> {
        let name = |manifest: &Manifest| manifest.object.metadata.name.clone().unwrap();
        manifests
            .iter()
            .map(|m| format!("{}/{} {}", m.kind.kind, name(m), m.place.document))
            .collect()
    }

    #[test]
    fn documents_are_split_where_yaml_splits_them() {
        let text = "# a comment\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  key: |\n    ---\n    \
            not a document\n---\n# nothing\n---\n{\"apiVersion\":\"stash.appscode.com/v1beta1\",\"kind\":\"Task\",\
            \"metadata\":{\"name\":\"b\"}}\n...\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: \
            ConfigMap, metadata: {name: c, namespace: d}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: e}}\n";
        let manifests = parse("f", text).unwrap();
        let names = names(&manifests);
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(
            names[0].starts_with("Secret/a") && names[3].starts_with("ConfigMap/e"),
            "{names:?}"
        );
        assert_eq!(manifests[0].object.data["stringData"]["key"], "---\nnot a document\n");
        assert_eq!(manifests[1].kind.group, "stash.appscode.com");
        assert_eq!(manifests[2].object.metadata.namespace.as_deref(), Some("d"));
        assert!(parse("f", "").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_document() {
        let error = |text: &str| coffer_runtime::fault::chain(&parse("f", text).unwrap_err());
        assert!(error("apiVersion: v1\n---\na: [\n").starts_with("f, document 1: kind is missing"));
        let good = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n---\n";
        assert!(error(&format!("{good}a: [\n")).starts_with("parse f, document 2: "));
        assert_eq!(
            error(&format!("{good}- 1\n")),
            "f, document 2: not an object, but a list or a plain value"
        );
        assert_eq!(error("kind: Secret\n"), "f, document 1: apiVersion is missing");
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {generateName: a-}\n";
        assert!(error(text).contains("metadata.name is missing"));
        let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [a.yaml]\n";
        assert!(error(text).contains("a kustomization"));
        let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: 7}\n";
        assert!(error(text).starts_with("read the object in f, document 1: "));
    }

    #[test]
    fn folders() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir(root.join("sub")).unwrap();
        let object = |kind: &str, name: &str| {
            format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}}}\n")
        };
        fs::write(root.join("b.yaml"), object("Secret", "b")).unwrap();
        fs::write(root.join("a.yml"), object("Secret", "a")).unwrap();
        fs::write(root.join("README.md"), "not yaml: [").unwrap();
        fs::write(root.join("sub/z.yaml"), object("Namespace", "z")).unwrap();
        let crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: y}\n";
        let read_all = |paths: &[PathBuf], recursive| {
            read(paths, recursive, crd.as_bytes()).map(|manifests| names(&manifests))
        };
        assert_eq!(read_all(&[root.to_owned()], false).unwrap(), ["Secret/a 1", "Secret/b 1"]);
        let all = read_all(&[root.to_owned(), "-".into()], true).unwrap();
        assert_eq!(
            all,
            ["Namespace/z 1", "CustomResourceDefinition/y 1", "Secret/a 1", "Secret/b 1"]
        );
        fs::remove_file(root.join("sub/z.yaml")).unwrap();
        let error = read_all(&[root.join("sub")], true).unwrap_err();
        assert!(matches!(error, Error::Empty(_)), "{error}");
        assert!(read_all(&[root.join("none.yaml")], false).is_err());
    }
}
