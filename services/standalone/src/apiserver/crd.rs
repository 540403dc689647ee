//! CustomResourceDefinitions: what makes one valid, what it is told in return, and the kind that it
//! brings.
//!
//! Definitions are accepted or refused in the request itself, so that `Established` is true in the
//! answer to the create and the new resource is served from then on. All versions of a definition
//! are taken to be one shape under several names: conversion webhooks are refused.

use std::sync::Arc;

use serde_json::{Value, json};

use super::builtin::{FieldErrors, is_label};
use super::kinds::{Kind, Kinds, Rules, Version};
use super::object;
use super::schema::{FieldError, Structural};

/// The `resource` of definitions in the store.
pub const RESOURCE: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// Keeps a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The `resource` of the objects that a definition brings.
pub fn resource(definition: &Value) -> String {
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text(&spec["group"]), text(&spec["names"]["plural"]))
}

/// Sets the defaults of a definition.
pub fn set_defaults(definition: &mut Value) {
    let names = &mut definition["spec"]["names"];
    let kind = names["kind"].as_str().unwrap_or_default().to_owned();
    if names["singular"].is_null() {
        names["singular"] = kind.to_lowercase().into();
    }
    if names["listKind"].is_null() {
        names["listKind"] = format!("{kind}List").into();
    }
    if definition["spec"]["conversion"].is_null() {
        definition["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// The faults of a definition.
pub fn check(old: Option<&Value>, new: &Value) -> Vec<FieldError> {
    let mut errors = FieldErrors::default();
    let spec = &new["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let expected = format!("{plural}.{group}");
    if object::name(new) != expected {
        let why = format!("must be spec.names.plural+\".\"+spec.group ({expected:?})");
        errors.invalid("metadata.name", &new["metadata"]["name"], &why);
    }
    if group.split('.').count() < 2 || !group.split('.').all(is_label) {
        errors.invalid("spec.group", &spec["group"], "should be a domain with at least one dot");
    }
    if !is_label(&plural) {
        errors.invalid("spec.names.plural", &spec["names"]["plural"], "must be a DNS label");
    }
    if text(&spec["names"]["kind"]).is_empty() {
        errors.required("spec.names.kind", "");
    }
    if !["Namespaced", "Cluster"].contains(&text(&spec["scope"]).as_str()) {
        errors.unsupported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]);
    }
    if spec["conversion"]["strategy"] != "None" {
        let why = "this server has no conversion webhooks; use strategy None";
        errors.invalid("spec.conversion.strategy", &spec["conversion"]["strategy"], why);
    }
    check_versions(spec, &mut errors);
    if let Some(old) = old {
        for field in ["group", "scope"] {
            if old["spec"][field] != spec[field] {
                errors.invalid(format!("spec.{field}"), &spec[field], "field is immutable");
            }
        }
    }
    errors.0
}

fn check_versions(spec: &Value, errors: &mut FieldErrors) {
    let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid("spec.versions", &spec["versions"], why);
    }
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let schema = &version["schema"]["openAPIV3Schema"];
        if schema.is_null() {
            errors.required(path, "schemas are required");
        } else if let Err(error) = Structural::compile(schema) {
            errors.invalid(path, &Value::String(error.path.clone()), &error.to_string());
        }
    }
}

/// Sets `status`: accepted names, conditions, stored versions. A name that another definition of
/// the group has already taken leaves the definition unestablished.
pub fn set_status(definition: &mut Value, kinds: &Kinds) {
    let clash = taken_name(definition, kinds);
    let before = definition["status"].take();
    let names = definition["spec"]["names"].clone();
    let accepted = clash.is_none();
    let (reason, message) = match &clash {
        None => ("NoConflicts", "no conflicts found".to_owned()),
        Some(name) => ("NameConflict", format!("{name:?} is already in use")),
    };
    let names_accepted = condition(&before, "NamesAccepted", accepted, reason, &message);
    let established = if accepted {
        let message = "the initial names have been accepted";
        condition(&before, "Established", true, "InitialNamesAccepted", message)
    } else {
        condition(&before, "Established", false, "NotAccepted", "not all names are accepted")
    };
    let mut conditions = vec![names_accepted, established];
    if let Some(terminating) = find_condition(&before, "Terminating") {
        conditions.push(terminating.clone());
    }
    let mut stored: Vec<Value> = before["storedVersions"].as_array().cloned().unwrap_or_default();
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        if version["storage"] == true && !stored.contains(&version["name"]) {
            stored.push(version["name"].clone());
        }
    }
    definition["status"] = json!({
        "acceptedNames": names, "conditions": conditions, "storedVersions": stored,
    });
}

/// Marks a definition that waits for its objects to go.
pub fn set_terminating(definition: &mut Value) {
    let message = "CustomResource deletion is in progress";
    let status = definition["status"].clone();
    let terminating =
        condition(&status, "Terminating", true, "InstanceDeletionInProgress", message);
    if let Some(list) = definition["status"]["conditions"].as_array_mut() {
        list.retain(|condition| condition["type"] != "Terminating");
        list.push(terminating);
    }
}

