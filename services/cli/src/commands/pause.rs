//! `coffer pause` and `coffer resume`: `spec.paused` of BackupConfigurations, as `kubectl stash` does it.
use std::process::ExitCode;

use anyhow::Context;
use coffer_api::BackupConfiguration;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use crate::{
    args::{Format, GlobalArgs},
    client::Cluster,
    errors, output,
};

const AFTER_HELP: &str = "\
Examples:
  coffer pause orders             its schedule triggers nothing any more
  coffer resume orders            now it does again
  coffer pause orders users -n demo

A backup that runs is not stopped, and `coffer backup` still works while paused.";

/// Which BackupConfigurations.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// BackupConfigurations
    #[arg(required = true, value_name = "BACKUP_CONFIGURATION")]
    names: Vec<String>,
}

/// Which of the two verbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// `pause`.
    Paused,
    /// `resume`.
    Running,
}

impl Wanted {
    fn word(self) -> &'static str {
        match self {
            Self::Paused => "paused",
            Self::Running => "resumed",
        }
    }
}

/// Runs either verb.
///
/// # Errors
/// When any of them could not be changed.
pub async fn run(
    cluster: &Cluster,
    global: &GlobalArgs,
    args: Args,
    wanted: Wanted,
) -> anyhow::Result<ExitCode> {
    let api: Api<BackupConfiguration> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let (mut changed, mut failed) = (Vec::new(), 0);
    let patch = json!({ "spec": { "paused": wanted == Wanted::Paused } });
    let params = PatchParams { field_manager: Some("coffer".to_owned()), ..PatchParams::default() };
    for name in &args.names {
        let patched = api.patch(name, &params, &Patch::Merge(&patch)).await;
        let context = || format!("change BackupConfiguration {}/{name}", cluster.namespace);
        match patched.with_context(context) {
            Ok(object) => {
                let resource = format!("backupconfiguration.stash.appscode.com/{name}");
                match global.output {
                    Format::Table | Format::Wide => {
                        output::print(&format!("{resource} {}\n", wanted.word()))?
                    }
                    Format::Name => output::print(&format!("{resource}\n"))?,
                    Format::Json | Format::Yaml => changed.push(object),
                }
            }
            Err(error) if args.names.len() == 1 => return Err(error),
            Err(error) => {
                eprint!("{}", errors::report(&error));
                failed += 1;
            }
        }
    }
    match global.output {
        Format::Json => output::print(&output::json(&changed)?)?,
        Format::Yaml => output::print(&output::yaml(&changed)?)?,
        Format::Table | Format::Wide | Format::Name => {}
    }
    anyhow::ensure!(failed == 0, "{failed} of {} were not {}", args.names.len(), wanted.word());
    Ok(ExitCode::SUCCESS)
}
