//! From an AppBinding and its blueprints to the objects that there are to be. Pure.

use std::collections::{BTreeMap, BTreeSet};

use coffer_api::{
    AppBinding, BackupBlueprint, BackupConfiguration, Repository,
    backup_blueprint::BackupBlueprintSpec,
    backup_configuration::BackupConfigurationSpec,
    fields,
    repository::RepositorySpec,
    target::{APP_BINDING, BackupTarget, Driver, Param, RepositoryRef, TargetRef, TaskRef},
    template::Variables,
};
use coffer_runtime::fault;
use kube::{Resource, ResourceExt};
use sha2::{Digest as _, Sha256};

use crate::{
    backup_session::label,
    plan::{Action, Child, Notice},
};

use super::gather::Facts;

/// Annotation: the blueprints, separated by commas.
pub const BLUEPRINTS: &str = "stash.appscode.com/backup-blueprint";
/// Annotation: a schedule instead of the blueprint's.
const SCHEDULE: &str = "stash.appscode.com/schedule";
/// Annotations: a parameter of the Task each.
const PARAMS: &str = "params.stash.appscode.com/";
/// Label of what is made: for which AppBinding, as a digest, since labels are short.
pub const BINDING: &str = "coffer.appscode.com/auto-backup";
/// Label of what is made: by which blueprint.
const BLUEPRINT: &str = "coffer.appscode.com/blueprint";
/// More blueprints for one AppBinding than anybody has a use for.
const MOST: usize = 16;