fn find_condition<'a>(status: &'a Value, wanted: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == wanted)
}

fn condition(before: &Value, name: &str, holds: bool, reason: &str, message: &str) -> Value {
    let status = if holds { "True" } else { "False" };
    let since =
        find_condition(before, name).filter(|condition| condition["status"] == status).map_or_else(
            || object::timestamp(object::now()).into(),
            |c| c["lastTransitionTime"].clone(),
        );
    json!({"lastTransitionTime": since, "message": message, "reason": reason,
        "status": status, "type": name})
}

fn taken_name(definition: &Value, kinds: &Kinds) -> Option<String> {
    let names = &definition["spec"]["names"];
    let (group, plural) = (definition["spec"]["group"].as_str()?, names["plural"].as_str()?);
    let mut wanted = object::strings(&names["shortNames"]);
    wanted.extend(names["singular"].as_str());
    wanted.push(plural);
    for other in kinds.iter().filter(|kind| kind.group == group && kind.plural != plural) {
        if names["kind"] == other.name.as_str() {
            return Some(other.name.clone());
        }
        let taken = |name: &&&str| {
            **name == other.plural
                || **name == other.singular
                || other.short_names.iter().any(|short| short == **name)
        };
        if let Some(name) = wanted.iter().find(taken) {
            return Some((*name).to_owned());
        }
    }
    None
}

/// The kind that an established definition brings.
pub fn served_kind(definition: &Value) -> Option<Kind> {
    if find_condition(&definition["status"], "Established")?["status"] != "True" {
        return None;
    }
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| object::strings(value).into_iter().map(str::to_owned).collect();
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    let listed = spec["versions"].as_array()?;
    let stored = listed.iter().find(|version| version["storage"] == true)?;
    let mut versions: Vec<Arc<Version>> = listed
        .iter()
        .filter(|version| version["served"] == true)
        .filter_map(|version| served_version(version, &group, &text(&spec["names"]["kind"])))
        .map(Arc::new)
        .collect();
    versions.sort_by_key(|version| std::cmp::Reverse(priority(&version.name)));
    Some(Kind {
        resource: format!("{group}/{plural}").into(),
        group,
        plural,
        singular: text(&spec["names"]["singular"]),
        name: text(&spec["names"]["kind"]),
        list_name: text(&spec["names"]["listKind"]),
        short_names: texts(&spec["names"]["shortNames"]),
        categories: texts(&spec["names"]["categories"]),
        namespaced: spec["scope"] == "Namespaced",
        generation: true,
        versions,
        stored: text(&stored["name"]),
        rules: Rules::Custom,
    })
}

fn served_version(version: &Value, group: &str, kind: &str) -> Option<Version> {
    let schema = &version["schema"]["openAPIV3Schema"];
    let name = version["name"].as_str()?;
    let compiled = Structural::compile(schema)
        .inspect_err(|error| tracing::error!(kind, %error, "an accepted schema does not compile"))
        .ok()?;
    let columns = version.get("additionalPrinterColumns").filter(|columns| columns.is_array());
    let deprecation = (version["deprecated"] == true).then(|| {
        version["deprecationWarning"]
            .as_str()
            .map_or_else(|| format!("{group}/{name} {kind} is deprecated"), str::to_owned)
    });
    Some(Version {
        name: name.to_owned(),
        status: version["subresources"]["status"].is_object(),
        schema: Some(Arc::new(compiled)),
        raw_schema: Some(schema.clone()),
        columns: columns.and_then(|columns| serde_json::from_value(columns.clone()).ok()),
        deprecation,
    })
}

/// Kubernetes' order of versions: v2 before v1 before v1beta2 before v1alpha1 before the rest.
pub(super) fn priority(version: &str) -> (u8, u32, u32) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let (level, minor) = match &rest[digits..] {
            "" => (3, "0"),
            stage => match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
                (Some(minor), _) => (2, minor),
                (_, Some(minor)) => (1, minor),
                (None, None) => return None,
            },
        };
        Some((level, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "foo", "v1", "v1beta1", "v2", "v1beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(versions, ["v2", "v1", "v1beta2", "v1beta1", "v1alpha1", "foo"]);
    }

    #[test]
    fn a_definition_without_schema_or_with_the_wrong_name_is_refused() {
        let definition = json!({"metadata": {"name": "x"}, "spec": {"group": "example.com",
            "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "conversion": {"strategy": "None"},
            "versions": [{"name": "v1", "served": true, "storage": true}]}});
        let paths: Vec<String> =
            check(None, &definition).into_iter().map(|error| error.path).collect();
        assert_eq!(paths, ["metadata.name", "spec.versions[0].schema.openAPIV3Schema"]);
    }
}
