//! `coffer apply`: server-side apply, for machines without kubectl. What it sets, it owns; what others own, it leaves
//! alone unless told to take it.
use std::{collections::HashMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::{self, Scope},
};
use tokio::time::Instant;

use crate::{
    args::{Format, GlobalArgs},
    client::Cluster,
    errors::{self, Advice},
    manifests::{self, Manifest},
    output,
};

/// Whom the server records as owner of the fields.
const FIELD_MANAGER: &str = "coffer";
/// How long a new kind may take to be served.
const SERVED_LIMIT: Duration = Duration::from_secs(60);
const SERVED_POLL: Duration = Duration::from_millis(200);

const AFTER_HELP: &str = "\
Examples:
  coffer apply -f backup.yaml
  coffer apply -f manifests/ -R
  cat backup.yaml | coffer apply -f -
  coffer apply -f backup.yaml --dry-run";

/// Flags of `coffer apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Manifest file, folder of them, or - for stdin; may be repeated
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filenames: Vec<PathBuf>,
    /// Look into the folders of a folder too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Take over fields that somebody else manages
    #[arg(long)]
    force_conflicts: bool,
    /// Let the server check everything, but keep nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Created,
    Configured,
    Unchanged,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Runs the verb.
///
/// # Errors
/// When manifests cannot be read, or any was refused.
pub async fn run(cluster: &Cluster, global: &GlobalArgs, args: Args) -> anyhow::Result<ExitCode> {
    let Args { filenames, recursive, force_conflicts, dry_run } = args;
    let read = tokio::task::spawn_blocking(move || {
        manifests::read(&filenames, recursive, std::io::stdin().lock())
    });
    let manifests = read.await.context("read the manifests")??;
    let params =
        PatchParams { force: force_conflicts, dry_run, ..PatchParams::apply(FIELD_MANAGER) };
    let mut applier =
        Applier { cluster, asked: global.namespace.as_deref(), params, kinds: HashMap::new() };
    let (mut applied, mut refused) = (Vec::new(), 0);
    for manifest in &manifests {
        match applier.apply(manifest).await {
            Ok((object, change)) => {
                let name =
                    resource(&manifest.kind, object.metadata.name.as_deref().unwrap_or_default());
                let dry = if dry_run { " (server dry run)" } else { "" };
                match global.output {
                    Format::Table | Format::Wide => {
                        output::print(&format!("{name} {}{dry}\n", change.word()))?;
                    }
                    Format::Name => output::print(&format!("{name}\n"))?,
                    Format::Json | Format::Yaml => applied.push(object),
                }
            }
            Err(error) => {
                let name = resource(
                    &manifest.kind,
                    manifest.object.metadata.name.as_deref().unwrap_or_default(),
                );
                eprint!(
                    "{}",
                    errors::report(&error.context(format!("apply {name} ({})", manifest.place)))
                );
                refused += 1;
            }
        }
    }
    match global.output {
        Format::Json => output::print(&output::json(&applied)?)?,
        Format::Yaml => output::print(&output::yaml(&applied)?)?,
        Format::Table | Format::Wide | Format::Name => {}
    }
    match (refused, manifests.len()) {
        (0, _) => Ok(ExitCode::SUCCESS),
        // The one error is on stderr already.
        (1, 1) => Ok(ExitCode::FAILURE),
        (refused, all) => anyhow::bail!("{refused} of {all} objects were not applied"),
    }
}

/// `kind.group/name`, as kubectl writes it.
fn resource(kind: &GroupVersionKind, name: &str) -> String {
    let GroupVersionKind { group, version: _, kind } = kind;
    let kind = kind.to_lowercase();
    if group.is_empty() { format!("{kind}/{name}") } else { format!("{kind}.{group}/{name}") }
}

struct Applier<'a> {
    cluster: &'a Cluster,
    /// The namespace of `-n`.
    asked: Option<&'a str>,
    params: PatchParams,
    kinds: HashMap<GroupVersionKind, (ApiResource, Scope)>,
}

