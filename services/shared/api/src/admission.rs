//! What the API server itself refuses, beyond types: rules in CEL, put into the CustomResourceDefinitions. They are few and
//! short: what needs other objects (does the Task exist, may the namespace use the Repository) is a condition, and so is
//! every rule here once more, for objects that were there before it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};

/// Where a rule stands, what it says in CEL, and what people are told.
struct Rule {
    /// Kind of the object.
    kind: &'static str,
    /// Field by field from the root; `[]` for the entries of a list.
    at: &'static [&'static str],
    rule: &'static str,
    message: &'static str,
}

const ONE_BACKEND: &str = "[has(self.local), has(self.s3), has(self.gcs), has(self.azure), has(self.swift), has(self.b2), has(self.rest)].filter(x, x).size() == 1";
const ONE_BACKEND_MESSAGE: &str =
    "a repository is in one place: name one of local, s3, gcs, azure, swift, b2, rest";
const OWN_FOLDER: &str = "self.mountPath != '/stash' && !self.mountPath.startsWith('/stash/')";
const OWN_FOLDER_MESSAGE: &str =
    "mountPath cannot be below /stash, which a Job has its own use for";

const RULES: &[Rule] = &[
    Rule {
        kind: "Repository",
        at: &["spec", "backend"],
        rule: ONE_BACKEND,
        message: ONE_BACKEND_MESSAGE,
    },
    Rule {
        kind: "Repository",
        at: &["spec", "backend", "local"],
        rule: OWN_FOLDER,
        message: OWN_FOLDER_MESSAGE,
    },
    Rule {
        kind: "BackupBlueprint",
        at: &["spec", "backend"],
        rule: ONE_BACKEND,
        message: ONE_BACKEND_MESSAGE,
    },
    Rule {
        kind: "BackupConfiguration",
        at: &[],
        rule: "!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'Ready' || (has(self.spec.target) == has(oldSelf.spec.target) && (!has(self.spec.target) || self.spec.target == oldSelf.spec.target))",
        message: "the target of a BackupConfiguration that is Ready cannot be changed: its snapshots are those of the old one; make another BackupConfiguration",
    },
    Rule {
        kind: "BackupSession",
        at: &["spec"],
        rule: "self == oldSelf",
        message: "a session is one run: make another BackupSession",
    },
    Rule {
        kind: "RestoreSession",
        at: &["spec"],
        rule: "self == oldSelf",
        message: "a restore runs once: make another RestoreSession",
    },
    Rule {
        kind: "RestoreBatch",
        at: &["spec"],
        rule: "self == oldSelf",
        message: "a restore runs once: make another RestoreBatch",
    },
];

/// Puts the rules of a kind into its definition.
pub(crate) fn add_rules(definition: &mut CustomResourceDefinition) {
    let kind = definition.spec.names.kind.clone();
    for rule in RULES.iter().filter(|rule| rule.kind == kind) {
        for version in &mut definition.spec.versions {
            let root =
                version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
            if let Some(node) = root.and_then(|root| find(root, rule.at)) {
                node.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
                    rule: rule.rule.to_owned(),
                    message: Some(rule.message.to_owned()),
                    ..ValidationRule::default()
                });
            }
        }
    }
}

fn find<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    let Some((first, rest)) = path.split_first() else { return Some(schema) };
    let next = match *first {
        "[]" => match schema.items.as_mut()? {
            JSONSchemaPropsOrArray::Schema(items) => items.as_mut(),
            JSONSchemaPropsOrArray::Schemas(_) => return None,
        },
        name => schema.properties.as_mut()?.get_mut(name)?,
    };
    find(next, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_has_its_place() {
        let definitions = crate::crds::all();
        let text = serde_json::to_string(&definitions).unwrap();
        for rule in RULES {
            let written = serde_json::to_string(rule.rule).unwrap();
            assert!(text.contains(&written), "{} {:?}", rule.kind, rule.at);
            assert!(definitions.iter().any(|definition| definition.spec.names.kind == rule.kind));
        }
    }
}