/// The blueprints that an AppBinding asks for, in its order, each once.
#[must_use]
pub fn wanted(object: &AppBinding) -> Vec<String> {
    let text = object.annotations().get(BLUEPRINTS).map_or("", String::as_str);
    let mut names: Vec<String> = vec![];
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if names.len() < MOST && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// By what the objects that were made for an AppBinding are found again.
#[must_use]
pub fn mark(object: &AppBinding) -> String {
    let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    hex::encode(Sha256::digest(name))[..32].to_owned()
}

/// Decides.
#[must_use]
pub fn decide(object: &AppBinding, facts: &Facts) -> Vec<Action> {
    let mut actions = vec![];
    let mut kept: BTreeSet<(String, String)> = BTreeSet::new();
    for (position, (name, blueprint)) in facts.blueprints.iter().enumerate() {
        let made = blueprint
            .as_ref()
            .ok_or_else(|| Notice {
                warning: true,
                reason: "Blueprint Not Found",
                message: format!(
                    "BackupBlueprint {name} is not found: create it, or change the annotation {BLUEPRINTS}"
                ),
            })
            .and_then(|blueprint| make(object, blueprint, position));
        match made {
            Ok((repository, config)) => {
                kept.insert((config.namespace().unwrap_or_default(), config.name_any()));
                // First what the other one refers to.
                actions.push(Action::ApplyRepository(Box::new(repository)));
                actions.push(Action::ApplyConfiguration(Box::new(config)));
            }
            Err(notice) => {
                // What it made before goes on: a backup must not end because of a slip in a template.
                let before = facts.made.iter().filter(|config| {
                    config.labels().get(BLUEPRINT).map(String::as_str) == Some(label(name))
                });
                kept.extend(before.map(|c| (c.namespace().unwrap_or_default(), c.name_any())));
                actions.push(Action::Emit(notice));
            }
        }
    }
    for config in &facts.made {
        let (namespace, name) = (config.namespace().unwrap_or_default(), config.name_any());
        if !kept.contains(&(namespace.clone(), name.clone())) {
            actions.push(Action::DeleteConfiguration(Child { namespace, name }));
        }
    }
    actions
}

fn make(
    object: &AppBinding,
    blueprint: &BackupBlueprint,
    position: usize,
) -> Result<(Repository, BackupConfiguration), Notice> {
    let name = blueprint.name_any();
    let spec = fields::expand(&blueprint.spec, "spec", &variables(object)).map_err(|error| {
        let message = format!("expand BackupBlueprint {name}: {}", fault::chain(&error));
        Notice { warning: true, reason: "Invalid Blueprint", message }
    })?;
    let BackupBlueprintSpec {
        backend,
        wipe_out,
        usage_policy,
        backup_namespace,
        repo_namespace,
        schedule,
        time_zone,
        task,
        retention_policy,
        runtime_settings,
        temp_dir,
        interim_volume_template,
        hooks,
        backup_history_limit,
        time_out,
        retry_config,
    } = spec;
    let some = |namespace: Option<String>| namespace.filter(|name| !name.is_empty());
    let own = object.namespace().unwrap_or_default();
    let backup_namespace = some(backup_namespace);
    let home = backup_namespace.clone().unwrap_or_else(|| own.clone());
    let repository_home = some(repo_namespace).unwrap_or_else(|| home.clone());
    // The first blueprint's objects are named as if there were no others.
    let suffix = if position == 0 { String::new() } else { format!("-{name}") };
    let called = |namespace: &str| {
        let app = format!("app-{}{suffix}", object.name_any());
        if namespace == own { app } else { format!("{own}-{app}") }
    };
    let labels = BTreeMap::from([
        (BINDING.to_owned(), mark(object)),
        (BLUEPRINT.to_owned(), label(&name).to_owned()),
    ]);

    let repository_name = called(&repository_home);
    let mut repository = Repository::new(
        &repository_name,
        RepositorySpec { backend, wipe_out, append_only: false, usage_policy },
    );
    repository.metadata.namespace = Some(repository_home.clone());
    repository.metadata.labels = Some(labels.clone());

    let annotated = object.annotations().get(SCHEDULE).cloned().filter(|text| !text.is_empty());
    let mut config = BackupConfiguration::new(
        &called(&home),
        BackupConfigurationSpec {
            driver: Driver::Restic,
            repository: Some(RepositoryRef { name: repository_name, namespace: repository_home }),
            schedule: annotated.unwrap_or(schedule),
            time_zone,
            task: with_params(task, object),
            target: Some(BackupTarget {
                reference: TargetRef {
                    api_version: APP_BINDING.0.to_owned(),
                    kind: APP_BINDING.1.to_owned(),
                    name: object.name_any(),
                    namespace: own.clone(),
                },
                ..BackupTarget::default()
            }),
            runtime_settings,
            temp_dir,
            interim_volume_template,
            hooks,
            retention_policy,
            backup_history_limit,
            time_out,
            retry_config,
            ..BackupConfigurationSpec::default()
        },
    );
    config.metadata.labels = Some(labels);
    // Owners do not reach across namespaces.
    if home == own {
        config.metadata.owner_references =
            object.controller_owner_ref(&()).map(|owner| vec![owner]);
    }
    config.metadata.namespace = Some(home);
    Ok((repository, config))
}

/// The blueprint's Task with the parameters of the annotations over its own.
fn with_params(task: Option<TaskRef>, object: &AppBinding) -> Option<TaskRef> {
    let annotated: BTreeMap<&str, &String> = object
        .annotations()
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PARAMS)?, value)))
        .collect();
    if annotated.is_empty() {
        return task;
    }
    let mut task = task.unwrap_or_default();
    task.params.retain(|param| !annotated.contains_key(param.name.as_str()));
    let params = annotated.into_iter();
    let params = params.map(|(name, value)| Param { name: name.to_owned(), value: value.clone() });
    task.params.extend(params);
    Some(task)
}

fn variables(object: &AppBinding) -> Variables {
    let spec = &object.spec;
    let (group, resource) = spec.kind.rsplit_once('/').unwrap_or(("", &spec.kind));
    let kind = APP_BINDING.1.to_lowercase();
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    [
        ("TARGET_API_VERSION", APP_BINDING.0),
        ("TARGET_KIND", &kind),
        ("TARGET_NAME", &name),
        ("TARGET_NAMESPACE", &namespace),
        ("TARGET_RESOURCE", "appbindings"),
        ("TARGET_APP_VERSION", &spec.version),
        ("TARGET_APP_GROUP", group),
        ("TARGET_APP_RESOURCE", resource),
        ("TARGET_APP_TYPE", &spec.kind),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