impl Applier<'_> {
    async fn apply(&mut self, manifest: &Manifest) -> anyhow::Result<(DynamicObject, Change)> {
        let Manifest { place: _, kind, object } = manifest;
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let (resource, scope) = self.kind(kind).await?;
        let client = self.cluster.client.clone();
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(client, &resource),
            Scope::Namespaced => {
                let namespace = namespace(
                    object.metadata.namespace.as_deref(),
                    self.asked,
                    &self.cluster.namespace,
                )?;
                Api::namespaced_with(client, namespace, &resource)
            }
        };
        let before =
            api.get_metadata_opt(name).await?.and_then(|before| before.metadata.resource_version);
        let after = api.patch(name, &self.params, &Patch::Apply(object)).await?;
        let change = match before {
            None => Change::Created,
            Some(before) if after.metadata.resource_version.as_ref() == Some(&before) => {
                Change::Unchanged
            }
            Some(_) => Change::Configured,
        };
        if kind.kind == "CustomResourceDefinition" && !self.params.dry_run {
            self.wait_until_served(&after).await?;
        }
        Ok((after, change))
    }

    /// The resource of a kind, as the server names it.
    async fn kind(&mut self, kind: &GroupVersionKind) -> anyhow::Result<(ApiResource, Scope)> {
        if let Some(known) = self.kinds.get(kind) {
            return Ok(known.clone());
        }
        let Some(found) = self.look_up(kind).await? else {
            return Err(Advice::new(
                format!("the cluster has no kind {:?} in {:?}", kind.kind, kind.api_version()),
                "apply the CustomResourceDefinition first; Coffer's are installed by `coffer up` or with its deployment",
            )
            .into());
        };
        self.kinds.insert(kind.clone(), found.clone());
        Ok(found)
    }

    async fn look_up(
        &self,
        kind: &GroupVersionKind,
    ) -> anyhow::Result<Option<(ApiResource, Scope)>> {
        match discovery::pinned_kind(&self.cluster.client, kind).await {
            Ok((resource, capabilities)) => Ok(Some((resource, capabilities.scope))),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => {
                Err(error).with_context(|| format!("ask the cluster about kind {:?}", kind.kind))
            }
        }
    }

    async fn wait_until_served(&mut self, definition: &DynamicObject) -> anyhow::Result<()> {
        let deadline = Instant::now() + SERVED_LIMIT;
        for kind in served_kinds(definition) {
            // The definition may have changed what was known of the kind.
            self.kinds.remove(&kind);
            while self.look_up(&kind).await?.is_none() {
                if Instant::now() >= deadline {
                    anyhow::bail!(
                        "the cluster does not serve kind {:?} of {:?} after {} s",
                        kind.kind,
                        kind.api_version(),
                        SERVED_LIMIT.as_secs()
                    );
                }
                tokio::time::sleep(SERVED_POLL).await;
            }
        }
        Ok(())
    }
}

/// What a CustomResourceDefinition promises.
fn served_kinds(definition: &DynamicObject) -> Vec<GroupVersionKind> {
    let spec = &definition.data["spec"];
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let versions = spec["versions"].as_array().into_iter().flatten();
    versions
        .filter(|version| version["served"].as_bool().unwrap_or_default())
        .map(|version| {
            GroupVersionKind::gvk(
                &text(&spec["group"]),
                &text(&version["name"]),
                &text(&spec["names"]["kind"]),
            )
        })
        .collect()
}

/// Where a namespaced object goes. `-n` must not contradict the manifest: silently moving an object would be worse.
fn namespace<'a>(
    own: Option<&'a str>,
    asked: Option<&'a str>,
    default: &'a str,
) -> anyhow::Result<&'a str> {
    match (own, asked) {
        (Some(own), Some(asked)) if own != asked => Err(Advice::new(
            format!("the object is for namespace {own:?}, not {asked:?}"),
            "leave out -n, or the namespace in the manifest",
        )
        .into()),
        (Some(own), _) => Ok(own),
        (None, _) => Ok(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kubectls() {
        let kind = |group, kind| GroupVersionKind::gvk(group, "v1", kind);
        assert_eq!(resource(&kind("", "Secret"), "a"), "secret/a");
        let name = resource(&kind("stash.appscode.com", "Repository"), "orders");
        assert_eq!(name, "repository.stash.appscode.com/orders");
    }

    #[test]
    fn namespaces() {
        assert_eq!(namespace(Some("a"), None, "d").unwrap(), "a");
        assert_eq!(namespace(Some("a"), Some("a"), "a").unwrap(), "a");
        assert_eq!(namespace(None, Some("b"), "b").unwrap(), "b");
        let error = namespace(Some("a"), Some("b"), "b").unwrap_err();
        assert_eq!(error.to_string(), "the object is for namespace \"a\", not \"b\"");
    }

    #[test]
    fn kinds_to_wait_for() {
        let crd = coffer_api_crd();
        let kinds = served_kinds(&crd);
        assert_eq!(kinds, [GroupVersionKind::gvk("stash.appscode.com", "v1alpha1", "Repository")]);
    }

    fn coffer_api_crd() -> DynamicObject {
        use kube::CustomResourceExt;
        let crd = serde_json::to_value(coffer_api::Repository::crd()).unwrap();
        serde_json::from_value(crd).unwrap()
    }
}
